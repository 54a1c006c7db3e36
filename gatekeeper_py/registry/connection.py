"""One connection to a host (a registry or a token server): HTTP/1.1 over TCP or TLS, with limits.

The parser is h11, which does no I/O. It returns one event at a time, so this module can count informational
responses and chunks, and reads nothing ahead. aiohttp's client parses everything it has received at once,
reads endless informational responses in one call, and shuts TLS down before it closes a connection: it waits
for the host, which may go on sending.

* At most ``SLICE_BYTES`` are read in one turn of the event loop, so timers always fire.
* An unsolicited byte ends the connection.
* A connection is always aborted, without a TLS shutdown. The kernel then answers further data with RST.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import math
import os
import select
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import h11
from multidict import CIMultiDict, CIMultiDictProxy

from gatekeeper_py.process.shares import NOBODY, Share
from gatekeeper_py.registry.asking import ContentTooLarge, Response, TooLarge

if TYPE_CHECKING:
    from hashlib import _Hash

SLICE_BYTES: Final = 4 * 1024
"""Maximum number of bytes that are read from a connection in one turn of the loop. The worst content, chunks
of one byte, takes 5 ms to parse."""

MAX_HANDSHAKE_BYTES: Final = 64 * 1024
"""Maximum number of bytes received in a TLS handshake. Certificates of registries take up to 16 KiB."""

MAX_INFORMATIONAL: Final = 8
"""Maximum number of informational responses (1xx) before an answer. Registries send none."""

MAX_HEAD_BYTES: Final = 32 * 1024
"""Maximum number of bytes before the body of an answer, with informational responses."""

MAX_LINES: Final = 1024
"""Maximum number of lines received before the parser returns the next event. The parser makes objects for
each line of a head or of trailers at once: 32 KiB of short lines take 20 ms and 1.3 MB. Twenty such answers
would stop the look-ups in all other registries for half a second. Registries send 20 headers."""

PIECE_BYTES: Final = MAX_LINES // 2
"""A slice with more lines than this number is parsed in pieces of this many bytes. The parser returns an
event for each piece of a body, so a body may consist of line ends."""

MAX_SMALL_CHUNKS: Final = 64
LEAST_CHUNK_BYTES: Final = 256
"""A body may have ``MAX_SMALL_CHUNKS`` chunks, and one more for each ``LEAST_CHUNK_BYTES``. Parsing a
slice of one-byte chunks takes 5 ms, and each of the 20 connections to a host may send one. Servers that write
line by line stay within this limit. It does not apply to slices, because the network cuts them."""

MAX_REQUESTS: Final = 64
"""Maximum number of requests of one look-up. A look-up with the maximum number of signatures sends 51, and a
few more for a token and redirects."""

OVERHEAD: Final = 1.25
"""Ratio of the bytes received for a body, with TLS records and frames of chunks, to its size."""

_EOF: Final = b""


class BadAnswer(Exception):
    """The host sent something that is not valid HTTP/1.1."""


@dataclass(slots=True)
class Budget:
    """What one look-up may still use. ``namespace`` is that of the review, ``repository`` that of the image.

    ``turn`` waits until a request may be sent to a host.
    ``bytes_left`` counts the bodies of all its answers, including those to redirected requests.
    """

    turn: Callable[[str], Awaitable[None]]
    share: Share
    repository: str
    bytes_left: int
    requests_left: int = MAX_REQUESTS
    sent_at: float = math.inf
    """When a request first had a connection, on the event loop's clock."""
    is_answered: bool = False
    """Whether the host answered a request. If a token is requested, the token server must answer, too."""

    def is_silent(self, seconds: float) -> bool | None:
        """Return whether the host sent no answer for ``seconds``; ``None`` if it had less time."""
        if self.is_answered:
            return False
        return True if asyncio.get_running_loop().time() - self.sent_at >= seconds else None

    def use_request(self) -> None:
        """Count a request that is going to be sent. Raises ``ContentTooLarge``."""
        if not self.requests_left:
            raise ContentTooLarge(f"more than {MAX_REQUESTS} requests are needed")
        self.requests_left -= 1

    def use_bytes(self, size: int) -> None:
        """Count a part of a body. Raises ``ContentTooLarge``."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ContentTooLarge("all answers together are too large")


class Request(NamedTuple):
    """One request without a body.

    ``limit`` is the maximum size of the answer's body in bytes. With ``algorithm``, the body is hashed while
    it is received, and not kept. ``budget`` is that of the look-up.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    limit: int
    budget: Budget
    algorithm: str = ""


