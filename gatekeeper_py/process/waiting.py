"""Pauses: after a failure, until an instant or an event, and after work that may use a part of the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from math import inf
from typing import Any, Final, TypeVar

T = TypeVar("T")

LONGEST_SLEEP_SECONDS: Final = 10.0
"""Maximum time between two looks at the system clock, because it can be set."""


def backed_off(first: float, failures: int, longest: float) -> float:
    """Return the pause in seconds after this many failures.

    The pause is ``first`` after 0 failures, doubles with each failure, and never exceeds ``longest``.
    """
    # The exponent is bounded because 2.0 ** 1024 overflows, which an outage of some hours would reach.
    return min(first * 2.0 ** min(failures, 20), longest)


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until an event is set, but at most this long. Return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def wait_until(instant: datetime | None, now: Callable[[], datetime], event: asyncio.Event) -> bool:
    """Wait until an instant of the system clock, or until an event is set. Return whether it is set.

    Without an instant, wait for the event.
    """
    while instant is None or now() < instant:
        left = None if instant is None else (instant - now()).total_seconds()
        if await wait_for(event, left and min(left, LONGEST_SLEEP_SECONDS)):
            break
    return event.is_set()


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T], otherwise: T) -> T:
    """Return the result of ``work``. If the event is set first, cancel the work and return ``otherwise``."""
    done, is_set = asyncio.create_task(work), asyncio.create_task(event.wait())
    try:
        await asyncio.wait({done, is_set}, return_when=asyncio.FIRST_COMPLETED)
        return done.result() if done.done() else otherwise
    finally:
        done.cancel()
        is_set.cancel()
        await asyncio.gather(done, is_set, return_exceptions=True)


class PartOfTime:
    """Limits work to a part of the time: the pause after it is ``factor`` times as long as the work.

    ``free_at`` is the time from which more work may begin. While nothing is done, up to ``reserve`` seconds
    of work are saved up. All times are seconds on one clock of the caller.
    """

    def __init__(self, factor: float, *, reserve: float = 0.0) -> None:
        self.free_at = -inf
        self._factor = factor
        self._reserve = reserve

    def spent(self, start: float, end: float) -> None:
        """Count work that was done. Without a reserve, only the pause after the latest work counts."""
        saved = start - (1 + self._factor) * self._reserve
        begun = max(self.free_at, saved) if self._reserve else start
        self.free_at = begun + (1 + self._factor) * (end - start)

    def free_without(self, seconds: float) -> float:
        """Return the time at which so many seconds of work, at most the reserve, are saved up."""
        return self.free_at + (1 + self._factor) * min(seconds, self._reserve)
