"""Sockets, limits and the drain: what stands between the network and a handler.

The accept loop is our own, because aiohttp's sites can set neither a handshake timeout nor a cap
on connections, and because a connection then takes whichever certificate is current.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, Literal, cast, get_args

import orjson
from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from gatekeeper_py.runtime.memory import give_back
from gatekeeper_py.serving.direct import MAX_HEADER_BYTES, SERVER, Answer, DirectParser, SlowHeader
from gatekeeper_py.settings import Address

KEEPALIVE_SECONDS: Final = 120.0
"""Longer than the 90 s after which the API server drops an idle connection: if we closed first, a
POST under way would be lost, as Go does not send it again."""

HANDSHAKE_SECONDS: Final = 5.0
"""asyncio's 60 s would let silent clients hold a connection each for a minute."""

SHUTDOWN_SECONDS: Final = 3.0
"""For the peer's goodbye after ours; Go sends it at once. asyncio's 30 s would let a client that was
refused hold its connection that much longer."""

MAX_UNSENT_BYTES: Final = 64 * 1024
"""Of answers to one connection, here and again as much below TLS; then nothing is read from it. An
answer has a few KiB. uvloop's 512 KiB, 500 times, would be half of the memory limit."""

KERNEL_BYTES: Final = 128 * 1024
"""For what one connection received and sent, each, in the kernel, which takes twice that with its own
records. By itself it would let a client that sends and never reads have 10 MiB, and all of that counts
as memory of the container. At a round trip of 1 ms this still carries a body of 7 MiB in 60 ms."""

STALLED_SECONDS: Final = 10.0
"""Without a byte of them taken by the peer, or after the end of a connection that does not end: the
longest that the API server waits for an answer by default."""

LOOK_SECONDS: Final = 1.0
"""Between looks at all connections for what is late. One timer for all: one for each request would
cost as much as a tenth of a review, and 500 connections are looked at in a fraction of a millisecond."""

BACKLOG: Final = 1024
"""The size of a burst: 200 mutating requests in flight per API server, some API servers."""

ACCEPTS_A_TURN: Final = 4
"""A handshake costs 0.8 ms of CPU, a review less than 0.1: so a storm of dials takes some 3 ms of each
turn from the connections that are being served, and those who only dial and are silent hold up nobody."""

MANY_CONNECTIONS: Final = 32
"""When so many fewer are open than there were, their memory (0.2 MiB each) is given back."""

PATIENCE_SECONDS: Final = 1.0
"""How long a connection on which nothing happens is safe when all connections are taken, and how long one
that never carried a review may take for the body of its first request. Otherwise as many silent clients as
there may be connections would lock out the API servers."""

FIRST_PATIENCE_SECONDS: Final = 0.25
"""How long a connection that never carried a review is safe when all connections are taken. An API server
sends its review at once after the handshake. A core completes about 1,300 handshakes a second, so 500
connections cannot be replaced faster than in this time."""

Eviction = Literal["handshake", "unused", "late", "idle"]
EVICTIONS: Final[tuple[Eviction, ...]] = get_args(Eviction)
"""Why a connection was closed to make room, the first reason first: it did not complete its handshake, it
never carried a review, its first request is late, or it is an idle one of the peer with the most
connections."""

ACCEPT_PAUSE_SECONDS: Final = 0.5
"""After the process ran out of file descriptors: time for some connections to end."""

_MAPPED_IPV4: Final = bytes(10) + b"\xff\xff"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def json_response(status: int, document: Any, *, headers: dict[str, str] | None = None) -> web.Response:
    return bytes_response(status, orjson.dumps(document), headers=headers)


def bytes_response(status: int, body: bytes, *, headers: dict[str, str] | None = None) -> web.Response:
    """A response of JSON that is written out already."""
    return web.Response(
        status=status,
        body=body,
        content_type="application/json",
        headers={hdrs.SERVER: SERVER, **(headers or {})},
    )


def error_response(status: int, reason: str, *, headers: dict[str, str] | None = None) -> web.Response:
    """Every answer that is not 200 carries ``{"error": …}``."""
    return json_response(status, {"error": reason}, headers=headers)