async def _no_turn(_host: str) -> None:
    raise ContentTooLarge("no look-up")


NOTHING: Final = Request("", "", {}, 0, Budget(_no_turn, NOBODY, "", 0))


class Connection(asyncio.BufferedProtocol):
    """Sends one request at a time: over TLS with ``context`` and ``server_name``, otherwise over TCP."""

    def __init__(self, context: ssl.SSLContext | None, server_name: str) -> None:
        self.is_used = False
        """Whether a request was answered on this connection."""
        self.received = 0
        """Bytes received since the last request was sent, or during the handshake."""
        self._slice = memoryview(bytearray(SLICE_BYTES))
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response | None] | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._is_secure = context is None
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD_BYTES)
        self._answer = _Answer(NOTHING)

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def has_unread(self) -> bool:
        """Whether the peer has sent something, or closed the connection, since the last answer.

        The event loop may not have read it yet. If the next request were sent now, what the peer sent before
        this request would be taken for its answer.
        """
        if self._transport is None:
            return True
        connected = self._transport.get_extra_info("socket")
        if sys.platform == "win32":  # Elsewhere, select() refuses descriptors above 1,023.
            return bool(select.select([connected], [], [], 0)[0])
        poll = select.poll()
        poll.register(connected, select.POLLIN)
        return bool(poll.poll(0))

    async def secure(self) -> None:
        """Complete the TLS handshake. Raises ``OSError`` (``ssl.SSLError``) and ``TooLarge``."""
        if self._tls is not None:
            await self._wait(self._shake_hands)

    async def exchange(self, request: Request) -> Response:
        """Send a request and return its answer. Any error aborts the connection.

        Raises ``OSError``, ``BadAnswer`` and ``TooLarge``.
        """
        response = await self._wait(lambda: self._send(request))
        self.is_used = True
        self._answer = _Answer(NOTHING)  # an idle connection keeps no answer in memory
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:  # the peer closes the connection
            self.abort()
        # OpenSSL keeps what it decrypted of a record and nobody read.
        if self._incoming.pending or (self._tls is not None and self._tls.pending()):
            self.abort()
        return cast(Response, response)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, begin: Callable[[], None]) -> Response | None:
        if not self.is_usable:
            raise _closed()
        self.received = 0
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._guard(begin)
            return await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = None

    def _guard(self, step: Callable[[], None]) -> None:
        """Do one step. If it fails, the request fails, and the connection is aborted."""
        try:
            step()
        except h11.ProtocolError as problem:
            self._fail(BadAnswer(str(problem)))
        except Exception as problem:  # noqa: BLE001 - the request gets it, and only this request may fail
            self._fail(problem)

    def _fail(self, problem: Exception) -> None:
        self.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(problem)

    def _finish(self, result: Response | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(result)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, _size: int) -> memoryview:
        return self._slice

    def buffer_updated(self, size: int) -> None:
        is_asked = self._waiter is not None and not self._waiter.done()
        # A new TLS connection may get session tickets before its first request.
        is_new = self._tls is not None and not self.is_used and self.received < MAX_HANDSHAKE_BYTES
        if not is_asked and not is_new:
            self.abort()
            return
        self.received += size
        data = bytes(self._slice[:size])
        self._guard(lambda: self._take(data))

    def eof_received(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()
        elif self._tls is None and self.received:
            self._guard(lambda: self._parse(_EOF))
        self._fail(_closed())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or _closed())

    # TLS.

    def _shake_hands(self) -> None:
        if self.received > MAX_HANDSHAKE_BYTES:
            raise TooLarge(f"the TLS handshake is larger than {MAX_HANDSHAKE_BYTES} bytes")
        try:
            cast(ssl.SSLObject, self._tls).do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        else:
            self._is_secure = True
            self._flush()
            self._finish(None)

    def _take(self, data: bytes) -> None:
        """Handle what the connection received. What TLS needs for itself counts, too."""
        if self._is_secure:
            self._answer.check(self.received)
        if self._tls is None:
            self._parse(data)
            return
        self._incoming.write(data)
        if not self._is_secure:
            self._shake_hands()
        elif self._waiter is not None and not self._waiter.done():
            self._decrypt(self._tls)

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                plain = tls.read(SLICE_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                plain = _EOF
            self._parse(plain)
            if not plain or self._waiter is None or self._waiter.done():
                break
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    # HTTP.

    def _send(self, request: Request) -> None:
        self._answer = _Answer(request)
        event = h11.Request(
            method=request.method,
            target=request.target,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()],
        )
        content = (self._http.send(event) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        if self._tls is not None:
            self._tls.write(content)
            self._flush()
        elif self._transport is not None:
            self._transport.write(content)

    def _parse(self, plain: bytes) -> None:
        size = PIECE_BYTES if plain.count(b"\n") > PIECE_BYTES else SLICE_BYTES
        for start in range(0, len(plain) or 1, size):
            self._parse_piece(plain[start : start + size])

    def _parse_piece(self, piece: bytes) -> None:
        answer = self._answer
        answer.count_lines(piece)
        self._http.receive_data(piece)
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.EndOfMessage):
                if self._http.trailing_data[0]:
                    raise BadAnswer("data after the end of the answer")
                self._finish(answer.response())
                return
            if not isinstance(event, h11.InformationalResponse | h11.Response | h11.Data):
                raise BadAnswer("the peer closed the connection")
            answer.add(event)


