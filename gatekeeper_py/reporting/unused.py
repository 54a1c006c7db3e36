"""Reports about exceptions that can be deleted: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.inventory.provenance import Provenance
from gatekeeper_py.inventory.unused import WHY, UnusedException
from gatekeeper_py.reporting.console import console, counted, json_text, print_provenance
from gatekeeper_py.reporting.tables import MAX_CELL, print_table

HEADINGS: Final = ("CONFIGMAP", "WHY", "LINE", "ENTRY", "IMAGE", "UNTIL", "OWNER", "REASON")


def write_unused(unused: Sequence[UnusedException], meta: Provenance, *, as_json: bool, wide: bool) -> None:
    """Write the entries. A line is one of the document in the ConfigMap."""
    if as_json:
        click.echo(json_text({"meta": meta.as_json(), "unused": [_as_json(each) for each in unused]}))
        return
    out = console()
    if unused:
        cells = [
            (
                each.key.configmap,
                WHY[each.why],
                str(each.entry.line),
                f"exceptions[{each.entry.index}]",
                escape(each.entry.pattern.text, MAX_CELL),
                format_instant(each.entry.until),
                escape(each.entry.owner or "", MAX_CELL),
                escape(each.entry.reason, MAX_CELL),
            )
            for each in unused
        ]
        print_table(out, HEADINGS, cells, ["bold yellow"] * len(cells), wide=wide)
    print_provenance(out, meta)
    out.print(f"{counted(len(unused), 'exception')} can be deleted")


def _as_json(each: UnusedException) -> dict[str, object]:
    return {
        "configmap": each.key.configmap,
        "source": each.key.source,
        "why": each.why,
        "index": each.entry.index,
        "line": each.entry.line,
        "image": each.entry.pattern.text,
        "until": format_instant(each.entry.until),
        "owner": each.entry.owner,
        "reason": each.entry.reason,
    }
