"""Where paths stand in a text.

No place is stored while a document is read: it would cost more memory than the document. Findings are
few, so the text is read once more when there are some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import (
    MORE_FINDINGS,
    Finding,
    Mark,
    Path,
    Remark,
    Remarks,
    in_order,
)
from gatekeeper_py.core.policy.parse.events import Node, Reader

_MAX_PART: Final = 60
"""Characters of one key in a path."""


@dataclass(frozen=True, slots=True)
class _Place:
    mark: Mark
    key_mark: Mark
    scalar: bool


def as_findings(text: str, remarks: Remarks) -> tuple[Finding, ...]:
    """Return the remarks about a document as findings with their lines, in the order of ``text``.

    When there were more than a report may hold, one more finding says how many.
    """
    kept = tuple(remarks)
    wanted = [remark.path for remark in kept if isinstance(remark, Remark) and remark.mark is None]
    places = _find(text, wanted) if wanted else {}
    findings = [each if isinstance(each, Finding) else _located(each, places) for each in kept]
    if remarks.more:
        findings.append(_more(remarks.more, in_order(findings)[-1]))
    return in_order(findings)


def path_text(path: Iterable[str | int]) -> str:
    """Write a path as people do: ``allow[2].image``; always one line of printable ASCII."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{escape(part, _MAX_PART)}" if text else escape(part, _MAX_PART)
    return text


def _located(remark: Remark, places: dict[Path, _Place]) -> Finding:
    path, mark = remark.path, remark.mark
    if mark is None:
        # The nearest place above a path that does not exist, such as that of a missing field.
        length = next(n for n in range(len(path), -1, -1) if path[:n] in places)
        place = places[path[:length]]
        mark = place.key_mark if remark.at_key and length == len(path) else place.mark
        if place.scalar:  # a rule that is only a pattern: its "image" is not in the text
            path = path[:length]
    return Finding(
        severity=remark.severity,
        code=remark.code,
        path=path_text(path),
        line=mark.line,
        column=mark.column,
        message=remark.message,
        proposal=remark.proposal,
    )


def _more(number: int, last: Finding) -> Finding:
    return Finding(
        severity=last.severity,
        code=MORE_FINDINGS,
        path="",
        line=last.line,
        message=f"{number:,} more {'finding is' if number == 1 else 'findings are'} not listed",
        proposal="correct these first",
    )


_Tree = dict[str | int, "_Tree"]
"""Paths as nested mappings of their parts."""


def _find(text: str, paths: Iterable[Path]) -> dict[Path, _Place]:
    """Return the places of the given paths and of all above them, as far as they exist."""
    wanted: _Tree = {}
    for path in paths:
        branch = wanted
        for part in path:
            branch = branch.setdefault(part, {})
    places: dict[Path, _Place] = {(): _Place(Mark(1, 1), Mark(1, 1), scalar=False)}
    reader = Reader(text, Remarks())
    root = reader.root()
    if root is not None:
        _visit(reader, root, wanted, places)
    return places


def _visit(reader: Reader, node: Node, wanted: _Tree, places: dict[Path, _Place]) -> None:
    path = tuple(reader.path)
    mark = node.mark
    has_key = bool(path) and isinstance(path[-1], str)
    places[path] = _Place(mark, reader.key_mark if has_key else mark, scalar=node.kind == "scalar")
    if node.kind == "mapping":
        for key, child in reader.entries():
            if key in wanted:
                _visit(reader, child, wanted[key], places)
    elif node.kind == "list":
        for index, child in enumerate(reader.items()):
            if index in wanted:
                _visit(reader, child, wanted[index], places)
