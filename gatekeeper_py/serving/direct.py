"""The hot path of a connection: a request that came whole is answered where it was parsed.

aiohttp wakes a task for each request, which starts another one for its handler, and writes through
a stream: half of what a review costs. Its parser is kept, and with it every limit and refusal;
only who is asked first about a parsed request is changed here. Whatever is not plainly a whole
request on an idle connection goes aiohttp's way, as does a request that ``answer`` declines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import hdrs
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

Answer = Callable[[RawRequestMessage, bytes], bytes | None]
"""(request, body) -> the body of a 200, or ``None`` to have it handled the usual way."""

HELD_SECONDS: Final = 0.05
"""How long the rest of a body is waited for here. Go's client sends what is over 4 KiB in a second
write, which is there after microseconds; a slow one is handed over to the limits for slow ones."""

MAX_HELD_BODY: Final = 64 * 1024
"""Larger bodies come in many pieces, and aiohttp stops reading at twice this to press back."""

SERVER: Final = "gatekeeper-py"
"""Instead of the versions of Python and aiohttp."""

_Message = tuple[Any, StreamReader]
_Fed = tuple[Sequence[_Message], bool, bytes]


class DirectParser:
    """Stands between a connection and its parser; offers whole requests to ``answer``."""

    __slots__ = ("_answer", "_feed", "_held", "_keepalive_seconds", "_parser", "_protocol", "_timer")

    def __init__(self, parser: Any, protocol: RequestHandler, answer: Answer) -> None:
        self._parser = parser
        self._feed: Callable[[bytes], _Fed] = parser.feed_data
        self._protocol = protocol
        self._answer = answer
        self._keepalive_seconds = protocol.keepalive_timeout
        self._held: _Message | None = None
        self._timer: asyncio.TimerHandle | None = None

    def feed_data(self, data: bytes) -> _Fed:
        """As the parser's: the requests in ``data``, less those that were answered."""
        try:
            fed = self._feed(data)
        except HttpProcessingError:
            self._hand_over()  # it is refused after the one that came before it
            raise
        held = self._held
        if held is not None:
            if not held[1].is_eof():
                return fed
            self._forget_held()
            fed = ([held, *fed[0]], fed[1], fed[2])
        messages, upgraded, _tail = fed
        if len(messages) != 1 or upgraded or not self._is_idle():
            return fed
        message, payload = messages[0]
        if payload.is_eof():
            if self._answered(message, payload):
                return (), False, b""
        elif held is None and _is_small(message):
            self._held = message, payload
            self._timer = self._protocol._loop.call_later(HELD_SECONDS, self._waited)  # noqa: SLF001
            return (), False, b""
        return fed

    def message_consumed(self) -> None:
        self._parser.message_consumed()

    def pause_reading(self) -> None:
        self._parser.pause_reading()

    def set_upgraded(self, value: bool) -> None:  # noqa: FBT001 - the parser's signature
        self._parser.set_upgraded(value)

    def close(self) -> None:
        """The connection ended."""
        self._forget_held()

    def _is_idle(self) -> bool:
        """Nothing is being handled or queued, and the peer reads its answers."""
        protocol = self._protocol
        waiter = protocol._waiter  # noqa: SLF001 - set while aiohttp's task waits for a request
        return waiter is not None and not waiter.done() and not protocol._messages and not protocol._paused  # noqa: SLF001

    def _answered(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        protocol = self._protocol
        if message.should_close or message.upgrade or message.version != HttpVersion11:
            return False
        if payload is EMPTY_PAYLOAD:
            return False
        parts = payload._buffer  # noqa: SLF001 - to look at the body without taking it
        body = self._answer(message, parts[0] if len(parts) == 1 else b"".join(parts))
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
