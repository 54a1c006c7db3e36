"""Mirrors: the new name of an image, and the images that an image on a mirror may be a copy of.

Both directions are pure functions of the reference (docs/policy.md, "Modes").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.index import PatternIndex
from gatekeeper_py.core.images.pattern import Pattern, Prefix
from gatekeeper_py.core.images.reference import (
    InvalidReference,
    Location,
    locate,
    parse_reference,
)

MAX_NAME_LENGTH: Final = 255
"""Maximum length of a rewritten name including the registry, because CRI-O counts it that way."""

OnMissing = Literal["keep", "deny", "rewrite"]
"""What happens to an image if no target of its mirror has it, or if that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A mirror: images below ``source`` can be pulled from below each of ``targets``, best first.

    ``excepts`` are never rewritten. With ``verify``, an image is only rewritten to a target that has it.
    ``on_missing`` applies if no target has the image, ``on_error`` if that is not known. With ``pin``, which
    implies ``verify``, the digest that was verified is added. ``image_pull_secret`` is added to a Pod whose
    image was rewritten.
    """

    index: int
    source: Prefix
    targets: tuple[Prefix, ...]
    excepts: tuple[Pattern, ...] = ()
    verify: bool = False
    on_missing: OnMissing = "keep"
    on_error: OnMissing = "keep"
    pin: bool = False
    image_pull_secret: str | None = None

    @property
    def to(self) -> Prefix:
        """The preferred target. Without ``verify``, images are rewritten only to this target."""
        return self.targets[0]

    @property
    def whole(self) -> Location | None:
        """The image with the name of the whole ``source``, if there can be one. Its copy is ``to`` itself."""
        return _known_origin(self.source, ())

    def origin(self, rest: tuple[str, ...]) -> Location | None:
        """Return the image whose copy is at the path ``rest`` below a target, folded for matching.

        ``None`` when no image can have that name, so that there can be no copy of it.
        """
        return _origin(self.source, rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """The result of a mirror for one reference.

    ``image`` is the image on the preferred target. If it is ``None``, ``problem`` gives the reason, and is
    empty if the mirror's ``except`` matches the image. With ``verify``, ``candidates`` are the images on all
    usable targets, in order of preference.
    """

    mirror: Mirror
    image: str | None
    problem: str = ""
    candidates: tuple[str, ...] = ()


class Mirrors:
    """All mirrors of a policy, found by their sources and targets."""

    __slots__ = ("_all", "_by_source", "_by_to", "_deepest_source", "_deepest_to", "_excepts")

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        self._all = tuple(mirrors)
        self._by_source = {(m.source.host, m.source.segments): m for m in self._all}
        self._by_to: dict[tuple[str, tuple[str, ...]], list[Mirror]] = {}
        for mirror in self._all:
            for to in mirror.targets:
                self._by_to.setdefault((to.host, to.segments), []).append(mirror)
        self._excepts = [_index(mirror.excepts) for mirror in self._all]
        self._deepest_source = max((len(m.source.segments) for m in self._all), default=0)
        self._deepest_to = max((len(to.segments) for m in self._all for to in m.targets), default=0)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def rewrite(self, image: Image) -> Rewrite | None:
        """Return the rewrite by the mirror with the longest matching source, ``None`` if no source matches.

        If that mirror's ``except`` matches, no mirror with a shorter source is tried.
        """
        mirror = self._longest(image.location)
        if mirror is None:
            return None
        if self._excepts[mirror.index].find(image, None) is not None:
            return Rewrite(mirror=mirror, image=None)
        moved = [_moved(mirror, to, image) for to in mirror.targets]
        first, problem = moved[0]
        candidates = tuple(name for name, _ in moved if name is not None) if mirror.verify else ()
        return Rewrite(mirror=mirror, image=first, problem=problem, candidates=candidates)

    def origins(self, location: Location) -> Iterator[Location]:
        """Yield the images that an image on a mirror may be a copy of, folded for matching.

        There may be one for each mirror, so decisions use the faster ``MirroredRules`` instead.
        """
        if not self._all:
            return
        longest = min(self._deepest_to, len(location.segments))
        for length in range(longest + 1):
            for mirror in self._by_to.get((location.host, location.segments[:length]), ()):
                origin = mirror.origin(location.segments[length:])
                if origin is not None:
                    yield origin

    def scanned(self) -> int:
        """Return how many entries of ``except`` are scanned at most (``PatternIndex.scanned``)."""
        return max((spared.scanned() for spared in self._excepts), default=0)

    def _longest(self, location: Location) -> Mirror | None:
        for length in range(min(self._deepest_source, len(location.segments)), -1, -1):
            mirror = self._by_source.get((location.host, location.segments[:length]))
            if mirror is not None:
                return mirror
        return None


def _origin(source: Prefix, rest: tuple[str, ...]) -> Location | None:
    try:
        place = locate(parse_reference("/".join((source.text, *rest))))
    except InvalidReference:
        return None
    # A registry without a path parses as a Docker Hub repository of that name, which is not an origin.
    return place if place.host == source.host else None


_known_origin: Final = lru_cache(maxsize=1_024)(_origin)


def _index(patterns: Iterable[Pattern]) -> PatternIndex:
    index = PatternIndex()
    for order, pattern in enumerate(patterns):
        index.add(order, pattern, None)
    return index


def _moved(mirror: Mirror, to: Prefix, image: Image) -> tuple[str | None, str]:
    """Return the image below one target, or ``None`` and the problem if it would not be usable."""
    rest = image.location.segments[len(mirror.source.segments) :]
    name = "/".join((to.text, *rest))
    moved = f"{name}{image.reference.suffix}"
    problem = _problem(Location(to.host, (*to.segments, *rest)), name, moved)
    return (None if problem else moved), problem


def _problem(wanted: Location, name: str, image: str) -> str:
    """Return why a rewritten image would not be usable, or an empty text if it is usable."""
    if "/" not in name:
        return f"on its mirror it would be the image {name} of Docker Hub"
    if len(name) > MAX_NAME_LENGTH:
        return f"on its mirror the name would be longer than {MAX_NAME_LENGTH} characters"
    # The image parses, because both ends of a mirror and the rest of the reference follow the grammar.
    place = locate(parse_reference(image))
    if place != wanted:  # Docker Hub reads a name of one segment as that of an official image
        return f"on its mirror it would be read as {place.name}"
    return ""
