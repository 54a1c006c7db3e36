"""Requests to a host respect its rate, its requested pauses and the circuit breaker."""

from __future__ import annotations

import asyncio

import pytest

from gatekeeper_py.registry.fairness import Claim
from gatekeeper_py.registry.pacing import USUAL_REQUESTS, Blocked, Pacing


class World:
    """The pacing of one host, with a clock that each sleep advances."""

    def __init__(self, rate: int = 10) -> None:
        self.now = 100.0
        self.breaker: list[bool] = []
        self.pacing = Pacing(rate, clock=lambda: self.now, sleep=self._sleep, on_breaker=self.breaker.append)

    async def _sleep(self, seconds: float, end: asyncio.Event) -> None:
        if not end.is_set():
            self.now += seconds

    async def request(
        self, *, trouble: bool | None = False, pause: float = 0.0, patience: float = 0.0
    ) -> None:
        await self.pacing.admit(Claim(), self.now + patience)
        self.pacing.record(trouble=trouble, pause=pause)

    async def fail(self, times: int) -> None:
        for _ in range(times):
            self.now += 0.2
            await self.request(trouble=True)


async def test_a_burst_of_one_second_passes_and_then_the_rate_holds() -> None:
    world = World(rate=10)
    for _ in range(10):
        await world.request()
    assert world.now == 100.0
    with pytest.raises(Blocked, match="more than 10 requests a second"):
        await world.request()
    await world.request(patience=0.2)
    assert world.now == pytest.approx(100.1)


async def test_over_a_long_time_the_rate_is_exact() -> None:
    world = World(rate=5)
    for _ in range(105):
        await world.request(patience=10)
    assert world.now == pytest.approx(120.0)


async def test_a_quiet_hour_does_not_save_up_more_than_a_burst() -> None:
    world = World(rate=2)
    world.now += 3600
    await world.request()
    await world.request()
    with pytest.raises(Blocked):
        await world.request()


async def test_a_pause_blocks_for_its_time() -> None:
    world = World()
    await world.request(pause=30)
    assert "a pause of another 30 s" in world.pacing.blocked()
    with pytest.raises(Blocked):
        await world.request(patience=60)
    world.now += 30
    await world.request()


async def test_five_failures_in_a_row_open_the_breaker() -> None:
    world = World()
    await world.fail(4)
    await world.request()
    await world.fail(4)
    assert not world.pacing.is_open
    await world.fail(1)
    assert world.pacing.is_open
    assert world.breaker == [True]
    with pytest.raises(Blocked, match="its last 5 requests failed"):
        await world.request(patience=60)


async def test_a_look_up_that_shows_nothing_neither_opens_nor_closes_it() -> None:
    world = World()
    await world.fail(4)
    await world.request(trouble=None)
    assert not world.pacing.is_open
    await world.fail(1)
    world.now += 5
    await world.request(trouble=None)
    assert world.pacing.is_open
    await world.request()
    assert world.breaker == [True, False]


async def test_one_probe_closes_it_or_doubles_the_time() -> None:
    world = World()
    await world.fail(5)
    for seconds in (5, 10, 20, 40, 60, 60):
        world.now += seconds - 0.01
        assert world.pacing.blocked()
        world.now += 0.01
        assert not world.pacing.blocked()
        await world.pacing.admit(Claim(), world.now)
        assert world.pacing.blocked()  # a second request waits for the probe's answer
        world.pacing.record(trouble=True, pause=0.0)
        assert world.pacing.is_open
    world.now += 60
    await world.request()
    assert not world.pacing.is_open
    assert world.breaker == [True, False]
    await world.fail(5)
    world.now += 5
    assert not world.pacing.blocked()


async def test_a_cancelled_probe_lets_the_next_one_through() -> None:
    world = World()
    await world.fail(5)
    world.now += 5
    await world.pacing.admit(Claim(), world.now)
    world.pacing.abandon()
    await world.request()
    assert not world.pacing.is_open


async def test_answers_to_older_requests_do_not_lengthen_the_time() -> None:
    world = World()
    await world.fail(5)
    world.pacing.record(trouble=True, pause=0.0)
    world.now += 5
    assert not world.pacing.blocked()


