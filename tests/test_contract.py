"""The contract checker must refuse every kind of broken answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from builders import UID, pod, review, workload
from contract import ORIGINAL_IMAGES, BrokenContract, Endpoint, check_response

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
    return answer_of(allowed=False, status=kept, auditAnnotations={**AUDIT, "rejected": "nginx"})


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


@pytest.mark.parametrize(
    ("document", "endpoint", "reason"),
    [
        pytest.param(b"", "validate", "no JSON", id="empty-body"),
        pytest.param(b"\xff", "validate", "no JSON", id="no-utf-8"),
        pytest.param(b"[]", "validate", "no object", id="array"),
        pytest.param(b'{"a": NaN}', "validate", "NaN is not JSON", id="nan"),
        pytest.param(b'{"kind": 1, "kind": 2}', "validate", "twice", id="field-twice"),
        pytest.param({**answer_of(), "apiVersion": "v1"}, "validate", "apiVersion", id="api-version"),
        pytest.param({**answer_of(), "kind": "Review"}, "validate", "kind", id="kind"),
        pytest.param({**answer_of(), "response": None}, "validate", "no object", id="null-response"),
        pytest.param(answer_of(uid="other"), "validate", "uid", id="other-uid"),
        pytest.param(answer_of(uid=...), "validate", "uid", id="no-uid"),
        pytest.param(answer_of(allowed="yes"), "validate", "neither true", id="allowed-is-text"),
        pytest.param(answer_of(result={}), "validate", "unknown fields", id="unknown-field"),
        pytest.param(answer_of(status={"code": 200}), "validate", "has a status", id="status-of-allowed"),
        pytest.param(denial(), "mutate", "denies", id="mutate-denies"),
        pytest.param(
            {**denial(), "response": {**denial()["response"], "status": None}},
            "validate",
            "no status",
            id="null-status",
        ),
        pytest.param(denial(code=422), "validate", "code", id="code"),
        pytest.param(denial(reason="Invalid"), "validate", "act on", id="reason"),
        pytest.param(denial(reason=...), "validate", "the status has", id="no-reason"),
        pytest.param(denial(message=7), "validate", "no text", id="message-is-a-number"),
        pytest.param(denial(message=""), "validate", "not printable", id="empty-message"),
        pytest.param(denial(message="a\n\nb"), "validate", "not printable", id="empty-line"),
        pytest.param(denial(message="a\rb"), "validate", "not printable", id="carriage-return"),
        pytest.param(denial(message="a\u2028b"), "validate", "not printable", id="line-separator"),
        pytest.param(denial(message="a\x1b[2Jb"), "validate", "not printable", id="escape-sequence"),
        pytest.param(denial(message="a" * 1025), "validate", "1025 bytes", id="long-message"),
        pytest.param(denial(message="é" * 513), "validate", "1026 bytes", id="bytes-not-characters"),
        pytest.param(answer_of(warnings=[]), "validate", "0 warnings", id="empty-warnings"),
        pytest.param(answer_of(warnings="w"), "validate", "no list", id="warnings-are-text"),
        pytest.param(answer_of(warnings=["w"] * 11), "validate", "11 warnings", id="eleven-warnings"),
        pytest.param(answer_of(warnings=[1]), "validate", "no text", id="warning-is-a-number"),
        pytest.param(answer_of(warnings=[""]), "validate", "printable", id="empty-warning"),
        pytest.param(answer_of(warnings=["w" * 121]), "validate", "121 characters", id="long-warning"),
        pytest.param(answer_of(warnings=["é"]), "validate", "printable", id="warning-beyond-ascii"),
        pytest.param(answer_of(warnings=["a\n"]), "validate", "printable", id="warning-with-newline"),
        pytest.param(answer_of(auditAnnotations=...), "validate", "no audit", id="no-audit"),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "a/b": ""}), "validate", "qualified", id="key-with-slash"
        ),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "a" * 64: ""}), "validate", "qualified", id="long-key"
        ),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "other": "x"}), "validate", "nobody knows", id="unknown-key"
        ),
        pytest.param(answer_of(auditAnnotations={**AUDIT, "mode": 1}), "validate", "no text", id="no-text"),
        pytest.param(answer_of(auditAnnotations={**AUDIT, "mode": "off"}), "validate", "mode", id="mode"),
        pytest.param(answer_of(auditAnnotations={"mode": "warn"}), "validate", "revision", id="no-revision"),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "rejected": "a" * 1025}), "validate", "too long", id="long"
        ),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "rejected": ""}), "validate", "no line", id="empty-value"
        ),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "rejected": "a\nb"}), "validate", "no line", id="two-lines"
        ),
        pytest.param(
            {**denial(), "response": {**denial()["response"], "auditAnnotations": AUDIT}},
            "validate",
            "what it rejected",
            id="denial-without-audit",
        ),
        pytest.param(patch(IMAGE_OP, RECORD_OP), "validate", "validating endpoint", id="validate-patches"),
        pytest.param(answer_of(patchType="JSONPatch"), "validate", "validating", id="validate-patch-type"),
        pytest.param(patch(IMAGE_OP, RECORD_OP, patchType=...), "mutate", "alone", id="no-patch-type"),
        pytest.param(patch(patch=...), "mutate", "alone", id="no-patch"),
        pytest.param(patch(IMAGE_OP, RECORD_OP, patchType="JSON"), "mutate", "patchType", id="patch-type"),
        pytest.param(patch(patch=[IMAGE_OP]), "mutate", "no text", id="patch-is-a-list"),
        pytest.param(patch(patch="%%"), "mutate", "decode", id="no-base64"),
        pytest.param(patch(patch="bm8="), "mutate", "decode", id="no-json-in-it"),
        pytest.param(patch(patch=encoded({})), "mutate", "no list", id="patch-is-an-object"),
        pytest.param(patch(), "mutate", "no list", id="empty-patch"),
        pytest.param(patch("op"), "mutate", "no object", id="operation-is-text"),
        pytest.param(
            patch({"op": "remove", "path": "/spec/containers/0/image"}),
            "mutate",
            "an operation has",
            id="remove",
        ),
        pytest.param(patch({**IMAGE_OP, "op": "test", "value": "nginx"}), "mutate", "can fail", id="test"),
        pytest.param(patch({**IMAGE_OP, "path": "/spec/containers/1/image"}), "mutate", "apply", id="index"),
        pytest.param(
            patch({"op": "add", "path": "/metadata/annotations/a", "value": "b"}),
            "mutate",
            "apply",
            id="add-below-nothing",
        ),
        pytest.param(patch({**IMAGE_OP, "path": "spec"}), "mutate", "apply", id="no-pointer"),
        pytest.param(
            patch({**IMAGE_OP, "path": "/spec/nodeName", "op": "add"}), "mutate", "changes", id="field"
        ),
        pytest.param(patch({**IMAGE_OP, "path": "/metadata/name"}), "mutate", "changes", id="name"),
        pytest.param(
            patch({**IMAGE_OP, "path": "/spec/containers/0/name"}), "mutate", "changes", id="container"
        ),
        pytest.param(
            patch({"op": "add", "path": "/spec/containers/-", "value": {"image": "x"}}),
            "mutate",
            "changes",
            id="another-container",
        ),
        pytest.param(patch({**IMAGE_OP, "value": None}), "mutate", "no image", id="image-becomes-null"),
        pytest.param(patch({**IMAGE_OP, "value": ""}), "mutate", "no image", id="image-becomes-empty"),
        pytest.param(patch(RECORD_OP), "mutate", "no image", id="only-the-annotation"),
        pytest.param(patch({**IMAGE_OP, "value": "nginx"}), "mutate", "no image", id="nothing-changes"),
        pytest.param(patch(IMAGE_OP), "mutate", "no mapping", id="no-record"),
        pytest.param(patch(IMAGE_OP, recorded({})), "mutate", "not record", id="empty-record"),
        pytest.param(
            patch(IMAGE_OP, recorded({"spec.containers[0].image": "other"})),
            "mutate",
            "not record",
            id="wrong-record",
        ),
        pytest.param(
            patch(IMAGE_OP, {**RECORD_OP, "value": {ORIGINAL_IMAGES: "[]"}}),
            "mutate",
            "no mapping",
            id="record-is-a-list",
        ),
        pytest.param(
            patch(IMAGE_OP, {**RECORD_OP, "value": {ORIGINAL_IMAGES: 7}}),
            "mutate",
            "changes",
            id="record-is-a-number",
        ),
        pytest.param(
            patch(IMAGE_OP, {**RECORD_OP, "value": {ORIGINAL_IMAGES: RECORD, "other": "x"}}),
            "mutate",
            "changes",
            id="another-annotation",
        ),
        pytest.param(
            patch(IMAGE_OP, {**RECORD_OP, "value": RECORD}), "mutate", "changes", id="annotations-become-text"
        ),
        pytest.param(
            patch(IMAGE_OP, RECORD_OP, auditAnnotations=AUDIT),
            "mutate",
            "not as the patch",
            id="no-audit-of-it",
        ),
        pytest.param(
            answer_of(auditAnnotations={**AUDIT, "rewritten": "a"}),
            "mutate",
            "not as the patch",
            id="audit-of-no-patch",
        ),
    ],
)
def test_broken_answers_are_caught(document: Any, endpoint: Endpoint, reason: str) -> None:
    """Each is refused for its own mistake."""
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
