"""Mirrors: what an image is rewritten to, and what an image on a mirror stands for.

Both directions are pure functions of the reference (docs/policy.md, "Modes").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.core.images.index import PatternIndex, qualifiers_of
from gatekeeper_py.core.images.pattern import Pattern, Prefix
from gatekeeper_py.core.images.reference import (
    InvalidReference,
    Location,
    Reference,
    effective_tag,
    locate,
    parse_reference,
)

MAX_NAME_LENGTH: Final = 255
"""Of a rewritten name, registry included: CRI-O counts it so (facts on references)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Images below ``source`` are to be had below ``to``; ``exceptions`` are never rewritten."""

    index: int
    source: Prefix
    to: Prefix
    exceptions: tuple[Pattern, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """What a mirror makes of one reference.

    ``image`` is ``None`` when the reference stays; then ``problem`` says why if that is a thing
    to warn of, and is empty when the mirror's ``except`` names the image.
    """

    mirror: Mirror
    image: str | None
    problem: str = ""


class Mirrors:
    """All mirrors of a policy, found by their ends."""

    __slots__ = ("_all", "_by_source", "_by_to", "_deepest_source", "_deepest_to", "_exceptions")

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        self._all = tuple(mirrors)
        self._by_source = {(m.source.host, m.source.segments): m for m in self._all}
        self._by_to: dict[tuple[str, tuple[str, ...]], list[Mirror]] = {}
        for mirror in self._all:
            self._by_to.setdefault((mirror.to.host, mirror.to.segments), []).append(mirror)
        self._exceptions = [_index(mirror.exceptions) for mirror in self._all]
        self._deepest_source = max((len(m.source.segments) for m in self._all), default=0)
        self._deepest_to = max((len(m.to.segments) for m in self._all), default=0)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def rewrite(self, reference: Reference, location: Location) -> Rewrite | None:
        """What the longest matching mirror makes of a reference; ``None`` when none matches.

        ``location`` is ``locate(reference)``. When the longest mirror's ``except`` matches, no
        shorter mirror is tried.
        """
        mirror = self._longest(location)
        if mirror is None:
            return None
        tag = effective_tag(reference)
        exceptions = self._exceptions[mirror.index]
        if exceptions.find(location, qualifiers_of(tag, reference.digest), None) is not None:
            return Rewrite(mirror=mirror, image=None)
        rest = location.segments[len(mirror.source.segments) :]
        name = "/".join((mirror.to.text, *rest))
        image = f"{name}{reference.suffix}"
        problem = _problem(mirror, name, image)
        return Rewrite(mirror=mirror, image=None if problem else image, problem=problem)

    def origins(self, location: Location) -> Iterator[Location]:
        """The references that an image on a mirror stands for, folded again."""
        if not self._all:
            return
        longest = min(self._deepest_to, len(location.segments))
        for length in range(longest + 1):
            for mirror in self._by_to.get((location.host, location.segments[:length]), ()):
                rest = location.segments[length:]
                try:
                    origin = parse_reference("/".join((mirror.source.text, *rest)))
                    place = locate(origin)
                except InvalidReference:
                    continue  # nothing can be mirrored under a name that no image can have
                # A bare registry parses as a Docker Hub repository of that name: not an origin.
                if place.host == mirror.source.host:
                    yield place

    def _longest(self, location: Location) -> Mirror | None:
        for length in range(min(self._deepest_source, len(location.segments)), -1, -1):
            mirror = self._by_source.get((location.host, location.segments[:length]))
            if mirror is not None:
                return mirror
        return None


def _index(patterns: Iterable[Pattern]) -> PatternIndex:
    index = PatternIndex()
    for order, pattern in enumerate(patterns):
        index.add(order, pattern, None)
    return index


def _problem(mirror: Mirror, name: str, image: str) -> str:
    """Why a rewritten image would not be usable; empty when it is."""
    if "/" not in name:
        return f"on its mirror it would be the image {name} of Docker Hub"
    if len(name) > MAX_NAME_LENGTH:
        return f"on its mirror the name would be longer than {MAX_NAME_LENGTH} characters"
    # It parses: both ends of a mirror follow the grammar, and so does the rest of a reference.
    place = locate(parse_reference(image))
    if not mirror.to.holds(place):
        return f"on its mirror it would be read as {place.name}"
    return ""
