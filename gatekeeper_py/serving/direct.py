"""The hot path of a connection: a request that came whole is answered where it was parsed.

aiohttp wakes a task for each request, which starts another one for its handler, and writes through
a stream: half of what a review costs. Its parser is kept, and with it every limit and refusal;
only who is asked first about a parsed request is changed here. Whatever is not plainly a whole
request on an idle connection goes aiohttp's way, as does a request that ``answer`` declines.

It is also the one place that sees what comes in before there is a request, so two limits that the
parser does not have are here: the size of a whole header, and how long one may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import hdrs
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

Answer = Callable[[RawRequestMessage, bytes], bytes | None]
"""(request, body) -> the body of a 200, or ``None`` to have it handled the usual way."""

HELD_SECONDS: Final = 0.05
"""How long the rest of a body is waited for here. Go's client sends what is over 4 KiB in a second
write, which is there after microseconds; a slow one is handed over to the limits for slow ones."""

MAX_HELD_BODY: Final = 64 * 1024
"""Larger bodies come in many pieces, and aiohttp stops reading at twice this to press back."""

MAX_HEADER_BYTES: Final = 8192
"""Request line and fields together; the API server sends a few hundred bytes. The parser limits
only a line (to this, too) and the number of fields: 1 MiB in all."""

HEADER_SECONDS: Final = 5.0
"""From a header's first byte to its last, as for a handshake: Go writes it at once, so only a lost
packet delays it, and TCP has sent one again three times by then. A connection on which nothing has
come is idle instead, and kept: Go's client dials spare ones and does not send a POST again."""

SERVER: Final = "gatekeeper-py"
"""Instead of the versions of Python and aiohttp."""

SPOKEN: Final = (HttpVersion11, HttpVersion10)
"""The parser takes 0.9 and 2.0, too, and would answer in the version that it was asked in."""

_Message = tuple[Any, StreamReader]
_Fed = tuple[Sequence[_Message], bool, bytes]


class SlowHeader(HttpProcessingError):
    """The header was not complete within ``HEADER_SECONDS``."""

    code = 408
    message = f"the header was not complete within {HEADER_SECONDS:g} s"


