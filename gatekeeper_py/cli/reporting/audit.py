"""Audit reports: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from unicodedata import normalize

import click

from gatekeeper_py.cli.inventory.tally import Tallied, Tally, Usage, only_warned
from gatekeeper_py.cli.reporting.auditpage import AuditPage, audit_page
from gatekeeper_py.cli.reporting.console import Console, console, counted, print_provenance
from gatekeeper_py.cli.reporting.images import write_image_lines, write_images
from gatekeeper_py.cli.reporting.pageparts import write_page
from gatekeeper_py.cli.reporting.tables import (
    MAX_CELL,
    Row,
    modes_of,
    objects_of,
    print_table,
    rejected_text,
)
from gatekeeper_py.core.images.reference import escape, printable
from gatekeeper_py.core.policy.instant import format_instant

HEADINGS: Final = ("IMAGE", "REASON", "MODE", "COUNT", "DETAIL", "WHERE")
EXCEPTED: Final = ("APPROVED BY AN EXCEPTION", "UNTIL", "OWNER", "COUNT", "REASON", "WHERE")
CSV_FIELDS: Final = (
    "image", "canonical", "verdict", "reason", "detail", "kind", "namespace", "name", "path", "mode",
    "cluster", "policy", "revision", "time", "version", "until", "owner", "exception_reason",
    "signed_by", "signature_form", "unmet",
)  # fmt: skip
_FORMULA: Final = frozenset("=+-@\u2212")
STYLES: Final = {
    "approved": "bold green",
    "rejected": "bold red",
    "warned": "bold yellow",
    "exempt": "bold blue",
}


def _write_json(tally: Tally, page: AuditPage) -> None:
    write_images({"meta": page.meta.as_json(), "counts": tally.counts}, _rows(tally), {})


def _write_lines(tally: Tally, page: AuditPage) -> None:
    write_image_lines({"meta": page.meta.as_json(), "counts": tally.counts}, _rows(tally))


def table_cells(image: Tallied, usages: Sequence[Usage]) -> Row:
    """Return the cells of an image. Leave out what only repeats the image."""
    return (
        escape(image.verdict.image, MAX_CELL) or "(none)",
        "exempt" if image.exempt else image.reason,
        modes_of(usages),
        str(len(usages)),
        escape(image.note, MAX_CELL),
        objects_of(usages),
    )


def _rows(tally: Tally) -> Iterator[tuple[Mapping[str, Any], Sequence[Usage]]]:
    return ((image.as_json(), usages) for image, usages in tally.listed())


def _print_table(tally: Tally, page: AuditPage) -> None:
    out = console()
    listed = list(tally.listed())
    rows = [row for row in listed if not row[0].runs_by_exception]
    if rows:
        cells = [table_cells(*row) for row in rows]
        styles = [STYLES[_style(*row)] for row in rows]
        print_table(out, HEADINGS, cells, styles, wide=page.wide)
    _print_excepted(out, listed, wide=page.wide)
    print_provenance(out, page.meta)
    counts = tally.counts
    totals = f"{counted(counts['objects'], 'object')}, {counted(counts['images'], 'image')}: "
    exempt = f", {counts['exempt']} exempt" if counts["exempt"] else ""
    notes = {"by exceptions": counts["excepted"], "with unmet requirements": counts["unmet"]}
    noted = ", ".join(f"{count} {what}" for what, count in notes.items() if count)
    approved = f"{counts['approved']} approved" + (f" ({noted})" if noted else "")
    out.print(f"{totals}{rejected_text(counts)}, {approved}{exempt}")


def _style(image: Tallied, usages: Sequence[Usage]) -> str:
    is_warned = image.unmet or (image.in_words == "rejected" and only_warned(usages))
    return "warned" if is_warned else image.in_words


def _print_excepted(out: Console, listed: Sequence[tuple[Tallied, list[Usage]]], *, wide: bool) -> None:
    """Print the images that only exceptions approve, the next end first."""
    rows = [
        (
            escape(image.verdict.image, MAX_CELL),
            format_instant(exception.until),
            escape(exception.by, MAX_CELL),
            str(len(usages)),
            escape(exception.reason, MAX_CELL),
            objects_of(usages),
        )
        for image, usages in listed
        if image.runs_by_exception and (exception := image.verdict.decision.exception) is not None
    ]
    if rows:
        rows.sort(key=lambda row: (row[1], row[0]))
        print_table(out, EXCEPTED, rows, [STYLES["warned"]] * len(rows), wide=wide)


def _write_csv(tally: Tally, page: AuditPage) -> None:
    meta = page.meta
    origins = {each.cluster: each.properties() for each in (meta, *meta.audits)}
    click.echo(",".join(CSV_FIELDS))
    for image, usages in tally.listed():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        fields = image.as_json()
        decided = [fields[key] for key in CSV_FIELDS[:5]]
        found, signed = image.verdict.decision.exception, image.verdict.signatures
        exception = ("", "", "") if found is None else (format_instant(found.until), found.by, found.reason)
        signature = (" ".join(each.by for each in signed), " ".join(each.form for each in signed))
        unmet = "; ".join(each.detail for each in image.unmet)
        for usage in usages:
            # Only in a merged report, each use has a cluster.
            origin = origins[usage.cluster if usage.cluster is not None else meta.cluster]
            mode = None if usage.mode is None else usage.mode.name
            place = (usage.kind, usage.namespace, usage.name, usage.path, mode)
            made = (origin[key] for key in CSV_FIELDS[10:15])
            cells = (*decided, *place, *made, *exception, *signature, unmet)
            writer.writerow(map(_cell, cells))
        # Bytes, because an image may hold characters that the terminal's encoding lacks.
        click.echo(text.getvalue().encode(), nl=False)


def _cell(value: str | None) -> str | None:
    """Escape a text, and quote it if a spreadsheet would run it as a formula: users choose most texts.

    Spreadsheets skip spaces, and read some characters, such as full-width ones, as ASCII. No valid image and
    no name in Kubernetes begins with one of them.
    """
    if value is None:
        return None
    text = printable(value)
    first = normalize("NFKC", text.lstrip(" ")[:1])[:1]
    return f"'{text}" if first in _FORMULA else text


class AuditFormat(NamedTuple):
    """How a format is written to stdout: image by image, so that a long report needs little memory.

    ``counts_approved`` is whether it needs the uses of approved images, and ``shows_warnings`` whether it
    shows the warnings itself.
    """

    write: Callable[[Tally, AuditPage], None]
    counts_approved: bool = False
    shows_warnings: bool = False


FORMATS: Final[Mapping[str, AuditFormat]] = {
    "table": AuditFormat(_print_table, shows_warnings=True),
    "json": AuditFormat(_write_json),
    "jsonl": AuditFormat(_write_lines),
    "csv": AuditFormat(_write_csv),
    "html": AuditFormat(lambda tally, page: write_page(audit_page(tally, page)), counts_approved=True),
}
