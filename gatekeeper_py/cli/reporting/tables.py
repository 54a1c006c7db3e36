"""Tables for people: as wide as their content, or shortened to fit a terminal.

Digests are shortened first, because their first digits suffice to distinguish them. Then the widest columns
are shortened.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.console import Console
from gatekeeper_py.core.images.reference import escape

GAP: Final = "  "
NARROWEST: Final = 12
"""Minimum width of a column. If the terminal is too narrow even for this, lines wrap."""

SHORT: Final = 20
"""The other columns are cut down to this width before the first column is cut."""

MAX_CELL: Final = 5000
"""Maximum number of characters of a cell. A valid reference is shorter; an invalid one may have millions."""

_DIGEST: Final = re.compile(r"@(sha256|sha512):([0-9a-f]{12})[0-9a-f]{20,}")


class Names(tuple[str, ...]):
    """A cell with a list of names. If they do not fit, the cell shows how many names are left out."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(self)


Row = Sequence["str | Names"]


def layout(
    headings: Sequence[str], rows: Sequence[Row], width: int | None, *, right: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """Return the cells of each line, headings first; with a width, shortened so that lines fit.

    Cells are padded, except for those in the last column. The first column is cut in the middle, the others
    at the end. A column without content is left out. ``right`` are the headings of right-aligned columns.
    """
    kept = [
        index
        for index, heading in enumerate(headings)
        if not rows or heading == headings[-1] or any(row[index] for row in rows)
    ]
    names = tuple(headings[index] for index in kept)
    cells: list[list[str | Names]] = [[row[index] for index in kept] for row in rows]
    widths = _widths(names, cells)
    if width is not None:
        available = width - len(GAP) * (len(widths) - 1)
        if sum(widths) > available:
            cells = [[_shorter(cell) for cell in row] for row in cells]
            widths = _widths(names, cells)
        _narrow(widths, available)
    fitted = [[_fit(cell, widths[i], first=not i) for i, cell in enumerate(row)] for row in cells]
    return [_padded(line, names, widths, right) for line in (names, *fitted)]


def print_table(
    out: Console,
    headings: Sequence[str],
    rows: Sequence[Row],
    styles: Iterable[str],
    *,
    wide: bool = False,
) -> None:
    """Print a table. The headings are bold. ``styles`` holds the style of the second cell of each row.

    On a terminal, the table is shortened to its width, unless ``wide`` is set.
    """
    width = out.width if sys.stdout.isatty() and not wide else None
    first, *lines = layout(headings, rows, width, right={"COUNT"})
    out.print((GAP.join(first), "bold"))
    for style, (subject, second, *rest) in zip(styles, lines, strict=True):
        out.print(subject, GAP, (second, style), GAP, GAP.join(rest))


def rejected_text(counts: Mapping[str, int]) -> str:
    """Return the number of rejected images, and how many of them only cause warnings."""
    warned = f" ({counts['warned']} only warned about)" if counts["warned"] else ""
    return f"{counts['rejected']} rejected{warned}"


def objects_of(usages: Sequence[Usage]) -> Names:
    """Return each object once, even if several of its containers use the image.

    If the modes of the objects differ, each object has its mode.
    """
    mixed = len(modes_of(usages)) > 1
    names = (f"{_object_of(usage)}{f' ({usage.mode})' if mixed else ''}" for usage in usages)
    return Names(escape(name, MAX_CELL) for name in dict.fromkeys(names))


def modes_of(usages: Sequence[Usage]) -> Names:
    """Return each mode that applies to one of the objects once."""
    return Names(sorted({usage.mode.name for usage in usages if usage.mode is not None}))


def _object_of(usage: Usage) -> str:
    return f"{usage.cluster}: {_in_cluster(usage)}" if usage.cluster is not None else _in_cluster(usage)


def _in_cluster(usage: Usage) -> str:
    if not usage.kind:  # an image from a list (diff --images) has no object
        return f"{usage.namespace}, {usage.path}" if usage.namespace else usage.path
    return f"{usage.kind} {usage.namespace}/{usage.name}" if usage.namespace else f"{usage.kind} {usage.name}"


def _widths(headings: Sequence[str], rows: Sequence[Row]) -> list[int]:
    columns = zip(headings, *rows, strict=True)
    return [max(len(str(cell)) for cell in column) for column in columns]


def _shorter(cell: str | Names) -> str | Names:
    return _DIGEST.sub(r"@\1:\2...", cell) if isinstance(cell, str) else cell


def _fit(cell: str | Names, size: int, *, first: bool) -> str:
    text = str(cell)
    if len(text) <= size:
        return text
    if isinstance(cell, Names):
        return _some(cell, size)
    return _middle(text, size) if first else _start(text, size)


def _padded(
    line: Sequence[str], headings: Sequence[str], widths: Sequence[int], right: Collection[str]
) -> tuple[str, ...]:
    *cells, last = line
    pads = [str.rjust if heading in right else str.ljust for heading in headings]
    return (*(pad(cell, size) for pad, cell, size in zip(pads, cells, widths, strict=False)), last)


def _narrow(widths: list[int], available: int) -> None:
    """Shorten columns until all fit, the widest first, down to the minimum.

    The first column is the subject of the table, so it is shortened after the others.
    """
    widths[:] = [min(size, max(available, NARROWEST)) for size in widths]
    for first, smallest in ((1, SHORT), (0, SHORT), (0, NARROWEST)):
        while sum(widths) > available and max(widths[first:], default=0) > smallest:
            widths[widths.index(max(widths[first:]), first)] -= 1


def _start(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 3]}..."


def _middle(text: str, size: int) -> str:
    """Cut the middle, so that registry and tag remain."""
    head = (size - 3) // 2
    return f"{text[:head]}...{text[len(text) - (size - 3 - head) :]}"


def _some(names: Sequence[str], size: int) -> str:
    """Return the first names that fit, and the number of the others."""
    best = _start(names[0], size)
    text = ""
    for shown, name in enumerate(names, 1):
        text += f", {name}" if text else name
        candidate = f"{text}, +{len(names) - shown} more"
        if len(candidate) > size:
            break
        best = candidate
    return best