def _closed() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class _Answer:
    """Collects the answer to one request, within its limits."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._informational = 0
        self._lines = 0
        """Lines received since the last event."""
        self._chunks = 0
        self._head: h11.Response | None = None
        self._hash: _Hash | None = hashlib.new(request.algorithm) if request.algorithm else None
        self._body = bytearray()
        self._size = 0

    def check(self, received: int) -> None:
        """Check the number of bytes received for this answer. Raises ``TooLarge``."""
        if self._head is None and received > MAX_HEAD_BYTES + SLICE_BYTES:
            raise TooLarge(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes")
        if received > MAX_HEAD_BYTES + SLICE_BYTES + OVERHEAD * self._request.limit:
            raise ContentTooLarge(f"the answer is larger than {self._request.limit} bytes")

    def count_lines(self, plain: bytes) -> None:
        """Count the lines in bytes that are going to be parsed. Raises ``TooLarge``."""
        self._lines += plain.count(b"\n")
        if self._lines > MAX_LINES:
            raise (TooLarge if self._head is None else ContentTooLarge)("the answer has too many short lines")

    def add(self, event: h11.InformationalResponse | h11.Response | h11.Data) -> None:
        """Add a part of the answer. Raises ``TooLarge``."""
        self._lines = 0
        if isinstance(event, h11.InformationalResponse):
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise TooLarge(f"more than {MAX_INFORMATIONAL} informational responses")
        elif isinstance(event, h11.Response):
            self._head = event
        else:
            self._chunks += event.chunk_start
            self._size += len(event.data)
            if self._size > self._request.limit:
                raise ContentTooLarge(f"the answer is larger than {self._request.limit} bytes")
            self._request.budget.use_bytes(len(event.data))
            if self._chunks > MAX_SMALL_CHUNKS + self._size // LEAST_CHUNK_BYTES:
                raise ContentTooLarge("the answer has too many small chunks")
            if self._hash is not None:
                self._hash.update(event.data)
            else:
                self._body += event.data

    def response(self) -> Response:
        if self._head is None:
            raise BadAnswer("an answer without a head")
        headers = CIMultiDict(
            (name.decode("ascii"), value.decode("latin-1")) for name, value in self._head.headers
        )
        return Response(
            self._head.status_code,
            CIMultiDictProxy(headers),
            bytes(self._body),
            self._size,
            "" if self._hash is None else self._hash.hexdigest(),
        )
