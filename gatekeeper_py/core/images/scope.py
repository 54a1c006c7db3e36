"""Scopes: sets of images in some namespaces, and an index over many of them.

Match conditions, native policies and comparisons of policies must be right for every image that can exist, so
they are computed from scopes instead of single images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Final, Self

from gatekeeper_py.core.images.glob import any_matches, compiled, globs_overlap, is_glob
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.reference import MAX_REPOSITORY_LENGTH, OFFICIAL_NAMESPACE

NO_LIMIT: Final = MAX_REPOSITORY_LENGTH + len(OFFICIAL_NAMESPACE) + 1
"""The length of the longest repository that can be matched. The grammar limits the repository as written. For
an image such as ``registry-1.docker.io/nginx``, ``library/`` is added after that check."""

MAX_COMPARISONS: Final = 500_000
"""Maximum number of pairs of scopes that are compared for one policy: about a second. Without it, the time
for 100,000 rules with wildcards would grow with the square of their number."""

CHEAP_SEGMENTS: Final = 16
"""A comparison counts as one more for each 16 segments of the path, because it compares each segment."""

MAX_SCANNED: Final = 256
"""Maximum number of scopes in one group of the index that are searched for a covering one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Images in some namespaces.

    ``namespaces`` are globs, or ``None`` for all namespaces. Repositories that are longer than ``longest``
    characters are not in the scope. A scope neither covers nor overlaps a scope that ``but`` covers;
    expressions ignore ``but``. ``because`` names the part of the policy from which the scope was made.
    Whether two scopes are equal does not depend on the last two fields.
    """

    images: Pattern
    namespaces: tuple[str, ...] | None = None
    longest: int = NO_LIMIT
    but: ScopeIndex | None = field(default=None, compare=False)
    because: str = field(default="", compare=False)

    def __str__(self) -> str:
        where = "" if self.namespaces is None else f" in {', '.join(self.namespaces)}"
        return f"{self.images}{where}"

    @property
    def cost(self) -> int:
        """How many comparisons a comparison with this scope counts as."""
        return 1 + len(self.images.segments) // CHEAP_SEGMENTS

    def has(self, image: Image, namespace: str | None) -> bool:
        """Return whether an image in a namespace is in the scope."""
        return self.images.matches(image) and self.applies_to(namespace)

    def applies_to(self, namespace: str | None) -> bool:
        if self.namespaces is None:
            return True
        return namespace is not None and any_matches(tuple(map(compiled, self.namespaces)), namespace)

    def covers(self, other: Self) -> bool:
        """Return whether this scope has all images of ``other`` in the same namespaces.

        Only ``True`` is certain.
        """
        return (
            self.longest >= other.longest
            and self.covers_namespaces(other)
            and self.images.covers(other.images)
            and not self._leaves_out(other)
        )

    def overlaps(self, other: Self) -> bool:
        """Return whether some image in some namespace may be in both; only ``False`` is certain."""
        return (
            self._shares_namespaces(other)
            and self.images.overlaps(other.images)
            and not self._leaves_out(other)
        )

    def unqualified(self) -> Self:
        """Return the scope for every tag, digest and namespace."""
        return replace(self, images=self.images.unqualified(), namespaces=None)

    def _leaves_out(self, other: Self) -> bool:
        return self.but is not None and self.but.covering(other) is not None

    def covers_namespaces(self, other: Self) -> bool:
        """Return whether this scope holds in all namespaces of ``other``. Only ``True`` is certain."""
        if self.namespaces is None:
            return True
        mine = tuple(map(compiled, self.namespaces))
        return other.namespaces is not None and all(any_matches(mine, name) for name in other.namespaces)

    def _shares_namespaces(self, other: Self) -> bool:
        if self.namespaces is None or other.namespaces is None:
            return True
        return any(globs_overlap(one, two) for one in self.namespaces for two in other.namespaces)


class TooManyComparisonsError(Exception):
    """The searches in an index need more than ``MAX_COMPARISONS`` comparisons."""


_Key = tuple[str | None, str | None]
"""Registry and first segment; ``None`` for one with a wildcard and for a missing segment."""


@dataclass(slots=True)
class ScopeIndex:
    """An index of scopes by registry and path. ``left`` is the number of comparisons still allowed."""

    left: int = field(default_factory=lambda: MAX_COMPARISONS)
    _by_start: dict[tuple[str, bool], list[Scope]] = field(default_factory=dict)
    _wildcards: list[Scope] = field(default_factory=list)
    _by_key: dict[str | None, dict[str | None, list[Scope]]] = field(default_factory=dict)

    def add(self, scope: Scope) -> None:
        images = scope.images
        if images.literal:
            self._by_start.setdefault((images.start, images.subtree), []).append(scope)
        else:
            self._wildcards.append(scope)
        host, first = _key(images)
        self._by_key.setdefault(host, {}).setdefault(first, []).append(scope)

    def extend(self, scopes: Iterable[Scope]) -> None:
        for scope in scopes:
            self.add(scope)

    def covering(self, scope: Scope) -> Scope | None:
        """Return a scope that covers another. ``None`` is not certain, because the search is bounded."""
        images = scope.images
        parts = (images.host, *images.segments)
        starts = ["/".join((*parts[: length + 1], "")) for length in range(len(parts))]
        keys = [(start, True) for start in starts] + [(images.start, False)]
        candidates = chain.from_iterable(islice(self._by_start.get(key, ()), MAX_SCANNED) for key in keys)
        wildcards = islice(self._wildcards, MAX_SCANNED)
        return next((each for each in chain(candidates, wildcards) if each.covers(scope)), None)

    def overlapping(self, scope: Scope) -> Iterator[Scope]:
        """Yield every scope that may have an image in common with another.

        Raises ``TooManyComparisonsError``.
        """
        host, first = _key(scope.images)
        hosts = self._by_key.values() if host is None else map(self._by_key.get, (host, None))
        for by_first in hosts:
            if by_first is None:
                continue
            firsts = by_first.values() if first is None else map(by_first.get, (first, None))
            for each in chain.from_iterable(found for found in firsts if found is not None):
                if self.left <= 0:
                    raise TooManyComparisonsError
                self.left -= scope.cost
                if each.overlaps(scope):
                    yield each


def _key(images: Pattern) -> _Key:
    first = images.segments[0] if images.segments else None
    return (
        None if is_glob(images.host) else images.host,
        None if first is None or is_glob(first) else first,
    )
