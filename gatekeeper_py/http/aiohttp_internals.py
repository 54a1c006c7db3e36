"""aiohttp's request parser, used directly. This is the only module that uses undocumented parts of aiohttp.

For each request, aiohttp wakes a task, starts another one for the handler, and writes the answer through a
stream. That is half the cost of a review. So a review that arrives complete is parsed here and answered at
once. Every other request goes through aiohttp's documented server (``connections.slowpath``).

The parser's interface can change with any release. So aiohttp has an upper bound in pyproject.toml, and
``check`` tries every use of the parser when the server starts. If the parser cannot be used, all requests go
through aiohttp's server, which is slower but has the same answers and limits.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from aiohttp import hdrs, http_parser, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import HttpVersion11

from gatekeeper_py.http.limits import MAX_HEADER_BYTES

END: Final = b"\r\n\r\n"

_NO_LIMIT: Final = 2**30
"""Limit of a body's buffer in the parser, in effect none. Bodies are limited elsewhere."""


class Message(Protocol):
    """A request without its body, as aiohttp parses it."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def headers(self) -> Any: ...


Parsed = tuple[Message, int, int]
"""A request's header, where its body begins, and where the request ends."""


class RequestParser:
    """Parses requests of one connection, one at a time. If ``begin`` returns ``None``, make a new parser."""

    __slots__ = ("_feed",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = _new_parser(loop).feed_data

    def begin(self, data: bytes) -> Parsed | None:
        """Parse the beginning of a request, at least its header.

        Returns ``None`` for anything other than one plain HTTP/1.1 request with a body of known length: part
        of a header, malformed bytes, more than one request, an upgrade, a request to close.
        """
        end = data.find(END) + len(END)
        if not len(END) <= end <= MAX_HEADER_BYTES or not _A <= data[0] <= _Z:
            return None
        try:
            messages, _, _ = self._feed(data)
        except HttpProcessingError:
            return None
        if len(messages) != 1:
            return None
        message = messages[0][0]
        if message.should_close or message.upgrade or message.chunked or message.version != HttpVersion11:
            return None
        # The parser accepts only decimal digits that fit into 64 bits.
        size = end + int(message.headers.get(hdrs.CONTENT_LENGTH, 0))
        return (message, end, size) if len(data) <= size else None

    def begin_header(self, data: bytes) -> Parsed | None:
        """Parse only the header of the first request in ``data``. Pass the body to ``feed`` afterwards."""
        end = data.find(END) + len(END)
        return self.begin(data[:end])

    def feed(self, data: bytes) -> None:
        """Parse more of the body."""
        self._feed(data)


class ChunkCheck:
    """Checks whether a chunked body is well-formed. aiohttp's server does not report this to its handler."""

    __slots__ = ("_content", "_feed")

    def __init__(self, loop: asyncio.AbstractEventLoop, head: bytes) -> None:
        self._feed = _new_parser(loop).feed_data
        messages, _, _ = self._feed(head)
        self._content = messages[0][1]

    def feed(self, data: bytes) -> bool:
        """Return whether the body is well-formed so far."""
        try:
            self._feed(data)
            self._content.read_nowait()  # otherwise the whole body would be kept
        except (HttpProcessingError, RuntimeError):
            return False
        return True


async def send_continue(request: web.BaseRequest) -> None:
    """Send 100 Continue, so that the client sends the body.

    aiohttp takes any output for the beginning of the answer, so this resets aiohttp's count of the output.
    """
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


def check() -> str:
    """Try every use of the parser. Return the problem, or an empty text."""
    loop = asyncio.get_running_loop()
    head = b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 4\r\n\r\n"
    try:
        parser = RequestParser(loop)
        for data, rest in ((head + b"body", b""), (head + b"bo", b"dy"), (head, b"body")):
            parsed = parser.begin(data)
            if parsed is None or parsed[1:] != (len(head), len(head) + 4):
                return "a request is not recognized"
            message = parsed[0]
            if (message.method, message.path, message.headers.get("content-type")) != ("POST", "/path", "b"):
                return "a request is not understood"
            parser.feed(rest)
        for malformed in (head.replace(b"4", b"4\r\nContent-Length: 5"), head.replace(b"\r\n", b"\n") + END):
            if RequestParser(loop).begin(malformed) is not None:
                return "malformed HTTP is not recognized"
        chunks = ChunkCheck(loop, head.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"))
        if [chunks.feed(chunk) for chunk in (b"2\r\nbo", b"\r\n", b"zz\r\n")] != [True, True, False]:
            return "malformed chunks are not recognized"
    except Exception as problem:  # noqa: BLE001 - whatever a release changed
        return f"{type(problem).__name__}: {problem}"
    return ""


def _new_parser(loop: asyncio.AbstractEventLoop) -> Any:
    return http_parser.HttpRequestParser(
        _Unpaused(),  # type: ignore[arg-type]
        loop,
        _NO_LIMIT,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        auto_decompress=False,
    )


class _Unpaused:
    """Stands in for the connection that the parser pauses when a body is read too slowly.

    It does nothing, because no body stays in the parser here.
    """

    def pause_reading(self) -> None: ...

    def resume_reading(self, *, resume_parser: bool = True) -> None: ...


_A, _Z = ord("A"), ord("Z")
