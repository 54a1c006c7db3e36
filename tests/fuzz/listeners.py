"""A listener for arbitrary bytes, and its answers."""

from __future__ import annotations

import contextlib
import socket
from typing import Final, NamedTuple

from fuzz.loops import MeasuredLoop
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import RateLimit
from gatekeeper_py.process.settings import Address
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.webhook import Webhook
from support.builders import policy
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.served import GUARDED
from support.wire import DEADLINE_SECONDS

VERSIONS: Final = frozenset({b"HTTP/1.0", b"HTTP/1.1"})
"""HTTP versions that an answer may have."""

BODY_SECONDS: Final = 0.1
"""Shorter than the product's timeout, so that an unfinished body costs little time."""


class Answer(NamedTuple):
    """One answer. ``closes`` states whether it announces the end of the connection."""

    status: int
    body: bytes
    closes: bool


Stream = list[Answer]
"""The answers of one connection in order."""


class Served(MeasuredLoop):
    """A webhook without TLS, on an event loop in a separate thread."""

    def __init__(
        self, *, direct: bool, max_body_bytes: int = 20_000, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self.log = RecordingLog()
        self._direct = direct
        super().__init__()

    async def begin(self) -> None:
        live, counts = LivePolicy(), CacheCounts()
        live.install(policy().serving(100, counts))
        metrics = Metrics(live, counts)
        webhook = Webhook(
            live,
            PolicyGuard(GUARDED, InProcessParser(), live, observer=metrics, log=self.log),
            observer=metrics,
            log=self.log,
            limit=RateLimit(0.0),
            max_body_bytes=self._max_body_bytes,
            body_seconds=self._body_seconds,
        )
        self.listener = Listener(
            webhook.handle,
            max_connections=50,
            on_error=metrics.http_error,
            answer=webhook.answer,
            fast=self._direct,
        )
        self._port = self.listener.bind(Address("127.0.0.1", 0)).port

    async def finish(self) -> None:
        await self.listener.close(1.0)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def exchange(self, parts: list[bytes], patience: float, *, around: bytes = b"") -> bytes:
        """Send bytes in these pieces, with a request before and after them; return the answers.

        Input that arrives together, or on a new connection, takes another path than input that arrives alone.
        So the first request is completed twice before, and the last one is sent after a pause.
        """
        received = bytearray()
        # The connection may close while we send, and a reset may lose unread input.
        with contextlib.suppress(ConnectionError), self.connect() as connection:
            for _ in range(2 if around else 0):
                connection.sendall(around)
                received += connection.recv(65536)
            for content in (parts, [around]):
                connection.settimeout(DEADLINE_SECONDS)
                for part in content:
                    connection.sendall(part)
                connection.settimeout(patience)
                with contextlib.suppress(TimeoutError):
                    while part := connection.recv(65536):
                        received += part
        return bytes(received)

    def ask(self, content: bytes) -> Answer:
        """Send one good request on a new connection; return the answer."""
        with self.connect() as connection:
            connection.sendall(content)
            received = b""
            while not (answers := split(received)):
                part = connection.recv(65536)
                assert part, "closed without an answer"
                received += part
        (answer,) = answers
        return answer


def split(received: bytes) -> Stream:
    """Return the complete responses in a stream."""
    found: Stream = []
    while received:
        head, separator, rest = received.partition(b"\r\n\r\n")
        if not separator:
            break
        lines = head.split(b"\r\n")
        version, status, *_ = lines[0].split(b" ")
        assert version in VERSIONS
        if status == b"100":
            received = rest
            continue
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
        assert headers[b"content-type"].startswith(b"application/json")
        length = int(headers[b"content-length"])
        if len(rest) < length:
            break
        found.append(Answer(int(status), rest[:length], headers.get(b"connection") == b"close"))
        received = rest[length:]
    return found
