"""Decode only the fields of a review that a decision reads, for Pods and for kinds with a pod template.

Half the cost of a review is making and freeing values that no decision reads: half of a Pod is
``managedFields``. ``parse_pod_review`` takes 9 instead of 15 µs at 7 KB and 35 instead of 84 µs at 33 KB,
checks included. orjson remains the authority on what is JSON: every body on which msgspec and orjson could
differ is left to orjson.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, TypedDict

import msgspec

from gatekeeper_py.core.admission.fields import IMAGE_LISTS, POD, POD_SPECS, ImageList
from gatekeeper_py.core.admission.slot import MAX_IMAGES

_TYPED_DICT: Final[Any] = TypedDict
"""For calls with fields that a type checker cannot know."""


def _fields(name: str, types: dict[str, Any]) -> Any:
    """Return a type for msgspec: a mapping of which only these fields are decoded. All are optional."""
    return _TYPED_DICT(name, types, total=False)


def _item_of(field: ImageList, *, pull_policies: bool) -> Any:
    """Return the type of a list's item: its name, the path to its image, and perhaps its pull policy."""
    image: Any = str | None
    beside = {field.pull_policy: str | None} if pull_policies else {}
    for key in reversed(field.path[1:]):
        image = _fields(f"_SourceIn_{field.key}", {key: image, **beside}) | None
        beside = {}
    return _fields(f"_ItemOf_{field.key}", {"name": str | None, field.path[0]: image, **beside})


class _Metadata(TypedDict, total=False):
    annotations: dict[str, str] | None
    deletionTimestamp: str | None
    generateName: str | None


def _mapping_type(paths: set[tuple[str, ...]], name: str, pod_spec: dict[str, Any], **more: Any) -> Any:
    """Return the type of a mapping that holds pod specs at these paths."""
    fields = {**pod_spec, **more} if () in paths else more
    for step in sorted({path[0] for path in paths if path}):
        inner = {path[1:] for path in paths if path and path[0] == step}
        fields[step] = _mapping_type(inner, f"{name}_{step}", pod_spec) | None
    return _fields(name, fields)


class _Kind(TypedDict, total=False):
    group: str | None
    kind: str | None


class _User(TypedDict, total=False):
    username: str | None
    groups: list[str] | None


def _decoder(*, pull_policies: bool) -> msgspec.json.Decoder[Any]:
    """Return a decoder of the fields that ``core`` reads in the review of a Pod or a workload.

    If one of these fields has a value of another type, decoding fails, and the review is left to orjson.
    """
    # One type serves every kind in the table. A Pod has no template in its spec, and a Deployment has no
    # containers there. If an object has one of these nevertheless, it is decoded but not read.
    # Derived from the table of fields, because the images of a list that is missing here are not judged.
    items = {field.key: _item_of(field, pull_policies=pull_policies) for field in IMAGE_LISTS}
    pod_spec = {key: list[item] | None for key, item in items.items()}  # type: ignore[valid-type]
    whole = _mapping_type(set(POD_SPECS.values()), "_Object", pod_spec, metadata=_Metadata | None)
    request = {
        "uid": str,
        "kind": _Kind,
        "operation": str,
        "subResource": str | None,
        "namespace": str | None,
        "name": str | None,
        "userInfo": _User | None,
        "object": whole | None,
        "oldObject": whole | None,
        "dryRun": bool | None,
    }
    review = {"apiVersion": str, "kind": str, "request": _fields("_Request", request)}
    return msgspec.json.Decoder(_fields("_Review", review))


_DECODER: Final = _decoder(pull_policies=False)
_DECODER_WITH_PULL_POLICIES: Final = _decoder(pull_policies=True)
"""For policies that look up images. An image with the pull policy ``Never`` is not looked up."""

_CLASSES: Final = bytes(
    ord("0") if chr(byte) in "0123456789+"
    else ord("e") if chr(byte) in "eE"
    else ord("(") if chr(byte) in "[{"
    else ord(")") if chr(byte) in "]}"
    else ord(" ")
    for byte in range(256)
)  # fmt: skip
"""Maps digits and ``+`` to ``0``, ``e`` and ``E`` to ``e``, and all brackets to parentheses."""

_STRUCTURE: Final = bytes(
    ord(",") if chr(byte) in ":,[]{}" else ord("e") if chr(byte) in "eE" else byte for byte in range(256)
)
_NO_STRUCTURE: Final = bytes(byte for byte in range(256) if chr(byte) not in ':,[]{}"eEfr')
_EXPONENT: Final = b",e,"
"""What is left of a number with an exponent, and of the characters around it, when only the characters above
are kept. ``true`` and ``false`` also leave an ``r`` or ``f``, and strings their quotes, so they differ."""

_LISTS: Final = tuple(field.key for field in IMAGE_LISTS)

_STRIDE: Final = 30
_DIGITS: Final = b"0" * 10
"""A number that is too large for a double and has no exponent has at least 309 digits. If every
``_STRIDE``-th byte is sampled, at least this many samples in a row are digits."""

_LONG: Final = b"0" * 155
_LARGE_EXPONENT: Final = b"e000"
"""A number that is too large for a double contains one of these two, in the classes above: 155 digits in a
row, or an exponent of three digits."""

