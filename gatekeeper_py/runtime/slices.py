"""Long work on the event loop, in slices that leave it free to answer reviews in between.

A thread is no alternative: with a busy one, every call of the loop into the operating system waits for
the interpreter's lock, which made reviews wait for 50 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.001
"""Of work between two turns of the loop. Shorter ones gain nothing: a turn under load takes as long."""

Result = TypeVar("Result")


async def in_slices(
    steps: Generator[None, None, Result],
    *,
    seconds: float = SLICE_SECONDS,
    monotonic: Callable[[], float] = time.perf_counter,
) -> Result:
    """Run a generator to its end and return its result; let the event loop turn every ``seconds``.

    No slice is longer than ``seconds`` and one step.
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
