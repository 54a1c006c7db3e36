"""Find the rule that matches an image without a comparison with every rule.

Exact and subtree patterns are found by the hash of host and path segments, whatever their number. Patterns
with a wildcard in the host or in a segment are found by the literal pieces around their wildcards
(``globmap``). For one host and path, tags, digests and namespaces are hashed too. So a repository with ten
thousand pinned digests costs no more than a repository with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, Final, Generic, TypeVar

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.globmap import GlobMap, GlobTree, Scan
from gatekeeper_py.core.images.image import Image, Qualifiers, qualifiers_of
from gatekeeper_py.core.images.pattern import ANY, MAX_TAG_LENGTH, Pattern, split_port
from gatekeeper_py.core.images.reference import MAX_IMAGE_LENGTH, MAX_REPOSITORY_LENGTH
from gatekeeper_py.core.names import MAX_NAMESPACE_LENGTH


def qualifiers_of_all(pattern: Pattern) -> Qualifiers:
    """Return the qualifiers that every image of a pattern satisfies literally."""
    if pattern.digest == ANY:
        return (f"@{ANY}", None)
    return qualifiers_of(pattern.tag, pattern.digest)


VALUES_EACH: Final = 4
"""Number of values of one pattern that take as long as one comparison with a glob."""

_MAX_HASHED: Final = 6
"""Maximum number of hashed rules of one leaf that match an image: three qualifiers; each twice."""

_NOTHING: Final[dict[Any, Any]] = {}
"""A shared empty mapping for hosts and paths that do not need one of their own. A policy may have 200,000."""


V = TypeVar("V")


class _Leaf:
    """All rules for one host and path.

    ``_always`` is the first rule without further conditions. ``_hashed`` has the rules that require literal
    tags, digests or namespaces.
    """

    __slots__ = ("_always", "_hashed", "_scoped", "_tags")

    def __init__(self) -> None:
        self._always: int | None = None
        self._hashed: dict[tuple[str | None, str | None], int] = _NOTHING
        self._tags: GlobMap[int] | None = None
        self._scoped: GlobMap[_Leaf] | None = None

    def add(self, order: int, pattern: Pattern, namespaces: tuple[str, ...] | None) -> None:
        qualifier = pattern.qualifier
        tag = pattern.tag if pattern.tag is not None and is_glob(pattern.tag) else None
        if namespaces is None and qualifier is None:
            self._always = order if self._always is None else self._always
        elif tag is None and (namespaces is None or not any(map(is_glob, namespaces))):
            self._hashed = self._hashed or {}
            for namespace in namespaces if namespaces is not None else (None,):
                self._hashed.setdefault((qualifier, namespace), order)
        elif namespaces is None and tag is not None:
            if self._tags is None:
                self._tags = GlobMap()
            self._tags.setdefault(tag, order)
        else:
            if self._scoped is None:
                self._scoped = GlobMap()
            for namespace in namespaces or ():
                leaf = self._scoped.get(namespace) or self._scoped.setdefault(namespace, _Leaf())
                leaf.add(order, pattern, None)

    def orders(
        self, qualifiers: Qualifiers, namespace: str | None, *, scan: Scan | None = None
    ) -> Iterator[int]:
        """Yield the orders of matching rules; of equal rules, only the first. ``scan`` bounds the work."""
        if self._always is not None:
            yield self._always
        if self._hashed:
            for qualifier in qualifiers:
                order = self._hashed.get((qualifier, None))
                if order is not None:
                    yield order
                if namespace is not None:
                    order = self._hashed.get((qualifier, namespace))
                    if order is not None:
                        yield order
        first = qualifiers[0]
        if self._tags is not None and first is not None and first[0] == ":":
            yield from self._tags.matching(first[1:], scan=scan)
        if self._scoped is not None and namespace is not None:
            for leaf in self._scoped.matching(namespace, scan=scan):
                yield from leaf.orders(qualifiers, None, scan=scan)

    def scanned(self, of: Callable[[int], int]) -> int:
        """Return how many patterns ``orders`` scans at most (``PatternIndex.scanned``)."""
        total = 1 + sum(nlargest(_MAX_HASHED, map(of, self._hashed.values())))
        if self._always is not None:
            total += of(self._always)
        if self._tags is not None:
            total += self._tags.scanned(MAX_TAG_LENGTH, of)
        if self._scoped is not None:
            total += self._scoped.scanned(MAX_NAMESPACE_LENGTH, lambda leaf: leaf.scanned(of))
        return total


@dataclass(slots=True)
class _Ends:
    """The rules for one path with wildcards: for exactly this path, and for all paths below it."""

    exact: _Leaf | None = None
    subtree: _Leaf | None = None

    def leaves(self, *, exact: bool, below: bool) -> Iterator[_Leaf]:
        if below and self.subtree is not None:
            yield self.subtree
        if exact and self.exact is not None:
            yield self.exact


class _Paths:
    """All rules for one host. ``_all`` is the leaf with the rules for the whole host."""

    __slots__ = ("_all", "_exact", "_globs", "_lengths", "_subtree")

    def __init__(self) -> None:
        self._all: _Leaf | None = None
        self._exact: dict[tuple[str, ...], _Leaf] = _NOTHING
        self._subtree: dict[tuple[str, ...], _Leaf] = _NOTHING
        self._globs: GlobTree[_Ends] | None = None
        self._lengths: tuple[int, ...] = ()
        """The numbers of segments of the paths in ``_subtree``."""

    def leaf(self, pattern: Pattern) -> _Leaf:
        """Return the leaf for a pattern's path. If it does not exist, create it."""
        segments = pattern.segments
        if not segments:
            self._all = self._all or _Leaf()
            return self._all
        if any(map(is_glob, segments)):
            return self._glob_leaf(segments, subtree=pattern.subtree)
        if pattern.subtree:
            leaves = self._subtree = self._subtree or {}
            if len(segments) not in self._lengths:
                self._lengths += (len(segments),)
        else:
            leaves = self._exact = self._exact or {}
        leaf = leaves.get(segments)
        if leaf is None:
            leaf = leaves[segments] = _Leaf()
        return leaf

    def _glob_leaf(self, segments: tuple[str, ...], *, subtree: bool) -> _Leaf:
        if self._globs is None:
            self._globs = GlobTree()
        ends = self._globs.setdefault(segments, _Ends)
        if subtree:
            ends.subtree = ends.subtree or _Leaf()
            return ends.subtree
        ends.exact = ends.exact or _Leaf()
        return ends.exact

    def leaves(
        self, segments: tuple[str, ...], *, subtree: bool, scan: Scan | None = None
    ) -> Iterator[_Leaf]:
        """Yield every leaf whose path matches ``segments``.

        With ``subtree``, yield every leaf whose path matches everything below ``segments``.
        """
        if self._all is not None:
            yield self._all
        if not subtree and (exact := self._exact.get(segments)) is not None:
            yield exact
        longest = len(segments) if subtree else len(segments) - 1
        if scan is not None and not scan.spend(len(self._lengths)):
            return
        for length in self._lengths:
            below = self._subtree.get(segments[:length]) if length <= longest else None
            if below is not None:
                yield below
        if self._globs is not None:
            for length, ends in self._globs.matching(segments, scan=scan):
                yield from ends.leaves(exact=not subtree and length == len(segments), below=length <= longest)

    def scanned(self, of: Callable[[int], int]) -> int:
        """Return how many patterns are scanned at most for one path (``PatternIndex.scanned``)."""
        total = max((leaf.scanned(of) for leaf in self._exact.values()), default=0)
        below = dict.fromkeys(self._lengths, 0)  # a path has one prefix of each length
        for segments, leaf in self._subtree.items():
            below[len(segments)] = max(below[len(segments)], leaf.scanned(of))
        total += len(below) + sum(below.values())
        if self._all is not None:
            total += self._all.scanned(of)
        if self._globs is not None:
            total += self._globs.scanned(
                MAX_REPOSITORY_LENGTH,
                lambda ends: sum(leaf.scanned(of) for leaf in ends.leaves(exact=True, below=True)),
            )
        return total


