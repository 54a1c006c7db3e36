"""The cache of a policy's decisions."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.policy.cache import MAX_CACHED_LENGTH, CacheCounts
from support.builders import HUB_TO_CORP, policy

IMAGE: Final = "registry.corp.io/web:1"
POLICIES = [
    policy(),
    policy(allow="[docker.io/library]", mode="warn"),
    policy(HUB_TO_CORP, mode="mutate"),
    policy(HUB_TO_CORP + "deny: [docker.io/library/nginx]\n", mode="mutate"),
    policy(allow="[{image: registry.corp.io, namespaces: [team-*]}, docker.io/library]"),
]
IMAGES = st.sampled_from(
    [
        "nginx",
        "nginx:1.25",
        "docker.io/nginx",
        "registry.corp.io/web:1",
        "registry.corp.io/dockerhub/library/nginx",
        "REGISTRY.corp.io/web",
        "registry.corp.io/web:1@sha256:" + "a" * 64,
        "",
        "no image",
        "x" * 2000,
        "registry.corp.io/web:latest",
        "registry.corp.io/web",
        "NOT/valid",
    ]
)
NAMESPACES = st.sampled_from([None, "team-a", "team-b", "shop", ""])
INSTALLS = st.tuples(st.sampled_from(POLICIES), st.sampled_from([0, 1, 2, 100]))
STEPS = st.lists(st.one_of(INSTALLS, st.tuples(NAMESPACES, IMAGES | st.text(max_size=20))), max_size=60)


@given(steps=STEPS)
def test_cached_equals_uncached_over_any_interleaving_of_images_and_installs(
    steps: list[tuple[object, object]],
) -> None:
    """``cached = uncached over any interleaving of images and installs``."""
    counts = CacheCounts()
    compiled = POLICIES[0]
    cached = compiled.serving(2, counts)
    for first, second in steps:
        if isinstance(second, int):
            assert first in POLICIES
            compiled = next(each for each in POLICIES if each is first)
            cached = compiled.serving(second, counts)
            continue
        assert first is None or isinstance(first, str)
        assert isinstance(second, str)
        assert cached.decide(first, second) == compiled.decide(first, second)
        assert cached.plan(first, second) == compiled.plan(first, second)
        assert cached.mode(first) == compiled.mode(first)


@given(images=st.lists(IMAGES, max_size=40), size=st.integers(0, 5))
def test_hits_and_misses_add_up_and_the_cache_stays_within_its_size(images: list[str], size: int) -> None:
    counts = CacheCounts()
    cached = POLICIES[0].serving(size, counts)
    for image in images:
        cached.decide("shop", image)
    kept = [image for image in images if size and len(image) <= 1024]
    assert counts.hits + counts.misses == len(kept)
    assert cached.cached == min(size, len(set(kept)))


def test_long_text_is_not_kept() -> None:
    cached = policy().serving(10, CacheCounts())
    for length in (MAX_CACHED_LENGTH, MAX_CACHED_LENGTH + 1, 3_000_000):
        assert not cached.decide(None, "x" * length).approved
        assert cached.plan(None, "x" * length) is None
    assert cached.cached == 1


def test_a_long_namespace_is_not_kept() -> None:
    """Real namespaces have at most 63 characters; other callers could fill the memory with long ones."""
    compiled = policy("deny: [{image: 'registry.corp.io/web', namespaces: [x*]}]\n")
    cached = compiled.serving(10, CacheCounts())
    for length in (63, MAX_CACHED_LENGTH + 1, 3_000_000):
        assert not cached.decide("x" * length, IMAGE).approved
        assert cached.decide("y" * length, IMAGE).approved
        assert cached.plan("x" * length, IMAGE) is None
    assert cached.cached == 2


def test_a_policy_keeps_its_cache_with_other_exceptions() -> None:
    cached = policy().serving(10, CacheCounts())
    assert cached.decide(None, IMAGE).approved
    assert cached.excepting(NO_EXCEPTIONS) is cached
    other = cached.excepting(Exceptions())
    assert (other.cached, other.cache is cached.cache) == (1, True)
