"""Requests that aiohttp's server answers: all except complete reviews on an idle connection.

An ``Exchange`` stands between one connection and aiohttp's handler of it, and lets one request through at a
time. Only documented names of aiohttp are used here. aiohttp reads ahead, and limits neither the total size
of a header nor the time that it takes. So the exchange counts the bytes of each header up to the empty line
that ends it, and takes the length of the body from the parsed request.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Final, Protocol, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from gatekeeper_py.http.aiohttp_internals import ChunkCheck
from gatekeeper_py.http.answers import MALFORMED, Refusal, error_response
from gatekeeper_py.http.connections.scheduler import Connection, Rank, Scheduler
from gatekeeper_py.http.limits import (
    HEADER_SECONDS,
    MAX_HEADER_BYTES,
    MAX_WAITING_BYTES,
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

END: Final = b"\r\n\r\n"
"""Ends a header, and a chunked body."""

PIECES: Final = 64
"""Maximum number of places at which one read of a chunked body is cut to find its end. A JSON body does
not need even one empty line. Beyond this number, the server no longer searches for the end, and closes the
connection after its answer."""

MAX_FRAMING_BYTES: Final = 512
"""The framing of a chunked body may have at most this many bytes, and one more for each ``BODY_PER_FRAMING``
bytes of the body: some 90 chunks of any size, and one more for each 256 bytes. Parsing a chunk costs as much
as parsing a hundred bytes. API servers do not send chunks."""

BODY_PER_FRAMING: Final = 32

CHUNKED_SLICE_BYTES: Final = 1024
"""Maximum number of bytes of a chunked body that are parsed before its framing is counted. The worst content,
170 one-byte chunks, takes 1 ms."""

TOO_MUCH_FRAMING: Final = (
    f"the framing of chunks is over {MAX_FRAMING_BYTES} bytes, and 1 for each {BODY_PER_FRAMING} of the body"
)

HTTP_2: Final = b"PRI "
"""How HTTP/2 begins. aiohttp's parser would wait for the rest of the HTTP/2 preface."""

HTTP_VERSIONS: Final = ((1, 1), (1, 0))
"""Accepted HTTP versions. aiohttp also accepts 0.9 and 2.0, and would answer in the version of the
request."""

_NEVER_SECONDS: Final = 365 * 24 * 3600.0
"""Disables aiohttp's keep-alive timeout. aiohttp does not see reviews on the hot path, so it would close
connections that are in use."""

_AFTERMATH_SECONDS: Final = 0.1
"""Delay before aiohttp is notified of a lost connection, so that it can begin the request that it was woken
for."""


class State(IntEnum):
    """State of the connection's current request."""

    NONE = 0
    """Between two requests."""
    HEADER = 1
    """Part of its header has arrived."""
    QUEUED = 2
    """Its header is complete, and aiohttp has not begun to handle it."""
    BODY = 3
    """It is being handled, and the rest of its body has not arrived yet."""
    ANSWER = 4
    """It is complete and is being answered."""
    ENDED = 5
    """No more requests are read from this connection."""


class Owner(Connection, Protocol):
    """The connection that an exchange belongs to."""

    transport: Any
    good: int

    def changed(self, state: State) -> None:
        """Note that the current request changed its state."""

    def answered(self, status: int, *, alone: bool) -> None:
        """Note an answer that was sent. The connection stays open.

        ``alone`` is whether no further input had arrived behind its request.
        """

    def refuse(self, status: int, reason: str) -> None:
        """Answer with an error, and close."""

    def set_reading(self, reading: bool) -> None:  # noqa: FBT001 - it is the only argument
        """Start or stop reading from the peer."""

    def close(self) -> None:
        """Close once everything is sent."""


