"""Long work on the event loop, in slices that leave it free to answer reviews in between.

A thread is not an alternative. While it is busy, the event loop has to wait for the interpreter's lock after
each of its system calls, which delayed reviews by 50 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.001
"""Length of a slice between two turns of the loop. Shorter slices gain nothing, because a turn under load
takes as long."""

Result = TypeVar("Result")


async def in_slices(
    steps: Generator[None, None, Result],
    *,
    seconds: float = SLICE_SECONDS,
    monotonic: Callable[[], float] = time.perf_counter,
) -> Result:
    """Run a generator to its end and return its result. Let the event loop turn every ``seconds``.

    A slice takes at most ``seconds`` plus one step.
    """
    while True:
        end = monotonic() + seconds
        try:
            while monotonic() < end:
                next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        await asyncio.sleep(0)
