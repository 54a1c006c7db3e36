"""Find the deny rule that matches the origin of an image on a mirror: the image that it is a copy of.

A thousand mirrors may have the same target, and a Pod may have a thousand images, so looking up each origin
of each image would take seconds. Instead, the deny rules are converted once for each policy into entries for
the path below a mirror's ``to``. For example, a rule for ``m.io/team/app`` and a mirror from ``m.io/team``
give an entry for ``app``. An entry has the set of all mirrors for which it holds, as an integer with one bit
for each mirror. A decision then looks up the path of the image below each ``to``, whatever the number of
mirrors, and usually builds only one origin.

A set may contain too many mirrors, but never too few. Additional mirrors do no harm, because each origin is
looked up in the rules before it counts as denied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from typing import Final, TypeVar

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.index import PatternIndex, Qualifiers, prefix_work
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    Location,
)
from gatekeeper_py.core.policy.mirror import Mirrors
from gatekeeper_py.core.policy.rules import Rule, RuleSet

MAX_COMPARED: Final = 10_000
"""Maximum number of wildcards that are compared with the source of one mirror: about 10 ms. Only thousands of
wildcards that match the same names exceed it; then every deny rule counts as matching that mirror."""

STEP_WORK: Final = 200
"""Work of one step of compiling; a rule or a pattern counts as 10, and each of its namespaces as 4."""

_LEVEL_WORK: Final = 20
"""Work of one search below a target, without the entries, in the unit of ``globmap``."""

_ORIGIN_WORK: Final = 150
"""Work of building one origin, in the same unit."""

_HERE: Final = ("",)
"""The path that stands for a mirror's end itself. A pattern needs a segment, and no real segment is empty."""

_Path = tuple[str, ...]

Result = TypeVar("Result")


