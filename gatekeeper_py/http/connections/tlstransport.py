"""TLS on an accepted connection.

The event loop's own TLS is not used, because it answers every handshake at once and does not limit reading.
Here a handshake waits for its turn (``Scheduler``), a peer that sends a thousand tiny records does not hold
up the others, and a connection costs 17 KiB instead of 46. The cryptography is the ``ssl`` module's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.http.connections.scheduler import Rank, Scheduler

RECORD_BYTES: Final = 16 * 1024
"""Maximum plaintext of a TLS record. One read returns all of it."""

SLICE_BYTES: Final = 16 * 1024 + 512
"""Maximum number of bytes given to OpenSSL at once: a whole record with its overhead. OpenSSL keeps a buffer
of the largest amount for as long as the connection lives, and the loop would read 256 KiB at once. The limit
also bounds the work of OpenSSL before it returns data, because a peer may change its keys with every 27
bytes. The loop reads no more than this at once, because input that waits for its turn takes memory: 500
connections with 64 KiB each would take 32 MiB."""

RECORDS_A_TURN: Final = 64
"""Maximum number of records that are decrypted in one go. A peer may send 11,000 records of one byte in one
read, which take 10 ms of CPU. An API server's records have at least a kilobyte, and 16 KiB in large
requests."""

MANY_COSTLY: Final = 4
"""A connection loses its precedence when its costly pieces of input outnumber the cheap ones by this many.
A few costly pieces may be an accident, such as a garbage collection or a busy machine. A connection that is
made while ``crowded`` is set has no precedence before its first cheap input."""

MAX_HELLO_BYTES: Final = 5 + 16 * 1024
"""Maximum size of a ClientHello with its record header. A client sends nothing else before the answer."""

_HANDSHAKE_RECORD: Final = 0x16
_RECORD_HEADER_BYTES: Final = 5

_buffer: Final = memoryview(bytearray(SLICE_BYTES))
"""Receives what the event loop reads. One buffer is enough for all connections, because the event loop calls
``buffer_updated`` immediately after it reads."""


class Application(Protocol):
    """The protocol above TLS."""

    peer: Peer

    @property
    def continues(self) -> bool:
        """Whether further input belongs to, or follows, a request that is not answered yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def first_bytes_received(self) -> None:
        """Note that the first bytes of a handshake have arrived."""

    def data_received(self, data: bytes) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: BaseException | None) -> None: ...

    def give_up(self) -> None: ...


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The protocol of a TCP connection, and the transport of the application above it.

    Calls ``connection_made`` of ``application`` once the handshake is complete, and ``connection_lost`` in
    any case. ``started`` is when the handshake began.
    """

    def __init__(self, context: ssl.SSLContext, application: Application, scheduler: Scheduler) -> None:
        super().__init__()
        self.peer = application.peer
        self.started = 0.0
        self._context = context
        self._application = application
        self._scheduler = scheduler
        self._tcp: Any = None  # an asyncio.Transport, once the connection is made
        self._tls: Any = None  # an ssl.SSLObject, once the handshake began
        self._waiting = b""  # encrypted input that OpenSSL has not received yet
        self._unread = False  # OpenSSL holds records that were not read
        self._queued = False  # the handshake waits for its turn, or began
        self._open = False  # the handshake is complete, and this side has not closed
        self._closing = False
        self._reading = True
        self._deferred = False
        self._costly = 0  # pieces of costly input less those of cheap input, from 0 to ``MANY_COSTLY``
        self._certificate: dict[str, Any] | None = None

    # The protocol of the TCP connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = transport
        if self._closing:  # it was evicted before this
            self._tcp.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the name is asyncio's
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Handle encrypted bytes, at most ``SLICE_BYTES`` in one call."""
        if self._open:
            scheduler = self._scheduler
            if scheduler.crowded and not scheduler.has_time():
                self._waiting += data
                rank = Rank.CHEAP if self._costly < MANY_COSTLY else Rank.COSTLY
                self._defer(Rank.REST if self._application.continues else rank)
            elif len(data) > SLICE_BYTES or self._deferred or not self._reading:
                self._waiting += data
                self._pump()
            else:
                self._decrypt(data)
        elif self._closing:
            return
        elif self._tls is not None:
            self._waiting += data
            self._shake_hands()
        else:
            self._waiting += data
            self._take_hello(is_first=len(self._waiting) == len(data))

    def _take_hello(self, *, is_first: bool) -> None:
        """Queue the handshake once its first record is complete.

        OpenSSL cannot use half a record, and would allocate 40 KiB for it.
        """
        if self._waiting[0] != _HANDSHAKE_RECORD or len(self._waiting) > MAX_HELLO_BYTES:
            self.abort()
            return
        if is_first:
            self._application.first_bytes_received()
        size = _RECORD_HEADER_BYTES + int.from_bytes(self._waiting[3:_RECORD_HEADER_BYTES])
        if len(self._waiting) >= max(size, _RECORD_HEADER_BYTES) and not self._queued:
            self._queued = True
            self._scheduler.add(self)

    def eof_received(self) -> None:
        """Return nothing, so that the TCP connection closes: the peer sends no more."""

    def connection_lost(self, exc: BaseException | None) -> None:
        self._open, self._closing = False, True
        self._waiting = b""
        self._scheduler.remove(self)
        self._application.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._open:
            self._application.pause_writing()

    def resume_writing(self) -> None:
        if self._open:
            self._application.resume_writing()

    # The handshake, when its turn has come.

    def begin(self) -> None:
        """Answer the first half of the handshake."""
        if self._closing:
            return
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._read, self._feed = self._tls.read, self._incoming.write
        self._shake_hands()

    @property
    def is_waiting(self) -> bool:
        """Whether the handshake waits for its turn, which is not the peer's fault."""
        return self._queued and self._tls is None

    def give_up(self) -> None:
        """End the connection, because its peer does not continue the handshake."""
        self._application.give_up()

    def _shake_hands(self) -> None:
        while self._waiting:
            data, self._waiting = self._waiting[:SLICE_BYTES], self._waiting[SLICE_BYTES:]
            self._feed(data)
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
            except (ssl.SSLError, ValueError):
                # Scanners and plain-HTTP clients cause this often. The TLS alert carries the reason for the
                # client.
                self._flush()
                self.end()
                return
            else:
                self._flush()
                self._scheduler.remove(self)
                self._open = True
                self._costly = MANY_COSTLY if self._scheduler.crowded else 0
                self._application.connection_made(self)
                self._unread = bool(self._incoming.pending)
                if self._unread or self._waiting:
                    self._pump()
                return

    # Input.

    def _decrypt(self, data: bytes) -> None:
        """Pass ``data`` to OpenSSL, and the decrypted input to the application."""
        self._feed(data)
        try:
            plain = self._read(RECORD_BYTES)
        except ssl.SSLWantReadError:
            self._flush()  # a part of a record
        except ssl.SSLError:
            self.abort()
        else:
            if plain and not self._incoming.pending:
                # Hot path: one record, which holds one request.
                self._application.data_received(plain)
            else:
                self._decrypt_more([plain])

    def _decrypt_more(self, parts: list[bytes]) -> None:
        """Read what else OpenSSL holds after ``parts``, at most ``RECORDS_A_TURN`` records."""
        broken = False
        try:
            while parts[-1] and self._incoming.pending:
                if len(parts) >= RECORDS_A_TURN:
                    self._unread = True
                    break
                parts.append(self._read(RECORD_BYTES))
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            broken = True
        self._flush()  # answers of TLS itself
        ended = not parts[-1]  # the peer announced that nothing more comes
        plain = b"".join(parts)
        if plain:
            self._application.data_received(plain)
        if broken:
            self.abort()
        elif ended:
            self.close()
        elif self._unread and self._reading:
            self._defer(Rank.REST)

    @property
    def has_more(self) -> bool:
        """Whether input has arrived that the application has not received yet."""
        return self._unread or self._waiting != b""

    def _pump(self) -> None:
        """Decrypt some of what waits, and leave the rest to later turns."""
        if self._deferred or not self._open or not self._reading:
            return
        if self._unread:
            self._unread = False
            self._decrypt(b"")
        else:
            data, self._waiting = self._waiting[:SLICE_BYTES], self._waiting[SLICE_BYTES:]
            self._decrypt(data)
        if self._waiting or self._unread:
            self._defer(Rank.REST)
        elif self._open and self._reading:
            self._tcp.resume_reading()

    def _resume(self) -> None:
        self._deferred = False
        if self._application.continues:  # aiohttp does this work, and its cost would distort the mean
            self._pump()
            return
        began = time.thread_time()
        self._pump()
        is_costly = self._scheduler.is_costly(time.thread_time() - began)
        self._costly = min(self._costly + 1, MANY_COSTLY) if is_costly else max(self._costly - 1, 0)

    def _defer(self, rank: Rank) -> None:
        """Continue in a later turn, and read nothing until then."""
        if self._open and not self._deferred:
            self._deferred = True
            self._tcp.pause_reading()
            self._scheduler.defer(self, self._resume, rank)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._tcp.write(self._outgoing.read())

    # The application's transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._open:
            try:
                self._tls.write(data)
            except ssl.SSLError:
                self.abort()
            else:
                self._tcp.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Send what was written and a close_notify, and wait for the peer's close_notify.

        Closing at once would make the kernel send a reset when the peer is still sending, and the reset
        can overtake the last answer. The connection ends when the peer closes it, or with ``abort``.
        """
        if self._open:
            self._send_close_notify()
            self._tcp.write_eof()
            self._tcp.resume_reading()
        elif not self._closing:
            self.abort()

    def end(self) -> None:
        """Send a close_notify and close at once."""
        if self._open:
            self._send_close_notify()
        self._closing = True
        if self._tcp is not None:
            self._tcp.close()

    def abort(self) -> None:
        self._open, self._closing = False, True
        if self._tcp is not None:
            self._tcp.abort()

    def _send_close_notify(self) -> None:
        self._open, self._closing = False, True
        with contextlib.suppress(ssl.SSLError):  # unwrap() also wants the peer's close_notify
            self._tls.unwrap()
        self._flush()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._reading = True
        if self._waiting or self._unread:
            self._defer(Rank.REST)
        else:
            self._tcp.resume_reading()

    def is_reading(self) -> bool:
        return self._reading

    def get_write_buffer_size(self) -> int:
        return int(self._tcp.get_write_buffer_size())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peercert":
            if self._certificate is None:
                self._certificate = self._tls.getpeercert() or {}
            return self._certificate
        if name == "ssl_object":
            return self._tls
        return self._tcp.get_extra_info(name, default)