class AiohttpServer:
    """The part of aiohttp's low-level server that the exchanges of one listener share."""

    def __init__(
        self, handler: Handler, scheduler: Scheduler, on_error: Callable[[int], None], *, check_chunks: bool
    ) -> None:
        self.on_error = on_error
        self.scheduler = scheduler
        self.check_chunks = check_chunks
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._server = web.Server(self._handle)

    def connect(self, exchange: Exchange) -> _Connection:
        """Return aiohttp's handler of one connection."""
        return _Connection(
            self._server,
            exchange,
            loop=self._loop,
            keepalive_timeout=_NEVER_SECONDS,
            tcp_keepalive=False,
            access_log=None,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            auto_decompress=False,
            lingering_time=0,
        )

    async def shutdown(self, seconds: float) -> None:
        """Let running handlers finish, for this long at most, and close their connections."""
        await self._server.shutdown(seconds)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = cast("_Connection", request.protocol).exchange
        if exchange is None:
            raise ConnectionResetError("the connection was lost")
        exchange.begun(request)
        try:
            response = await self._handler(request)
        except ConnectionError as problem:
            # The request's body holds this exception, and the exception's traceback holds the request.
            traceback.clear_frames(problem.__traceback__)
            problem.__traceback__ = None
            raise ConnectionResetError("the connection was lost") from None
        # Otherwise, 500 requests whose bodies time out at the same moment would be answered in one turn.
        await self.scheduler.wait(exchange.owner)
        if exchange.is_last:
            response.force_close()
        # aiohttp would do both after this returns, and would not report when they are done.
        await response.prepare(request)
        await response.write_eof()
        exchange.answered(response)
        return response


def owner_of(request: web.BaseRequest) -> Owner | None:
    """Return the connection that a request came on, or ``None`` if it was lost."""
    protocol = request.protocol
    if not isinstance(protocol, _Connection) or protocol.exchange is None:
        return None
    return protocol.exchange.owner


async def take_turn(request: web.BaseRequest) -> None:
    """Wait for a turn of the event loop that has time for costly work on a request."""
    protocol = request.protocol
    if isinstance(protocol, _Connection) and protocol.exchange is not None:
        await protocol.exchange.server.scheduler.wait(protocol.exchange.owner)


class _Connection(web.RequestHandler):
    """aiohttp's handler of one connection, with our error bodies and without a log line per bad request."""

    __slots__ = ("exchange",)

    def __init__(self, manager: web.Server, exchange: Exchange, **options: Any) -> None:
        super().__init__(manager, **options)
        self.exchange: Exchange | None = exchange

    def data_received(self, data: bytes) -> None:
        """Parse input. aiohttp also calls this itself, to continue with what it has not parsed yet."""
        exchange = self.exchange
        if exchange is None:
            return
        exchange.is_parsing = True
        try:
            super().data_received(data)
        finally:
            exchange.is_parsing = False

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the name is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed HTTP, or an exception that a handler did not catch."""
        if self.exchange is not None and not isinstance(exc, ConnectionError):  # the peer gets an answer
            self.exchange.failed(status)
        if exc is not None:
            exc.__traceback__ = None  # it holds a frame that holds the exception
        reason = "internal error" if status >= 500 else (message or "bad request")  # noqa: PLR2004
        if isinstance(exc, BadHttpMessage):
            reason = MALFORMED
        # aiohttp answers a malformed request in HTTP/1.0, and does not add this header there.
        response = error_response(status, reason, headers={hdrs.CONNECTION: "close"})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **keys: Any) -> None:
        """Log nothing. A bad end of a connection is its peer's fault, and handlers log their own errors."""


