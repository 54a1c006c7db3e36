"""The AdmissionReview format: the parsed fields of a request, and the three kinds of answers."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview, parse
from support.builders import UID, pod
from support.builders import review as review_of
from support.contract import check_response

AUDIT = {"mode": "mutate", "policy": "0123456789ab"}


def changed_review(**fields: Any) -> dict[str, Any]:
    """Return a good review with some fields of its request replaced; ``...`` removes one."""
    document = review_of(pod("a"))
    request = {**document["request"], **fields}
    return {**document, "request": {key: value for key, value in request.items() if value is not ...}}


class TestParse:
    """A review becomes a frozen value; anything else is refused with a reason."""

    def test_every_needed_field_is_read(self) -> None:
        new, old = pod("b"), pod("a")
        document = review_of(
            new,
            operation="UPDATE",
            old=old,
            sub_resource="ephemeralcontainers",
            username="system:node:n1",
            groups=("system:nodes", "system:authenticated"),
        )
        assert parse(document) == AdmissionRequest(
            uid=UID,
            group="",
            kind="Pod",
            operation="UPDATE",
            sub_resource="ephemeralcontainers",
            namespace="shop",
            name="web",
            username="system:node:n1",
            groups=("system:nodes", "system:authenticated"),
            object=new,
            old_object=old,
        )

    def test_optional_fields_may_be_absent(self) -> None:
        """Fields that the API server omits when they are empty, or sends as null."""
        kind = {"kind": "Namespace", "version": "v1"}
        bare = {"uid": "u", "kind": kind, "operation": "CREATE"}
        expected = AdmissionRequest(uid="u", group="", kind="Namespace", operation="CREATE")
        head = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        assert parse({**head, "request": bare}) == expected
        nulls = dict.fromkeys(("subResource", "namespace", "name", "userInfo", "object", "oldObject"))
        null_group = {**kind, "group": None}
        assert parse({**head, "request": {**bare, **nulls, "kind": null_group}}) == expected
        user = {"username": None, "groups": None}
        assert parse({**head, "request": {**bare, "userInfo": user, "namespace": ""}}) == expected

    @pytest.mark.parametrize("uid", [pytest.param("u", id="shortest"), pytest.param("u" * 128, id="longest")])
    def test_a_uid_has_1_to_128_characters(self, uid: str) -> None:
        assert parse(changed_review(uid=uid)).uid == uid

    @pytest.mark.parametrize("obj", [None, 7, "text", [1], True, {}])
    def test_the_object_may_be_anything(self, obj: Any) -> None:
        """The object may be any JSON value: it is judged later, not here."""
        request = parse(changed_review(object=obj, oldObject=obj))
        assert (request.object, request.old_object) == (obj, obj)

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            (None, "not a JSON object"),
            ([], "not a JSON object"),
            ("AdmissionReview", "not a JSON object"),
            ({}, "kind must be"),
            ({**changed_review(), "kind": "Pod"}, "kind must be"),
            ({**changed_review(), "kind": ["AdmissionReview"]}, "kind must be"),
            ({**changed_review(), "apiVersion": "admission.k8s.io/v1beta1"}, "apiVersion must"),
            ({"kind": "AdmissionReview", "request": {}}, "apiVersion must"),
            ({**changed_review(), "request": None}, "no request"),
            ({**changed_review(), "request": [{}]}, "no request"),
        ],
    )
    def test_a_document_that_is_not_a_review_is_refused(self, document: Any, reason: str) -> None:
        with pytest.raises(InvalidReview, match=reason):
            parse(document)

    @pytest.mark.parametrize(
        ("field", "values", "name"),
        [
            ("uid", [..., "", 7, None, "u" * 129], "request.uid"),
            ("kind", [..., "Pod", None, []], "request.kind"),
            ("kind", [{}, {"kind": ""}, {"kind": None}, {"kind": 1}], "request.kind.kind"),
            ("kind", [{"kind": "Pod", "group": 1}], "request.kind.group"),
            ("operation", [..., "", None, ["CREATE"]], "request.operation"),
            ("subResource", [1, ["scale"]], "request.subResource"),
            ("namespace", [{}, 1], "request.namespace"),
            ("name", [[], False], "request.name"),
            ("userInfo", [[], "me"], "request.userInfo"),
            ("userInfo", [{"username": 1}], "request.userInfo.username"),
            (
                "userInfo",
                [{"groups": "system:nodes"}, {"groups": ["system:nodes", 1]}],
                "request.userInfo.groups",
            ),
        ],
    )
    def test_a_field_of_the_wrong_type_is_named(self, field: str, values: list[Any], name: str) -> None:
        """The error is a ``ValueError``. ``...`` stands for a missing field."""
        for value in values:
            with pytest.raises(InvalidReview, match=f"^{name} must be "):
                parse(changed_review(**{field: value}))


class TestConstructors:
    """``allowed``, ``denied`` and ``patched`` keep to what the API server accepts."""

    def test_allowed_bare(self) -> None:
        assert review.allowed("u").document() == {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": "u", "allowed": True},
        }

    def test_allowed_with_warnings_and_audit(self) -> None:
        response = review.allowed(UID, warnings=iter(["beware"]), audit_annotations=AUDIT)
        answer = check_response(response.document(), review_of(pod("a")), "validate")
        assert (answer.allowed, answer.warnings, answer.audit) == (True, ("beware",), AUDIT)

    def test_denied(self) -> None:
        response = review.denied(UID, "no", audit_annotations={**AUDIT, "rejected": "a"})
        assert response.document()["response"]["status"] == {
            "code": 403,
            "reason": "Forbidden",
            "message": "no",
        }
        answer = check_response(response.document(), review_of(pod("a")), "validate")
        assert (answer.allowed, answer.message) == (False, "no")
        assert "auditAnnotations" not in review.denied(UID, "no").document()["response"]

    def test_patched(self) -> None:
        """The patch is base64 of JSON, and comes with its type."""
        operation = {"op": "replace", "path": "/spec/containers/0/image", "value": "é"}
        response = review.patched("u", iter([operation])).document()["response"]
        assert response["patchType"] == "JSONPatch"
        assert json.loads(base64.b64decode(response["patch"], validate=True)) == [operation]
        assert response.keys() == {"uid", "allowed", "patch", "patchType"}

    def test_an_empty_patch_is_omitted(self) -> None:
        """The answer has neither field, because an empty list would still count as a patch."""
        response = review.patched("u", [], warnings=["w"], audit_annotations=AUDIT).document()["response"]
        assert response == {"uid": "u", "allowed": True, "warnings": ["w"], "auditAnnotations": AUDIT}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param((), "", id="whole-document"),
        pytest.param(("spec", "containers", 0, "image"), "/spec/containers/0/image", id="index"),
        pytest.param(("gatekeeper-py/original-images",), "/gatekeeper-py~1original-images", id="slash"),
        pytest.param(("a~b",), "/a~0b", id="tilde"),
        pytest.param(("~1",), "/~01", id="tilde-one-is-no-slash"),
        pytest.param(("/~",), "/~1~0", id="both"),
        pytest.param(("",), "/", id="empty-key"),
    ],
)
def test_pointers_are_escaped(parts: tuple[str | int, ...], expected: str) -> None:
    """RFC 6901 section 3."""
    assert review.pointer(parts) == expected


@pytest.mark.parametrize("uid", [UID, "", '""', '"}', "é\n\\", "u" * 128])
@pytest.mark.parametrize("audit", [AUDIT, {"mode": '""', "policy": ""}])
def test_an_approval_is_the_bytes_of_an_allowed_review(uid: str, audit: dict[str, str]) -> None:
    expected = orjson.dumps(review.allowed(uid, audit_annotations=audit).document())
    assert review.approval(audit["mode"], audit["policy"])(uid) == expected
