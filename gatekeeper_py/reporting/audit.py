"""Audit reports: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final, Literal

import click
from rich.text import Text

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.inventory.tally import JudgedImage, Tally, Usage
from gatekeeper_py.reporting.console import console, counted

FORMATS: Final = ("table", "json", "csv")
HEADINGS: Final = ("IMAGE", "REASON", "COUNT", "DETAIL", "WHERE")
COUNT: Final = HEADINGS.index("COUNT")
DETAIL: Final = HEADINGS.index("DETAIL")
CSV_FIELDS: Final = ("image", "canonical", "verdict", "reason", "detail", "kind", "namespace", "name", "path")
STYLES: Final = {"approved": "bold green", "rejected": "bold red", "exempt": "bold blue"}
GAP: Final = "  "
CLOSING: Final = "\n    }"
NARROWEST: Final = 12
"""Columns are never narrower; on a terminal without enough room, lines wrap."""

MAX_CELL: Final = 5000
"""Longer than any valid reference; an invalid one may be megabytes long."""


def write_report(tally: Tally, style: Literal["table", "json", "csv"]) -> None:
    """Write a report to stdout, image by image, so that a long one needs little memory."""
    if style == "json":
        _write_json(tally)
    elif style == "csv":
        _write_csv(tally)
    else:
        _print_table(tally, console().width if sys.stdout.isatty() else None)


def table(rows: Sequence[tuple[JudgedImage, Sequence[Usage]]], width: int | None) -> list[tuple[str, ...]]:
    """Return the cells of each line, headings first; with a width, shortened so that lines fit.

    The widest columns are shortened first. Cells are padded, except for the last one, which is the longest.
    For unlisted and allowed images the detail only repeats the image, so it is left out.
    """
    lines = [HEADINGS, *(_cells(image, usages) for image, usages in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if not any(line[DETAIL] for line in lines[1:]):
        lines = [(*line[:DETAIL], *line[DETAIL + 1 :]) for line in lines]
        del widths[DETAIL]
    if width is not None:
        _narrow(widths, width - len(GAP) * (len(widths) - 1))
        lines[1:] = [_cut(line, widths, usages) for line, (_, usages) in zip(lines[1:], rows, strict=True)]
    return [_padded(line, widths) for line in lines]


def _print_table(tally: Tally, width: int | None) -> None:
    out = console()
    rows = list(tally.listed())
    if rows:
        headings, *lines = table(rows, width)
        out.print(Text(GAP.join(headings), "bold"))
        for (image, _), (first, reason, *rest) in zip(rows, lines, strict=True):
            style = STYLES[image.verdict]
            out.print(Text.assemble(first, GAP, (reason, style), GAP, GAP.join(rest)))
    counts = tally.counts
    totals = f"{counted(counts['objects'], 'object')}, {counted(counts['images'], 'image')}: "
    exempt = f", {counts['exempt']} exempt" if counts["exempt"] else ""
    out.print(f"{totals}{counts['rejected']} rejected, {counts['approved']} approved{exempt}")


def _cells(image: JudgedImage, usages: Sequence[Usage]) -> tuple[str, ...]:
    return (
        escape(image.image, MAX_CELL) or "(none)",
        "exempt" if image.verdict == "exempt" else image.reason,
        str(len(usages)),
        escape(image.detail, MAX_CELL) if image.reason in {"denied", "invalid"} else "",
        ", ".join(_objects(usages)),
    )


def _cut(line: tuple[str, ...], widths: Sequence[int], usages: Sequence[Usage]) -> tuple[str, ...]:
    image, *between, where = line
    if len(where) > widths[-1]:
        where = _some(_objects(usages), widths[-1])
    shortened = (_start(cell, size) for cell, size in zip(between, widths[1:-1], strict=True))
    return (_middle(image, widths[0]), *shortened, where)


def _padded(line: tuple[str, ...], widths: Sequence[int]) -> tuple[str, ...]:
    *cells, last = line
    pads = (str.rjust if index == COUNT else str.ljust for index in range(len(cells)))
    return (*(pad(cell, size) for pad, cell, size in zip(pads, cells, widths, strict=False)), last)


def _objects(usages: Sequence[Usage]) -> list[str]:
    """Return each object once, even if several of its containers use the image."""
    names = (
        f"{usage.kind} {usage.namespace}/{usage.name}" if usage.namespace else f"{usage.kind} {usage.name}"
        for usage in usages
    )
    return [escape(name, MAX_CELL) for name in dict.fromkeys(names)]


def _narrow(widths: list[int], available: int) -> None:
    """Shorten the widest columns until all fit, down to the minimum."""
    widths[:] = [min(size, max(available, NARROWEST)) for size in widths]
    while sum(widths) > available and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1


def _start(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 3]}..."


def _middle(text: str, size: int) -> str:
    """Cut the middle, so that registry and tag remain."""
    if len(text) <= size:
        return text
    head = (size - 3) // 2
    return f"{text[:head]}...{text[len(text) - (size - 3 - head) :]}"


def _some(names: Sequence[str], size: int) -> str:
    """Return the first names that fit, and how many more there are."""
    best = _start(names[0], size)
    text = ""
    for shown, name in enumerate(names, 1):
        text += f", {name}" if text else name
        candidate = f"{text}, +{len(names) - shown} more"
        if len(candidate) > size:
            break
        best = candidate
    return best


def _write_json(tally: Tally) -> None:
    """Write like ``json.dumps``, but one object at a time: an image may run in 50,000 of them."""
    out = sys.stdout
    out.write(f'{{\n  "counts": {_indented(tally.counts, 2).lstrip()},\n  "images": [')
    separator = "\n"
    for image, usages in tally.listed():
        whole = _indented({**image._asdict(), "count": len(usages), "objects": []}, 4)
        out.write(f"{separator}{whole.removesuffix('[]' + CLOSING)}[")
        for index, usage in enumerate(usages):
            out.write(f"{',' if index else ''}\n{_indented(usage._asdict(), 8)}")
        separator = ",\n"
        out.write(f"\n      ]{CLOSING}")
    out.write("]\n}\n" if separator == "\n" else "\n  ]\n}\n")


def _indented(value: Any, spaces: int) -> str:
    return textwrap.indent(json.dumps(value, indent=2), " " * spaces)


def _write_csv(tally: Tally) -> None:
    click.echo(",".join(CSV_FIELDS))
    for image, usages in tally.listed():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        decided = (_inert(image.image), image.canonical, image.verdict, image.reason, image.detail)
        writer.writerows((*decided, *usage) for usage in usages)
        # Bytes, because an image may hold characters that the terminal's encoding lacks.
        click.echo(text.getvalue().encode(), nl=False)


def _inert(image: str) -> str:
    """Quote an image that a spreadsheet would run as a formula, since users choose the text of images.

    No image that can be pulled begins with these characters.
    """
    return f"'{image}" if image.startswith(("=", "+", "-", "@", "\t", "\r")) else image
