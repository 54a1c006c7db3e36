"""Answers of registries, for as long as they may be used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.core.images.manifest import Answer, Manifest
from gatekeeper_py.core.policy.registries import Registry

MAX_FACTS: Final = 50_000
"""Facts kept, about 0.5 KB each. The ones unused for longest go first."""

DIGEST_SECONDS: Final = 3600.0
"""A manifest named by its digest never changes, but it can be deleted."""

STALE_SECONDS: Final = 600.0
"""How long a ``found`` fact may still be used after it has expired: while it is renewed, and when that
fails."""

NOTED_SECONDS: Final = 1.0
"""A use is noted at most this often, because renewal and eviction depend on minutes, not seconds."""

NEVER: Final = float("-inf")


@dataclass(slots=True)
class Fact:
    """One answer and its instants, in the clock's seconds.

    Until ``found_until`` the fact is fresh, its answer is ``found`` and its use need not be noted: one
    comparison for the hot path. Before ``retry_at`` it is not renewed, because renewing it has just failed.
    """

    answer: Answer
    fresh_until: float
    usable_until: float
    used_at: float
    found_until: float = NEVER
    retry_at: float = NEVER


class Facts:
    """Found and missing manifests. Errors are not facts."""

    def __init__(self, *, size: int = MAX_FACTS) -> None:
        self._size = size
        self._facts: OrderedDict[Manifest, Fact] = OrderedDict()
        self.find = self._facts.get
        """Returns a fact as it is, perhaps too old, without using it. The hot path saves a call."""

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, manifest: Manifest, now: float) -> Fact | None:
        """Return the fact for use, fresh or stale; ``None`` if there is none that may be used."""
        fact = self._facts.get(manifest)
        if fact is None:
            return None
        if now >= fact.usable_until:
            del self._facts[manifest]
            return None
        fact.used_at = now
        if fact.answer.status == "found":
            fact.found_until = min(fact.fresh_until, now + NOTED_SECONDS)
        self._facts.move_to_end(manifest)
        return fact

    def peek(self, manifest: Manifest, now: float) -> Fact | None:
        """Return a fresh fact without using it."""
        fact = self._facts.get(manifest)
        return fact if fact is not None and now < fact.fresh_until else None

    def used_since(self, manifest: Manifest, instant: float) -> bool:
        """Whether the fact is still kept and was used at ``instant`` or later."""
        fact = self._facts.get(manifest)
        return fact is not None and fact.used_at >= instant

    def store(self, manifest: Manifest, answer: Answer, settings: Registry, now: float) -> Fact:
        """Keep an answer that is ``found`` or ``missing``."""
        before = self._facts.get(manifest)
        # Renewal does not count as use. Otherwise a fact that no review needs would be renewed for ever.
        used_at = now if before is None else before.used_at
        if answer.status == "missing":
            until = now + settings.ttl_missing
            fact = Fact(answer, until, until, used_at)  # pushed after a miss: never use a stale miss
        else:
            until = now + (DIGEST_SECONDS if manifest.by_digest else settings.ttl_found)
            fact = Fact(answer, until, until + STALE_SECONDS, used_at)
        self._facts[manifest] = fact
        self._facts.move_to_end(manifest)
        while len(self._facts) > self._size:
            self._facts.popitem(last=False)
        return fact

    def drop(self, hosts: Collection[str] | None) -> None:
        """Drop the facts of some hosts, of all hosts with ``None``."""
        if hosts is None:
            self._facts.clear()
        elif hosts:
            for manifest in [manifest for manifest in self._facts if manifest.host in hosts]:
                del self._facts[manifest]