class _Protocol(RequestHandler):
    """aiohttp's protocol, with our error bodies and limits, and without its log lines per bad request.

    ``answer`` is asked first about a request that came whole.
    """

    __slots__ = (
        "_ask",
        "_direct",
        "_evicted",
        "_moved",
        "_on_error",
        "_unsent",
        "peer",
        "reviewed",
        "used_at",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        on_error: Callable[[int], None],
        answer: Answer | None,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self.peer = b""
        self.reviewed = False
        """Whether a request on this connection was answered with 200."""
        self._ask = answer or _no_answer
        self._evicted = False
        self._on_error = on_error
        direct = None if answer is None else self._noted
        self._direct: DirectParser | None = DirectParser(self._parser, self, direct)
        self._parser = self._direct  # type: ignore[assignment]
        self._unsent = 0
        self._moved = 0.0
        self.used_at = 0.0
        """When the connection was made or the last request on it was answered, on the loop's clock."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self.used_at = self._moved = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._direct is not None:
            self._direct.close()
            self._direct = None  # or the two would hold each other until a garbage collection
        waiting = self._task_handler if self._current_request is None else None
        super().connection_lost(exc)
        if waiting is not None:
            # It may have been woken for a request in this very turn, and aiohttp's would fail on it.
            waiting.cancel()

    def look(self, transport: asyncio.Transport, now: float) -> None:
        """End what is late: a header that does not come, an answer that is not taken.

        ``transport`` is the connection's; aiohttp forgets its own before the last byte is sent.
        """
        unsent, closing = transport.get_write_buffer_size(), transport.is_closing()
        if not closing and (not unsent or unsent < self._unsent):
            self._moved = now
        self._unsent = unsent
        if now - self._moved > STALLED_SECONDS:
            transport.abort()
        elif not closing and self._direct is not None and self._direct.is_late(now):
            self._direct.give_up()
            self.data_received(b"")

    def close_if_idle(self) -> None:
        """End the connection, unless an answer is under way."""
        if self._direct is not None and self._direct.is_idle():
            self.force_close()

    def _noted(self, message: RawRequestMessage, body: bytes) -> bytes | None:
        """Answer a whole request, and note that this connection carries reviews."""
        answer = self._ask(message, body)
        if answer is not None:
            self.reviewed = True
            self.used_at = self._loop.time()
        return answer

    def eviction(self, now: float) -> Eviction | None:
        """Why this connection could be closed to make room for another one; ``None`` if it is in use.

        One with half a header counts as idle. A review that was received whole is never given up.
        """
        if self._evicted or self._force_close or self._direct is None:
            return None
        quiet = now - self.used_at
        if self._direct.is_idle():
            if not self.reviewed and quiet > FIRST_PATIENCE_SECONDS:
                return "unused"
            return "idle" if quiet > PATIENCE_SECONDS else None
        request = self._current_request
        reads_body = request is not None and not request.content.is_eof()
        return "late" if reads_body and not self.reviewed and quiet > PATIENCE_SECONDS else None

    def evict(self, transport: asyncio.Transport) -> None:
        """End the connection at once: the goodbye of TLS would keep its place for seconds."""
        self._evicted = True
        transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the name is the caller's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what was no request, or what a handler did not catch."""
        if isinstance(exc, SlowHeader):
            status = exc.code
        if not isinstance(exc, ConnectionError):  # a peer that left gets no answer
            self._on_error(status)
        if isinstance(exc, BadHttpMessage):
            reason = "malformed HTTP"
        else:
            reason = "internal error" if status >= 500 else (message or "bad request")  # noqa: PLR2004
        # Said in words, too: to a request that could not be read the answer is in HTTP/1.0.
        response = error_response(status, reason, headers={hdrs.CONNECTION: "close"})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **keys: Any) -> None:
        """A connection that ended badly is the peer's affair; ours are logged in the handler."""


class _Server(web.Server):
    """aiohttp's low-level server making our protocol.

    ``starting`` holds those whose connection was accepted and is not yet made, oldest first: since
    when, and the task that makes it.
    """

    def __init__(self, handler: Handler, *, on_error: Callable[[int], None], answer: Answer | None) -> None:
        super().__init__(handler)
        self.starting: dict[RequestHandler, tuple[float, asyncio.Task[None]]] = {}
        self._on_error = on_error
        self._answer = answer

    @property
    def open(self) -> dict[_Protocol, asyncio.Transport]:
        """Those whose connection is made, oldest first. aiohttp's own property makes a list of them."""
        return cast("dict[_Protocol, asyncio.Transport]", self._connections)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        self.starting.pop(handler, None)
        super().connection_made(handler, transport)

    def __call__(self) -> _Protocol:
        return _Protocol(
            self,
            loop=self._loop,
            on_error=self._on_error,
            answer=self._answer,
            keepalive_timeout=KEEPALIVE_SECONDS,
            access_log=None,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            auto_decompress=False,
            lingering_time=0,
        )


def _no_answer(_message: RawRequestMessage, _body: bytes) -> None:
    """Leave every request to the handler."""


