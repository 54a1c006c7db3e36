"""The live policy."""

from __future__ import annotations

from typing import Final

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.live.snapshot import LivePolicy
from support.builders import policy

IMAGE: Final = "registry.corp.io/web:1"


def test_installing_swaps_the_snapshot_and_its_cache() -> None:
    live = LivePolicy()
    assert live.snapshot is None
    counts = CacheCounts()
    old = policy().serving(10, counts)
    live.install(old)
    taken = live.snapshot
    assert taken is old
    assert taken.decide(None, IMAGE).approved
    live.install(policy(allow="[other.io]").serving(10, counts))
    assert live.snapshot is not None
    assert not live.snapshot.decide(None, IMAGE).approved
    # A review that has started keeps its snapshot.
    assert taken.decide(None, IMAGE).approved
