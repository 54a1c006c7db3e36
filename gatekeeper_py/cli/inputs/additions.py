"""Add items to a list in the text of a YAML document, and keep every other character."""

from __future__ import annotations

from collections.abc import Sequence

import yaml


def with_items(text: str, name: str, block: Sequence[str], flow: Sequence[str]) -> str | None:
    """Return the text with new items at the end of the list in a field, ``None`` if there is no such list.

    The caller must check the result: some layouts leave no place for more items. The text ends with a line
    feed. ``block`` holds the lines of the new items, and ``flow`` holds each item on one line. Raises
    ``YAMLError``.
    """
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    fields = root.value if isinstance(root, yaml.MappingNode) else ()
    found = next((value for key, value in fields if key.value == name), None)
    if not isinstance(found, yaml.SequenceNode):
        return None
    lines = text.split("\n")
    if found.flow_style:
        end = found.end_mark
        line, column = lines[end.line], end.column - 1
        comma = ", " if found.value and not _ends_with_comma(lines, found) else ""
        lines[end.line] = f"{line[:column]}{comma}{', '.join(flow)}{line[column:]}"
    else:
        cr = "\r" if lines[0].endswith("\r") else ""
        after = _last_line(found) + 1
        lines[after:after] = [f"{' ' * found.start_mark.column}{each}{cr}" for each in block]
    return "\n".join(lines)


def _last_line(node: yaml.Node) -> int:
    """Return the number of a node's last line, counted from 0."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1])
    end = node.end_mark
    return int(end.line if end.column or end.line == node.start_mark.line else end.line - 1)


def _ends_with_comma(text: Sequence[str], found: yaml.SequenceNode) -> bool:
    """Return whether a comma follows the last item of a list in brackets, in the lines of a text."""
    last, end = found.value[-1].end_mark, found.end_mark
    lines = list(text[last.line : end.line + 1])
    lines[-1] = lines[-1][: end.column - 1]
    lines[0] = lines[0][last.column :]
    return any("," in line.partition("#")[0] for line in lines)
