"""Build the HTML page about a policy change: its effect on images that run, or on every possible image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gatekeeper_py.cli.inventory.changes import CHANGES, ImageChange, ImageChanges
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.console import counted
from gatekeeper_py.cli.reporting.diff import (
    DiffPage,
    answers_of,
    deciders,
    document_lines,
    expiry_note,
    mode_notes,
    witnesses_of,
)
from gatekeeper_py.cli.reporting.pageparts import (
    Kind,
    Shares,
    audits_table,
    filtered_images,
    namespace_of,
    page_lead,
)
from gatekeeper_py.core.compare.difference import Change, Difference
from gatekeeper_py.core.compare.documents import DocumentChanges
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.http.page.charts import Part, legend, share_bar
from gatekeeper_py.http.page.document import Html, Section, document, figures, join, table, tag, text

STYLES: Final[dict[Change, str]] = {"rejected": "bad", "approved": "good", "rewritten": "change"}
KINDS: Final = tuple(Kind(name, STYLES[name]) for name in CHANGES)
BADGES: Final[dict[str, str]] = {
    **{name: STYLES[name] for name in CHANGES},
    "less-required": "change",
    "more-required": "bad",
    "granted": "change",
    "withdrawn": "change",
}
HEADINGS: Final[dict[Change, str]] = {
    "rejected": "Images that become rejected",
    "approved": "Images that become approved",
    "rewritten": "Images that are rewritten differently",
}
LABELS: Final = {"+": ("added", "good"), "-": ("removed", "bad"), "~": ("changed", "change")}

MAX_ENTRIES: Final = 1000
"""Maximum number of edited entries of the document. The JSON output has all of them."""


def changes_page(documents: DocumentChanges, changes: ImageChanges, page: DiffPage) -> str:
    """Return the page about the images that run."""
    counts = changes.counts
    rows = list(changes.listed())
    changed = [Part(name, counts[name], STYLES[name]) for name in CHANGES]
    parts = [*changed, Part("unchanged", counts["unchanged"], "mute")]
    total = sum(part.amount for part in parts)
    spoken = ", ".join(f"{part.amount} {part.name}" for part in parts)
    notes = list(mode_notes(counts))
    verdict = (
        f"The change affects {counted(sum(part.amount for part in changed), 'image')} of {total:,}."
        if any(part.amount for part in changed)
        else "The change affects no image that runs."
        if not notes
        else "No image becomes approved or rejected, but the mode changes."
    )
    if counts["warned"]:
        refused = counts["rejected"] - counts["warned"]
        verdict += f" Rejected: {refused:,} refused, and {counts['warned']:,} only warned about."
    style = "change" if counts["warned"] or notes else "good"
    if counts["rejected"] > counts["warned"] or counts["newlyRefused"]:
        style = "bad"
    summary = join(
        (
            tag("p", verdict, class_=f"verdict {style}"),
            *(tag("p", sentence, class_="note") for sentence in notes),
            figures(
                (f"{part.amount:,}", f"become {part.name}", part.style if part.amount else "")
                if part.name != "rewritten"
                else (f"{part.amount:,}", "rewritten differently", part.style if part.amount else "")
                for part in changed
            ),
            tag("div", share_bar(parts, total, label=f"Images: {spoken}"), legend(parts), class_="big"),
        )
    )
    sections = [
        Section("summary", "Summary", summary),
        _edited(documents),
        Section("where", "Where", _where(rows)),
        *(_changed(name, rows) for name in CHANGES),
    ]
    return _document(sections, page)


def difference_page(documents: DocumentChanges, difference: Difference, page: DiffPage) -> str:
    """Return the page about every possible image."""
    answers = (_answer(answer, BADGES.get(change, "")) for change, answer in answers_of(difference))
    note = "These answers hold for every possible image, in every namespace."
    parts = [tag("p", note), tag("ul", *answers, class_="answers")]
    if difference.next_change is not None:
        parts.append(tag("p", expiry_note(difference.next_change), class_="note"))
    summary = join(parts)
    rows = [
        (
            tag("code", text(witness.image)),
            tag("span", witness.change, class_=f"badge {BADGES[witness.change]}"),
            "(none)" if witness.namespace is None else text(witness.namespace),
            *(tag("code", text(decider)) for decider in deciders(witness)),
        )
        for witness in witnesses_of(difference)
    ]
    headings = ("Image", "Change", "Namespace", "Old rule", "New rule")
    examples = table(headings, rows, caption="Examples of images that change") if rows else tag("p", "None.")
    sections = [
        Section("summary", "Summary", summary),
        _edited(documents),
        Section("examples", "Examples", examples),
    ]
    return _document(sections, page)


def _answer(sentence: str, style: str) -> Html:
    return tag("li", tag("span", sentence, class_=f"badge {style}".strip()))


def _document(sections: Sequence[Section], page: DiffPage) -> str:
    scope = f"Both policies as of {format_instant(page.instant)}"
    lead = page_lead(scope, page.meta)
    if page.meta.audits:
        sections = (*sections, Section("audits", "Saved audit", audits_table(page.meta.audits)))
    return document(title="Policy change", lead=lead, sections=sections, footer=tag("p", f"{scope}."))


def _edited(documents: DocumentChanges) -> Section:
    lines = document_lines(documents)
    items = (
        tag(
            "li",
            tag("span", LABELS[mark][0], class_=f"badge {LABELS[mark][1]}"),
            " ",
            tag("code", text(line)),
        )
        for mark, line in lines[:MAX_ENTRIES]
    )
    body = tag("ul", *items, class_="list plain") if lines else tag("p", "The documents are identical.")
    if len(lines) > MAX_ENTRIES:
        body = join((body, tag("p", f"{len(lines) - MAX_ENTRIES:,} more are not shown.", class_="note")))
    return Section("edited", "What was edited", body, "Edited")


def _where(rows: Sequence[tuple[ImageChange, Sequence[Usage]]]) -> Html:
    namespaces, reasons = Shares(KINDS), Shares(KINDS)
    for change, usages in rows:
        reasons.add(change.after.decision.reason, change.change, len(usages))
        for usage in usages:
            namespaces.add(namespace_of(usage), change.change, 1)
    return tag(
        "div",
        tag("div", tag("h3", "By namespace"), namespaces.table("namespace")),
        tag("div", tag("h3", "By the new policy's reason"), reasons.table("reason")),
        class_="pair",
    )


def _changed(name: Change, rows: Sequence[tuple[ImageChange, Sequence[Usage]]]) -> Section:
    shown = [
        (change.after.image, f"becomes {change.detail}" if name == "rewritten" else change.detail, usages)
        for change, usages in rows
        if change.change == name
    ]
    return Section(name, HEADINGS[name], filtered_images(shown), name.capitalize())
