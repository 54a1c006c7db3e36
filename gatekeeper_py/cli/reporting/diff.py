"""Report the effect of a policy change: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click

from gatekeeper_py.cli.inventory.changes import CHANGES, ImageChange, ImageChanges
from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.console import Console, console, counted, json_text, print_provenance
from gatekeeper_py.cli.reporting.images import write_images
from gatekeeper_py.cli.reporting.tables import (
    MAX_CELL,
    Row,
    modes_of,
    objects_of,
    print_table,
    rejected_text,
)
from gatekeeper_py.core.admission.explain import rule_as_json
from gatekeeper_py.core.compare.difference import Difference, GrantWitness, Witness
from gatekeeper_py.core.compare.documents import DocumentChanges, EntryChange, JsonEntry
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.instant import format_instant

STYLES: Final = {
    "approved": "bold green",
    "rejected": "bold red",
    "rewritten": "bold cyan",
    "less-required": "bold yellow",
    "more-required": "bold red",
    "granted": "bold yellow",
    "withdrawn": "bold cyan",
}

MARKS: Final = {"+": "green", "-": "red", "~": "yellow"}

ANSWERS: Final = {
    "approved": ("Some images become approved.", "No image becomes approved."),
    "rejected": ("Some images become rejected.", "No image becomes rejected."),
    "rewritten": ("Some images are rewritten differently.", "No image is rewritten differently."),
    "less-required": ("Some images get weaker requirements.", "No image gets weaker requirements."),
    "more-required": ("Some images get stricter requirements.", "No image gets stricter requirements."),
    "granted": ("Exceptions could approve more images.", "No exception could approve more images."),
    "withdrawn": ("Exceptions could approve fewer images.", "No exception could approve fewer images."),
}
"""The answers of ``--all-images`` for each change: if it happens to some images, and if to none."""

MAX_RULES: Final = 50
"""Maximum number of changed entries of the document in the table. JSON has all of them."""

_NAMES: Final = {
    "allow": "image",
    "deny": "image",
    "mirrors": "from",
    "registries": "host",
    "require": "images",
    "resources": "kind",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffPage:
    """The content of a report besides the changes. ``wide`` is whether a table may exceed the terminal."""

    meta: Provenance
    instant: datetime
    wide: bool = False


def write_changes(documents: DocumentChanges, changes: ImageChanges, page: DiffPage) -> None:
    """Write the effect of a change on the images that run as JSON."""
    before = {"meta": page.meta.as_json(), "rules": documents.as_json()}
    write_images(before, _rows(changes), {"counts": changes.counts})


def print_changes(documents: DocumentChanges, changes: ImageChanges, page: DiffPage) -> None:
    """Print the effect of a change on the images that run."""
    out = console()
    _print_documents(out, documents)
    listed = list(changes.listed())
    cells: list[Row] = [
        (
            escape(change.after.image, MAX_CELL) or "(none)",
            change.change,
            modes_of(usages),
            str(len(usages)),
            escape(_detail(change), MAX_CELL),
            objects_of(usages),
        )
        for change, usages in listed
    ]
    if cells:
        styles = [STYLES[change.change] for change, _ in listed]
        headings = ("IMAGE", "CHANGE", "MODE", "COUNT", "DETAIL", "WHERE")
        print_table(out, headings, cells, styles, wide=page.wide)
    print_provenance(out, page.meta)
    counts = changes.counts
    others = [f"{counts[name]} {name}" for name in ("approved", "rewritten", "unchanged")]
    objects = f"{counted(changes.objects, 'object')}, " if changes.objects else ""
    images = counted(sum(counts[name] for name in (*CHANGES, "unchanged")), "image")
    for sentence in mode_notes(counts):
        out.print((sentence, STYLES["rejected"]))
    out.print(f"{objects}{images}: {', '.join((rejected_text(counts), *others))}")


def mode_notes(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield what another mode does to images that both policies reject, because their verdict is the same."""
    if counts["newlyRefused"]:
        images = counted(counts["newlyRefused"], "image")
        yield f"The mode changes: NEW refuses {images} in places where OLD only warns."
    if counts["newlyWarned"]:
        images = counted(counts["newlyWarned"], "image")
        yield f"The mode changes: NEW only warns about {images} in places where OLD refuses."


def write_difference(documents: DocumentChanges, difference: Difference, page: DiffPage) -> None:
    """Write the effect of a change on every possible image as JSON."""
    answer = {
        "meta": page.meta.as_json(),
        "rules": documents.as_json(),
        "widens": difference.widens,
        "narrows": difference.narrows,
        "rewrites": difference.rewrites,
        "witnesses": [_witness(witness) for witness in difference.witnesses],
        "grants": {
            "widens": difference.grants.widens,
            "narrows": difference.grants.narrows,
            "witnesses": [_grant_witness(witness) for witness in difference.grants.witnesses],
        },
    }
    click.echo(json_text(answer))