@dataclass(frozen=True, slots=True)
class Cover:
    """The leaves whose paths match everything that a pattern can match. It is true if there is any leaf."""

    _leaves: tuple[_Leaf, ...]
    _scan: Scan

    def __bool__(self) -> bool:
        return bool(self._leaves)

    def orders(self, qualifiers: Qualifiers, namespace: str | None) -> Iterator[int]:
        """Yield the orders of the rules in these leaves that match any image with these qualifiers.

        ``namespace`` may be the text of a glob.
        """
        for leaf in self._leaves:
            yield from leaf.orders(qualifiers, namespace, scan=self._scan)


@dataclass(slots=True)
class PatternIndex:
    """Patterns with their order; ``find`` returns the first match in that order."""

    _hosts: dict[str, _Paths] = field(default_factory=dict)
    _host_globs: dict[str, GlobTree[_Paths]] = field(default_factory=dict)
    """Port -> patterns by the labels of the host, the last label first."""
    _any_host: _Paths | None = None

    def add(self, order: int, pattern: Pattern, namespaces: tuple[str, ...] | None) -> None:
        """Add a pattern; ``namespaces`` is ``None`` or has ``*`` for all. Call in ascending ``order``."""
        if namespaces is not None and ANY in namespaces:
            namespaces = None
        self._paths(pattern.host).leaf(pattern).add(order, pattern, namespaces)

    def find(self, image: Image, namespace: str | None) -> int | None:
        """Return the lowest order that matches, or ``None``."""
        _, location, qualifiers = image
        best: int | None = None
        for paths in self._paths_of(location.host):
            for leaf in paths.leaves(location.segments, subtree=False):
                for order in leaf.orders(qualifiers, namespace):
                    if best is None or order < best:
                        best = order
        return best

    def matching(self, image: Image, namespace: str | None, *, scan: Scan | None = None) -> Iterator[int]:
        """Yield the orders of all patterns that match; of equal ones only the first.

        ``scan`` bounds the work.
        """
        _, location, qualifiers = image
        for paths in self._paths_of(location.host, scan=scan):
            for leaf in paths.leaves(location.segments, subtree=False, scan=scan):
                yield from leaf.orders(qualifiers, namespace, scan=scan)

    def cover(self, pattern: Pattern, scan: Scan) -> Cover:
        """Return leaves whose paths match everything that ``pattern`` can match. Some leaves may be missing.

        The leaf of a pattern that was added is among them, unless ``scan`` ends the search early.
        """
        return Cover(
            tuple(
                leaf
                for paths in self._paths_of(pattern.host, scan=scan)
                for leaf in paths.leaves(pattern.segments, subtree=pattern.subtree, scan=scan)
            ),
            scan,
        )

    def scanned(self, of: Callable[[int], int] = lambda _: 0) -> int:
        """Return how many patterns one image is compared with at most (``GlobMap.scanned``).

        Patterns without wildcards are found by hash, and the leaves that they are in count instead. ``of``
        returns what follows for the order of a pattern that matches.
        """
        total = max((paths.scanned(of) for paths in self._hosts.values()), default=0)
        total += max(
            (
                tree.scanned(MAX_IMAGE_LENGTH, lambda paths: paths.scanned(of))
                for tree in self._host_globs.values()
            ),
            default=0,
        )
        return total if self._any_host is None else total + self._any_host.scanned(of)

    def _paths(self, host: str) -> _Paths:
        if host == ANY:
            if self._any_host is None:
                self._any_host = _Paths()
            return self._any_host
        if not is_glob(host):
            paths = self._hosts.get(host)
            if paths is None:
                paths = self._hosts[host] = _Paths()
            return paths
        name, port = split_port(host)
        return self._host_globs.setdefault(port, GlobTree()).setdefault(_labels(name), _Paths)

    def _paths_of(self, host: str, *, scan: Scan | None = None) -> Iterator[_Paths]:
        if self._any_host is not None:
            yield self._any_host
        if host == ANY:
            return
        literal = self._hosts.get(host)
        if literal is not None:
            yield literal
        if not self._host_globs:
            return
        name, port = split_port(host)
        tree = self._host_globs.get(port)
        if tree is None or name.startswith("["):  # * matches only inside DNS names, not IPv6 addresses
            return
        labels = _labels(name)
        for length, paths in tree.matching(labels, scan=scan):
            if length == len(labels):
                yield paths


