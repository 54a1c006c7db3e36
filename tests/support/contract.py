"""Check answers to AdmissionReviews against the rules of the API server and of our own interface.

``check_response`` is derived from the API server's webhook client and the interface page, not from the code
that makes answers. Every test that gets an answer calls it.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import jsonpatch
import jsonpointer

Endpoint = Literal["validate", "mutate"]

ORIGINAL_IMAGES: Final = "gatekeeper-py/original-images"
CONTAINER_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")
MODES: Final = frozenset({"enforce", "warn", "mutate"})
RESPONSE_FIELDS: Final = frozenset(
    {"uid", "allowed", "status", "patch", "patchType", "warnings", "auditAnnotations"}
)
AUDIT_KEYS: Final = frozenset(
    {"mode", "policy", "rejected", "rewritten", "unverified", "signed", "unmet", "exceptions"}
)
MAX_MESSAGE_BYTES: Final = 1024
MAX_AUDIT_BYTES: Final = 1024
MAX_ANNOTATIONS_BYTES: Final = 256 * 1024
MAX_WARNINGS: Final = 10
MAX_WARNING_LENGTH: Final = 120

_QUALIFIED_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_REVISION: Final = re.compile(r"[0-9a-f]{12}")
_PRINTABLE_ASCII: Final = re.compile(r"[ -~]+")
_ABSENT: Final = object()

Place = tuple[str | int, ...]


class BrokenContract(AssertionError):
    """The API server or our interface does not allow the answer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The values that the API server reads from an answer.

    ``object`` is the resulting object: that of the request with the patch applied, or as sent.
    """

    allowed: bool
    message: str
    warnings: tuple[str, ...]
    audit: dict[str, str]
    patch: tuple[dict[str, Any], ...]
    object: Any

    @property
    def originals(self) -> dict[str, str]:
        """Return the decoded annotation that records the original images."""
        recorded: dict[str, str] = json.loads(self.object["metadata"]["annotations"][ORIGINAL_IMAGES])
        return recorded


def check_response(
    document: dict[str, Any] | bytes, request_document: dict[str, Any], endpoint: Endpoint
) -> Answer:
    """Check the answer to a request, as plain values or as the bytes of a body, and unpack it.

    Raises ``BrokenContract`` at the first violation.
    """
    review = _as_received(document)
    request = request_document["request"]
    _require(review.get("apiVersion") == "admission.k8s.io/v1", "apiVersion is not admission.k8s.io/v1")
    _require(review.get("kind") == "AdmissionReview", "kind is not AdmissionReview")
    response = review.get("response")
    if not isinstance(response, dict):
        _broken("the response is no object")
    _require(response.keys() <= RESPONSE_FIELDS, f"unknown fields in {sorted(response)}")
    _require(response.get("uid") == request["uid"], "the uid is not the request's")
    allowed = response.get("allowed")
    if not isinstance(allowed, bool):
        _broken("allowed is neither true nor false")
    _require(allowed or endpoint == "validate", "the mutating endpoint denies")
    audit = _check_audit(response.get("auditAnnotations"))
    _require(allowed or "rejected" in audit, "a denial does not say in the audit what it rejected")
    patch = _check_patch_fields(response, endpoint)
    _require(bool(patch) == ("rewritten" in audit), "the audit annotation rewritten is not as the patch")
    return Answer(
        allowed=allowed,
        message=_check_status(response, allowed=allowed),
        warnings=_check_warnings(response),
        audit=audit,
        patch=patch,
        object=_check_patch(patch, request) if patch else request.get("object"),
    )


def _as_received(document: dict[str, Any] | bytes) -> dict[str, Any]:
    """Return the document as the receiver decodes it: UTF-8, an object, no NaN, no duplicate field."""
    body = document if isinstance(document, bytes) else json.dumps(document, allow_nan=False).encode()
    try:
        review = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique_fields
        )
    except ValueError as problem:
        _broken(f"the body is no JSON: {problem}")
    if not isinstance(review, dict):
        _broken("the body is no object")
    return review


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands there twice")
    return fields


def _check_status(response: dict[str, Any], *, allowed: bool) -> str:
    """Check that a denial is 403 with a bounded printable text, and other answers have no status."""
    if allowed:
        _require("status" not in response, "an allowed answer has a status")
        return ""
    status = response.get("status")
    if not isinstance(status, dict):
        _broken("a denial has no status")
    _require(status.keys() == {"code", "reason", "message"}, f"the status has {sorted(status)}")
    _require(status["code"] == 403, f"the code is {status['code']}")
    _require(status["reason"] == "Forbidden", f"clients act on the reason {status['reason']}")
    message = status["message"]
    if not isinstance(message, str):
        _broken("the message is no text")
    _require(len(message.encode()) <= MAX_MESSAGE_BYTES, f"the message has {len(message.encode())} bytes")
    for line in message.split("\n"):
        _require(bool(line) and line.isprintable(), f"a line of the message is not printable: {line!a}")
    return message


def _check_warnings(response: dict[str, Any]) -> tuple[str, ...]:
    if "warnings" not in response:
        return ()
    warnings = response["warnings"]
    if not isinstance(warnings, list):
        _broken("the warnings are no list")
    _require(0 < len(warnings) <= MAX_WARNINGS, f"there are {len(warnings)} warnings")
    for warning in warnings:
        if not isinstance(warning, str):
            _broken("a warning is no text")
        _require(_PRINTABLE_ASCII.fullmatch(warning) is not None, f"not printable ASCII: {warning!a}")
        _require(len(warning) <= MAX_WARNING_LENGTH, f"a warning has {len(warning)} characters")
    return tuple(warnings)


def _check_audit(annotations: Any) -> dict[str, str]:
    if not isinstance(annotations, dict):
        _broken("there are no audit annotations")
    for key, value in annotations.items():
        _require(_QUALIFIED_NAME.fullmatch(key) is not None, f"the audit key {key!a} is no qualified name")
        _require(key in AUDIT_KEYS, f"nobody knows the audit key {key!a}")
        if not isinstance(value, str):
            _broken(f"the audit annotation {key} is no text")
        _require(len(value.encode()) <= MAX_AUDIT_BYTES, f"the audit annotation {key} is too long")
        _require(_PRINTABLE_ASCII.fullmatch(value) is not None, f"the audit annotation {key} is no line")
    _require(annotations.get("mode") in MODES, "the audit does not name the mode")
    _require(_REVISION.fullmatch(annotations.get("policy", "")) is not None, "the audit names no revision")
    return annotations


def _check_patch_fields(response: dict[str, Any], endpoint: Endpoint) -> tuple[dict[str, Any], ...]:
    """Return the decoded operations; empty when there is no patch."""
    if "patch" not in response and "patchType" not in response:
        return ()
    _require(endpoint == "mutate", "the validating endpoint patches")
    _require("patch" in response and "patchType" in response, "patch and patchType stand alone")
    _require(response["patchType"] == "JSONPatch", f"the patchType is {response['patchType']!a}")
    if not isinstance(response["patch"], str):
        _broken("the patch is no text")
    try:
        operations = json.loads(base64.b64decode(response["patch"], validate=True).decode())
    except (binascii.Error, ValueError) as problem:
        _broken(f"the patch does not decode: {problem}")
    if not isinstance(operations, list) or not operations:
        _broken("the patch is no list of operations")
    for operation in operations:
        if not isinstance(operation, dict):
            _broken("an operation is no object")
        _require(operation.keys() == {"op", "path", "value"}, f"an operation has {sorted(operation)}")
        _require(operation["op"] in {"add", "replace"}, f"the operation {operation['op']!a} can fail or lose")
    return tuple(operations)


def _check_patch(patch: tuple[dict[str, Any], ...], request: dict[str, Any]) -> Any:
    """Return the patched object; check that only images, their record and added pull secrets differ."""
    kind = request["kind"]
    _require((kind.get("group") or "", kind["kind"]) == ("", "Pod"), "something else than a Pod is patched")
    before = request.get("object")
    try:
        after = jsonpatch.JsonPatch(patch).apply(copy.deepcopy(before))
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as problem:
        _broken(f"the patch does not apply: {problem}")
    originals = {}
    for place, old, new in _differences(before, after):
        if _is_image(place):
            _require(isinstance(old, str) and isinstance(new, str) and bool(new), f"no image at {place}")
            originals[_path(place)] = old
        else:
            is_allowed = _is_record(place, old, new) or _adds_pull_secrets(place, old, new)
            _require(is_allowed, f"the patch changes {place}")
    _require(bool(originals), "the patch changes no image")
    _require(_annotation_bytes(after) <= MAX_ANNOTATIONS_BYTES, "an API server refuses annotations so large")
    _check_record(before, after, originals)
    return after


def _check_record(before: Any, after: Any, originals: dict[str, str]) -> None:
    """Check that the annotation records the rewritten images and keeps an earlier record."""
    recorded = _record(after)
    if recorded is None:
        _broken("the annotation is no mapping of paths to images")
    earlier = _record(before) or {}
    _require(recorded == {**earlier, **originals}, "the annotation does not record what was rewritten")


def _annotation_bytes(obj: Any) -> int:
    """Return the size of annotations as an API server counts it: the bytes of keys and values."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    texts = (text for item in annotations.items() for text in item)
    return sum(len(text.encode(errors="surrogatepass")) for text in texts if isinstance(text, str))


