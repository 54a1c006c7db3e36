"""The live policy and its cache."""

from __future__ import annotations

import pytest

from builders import HUB_TO_CORP, policy
from gatekeeper_py.live import MAX_CACHED_LENGTH, CacheCounts, LivePolicy, Snapshot

IMAGE = "registry.corp.io/web:1"
BY_NAMESPACE = policy(allow="[{image: registry.corp.io, namespaces: [team-*]}]")


def test_a_decision_is_made_once() -> None:
    counts = CacheCounts()
    snapshot = Snapshot(policy(), 10, counts)
    first = snapshot.decide("shop", IMAGE)
    assert first == policy().decide("shop", IMAGE)
    assert snapshot.decide("other", IMAGE) is first
    assert (counts.hits, counts.misses, snapshot.cached) == (1, 1, 1)


def test_the_cache_distinguishes_namespaces_if_a_rule_names_some() -> None:
    snapshot = Snapshot(BY_NAMESPACE, 10, CacheCounts())
    for _ in range(2):
        assert snapshot.decide("team-a", IMAGE).approved
        assert not snapshot.decide("shop", IMAGE).approved
        assert not snapshot.decide(None, IMAGE).approved
    assert snapshot.cached == 3


def test_the_cache_distinguishes_spellings_of_one_image() -> None:
    snapshot = Snapshot(policy(), 10, CacheCounts())
    for image in ("registry.corp.io/web", "registry.corp.io/web:latest", "Registry.corp.io/web"):
        assert snapshot.decide(None, image).image == image
        assert snapshot.decide(None, image).image == image


def test_the_cache_keeps_no_more_than_it_may() -> None:
    counts = CacheCounts()
    snapshot = Snapshot(policy(), 3, counts)
    for number in range(10):
        snapshot.decide(None, f"{IMAGE}{number}")
    assert snapshot.cached == 3
    snapshot.decide(None, f"{IMAGE}9")
    assert counts.hits == 1


def test_a_size_of_0_keeps_nothing() -> None:
    counts = CacheCounts()
    snapshot = Snapshot(policy(HUB_TO_CORP, mode="mutate"), 0, counts)
    for _ in range(2):
        assert snapshot.decide(None, IMAGE).approved
        plan = snapshot.plan(None, "nginx")
        assert plan is not None
        assert plan.image == "registry.corp.io/dockerhub/library/nginx"
    assert (counts.hits, counts.misses, snapshot.cached) == (0, 0, 0)


def test_long_text_is_not_kept() -> None:
    snapshot = Snapshot(policy(), 10, CacheCounts())
    for length in (MAX_CACHED_LENGTH, MAX_CACHED_LENGTH + 1, 3_000_000):
        assert not snapshot.decide(None, "x" * length).approved
        assert snapshot.plan(None, "x" * length) is None
    assert snapshot.cached == 1


def test_a_long_namespace_is_not_kept() -> None:
    """Real namespaces have at most 63 characters; other callers could fill the memory with long ones."""
    compiled = policy("deny: [{image: 'registry.corp.io/web', namespaces: [x*]}]\n")
    snapshot = Snapshot(compiled, 10, CacheCounts())
    for length in (63, MAX_CACHED_LENGTH + 1, 3_000_000):
        assert not snapshot.decide("x" * length, IMAGE).approved
        assert snapshot.decide("y" * length, IMAGE).approved
        assert snapshot.plan("x" * length, IMAGE) is None
    assert snapshot.cached == 2


@pytest.mark.parametrize("image", ["nginx", IMAGE, "registry.corp.io/dockerhub/a", "NOT/valid", ""])
def test_cached_plans_equal_new_plans(image: str) -> None:
    compiled = policy(HUB_TO_CORP, mode="mutate")
    snapshot = Snapshot(compiled, 10, CacheCounts())
    for _ in range(2):
        assert snapshot.plan("shop", image) == compiled.plan("shop", image)


def test_installing_swaps_the_snapshot_and_its_cache() -> None:
    live = LivePolicy()
    assert live.snapshot is None
    counts = CacheCounts()
    old = Snapshot(policy(), 10, counts)
    live.install(old)
    taken = live.snapshot
    assert taken is old
    assert taken.decide(None, IMAGE).approved
    live.install(Snapshot(policy(allow="[other.io]"), 10, counts))
    assert live.snapshot is not None
    assert not live.snapshot.decide(None, IMAGE).approved
    # A review that has started keeps its snapshot.
    assert taken.decide(None, IMAGE).approved


def test_a_snapshot_shows_what_its_policy_says() -> None:
    compiled = policy("message: ask us\nnamespaces: [{names: [dev-*], mode: warn}]\n")
    snapshot = Snapshot(compiled, 10, CacheCounts())
    assert snapshot.revision == compiled.revision
    assert snapshot.message == "ask us"
    assert snapshot.allow is compiled.allow
    assert [snapshot.mode(name) for name in ("dev-a", "shop", None)] == ["warn", "enforce", "enforce"]
    assert snapshot.resources == {}