def at_once(steps: Generator[None, None, Result]) -> Result:
    """Run all steps of compiling without pauses between them, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


class _Sources:
    """Patterns without tag and digest, each with the set of mirrors whose source it matches."""

    def __init__(self, sources: Iterable[Location | None]) -> None:
        self._sources = tuple(sources)
        self._hosts = {source.host for source in self._sources if source is not None}
        self._at: list[set[str]] = []
        """The segments at each depth."""
        for source in self._sources:
            for depth, segment in enumerate(() if source is None else source.segments):
                if depth == len(self._at):
                    self._at.append(set())
                self._at[depth].add(segment)
        self._index = PatternIndex()
        self._numbers: dict[tuple[str, _Path, bool], int] = {}
        self._masks: list[int] = []
        self.cut = False
        """Whether the set of some pattern may contain mirrors whose source it does not match."""

    @property
    def lengths(self) -> list[int]:
        """The lengths of all paths, each once, in ascending order."""
        return sorted({len(source.segments) for source in self._sources if source is not None})

    def add(self, host: str, segments: _Path, *, subtree: bool) -> None:
        """Add a pattern. With empty ``segments`` and without ``subtree``, it matches only the registry."""
        # Most rules cannot match the source of a mirror. Skip them, so that they cost nothing more.
        if not self._may_match(host, segments, subtree=subtree):
            return
        key = (host, segments, subtree)
        if key not in self._numbers:
            self._numbers[key] = len(self._masks)
            pattern = Pattern(host=host, segments=_HERE + segments, subtree=subtree)
            self._index.add(len(self._masks), pattern, None)
            self._masks.append(0)

    def settle(self) -> Iterator[None]:
        """Find the mirrors of each pattern, in steps. Call once, after all patterns have been added."""
        every = 0
        for number, source in enumerate(self._sources):
            if source is not None:
                location = Location(source.host, _HERE + source.segments)
                scan = Scan(each=None, total=MAX_COMPARED)
                for found in self._index.matching(location, (None,), None, scan=scan):
                    self._masks[found] |= 1 << number
                if scan.cut:
                    every |= 1 << number
            yield
        if every:
            self.cut = True
            self._masks = [mask | every for mask in self._masks]

    def mirrors(self, host: str, segments: _Path, *, subtree: bool) -> int:
        """Return the set of mirrors whose source a pattern matches. The pattern must have been added."""
        number = self._numbers.get((host, segments, subtree))
        return 0 if number is None else self._masks[number]

    def _may_match(self, host: str, segments: _Path, *, subtree: bool) -> bool:
        return (
            (is_glob(host) or host in self._hosts)
            and len(segments) + subtree <= len(self._at)
            and all(is_glob(each) or each in at for each, at in zip(segments, self._at, strict=False))
        )


class _Below:
    """Patterns for denied paths below a ``to``, each with the set of mirrors for which it holds."""

    def __init__(self) -> None:
        self._index = PatternIndex()
        self._numbers: dict[tuple[_Path, bool, str | None, str | None], int] = {}
        self._masks: list[int] = []

    def add(self, segments: _Path, rule: Rule, mirrors: int, *, subtree: bool) -> None:
        for namespace in rule.namespaces or (None,):
            key = (segments, subtree, rule.pattern.qualifier, namespace)
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self._masks)
                self._masks.append(0)
                pattern = Pattern(
                    host=ANY,
                    segments=segments,
                    subtree=subtree,
                    tag=rule.pattern.tag,
                    digest=rule.pattern.digest,
                )
                self._index.add(number, pattern, None if namespace is None else (namespace,))
            self._masks[number] |= mirrors

    def settle(self) -> Generator[None, None, int]:
        """Return the set of all mirrors with an entry. Runs in steps; call once, after the last ``add``."""
        kept: dict[int, int] = {}  # a set of a thousand mirrors takes 160 bytes, and most sets are equal
        union = 0
        for number, mask in enumerate(self._masks):
            self._masks[number] = kept.setdefault(mask, mask)
            union |= mask
            if number % STEP_WORK == 0:
                yield
        self._numbers = {}
        return union

    def worst(self) -> int:
        """Return a bound on the work of ``mirrors``."""
        return self._index.worst()

    def mirrors(self, segments: _Path, qualifiers: Qualifiers, namespace: str | None) -> int:
        """Return the set of mirrors on which an image with this path and these qualifiers is denied."""
        found = 0
        for number in self._index.matching(Location(ANY, segments), qualifiers, namespace):
            found |= self._masks[number]
        return found


class DeniedOrigins:
    """The deny rules, with an index of the images on mirrors that are copies of denied images."""

    __slots__ = (
        *(
            "_below",
            "_cut",
            "_fitting",
            "_here",
            "_hub",
            "_levels",
            "_mirrors",
            "_sizes",
            "_spared",
            "_to",
            "deny",
        ),
    )

    def __init__(self, mirrors: Mirrors, deny: RuleSet) -> None:
        self._mirrors = tuple(mirrors)
        self.deny = deny
        self._here = _Below()
        self._below = _Below()
        self._to: dict[tuple[str, _Path], int] = {}
        """Host and path of each ``to`` below which something is denied -> the set of its mirrors."""
        self._levels: dict[str, list[int]] = {}
        """Registry -> lengths of the paths in ``_to``, in ascending order."""
        self._hub = 0
        """The set of mirrors of the whole Docker Hub: a single segment below ``to`` is an official image."""
        self._spared = 0
        """The set of mirrors with a deny rule that has ``except``, so the rule may not deny an origin."""
        self._cut = False
        """Whether the sets may contain many mirrors whose images are not denied."""
        self._sizes: list[int] = []
        self._fitting: list[int] = []
        """For each of ``_sizes``, the set of mirrors whose ``from`` has a path of at most that length."""

    @classmethod
    def compiling(cls, mirrors: Mirrors, deny: RuleSet) -> Generator[None, None, DeniedOrigins]:
        """Compile the deny rules for the origins of mirrors, in steps of about 0.1 ms."""
        made = cls(mirrors, deny)
        if mirrors and deny:
            yield from made._compile()
        return made

    def matching(
        self, location: Location, qualifiers: Qualifiers, namespace: str | None
    ) -> Iterator[tuple[Rule, Location]]:
        """Yield each denied name of an image with a rule that denies it: its own, then those of its origins.

        If several mirrors apply, those with the shortest ``to`` come first, then the order of the document.
        """
        own = self.deny.find(location, qualifiers, namespace)
        if own is not None:
            yield own, location
        segments = location.segments
        for length in self._levels.get(location.host, ()):
            mirrors = self._to.get((location.host, segments[:length]))
            if mirrors is None or length > len(segments):
                continue
            rest = segments[length:]
            found = mirrors & self._denied(rest, qualifiers, namespace)
            while found:
                first = found & -found
                origin = self._mirrors[first.bit_length() - 1].origin(rest)
                rule = None if origin is None else self.deny.find(origin, qualifiers, namespace)
                if origin is not None and rule is not None:
                    yield rule, origin
                found ^= first

    def worst(self, levels: int = 0) -> int:
        """Return a bound on the work of ``matching`` (``PatternIndex.worst``) until an origin is found.

        ``levels`` is the number of mirror targets that are nested in each other. Give it if other rules may
        deny images below more of them than these rules do.
        """
        levels = max(levels, *map(len, self._levels.values()), 0)
        # One of the paths is looked up twice: as written, and as an official image.
        work = (levels + 1) * (self._below.worst() + _LEVEL_WORK) + prefix_work(levels) + self._here.worst()
        if self._cut:
            return work + len(self._mirrors) * (_ORIGIN_WORK + (self.deny.worst() if self._spared else 0))
        if self._spared:
            # An image has one path above it of each length, so count one target for each length.
            most: dict[int, int] = {}
            for (_, segments), mirrors in self._to.items():
                spared = (mirrors & self._spared).bit_count()
                most[len(segments)] = max(most.get(len(segments), 0), spared)
            work += sum(most.values()) * (_ORIGIN_WORK + self.deny.worst())
        return work

    def _denied(self, rest: _Path, qualifiers: Qualifiers, namespace: str | None) -> int:
        """Return the set of mirrors that may have a denied image at this path below their ``to``."""
        if not rest:
            return self._here.mirrors(_HERE, qualifiers, namespace)
        found = self._below.mirrors(rest, qualifiers, namespace)
        if self._hub and len(rest) == 1:
            official = self._below.mirrors((OFFICIAL_NAMESPACE, *rest), qualifiers, namespace)
            found = (found & ~self._hub) | (official & self._hub)
        # Leave out mirrors whose origin would be longer than a repository can be.
        room = MAX_REPOSITORY_LENGTH - _size(rest) + 1
        if found and room < self._sizes[-1]:
            fitting = bisect_right(self._sizes, room)
            found &= self._fitting[fitting - 1] if fitting else 0
        return found

    def _compile(self) -> Iterator[None]:
        whole: list[Location | None] = []
        for mirror in self._mirrors:
            whole.append(mirror.origin(()))
            yield
        sources = _Sources(Location(each.source.host, each.source.segments) for each in self._mirrors)
        ends = _Sources(whole)
        yield
        lengths = sources.lengths
        work = 0
        for rule in self.deny:
            pattern = rule.pattern
            for length in lengths:
                if length <= len(pattern.segments):
                    sources.add(pattern.host, pattern.segments[:length], subtree=False)
                    work += 10
            if pattern.subtree:
                sources.add(pattern.host, pattern.segments, subtree=True)
            ends.add(pattern.host, pattern.segments, subtree=pattern.subtree)
            work += 20
            if work > STEP_WORK:
                work = 0
                yield
        yield from sources.settle()
        yield from ends.settle()
        self._cut = sources.cut or ends.cut
        for rule in self.deny:
            for entries, path, subtree, mirrors in self._entries(rule, sources, ends, lengths):
                entries.add(path, rule, mirrors, subtree=subtree)
                self._spared |= mirrors if rule.excepts else 0
                work += 10 + 4 * len(rule.namespaces or ())
                if work > STEP_WORK:
                    work = 0
                    yield
            work += 10
        denied = yield from self._below.settle()
        denied |= yield from self._here.settle()
        yield from self._set_targets(denied)
        self._measure()

    def _entries(
        self, rule: Rule, sources: _Sources, ends: _Sources, lengths: Iterable[int]
    ) -> Iterator[tuple[_Below, _Path, bool, int]]:
        """Yield the entries of a rule: collection, path below ``to``, whether a subtree, set of mirrors."""
        host, segments, subtree = rule.pattern.host, rule.pattern.segments, rule.pattern.subtree
        for length in lengths:
            rest = segments[length:]
            if length <= len(segments) and (rest or subtree):
                mirrors = sources.mirrors(host, segments[:length], subtree=False)
                if mirrors:
                    yield self._below, rest, subtree, mirrors
        if subtree and (mirrors := sources.mirrors(host, segments, subtree=True)):
            yield self._below, (), True, mirrors
        if mirrors := ends.mirrors(host, segments, subtree=subtree):
            yield self._here, (), True, mirrors

    def _set_targets(self, denied: int) -> Iterator[None]:
        """Set the targets below which a rule denies something, in steps."""
        for number, mirror in enumerate(self._mirrors):
            if denied >> number & 1:
                for to in mirror.targets:
                    key = (to.host, to.segments)
                    self._to[key] = self._to.get(key, 0) | 1 << number
            yield
        lengths: dict[str, set[int]] = {}
        for host, segments in self._to:
            lengths.setdefault(host, set()).add(len(segments))
        self._levels = {host: sorted(each) for host, each in lengths.items()}

    def _measure(self) -> None:
        """Set ``_sizes``, ``_fitting`` and ``_hub``, which depend on the sources of the mirrors."""
        sizes = sorted((_size(each.source.segments), number) for number, each in enumerate(self._mirrors))
        fitting = 0
        for size, number in sizes:
            fitting |= 1 << number
            if self._sizes[-1:] == [size]:
                self._fitting[-1] = fitting
            else:
                self._sizes.append(size)
                self._fitting.append(fitting)
        for number, mirror in enumerate(self._mirrors):
            if mirror.source.host == DOCKER_HUB and not mirror.source.segments:
                self._hub |= 1 << number


def _size(segments: _Path) -> int:
    """Return the length of a path, with a final slash unless the path is empty."""
    return sum(map(len, segments)) + len(segments)
