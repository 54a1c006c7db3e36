"""Exceptions that can be deleted: find them in an audit, and report them as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.inventory.tally import Tally
from gatekeeper_py.cli.reporting.console import TEXT_OR_JSON, console, counted, print_provenance
from gatekeeper_py.cli.reporting.tables import MAX_CELL, print_table
from gatekeeper_py.core.exceptions.document import ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.exceptions import approving_rule
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.policy import CompiledPolicy

HEADINGS: Final = ("CONFIGMAP", "WHY", "LINE", "ENTRY", "IMAGE", "UNTIL", "OWNER", "REASON")

Why = Literal["unused", "approved", "expired"]

WHY: Final[dict[Why, str]] = {
    "unused": "no object needs it",
    "approved": "the policy approves its images anyway",
    "expired": "it has expired",
}


class UnusedException(NamedTuple):
    """One entry, and why it can be deleted."""

    key: DocumentKey
    entry: ExceptionEntry
    why: Why


def unused_exceptions(policy: CompiledPolicy, tally: Tally) -> Iterator[UnusedException]:
    """Yield the entries of the policy's exceptions that no running image needs.

    ``tally`` is an audit of the whole cluster with these exceptions. If several entries match the same name
    of an image, the image needs only the entry that ends last.
    """
    needed = {
        (found.source, found.namespace, found.index)
        for image, _ in tally.listed()
        if image.runs_by_exception and (first := image.verdict.decision.exception) is not None
        for found in (first, *first.also)
    }
    scan = Scan()
    for key, entry, state in policy.exceptions.states(policy.grants, policy.instant):
        if state == "expired":
            yield UnusedException(key, entry, "expired")
        elif state == "live" and (*key, entry.index) not in needed:
            rule = approving_rule(policy, key, entry, scan)
            yield UnusedException(key, entry, "unused" if rule is None else "approved")


FORMATS: Final = {"table": TEXT_OR_JSON["text"], "json": TEXT_OR_JSON["json"]}


def write_unused(unused: Sequence[UnusedException], meta: Provenance, style: str, *, wide: bool) -> None:
    """Write the entries in one of the formats. A line is one of the document in the ConfigMap."""
    FORMATS[style](
        lambda: _print_table(unused, meta, wide=wide),
        lambda: {"meta": meta.as_json(), "unused": [_as_json(each) for each in unused]},
    )


def _print_table(unused: Sequence[UnusedException], meta: Provenance, *, wide: bool) -> None:
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
