"""The memory for bodies in progress, shared between the peers that send them.

The share of a peer is a quarter. When memory is short, a body of a peer with more good requests replaces a
body of a peer with fewer. Between the bodies of one peer, the good requests of their connections decide, and
the time that the bodies take: the more good requests, the slower a body may arrive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, Self

from gatekeeper_py.http.answers import TRY_AGAIN, Refusal
from gatekeeper_py.http.connections.peers import MAX_CREDIT, Peer
from gatekeeper_py.http.connections.table import PATIENCE_SECONDS

MAX_HELD_BYTES: Final = 32 * 1024 * 1024
"""Maximum total size of the bodies that are being read or wait to be parsed. 500 connections with 7 MiB each
would hold 3.5 GiB, and the kernel would kill the process. Real reviews have some KiB and arrive complete. The
share of a peer has room for the largest body."""


class Sender(Protocol):
    """The connection that a body comes from. ``good`` is the number of good requests that it carried."""

    peer: Peer
    good: int


class _Bodies:
    """The bodies in progress of one peer, the oldest first."""

    def __init__(self, peer: Peer | None) -> None:
        self.peer = peer
        self.bytes = 0
        self.held: dict[Body, None] = {}

    def burden(self) -> float:
        """Return the peer's bytes divided by its good requests plus one, like ``Peer.burden``."""
        return self.bytes / (1 + (0 if self.peer is None else min(self.peer.reviews, MAX_CREDIT)))

    def worst(self, now: float) -> Body | None:
        """Return the body that is ended first, the oldest of equals, or ``None`` if none can be ended."""
        return min(
            (body for body in self.held if body.can_end), key=lambda body: body.worth(now), default=None
        )


class Body:
    """The memory of one body in progress. A context manager that gives the memory back."""

    def __init__(self, memory: BodyMemory, sender: Sender | None) -> None:
        self._memory = memory
        self._sender = sender
        self._bodies: _Bodies | None = None
        self._started = memory.monotonic()
        self._size = 0
        self._scope: asyncio.Timeout | None = None
        self._is_reading = False
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    @property
    def can_end(self) -> bool:
        return self._scope is not None and not self._ended

    def burden(self) -> float:
        return 0.0 if self._bodies is None else self._bodies.burden()

    def worth(self, now: float) -> float:
        """Return (good requests of the connection + 1) / (seconds that the body has taken to arrive).

        Of the bodies of one peer, the one with the lowest value is ended first.
        """
        good = 0 if self._sender is None else min(self._sender.good, MAX_CREDIT)
        seconds = now - self._started if self._is_reading else 0.0
        return (1 + good) / max(seconds, PATIENCE_SECONDS)

    def take(self, size: int) -> None:
        """Add bytes. Ends other bodies if necessary. Raises ``Refusal`` if there is no room."""
        if self._ended:
            raise too_many()
        memory = self._memory
        bodies = self._bodies = memory.bodies_of(self._sender)
        bodies.held[self] = None
        self._size += size
        bodies.bytes += size
        memory.add(size)
        while bodies.peer is not None and bodies.bytes > memory.share and len(bodies.held) > 1:
            self._replace(bodies)
        while memory.is_full:
            # Of equal peers, the one of this body loses.
            self._replace(max(memory.all(), key=lambda each: (each.burden(), each is bodies)))

    @asynccontextmanager
    async def waiting(self, seconds: float | None = None, *, reading: bool = False) -> AsyncIterator[None]:
        """Allow the memory to end the block to make room: that raises ``Refusal``.

        Raises ``TimeoutError`` after some seconds.
        """
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._scope, self._is_reading = scope, reading
                yield
        except TimeoutError:
            if self._ended:
                raise too_many() from None
            raise
        finally:
            self._scope, self._is_reading = None, False

    def _replace(self, bodies: _Bodies) -> None:
        """End the worst body of a peer. Raises ``Refusal`` if that body is not worse than this one."""
        now = self._memory.monotonic()
        worst = bodies.worst(now)
        own = bodies is self._bodies
        if worst is None or worst is self or (own and worst.worth(now) >= self.worth(now)):
            raise too_many()
        worst.end()

    def end(self) -> None:
        """End the block of ``waiting``. The memory counts as free at once."""
        self._give_back()
        self._ended = True
        # The timeout may have passed in the same turn of the event loop.
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    def _give_back(self) -> None:
        bodies, self._bodies = self._bodies, None
        if bodies is None:
            return
        self._memory.add(-self._size)
        bodies.bytes -= self._size
        self._size = 0
        bodies.held.pop(self, None)
        self._memory.forget_if_empty(bodies)


class BodyMemory:
    """Counts the bytes of all bodies in progress, and lets large ones be parsed one at a time.

    ``most`` is the maximum of all peers together, ``share`` that of one peer. Bodies without a sender have no
    share of their own.
    """

    def __init__(self, most: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.share = most // 4
        self._most = most
        self._bytes = 0
        self.monotonic = monotonic
        self._bodies: dict[str | None, _Bodies] = {}
        self._parsing = False
        self._queue: dict[asyncio.Future[None], Body] = {}

    def body(self, sender: Sender | None = None) -> Body:
        """Return the memory of a new body, which is empty."""
        return Body(self, sender)

    @property
    def is_full(self) -> bool:
        return self._bytes > self._most

    def add(self, size: int) -> None:
        self._bytes += size

    def all(self) -> list[_Bodies]:
        return list(self._bodies.values())

    def bodies_of(self, sender: Sender | None) -> _Bodies:
        key = None if sender is None else sender.peer.key
        bodies = self._bodies.get(key)
        if bodies is None:
            bodies = self._bodies[key] = _Bodies(None if sender is None else sender.peer)
        return bodies

    def forget_if_empty(self, bodies: _Bodies) -> None:
        key = None if bodies.peer is None else bodies.peer.key
        if not bodies.held and self._bodies.get(key) is bodies:
            del self._bodies[key]

    @asynccontextmanager
    async def parsing(self, body: Body) -> AsyncIterator[None]:
        """Wait until no other body is parsed. Of those that wait, the peer with the least burden is next.

        Raises ``Refusal`` if the body is ended meanwhile.
        """
        if self._parsing:
            await self._wait_to_parse(body)
        self._parsing = True
        try:
            yield
        finally:
            self._next_to_parse()

    async def _wait_to_parse(self, body: Body) -> None:
        given = asyncio.get_running_loop().create_future()
        self._queue[given] = body
        try:
            async with body.waiting():
                await given
        except BaseException:
            if self._queue.pop(given, None) is None:
                self._next_to_parse()
            raise

    def _next_to_parse(self) -> None:
        # A cancelled request leaves the queue in a later turn of the event loop.
        waiting = [given for given in self._queue if not given.cancelled()]
        self._parsing = bool(waiting)
        if waiting:
            given = min(waiting, key=lambda each: self._queue[each].burden())
            del self._queue[given]
            given.set_result(None)


def too_many() -> Refusal:
    return Refusal(503, "too many bodies are being read", close=True, headers=TRY_AGAIN)