def _record(obj: Any) -> dict[str, str] | None:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    try:
        recorded = json.loads(annotations.get(ORIGINAL_IMAGES, ""))
    except (ValueError, TypeError, RecursionError):
        return None
    if isinstance(recorded, dict) and all(isinstance(image, str) for image in recorded.values()):
        return recorded
    return None


def _is_image(place: Place) -> bool:
    match place:
        case ("spec", key, int(), "image"):
            return key in CONTAINER_LISTS
        case ("spec", "volumes", int(), "image", "reference"):
            return True
    return False


def _adds_pull_secrets(place: Place, old: Any, new: Any) -> bool:
    """Return whether a change only appends names of Secrets to ``imagePullSecrets``."""
    before = [] if old is _ABSENT else old
    if place != ("spec", "imagePullSecrets") or not isinstance(before, list) or new[: len(before)] != before:
        return False
    return all(isinstance(each, dict) and each.keys() == {"name"} for each in new[len(before) :])


def _is_record(place: Place, old: Any, new: Any) -> bool:
    """Return whether a change is that of the annotation, including the mappings around it."""
    path = ("metadata", "annotations", ORIGINAL_IMAGES)
    if place == path:
        return isinstance(new, str)
    if not place or place != path[: len(place)] or (old is not None and old is not _ABSENT):
        return False
    for key in path[len(place) :]:
        if not isinstance(new, dict) or new.keys() != {key}:
            return False
        new = new[key]
    return isinstance(new, str)


def _differences(before: Any, after: Any) -> Iterator[tuple[Place, Any, Any]]:
    """Yield the deepest paths at which two JSON values differ, with both values."""
    left: list[tuple[Place, Any, Any]] = [((), before, after)]
    while left:
        place, old, new = left.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            left += [((*place, key), old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in {**old, **new}]
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            left += [((*place, i), *pair) for i, pair in enumerate(zip(old, new, strict=True))]
        elif type(old) is not type(new) or old != new:
            yield place, old, new


def _path(place: Place) -> str:
    """Return the path in the notation of messages and of the annotation."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _require(condition: bool, otherwise: str) -> None:  # noqa: FBT001 - as assert
    if not condition:
        raise BrokenContract(otherwise)


def _broken(problem: str) -> NoReturn:
    raise BrokenContract(problem)
