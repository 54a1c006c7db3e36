"""The live policy: the only mutable state that reviews share.

A ``Snapshot`` is a compiled policy with its own cache, and the exceptions from it. ``LivePolicy.install``
replaces it with one assignment. A review takes the snapshot once, so one policy judges all of it. Nothing
invalidates a cache, because it is discarded together with its policy, and exceptions are never cached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cachetools import LRUCache

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import POD_SPECS, GroupKind
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.policy.decision import Decision, with_exceptions
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.resources import PathTree

MAX_CACHED_LENGTH: Final = 512
"""Longest image or namespace in a cache key. Longer text is decided each time, so that 16,384 hostile images
cannot make the cache larger than 40 MiB, three times its size with real images. The longest name that a
container runtime pulls has some 450 characters, with tag and digest."""

_Key = str | tuple[str | None, str]
_ABSENT: Final = object()


@dataclass(slots=True)
class CacheCounts:
    """Cache hits and misses of all snapshots in a process."""

    hits: int = 0
    misses: int = 0


class Snapshot:
    """A compiled policy with a cache of its decisions, by image as written.

    ``cache_size`` is the number of decisions kept, 0 for none. The namespace is part of the cache key only
    if some rule depends on it. ``now`` is the clock by which exceptions begin and end.
    """

    __slots__ = (
        "_approvals",
        "_decisions",
        "_now",
        "_plans",
        "allow",
        "by_namespace",
        "compiled",
        "counts",
        "denied_origins",
        "exceptions",
        "looks_up",
        "message",
        "needs_whole_object",
        "resources",
        "revision",
    )

    def __init__(
        self,
        compiled: CompiledPolicy,
        cache_size: int,
        counts: CacheCounts,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.compiled = compiled
        self.counts = counts
        self.revision = compiled.revision
        self.message = compiled.message
        self.allow = compiled.allow
        self.resources: Mapping[GroupKind, PathTree] = compiled.resources
        self.looks_up = compiled.looks_up
        self.denied_origins = compiled.denied_origins
        # Pull secrets are read only by policies that add some.
        self.needs_whole_object = compiled.adds_pull_secrets or not POD_SPECS.keys().isdisjoint(
            self.resources
        )
        self._approvals: dict[Mode, Callable[[str], bytes]] = {}
        self.by_namespace = compiled.by_namespace
        self.exceptions = NO_EXCEPTIONS
        self._now = now
        self._decisions: LRUCache[_Key, Decision] | None = LRUCache(cache_size) if cache_size else None
        self._plans: LRUCache[_Key, Rewrite | None] | None = LRUCache(cache_size) if cache_size else None

    def excepting(self, exceptions: Exceptions) -> Snapshot:
        """Return this snapshot, its caches included, with these exceptions."""
        if self.exceptions is exceptions:
            return self
        other = copy(self)
        other.exceptions = exceptions
        return other

    @property
    def cached(self) -> int:
        """The number of decisions in the cache."""
        return 0 if self._decisions is None else len(self._decisions)

    def mode(self, namespace: str | None) -> Mode:
        return self.compiled.mode(namespace)

    def pull_secret(self, mirror: int) -> str | None:
        return self.compiled.pull_secret(mirror)

    def approval(self, mode: Mode) -> Callable[[str], bytes]:
        """Return a function that takes the uid of a fully approved review and returns the response."""
        write = self._approvals.get(mode)
        if write is None:
            write = self._approvals[mode] = review.approval({"mode": mode.name, "policy": self.revision})
        return write

    def decide(self, namespace: str | None, image: str) -> Decision:
        """Return ``CompiledPolicy.decide_by_rules``, from the cache if possible."""
        cache = self._decisions
        key = _with_namespace(namespace, image) if self.by_namespace else image
        if cache is None or key is None or len(image) > MAX_CACHED_LENGTH:
            return self.compiled.decide_by_rules(namespace, image)
        decision = cache.get(key)
        if decision is not None:
            self.counts.hits += 1
            return decision
        self.counts.misses += 1
        decision = cache[key] = self.compiled.decide_by_rules(namespace, image)
        return decision

    decide_by_rules = decide

    def excepted(self, _namespace: str | None, decision: Decision) -> Decision:
        """Return the decision on a rejected image with exceptions. Without grants, there are none."""
        return decision

    def plan(self, namespace: str | None, image: str) -> Rewrite | None:
        """Return ``CompiledPolicy.plan``, from the cache if possible."""
        cache = self._plans
        key = _with_namespace(namespace, image) if self.by_namespace else image
        if cache is None or key is None or len(image) > MAX_CACHED_LENGTH:
            return self.compiled.plan(namespace, image)
        plan = cache.get(key, _ABSENT)
        if plan is _ABSENT:
            plan = cache[key] = self.compiled.plan(namespace, image)
        return plan  # type: ignore[return-value]


class _WithGrants(Snapshot):
    """A snapshot of a policy with grants. Others need not look for exceptions."""

    __slots__ = ()

    def decide(self, namespace: str | None, image: str) -> Decision:
        """Return ``CompiledPolicy.decide`` as of now. What the rules say comes from the cache if possible."""
        decision = self.decide_by_rules(namespace, image)
        return decision if decision.approved else self.excepted(namespace, decision)

    def excepted(self, namespace: str | None, decision: Decision) -> Decision:
        """Return the decision on a rejected image with the exceptions that are in effect now."""
        grants, origins = self.compiled.grants, self.denied_origins
        return with_exceptions(decision, self.exceptions, grants, self.allow, origins, namespace, self._now())


def snapshot_at(compiled: CompiledPolicy, cache_size: int, counts: CacheCounts) -> Snapshot:
    """Return a snapshot that judges as of the instant of a policy, with the exceptions of that policy."""
    snapshot = snapshot_of(compiled, cache_size, counts, lambda: compiled.instant)
    return snapshot.excepting(compiled.exceptions)


def snapshot_of(
    compiled: CompiledPolicy,
    cache_size: int,
    counts: CacheCounts,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Snapshot:
    """Return a snapshot that finds exceptions if the policy has grants."""
    return (_WithGrants if compiled.grants else Snapshot)(compiled, cache_size, counts, now)


def _with_namespace(namespace: str | None, image: str) -> _Key | None:
    """Return the cache key, or ``None`` if the namespace is too long to be kept."""
    return None if namespace is not None and len(namespace) > MAX_CACHED_LENGTH else (namespace, image)


class LivePolicy:
    """Holds the live snapshot, ``None`` until the first good policy, and the exceptions in use."""

    __slots__ = ("exceptions", "snapshot")

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.exceptions = NO_EXCEPTIONS

    def install(self, snapshot: Snapshot) -> None:
        """Make a snapshot live. Reviews in progress keep the one they started with."""
        self.snapshot = snapshot.excepting(self.exceptions)

    def use_exceptions(self, exceptions: Exceptions) -> None:
        """Use other exceptions from now on, with this policy and the next ones."""
        self.exceptions = exceptions
        if self.snapshot is not None:
            self.snapshot = self.snapshot.excepting(exceptions)