_MOST_LOOKS: Final = 10_000
"""Maximum number of places that look like an exponent of three digits. A digest has one on average. Checking
this many takes 2 ms."""

_NUMBER: Final = b"0123456789.-"
_BEFORE_NUMBER: Final = b":,[ \t\r\n"
_LONGEST: Final = 400
"""A number without 155 digits in a row has fewer characters than this before its exponent."""

MAX_DEPTH: Final = 1000
"""orjson refuses 1,024 levels."""

USUAL_LEVELS: Final = 64
"""Maximum number of levels before a body is left to orjson. A Pod has a dozen."""

_MOST_QUOTES: Final = 200_000
"""Maximum number of quotation marks in a body that is split at them. Each takes 40 bytes of memory for a
moment. A body of 1 MB has about 60,000."""

_NO_SKELETON: Final = bytes(byte for byte in range(256) if chr(byte) not in '[]{}"')
"""Deletes everything but brackets and quotation marks."""

_BRACKETS: Final = bytes.maketrans(b"[{]}", b"(())")

_HAS_OWN_STACK_LIMIT: Final = sys.version_info >= (3, 12)


def parse_pod_review(body: bytes, *, pull_policies: bool = False) -> dict[str, Any] | None:
    """Return the AdmissionReview of a Pod or a workload with only the fields that a decision reads.

    An exception is an update of a workload: see ``updates_template``. ``pull_policies`` adds the field that
    only policies with look-ups read. Return ``None`` for another kind, for anything unusual and in case of
    doubt. The caller then decodes with orjson.
    """
    try:
        document = (_DECODER_WITH_PULL_POLICIES if pull_policies else _DECODER).decode(body)
        kind = document["request"]["kind"]
        path = POD_SPECS.get((kind.get("group") or "", kind.get("kind") or ""))
        if path is None or _has_too_many_images(document["request"], path):
            return None
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError):
        return None
    # Up to Python 3.11, the interpreter's recursion limit stops msgspec before that depth, unless the limit
    # was raised.
    counts = _HAS_OWN_STACK_LIMIT or sys.getrecursionlimit() > MAX_DEPTH
    structure = body.translate(_STRUCTURE, _NO_STRUCTURE)
    if _may_overflow(body, structure) or (counts and _may_be_deep(body, structure)):
        return None
    return document  # type: ignore[no-any-return]


def updates_template(document: Any) -> bool:
    """Return whether a valid review updates a workload, so that judging may compare its whole pod templates.

    ``parse_pod_review`` decodes only the images of a template.
    """
    request = document["request"]
    kind = request["kind"]
    return request.get("operation") == "UPDATE" and (kind.get("group") or "", kind["kind"]) in _TEMPLATES


_TEMPLATES: Final = POD_SPECS.keys() - {POD}


def _has_too_many_images(request: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Return whether a request updates an object with so many images that all its fields are compared."""
    if request.get("operation") != "UPDATE":
        return False
    spec: Any = request.get("object")
    for step in path:
        spec = (spec or {}).get(step)
    return spec is not None and sum(len(spec.get(key) or ()) for key in _LISTS) > MAX_IMAGES


def _may_overflow(body: bytes, structure: bytes) -> bool:
    """Return whether a JSON object may hold a number, outside a string, that is too large for a double.

    orjson refuses such a number anywhere; msgspec looks only at the numbers that it decodes.
    """
    # Few Pods hold a number with an exponent, so the closer look is rare. Searching backwards takes a third
    # of the time: a forward search first prepares tables for the needle.
    if structure.rfind(_EXPONENT) < 0 and _DIGITS not in body[::_STRIDE].translate(_CLASSES):
        return False
    classes = body.translate(_CLASSES)
    if _LONG in classes or classes.count(_LARGE_EXPONENT) > _MOST_LOOKS:
        return True
    position = classes.find(_LARGE_EXPONENT)
    while position >= 0:
        # Most matches are in the hexadecimal text of digests and uids, where letters precede the digits.
        before = body[max(position - _LONGEST, 0) : position].rstrip(_NUMBER)
        if not before or before[-1] in _BEFORE_NUMBER:
            return True
        position = classes.find(_LARGE_EXPONENT, position + 1)
    return False


def _may_be_deep(body: bytes, structure: bytes) -> bool:
    """Return whether a body may have over ``MAX_DEPTH`` levels. Empty lists and mappings do not count."""
    if structure.count(b",") <= 2 * MAX_DEPTH:  # a level has two brackets
        return False
    classes = body.translate(_CLASSES)
    opened = classes.count(b"(")
    if opened <= MAX_DEPTH or opened - classes.count(b"()") < MAX_DEPTH:
        return False
    return _has_many_levels(body)


def _has_many_levels(body: bytes) -> bool:
    """Return whether valid JSON has more than ``USUAL_LEVELS`` levels, or too many strings to tell."""
    # Without escapes, each quotation mark begins or ends a string.
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    skeleton = unescaped.translate(_BRACKETS, _NO_SKELETON)
    if skeleton.count(b'"') > _MOST_QUOTES:
        return True
    brackets = b"".join(skeleton.split(b'"')[::2])
    for _ in range(USUAL_LEVELS):
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")
    return brackets != b""
