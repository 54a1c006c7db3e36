"""Manifests in rules are looked up ahead of reviews: few at a time, with retries, and after reviews."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gatekeeper_py.core.images.manifest import MISSING, Answer, Lookup, Manifest, failed, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry import refresh as module
from gatekeeper_py.registry.client import Reply, Turn
from gatekeeper_py.registry.lookups import Lookups
from gatekeeper_py.registry.refresh import MAX_IN_ALL, MAX_OF_HOST, Refresh

HOST = "r.io"
A = Manifest(HOST, "app", "v1")
FOUND = found("sha256:" + "a" * 64)
DOWN = Reply(failed("down"), trouble=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is not an event
            await asyncio.sleep(0.001)


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


class World:
    """Look-ups in registries that answer as ``reply`` says."""

    def __init__(self, settings: Registry, clock: Callable[[], float]) -> None:
        self.reply = Reply(FOUND)
        self.gate: asyncio.Event | None = None
        """The answers wait until this event is set."""
        self.queried: list[Manifest] = []
        self.under_way = 0
        self.most_under_way = 0
        self.counted: Counter[str] = Counter()
        self.skipped = 0.0
        self.lookups = Lookups(
            self,
            registry=lambda _host: settings,
            observer=self,
            clock=lambda: clock() + self.skipped,
        )

    async def query(self, manifest: Manifest, turn: Turn) -> Reply:
        await turn(manifest.host)
        self.queried.append(manifest)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.under_way -= 1
        return self.reply

    def lookup(self, host: str, result: str, seconds: float | None, cause: str = "") -> None:
        assert host == HOST
        assert bool(cause) == (result == "error")
        assert (seconds is None) == (result == "stale")
        self.counted[result] += 1

    def breaker(self, host: str, *, is_open: bool) -> None: ...

    def over_share(self, limit: str) -> None: ...

    def name(self, *manifests: Manifest) -> None:
        self.lookups.configure(hosts=[HOST], changed=None, pinned=manifests)

    def is_fresh(self, manifest: Manifest) -> bool:
        resolution = self.lookups.resolve_cached(Lookup((manifest,)))
        return resolution is not None and resolution.answer.status == "found"


@asynccontextmanager
async def started(settings: Registry, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[World]:
    world = World(settings, clock)
    world.lookups.start()
    try:
        yield world
    finally:
        await world.lookups.close()


async def test_all_manifests_in_rules_are_fetched_even_at_a_low_rate() -> None:
    """The rules name more manifests than the rate allows within the timeout of the registry."""
    named = manifests(150)
    async with started(Registry(host=HOST, rate=100, timeout=0.1)) as world:
        world.name(*named)
        await until(lambda: len(world.queried) == len(named))
        await until(lambda: world.counted.total() == len(named))
        assert world.counted == {"found": len(named)}
        assert world.most_under_way <= MAX_OF_HOST


def stopped_clock() -> float:
    """Return a constant time, so that the token bucket is never refilled."""
    return 100.0


async def test_a_review_does_not_wait_for_background_look_ups() -> None:
    named, new = manifests(150), [Manifest(HOST, "new", f"v{number}") for number in range(50)]
    async with started(Registry(host=HOST, rate=100), stopped_clock) as world:
        world.name(*named)
        await until(lambda: len(world.queried) == 50)
        for manifest in new:
            lookup = Lookup((manifest,))
            assert (await world.lookups.resolve([lookup], 5.0))[lookup].answer == FOUND
        assert world.queried == [*named[:50], *new]


async def test_a_review_makes_the_background_look_up_that_it_needs_urgent() -> None:
    named = manifests(6)
    async with started(Registry(host=HOST, rate=10, timeout=5), stopped_clock) as world:
        world.name(*named)
        await until(lambda: len(world.queried) == 5)
        await settled()
        lookup = Lookup((named[5],))
        assert (await world.lookups.resolve([lookup], 5.0))[lookup].answer == FOUND
        assert world.queried == named


async def test_manifests_in_rules_are_fetched_once_their_registry_works_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.01)
    async with started(Registry(host=HOST)) as world:
        world.reply = DOWN
        world.name(A)
        await until(lambda: len(world.queried) == 3)
        world.reply = Reply(FOUND)
        await until(lambda: world.is_fresh(A))


@pytest.mark.parametrize("is_named", [True, False], ids=["named-in-a-rule", "used-by-reviews"])
async def test_a_failed_renewal_is_tried_again(monkeypatch: pytest.MonkeyPatch, *, is_named: bool) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.01)
    async with started(Registry(host=HOST, ttl_found=600)) as world:
        world.name(*([A] if is_named else []))
        await world.lookups.resolve([Lookup((A,))], 5.0)
        world.reply = Reply(failed("forbidden"))
        world.skipped += 490
        await until(lambda: world.counted["error"] >= 2)
        world.reply = Reply(FOUND)
        await until(lambda: world.counted["found"] == 2)
        assert world.counted["stale"] == 0


async def test_a_renewal_that_is_due_during_a_pause_starts_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SLEEP_SECONDS", 0.001)  # the clock moves without a timer
    async with started(Registry(host=HOST, ttl_found=600)) as world:
        world.name(A)
        await until(lambda: world.is_fresh(A))
        world.skipped += 470
        world.reply = Reply(failed("too many requests"), pause=120.0)
        await world.lookups.resolve([Lookup((Manifest(HOST, "other", "v1"),))], 5.0)
        world.reply = Reply(FOUND)
        before = len(world.queried)
        world.skipped += 11  # it is due
        await asyncio.sleep(0.05)
        assert len(world.queried) == before
        world.skipped += 110
        await until(lambda: world.counted["found"] == 2)
        assert world.queried[before:] == [A]
        assert world.counted["stale"] == 0


async def test_a_review_that_needs_a_cancelled_look_up_makes_another() -> None:
    async with started(Registry(host=HOST, timeout=5)) as world:
        world.gate = asyncio.Event()
        world.name(A)
        await until(lambda: world.under_way == 1)
        world.lookups.stop_refreshing()
        world.gate.set()
        lookup = Lookup((A,))
        assert (await world.lookups.resolve([lookup], 5.0))[lookup].answer == FOUND
        assert world.queried == [A, A]


async def test_look_ups_of_waiting_reviews_continue_after_refreshing_has_stopped() -> None:
    named = manifests(3)
    new = Manifest(HOST, "new", "v1")
    async with started(Registry(host=HOST, ttl_found=600, timeout=5)) as world:
        world.name()
        await world.lookups.resolve([Lookup((A,))], 5.0)
        world.gate = asyncio.Event()
        world.lookups.configure(hosts=[HOST], changed=(), pinned=named)
        await until(lambda: world.under_way == 3)
        resolving = asyncio.create_task(world.lookups.resolve([Lookup((new,)), Lookup((named[0],))], 5.0))
        await until(lambda: world.under_way == 4)
        world.lookups.stop_refreshing()
        await until(lambda: world.under_way == 2)
        world.gate.set()
        assert {resolution.answer for resolution in (await resolving).values()} == {FOUND}
        before = len(world.queried)
        world.skipped += 601
        assert world.is_fresh(A), "an earlier result is still used, but not renewed"
        world.name(*named)
        await settled()
        assert len(world.queried) == before
