"""Parts that the pages of ``audit`` and ``diff`` share: breakdowns by name, and lists of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import click

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.console import counted
from gatekeeper_py.http.page.charts import Part, share_bar
from gatekeeper_py.http.page.document import Html, filtered, join, table, tag, text

SHOWN: Final = 12
"""Maximum number of rows that a breakdown shows before it folds the rest."""

MAX_SINGLE: Final = 1000
"""Maximum number of images with a single use that are listed one by one, each with the kind and field of its
use. More of them are grouped by kind and field."""

MAX_OBJECT: Final = 320
"""Maximum number of characters of ``NAMESPACE/NAME``."""

CLUSTER: Final = "(cluster-scoped)"
INVALID: Final = "(invalid)"


class Kind(NamedTuple):
    """One kind of count in a breakdown, and the style of its bar."""

    name: str
    style: str


class Shares:
    """Counts by name and kind. Names are untrusted text."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = kinds
        self._counts: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def add(self, name: str, kind: str, count: int) -> None:
        counts = self._counts[name]
        counts[kind] = counts.get(kind, 0) + count

    def __bool__(self) -> bool:
        return bool(self._counts)

    def table(self, noun: str) -> Html:
        """Return a table with a bar for each name, sorted by the count of the first kind, largest first."""
        ordered = sorted(self._counts.items(), key=self._order)
        most = max((sum(counts.values()) for counts in self._counts.values()), default=0)
        used = [kind for kind in self._kinds if any(kind.name in counts for counts in self._counts.values())]
        rows = [self._row(name, counts, used, most) for name, counts in ordered]
        if not rows:
            return tag("p", "None.")
        headings = (noun.capitalize(), *(kind.name.capitalize() for kind in used))
        numbers = range(1, len(headings))
        first = table(headings, rows[:SHOWN], caption=f"Places by {noun}", numbers=numbers)
        if len(rows) <= SHOWN:
            return first
        rest = table(headings, rows[SHOWN:], caption=f"More places by {noun}", numbers=numbers)
        more = tag("details", tag("summary", f"{len(rows) - SHOWN:,} more"), rest, class_="more")
        return join((first, more))

    def _order(self, item: tuple[str, Mapping[str, int]]) -> tuple[object, ...]:
        name, counts = item
        return (*(-counts.get(kind.name, 0) for kind in self._kinds), name)

    def _row(
        self, name: str, counts: Mapping[str, int], used: Sequence[Kind], most: int
    ) -> tuple[str | Html, ...]:
        parts = [Part(kind.name, counts.get(kind.name, 0), kind.style) for kind in used]
        return (named_bar(tag("code", text(name)), parts, most), *(f"{part.amount:,}" for part in parts))


def write_page(page: str) -> None:
    """Write a page to stdout as UTF-8, regardless of the terminal's encoding."""
    click.echo(page.encode(), nl=False)


def page_lead(scope: str, meta: Provenance) -> Html:
    """Return the lines below the title: the subject of the page, and where it comes from."""
    lines = (tag("p", text(each), class_="lead") for each in (scope, str(meta)))
    warnings = (tag("p", text(warning), class_="note") for warning in meta.warnings)
    return join((*lines, *warnings))


def audits_table(audits: Iterable[Provenance]) -> Html:
    """Return the saved audits from which the page was made."""
    keys = ("cluster", "time", "policy", "revision", "version")
    rows = ([text(each.properties()[key]) for key in keys] for each in audits)
    return table([key.capitalize() for key in keys], rows, caption="Audits")


def named_bar(name: Html, parts: Sequence[Part], whole: int) -> Html:
    """Return a name with its bar below it."""
    return join((name, share_bar(parts, whole)))


def registry_of(canonical: str | None) -> str:
    """Return the registry of an image's canonical name; ``INVALID`` for an invalid image."""
    return INVALID if canonical is None else canonical.partition("/")[0]


def namespace_of(usage: Usage) -> str:
    """Return the namespace for a breakdown, with the cluster if the page covers several."""
    name = usage.namespace or CLUSTER
    return name if usage.cluster is None else f"{usage.cluster}: {name}"


ImageRow = tuple[str, str, Sequence[Usage]]
"""An image, a detail, which may be empty, and the uses of the image."""


def filtered_images(rows: Iterable[ImageRow]) -> Html:
    """Return a list of images with a field that filters it, or a text if there are none."""
    shown = list(rows)
    return filtered(image_list(shown), noun="images") if shown else tag("p", "None.")


def image_list(rows: Iterable[ImageRow]) -> Html:
    """Return a list of images, each with a detail, which may be empty, and its uses.

    If more than ``MAX_SINGLE`` images have a single use, these images are grouped by kind, field and mode.
    """
    shown = list(rows)
    single = [row for row in shown if len(row[2]) == 1]
    if len(single) <= MAX_SINGLE:
        return tag("ul", *(_image(*row) for row in shown), class_="list")
    several = [_image(*row) for row in shown if len(row[2]) > 1]
    parts = [tag("ul", *several, class_="list")] if several else []
    for group, found in groupby(sorted(single, key=_group_of_row), _group_of_row):
        names = (_single(image, detail, _object(usages[0])) for image, detail, usages in found)
        parts += (tag("h4", _field(group, ())), tag("ul", *names, class_="list"))
    return join(parts)


_Group = tuple[str, str, str, str]
"""Cluster, kind, path and mode. Uses of an image with the same group share one line."""


def _group(usage: Usage) -> _Group:
    return usage.cluster or "", usage.kind, usage.path, str(usage.mode or "")


def _group_of_row(row: tuple[str, str, Sequence[Usage]]) -> _Group:
    return _group(row[2][0])


def _image(image: str, detail: str, usages: Sequence[Usage]) -> Html:
    """Return one image. A page may have thousands of images, so the markup is as short as possible."""
    fields = [_field(*group) for group in _grouped(usages)]
    if len(usages) == 1:
        return _single(image, detail, fields[0])
    title = tag("summary", _name(image), tag("i", _extent(usages)))
    return tag("li", tag("details", title, _note(detail), tag("ul", *(tag("li", each) for each in fields))))


def _single(image: str, detail: str, place: str | Html) -> Html:
    # The end tag </li> is left out, because HTML does not need it.
    return join((Html("<li>"), _name(image), _note(detail), tag("i", place)))


def _name(image: str) -> Html:
    return tag("code", text(image) if image else "(none)")


def _note(detail: str) -> Html:
    return tag("p", text(detail)) if detail else Html("")


def _object(usage: Usage) -> Html:
    # An image from a list (diff --images) has no object.
    return text("/".join(part for part in (usage.namespace, usage.name) if part), MAX_OBJECT)


def _extent(usages: Sequence[Usage]) -> str:
    namespaces = len({(usage.cluster, usage.namespace) for usage in usages})
    clusters = len({usage.cluster for usage in usages if usage.cluster is not None})
    of_clusters = f" of {counted(clusters, 'cluster')}" if clusters else ""
    return f"{len(usages):,} places in {counted(namespaces, 'namespace')}{of_clusters}"


def _grouped(usages: Sequence[Usage]) -> Iterator[tuple[_Group, list[Html]]]:
    """Yield each group once, with all its objects."""
    for group, found in groupby(sorted(usages, key=_group), _group):
        yield group, sorted(map(_object, found))


def _field(group: _Group, names: Sequence[Html]) -> Html:
    cluster, kind, path, mode = map(text, group)
    objects = join((name for name in names if name), ", ")
    subject = join((part for part in (kind, objects) if part), " ")
    return join((part for part in (cluster, subject, path, mode) if part), " · ")
