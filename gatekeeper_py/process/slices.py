"""Long work on the event loop, in slices that leave it free to answer reviews in between.

A thread is not an alternative. While it is busy, the event loop has to wait for the interpreter's lock after
each of its system calls, which delayed reviews by 50 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.001
"""Length of a slice between two turns of the loop. Shorter slices gain nothing, because a turn under load
takes as long."""

Result = TypeVar("Result")

Steps = Generator[None, None, Result]
"""Work that yields after each of its steps and returns its result."""


class Unfinished(Exception):
    """Work took longer than one slice."""


def run_slice(
    steps: Steps[Result], until: float, monotonic: Callable[[], float] = time.perf_counter
) -> Result:
    """Run a generator to its end and return its result. Raises ``Unfinished`` if it runs past ``until``.

    The first step always runs. It runs before the clock is read, because most work has only one step.
    """
    try:
        next(steps)
        while monotonic() < until:
            next(steps)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise Unfinished


async def in_slices(
    steps: Steps[Result],
    *,
    seconds: float = SLICE_SECONDS,
    end: float = float("inf"),
    monotonic: Callable[[], float] = time.perf_counter,
) -> Result:
    """Run a generator to its end and return its result. Let other tasks run every ``seconds``.

    A slice takes at most ``seconds`` plus one step. Raises ``TimeoutError`` if the work has not ended by
    ``end``.
    """
    while (now := monotonic()) <= end:
        with suppress(Unfinished):
            return run_slice(steps, now + seconds, monotonic)
        await asyncio.sleep(0)
    raise TimeoutError
