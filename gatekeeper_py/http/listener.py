"""A listening socket: the accept loop, the cap on connections, and the drain.

The accept loop is our own. aiohttp's sites can set neither a handshake timeout nor a cap on connections, and
with our loop each new connection gets the current certificate.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Final, Literal, cast

from gatekeeper_py.http.connections.peers import CREDIT_HALF_LIFE_SECONDS, Activity, Member, Peer
from gatekeeper_py.http.connections.protocol import Eviction, HotPath, HttpConnection, Service
from gatekeeper_py.http.connections.scheduler import QUIET_CONNECTIONS, Scheduler
from gatekeeper_py.http.connections.slowpath import AiohttpServer, Handler
from gatekeeper_py.http.connections.table import Table
from gatekeeper_py.http.connections.tlstransport import TlsTransport
from gatekeeper_py.http.limits import HANDSHAKE_SECONDS, RECEIVE_BYTES, SEND_BYTES, SHUTDOWN_SECONDS
from gatekeeper_py.process.logs import Log, RateLimit
from gatekeeper_py.process.memory import give_back
from gatekeeper_py.process.settings import EVERY, Address

CHECK_SECONDS: Final = 1.0
"""Interval between checks of all connections for timeouts. A timer for each request would cost a tenth of a
review. A check of 500 connections takes a fraction of a millisecond."""

BACKLOG: Final = 1024
"""Enough for five API servers with 200 mutating requests in flight each."""

ACCEPTS_A_TURN: Final = 32
"""Maximum number of connections accepted in one turn. Accepting one and closing another one for it takes 60
µs, so this takes 2 ms of a turn. A full backlog is accepted in 32 turns, so an API server behind a thousand
strangers waits some 100 ms."""

SPARE_RATIO: Final = 16
"""Clients behind one address are told apart by their good requests. An idle connection is spared if it
carried more than this many times as many good requests as the worst connection with an arriving request."""

RELEASE_AFTER_CLOSED: Final = 32
"""When the number of open connections has fallen by this many, the server returns their memory to the
system."""

ACCEPT_PAUSE_SECONDS: Final = 0.5
"""Pause of the accept loop when no file descriptor is left and no connection can make room."""

CLOSE_POLL_SECONDS: Final = 0.02

MAX_EVICTION_CANDIDATES: Final = 64
"""Only this many idle connections of a peer, the longest idle ones, are considered for eviction. Choosing one
of them takes 0.1 ms."""

Evicted = Literal[Eviction, "refused"]
"""Why a connection was closed when all were taken; ``refused`` means that the new one was closed."""

EVICTIONS: Final[tuple[Evicted, ...]] = ("handshake", "unused", "late", "idle", "closing", "refused")

LOG_PAUSE_SECONDS: Final = 10.0
"""Pause between two log lines about one listener and reason. An attack closes thousands of connections a
second."""


class Listener:
    """One listening socket. ``context`` returns the TLS context of a new connection.

    With ``context`` ``None`` the listener speaks plain HTTP. If ``context`` returns ``None`` (no usable
    certificate yet), the listener closes new connections at once. A request that arrives complete goes to
    ``answer`` first, and to ``handler`` if ``answer`` returns ``None``. Without ``answer``, or with ``fast``
    false, all requests go to ``handler``. ``on_error`` gets the status of each error that the listener
    answers with itself. ``on_evicted`` gets the reason and the peer of each connection that was closed
    because all were taken.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_connections: int,
        context: Callable[[], ssl.SSLContext | None] | None = None,
        on_error: Callable[[int], None] = lambda _status: None,
        on_evicted: Callable[[Evicted, str], None] = lambda _why, _peer: None,
        answer: HotPath | None = None,
        fast: bool = True,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._on_evicted = on_evicted
        self._table = Table(max_connections)
        self._scheduler = Scheduler(self._loop, max_connections)
        self._server = AiohttpServer(handler, self._scheduler, on_error, check_chunks=fast)
        self._service = Service(
            table=self._table,
            server=self._server,
            scheduler=self._scheduler,
            answer=answer if fast else None,
            on_error=on_error,
            on_evicted=self._evicted,
            handshake_seconds=handshake_seconds,
        )
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._check_timer: asyncio.TimerHandle | None = None
        self._halved = self._loop.time()
        self._most_open = 0

    @property
    def connections(self) -> int:
        """Number of open connections, including those in their handshake."""
        return len(self._table)

    def bind(self, address: Address) -> Address:
        """Listen on ``address``; return the bound address. Raises ``OSError``."""
        listening = _listen(address)
        self._socket = listening
        self._loop.add_reader(listening.fileno(), self._accept)
        self._check_timer = self._loop.call_later(CHECK_SECONDS, self._check_timeouts)
        host, port = listening.getsockname()[:2]
        return Address(host, port)

    def stop_accepting(self) -> None:
        """Close the listening socket. Open connections stay open.

        Connections in the socket's queue are accepted first, because the kernel has already answered them and
        would reset them.
        """
        for _ in range(0, BACKLOG, ACCEPTS_A_TURN):
            if not self._accept(paced=False):
                break
        self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def close(self, seconds: float) -> None:
        """Close every connection. Requests that are being answered have ``seconds`` to finish."""
        self._close_socket()
        if self._check_timer is not None:
            self._check_timer.cancel()
            self._check_timer = None
        for connection in self._connections():
            # aiohttp would keep idle connections open until the busy ones are done, but ignore their
            # requests.
            if connection.is_resting:
                connection.close()
        await self._server.shutdown(seconds)
        end = self._loop.time() + min(seconds, SHUTDOWN_SECONDS)
        while self._table and self._loop.time() < end:  # noqa: ASYNC110 - it also ends by itself
            await asyncio.sleep(CLOSE_POLL_SECONDS)  # until the peers have closed as well
        for connection in self._connections():
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports to end

    def _connections(self) -> list[HttpConnection]:
        return [cast("HttpConnection", member) for member in self._table]

    def _accept(self, *, paced: bool = True) -> bool:
        """Accept some connections; return whether more may wait.

        With ``paced``, stop while all connections are taken and too many handshakes wait for their turn.
        """
        listening = self._socket
        if listening is None:
            return False
        for _ in range(ACCEPTS_A_TURN):
            if paced and self._table.is_full and self._scheduler.is_behind:
                return True
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionError:
                continue
            except OSError:
                self._pause(listening)
                return False
            context = self._context() if self._context is not None else None
            if self._context is not None and context is None:
                accepted.close()
                continue
            self._admit(accepted, address[0], context)
        return True

    def _admit(self, accepted: socket.socket, host: str, context: ssl.SSLContext | None) -> None:
        """Accept a connection, and evict another one if the table is full."""
        table = self._table
        peer = table.peers.find(host)
        if table.is_full and not self._make_room(peer):
            self._on_evicted("refused", peer.key)
            accepted.close()
            return
        accepted.setblocking(False)
        connection = self.enter(accepted, peer)
        protocol: asyncio.BaseProtocol = connection
        if context is not None:
            protocol = connection.tls = TlsTransport(context, connection, self._scheduler)
        task = self._loop.create_task(self._start(protocol, connection, accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def enter(self, accepted: socket.socket, peer: Peer) -> HttpConnection:
        """Add an accepted connection to the table."""
        connection = HttpConnection(self._service, peer, accepted)
        self._table.add(connection)
        self._most_open = max(self._most_open, len(self._table))
        self._scheduler.crowded = len(self._table) > QUIET_CONNECTIONS
        return connection

    async def _start(
        self, protocol: asyncio.BaseProtocol, connection: HttpConnection, accepted: socket.socket
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            accepted.close()
            connection.connection_lost(None)

    def _make_room(self, newcomer: Peer) -> bool:
        """Evict the worst connection; return whether there was one to evict."""
        victim = cast("HttpConnection | None", self._table.victim(newcomer, self._loop.time()))
        if victim is None:
            return False
        if victim.activity is Activity.IDLE:
            victim = _spare(victim.peer.members[Activity.IDLE])
        victim.evict()
        return True

    def _evicted(self, why: Eviction, peer: Peer) -> None:
        self._on_evicted(why, peer.key)

    def _check_timeouts(self) -> None:
        self._check_timer = self._loop.call_later(CHECK_SECONDS, self._check_timeouts)
        now = self._loop.time()
        for connection in self._connections():
            self._scheduler.run(connection, partial(connection.check_timeouts, now))
        self._scheduler.crowded = len(self._table) > QUIET_CONNECTIONS
        if now - self._halved > CREDIT_HALF_LIFE_SECONDS:
            self._halved = now
            self._table.halve_credit()
        if self.connections <= self._most_open - RELEASE_AFTER_CLOSED:
            self._most_open = self.connections
            give_back()

    def _pause(self, listening: socket.socket) -> None:
        """Handle a lack of file descriptors: evict one connection, or stop accepting for a while."""
        if self._make_room(Peer("", 0)):
            return
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)


def open_port(listener: Listener, name: str, address: Address, log: Log) -> bool:
    """Listen on an address and log it. If that is impossible, log the reason and return ``False``."""
    try:
        bound = listener.bind(address)
    except OSError as problem:
        log.error(  # noqa: TRY400 - the problem is the message
            "cannot_listen", listener=name, address=str(address), problem=str(problem)
        )
        return False
    log.info("listening", listener=name, address=str(bound))
    return True


def log_evictions(log: Log, listener: str) -> Callable[[Evicted, str], None]:
    """Return a function for ``on_evicted`` that logs one eviction for each reason in ``LOG_PAUSE_SECONDS``.

    It counts the others. ``listener`` is the name of the listener in the log.
    """
    limit = RateLimit(LOG_PAUSE_SECONDS)

    def write(why: Evicted, peer: str) -> None:
        held = limit.passes(why)
        if held is not None:
            log.warning("connection_evicted", listener=listener, why=why, peer=peer, suppressed=held)

    return write


def _spare(idle: OrderedDict[Member, None]) -> HttpConnection:
    """Return one of a peer's idle connections to evict. ``idle`` lists the longest idle one first.

    Only the ``MAX_EVICTION_CANDIDATES`` that have been idle for longest are considered. The connection with
    the fewest good requests is evicted, because strangers send fewer than API servers, and all callers may
    share one address. A connection on which a request is arriving is evicted only if each of the others
    carried more than ``SPARE_RATIO`` times as many good requests. If several connections with an arriving
    request have equally many, the one that was idle for the shortest time is evicted: an API server that was
    idle until now has been idle for longer than strangers who never stop sending.
    """
    oldest = [cast("HttpConnection", member) for member in islice(idle, MAX_EVICTION_CANDIDATES)]
    engaged = [connection for connection in reversed(oldest) if connection.is_engaged]
    at_rest = [connection for connection in oldest if connection not in engaged]
    if not engaged or not at_rest:
        return min(at_rest or engaged, key=_GOOD)
    spare, rival = min(at_rest, key=_GOOD), min(engaged, key=_GOOD)
    return spare if spare.good <= SPARE_RATIO * rival.good else rival


_GOOD: Final = attrgetter("good")


def _listen(address: Address) -> socket.socket:
    """Return a listening socket. Raises ``OSError``."""
    if address.host != EVERY:
        return _listen_on(address)
    try:
        return _listen_on(Address("::", address.port))
    except OSError as problem:
        if problem.errno not in _NO_IPV6:
            raise
        return _listen_on(Address("0.0.0.0", address.port))  # noqa: S104 - every address is what was asked


_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
"""Errors of a kernel without IPv6, or with IPv6 switched off."""


def _listen_on(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        infos = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError as problem:
        raise OSError(f"{address.host!r} is not a host name") from problem
    family, kind, protocol, _, target = next((i for i in infos if i[0] == family), infos[0])
    listening = socket.socket(family, kind, protocol)
    try:
        # Connections inherit all of these.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if family == socket.AF_INET6 and address.host == "::":
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(target)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
