"""Add items to a list in the text of a YAML document, and keep every other character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import yaml


class Addition(NamedTuple):
    """New items of a list, and their place in a text: a line, counted from 0, and a column.

    If the items get lines of their own, ``block`` holds these lines, which follow ``line``. Otherwise
    ``flow`` is inserted into ``line``.
    """

    line: int
    column: int
    block: tuple[str, ...] = ()
    flow: str = ""

    def added_to(self, text: str, lines: int = 0, columns: int = 0) -> str:
        """Return a text with the items. ``lines`` and ``columns`` are the offset of the document."""
        existing = text.split("\n")
        line, column = self.line + lines, self.column + columns
        if not self.block:
            changed = existing[line]
            existing[line] = f"{changed[:column]}{self.flow}{changed[column:]}"
            return "\n".join(existing)
        end = "\r" if existing[0].endswith("\r") else ""
        new = [f"{' ' * column}{each}{end}" for each in self.block]
        if line + 1 == len(existing):  # the last line has no end, and gets one
            existing[line] += end
            new[-1] = new[-1].removesuffix(end)
        return "\n".join((*existing[: line + 1], *new, *existing[line + 1 :]))


def addition(text: str, name: str, block: Sequence[str], flow: Sequence[str]) -> Addition | None:
    """Return the place after the last item of the list in a field, ``None`` if there is no such list.

    The caller must check the result: some layouts leave no place for more items. ``block`` holds the
    lines of the new items, and ``flow`` holds each item on one line. Raises ``YAMLError``.
    """
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    fields = root.value if isinstance(root, yaml.MappingNode) else ()
    found = next((value for key, value in fields if key.value == name), None)
    if not isinstance(found, yaml.SequenceNode):
        return None
    if not found.flow_style:
        return Addition(_last_line(found), found.start_mark.column, block=tuple(block))
    end = found.end_mark
    comma = ", " if found.value and not _ends_with_comma(text, found) else ""
    return Addition(end.line, end.column - 1, flow=comma + ", ".join(flow))


def _last_line(node: yaml.Node) -> int:
    """Return the number of a node's last line, counted from 0."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1])
    end = node.end_mark
    return int(end.line if end.column or end.line == node.start_mark.line else end.line - 1)


def _ends_with_comma(text: str, found: yaml.SequenceNode) -> bool:
    """Return whether a comma follows the last item of a list in brackets."""
    last, end = found.value[-1].end_mark, found.end_mark
    lines = text.split("\n")[last.line : end.line + 1]
    lines[-1] = lines[-1][: end.column - 1]
    lines[0] = lines[0][last.column :]
    return any("," in line.partition("#")[0] for line in lines)