class DirectParser:
    """Stands between a connection and its parser; offers whole requests to ``answer``, if there is one."""

    __slots__ = (
        "_answer",
        "_body",
        "_feed",
        "_header_bytes",
        "_header_since",
        "_held",
        "_keepalive_seconds",
        "_parser",
        "_protocol",
        "_timer",
    )

    def __init__(self, parser: Any, protocol: RequestHandler, answer: Answer | None) -> None:
        self._parser = parser
        self._feed: Callable[[bytes], _Fed] = parser.feed_data
        self._protocol = protocol
        self._answer = answer
        self._keepalive_seconds = protocol.keepalive_timeout
        self._held: _Message | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None  # what comes in belongs to it, not to a header
        self._header_bytes = 0
        self._header_since = 0.0

    def feed_data(self, data: bytes) -> _Fed:
        """As the parser's: the requests in ``data``, less those that were answered."""
        try:
            fed = self._feed(data)
            if self._header_bytes + len(data) > MAX_HEADER_BYTES:
                self._limit_headers(fed[0], data)
            _check_versions(fed[0])
        except HttpProcessingError as problem:
            self._refuse(problem)
            raise
        held = self._held
        if held is not None:
            if not held[1].is_eof():
                return fed
            self._forget_held()
            fed = ([held, *fed[0]], fed[1], fed[2])
        messages, upgraded, _tail = fed
        if not messages:
            self._saw_part(data)
            return fed
        message, payload = messages[-1]
        whole = payload.is_eof()
        self._body = None if whole else payload
        self._header_bytes = 0
        answer = self._answer
        if answer is not None and len(messages) == 1 and not upgraded and self.is_idle():
            if whole:
                if self._answered(answer, message, payload):
                    return (), False, b""
            elif held is None and _is_small(message):
                self._held = message, payload
                self._timer = self._protocol._loop.call_later(HELD_SECONDS, self._waited)  # noqa: SLF001
                return (), False, b""
        return fed

    def is_idle(self) -> bool:
        """Nothing is being handled or queued, and the peer reads its answers."""
        protocol = self._protocol
        waiter = protocol._waiter  # noqa: SLF001 - set while aiohttp's task waits for a request
        return waiter is not None and not waiter.done() and not protocol._messages and not protocol._paused  # noqa: SLF001

    def is_late(self, now: float) -> bool:
        """Whether a header has been incomplete for too long. ``now`` is of the loop's clock."""
        # A request that is still handled may hold back the parser, and with it the rest of a header.
        return bool(self._header_bytes) and now - self._header_since > HEADER_SECONDS and self.is_idle()

    def give_up(self) -> None:
        """Make the next call of ``feed_data`` refuse the request that is late."""
        self._feed = _refuse_late

    def message_consumed(self) -> None:
        self._parser.message_consumed()

    def pause_reading(self) -> None:
        self._parser.pause_reading()

    def set_upgraded(self, value: bool) -> None:  # noqa: FBT001 - the parser's signature
        self._parser.set_upgraded(value)

    def close(self) -> None:
        """The connection ended."""
        self._forget_held()

    def _saw_part(self, data: bytes) -> None:
        """Something came that completed no header: more of a body, or a part of a header."""
        if self._body is not None:
            if self._body.is_eof():
                self._body = None
        # Empty lines before a request are to be ignored (RFC 9112 section 2.2).
        elif self._header_bytes or data.strip(b"\r\n"):
            if not self._header_bytes:
                self._header_since = self._protocol._loop.time()  # noqa: SLF001
            self._header_bytes += len(data)

    def _limit_headers(self, messages: Sequence[_Message], data: bytes) -> None:
        """Look closer when so much has come that a header in it may be too long."""
        if self._body is None:
            if len(messages) == 1 and data.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES - self._header_bytes) >= 0:
                return  # the one header ends there, or before
            if not messages:
                raise BadHttpMessage(f"a header of over {MAX_HEADER_BYTES} bytes")
        if any(_size(message) > MAX_HEADER_BYTES for message, _ in messages):
            raise BadHttpMessage(f"a header of over {MAX_HEADER_BYTES} bytes")

    def _refuse(self, problem: HttpProcessingError) -> None:
        """What came cannot be read on: nothing more is, and a body that is under way ends here."""
        self._feed = _ignore
        body = self._body
        if body is not None and not body.is_eof():
            body.set_exception(RequestPayloadError(str(problem)))
        self._hand_over()  # it is answered before this is refused

    def _answered(self, answer: Answer, message: RawRequestMessage, payload: StreamReader) -> bool:
        protocol = self._protocol
        if message.should_close or message.upgrade or message.version != HttpVersion11:
            return False
        if payload is EMPTY_PAYLOAD:
            return False
        parts = payload._buffer  # noqa: SLF001 - to look at the body without taking it
        body = answer(message, parts[0] if len(parts) == 1 else b"".join(parts))
        if body is None:
            return False
        self._parser.message_consumed()
        protocol._next_keepalive_close_time = protocol._loop.time() + self._keepalive_seconds  # noqa: SLF001
        transport = protocol.transport
        if transport is not None:
            # One write: two would be two TLS records and two system calls.
            transport.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER}\r\n\r\n".encode()
                + body
            )
        return True

    def _waited(self) -> None:
        """The rest of a body did not come at once."""
        self._timer = None
        self._hand_over()
        waiter = self._protocol._waiter  # noqa: SLF001
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _hand_over(self) -> None:
        """Give the held request to aiohttp, its body still growing."""
        held = self._held
        if held is not None:
            self._forget_held()
            self._protocol._request_count += 1  # noqa: SLF001
            self._protocol._messages.append(held)  # noqa: SLF001

    def _forget_held(self) -> None:
        self._held = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_small(message: RawRequestMessage) -> bool:
    """Whether the rest of the body can be waited for here."""
    length = message.headers.get(hdrs.CONTENT_LENGTH)
    return (
        length is not None
        and length.isdecimal()
        and len(length) <= len(str(MAX_HELD_BODY))
        and int(length) <= MAX_HELD_BODY
        and hdrs.EXPECT not in message.headers
    )


def _check_versions(messages: Sequence[_Message]) -> None:
    for message, _ in messages:
        if message.version not in SPOKEN:
            raise BadHttpMessage("an HTTP version that is not spoken here")


def _size(message: RawRequestMessage) -> int:
    """Bytes of a header, as if written without needless spaces."""
    line = len(message.method) + len(message.path) + len("  HTTP/1.1\r\n\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers)


def _refuse_late(_data: bytes) -> _Fed:
    raise SlowHeader


def _ignore(_data: bytes) -> _Fed:
    return (), False, b""
