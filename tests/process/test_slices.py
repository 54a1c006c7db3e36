"""Long work lets the event loop run between its slices."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from gatekeeper_py.process.slices import Unfinished, in_slices, run_slice
from support.recording import Clock


def steps(clock: Clock, number: int, seconds: float) -> Generator[None, None, str]:
    for _ in range(number):
        clock.now += seconds
        yield
    return "done"


async def test_the_loop_turns_after_each_slice() -> None:
    clock, turns = Clock(), 0
    task = asyncio.create_task(in_slices(steps(clock, 100, 0.001), seconds=0.01, monotonic=clock))
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert task.result() == "done"
    assert turns == pytest.approx(100 / 10, abs=2)


async def test_short_work_takes_one_turn() -> None:
    clock = Clock()
    assert await asyncio.wait_for(in_slices(steps(clock, 3, 0.0), monotonic=clock), 1.0) == "done"


@pytest.mark.parametrize(("until", "taken"), [(-1.0, 1), (2.5, 3), (10.0, 10), (10.5, None)])
def test_a_slice_runs_at_least_one_step_and_ends_on_time(until: float, taken: int | None) -> None:
    clock = Clock()
    work = steps(clock, 10, 1.0)
    if taken is None:
        assert run_slice(work, until, clock) == "done"
    else:
        with pytest.raises(Unfinished):
            run_slice(work, until, clock)
        assert clock.now == taken


async def test_work_that_is_not_done_by_its_end_is_abandoned() -> None:
    clock = Clock()
    with pytest.raises(TimeoutError):
        await in_slices(steps(clock, 100, 1.0), seconds=2.0, end=10.0, monotonic=clock)
    assert clock.now == pytest.approx(10, abs=2)


async def test_a_failure_is_raised() -> None:
    def failing() -> Generator[None, None, None]:
        yield
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        await in_slices(failing())
