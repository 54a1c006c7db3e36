"""Takes the match conditions out at an orderly end, also from an API server that is away for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from typing import Final

from gatekeeper_py.control.fastpath.knowledge import unknown
from gatekeeper_py.control.fastpath.placement import Placement
from gatekeeper_py.runtime.backoff import backed_off

LEAVE_SECONDS: Final = 10.0
WRITING_SECONDS: Final = 5.0
"""Of these, for a write that is under way."""

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0


async def take_out(
    placement: Placement,
    writing: asyncio.Task[bool] | None,
    *,
    status: Callable[[Exception], int],
    sleep: Callable[[float], Awaitable[None]],
) -> str:
    """Leave no condition behind; answers what is against it, an empty text when it is done.

    ``writing`` is the last write. It may be under way still, and must not come after this one.
    """
    problem = f"not done in {LEAVE_SECONDS:.0f} s"
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_SECONDS):
            if writing is not None:
                await _end_of(writing, placement.errors)
            for failures in count():
                try:
                    await placement.put(await placement.read(), unknown("the controller ends"))
                except placement.errors as error:
                    problem = str(error)[:500]
                    pause = backed_off(FIRST_PAUSE_SECONDS, failures, LONGEST_PAUSE_SECONDS)
                    await sleep(0.0 if status(error) == HTTPStatus.CONFLICT else pause)
                else:
                    return ""
    return problem


async def _end_of(writing: asyncio.Task[bool], errors: tuple[type[Exception], ...]) -> None:
    with suppress(TimeoutError, *errors):
        async with asyncio.timeout(WRITING_SECONDS):
            await asyncio.shield(writing)