async def test_an_open_breaker_that_is_forgotten_is_reported_closed_once() -> None:
    world = World()
    await world.fail(5)
    world.pacing.forget()
    world.pacing.record(trouble=False, pause=0.0)
    assert world.breaker == [True, False]


@pytest.mark.parametrize(("rate", "taken"), [(1, 1), (2, 1), (5, 3), (20, 10)])
async def test_half_of_the_bucket_is_reserved_for_reviews(rate: int, taken: int) -> None:
    world = World(rate=rate)
    for _ in range(taken):
        await world.pacing.admit(Claim(urgent=False), world.now)
    with pytest.raises(Blocked):
        await world.pacing.admit(Claim(urgent=False), world.now)
    for _ in range(rate - taken):
        await world.request()
    with pytest.raises(Blocked):
        await world.request()


async def test_background_look_ups_get_spare_requests() -> None:
    world = World(rate=10)
    for _ in range(25):
        await world.pacing.admit(Claim(urgent=False), world.now + 10)
    assert world.now == pytest.approx(102.0)


async def test_reviews_precede_background_look_ups_and_older_ones_precede_newer() -> None:
    now, order = 100.0, list[int]()
    sleeping: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(seconds: float, _end: asyncio.Event) -> None:
        sleeping.append((now + seconds, asyncio.get_running_loop().create_future()))
        await sleeping[-1][1]

    pacing = Pacing(10, clock=lambda: now, sleep=sleep)
    for _ in range(10):
        await pacing.admit(Claim(), now)

    async def admit(claim: Claim) -> None:
        await pacing.admit(claim, float("inf"))
        order.append(claim.number)

    waiting = [
        Claim(0, urgent=False), Claim(4), Claim(1, urgent=False), Claim(3), Claim(2, urgent=False),
    ]  # fmt: skip
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for claim in waiting:
            group.create_task(admit(claim))
        while len(order) < len(waiting):
            for _ in range(10):
                await asyncio.sleep(0)
            sleeping.sort(key=lambda each: each[0])
            now, woken = sleeping.pop(0)
            woken.set_result(None)
            await asyncio.sleep(0)
    assert order == [3, 4, 0, 1, 2]


async def test_a_look_up_that_a_review_joins_need_not_wait_for_spare_requests() -> None:
    """The clock stands still, so no spare request ever becomes available."""
    pacing = Pacing(2, clock=lambda: 100.0)
    await pacing.admit(Claim(0, urgent=False), 100.0)
    claim = Claim(1, urgent=False)
    admitted = asyncio.create_task(pacing.admit(claim, float("inf")))
    await asyncio.sleep(0)
    claim.hurry()
    async with asyncio.timeout(10):
        assert await admitted is False


async def test_a_cancelled_look_up_stops_waiting() -> None:
    world = World(rate=1)
    await world.request()
    with pytest.raises(Blocked):
        await world.request(patience=0.5)
    await world.request(patience=1.0)
    assert world.now == pytest.approx(101.0)


async def test_every_request_of_a_look_up_takes_a_turn() -> None:
    world = World(rate=5)
    for number in range(20):
        claim = Claim(number)
        await world.pacing.admit(claim, world.now + 10)
        for _ in range(2):
            await world.pacing.take(claim, world.now + 10)
    assert world.now == pytest.approx(100 + (60 - 5) / 5)


@pytest.mark.parametrize("rate", [1, 2, 3, 4, 20])
async def test_a_look_up_does_not_wait_between_its_requests_but_delays_the_next_one(
    rate: int,
) -> None:
    world = World(rate=rate)
    claim = Claim()
    await world.pacing.admit(claim, world.now)
    for _ in range(USUAL_REQUESTS - 1):
        await world.pacing.take(claim, world.now)
    assert world.now == 100.0
    for _ in range(rate):
        await world.request(patience=10)
    assert world.now == pytest.approx(100 + USUAL_REQUESTS / rate)


async def test_a_further_request_fails_without_a_turn_in_time() -> None:
    world = World(rate=5)
    for _ in range(5):
        await world.request()
    with pytest.raises(Blocked, match="more than 5 requests a second"):
        await world.pacing.take(Claim(), world.now + 0.1)
