"""How often a registry may be asked: its rate, the pauses it asks for, and a circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gatekeeper_py.registry.transport import MAX_CONNECTIONS

FAILURES_TO_OPEN: Final = 5
"""Failures in a row after which the breaker opens."""

FIRST_OPEN_SECONDS: Final = 5.0
LONGEST_OPEN_SECONDS: Final = 60.0

MAX_UNDER_WAY: Final = MAX_CONNECTIONS
"""Requests to a host at once. More would wait for a connection inside the HTTP client, and would be sent even
after the breaker opened: hundreds of connections a second to a registry that hangs."""


class Blocked(Exception):
    """The registry is not asked now; the message says why."""


class Pacing:
    """One host's rate, pause and breaker. ``clock`` counts seconds.

    The rate is a token bucket: ``rate`` requests a second, and as many at once after a quiet second.
    """

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_breaker: Callable[[bool], None] = lambda _is_open: None,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._on_breaker = on_breaker
        self.slots = asyncio.Semaphore(MAX_UNDER_WAY)
        """Held by each request that is sent."""
        self._next_free = float("-inf")
        """When the bucket would next be full minus the burst: tokens are counted as time."""
        self._paused_until = float("-inf")
        self._failures = 0
        self._open_until = float("-inf")
        self._open_seconds = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the breaker refuses requests, or waits for its probe."""
        return self._open_seconds > 0

    def blocked(self) -> str:
        """Why no request may be sent now; empty if one may."""
        now = self._clock()
        if now < self._paused_until:
            return f"it requested a pause of another {self._paused_until - now:.0f} s"
        if self.is_open and (now < self._open_until or self._probing):
            return f"its last {self._failures} requests failed"
        return ""

    async def admit(self, deadline: float) -> bool:
        """Wait for a turn until ``deadline``; whether the request is the breaker's probe. Raises ``Blocked``.

        Every admitted request must be followed by ``record`` or ``abandon``.
        """
        reason = self.blocked()
        if reason:
            raise Blocked(reason)
        now = self._clock()
        interval = 1.0 / self._rate
        # A bucket of `rate` tokens: the turn may lie up to a second in the past and still count.
        turn = max(self._next_free, now - 1.0 + interval)
        if turn > deadline:
            raise Blocked(f"more than {self._rate} requests a second")
        self._next_free = turn + interval
        probe = self.is_open
        self._probing = self._probing or probe
        if turn > now:
            try:
                await self._sleep(turn - now)
            except BaseException:
                if probe:
                    self._probing = False
                raise
        return probe

    def abandon(self) -> None:
        """The admitted request was cancelled: it says nothing about the host."""
        self._probing = False

    def forget(self) -> None:
        """Close the breaker for good, because the host's settings changed. Later calls report nothing."""
        if self.is_open:
            self._on_breaker(False)
        self._on_breaker = lambda _is_open: None

    def record(self, *, trouble: bool, pause: float) -> None:
        """Take note of an answer: ``trouble`` counts as a failure, ``pause`` is in seconds."""
        self._probing = False
        now = self._clock()
        if pause:
            self._paused_until = max(self._paused_until, now + pause)
        if not trouble:
            self._failures = 0
            if self.is_open:
                self._open_seconds = 0.0
                self._on_breaker(False)
            return
        self._failures += 1
        if self._failures < FAILURES_TO_OPEN:
            return
        if not self.is_open:
            self._open_seconds = FIRST_OPEN_SECONDS
            self._on_breaker(True)
        elif now >= self._open_until:
            self._open_seconds = min(2 * self._open_seconds, LONGEST_OPEN_SECONDS)
        else:
            return  # a request that was sent before the breaker opened
        self._open_until = now + self._open_seconds