class Exchange:
    """Passes requests of one connection to aiohttp, one at a time.

    ``since`` is when the current request began, on the event loop's clock. ``is_last`` is set when the
    connection must close after its answer. ``is_parsing`` is set while aiohttp parses, because it takes no
    input then.
    """

    __slots__ = (
        "_check",
        "_due",
        "_head",
        "_http",
        "_left",
        "_loop",
        "_passed",
        "_paused",
        "_reading",
        "_request",
        "_rest",
        "_tail",
        "_unread",
        "is_last",
        "is_parsing",
        "owner",
        "server",
        "since",
        "state",
    )

    def __init__(self, server: AiohttpServer, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.state = State.NONE
        self.since = 0.0
        self.is_last = False
        self.is_parsing = False
        self.server = server
        self.owner = owner
        self._loop = loop
        self._request: web.BaseRequest | None = None
        self._due = False  # aiohttp has input that it has not begun to handle
        self._head = b""
        self._passed = 0  # bytes of a chunked body that were passed on
        self._tail = b""  # the last bytes of what was passed on of a chunked body
        self._left: int | None = 0  # bytes of the body that have not arrived; None when it is chunked
        self._check: ChunkCheck | None = None
        self._rest = b""  # input that was not passed on
        self._paused = False  # by aiohttp
        self._unread = False  # the peer does not read its answers
        self._reading = True
        self._http: Any = server.connect(self)
        self._http.connection_made(_Transport(self, owner))

    @property
    def is_between(self) -> bool:
        """Whether no request has begun."""
        return self.state is State.NONE and not self._rest

    def is_late(self, now: float) -> bool:
        """Whether the header of the current request has been incomplete for too long."""
        return self.state in {State.HEADER, State.QUEUED} and now - self.since > HEADER_SECONDS

    def receive(self, data: bytes) -> None:
        """Pass input on to aiohttp, as far as the current request allows."""
        if self.state is not State.ENDED:
            self._rest += data
            self._advance()

    def begun(self, request: web.BaseRequest) -> None:
        """Note the request that aiohttp begins to handle. Raises ``ConnectionError`` to have it dropped."""
        self._due = False
        if self.state is State.ENDED:
            raise ConnectionResetError("the connection was lost")
        if request.version not in HTTP_VERSIONS:
            self.state = State.ENDED
            self.owner.refuse(400, MALFORMED)
            raise ConnectionResetError("unsupported HTTP version")
        self._request = request
        self.is_last = request.method == hdrs.METH_CONNECT or hdrs.UPGRADE in request.headers
        if hdrs.TRANSFER_ENCODING in request.headers:
            self._left, self._tail, self._passed = None, b"", 0
            if self.server.check_chunks:
                self._check = ChunkCheck(self._loop, self._head)
        else:
            self._left = request.content_length or 0
        self._change(State.ANSWER if self._left == 0 or request.content.is_eof() else State.BODY)
        self._advance()

    def answered(self, response: web.StreamResponse) -> None:
        """Note that the answer to the current request was sent."""
        request, self._request, self._check = self._request, None, None
        if self.state is State.ENDED or request is None:
            return
        if not response.keep_alive or not request.content.is_eof():
            self.end()
            self.owner.close()
            return
        self.state = State.NONE
        self.owner.answered(response.status, alone=not self._rest)
        if self._rest:
            # Pass on one request in each turn, because aiohttp would handle all of them without a pause.
            self.server.scheduler.defer(self.owner, self._advance, Rank.REST)

    def failed(self, status: int) -> None:
        """Note that aiohttp answers with an error of its own, and then closes the connection."""
        self._due = False
        self.server.on_error(status)
        self.state = State.ENDED

    def end(self) -> None:
        """Read no more requests."""
        self.state = State.ENDED
        self._rest = b""

    def lost(self, exc: BaseException | None) -> None:
        """Notify aiohttp that the connection was lost."""
        self.end()
        if self._due:
            # aiohttp may have been woken for a request in this very turn, and would fail without a
            # connection. After the delay, begun() has dropped the request.
            self._loop.call_later(_AFTERMATH_SECONDS, self._lose, exc)
        else:
            self._lose(exc)

    def _lose(self, exc: BaseException | None) -> None:
        http, self._http = self._http, None
        http.connection_lost(exc)
        # Otherwise the handler and the exchange would keep each other and their input in memory until a
        # garbage collection.
        http.exchange = None
        self._request = self._check = None

    def pause_writing(self) -> None:
        """Begin no request, because the peer does not read its answers."""
        self._unread = True
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._unread = False
        self._http.resume_writing()
        self._advance()

    def pause_reading(self) -> None:
        """Stop passing input on, because aiohttp has enough of a body."""
        self._paused = True
        self._control_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._advance()

    def _change(self, state: State) -> None:
        self.state = state
        self.owner.changed(state)

    def _advance(self) -> None:
        while self._rest and not self._paused and not self.is_parsing:
            if self.state in {State.NONE, State.HEADER}:
                if self._unread:
                    break
                self._pass_header()
            elif self.state is not State.BODY:
                break
            elif self._left is None:
                self._pass_chunks()
            else:
                data, self._rest = self._rest[: self._left], self._rest[self._left :]
                self._left -= len(data)
                self._http.data_received(data)
                if not self._left:
                    self._change(State.ANSWER)
        self._control_reading()

    def _pass_header(self) -> None:
        """Pass on the header, up to its end if that has arrived."""
        if self.state is State.NONE:
            # Empty lines before a request are to be ignored (RFC 9112, section 2.2).
            self._rest = self._rest.lstrip(b"\r\n")
            if not self._rest:
                return
            self._head = b""
            self.since = self._loop.time()
            self._change(State.HEADER)
        known = len(self._head)
        head = self._head + self._rest[: MAX_HEADER_BYTES + 1 - known]
        end = head.find(END, max(known - len(END) + 1, 0)) + len(END)
        if end < len(END):
            end = len(head)
        if end > MAX_HEADER_BYTES or head.startswith(HTTP_2):
            self.end()
            self.owner.refuse(400, MALFORMED)
            return
        self._head, data, self._rest = head[:end], head[known:end], self._rest[end - known :]
        self._due = True
        if self._head.endswith(END):
            self._change(State.QUEUED)
        self._http.data_received(data)

    def _pass_chunks(self) -> None:
        """Pass on a body in chunks, up to its end if that has arrived."""
        cuts = 0
        while self._rest and self.state is State.BODY and not self._paused:
            joined = self._tail + self._rest[:CHUNKED_SLICE_BYTES]
            end = joined.find(END) + len(END) if cuts < PIECES else 0
            if end >= len(END):
                cuts += 1
                joined = joined[:end]
            size = len(joined) - len(self._tail)
            self._tail = joined[1 - len(END) :]
            self.is_last = self.is_last or cuts == PIECES
            data, self._rest = self._rest[:size], self._rest[size:]
            self._pass_chunk(data)

    def _pass_chunk(self, data: bytes) -> None:
        content = cast("web.BaseRequest", self._request).content
        self._http.data_received(data)
        self._passed += len(data)
        most = MAX_FRAMING_BYTES + content.total_bytes // BODY_PER_FRAMING
        # While aiohttp pauses, it has not yet parsed all that was passed on.
        if self._passed - content.total_bytes > most and not self._paused:
            content.set_exception(Refusal(413, TOO_MUCH_FRAMING, close=True))
            self.end()
        elif content.is_eof():
            self._change(State.ANSWER)
        elif self._check is not None and not self._check.feed(data):
            # aiohttp refuses malformed chunks only after this request is answered. Without the exception, the
            # handler would wait in vain for the rest of the body.
            content.set_exception(web.RequestPayloadError(MALFORMED))
            self.end()

    def _control_reading(self) -> None:
        """Pause reading from the peer while too much input waits."""
        reading = not self._paused and len(self._rest) <= MAX_WAITING_BYTES
        if reading != self._reading:
            self._reading = reading
            self.owner.set_reading(reading)


class _Transport(asyncio.Transport):
    """The connection's transport as aiohttp sees it. The exchange controls reading."""

    def __init__(self, exchange: Exchange, owner: Owner) -> None:
        super().__init__()
        self._exchange = exchange
        self._owner = owner

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._owner.transport is not None:
            self._owner.transport.write(data)

    def is_closing(self) -> bool:
        return self._owner.transport is None or self._owner.transport.is_closing()

    def close(self) -> None:
        self._exchange.end()
        self._owner.close()

    def pause_reading(self) -> None:
        self._exchange.pause_reading()

    def resume_reading(self) -> None:
        self._exchange.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        # aiohttp must not set options of the socket, because the listener has set them.
        if name == "socket" or self._owner.transport is None:
            return default
        return self._owner.transport.get_extra_info(name, default)