def _noting(handler: Handler) -> Handler:
    """A handler that notes which connections carry requests that are answered with 200."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        protocol = cast("_Protocol", request.protocol)
        protocol.used_at = asyncio.get_running_loop().time()
        protocol.reviewed = protocol.reviewed or response.status == HTTPStatus.OK
        return response

    return handle


def peer_group(address: str) -> bytes:
    """The part of a peer's address by which connections are counted.

    An IPv6 network of 64 bits is one peer: each host there can use any of its addresses.
    """
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED_IPV4) else packed[:8]


class Listener:
    """One listening socket. ``context`` gives the TLS context of a new connection.

    With ``context`` ``None`` the listener speaks plain HTTP. A context function that answers
    ``None`` (no usable certificate yet) makes connections be closed at once. ``answer`` is asked
    first about requests that come whole (serving/direct.py).
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_connections: int,
        context: Callable[[], ssl.SSLContext | None] | None = None,
        on_error: Callable[[int], None] = lambda _status: None,
        on_evicted: Callable[[Eviction], None] = lambda _why: None,
        answer: Answer | None = None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._max_connections = max_connections
        self._handshake_seconds = handshake_seconds
        self._context = context
        self._server = _Server(_noting(handler), on_error=on_error, answer=answer)
        self._on_evicted = on_evicted
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.TimerHandle | None = None
        self._most_open = 0

    @property
    def connections(self) -> int:
        """Open ones, also those still in their handshake."""
        return len(self._server.open) + len(self._server.starting)

    def bind(self, address: Address) -> Address:
        """Listen; answers the address bound. Raises ``OSError``."""
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            infos = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except UnicodeError as problem:
            raise OSError(f"{address.host!r} is no host name") from problem
        family, kind, protocol, _, target = next((i for i in infos if i[0] == family), infos[0])
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # connections inherit them
                listening.setsockopt(socket.SOL_SOCKET, option, KERNEL_BYTES)
            if family == socket.AF_INET6 and address.host == "::":
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(target)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        self._loop.add_reader(listening.fileno(), self._accept)
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        host, port = listening.getsockname()[:2]
        return Address(host, port)

    def stop_accepting(self) -> None:
        """Close the listening socket; open connections go on.

        Those that wait in its queue begin: the kernel has answered them, and would now reset them.
        """
        for _ in range(0, BACKLOG, ACCEPTS_A_TURN):
            if not self._accept():
                break
        self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def close(self, seconds: float) -> None:
        """End every connection, giving running handlers this long."""
        self._close_socket()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for protocol in list(self._server.open):
            # aiohttp would keep them open for the whole time, and throw away what is asked on them.
            protocol.close_if_idle()
        await self._server.shutdown(seconds)
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _accept(self) -> bool:
        """Take a few connections; whether more may wait."""
        listening = self._socket
        if listening is None:
            return False
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionError:
                continue
            except OSError:
                self._pause(listening)
                return False
            context = self._context() if self._context is not None else None
            refused = self._context is not None and context is None
            if refused or (self.connections >= self._max_connections and not self._make_way()):
                connection.close()
                continue
            connection.setblocking(False)
            protocol = self._server()
            protocol.peer = peer_group(peer[0])
            task = self._loop.create_task(self._start(protocol, connection, context))
            self._server.starting[protocol] = self._loop.time(), task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._most_open = max(self._most_open, self.connections)
        return True

    def _make_way(self) -> bool:
        """End the connection that can best be spared, if there is one; whether there was one.

        First one that is slow with its handshake, then one that never carried a review, then one whose
        first request is late. Only then idle ones that carried reviews: of the peer address with the most
        connections, the one idle for longest. So strangers cannot lock out an API server, whatever they hold
        open, unless they send good reviews from as many addresses. Where all peers share an address, as
        behind a NAT, the longest idle one goes. Looking at 500 connections takes 0.1 ms, less than the
        handshake of the new one.
        """
        now = self._loop.time()
        for protocol, (since, task) in self._server.starting.items():
            if now - since <= PATIENCE_SECONDS:
                break
            del self._server.starting[protocol]
            task.cancel()
            self._on_evicted("handshake")
            return True
        spared: dict[Eviction, list[_Protocol]] = {}
        for candidate in self._server.open:
            why = candidate.eviction(now)
            if why is not None:
                spared.setdefault(why, []).append(candidate)
        for reason in EVICTIONS:
            candidates = spared.get(reason)
            if candidates:
                crowds = Counter(each.peer for each in self._server.open)
                worst = min(candidates, key=lambda each: (-crowds[each.peer], each.used_at))
                worst.evict(self._server.open[worst])
                self._on_evicted(reason)
                return True
        return False

    def _look(self) -> None:
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        now = self._loop.time()
        for protocol, transport in list(self._server.open.items()):
            protocol.look(transport, now)
        if self.connections <= self._most_open - MANY_CONNECTIONS:
            self._most_open = self.connections
            give_back()

    def _pause(self, listening: socket.socket) -> None:
        """Out of file descriptors: the socket stays readable, so stop asking for a while."""
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    async def _start(
        self, protocol: RequestHandler, connection: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=self._handshake_seconds if context is not None else None,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS if context is not None else None,
            )
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            # A failed handshake (ssl.SSLError is an OSError): scanners and plain HTTP do it all day.
            connection.close()
        finally:
            self._server.starting.pop(protocol, None)
