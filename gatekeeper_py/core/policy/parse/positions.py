"""The lines and columns of paths in a document.

The parser stores no positions, because they would take more memory than the document. Findings are rare, so
the text is read a second time when there are any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import (
    Finding,
    Mark,
    Path,
    Remark,
    Remarks,
    in_order,
    more_findings,
)
from gatekeeper_py.core.policy.parse.events import Node, Reader

_MAX_PART: Final = 60
"""Characters of one key in a path."""


@dataclass(frozen=True, slots=True)
class _Position:
    mark: Mark
    key_mark: Mark
    scalar: bool


def as_findings(text: str, remarks: Remarks) -> tuple[Finding, ...]:
    """Return the remarks about a document as findings with their lines, in the order of ``text``.

    When there are more than a report may hold, one last finding states how many are missing.
    """
    kept = tuple(remarks)
    requested = [remark.path for remark in kept if isinstance(remark, Remark) and remark.mark is None]
    positions = _find_positions(text, requested) if requested else {}
    findings = [each if isinstance(each, Finding) else _located(each, positions) for each in kept]
    if remarks.more:
        findings.append(more_findings(remarks.more, in_order(findings)[-1]))
    return in_order(findings)


def path_text(path: Iterable[str | int]) -> str:
    """Format a path as ``allow[2].image``, always in one line of printable ASCII."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{escape(part, _MAX_PART)}" if text else escape(part, _MAX_PART)
    return text


def _located(remark: Remark, positions: dict[Path, _Position]) -> Finding:
    path, mark = remark.path, remark.mark
    if mark is None:
        # For a path that does not exist, such as a missing field: the nearest position above it.
        length = next(n for n in range(len(path), -1, -1) if path[:n] in positions)
        position = positions[path[:length]]
        mark = position.key_mark if remark.at_key and length == len(path) else position.mark
        if position.scalar:  # a rule that is only a pattern: its "image" is not in the text
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


_Tree = dict[str | int, "_Tree"]
"""Paths as nested mappings of their parts."""


def _find_positions(text: str, paths: Iterable[Path]) -> dict[Path, _Position]:
    """Return the positions of the given paths and of all paths above them, as far as they exist."""
    requested: _Tree = {}
    for path in paths:
        branch = requested
        for part in path:
            branch = branch.setdefault(part, {})
    positions: dict[Path, _Position] = {(): _Position(Mark(1, 1), Mark(1, 1), scalar=False)}
    reader = Reader(text, Remarks())
    root = reader.root()
    if root is not None:
        _visit(reader, root, requested, positions)
    return positions


def _visit(reader: Reader, node: Node, requested: _Tree, positions: dict[Path, _Position]) -> None:
    path = tuple(reader.path)
    mark = node.mark
    has_key = bool(path) and isinstance(path[-1], str)
    positions[path] = _Position(mark, reader.key_mark if has_key else mark, scalar=node.kind == "scalar")
    if node.kind == "mapping":
        for key, child in reader.entries():
            if key in requested:
                _visit(reader, child, requested[key], positions)
    elif node.kind == "list":
        for index, child in enumerate(reader.items()):
            if index in requested:
                _visit(reader, child, requested[index], positions)
