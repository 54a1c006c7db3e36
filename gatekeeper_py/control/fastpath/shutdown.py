"""Remove the match conditions when the controller stops, even if the API server is briefly away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from typing import Final

from gatekeeper_py.control.fastpath.conditions import WRITE_ERRORS, ConditionStore
from gatekeeper_py.control.fastpath.policy_view import unknown
from gatekeeper_py.runtime.backoff import backed_off

SHUTDOWN_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 5.0
"""Part of ``SHUTDOWN_SECONDS`` that a write in progress may take to finish."""

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0


async def remove_conditions(
    store: ConditionStore,
    writing: asyncio.Task[bool] | None,
    *,
    sleep: Callable[[float], Awaitable[None]],
) -> str:
    """Remove every condition. Return why that failed, or an empty text.

    ``writing`` is the last write. It may still be in progress, and must not take effect after the removal.
    """
    problem = f"not done in {SHUTDOWN_SECONDS:.0f} s"
    with suppress(TimeoutError):
        async with asyncio.timeout(SHUTDOWN_SECONDS):
            if writing is not None:
                await _finish(writing)
            for failures in count():
                try:
                    await store.write(await store.read(), unknown("the controller is stopping"))
                except WRITE_ERRORS as error:
                    problem = str(error)[:500]
                    pause = backed_off(FIRST_PAUSE_SECONDS, failures, LONGEST_PAUSE_SECONDS)
                    await sleep(0.0 if error.status == HTTPStatus.CONFLICT else pause)
                else:
                    return ""
    return problem


async def _finish(writing: asyncio.Task[bool]) -> None:
    with suppress(TimeoutError, *WRITE_ERRORS):
        async with asyncio.timeout(WRITE_SECONDS):
            await asyncio.shield(writing)
