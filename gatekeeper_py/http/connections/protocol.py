"""One HTTP connection: the hot path, its timeouts, and its entry in the table of connections.

A review that arrives complete on an idle connection is answered in the call that delivers its bytes (the hot
path). Every other request goes through an ``Exchange`` to aiohttp's server.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

from aiohttp import hdrs

from gatekeeper_py.http.aiohttp_internals import Message, Parsed, RequestParser
from gatekeeper_py.http.answers import encode_ok, encode_refusal
from gatekeeper_py.http.connections.peers import Activity, Peer
from gatekeeper_py.http.connections.scheduler import Rank, Scheduler
from gatekeeper_py.http.connections.slowpath import AiohttpServer, Exchange, State
from gatekeeper_py.http.connections.table import Table
from gatekeeper_py.http.connections.tlstransport import TlsTransport
from gatekeeper_py.http.limits import (
    HEADER_SECONDS,
    HELD_SECONDS,
    KEEPALIVE_SECONDS,
    MAX_HELD_BODIES,
    MAX_HELD_BODY,
    MAX_UNREAD_CONNECTIONS,
    MAX_UNSENT_BYTES,
    SHUTDOWN_SECONDS,
    STALLED_SECONDS,
)

HotPath = Callable[[Message, bytes, str], bytes | None]
"""(request, body, key of the peer) -> the body of a 200, or ``None`` to have aiohttp handle it."""

Eviction = Literal["handshake", "unused", "late", "idle", "closing"]
"""Why a connection was evicted. ``handshake``: its handshake was not complete. ``unused``: it never carried a
good request. ``late``: its peer sent a request, or read an answer, too slowly. ``idle`` and ``closing``: the
activity of the connection."""

HEADER_LATE: Final = f"the header was not complete within {HEADER_SECONDS:g} s"


@dataclass(slots=True, kw_only=True)
class Service:
    """The state that the connections of one listener share.

    ``answer`` is ``None`` if there is no hot path; the connections then need no parser of their own.
    """

    table: Table
    server: AiohttpServer
    scheduler: Scheduler
    answer: HotPath | None
    on_error: Callable[[int], None]
    on_evicted: Callable[[Eviction, Peer], None]
    handshake_seconds: float
    held_bytes: int = 0
    unread: OrderedDict[HttpConnection, None] = field(default_factory=OrderedDict)
    """Connections whose peers do not read their answers, the oldest first."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


