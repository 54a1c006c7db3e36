"""The fair scheduler of the event loop: a budget per turn for each kind of work, and the order of peers.

In each of its turns, the event loop reads every socket that has input, and the turn ends when all input is
handled. With thousands of connections, one turn could take seconds, and every connection would wait for its
end. So the three kinds of work that cost CPU time, handshakes, decrypted input and the answers of aiohttp's
handlers, have a budget for each turn. Work beyond the budget is queued by peer, and the peers take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Generic, Protocol, TypeVar

from gatekeeper_py.http.connections.peers import Peer

HANDSHAKES_A_TURN: Final = 8
"""Maximum number of handshakes that begin in one turn. A handshake costs 0.35 ms of CPU, a review less than
0.1 ms. So a storm of new connections takes 3 ms of each turn from the connections that are being served."""

ANSWERS_A_TURN: Final = 8
"""Maximum number of handlers that continue in one turn after it ran out of time. They run after the turn, so
the turn cannot measure their time. An error takes 0.2 ms. A review of 256 KiB, the largest that is parsed at
once, takes up to 5 ms."""

MAX_HANDSHAKES: Final = 512
"""Maximum number of handshakes that wait for the peer's second message. Each holds 45 KiB, and when all peers
answer at once, their second halves take 40 ms of one turn."""

MAX_WAITING_HANDSHAKES: Final = 64
"""While all connections are taken and this many handshakes wait for their turn, no more connections are
accepted. New connections wait in the kernel's queue instead. Without this bound, clients that dial faster
than handshakes can begin would fill the table with waiting connections, and each would be evicted as the
oldest just before its turn."""

WAITING_SHARE: Final = 8
"""If it is less than ``MAX_WAITING_HANDSHAKES``, the bound is one handshake for this many connections, but at
least ``HANDSHAKES_A_TURN``."""

HANDSHAKE_PATIENCE_SECONDS: Final = 0.25
"""How long a handshake may wait for its peer while a handshake of another peer, equally good or better, is
queued. A handshake is not ended in favour of the same peer, because a client that begins a thousand
handshakes at once needs seconds to continue all of them."""

QUIET_CONNECTIONS: Final = 16
"""Up to this many connections, input is not budgeted, which saves reading the clock for each review. One
piece of input takes a millisecond, or 12 ms if a peer makes it as expensive as possible."""

INPUT_SECONDS: Final = 0.005
"""Time budget for input in one turn. The rest waits for later turns."""

CHEAP: Final = 0.75
"""Input is cheap if it took less than this share of the mean time. The next input of the same connection then
takes precedence over the others. Without this, a small review could wait for a large denial on each of 500
other connections."""

MEAN_OF: Final = 64
"""Approximate number of pieces of input that the mean is taken over."""


class Rank(IntEnum):
    """Kinds of input that wait for separate turns.

    A review does not wait for costlier reviews, and no review waits for megabytes of others, even if they
    come from the same peer.
    """

    CHEAP = 0
    COSTLY = 1
    REST = 2
    """The rest of earlier input of the same connection, or input that belongs to or follows a request that
    aiohttp handles."""


class Connection(Protocol):
    """A connection with something to do in a later turn."""

    peer: Peer

    def abort(self) -> None:
        """Close at once. What was not sent is lost."""


class Handshake(Connection, Protocol):
    """A connection whose handshake can begin. ``Scheduler`` keeps the time when it began in ``started``."""

    started: float

    def begin(self) -> None:
        """Answer the first half of the handshake."""

    def give_up(self) -> None:
        """End the connection, because its peer does not continue the handshake."""


class Scheduler:
    """Schedules the work of one listener. ``crowded`` is set while input is budgeted.

    ``capacity`` is the maximum number of connections.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        capacity: int = MAX_HANDSHAKES,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.crowded = False
        self._most_waiting = max(min(MAX_WAITING_HANDSHAKES, capacity // WAITING_SHARE), HANDSHAKES_A_TURN)
        self._loop = loop
        self._clock = clock
        self._began = 0.0
        self._scheduled = False
        self._input: dict[Rank, _Queue[_Deferred]] = {rank: _Queue() for rank in Rank}
        self._waiting: _Queue[Handshake] = _Queue()
        self._answers: _Queue[asyncio.Event] = _Queue()
        self._started: OrderedDict[Handshake, None] = OrderedDict()
        self._mean_seconds = 0.0

    def has_time(self) -> bool:
        """Return whether input that has just arrived can be handled in this turn."""
        if self._scheduled:
            return self._clock() - self._began < INPUT_SECONDS
        self._schedule()  # the first input of this turn
        return True

    def defer(self, connection: Connection, handle: Callable[[], None], rank: Rank) -> None:
        """Call ``handle`` when the turn of the connection's peer comes. The ranks take turns, too."""
        self._input[rank].add(connection.peer, (connection, handle))
        self._schedule()

    def is_costly(self, seconds: float) -> bool:
        """Note the CPU time that deferred input took. Return whether it was costly compared with the mean."""
        self._mean_seconds += (seconds - self._mean_seconds) / MEAN_OF
        return seconds >= CHEAP * self._mean_seconds

    async def wait(self, connection: Connection) -> None:
        """Make a handler wait for a later turn if this one has no time left."""
        if not self.crowded or self.has_time():
            return
        turn = asyncio.Event()
        self._answers.add(connection.peer, turn)
        self._schedule()
        await turn.wait()

    @property
    def is_behind(self) -> bool:
        """Whether too many handshakes wait for their turn to let more connections in.

        The result is false while ``MAX_HANDSHAKES`` handshakes wait for their peers. Then new connections
        must be accepted, because each of them evicts an old one.
        """
        return len(self._waiting) >= self._most_waiting and len(self._started) < MAX_HANDSHAKES

    def add(self, handshake: Handshake) -> None:
        """Begin a handshake when its peer's turn comes."""
        self._waiting.add(handshake.peer, handshake)
        self._schedule()

    def remove(self, handshake: Handshake) -> None:
        """Forget a handshake that is complete, or whose connection ended."""
        self._started.pop(handshake, None)
        self._waiting.discard(handshake.peer, handshake)

    def run(self, connection: Connection, step: Callable[[], None]) -> None:
        """Run one step of a connection. If it raises, log the exception and end only this connection."""
        try:
            step()
        except Exception as problem:  # noqa: BLE001 - it is reported, and others must not suffer from it
            self._loop.call_exception_handler(
                {
                    "message": "closed one connection, because its handler raised an exception",
                    "exception": problem,
                }
            )
            connection.abort()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._began = self._clock()
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        try:
            self._handle_input()
            self._continue_handlers()
            self._begin_handshakes()
        finally:
            # Whatever happened above, the other connections need their turns.
            self._scheduled = False
            if self._waiting or self._answers or any(self._input.values()):
                self._schedule()

    def _handle_input(self) -> None:
        began = self._clock()
        while any(self._input.values()):
            for queue in self._input.values():
                peer = queue.first()
                if peer is not None:
                    self.run(*queue.take(peer))
            if self._clock() - began >= INPUT_SECONDS:
                break

    def _continue_handlers(self) -> None:
        for number in range(ANSWERS_A_TURN):
            peer = self._answers.best() if number % 2 else self._answers.first()
            if peer is None:
                return
            self._answers.take(peer).set()

    def _begin_handshakes(self) -> None:
        now = self._clock()
        for number in range(HANDSHAKES_A_TURN):
            # Every other handshake is for the peer with the least burden, so that an API server does not
            # wait for one handshake of each of a thousand strangers.
            full = len(self._started) >= MAX_HANDSHAKES
            peer = self._waiting.best() if full or number % 2 else self._waiting.first()
            if peer is None or (full and not self._end_oldest(peer, now)):
                return
            handshake = self._waiting.take(peer)
            handshake.started = now
            self._started[handshake] = None
            self.run(handshake, handshake.begin)

    def _end_oldest(self, peer: Peer, now: float) -> bool:
        """End the oldest handshake that a new one of ``peer`` may replace; return whether there was one.

        Handshakes of ``peer`` itself and of better peers stay. The search continues with younger handshakes,
        because these may be of worse peers.
        """
        burden = peer.burden()
        for oldest in self._started:
            if now - oldest.started <= HANDSHAKE_PATIENCE_SECONDS:
                return False
            if oldest.peer is not peer and oldest.peer.burden() >= burden:
                del self._started[oldest]
                self.run(oldest, oldest.give_up)
                return True
        return False


_Deferred = tuple[Connection, Callable[[], None]]

_Item = TypeVar("_Item")


class _Queue(Generic[_Item]):
    """Waiting items by peer. The peers take turns."""

    def __init__(self) -> None:
        self._by_peer: OrderedDict[Peer, OrderedDict[_Item, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, peer: Peer, item: _Item) -> None:
        waiting = self._by_peer.get(peer)
        if waiting is None:
            waiting = self._by_peer[peer] = OrderedDict()
        if item not in waiting:
            waiting[item] = None
            self._count += 1

    def discard(self, peer: Peer, item: _Item) -> None:
        waiting = self._by_peer.get(peer)
        if waiting is not None and item in waiting:
            del waiting[item]
            self._count -= 1
            if not waiting:
                del self._by_peer[peer]

    def first(self) -> Peer | None:
        """Return the peer whose turn it is."""
        return next(iter(self._by_peer), None)

    def best(self) -> Peer | None:
        """Return the peer with the least burden."""
        return min(self._by_peer, key=Peer.burden, default=None)

    def take(self, peer: Peer) -> _Item:
        """Remove and return the first item of a peer."""
        waiting = self._by_peer[peer]
        item, _ = waiting.popitem(last=False)
        self._count -= 1
        if waiting:
            self._by_peer.move_to_end(peer)
        else:
            del self._by_peer[peer]
        return item
