"""Parse a document with exceptions, as strictly as a policy (docs/exceptions.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gatekeeper_py.core.exceptions.document import (
    KIND,
    MAX_BYTES,
    MAX_ENTRIES,
    ExceptionDocument,
    ExceptionEntry,
)
from gatekeeper_py.core.exceptions.exceptions import indexed
from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.policy.configmap import ExceptionsText, ParsedExceptions
from gatekeeper_py.core.policy.document import API_VERSION
from gatekeeper_py.core.policy.excess import too_many_wildcards
from gatekeeper_py.core.policy.finding import Finding, Mark, Remark, Remarks
from gatekeeper_py.core.policy.parse import document as policy
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node
from gatekeeper_py.core.policy.parse.fields import Items, Reading, Record, read_document
from gatekeeper_py.core.policy.parse.positions import as_findings

MAX_STRUCTURE: Final = MAX_BYTES // 4
"""Maximum number of line ends and other structural characters in a document. They determine the time to parse
it. A document at this limit takes at most twice as long as one with 1,000 entries that have all fields."""

_STRUCTURE: Final = (*"[]{},?\n\t", ": ", "- ", ":,", '":', "':")
"""The texts that mark an item, a key or a value in YAML. A colon in an image or a time is not one of them."""


class ExceptionsError(ValueError):
    """The text is not an acceptable document with exceptions; ``findings`` lists the problems."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = tuple(findings)


def parsed_exceptions(found: ExceptionsText) -> ParsedExceptions:
    """Parse the document of a ConfigMap. Returns errors instead of raising them."""
    if found.text is None or found.findings:
        return ParsedExceptions(None, found.findings)
    try:
        return ParsedExceptions(parse_exceptions(found.text, found.key.source))
    except ExceptionsError as problem:
        return ParsedExceptions(None, problem.findings)


def parse_exceptions(text: str, source: Source | None = None) -> ExceptionDocument:
    """Parse a document of at most 64 KiB. ``source`` says where it is, if that is known.

    Raises ``ExceptionsError`` with every problem: at most 100, and the number of the others.
    """
    remarks = Remarks()
    document: ExceptionDocument | None = None
    if len(text) <= MAX_BYTES and sum(map(text.count, _STRUCTURE)) > MAX_STRUCTURE:
        message = f"more than {MAX_STRUCTURE:,} line ends, brackets, commas, colons and dashes"
        remarks.add(Remark(code="too-long", path=(), message=message, mark=Mark(1, 1)))
    else:
        document = read_document(
            text, _DOCUMENT, MAX_BYTES, remarks, alone="keep one document in the ConfigMap"
        )
    if document is None and not remarks:
        remarks.add(Remark(code="empty-document", path=(), message="the document is empty"))
    elif document is not None and source is not None and SOURCES[source].scope == "namespace":
        _refuse_namespaces(document, remarks)
    if document is not None and not remarks:
        problem = too_many_wildcards({"exceptions": indexed(document).scanned()})
        if problem is not None:
            remarks.add(problem)
    if document is None or remarks:
        raise ExceptionsError(as_findings(text, remarks))
    return document


def exceptions_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a document with exceptions."""
    return policy.complete_schema(_DOCUMENT)


def _refuse_namespaces(document: ExceptionDocument, remarks: Remarks) -> None:
    for entry in document.entries:
        if entry.namespaces is not None:
            path = ("exceptions", entry.index, "namespaces")
            message = "a document reaches only its own namespace, so its entries name none"
            remarks.add(Remark(code="unknown-field", path=path, message=message, at_key=True))


class _WithLine(Record):
    """An entry, with its first line. So findings about it need no second parse of the text."""

    def read(self, reading: Reading, node: Node) -> Any:
        line = node.mark.line
        entry = super().read(reading, node)
        return entry if entry is UNKNOWN else entry(line=line)


def _entry(**fields: Any) -> Any:
    return lambda line: ExceptionEntry(line=line, **fields)


def _document(*, api_version: str, kind: str, exceptions: tuple[Any, ...]) -> ExceptionDocument:  # noqa: ARG001 - always the same
    return ExceptionDocument(entries=exceptions)


_ENTRY: Final = _WithLine(
    _entry,
    {
        "image": policy.ALLOWED,
        "namespaces": policy.NAMESPACES,
        "until": policy.UNTIL,
        "reason": policy.FILLED_LINE,
        "owner": policy.LINE,
    },
    required=("image", "until", "reason"),
    names={"image": "pattern"},
    numbered="index",
    check=policy.check_rule,
    title="ExceptionModel",
    description="Images that are approved until a time, as far as a grant in the policy covers them.",
)

_DOCUMENT: Final = Record(
    _document,
    {
        "apiVersion": policy.choice((API_VERSION,)),
        "kind": policy.choice((KIND,)),
        "exceptions": Items(
            item=_ENTRY, at_most=MAX_ENTRIES, noun="entries of exceptions", definition=_ENTRY.title
        ),
    },
    required=("apiVersion", "kind", "exceptions"),
    examples={
        "apiVersion": f"apiVersion: {API_VERSION}",
        "kind": f"kind: {KIND}",
        "exceptions": "exceptions: []",
    },
    title="gatekeeper-py ImageExceptions",
    description="Images that a team needs for a limited time.",
)
