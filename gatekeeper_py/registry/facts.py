"""Cache the answers of registries (facts) for as long as they may be used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.core.images.manifest import Answer, Manifest
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.kinds import KINDS

MAX_FACTS: Final = 50_000
"""Maximum number of facts, about 0.5 KB each. The least recently used ones are removed first."""

STALE_SECONDS: Final = 600.0
"""How long a ``found`` fact may still be used after it has expired: while it is being renewed, and if the
renewal fails."""

NOTED_SECONDS: Final = 1.0
"""A use is noted at most once in this time, because renewal and eviction depend on minutes, not seconds."""

MAX_SIGNATURES: Final = 16_384
"""Maximum number of valid signatures that are remembered, about 0.4 KB each."""

NEVER: Final = float("-inf")


@dataclass(slots=True)
class Fact:
    """One answer and its instants, in the clock's seconds.

    Before ``found_until`` the answer is ``found``, the fact is fresh, and its use need not be noted again.
    The hot path therefore needs only one comparison. Before ``retry_at`` the fact is not renewed, because its
    renewal has just failed.
    """

    answer: Answer
    fresh_until: float
    usable_until: float
    used_at: float
    found_until: float = NEVER
    retry_at: float = NEVER


class FactCache:
    """Found and missing manifests. Errors are not facts."""

    def __init__(self, *, size: int = MAX_FACTS) -> None:
        self._size = size
        self._facts: OrderedDict[Manifest, Fact] = OrderedDict()
        self.find = self._facts.get
        """Returns the fact about a manifest, even if it has expired, and notes no use. This is the method of
        the mapping itself, which saves the hot path a call."""

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, manifest: Manifest, now: float) -> Fact | None:
        """Return a fact that is fresh or stale, and note its use; ``None`` without such a fact."""
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
        """Return a fresh fact without noting a use; ``None`` without a fresh fact."""
        fact = self._facts.get(manifest)
        return fact if fact is not None and now < fact.fresh_until else None

    def used_since(self, manifest: Manifest, instant: float) -> bool:
        """Return whether a fact about the manifest is kept, and was used at ``instant`` or later."""
        fact = self._facts.get(manifest)
        return fact is not None and fact.used_at >= instant

    def store(self, manifest: Manifest, answer: Answer, settings: Registry, now: float) -> Fact:
        """Keep an answer that is ``found`` or ``missing``."""
        before = self._facts.get(manifest)
        # Renewal does not count as a use. Otherwise a fact that no review needs would be renewed forever.
        used_at = now if before is None else before.used_at
        until = now + KINDS[manifest.kind].fresh_seconds(manifest, answer, settings)
        # A miss is never stale, because the image may have been pushed since.
        fact = Fact(answer, until, until if answer.status == "missing" else until + STALE_SECONDS, used_at)
        self._facts[manifest] = fact
        self._facts.move_to_end(manifest)
        while len(self._facts) > self._size:
            self._facts.popitem(last=False)
        return fact

    def drop(self, hosts: Collection[str] | None) -> None:
        """Drop the facts about the given hosts; ``None`` means all hosts."""
        if hosts is None:
            self._facts.clear()
        elif hosts:
            for manifest in [manifest for manifest in self._facts if manifest.host in hosts]:
                del self._facts[manifest]


class ValidSignatures:
    """Valid signatures, by kind, the repository that holds them, the digest of the image, and the key.

    A valid signature never becomes invalid, so it never expires. Removing its key from the policy revokes it,
    because the look-ups of the new policy no longer name the key. The least recently used signatures are
    removed first.
    """

    def __init__(self, *, size: int = MAX_SIGNATURES) -> None:
        self._size = size
        self._answers: OrderedDict[tuple[str, ...], Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, manifest: Manifest) -> Answer | None:
        """Return the answer about a valid signature by one of the keys that a look-up names."""
        for key in manifest.keys:
            name = _proven(manifest, key)
            answer = self._answers.get(name)
            if answer is not None:
                self._answers.move_to_end(name)
                return answer
        return None

    def add(self, manifest: Manifest, answer: Answer) -> None:
        """Remember the answer about a valid signature."""
        name = _proven(manifest, answer.key)
        self._answers[name] = answer
        self._answers.move_to_end(name)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)


def _proven(manifest: Manifest, key: str) -> tuple[str, ...]:
    return (manifest.kind.name, manifest.host, manifest.repository, manifest.reference, key)
