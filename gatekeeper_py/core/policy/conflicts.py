"""Mirrors that contradict each other.

They are compared as written and not as validated entries, so that a conflict is reported even when
something else in the document is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatekeeper_py.core.images.pattern import InvalidPattern, Prefix, parse_prefix
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.yamltree import Tree, YamlMapping


def mirror_problems(tree: Tree) -> Iterator[Finding]:
    """Mirrors that could rewrite twice, or that contradict each other (docs/policy.md, "Modes")."""
    ends = list(_mirror_ends(tree))
    sources: dict[_Place, int] = {}
    above: dict[_Place, int] = {}  # every place that holds some source, to the first such mirror
    for index, source, _ in ends:
        if source is None:
            continue
        for place in _places_holding(source):
            above.setdefault(place, index)
        first = sources.setdefault((source.host, source.segments), index)
        if first != index:
            yield tree.finding(
                "error",
                "mirror-duplicate",
                ("mirrors", index, "from"),
                f"mirrors[{first}] is from there already",
                "merge the two",
            )
    for index, _, to in ends:
        if to is None:
            continue
        holder = next((sources[place] for place in _places_holding(to) if place in sources), None)
        other = above.get((to.host, to.segments)) if holder is None else holder
        if other is not None:
            inside = "holds" if holder is None else "lies under"
            yield tree.finding(
                "error",
                "mirror-loop",
                ("mirrors", index, "to"),
                f"{to.text} {inside} mirrors[{other}].from, so an image could be rewritten twice",
                "send it to a place that no mirror is from",
            )


_Place = tuple[str, tuple[str, ...]]
"""Host and segments of one end of a mirror."""


def _places_holding(end: Prefix) -> Iterator[_Place]:
    """The end itself and every place above it, on segment boundaries."""
    return ((end.host, end.segments[:length]) for length in range(len(end.segments) + 1))


def _mirror_ends(tree: Tree) -> Iterator[tuple[int, Prefix | None, Prefix | None]]:
    mirrors = tree.root.get("mirrors") if isinstance(tree.root, YamlMapping) else None
    for index, mirror in enumerate(mirrors if isinstance(mirrors, list) else []):
        if isinstance(mirror, dict):
            yield index, _end(mirror.get("from")), _end(mirror.get("to"))


def _end(text: object) -> Prefix | None:
    """One end of a mirror; ``None`` when it is none, which the model reports."""
    try:
        return parse_prefix(text) if isinstance(text, str) else None
    except InvalidPattern:
        return None
