"""Find the rule that matches without looking at the others.

Exact and subtree patterns are found by hash of host and path segments, whatever their number.
Only patterns with a wildcard in the host or in a segment are scanned, in buckets: host globs by
port, number of labels and their literal ending; path globs by their literal beginning. Below one
place, tags, digests and namespaces are hashed too, so that a repository with ten thousand pinned
digests costs no more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gatekeeper_py.core.images.glob import Glob, any_matches, is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern, path_matches, split_port
from gatekeeper_py.core.images.reference import Location

MAX_COMPARED: Final = 256
"""Scanned entries of one bucket that a question about cover looks at. It is asked for each rule, so
without a bound thousands of wildcards in one bucket would cost their number squared."""

Qualifiers = tuple[str | None, ...]
"""What a leaf is asked for, e.g. ``("@sha256:…", "@*", None)`` or ``(":v1", None)``."""


def qualifiers_of(tag: str | None, digest: str | None) -> Qualifiers:
    """The qualifiers that an image with this effective tag and digest satisfies literally."""
    if digest is not None:
        return (f"@{digest}", f"@{ANY}", None)
    return (None,) if tag is None else (f":{tag}", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scanned:
    """A rule that no hash finds: it has a glob for a tag or among its namespaces."""

    order: int
    qualifier: str | None
    tag: Glob | None
    namespaces: tuple[Glob, ...] | None

    def accepts(self, qualifiers: Qualifiers, namespace: str | None) -> bool:
        if self.namespaces is not None and (namespace is None or not any_matches(self.namespaces, namespace)):
            return False
        if self.tag is None:
            return self.qualifier in qualifiers
        asked = qualifiers[0]
        return asked is not None and asked[0] == ":" and self.tag.matches(asked[1:])


@dataclass(slots=True)
class _Leaf:
    """All rules for one place."""

    _hashed: dict[tuple[str | None, str | None], int] = field(default_factory=dict)
    _scanned: list[_Scanned] = field(default_factory=list)

    def add(self, order: int, pattern: Pattern, namespaces: tuple[str, ...] | None) -> None:
        tag = Glob(pattern.tag) if pattern.tag is not None and is_glob(pattern.tag) else None
        if tag is None and (namespaces is None or not any(map(is_glob, namespaces))):
            for namespace in namespaces if namespaces is not None else (None,):
                self._hashed.setdefault((pattern.qualifier, namespace), order)
            return
        globs = None if namespaces is None else tuple(map(Glob, namespaces))
        self._scanned.append(_Scanned(order=order, qualifier=pattern.qualifier, tag=tag, namespaces=globs))

    def orders(
        self, qualifiers: Qualifiers, namespace: str | None, *, scan: int | None = None
    ) -> Iterator[int]:
        """The matching rules' orders: each hash hit, then the first of the scanned.

        With ``scan``, all that match among so many of the scanned.
        """
        for qualifier in qualifiers:
            order = self._hashed.get((qualifier, None))
            if order is not None:
                yield order
            if namespace is not None:
                order = self._hashed.get((qualifier, namespace))
                if order is not None:
                    yield order
        for rule in islice(self._scanned, scan):
            if rule.accepts(qualifiers, namespace):
                yield rule.order
                if scan is None:
                    return


@dataclass(slots=True)
class _Paths:
    """All rules for one host."""

    _exact: dict[tuple[str, ...], _Leaf] = field(default_factory=dict)
    _subtree: dict[tuple[str, ...], _Leaf] = field(default_factory=dict)
    _globs: dict[tuple[str, ...], dict[tuple[tuple[str, ...], bool], _Leaf]] = field(default_factory=dict)
    _depth: int = 0

    def leaf(self, pattern: Pattern) -> _Leaf:
        """The leaf for a pattern's path, made when absent."""
        segments = pattern.segments
        literal = next((i for i, part in enumerate(segments) if is_glob(part)), None)
        if literal is None:
            place = self._subtree if pattern.subtree else self._exact
            self._depth = max(self._depth, len(segments))
            return place.setdefault(segments, _Leaf())
        self._depth = max(self._depth, literal)
        bucket = self._globs.setdefault(segments[:literal], {})
        return bucket.setdefault((segments, pattern.subtree), _Leaf())

    def leaves(self, segments: tuple[str, ...], *, subtree: bool, scan: int | None = None) -> Iterator[_Leaf]:
        """Every leaf whose path matches; with ``subtree``, whose path covers all below."""
        if not subtree:
            exact = self._exact.get(segments)
            if exact is not None:
                yield exact
        longest = len(segments) if subtree else len(segments) - 1
        # One segment more stands for "anything below", which only another subtree can match.
        probe = (*segments, ANY) if subtree else segments
        for length in range(min(self._depth, longest) + 1):
            start = segments[:length]
            below = self._subtree.get(start)
            if below is not None:
                yield below
            if not self._globs:
                continue
            found = self._globs.get(start, {}).items()
            for (parts, whole), leaf in islice(found, scan):
                if (whole or not subtree) and path_matches(parts, probe, subtree=whole):
                    yield leaf


_HostBucket = dict[str, tuple[tuple[Glob, ...], _Paths]]
"""Hosts with a wildcard -> their labels up to the last wildcard, and the rules for each."""


@dataclass(slots=True)
class PatternIndex:
    """Patterns with their order; ``find`` gives the first in that order that matches."""

    _hosts: dict[str, _Paths] = field(default_factory=dict)
    _host_globs: dict[tuple[str, int], dict[int, dict[tuple[str, ...], _HostBucket]]] = field(
        default_factory=dict
    )
    """(port, number of labels) -> number of labels in the literal ending -> that ending -> patterns."""
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

        ``namespace`` may be a glob's text. A pattern covers itself.
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
        labels = tuple(name.split("."))
        last_glob = max(i for i, label in enumerate(labels) if is_glob(label))
        ending = labels[last_glob + 1 :]
        by_length = self._host_globs.setdefault((port, len(labels)), {})
        bucket = by_length.setdefault(len(ending), {}).setdefault(ending, {})
        # Split and compiled here: a bucket may hold thousands, each asked about for one image.
        globs = tuple(map(Glob, labels[: last_glob + 1]))
        return bucket.setdefault(host, (globs, _Paths()))[1]

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
        if name.startswith("["):  # * stands for a part of a DNS name
            return
        labels = tuple(name.split("."))
        by_length = self._host_globs.get((port, len(labels)), {})
        # Only lengths that some pattern has: slicing for every length would be quadratic in the labels.
        for length, by_ending in by_length.items():
            bucket = by_ending.get(labels[len(labels) - length :])
            if bucket is not None:
                for globs, paths in islice(bucket.values(), scan):
                    if _all_match(globs, labels):
                        yield paths


def _all_match(globs: tuple[Glob, ...], labels: tuple[str, ...]) -> bool:
    """Whether each glob matches its label; there may be labels more."""
    for glob, label in zip(globs, labels, strict=False):  # noqa: SIM110 - all() takes twice as long
        if not glob.matches(label):
            return False
    return True
