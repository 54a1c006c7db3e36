"""Sockets, limits and the drain: what stands between the network and a handler.

The accept loop is our own, because aiohttp's sites can set neither a handshake timeout nor a cap
on connections, and because a connection then takes whichever certificate is current.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web_protocol import RequestHandler

from gatekeeper_py.serving.direct import SERVER, Answer, DirectParser
from gatekeeper_py.settings import Address

KEEPALIVE_SECONDS: Final = 120.0
"""Longer than the 90 s after which the API server drops an idle connection: if we closed first, a
POST under way would be lost, as Go does not send it again."""

HANDSHAKE_SECONDS: Final = 5.0
"""asyncio's 60 s would let silent clients hold a connection each for a minute."""

BACKLOG: Final = 1024
"""The size of a burst: 200 mutating requests in flight per API server, some API servers."""

MAX_HEADER_BYTES: Final = 8190
"""Per header line; the API server sends a few hundred bytes in all."""

ACCEPTS_A_TURN: Final = 64
"""So that a flood of dials does not starve the connections that are being served."""

ACCEPT_PAUSE_SECONDS: Final = 0.5
"""After the process ran out of file descriptors: time for some connections to end."""

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
    """aiohttp's protocol, with our error bodies and without its log lines per bad request.

    ``answer`` is asked first about a request that came whole.
    """

    __slots__ = ("_direct", "_on_error")

    def __init__(
        self,
        manager: web.Server,
        *,
        on_error: Callable[[int], None],
        answer: Answer | None,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self._on_error = on_error
        self._direct = None
        if answer is not None:
            self._direct = self._parser = DirectParser(self._parser, self, answer)  # type: ignore[assignment]

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._direct is not None:
            self._direct.close()
            self._direct = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the name is the caller's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused, or what a handler did not catch."""
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

    ``starting`` holds those whose connection was accepted and is not yet made.
    """

    def __init__(self, handler: Handler, *, on_error: Callable[[int], None], answer: Answer | None) -> None:
        super().__init__(handler)
        self.starting: set[RequestHandler] = set()
        self._on_error = on_error
        self._answer = answer

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        self.starting.discard(handler)
        super().connection_made(handler, transport)

    def __call__(self) -> RequestHandler:
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
        answer: Answer | None = None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._max_connections = max_connections
        self._handshake_seconds = handshake_seconds
        self._context = context
        self._server = _Server(handler, on_error=on_error, answer=answer)
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def connections(self) -> int:
        """Open ones, also those still in their handshake."""
        return len(self._server._connections) + len(self._server.starting)  # noqa: SLF001 - its property copies

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
        host, port = listening.getsockname()[:2]
        return Address(host, port)

    def stop_accepting(self) -> None:
        """Close the listening socket; open connections go on."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def close(self, seconds: float) -> None:
        """End every connection, giving running handlers this long."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.shutdown(seconds)

    def _accept(self) -> None:
        listening = self._socket
        if listening is None:
            return
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError:
                self._pause(listening)
                return
            context = self._context() if self._context is not None else None
            refused = self._context is not None and context is None
            if refused or self.connections >= self._max_connections:
                connection.close()
                continue
            connection.setblocking(False)
            protocol = self._server()
            self._server.starting.add(protocol)
            task = self._loop.create_task(self._start(protocol, connection, context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
            )
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            # A failed handshake (ssl.SSLError is an OSError): scanners and plain HTTP do it all day.
            connection.close()
        finally:
            self._server.starting.discard(protocol)
