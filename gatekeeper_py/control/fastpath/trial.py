"""Tries images that were just taken off the fast path, until an API server asks the webhook about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from gatekeeper_py.control.fastpath import canary
from gatekeeper_py.control.fastpath.canary import Canary
from gatekeeper_py.control.fastpath.dryrun import Seen
from gatekeeper_py.control.fastpath.knowledge import Known, unknown
from gatekeeper_py.core.compile.preapproved import FastPath
from gatekeeper_py.runtime.backoff import backed_off
from gatekeeper_py.runtime.logs import Log

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between two tries; the API server usually uses what was written at the first."""

SUSPICIOUS_SECONDS: Final = 5.0
"""An API server that does not use it after so long is worth an alarm."""


class Trial:
    """``begin`` after a write, then ``attempt`` until that answers ``None``.

    ``probe`` tries an image once in ``namespace``; without it there is never anything to try.
    """

    def __init__(
        self,
        probe: Callable[[Canary], Awaitable[Seen]] | None,
        namespace: str,
        *,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shown: tuple[Canary, ...] = ()
        """The images that were asked about since the beginning."""
        self._probe = probe
        self._namespace = namespace
        self._log = log
        self._now = now
        self._monotonic = monotonic
        self._known = unknown("")
        self._waiting: tuple[Canary, ...] = ()
        self._tries = 0
        self._since = 0.0

    async def begin(self, previous: FastPath, known: Known) -> None:
        """Choose images that tell the new from the previous, and keep those that wait and still tell."""
        kept, self._waiting, self.shown = self._waiting, (), ()
        self._known, self._tries, self._since = known, 0, self._monotonic()
        if self._probe is None or known.policy is None:
            return
        chosen: tuple[Canary, ...] = ()
        if known.fast_path.tightens(previous):
            chosen = await asyncio.to_thread(
                canary.choose, previous, known.fast_path, known.policy, self._namespace, self._now()
            )
        newer = {each.endpoint for each in chosen}
        kept = await self._telling(tuple(each for each in kept if each.endpoint not in newer))
        self._waiting = (*chosen, *kept)

    async def attempt(self) -> float | None:
        """Try what waits; answers the seconds until the next try, ``None`` when there is none."""
        while self._waiting and self._probe is not None:
            image, *others = self._waiting
            seen = await self._probe(image)
            if not seen.asked:
                return await self._again(image, seen)
            self._waiting, self.shown = tuple(others), (*self.shown, image)
        return None

    async def _again(self, tried: Canary, seen: Seen) -> float:
        pause = backed_off(FIRST_PAUSE_SECONDS, self._tries, LONGEST_PAUSE_SECONDS)
        self._tries += 1
        if self._monotonic() - self._since > SUSPICIOUS_SECONDS:
            self._log.error(
                "fastpath_not_verified",
                endpoint=tried.endpoint,
                image=tried.image,
                problem=seen.problem,
                retry_seconds=round(pause, 2),
            )
            # A rule may have lapsed that refused it.
            self._waiting = await self._telling(self._waiting)
        return pause

    async def _telling(self, images: tuple[Canary, ...]) -> tuple[Canary, ...]:
        policy = self._known.policy
        if not images or policy is None:
            return ()
        return await asyncio.to_thread(
            canary.still_telling, images, self._known.fast_path, policy, self._namespace, self._now()
        )
