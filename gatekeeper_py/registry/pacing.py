"""Limit how often a registry is queried: by its rate, the pauses that it requests, and a circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gatekeeper_py.process.waiting import wait_for
from gatekeeper_py.registry.fairness import MAX_CONNECTIONS, Claim, FairQueue, FairSlots, Place

FAILURES_TO_OPEN: Final = 5
"""Failures in a row after which the breaker opens."""

FIRST_OPEN_SECONDS: Final = 5.0
LONGEST_OPEN_SECONDS: Final = 60.0

USUAL_REQUESTS: Final = 4
"""Requests of a look-up that gets a challenge and finds nothing: HEAD, the token, HEAD again, and GET. A
look-up may send this many requests in a row even if the rate is lower; the next look-up then waits longer.
Otherwise the look-up would not end within a review's time."""

MAX_CONCURRENT: Final = MAX_CONNECTIONS
"""Maximum number of concurrent requests to a host. Additional requests would wait for a connection inside the
HTTP client, which would send them even after the breaker opened: hundreds of connections a second to a
registry that hangs."""

RESERVED: Final = MAX_CONCURRENT // 4
"""How many of ``MAX_CONCURRENT`` are reserved for namespaces without a look-up in the host, half of these for
peers, and again for repositories. A look-up of signatures can take 5 s, if somebody pushed enough of them."""

TIMER_SECONDS: Final = 0.001
"""The accuracy of timers. A turn that is due within this time counts as due, because a timer would end too
early."""


class Blocked(Exception):
    """The registry must not be queried now; the message contains the reason."""


async def _sleep(seconds: float, end: asyncio.Event) -> None:
    """Sleep for some seconds, or until ``end`` is set."""
    await wait_for(end, seconds)


class Pacing:
    """The rate, pause and circuit breaker of one host. ``clock`` counts seconds.

    The rate is a token bucket: ``rate`` requests a second, and a burst of ``rate`` requests after a second
    without requests. Half of the bucket is reserved for look-ups that a review waits for. Peers take
    turns, and so do the namespaces of a peer and the repositories of a namespace.

    ``sleep`` gets the seconds, and an event that ends the sleep early.
    """

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float, asyncio.Event], Awaitable[None]] = _sleep,
        on_breaker: Callable[[bool], None] = lambda _is_open: None,
        on_over_share: Callable[[], None] = lambda: None,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._on_breaker = on_breaker
        self._on_over_share = on_over_share
        self.slot = FairSlots(MAX_CONCURRENT, reserved=RESERVED).slot
        self._next_free = float("-inf")
        """The instant at which the bucket holds one token. The bucket gains a token every ``1 / rate``
        seconds, so this instant stands for the number of tokens."""
        self._queue = FairQueue()
        """The look-ups that wait for a turn."""
        self._paused_until = float("-inf")
        self._failures = 0
        self._open_until = float("-inf")
        self._open_seconds = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: it refuses requests, or waits for the answer to its probe."""
        return self._open_seconds > 0

    def blocked(self) -> str:
        """Return why no request may be sent now; an empty text if one may."""
        now = self._clock()
        if now < self._paused_until:
            return f"it requested a pause of another {self._paused_until - now:.0f} s"
        if self.is_open and (now < self._open_until or self._probing):
            return f"its last {self._failures} requests failed"
        return ""

    async def admit(self, claim: Claim, deadline: float) -> bool:
        """Wait for a turn; return whether the request is the breaker's probe. Raises ``Blocked``.

        ``deadline`` is on the clock. Every admitted request must be followed by ``record`` or ``abandon``.
        """
        reason = self.blocked()
        if reason:
            raise Blocked(reason)
        probe = self.is_open
        self._probing = self._probing or probe
        try:
            await self._turn(claim, deadline)
        except BaseException:
            if probe:
                self._probing = False
            raise
        return probe

    async def take(self, claim: Claim, deadline: float) -> None:
        """Wait for a turn for a further request of an admitted look-up.

        Raises ``Blocked`` if the turn is after ``deadline``.
        """
        await self._turn(claim, deadline, overdraft=max(USUAL_REQUESTS - self._rate, 0))

    async def _turn(self, claim: Claim, deadline: float, *, overdraft: int = 0) -> None:
        """Wait for the claim's turn and take a token. Raises ``Blocked`` if that is after ``deadline``."""
        place, has_turn = self._queue.add(claim), False
        try:
            while (turn := self._turn_of(place, overdraft)) > (now := self._clock()) + TIMER_SECONDS:
                if turn > deadline:
                    raise self._over_rate(place)
                await self._sleep(turn - now, claim.hurried)
                if claim.hurried.is_set():
                    self._queue.remove(place)
                    place = self._queue.add(claim)
            self._next_free = self._next_turn() + 1.0 / self._rate
            has_turn = True
        finally:
            self._queue.remove(place, has_turn=has_turn)

    def _over_rate(self, place: Place) -> Blocked:
        reason = f"more than {self._rate} requests a second"
        if not self._queue.is_over_share(place):
            return Blocked(reason)
        self._on_over_share()
        return Blocked(f"{reason}, and other namespaces need their share of them")

    def _next_turn(self) -> float:
        # The bucket holds at most `rate` tokens, so the turn is less than a second in the past.
        return max(self._next_free, self._clock() - 1.0 + 1.0 / self._rate)

    def _turn_of(self, place: Place, overdraft: int) -> float:
        """Return when a look-up at this place gets its token, unless one that comes first is added."""
        reserved = self._rate // 2 if place.peer is None else -overdraft
        return self._next_turn() + (self._queue.ahead(place) + reserved) / self._rate

    def abandon(self) -> None:
        """Note that the admitted request got no answer, so it shows nothing about the host."""
        self._probing = False

    def forget(self) -> None:
        """Report the breaker as closed, because the host's settings changed. Later calls report nothing."""
        if self.is_open:
            self._on_breaker(False)
        self._on_breaker = lambda _is_open: None

    def record(self, *, trouble: bool | None, pause: float) -> None:
        """Note what a look-up has shown about the host (see ``client.Reply``). ``pause`` is in seconds."""
        self._probing = False
        now = self._clock()
        if pause:
            self._paused_until = max(self._paused_until, now + pause)
        if trouble is None:
            return
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
