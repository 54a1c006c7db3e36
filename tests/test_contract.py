"""The contract checker must refuse every kind of broken answer."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import pytest

from support.builders import UID, pod, review, workload
from support.contract import ORIGINAL_IMAGES, BrokenContract, Endpoint, check_response

POINTER = "/metadata/annotations/gatekeeper-py~1original-images"
RECORD = '{"spec.containers[0].image":"nginx"}'
IMAGE_OP = {"op": "replace", "path": "/spec/containers/0/image", "value": "registry.corp.io/nginx"}
RECORD_OP = {"op": "add", "path": "/metadata/annotations", "value": {ORIGINAL_IMAGES: RECORD}}
AUDIT = {"mode": "mutate", "policy": "0123456789ab"}
REQUEST = review(pod("nginx"))


def encoded(operations: Any) -> str:
    return base64.b64encode(json.dumps(operations).encode()).decode()


def answer_of(**fields: Any) -> dict[str, Any]:
    """Return a minimal good answer with some fields replaced; ``...`` removes one."""
    response = {"uid": UID, "allowed": True, "auditAnnotations": AUDIT, **fields}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {key: value for key, value in response.items() if value is not ...},
    }


def denial(**status: Any) -> dict[str, Any]:
    fields = {"code": 403, "reason": "Forbidden", "message": "no", **status}
    kept = {key: value for key, value in fields.items() if value is not ...}
    return with_status(kept)


def with_status(status: Any) -> dict[str, Any]:
    return answer_of(allowed=False, status=status, auditAnnotations={**AUDIT, "rejected": "nginx"})


def audited(**annotations: Any) -> dict[str, Any]:
    return answer_of(auditAnnotations={**AUDIT, **annotations})


def patch(*operations: Any, **fields: Any) -> dict[str, Any]:
    audit = {**AUDIT, "rewritten": "nginx -> registry.corp.io/nginx"}
    return answer_of(
        **{"patchType": "JSONPatch", "patch": encoded(operations), "auditAnnotations": audit, **fields}
    )


def recorded(images: dict[str, str]) -> dict[str, Any]:
    return {**RECORD_OP, "value": {ORIGINAL_IMAGES: json.dumps(images)}}


@pytest.mark.parametrize("as_body", [False, True])
@pytest.mark.parametrize(
    ("document", "endpoint"),
    [
        pytest.param(answer_of(), "validate", id="allowed"),
        pytest.param(answer_of(), "mutate", id="unpatched"),
        pytest.param(answer_of(warnings=["w"] * 10), "validate", id="ten-warnings"),
        pytest.param(answer_of(warnings=["w" * 120]), "validate", id="long-warning"),
        pytest.param(denial(), "validate", id="denied"),
        pytest.param(denial(message="one\ntwo é"), "validate", id="two-lines"),
        pytest.param(denial(message="é" * 512), "validate", id="1024-bytes"),
        pytest.param(patch(IMAGE_OP, RECORD_OP), "mutate", id="patched"),
    ],
)
def test_good_answers_pass(document: dict[str, Any], endpoint: Endpoint, as_body: bool) -> None:  # noqa: FBT001
    given = json.dumps(document).encode() if as_body else document
    check_response(given, REQUEST, endpoint)


def test_the_checked_answer_is_returned() -> None:
    answer = check_response(patch(IMAGE_OP, RECORD_OP, warnings=["w"]), REQUEST, "mutate")
    assert answer.object["spec"]["containers"][0]["image"] == "registry.corp.io/nginx"
    assert answer.originals == {"spec.containers[0].image": "nginx"}
    assert (answer.allowed, answer.message, answer.warnings) == (True, "", ("w",))
    assert answer.patch == (IMAGE_OP, RECORD_OP)
    assert REQUEST["request"]["object"] == pod("nginx")
    assert check_response(denial(), REQUEST, "validate").message == "no"
    assert check_response(answer_of(), REQUEST, "mutate").object == pod("nginx")


BROKEN: Final[dict[Endpoint, dict[str, tuple[Any, str]]]] = {
    "validate": {
        "empty-body": (b"", "no JSON"),
        "no-utf-8": (b"\xff", "no JSON"),
        "array": (b"[]", "no object"),
        "nan": (b'{"a": NaN}', "NaN is not JSON"),
        "field-twice": (b'{"kind": 1, "kind": 2}', "twice"),
        "api-version": ({**answer_of(), "apiVersion": "v1"}, "apiVersion"),
        "kind": ({**answer_of(), "kind": "Review"}, "kind"),
        "null-response": ({**answer_of(), "response": None}, "no object"),
        "other-uid": (answer_of(uid="other"), "uid"),
        "no-uid": (answer_of(uid=...), "uid"),
        "allowed-is-text": (answer_of(allowed="yes"), "neither true"),
        "unknown-field": (answer_of(result={}), "unknown fields"),
        "status-of-allowed": (answer_of(status={"code": 200}), "has a status"),
        "null-status": (with_status(None), "no status"),
        "code": (denial(code=422), "code"),
        "reason": (denial(reason="Invalid"), "act on"),
        "no-reason": (denial(reason=...), "the status has"),
        "message-is-a-number": (denial(message=7), "no text"),
        "empty-message": (denial(message=""), "not printable"),
        "empty-line": (denial(message="a\n\nb"), "not printable"),
        "carriage-return": (denial(message="a\rb"), "not printable"),
        "line-separator": (denial(message="a\u2028b"), "not printable"),
        "escape-sequence": (denial(message="a\x1b[2Jb"), "not printable"),
        "long-message": (denial(message="a" * 1025), "1025 bytes"),
        "bytes-not-characters": (denial(message="é" * 513), "1026 bytes"),
        "empty-warnings": (answer_of(warnings=[]), "0 warnings"),
        "warnings-are-text": (answer_of(warnings="w"), "no list"),
        "eleven-warnings": (answer_of(warnings=["w"] * 11), "11 warnings"),
        "warning-is-a-number": (answer_of(warnings=[1]), "no text"),
        "empty-warning": (answer_of(warnings=[""]), "printable"),
        "long-warning": (answer_of(warnings=["w" * 121]), "121 characters"),
        "warning-beyond-ascii": (answer_of(warnings=["é"]), "printable"),
        "warning-with-newline": (answer_of(warnings=["a\n"]), "printable"),
        "no-audit": (answer_of(auditAnnotations=...), "no audit"),
        "key-with-slash": (audited(**{"a/b": ""}), "qualified"),
        "long-key": (audited(**{"a" * 64: ""}), "qualified"),
        "unknown-key": (audited(other="x"), "nobody knows"),
        "no-text": (audited(mode=1), "no text"),
        "mode": (audited(mode="off"), "mode"),
        "no-revision": (answer_of(auditAnnotations={"mode": "warn"}), "revision"),
        "long": (audited(rejected="a" * 1025), "too long"),
        "empty-value": (audited(rejected=""), "no line"),
        "two-lines": (audited(rejected="a\nb"), "no line"),
        "denial-without-audit": (
            answer_of(allowed=False, status=denial()["response"]["status"]),
            "what it rejected",
        ),
        "validate-patches": (patch(IMAGE_OP, RECORD_OP), "validating endpoint"),
        "validate-patch-type": (answer_of(patchType="JSONPatch"), "validating"),
    },
    "mutate": {
        "mutate-denies": (denial(), "denies"),
        "no-patch-type": (patch(IMAGE_OP, RECORD_OP, patchType=...), "alone"),
        "no-patch": (patch(patch=...), "alone"),
        "patch-type": (patch(IMAGE_OP, RECORD_OP, patchType="JSON"), "patchType"),
        "patch-is-a-list": (patch(patch=[IMAGE_OP]), "no text"),
        "no-base64": (patch(patch="%%"), "decode"),
        "no-json-in-it": (patch(patch="bm8="), "decode"),
        "patch-is-an-object": (patch(patch=encoded({})), "no list"),
        "empty-patch": (patch(), "no list"),
        "operation-is-text": (patch("op"), "no object"),
        "remove": (patch({"op": "remove", "path": "/spec/containers/0/image"}), "an operation has"),
        "test": (patch({**IMAGE_OP, "op": "test", "value": "nginx"}), "can fail"),
        "index": (patch({**IMAGE_OP, "path": "/spec/containers/1/image"}), "apply"),
        "add-below-nothing": (patch({"op": "add", "path": "/metadata/annotations/a", "value": "b"}), "apply"),
        "no-pointer": (patch({**IMAGE_OP, "path": "spec"}), "apply"),
        "field": (patch({**IMAGE_OP, "path": "/spec/nodeName", "op": "add"}), "changes"),
        "name": (patch({**IMAGE_OP, "path": "/metadata/name"}), "changes"),
        "container": (patch({**IMAGE_OP, "path": "/spec/containers/0/name"}), "changes"),
        "another-container": (
            patch({"op": "add", "path": "/spec/containers/-", "value": {"image": "x"}}),
            "changes",
        ),
        "image-becomes-null": (patch({**IMAGE_OP, "value": None}), "no image"),
        "image-becomes-empty": (patch({**IMAGE_OP, "value": ""}), "no image"),
        "only-the-annotation": (patch(RECORD_OP), "no image"),
        "nothing-changes": (patch({**IMAGE_OP, "value": "nginx"}), "no image"),
        "no-record": (patch(IMAGE_OP), "no mapping"),
        "empty-record": (patch(IMAGE_OP, recorded({})), "not record"),
        "wrong-record": (patch(IMAGE_OP, recorded({"spec.containers[0].image": "other"})), "not record"),
        "record-is-a-list": (patch(IMAGE_OP, {**RECORD_OP, "value": {ORIGINAL_IMAGES: "[]"}}), "no mapping"),
        "record-is-a-number": (patch(IMAGE_OP, {**RECORD_OP, "value": {ORIGINAL_IMAGES: 7}}), "changes"),
        "another-annotation": (
            patch(IMAGE_OP, {**RECORD_OP, "value": {ORIGINAL_IMAGES: RECORD, "other": "x"}}),
            "changes",
        ),
        "annotations-become-text": (patch(IMAGE_OP, {**RECORD_OP, "value": RECORD}), "changes"),
        "no-audit-of-it": (patch(IMAGE_OP, RECORD_OP, auditAnnotations=AUDIT), "not as the patch"),
        "audit-of-no-patch": (audited(rewritten="a"), "not as the patch"),
    },
}
"""Broken answers of each endpoint, each with the reason for which it is refused."""


@pytest.mark.parametrize(
    ("endpoint", "name"), [(endpoint, name) for endpoint, rows in BROKEN.items() for name in rows]
)
def test_broken_answers_are_caught(endpoint: Endpoint, name: str) -> None:
    """Each is refused for its own mistake."""
    document, reason = BROKEN[endpoint][name]
    with pytest.raises(BrokenContract, match=reason):
        check_response(document, REQUEST, endpoint)


def test_a_value_that_is_not_json_is_caught() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        check_response(answer_of(warnings=[float("nan")]), REQUEST, "validate")


def test_only_pods_are_patched() -> None:
    operation = {**IMAGE_OP, "path": "/spec/template/spec/containers/0/image"}
    with pytest.raises(BrokenContract, match="something else than a Pod"):
        check_response(patch(operation, RECORD_OP), review(workload("Deployment", "nginx")), "mutate")


def test_all_four_lists_and_annotations_that_exist_may_be_patched() -> None:
    obj = pod(
        initContainers=[{"image": "a"}],
        ephemeralContainers=[{"image": "b"}],
        volumes=[{"image": {"reference": "c"}}],
        metadata={"annotations": {ORIGINAL_IMAGES: '{"kept": "k"}'}},
    )
    places = {
        "spec.initContainers[0].image": ("/spec/initContainers/0/image", "a"),
        "spec.ephemeralContainers[0].image": ("/spec/ephemeralContainers/0/image", "b"),
        "spec.volumes[0].image.reference": ("/spec/volumes/0/image/reference", "c"),
    }
    originals = {path: image for path, (_, image) in places.items()}
    images = [{"op": "replace", "path": pointer, "value": "x"} for pointer, _ in places.values()]
    record = {"op": "add", "path": POINTER, "value": json.dumps({"kept": "k", **originals})}
    answer = check_response(patch(*images, record), review(obj), "mutate")
    assert answer.originals == {"kept": "k", **originals}
    forgetful = {**record, "value": json.dumps(originals)}
    with pytest.raises(BrokenContract, match="not record"):
        check_response(patch(*images, forgetful), review(obj), "mutate")


@pytest.mark.parametrize(
    ("metadata", "operation"),
    [
        pytest.param(
            None, {"path": "/metadata", "value": {"annotations": {ORIGINAL_IMAGES: RECORD}}}, id="no-metadata"
        ),
        pytest.param({}, RECORD_OP, id="no-annotations"),
        pytest.param({"annotations": None}, RECORD_OP, id="null-annotations"),
        pytest.param({"annotations": {}}, {"path": POINTER, "value": RECORD}, id="empty-annotations"),
        pytest.param(
            {"annotations": {ORIGINAL_IMAGES: "[" * 100_000}},
            {"path": POINTER, "value": RECORD},
            id="annotation-is-garbage",
        ),
    ],
)
def test_missing_annotations_may_be_added(metadata: Any, operation: dict[str, Any]) -> None:
    obj = {**pod("nginx"), "metadata": metadata}
    check_response(patch(IMAGE_OP, {"op": "add", **operation}), review(obj), "mutate")


def test_annotations_are_not_replaced() -> None:
    """``add /metadata/annotations`` is for Pods that have none."""
    obj = pod("nginx", metadata={"annotations": {"owner": "me"}})
    with pytest.raises(BrokenContract, match="the patch changes"):
        check_response(patch(IMAGE_OP, RECORD_OP), review(obj), "mutate")
