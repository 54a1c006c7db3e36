"""Manifests in rules are looked up ahead of reviews: few at a time, with retries, and after reviews."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gatekeeper_py.core.images.manifest import MISSING, Answer, Manifest, Resolution, failed
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry import refresh as module
from gatekeeper_py.registry.asking import Reply
from gatekeeper_py.registry.refresh import MAX_IN_ALL, MAX_OF_HOST, Refresh
from registry.lookingup import DOWN, FOUND, started, until

HOST = "r.io"
A = Manifest(HOST, "app", "v1")


class Fetches:
    """Look-ups that a test ends, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.started: list[Manifest] = []
        self.ends: dict[Manifest, asyncio.Event] = {}
        self.unused: set[Manifest] = set()
        self.blocked: set[str] = set()
        self.refresh = Refresh(self, clock=lambda: self.now)

    def is_in_use(self, manifest: Manifest) -> bool:
        return manifest not in self.unused

    def is_blocked(self, host: str) -> bool:
        return host in self.blocked

    def fetch(self, manifest: Manifest) -> asyncio.Task[Answer]:
        self.started.append(manifest)
        end = self.ends[manifest] = asyncio.Event()

        async def look_up() -> Answer:
            await end.wait()
            return MISSING

        return asyncio.get_running_loop().create_task(look_up())

    async def fail(self, manifest: Manifest) -> None:
        """Make the running look-up of a manifest fail."""
        self.ends.pop(manifest).set()
        self.refresh.retry(manifest)
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def fetches(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fetches]:
    monkeypatch.setattr(module, "LONGEST_SLEEP_SECONDS", 0.001)  # the clock moves without a timer
    monkeypatch.setattr(module, "SHORTEST_SLEEP_SECONDS", 0.0)
    made = Fetches()
    running = asyncio.create_task(made.refresh.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for end in made.ends.values():
        end.set()
    await settled()


def manifests(count: int, host: str = HOST) -> list[Manifest]:
    return [Manifest(host, f"app-{number:04}", "v1") for number in range(count)]


async def test_few_look_ups_run_at_once_in_one_registry(fetches: Fetches) -> None:
    named = manifests(MAX_OF_HOST + 3)
    for manifest in named:
        fetches.refresh.schedule(manifest, 0.0)
    await until(lambda: len(fetches.started) == MAX_OF_HOST)
    await settled()
    assert fetches.started == named[:MAX_OF_HOST]
    for manifest in named[:3]:
        fetches.ends[manifest].set()
    await until(lambda: len(fetches.started) == len(named))
    assert fetches.started == named


async def test_registries_do_not_wait_for_each_other_until_there_are_many(fetches: Fetches) -> None:
    hosts = [f"r{number}.io" for number in range(MAX_IN_ALL // MAX_OF_HOST + 2)]
    for host in hosts:
        for manifest in manifests(MAX_OF_HOST, host):
            fetches.refresh.schedule(manifest, 0.0)
    await until(lambda: len(fetches.started) == MAX_IN_ALL)
    await settled()
    assert len(fetches.started) == MAX_IN_ALL
    assert max(Counter(manifest.host for manifest in fetches.started).values()) == MAX_OF_HOST
    for manifest in fetches.started[: 2 * MAX_OF_HOST]:
        fetches.ends[manifest].set()
    await until(lambda: len(fetches.started) == MAX_OF_HOST * len(hosts))


async def test_a_rescheduled_look_up_starts_at_its_last_due_time(fetches: Fetches) -> None:
    fetches.refresh.schedule(A, 10.0)
    fetches.refresh.schedule(A, 20.0)
    fetches.now = 19.9
    await asyncio.sleep(0.01)
    assert fetches.started == []
    fetches.now = 20.0
    await until(lambda: fetches.started == [A])


async def test_the_delay_before_a_retry_grows(fetches: Fetches) -> None:
    fetches.refresh.schedule(A, 0.0)
    for times, delay in enumerate((2, 4, 8, 16, 32, 60, 60), 1):
        await until(lambda: len(fetches.started) == times)  # noqa: B023 - awaited here
        await fetches.fail(A)
        fetches.now += delay - 0.01
        await asyncio.sleep(0.005)
        assert len(fetches.started) == times, "not before its time"
        fetches.now += 0.02
    await until(lambda: len(fetches.started) == 8)
    fetches.refresh.schedule(A, fetches.now)  # it succeeded
    await until(lambda: len(fetches.started) == 9)
    await fetches.fail(A)
    fetches.now += 2
    await until(lambda: len(fetches.started) == 10)


async def test_further_failures_do_not_postpone_a_retry(fetches: Fetches) -> None:
    fetches.refresh.retry(A)
    for _ in range(10):
        fetches.refresh.retry(A)
    fetches.now = 2.0
    await until(lambda: fetches.started == [A])


async def test_an_unused_manifest_is_not_looked_up(fetches: Fetches) -> None:
    other = Manifest(HOST, "other", "v1")
    fetches.unused.add(A)
    fetches.refresh.schedule(A, 0.0)
    fetches.refresh.schedule(other, 0.0)
    await until(lambda: fetches.started)
    assert fetches.started == [other]
    assert not fetches.refresh.is_scheduled(A)


async def test_a_cancelled_look_up_does_not_start(fetches: Fetches) -> None:
    other = Manifest(HOST, "other", "v1")
    fetches.refresh.schedule(A, 0.0)
    fetches.refresh.cancel(A)
    fetches.refresh.schedule(other, 0.0)
    await until(lambda: fetches.started)
    assert fetches.started == [other]


async def test_a_blocked_registry_is_tried_again(fetches: Fetches) -> None:
    fetches.blocked.add(HOST)
    fetches.refresh.schedule(A, 0.0)
    await until(lambda: fetches.refresh.is_scheduled(A) and not fetches.started)
    fetches.now += 1
    fetches.blocked.clear()
    fetches.now += 60
    await until(lambda: fetches.started == [A])


async def test_all_manifests_in_rules_are_fetched_even_at_a_low_rate() -> None:
    """The rules name more manifests than the rate allows within the timeout of the registry."""
    named = manifests(150)
    async with started(Registry(host=HOST, rate=100, timeout=0.1)) as world:
        world.use(*named)
        await until(lambda: len(world.client.queried) == len(named))
        await until(lambda: world.counted.timed == len(named))
        assert world.counted.results == [(HOST, "found")] * len(named)
        assert world.client.most_under_way <= MAX_OF_HOST


def stopped_clock() -> float:
    """Return a constant time, so that the token bucket is never refilled."""
    return 100.0


async def test_a_review_does_not_wait_for_background_look_ups() -> None:
    named, new = manifests(150), [Manifest(HOST, "new", f"v{number}") for number in range(50)]
    async with started(Registry(host=HOST, rate=100), stopped_clock) as world:
        world.use(*named)
        await until(lambda: len(world.client.queried) == 50)
        for manifest in new:
            assert (await world.resolve(manifest)).answer == FOUND
        assert world.client.queried == [*named[:50], *new]


async def test_a_review_makes_the_background_look_up_that_it_needs_urgent() -> None:
    named = manifests(6)
    async with started(Registry(host=HOST, rate=10, timeout=5), stopped_clock) as world:
        world.use(*named)
        await until(lambda: len(world.client.queried) == 5)
        await settled()
        assert (await world.resolve(named[5])).answer == FOUND
        assert world.client.queried == named


async def test_manifests_in_rules_are_fetched_once_their_registry_works_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.01)
    async with started(Registry(host=HOST)) as world:
        world.client.other_answers = DOWN
        world.use(A)
        await until(lambda: len(world.client.queried) == 3)
        world.client.other_answers = FOUND
        await until(lambda: world.cached(A) == Resolution(FOUND, 0))


@pytest.mark.parametrize("is_named", [True, False], ids=["named-in-a-rule", "used-by-reviews"])
async def test_a_failed_renewal_is_tried_again(monkeypatch: pytest.MonkeyPatch, *, is_named: bool) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.01)
    async with started(Registry(host=HOST, ttl_found=600)) as world:
        world.use(*([A] if is_named else []))
        await world.resolve(A)
        world.client.other_answers = Reply(failed("forbidden"))
        world.skipped += 490
        await until(lambda: world.counted.results.count((HOST, "error")) >= 2)
        world.client.other_answers = FOUND
        await until(lambda: world.counted.results.count((HOST, "found")) == 2)
        assert (HOST, "stale") not in world.counted.results


async def test_a_renewal_that_is_due_during_a_pause_starts_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SLEEP_SECONDS", 0.001)  # the clock moves without a timer
    async with started(Registry(host=HOST, ttl_found=600)) as world:
        world.use(A)
        await until(lambda: world.cached(A) == Resolution(FOUND, 0))
        world.skipped += 470
        world.client.other_answers = Reply(failed("too many requests"), pause=120.0)
        await world.resolve(Manifest(HOST, "other", "v1"))
        world.client.other_answers = FOUND
        before = len(world.client.queried)
        world.skipped += 11  # it is due
        await asyncio.sleep(0.05)
        assert len(world.client.queried) == before
        world.skipped += 110
        await until(lambda: world.counted.results.count((HOST, "found")) == 2)
        assert world.client.queried[before:] == [A]
        assert (HOST, "stale") not in world.counted.results


async def test_a_review_that_needs_a_cancelled_look_up_makes_another() -> None:
    async with started(Registry(host=HOST, timeout=5)) as world:
        gate = world.client.other_answers = asyncio.Event()
        world.use(A)
        await until(lambda: world.client.under_way == 1)
        world.lookups.stop_refreshing()
        gate.set()
        assert (await world.resolve(A)).answer == FOUND
        assert world.client.queried == [A, A]


async def test_look_ups_of_waiting_reviews_continue_after_refreshing_has_stopped() -> None:
    named = manifests(3)
    new = Manifest(HOST, "new", "v1")
    async with started(Registry(host=HOST, ttl_found=600, timeout=5)) as world:
        world.use()
        await world.resolve(A)
        gate = world.client.other_answers = asyncio.Event()
        world.use(*named, changed=[])
        await until(lambda: world.client.under_way == 3)
        resolving = asyncio.create_task(world.resolve_all([new, named[0]]))
        await until(lambda: world.client.under_way == 4)
        world.lookups.stop_refreshing()
        await until(lambda: world.client.under_way == 2)
        gate.set()
        assert await resolving == [FOUND] * 2
        before = len(world.client.queried)
        world.skipped += 601
        assert world.cached(A) == Resolution(FOUND, 0), "an earlier result is still used, but not renewed"
        world.use(*named)
        await settled()
        assert len(world.client.queried) == before
