"""Files of policy tests (docs/policy-tests.md): parsing, and their JSON Schema."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.cli.inputs.files import decoded, read_bytes
from gatekeeper_py.cli.inputs.outline import lines_of, outline_of
from gatekeeper_py.cli.inputs.policies import TEST_KIND, may_be, unquoted
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.names import NAMESPACE_NAME
from gatekeeper_py.core.policy.document import API_VERSION, MODES, Mode
from gatekeeper_py.core.policy.finding import Finding, Remarks
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.parse.document import ModeName
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node
from gatekeeper_py.core.policy.parse.fields import (
    Field,
    Invalid,
    Items,
    OneOf,
    Reading,
    Record,
    Scalar,
    read_document,
)
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.problems import type_name

UNSET: Final = object()
"""Stands for an absent field ``rewritten``, because ``None`` stands for ``rewritten: null``: no rewrite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. Either ``image`` or ``manifest`` is its subject; the other field is empty.

    ``number`` counts from 0.
    """

    number: int
    line: int = 0
    name: str = ""
    image: str = ""
    manifest: str = ""
    namespace: str | None = None
    mode: Mode | None = None
    at: datetime | None = None
    expect: str
    reason: str | None = None
    rewritten: Any = UNSET
    images: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """A file of tests, or the findings about an invalid file.

    ``lines`` are the lines of the file; empty if it is not a file of tests, because messages must not quote
    it.
    """

    name: str
    lines: tuple[str, ...]
    policy: str
    exceptions: tuple[str, ...]
    cases: tuple[Case, ...]
    errors: tuple[Finding, ...]


def read_tests(argument: str) -> CaseFile:
    """Read and parse a file. Raises ``UnreadableError`` when the file is too large or is not text."""
    name, content = read_bytes(argument, MAX_FILE_BYTES)
    text = decoded(name, content)
    remarks = Remarks()
    document = read_document(text, _DOCUMENT, MAX_FILE_BYTES, remarks)
    errors = as_findings(text, remarks)
    lines = lines_of(text)
    if document is None and not may_be(outline := outline_of(text), TEST_KIND):
        proposal = f"begin with apiVersion: {API_VERSION} and kind: {TEST_KIND}"
        errors = unquoted(errors, outline, wanted=f"an {TEST_KIND}", proposal=proposal)
        lines = ()
    policy, exceptions, cases = document or ("", (), ())
    return CaseFile(name=name, lines=lines, policy=policy, exceptions=exceptions, cases=cases, errors=errors)


def test_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of tests, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TEST_KIND,
        **_DOCUMENT.schema(),
    }


def _filled(text: str) -> str:
    if not text:
        raise Invalid("must be text, not empty", code="wrong-type")
    return text


def _namespace(text: str) -> str:
    if not NAMESPACE_NAME.fullmatch(_filled(text)):
        raise Invalid(f"{escape(text, 60)} is not a valid namespace name", code="invalid-namespace")
    return text


def _rewritten(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Invalid(f"must be text, not {type_name(value)}", code="wrong-type")
    return None if value is None else _filled(value)


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description}


_TEXT: Final = Scalar(parse=_filled, json={"type": "string", "minLength": 1})
_COMMON: Final[dict[str, Field]] = {
    "name": Scalar(parse=_filled, json=_text("What the case is about. Default: the image or the manifest.")),
    "namespace": Scalar(
        parse=_namespace, json=_text("The namespace of the Pod. Default: none; in a manifest, its own.")
    ),
    "mode": ModeName(tuple(MODES), more={"description": "Replaces the policy's mode."}),
    "at": Scalar(parse=parse_instant, json=_text("Judge at this date or RFC 3339 time. Default: now.")),
}
_IMAGE_CASE: Final = Record(
    Case,
    {
        "image": Scalar(parse=str, json={"type": "string", "description": "The image, as a Pod names it."}),
        **_COMMON,
        "expect": OneOf(("approved", "rejected")),
        "reason": OneOf(("allowed", "denied", "unlisted", "invalid", "exception", "unpinned", "unsigned")),
        "rewritten": Scalar(
            parse=_rewritten,
            expected="",
            json={
                "type": ["string", "null"],
                "description": "The name on a mirror; null: not rewritten.",
            },
        ),
    },
    required=("image", "expect"),
)
_MANIFEST_CASE: Final = Record(
    Case,
    {
        "manifest": Scalar(parse=_filled, json=_text("A file of objects, relative to this file.")),
        **_COMMON,
        "expect": OneOf(("admitted", "warned", "rejected", "rewritten")),
        "images": Items(item=_TEXT, more={"description": "All images of the objects as stored."}),
    },
    required=("manifest", "expect"),
)


def _check(reading: Reading, found: dict[str, Any]) -> None:
    """Check the fields that differ between a case of an image and a case of a manifest."""
    of_manifest = "manifest" in found and "image" not in found
    fields = (_MANIFEST_CASE if of_manifest else _IMAGE_CASE).fields
    for key in found.keys() - fields.keys() - {"number"}:
        reading.unknown_field(key, tuple(fields), below=(key,))
    subject = "manifest" if of_manifest else "image"
    if subject not in found:
        reading.missing(subject)
    verdicts, verdict = fields["expect"], found.get("expect", UNKNOWN)
    if isinstance(verdicts, OneOf) and verdict is not UNKNOWN and verdict not in verdicts.values:
        verdicts.refuse(reading, verdict, below=("expect",))
    found.setdefault("name", found.get(subject))


class _Case:
    """A case, which has the fields of a case of an image or the fields of a case of a manifest."""

    _either: Final = Record(
        Case,
        {**_IMAGE_CASE.fields, **_MANIFEST_CASE.fields, "expect": _TEXT},
        required=("expect",),
        numbered="number",
        check=_check,
    )

    def read(self, reading: Reading, node: Node) -> Any:
        case = self._either.read(reading, node)
        return case if case is UNKNOWN else dataclasses.replace(case, line=node.mark.line)

    def schema(self) -> dict[str, Any]:
        return {"oneOf": [_IMAGE_CASE.schema(), _MANIFEST_CASE.schema()]}


def _document(
    *, policy: str, cases: tuple[Case, ...], exceptions: tuple[str, ...] = (), **_constants: str
) -> tuple[str, tuple[str, ...], tuple[Case, ...]]:
    return policy, exceptions, cases


_DOCUMENT: Final = Record(
    _document,
    {
        "apiVersion": OneOf((API_VERSION,)),
        "kind": OneOf((TEST_KIND,)),
        "policy": Scalar(parse=_filled, json=_text("The policy file, relative to this file.")),
        "exceptions": Items(
            item=_TEXT,
            more={"description": "Files or directories with manifests of exceptions, relative to this file."},
        ),
        "cases": Items(item=_Case(), at_least=1),
    },
    required=("apiVersion", "kind", "policy", "cases"),
)
