"""Find the rule that matches without looking at the others.

Exact and subtree patterns are found by hash of host and path segments, whatever their number. Patterns
with a wildcard in the host or in a segment are found by the literal pieces around their wildcards
(``globmap``). Below one place, tags, digests and namespaces are hashed too, so that a repository with ten
thousand pinned digests costs no more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.globmap import GlobMap, GlobTree
from gatekeeper_py.core.images.pattern import ANY, Pattern, split_port
from gatekeeper_py.core.images.reference import Location

MAX_COMPARED: Final = 256
"""Globs that a question about cover compares in one map. It is asked for each rule, so without a bound
thousands of similar wildcards would cost their number squared."""

Qualifiers = tuple[str | None, ...]
"""What a leaf is asked for, e.g. ``("@sha256:…", "@*", None)`` or ``(":v1", None)``."""


def qualifiers_of(tag: str | None, digest: str | None) -> Qualifiers:
    """The qualifiers that an image with this effective tag and digest satisfies literally."""
    if digest is not None:
        return (f"@{digest}", f"@{ANY}", None)
    return (None,) if tag is None else (f":{tag}", None)


class _Leaf:
    """All rules for one place."""

    __slots__ = ("_hashed", "_scoped", "_tags")

    def __init__(self) -> None:
        self._hashed: dict[tuple[str | None, str | None], int] = {}
        self._tags: GlobMap[int] | None = None
        self._scoped: GlobMap[_Leaf] | None = None

    def add(self, order: int, pattern: Pattern, namespaces: tuple[str, ...] | None) -> None:
        tag = pattern.tag if pattern.tag is not None and is_glob(pattern.tag) else None
        if tag is None and (namespaces is None or not any(map(is_glob, namespaces))):
            for namespace in namespaces if namespaces is not None else (None,):
                self._hashed.setdefault((pattern.qualifier, namespace), order)
        elif namespaces is not None:
            if self._scoped is None:
                self._scoped = GlobMap()
            for namespace in namespaces:
                leaf = self._scoped.get(namespace) or self._scoped.setdefault(namespace, _Leaf())
                leaf.add(order, pattern, None)
        elif tag is not None:
            if self._tags is None:
                self._tags = GlobMap()
            self._tags.setdefault(tag, order)

    def orders(
        self, qualifiers: Qualifiers, namespace: str | None, *, scan: int | None = None
    ) -> Iterator[int]:
        """The matching rules' orders; of equal rules only the first. ``scan`` bounds what is compared."""
        for qualifier in qualifiers:
            order = self._hashed.get((qualifier, None))
            if order is not None:
                yield order
            if namespace is not None:
                order = self._hashed.get((qualifier, namespace))
                if order is not None:
                    yield order
        asked = qualifiers[0]
        if self._tags is not None and asked is not None and asked[0] == ":":
            yield from self._tags.matching(asked[1:], most=scan)
        if self._scoped is not None and namespace is not None:
            for leaf in self._scoped.matching(namespace, most=scan):
                yield from leaf.orders(qualifiers, None, scan=scan)


@dataclass(slots=True)
class _Ends:
    """What ends at one path with wildcards: rules for exactly it, and for all below it."""

    exact: _Leaf | None = None
    subtree: _Leaf | None = None


@dataclass(slots=True)
class _Paths:
    """All rules for one host."""

    _exact: dict[tuple[str, ...], _Leaf] = field(default_factory=dict)
    _subtree: dict[tuple[str, ...], _Leaf] = field(default_factory=dict)
    _globs: GlobTree[_Ends] | None = None
    _depth: int = 0

    def leaf(self, pattern: Pattern) -> _Leaf:
        """The leaf for a pattern's path, made when absent."""
        segments = pattern.segments
        if not any(map(is_glob, segments)):
            place = self._subtree if pattern.subtree else self._exact
            self._depth = max(self._depth, len(segments))
            return place.setdefault(segments, _Leaf())
        if self._globs is None:
            self._globs = GlobTree()
        ends = self._globs.setdefault(segments, _Ends)
        if pattern.subtree:
            ends.subtree = ends.subtree or _Leaf()
            return ends.subtree
        ends.exact = ends.exact or _Leaf()
        return ends.exact

    def leaves(self, segments: tuple[str, ...], *, subtree: bool, scan: int | None = None) -> Iterator[_Leaf]:
        """Every leaf whose path matches; with ``subtree``, whose path covers all below."""
        if not subtree:
            exact = self._exact.get(segments)
            if exact is not None:
                yield exact
        longest = len(segments) if subtree else len(segments) - 1
        for length in range(min(self._depth, longest) + 1):
            below = self._subtree.get(segments[:length])
            if below is not None:
                yield below
        if self._globs is None:
            return
        for length, ends in self._globs.matching(segments, most=scan):
            if ends.subtree is not None and length <= longest:
                yield ends.subtree
            if ends.exact is not None and length == len(segments) and not subtree:
                yield ends.exact


@dataclass(slots=True)
class PatternIndex:
    """Patterns with their order; ``find`` gives the first in that order that matches."""

    _hosts: dict[str, _Paths] = field(default_factory=dict)
    _host_globs: dict[str, GlobTree[_Paths]] = field(default_factory=dict)
    """Port -> patterns by the labels of the host, the last label first."""
    _any_host: _Paths | None = None

    def add(self, order: int, pattern: Pattern, namespaces: tuple[str, ...] | None) -> None:
        """Add a pattern; ``namespaces`` is ``None`` for all. Call in ascending ``order``."""
        self._paths(pattern.host).leaf(pattern).add(order, pattern, namespaces)

    def find(self, location: Location, qualifiers: Qualifiers, namespace: str | None) -> int | None:
        """The lowest order that matches, or ``None``."""
        best: int | None = None
        for paths in self._paths_of(location.host):
            for leaf in paths.leaves(location.segments, subtree=False):
                for order in leaf.orders(qualifiers, namespace):
                    if best is None or order < best:
                        best = order
        return best

    def covering(self, pattern: Pattern, qualifiers: Qualifiers, namespace: str | None) -> Iterator[int]:
        """Orders of patterns that match all that ``pattern`` can match (some, not always all).

        ``namespace`` may be a glob's text. A pattern, or an equal one before it, covers itself.
        """
        for paths in self._paths_of(pattern.host, scan=MAX_COMPARED):
            for leaf in paths.leaves(pattern.segments, subtree=pattern.subtree, scan=MAX_COMPARED):
                yield from leaf.orders(qualifiers, namespace, scan=MAX_COMPARED)

    def _paths(self, host: str) -> _Paths:
        if host == ANY:
            if self._any_host is None:
                self._any_host = _Paths()
            return self._any_host
        if not is_glob(host):
            return self._hosts.setdefault(host, _Paths())
        name, port = split_port(host)
        return self._host_globs.setdefault(port, GlobTree()).setdefault(_labels(name), _Paths)

    def _paths_of(self, host: str, *, scan: int | None = None) -> Iterator[_Paths]:
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
        if tree is None or name.startswith("["):  # * stands for a part of a DNS name
            return
        labels = _labels(name)
        for length, paths in tree.matching(labels, most=scan):
            if length == len(labels):
                yield paths


def _labels(name: str) -> tuple[str, ...]:
    """The labels of a host, the last one first: endings differ less than beginnings."""
    return tuple(reversed(name.split(".")))
