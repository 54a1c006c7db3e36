"""Mirrors that contradict each other (docs/policy.md, "Modes").

Mirrors are compared as written and not as validated entries, so that a conflict is reported even when
something else in the document is wrong. The prefixes of a path are looked up one by one and not stored,
because a thousand long paths have a quarter of a million prefixes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gatekeeper_py.core.images.pattern import Prefix
from gatekeeper_py.core.policy.finding import Path, Remark

_Location = tuple[str, tuple[str, ...]]
"""Host and path of one end of a mirror."""


@dataclass(frozen=True, slots=True)
class MirrorEnds:
    """Both ends of ``mirrors[index]``; ``source`` is ``None`` when it is missing or malformed.

    ``targets`` holds the valid entries of ``to``, each with its document path below ``mirrors[index]``.
    """

    index: int
    source: Prefix | None
    targets: tuple[tuple[Path, Prefix], ...]


def mirror_conflicts(mirrors: Sequence[MirrorEnds]) -> Iterator[Remark]:
    """Yield the mirrors that could rewrite an image twice, and those that share a source."""
    sources: dict[_Location, int] = {}
    for mirror in mirrors:
        if mirror.source is None:
            continue
        first = sources.setdefault(_location(mirror.source), mirror.index)
        if first != mirror.index:
            yield Remark(
                code="mirror-duplicate",
                path=("mirrors", mirror.index, "from"),
                message=f"mirrors[{first}] has the same source",
                proposal="merge the two",
            )
    ordered = sorted(sources)
    deepest = max((len(segments) for _, segments in sources), default=0)
    for index, path, to in ((m.index, path, to) for m in mirrors for path, to in m.targets):
        above = _above(to, sources, deepest)
        other = _below(to, sources, ordered) if above is None else above
        if other is not None:
            relation = "contains" if above is None else "lies under"
            text = to.text[:100]
            yield Remark(
                code="mirror-loop",
                path=("mirrors", index, *path),
                message=f"{text} {relation} mirrors[{other}].from, so an image could be rewritten twice",
                proposal="send it to a registry or path that no mirror is from",
            )


def _location(end: Prefix) -> _Location:
    return end.host, end.segments


def _above(to: Prefix, sources: dict[_Location, int], deepest: int) -> int | None:
    """Return a mirror whose source is ``to`` or lies above it."""
    lengths = range(min(len(to.segments), deepest) + 1)
    return next((sources[at] for n in lengths if (at := (to.host, to.segments[:n])) in sources), None)


def _below(to: Prefix, sources: dict[_Location, int], ordered: list[_Location]) -> int | None:
    """Return a mirror whose source lies below ``to``. In ``ordered``, such sources directly follow ``to``."""
    at = bisect_left(ordered, _location(to))
    if at == len(ordered):
        return None
    host, segments = ordered[at]
    inside = host == to.host and segments[: len(to.segments)] == to.segments
    return sources[ordered[at]] if inside else None
