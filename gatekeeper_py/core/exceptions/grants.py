"""Grants: what documents with exceptions may approve, as the policy says."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple, get_args

from gatekeeper_py.core.images.glob import globs_overlap, names_match
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.index import PatternMap
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.scope import Scope, ScopeIndex, TooManyComparisonsError
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP

Source = str
"""Where a document is: a name in ``SOURCES``."""


class ConfigMaps(NamedTuple):
    """The ConfigMaps of a source, which all have the same name.

    With the scope ``namespace``, each namespace may have one. It is for this namespace only, and tenants may
    write it. With the scope ``installation``, there is only the one in the namespace of the installation. If
    the source is for an ``emergency``, Events name all live entries, and its grants may have ``overrides``.
    """

    name: str
    scope: Literal["namespace", "installation"]
    emergency: bool = False


SOURCES: Final[Mapping[Source, ConfigMaps]] = {
    "namespace": ConfigMaps(EXCEPTIONS_CONFIGMAP, "namespace"),
    "installation": ConfigMaps(EXCEPTIONS_CONFIGMAP, "installation"),
    "break-glass": ConfigMaps(BREAK_GLASS_CONFIGMAP, "installation", emergency=True),
}

Override = Literal["deny", "require"]
"""What an exception may approve beyond images that no rule matches: denied ones, and those that do not meet a
requirement."""

OVERRIDES: Final[tuple[Override, ...]] = get_args(Override)

DEFAULT_MOST: Final = 20

MAX_COMPARED: Final = 5_000
"""Maximum number of comparisons of the entries of one document with the images of grants, for each pair of
names of namespaces: about 25 ms."""

_STEP_WORK: Final = 200
_PATTERN_WORK: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One entry of ``exceptions`` in the policy.

    If ``namespaces`` is ``None``, the grant applies to all namespaces and to requests without a namespace. Of
    a document, the first ``most`` live entries count.
    """

    index: int
    source: Source
    images: tuple[Pattern, ...]
    longest: timedelta
    namespaces: tuple[str, ...] | None = None
    most: int = DEFAULT_MOST
    overrides: tuple[Override, ...] = ()
    owner: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"exceptions[{self.index}]"

    def applies_to(self, namespace: str | None) -> bool:
        return names_match(self.namespaces, namespace)


class Grants:
    """All grants of a policy, found by source, image and namespace."""

    __slots__ = ("_all", "_by_image", "_entries", "_names")

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._all: dict[Source, list[Grant]] = {}
        self._by_image: dict[Source, PatternMap[Grant]] = {}
        self._entries: dict[Source, ScopeIndex] = {}
        self._names: dict[Source, int] = {}
        """The largest number of ``namespaces`` of a grant, all of which a comparison may look at."""
        for _ in self._add(grants):
            pass

    @classmethod
    def compiling(cls, grants: Iterable[Grant]) -> Generator[None, None, Grants]:
        """Build the grants in steps of about 0.1 ms, as ``Policy.compiling`` does."""
        built = cls()
        yield from built._add(grants)
        return built

    def __bool__(self) -> bool:
        return bool(self._all)

    def __iter__(self) -> Iterator[Grant]:
        return (grant for source in SOURCES for grant in self.of(source))

    def of(self, source: Source) -> tuple[Grant, ...]:
        """Return the grants for a source. Without one, documents of this source are not even parsed."""
        return tuple(self._all.get(source, ()))

    def matching(self, source: Source, image: Image, namespace: str | None) -> tuple[Grant, ...]:
        """Return the grants of a source that match an image in a namespace."""
        found = self._by_image.get(source)
        return () if found is None else tuple(found.matching(image, namespace))

    def most(self, source: Source, namespace: str | None) -> int:
        """Return how many live entries of a document count in a namespace."""
        return max((each.most for each in self.of(source) if each.applies_to(namespace)), default=0)

    def most_overlapping(self, source: Source, reached: Iterable[tuple[str, ...] | None]) -> Iterator[int]:
        """Yield for each list of names how many live entries count at most in a namespace that it matches.

        After too many comparisons, yield the largest number of the source.
        """
        grants = sorted(self._all.get(source, ()), key=lambda each: -each.most)
        largest = grants[0].most if grants else 0
        known: dict[tuple[str, ...] | None, int] = {None: largest}
        left = MAX_COMPARED
        for names in reached:
            if names not in known:
                known[names] = 0
                for grant in grants:
                    left -= len(names or ()) * len(grant.namespaces or ("",))
                    if left < 0 or _share(names, grant.namespaces):
                        known[names] = largest if left < 0 else grant.most
                        break
            yield known[names]

    def overlapping(self, source: Source, entries: Iterable[Scope]) -> Iterator[list[Grant]]:
        """Yield for each entry the grants that may have an image in common with it.

        After too many comparisons, yield all grants of the source.
        """
        every = self._all.get(source, [])
        index = self._entries.get(source, ScopeIndex())
        left = MAX_COMPARED // self._names.get(source, 1)
        for entry in entries:
            names = len(entry.namespaces or ("",))
            allowed = index.left = left // names
            try:
                found = {int(other.because) for other in index.overlapping(entry)}
            except TooManyComparisonsError:
                over = every
            else:
                over = [grant for grant in every if grant.index in found]
            left -= names * (allowed - index.left)
            yield over

    def scanned(self) -> int:
        """Return how many grants one image is compared with at most, for all sources together."""
        return sum(each.scanned() for each in self._by_image.values())

    def _add(self, grants: Iterable[Grant]) -> Iterator[None]:
        work = 0
        for grant in grants:
            self._all.setdefault(grant.source, []).append(grant)
            names = len(grant.namespaces or ("",))
            self._names[grant.source] = max(self._names.get(grant.source, 1), names)
            by_image = self._by_image.setdefault(grant.source, PatternMap())
            entries = self._entries.setdefault(grant.source, ScopeIndex())
            for pattern in grant.images:
                by_image.add(pattern, grant.namespaces, grant)
                entries.add(Scope(images=pattern, namespaces=grant.namespaces, because=str(grant.index)))
                work += _PATTERN_WORK * len(grant.namespaces or ("",))
                if work > _STEP_WORK:
                    work = 0
                    yield


def _share(names: tuple[str, ...] | None, others: tuple[str, ...] | None) -> bool:
    """Return whether some namespace matches both lists of names. ``None`` matches all."""
    if names is None or others is None:
        return True
    return any(globs_overlap(one, other) for one in names for other in others)