class PatternMap(Generic[V]):
    """Values by pattern and namespaces. ``matching`` finds all values, even of equal patterns."""

    __slots__ = ("_index", "_numbers", "_values")

    def __init__(self) -> None:
        self._index = PatternIndex()
        self._numbers: dict[tuple[object, ...], int] = {}
        self._values: list[list[V]] = []

    def add(self, pattern: Pattern, namespaces: tuple[str, ...] | None, value: V) -> None:
        path = (pattern.host, pattern.segments, pattern.subtree, pattern.qualifier)
        for namespace in (None,) if namespaces is None else namespaces:
            number = self._numbers.setdefault((*path, namespace), len(self._values))
            if number == len(self._values):
                self._index.add(number, pattern, None if namespace is None else (namespace,))
                self._values.append([])
            self._values[number].append(value)

    def matching(self, image: Image, namespace: str | None) -> Iterator[V]:
        """Yield the values of all patterns that match; a value once for each of its names that match."""
        for number in self._index.matching(image, namespace):
            yield from self._values[number]

    def scanned(self, cost: Callable[[V], int] = lambda _: 1) -> int:
        """Return how many values one image is compared with at most (``PatternIndex.scanned``).

        ``cost`` is what follows for a value that is found: ``VALUES_EACH`` is the cost of one comparison.
        """
        return self._index.scanned(lambda number: sum(map(cost, self._values[number])) // VALUES_EACH)


def _labels(name: str) -> tuple[str, ...]:
    """Return the labels of a host, the last one first, because hosts share endings more than beginnings."""
    return tuple(reversed(name.split(".")))
