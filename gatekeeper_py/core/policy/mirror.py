"""Mirrors: what an image is rewritten to, and which images an image on a mirror is a copy of.

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
from gatekeeper_py.core.policy.document import OnMissing

MAX_NAME_LENGTH: Final = 255
"""Maximum length of a rewritten name including the registry, because CRI-O counts it that way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Images below ``source`` can be pulled below each of ``targets``, best first.

    ``exceptions`` are never rewritten. With ``verify``, an image is only rewritten to a target that has it;
    ``on_missing`` and ``on_error`` say what happens when none has it. With ``pin``, the digest that was
    verified is added. ``image_pull_secret`` is added to a Pod whose image was rewritten.
    """

    index: int
    source: Prefix
    targets: tuple[Prefix, ...]
    exceptions: tuple[Pattern, ...] = ()
    verify: bool = False
    on_missing: OnMissing = "keep"
    on_error: OnMissing = "keep"
    pin: bool = False
    image_pull_secret: str | None = None

    @property
    def to(self) -> Prefix:
        """The preferred target, which is the only one where nothing is looked up."""
        return self.targets[0]

    def origin(self, rest: tuple[str, ...]) -> Location | None:
        """Return what the image at the path ``rest`` below a target is a copy of, folded for matching.

        ``None`` when nothing can be mirrored there, because no image can have that name.
        """
        try:
            place = locate(parse_reference("/".join((self.source.text, *rest))))
        except InvalidReference:
            return None
        # A bare registry parses as a Docker Hub repository of that name: not an origin.
        return place if place.host == self.source.host else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """The result of a mirror for one reference.

    ``image`` is ``None`` when the reference is left as written; then ``problem`` says why, and is empty when
    the mirror's ``except`` names the image. ``candidates`` are the images on all usable targets, in order,
    if the mirror looks them up.
    """

    mirror: Mirror
    image: str | None
    problem: str = ""
    candidates: tuple[str, ...] = ()


class Mirrors:
    """All mirrors of a policy, found by their sources and targets."""

    __slots__ = ("_all", "_by_source", "_by_to", "_deepest_source", "_deepest_to", "_exceptions")

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        self._all = tuple(mirrors)
        self._by_source = {(m.source.host, m.source.segments): m for m in self._all}
        self._by_to: dict[tuple[str, tuple[str, ...]], list[Mirror]] = {}
        for mirror in self._all:
            for to in mirror.targets:
                self._by_to.setdefault((to.host, to.segments), []).append(mirror)
        self._exceptions = [_index(mirror.exceptions) for mirror in self._all]
        self._deepest_source = max((len(m.source.segments) for m in self._all), default=0)
        self._deepest_to = max((len(to.segments) for m in self._all for to in m.targets), default=0)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def rewrite(self, reference: Reference, location: Location) -> Rewrite | None:
        """Return what the longest matching mirror makes of a reference, or ``None`` when none matches.

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
        moved = [_moved(mirror, to, reference, location) for to in mirror.targets]
        image, problem = moved[0]
        candidates = tuple(image for image, _ in moved if image is not None) if mirror.verify else ()
        return Rewrite(mirror=mirror, image=image, problem=problem, candidates=candidates)

    def origins(self, location: Location) -> Iterator[Location]:
        """Yield the images that an image on a mirror is a copy of, folded for matching.

        There may be one for each mirror: a decision uses ``DeniedOrigins`` instead.
        """
        if not self._all:
            return
        longest = min(self._deepest_to, len(location.segments))
        for length in range(longest + 1):
            for mirror in self._by_to.get((location.host, location.segments[:length]), ()):
                origin = mirror.origin(location.segments[length:])
                if origin is not None:
                    yield origin

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


def _moved(mirror: Mirror, to: Prefix, reference: Reference, location: Location) -> tuple[str | None, str]:
    """The image below one target; ``None`` and the problem if it would not be usable."""
    name = "/".join((to.text, *location.segments[len(mirror.source.segments) :]))
    image = f"{name}{reference.suffix}"
    problem = _problem(to, name, image)
    return (None if problem else image), problem


def _problem(to: Prefix, name: str, image: str) -> str:
    """Return why a rewritten image would not be usable, or nothing when it is."""
    if "/" not in name:
        return f"on its mirror it would be the image {name} of Docker Hub"
    if len(name) > MAX_NAME_LENGTH:
        return f"on its mirror the name would be longer than {MAX_NAME_LENGTH} characters"
    # It parses: both ends of a mirror follow the grammar, and so does the rest of a reference.
    place = locate(parse_reference(image))
    if not to.holds(place):
        return f"on its mirror it would be read as {place.name}"
    return ""