class HttpConnection(asyncio.Protocol):
    """One connection, from its accept to its end.

    ``transport`` is ``None`` until the connection is made; with TLS, until the handshake is complete.
    """

    __slots__ = (
        "_accepted_at",
        "_bad",
        "_exchange",
        "_exchange_reading",
        "_held",
        "_last_answer",
        "_last_progress",
        "_parsed",
        "_parser",
        "_paused",
        "_reading",
        "_ready",
        "_rest",
        "_service",
        "_socket",
        "_timer",
        "_unsent",
        "activity",
        "good",
        "peer",
        "since",
        "tls",
        "transport",
    )

    def __init__(self, service: Service, peer: Peer, accepted: socket.socket) -> None:
        self.peer = peer
        self.activity = Activity.SILENT
        self.since = self._accepted_at = self._last_answer = self._last_progress = service.loop.time()
        self.good = 0
        """Number of good requests that the connection carried."""
        self.transport: Any = None
        self.tls: TlsTransport | None = None
        self._service = service
        self._socket: socket.socket | None = accepted
        self._exchange: Exchange | None = None
        self._parser = RequestParser(service.loop) if service.answer is not None else None
        self._ready = self._parser is not None  # a whole request may be answered here
        self._parsed: Parsed | None = None  # a request whose body is incomplete
        self._held = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._rest = b""  # requests that came together and are answered here, one in each turn
        self._exchange_reading = True  # the exchange accepts more input
        self._reading = True
        self._paused = False
        self._bad = False  # it has carried a bad request
        self._unsent = 0

    # The protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._socket is None:  # it was evicted before the transport existed
            transport.close()
            return
        self.transport = transport
        self.transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._last_progress = self._service.loop.time()

    def first_bytes_received(self) -> None:
        """Note that the first bytes have arrived. With TLS, they belong to the handshake."""
        if self.activity is Activity.SILENT:
            self._service.table.move(self, Activity.NEW, self._accepted_at)

    def data_received(self, data: bytes) -> None:
        if self._ready:
            parsed = self._parser.begin(data)  # type: ignore[union-attr]
            if parsed is not None:
                message, end, size = parsed
                if len(data) == size:
                    self._answer(message, data[end:], data[:end])
                    return
                if self._hold(parsed, data):
                    return
            self._rest = data
            self._answer_first()
        elif self._parsed is not None:
            self._continue(self._parsed, data)
        elif self._rest or self._waits_for_reader:
            self._rest += data
            self._control_reading()
        else:
            self._pass_on(data)

    @property
    def continues(self) -> bool:
        """Whether further input belongs to, or follows, a request of the slow path."""
        return self._exchange is not None and not self._exchange.is_between

    @property
    def _waits_for_reader(self) -> bool:
        """Whether a request could be answered here if the peer read its answers."""
        return self._paused and self._parser is not None and not self.continues

    def pause_writing(self) -> None:
        """Accept no more requests, because the peer does not read its answers."""
        self._paused = True
        self._ready = False
        if self._exchange is not None:
            self._exchange.pause_writing()
        self._update_activity()
        unread = self._service.unread
        unread[self] = None
        if len(unread) > MAX_UNREAD_CONNECTIONS:
            next(iter(unread)).evict()

    def resume_writing(self) -> None:
        self._paused = False
        self._service.unread.pop(self, None)
        if self._rest:
            self._service.scheduler.defer(self, self._answer_first, Rank.REST)
        if self._exchange is not None:
            self._exchange.resume_writing()
        self._update_activity()

    def eof_received(self) -> None:
        """Return nothing, so that the transport closes: the peer sends no more."""

    def connection_lost(self, exc: BaseException | None) -> None:
        self._service.table.remove(self)
        self._service.unread.pop(self, None)
        self._forget_held()
        self._ready = False
        self.transport = self.tls = self._socket = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost(exc)

    # The hot path.

    def _answer(self, message: Message, body: bytes, head: bytes) -> None:
        """Answer a complete request here, or pass it on. ``head`` holds the bytes before its body."""
        service = self._service
        answer = service.answer(message, body, self.peer.key)  # type: ignore[misc]
        if answer is None:
            self._pass_on(head + body)
            return
        self.transport.write(encode_ok(answer))
        if not self.good and self.tls is not None and self.tls.has_more:
            return  # not a good request: the client did not wait for its answer
        self.good += 1
        service.table.good(self, service.loop.time())

    def _answer_one(self, message: Message, body: bytes) -> bool:
        """Answer one of several requests that came together; return whether it was answered."""
        answer = self._service.answer(message, body, self.peer.key)  # type: ignore[misc]
        if answer is not None:
            self.transport.write(encode_ok(answer))
        return answer is not None

    def _answer_first(self) -> None:
        """Answer the first of several requests that came together, and the others in later turns.

        Passes on all of them if the first cannot be answered here.
        """
        if self._paused or self.transport is None or self.activity is Activity.CLOSING:
            return
        data, self._rest = self._rest, b""
        parser = self._parser = RequestParser(self._service.loop)
        parsed = parser.begin_header(data)
        if parsed is None:
            self._parser = RequestParser(self._service.loop)
            self._pass_on(data)
        elif len(data) < parsed[2]:
            if not self._hold(parsed, data):
                self._parser = RequestParser(self._service.loop)
                self._pass_on(data)
        else:
            message, end, size = parsed
            parser.feed(data[end:size])
            if self._answer_one(message, data[end:size]):
                self._go_on(data[size:])
                return
            self._pass_on(data)
        self._control_reading()

    def _go_on(self, data: bytes) -> None:
        """Answer the requests that arrived behind another one, when their turn comes."""
        self._last_answer = self._service.loop.time()
        self._rest = data
        self._update_activity()
        if data:
            self._service.scheduler.defer(self, self._answer_first, Rank.REST)
        self._control_reading()

    def set_reading(self, reading: bool) -> None:  # noqa: FBT001 - the exchange's interface
        """Start or stop reading from the peer, depending on how much the exchange holds."""
        self._exchange_reading = reading
        self._control_reading()

    def _control_reading(self) -> None:
        reading = self._exchange_reading and not self._rest
        if reading != self._reading and self.transport is not None:
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _hold(self, parsed: Parsed, data: bytes) -> bool:
        """Hold an incomplete request for a moment if its body is small; return whether it is held."""
        message, end, size = parsed
        if (
            size - end > MAX_HELD_BODY
            or hdrs.EXPECT in message.headers
            or self._service.held_bytes + size > MAX_HELD_BODIES
        ):
            return False
        self._ready = False
        self._service.held_bytes += parsed[2]
        self._parsed, self._held = parsed, bytearray(data)
        self._timer = self._service.loop.call_later(HELD_SECONDS, self._release)
        return True

    def _continue(self, parsed: Parsed, data: bytes) -> None:
        """Add bytes to the held body, and answer the request when it is complete."""
        message, end, size = parsed
        held = self._held
        held += data
        if len(held) < size:
            return
        self._forget_held()
        if len(held) > size:
            self._rest = bytes(held)
            self._answer_first()
            return
        # The parser has not received the whole body, and would copy the rest. A new parser costs less.
        self._parser = RequestParser(self._service.loop)
        self._ready = not self._paused
        with memoryview(held) as whole:
            head, body = bytes(whole[:end]), bytes(whole[end:])
        del held  # free up to 256 KiB before the answer needs as much again
        self._answer(message, body, head)

    def _release(self) -> None:
        """Pass an incomplete request on to aiohttp, because the rest did not arrive in time."""
        data = bytes(self._held)
        self._forget_held()
        self._parser = RequestParser(self._service.loop)
        self._pass_on(data)

    def _forget_held(self) -> None:
        if self._parsed is not None:
            self._service.held_bytes -= self._parsed[2]
        self._parsed, self._held = None, bytearray()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The slow path.

    def _pass_on(self, data: bytes) -> None:
        """Have aiohttp handle these bytes."""
        if self.transport is None:
            return
        self._ready = False
        if self._exchange is None:
            self._exchange = Exchange(self._service.server, self, self._service.loop)
            if self._paused:
                self._exchange.pause_writing()
        self._exchange.receive(data)
        self._update_activity()

    def changed(self, state: State) -> None:  # noqa: ARG002 - the exchange's interface
        """Note that a request of the exchange changed its state."""
        self._update_activity()

    def answered(self, status: int, *, alone: bool) -> None:
        """Note an answer that aiohttp sent. The connection stays open."""
        now = self._last_answer = self._service.loop.time()
        # Pipelined requests earn no credit, because the client need not read the answers.
        alone = alone and (self.tls is None or not self.tls.has_more)
        is_good = alone and status == HTTPStatus.OK
        self._bad = self._bad or not is_good
        if is_good:
            self.good += 1
            self._service.table.good(self, now)
        self._update_activity(after_bad=not is_good)

    def _update_activity(self, *, after_bad: bool = False) -> None:
        """Enter the connection's current activity into the table."""
        if self.activity is Activity.CLOSING:
            return
        self.first_bytes_received()
        exchange = self._exchange
        state = State.NONE if exchange is None else exchange.state
        self._ready = (
            self._parser is not None
            and not self._paused
            and self._parsed is None
            and not self._rest
            and not self.continues
        )
        is_whole = state in {State.QUEUED, State.ANSWER} and not self._paused
        if is_whole and (self.good or not self._bad):
            activity = Activity.BUSY
        elif not self.good:
            activity = Activity.NEW
        elif state is State.NONE and not self._paused:
            activity = Activity.IDLE
        else:
            activity = Activity.WAITING
        if activity is not self.activity:
            # A connection without a good request is ordered by the time of its accept.
            now = self._accepted_at if activity is Activity.NEW else self._service.loop.time()
            first = after_bad or activity is Activity.NEW
            self._service.table.move(self, activity, now, first=first)

    # The end.

    def refuse(self, status: int, reason: str) -> None:
        """Answer with an error, and close."""
        self._service.on_error(status)
        if self.transport is not None:
            self.transport.write(encode_refusal(status, reason))
        self.close()

    def close(self) -> None:
        """Close once everything is sent. The peer has ``SHUTDOWN_SECONDS`` to close, too."""
        if self.transport is None or self.activity is Activity.CLOSING:
            return
        self._stop()
        self._service.table.move(self, Activity.CLOSING, self._service.loop.time())
        self.transport.close()

    def abort(self) -> None:
        """Close at once. What was not sent is lost."""
        self._stop()
        self._service.table.remove(self)
        self._socket = None
        transport = self.tls or self.transport
        if transport is not None:
            transport.abort()

    def evict(self) -> None:
        """Close at once, to make room for another connection."""
        self._service.on_evicted(self._why(), self.peer)
        if self.transport is None or self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.abort()
            return
        self._stop()
        self._service.table.remove(self)
        if self.tls is not None:
            self.tls.end()
        else:
            self.transport.close()

    def give_up(self) -> None:
        """Close at once, because the peer does not continue its handshake and other handshakes wait."""
        self.evict()

    def _stop(self) -> None:
        """Accept no more requests."""
        self._rest = b""
        self._service.unread.pop(self, None)
        self._ready = False
        self._forget_held()
        if self._exchange is not None:
            self._exchange.end()

    def _why(self) -> Eviction:
        match self.activity:
            case Activity.CLOSING:
                return "closing"
            case Activity.IDLE:
                return "idle"
            case Activity.SILENT | Activity.NEW:
                return "unused" if self.transport is not None else "handshake"
            case _:
                return "late"

    @property
    def is_engaged(self) -> bool:
        """Whether a request has begun to arrive, though it may not have been read yet.

        An API server may send a review just when its idle connection is chosen for eviction. It would not
        send that review again.
        """
        if self._parsed is not None or (self.tls is not None and self.tls.has_more):
            return True
        try:
            return self._socket is not None and self._socket.recv(1, _PEEK) != b""
        except OSError:
            return False

    @property
    def is_resting(self) -> bool:
        """Whether the activity is ``SILENT``, ``NEW`` or ``IDLE``, and no request is held."""
        return self.activity in _RESTING and self._parsed is None

    def check_timeouts(self, now: float) -> None:
        """Close the connection if one of its timeouts has passed. To be called about once a second."""
        transport = self.transport
        if transport is None:
            if self.tls is not None and self.tls.is_waiting:
                self._last_progress = now
            elif now - self._last_progress > self._service.handshake_seconds:
                self.abort()
            return
        unsent = transport.get_write_buffer_size()
        closing = self.activity is Activity.CLOSING
        if not closing and (not unsent or unsent < self._unsent):
            self._last_progress = now
        self._unsent = unsent
        if now - self._last_progress > (STALLED_SECONDS if unsent else SHUTDOWN_SECONDS) and (
            unsent or closing
        ):
            self.abort()
        elif closing:
            return
        elif self._exchange is not None and self._exchange.is_late(now):
            self._exchange.end()
            self.refuse(408, HEADER_LATE)
        elif self.is_resting and now - max(self._last_answer, self.since) > KEEPALIVE_SECONDS:
            self.close()


_RESTING: Final = (Activity.SILENT, Activity.NEW, Activity.IDLE)
_PEEK: Final = socket.MSG_PEEK | getattr(socket, "MSG_DONTWAIT", 0)