def print_difference(documents: DocumentChanges, difference: Difference, page: DiffPage) -> None:
    """Print the effect of a change on every possible image."""
    out = console()
    _print_documents(out, documents)
    cells: list[Row] = [
        (
            escape(witness.image, MAX_CELL),
            witness.change,
            witness.namespace if witness.namespace is not None else "(none)",
            *deciders(witness),
        )
        for witness in witnesses_of(difference)
    ]
    if cells:
        styles = [STYLES[witness.change] for witness in witnesses_of(difference)]
        headings = ("EXAMPLE", "CHANGE", "NAMESPACE", "OLD RULE", "NEW RULE")
        print_table(out, headings, cells, styles, wide=page.wide)
    print_provenance(out, page.meta)
    for change, sentence in answers_of(difference):
        out.print((sentence, STYLES[change]) if change else sentence)
    if difference.next_change is not None:
        out.print(expiry_note(difference.next_change))


def witnesses_of(difference: Difference) -> tuple[Witness | GrantWitness, ...]:
    """Return all examples: those of rules before those of grants."""
    return (*difference.witnesses, *difference.grants.witnesses)


def answers_of(difference: Difference) -> Iterator[tuple[str, str]]:
    """Yield the answers that concern the policies.

    Each answer follows the change that happens, or ``""`` if it does not happen.
    """
    grants = difference.grants
    happened: set[str] = {*difference.changes}
    happened |= {name for name, holds in (("granted", grants.widens), ("withdrawn", grants.narrows)) if holds}
    left_out: tuple[str, ...] = () if difference.requires else ("less-required", "more-required")
    left_out += () if grants.exist else ("granted", "withdrawn")
    for change, (some, none) in ANSWERS.items():
        if change not in left_out:
            yield (change, some) if change in happened else ("", none)


def expiry_note(instant: datetime) -> str:
    """Return the note about the first instant at which the answers for all images may change."""
    return (
        f"These answers hold until {format_instant(instant)}, when a rule, a key or an override of a mode"
        " expires. For a later time, use --at."
    )


def _rows(changes: ImageChanges) -> Iterator[tuple[Mapping[str, Any], Sequence[Usage]]]:
    return ((change.as_json(), usages) for change, usages in changes.listed())


def _detail(change: ImageChange) -> str:
    """Return the detail without the image's name, which has its own column."""
    if change.change == "rewritten":
        return f"-> {change.detail}"
    # The text is "NAME matches RULE" or "NAME is denied by RULE". A name contains no spaces.
    for verb in ("matches ", "is denied by "):
        before, found, rest = change.detail.partition(f" {verb}")
        if found and " " not in before:
            return f"{verb.removeprefix('is ')}{rest}"
    return change.detail


def _witness(witness: Witness) -> dict[str, Any]:
    return {**witness._asdict(), "old": rule_as_json(witness.old), "new": rule_as_json(witness.new)}


def _grant_witness(witness: GrantWitness) -> dict[str, Any]:
    old, new = (
        None if grant is None else {"index": grant.index, "source": grant.source}
        for grant in (witness.old, witness.new)
    )
    return {**witness._asdict(), "old": old, "new": new}


def deciders(witness: Witness | GrantWitness) -> tuple[str, str]:
    """Return the rules or requirements that decided, or the grants that cover the image."""
    none = "no grant" if isinstance(witness, GrantWitness) else "no rule"
    old, new = (none if each is None else escape(str(each), MAX_CELL) for each in (witness.old, witness.new))
    return old, new


def _print_documents(out: Console, documents: DocumentChanges) -> None:
    """Print the edited entries, one in each line."""
    lines = document_lines(documents)
    for mark, text in lines[:MAX_RULES]:
        out.print((mark, f"bold {MARKS[mark]}"), f" {escape(text, MAX_CELL)}")
    if len(lines) > MAX_RULES:
        out.print(f"... and {len(lines) - MAX_RULES} more; --format json shows all of them")
    if lines:
        out.print()


def document_lines(documents: DocumentChanges) -> list[tuple[str, str]]:
    """Return the edited entries as pairs of a mark (``+``, ``-`` or ``~``) and a line of text."""
    return [
        *(("+", _named(entry)) for entry in documents.added),
        *(("-", _named(entry)) for entry in documents.removed),
        *(("~", _changed(change)) for change in documents.changed),
    ]


def _named(entry: JsonEntry) -> str:
    """Return an entry's name, followed by its other fields."""
    kind = str(entry["list"])
    name = _NAMES.get(kind, "")
    place = f"{kind}[{entry['index']}]" if "index" in entry else kind
    title = f"{place} {entry[name]}" if name else place
    more = _fields({key: value for key, value in entry.items() if key not in {"list", "index", name}})
    return f"{title} ({more})" if more else title


def _changed(change: EntryChange) -> str:
    if isinstance(change.old, str) and isinstance(change.new, str):
        return f"{change.list}: {change.old or '(none)'} -> {change.new or '(none)'}"
    old, new = (value if isinstance(value, dict) else {} for value in (change.old, change.new))
    if not new:
        return f"removed: {_named(old)}"
    if not old:
        return f"added: {_named(new)}"
    fields = dict.fromkeys((*old, *new))
    differing = [key for key in fields if key not in {"index", "image"} and old.get(key) != new.get(key)]
    if not differing:
        return f"moved: {change.list}[{old.get('index')}] -> {_named(new)}"
    was, becomes = (_fields({key: entry.get(key) for key in differing}) for entry in (old, new))
    name = _NAMES.get(change.list, "names")
    place = f"{change.list}[{new['index']}]" if "index" in new else change.list
    return f"{place} {_shown(new.get(name))}: {was} -> {becomes}"


def _fields(entry: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {_shown(value)}" for key, value in entry.items())


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return "(none)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
