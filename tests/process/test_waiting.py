"""Pauses: after a failure, until an instant or an event, and after work that may take a part of the time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from gatekeeper_py.process import waiting
from gatekeeper_py.process.waiting import PartOfTime, backed_off, unless, wait_for, wait_until

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.5), (1, 1.0), (3, 4.0), (4, 5.0), (10, 5.0), (100_000, 5.0)]
)
def test_the_pause_doubles_to_a_bound(failures: int, seconds: float) -> None:
    assert backed_off(0.5, failures, 5.0) == seconds


async def test_an_event_or_the_time_ends_a_wait() -> None:
    event = asyncio.Event()
    assert await wait_for(event, 0.001) is False
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_for(event, None) is True
    assert await wait_for(event, 0.0) is True


async def test_an_event_ends_work_that_is_not_done() -> None:
    event, ended = asyncio.Event(), []

    async def work(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.sleep(0)
            ended.append(seconds)
        return "done"

    assert await unless(event, work(0), "stopped") == "done"
    event.set()
    assert await unless(event, work(60), "stopped") == "stopped"
    assert ended == [0, 60], "cancelled work has ended when its caller goes on"


async def test_a_clock_that_is_set_ends_a_wait_for_an_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST_SLEEP_SECONDS", 0.001)
    event, now = asyncio.Event(), NOW
    wait = asyncio.create_task(wait_until(NOW + timedelta(days=1), lambda: now, event))
    await asyncio.sleep(0.01)
    assert not wait.done()
    now += timedelta(days=1)
    assert await wait is False
    assert await wait_until(NOW, lambda: now, event) is False


@pytest.mark.parametrize("instant", [None, NOW + timedelta(days=1)])
async def test_an_event_ends_a_wait_for_an_instant(instant: datetime | None) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, event.set)
    assert await wait_until(instant, lambda: NOW, event) is True


@pytest.mark.parametrize(
    ("reserve", "work", "free_at"),
    [
        pytest.param(0.0, [], -inf, id="nothing"),
        pytest.param(0.0, [(10.0, 11.0)], 20.0, id="one"),
        pytest.param(0.0, [(10.0, 11.0), (20.0, 20.5)], 25.0, id="after-the-pause"),
        pytest.param(0.0, [(10.0, 11.0), (11.0, 12.0)], 21.0, id="too-early"),
        pytest.param(0.5, [(10.0, 10.25)], 7.5, id="from-the-reserve"),
        pytest.param(0.5, [(10.0, 10.25), (10.25, 10.5)], 10.0, id="reserve-used"),
        pytest.param(0.5, [(10.0, 10.25), (90.0, 90.25)], 87.5, id="reserve-full-again"),
        pytest.param(0.5, [(10.0, 11.0), (11.0, 11.5)], 20.0, id="too-early-with-a-reserve"),
    ],
)
def test_work_takes_a_tenth_of_the_time(
    reserve: float, work: list[tuple[float, float]], free_at: float
) -> None:
    part = PartOfTime(9.0, reserve=reserve)
    for start, end in work:
        part.spent(start, end)
    assert part.free_at == free_at
    assert part.free_without(0.1) == free_at + 10 * min(0.1, reserve)
    assert part.free_without(inf) == free_at + 10 * reserve
