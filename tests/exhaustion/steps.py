"""The steps of a hostile registry, and its connections.

Each connection has a blocking socket and a thread, so a step can send any bytes at any time.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

BLOCK_BYTES: Final = 256 * 1024

Kind = Literal["plain", "tls"]
KINDS: Final[tuple[Kind, ...]] = ("plain", "tls")
AUTHORIZED: Final = "authorized"

Outcome = Literal["found", "absent", "unverified", "unsigned"]
"""Answer to a review: the image was found, does not exist, could not be verified, or has no signature."""


class CutOff(Exception):
    """The row ended, or the client went away."""


@dataclass
class Counts:
    """What the client did during a row. ``most_sent`` are the bytes that it took on one connection."""

    connections: int = 0
    requests: int = 0
    most_sent: int = 0


class Peer:
    """A connection from the client. ``context`` makes the TLS context for this row's certificates."""

    def __init__(
        self,
        connection: socket.socket,
        origin: str,
        context: Callable[[], ssl.SSLContext],
        counts: Counts,
        over: threading.Event,
    ) -> None:
        self.connection = connection
        self.origin = origin
        self.context = context
        self._counts = counts
        self._over = over
        self._sent = 0
        self._received = b""

    def shake_hands(self) -> None:
        """Begin TLS."""
        self.connection = self.context().wrap_socket(self.connection, server_side=True)

    def read(self) -> str:
        """Read the head of a request; return its method and path, after ``AUTHORIZED`` if it is."""
        while b"\r\n\r\n" not in self._received:
            part = self.connection.recv(65536)
            if not part:
                raise CutOff
            self._received += part
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        self._counts.requests += 1
        line = " ".join(head.decode("latin-1").split(" ")[:2])
        return f"{AUTHORIZED} {line}" if b"\nauthorization:" in head.lower() else line

    def send(self, content: bytes) -> None:
        """Send bytes, and count what the client's kernel or ours took."""
        left = memoryview(content)
        while left:
            taken = self.connection.send(left)
            left = left[taken:]
            self._sent += taken
            self._counts.most_sent = max(self._counts.most_sent, self._sent)

    def wait(self, seconds: float | None = None) -> None:
        if self._over.wait(seconds):
            raise CutOff

    def shut(self, how: int) -> None:
        """Shut the TCP connection down, without a TLS shutdown."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, how)

    def abort(self) -> None:
        """Reset the connection, even while another thread sends on it."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.shut(socket.SHUT_RDWR)


Act = Callable[[Peer], None]
Step = bytes | Act
"""Bytes to send, in which ``@ORIGIN`` stands for the URL of this registry, or an act."""

Steps = tuple[Step, ...]


def take(peer: Peer, steps: Steps) -> None:
    for step in steps:
        if isinstance(step, bytes):
            peer.send(step.replace(b"@ORIGIN", peer.origin.encode()))
        else:
            step(peer)


def pour(content: bytes) -> Act:
    """Send the same bytes for ever."""
    block = content * max(BLOCK_BYTES // len(content), 1)

    def act(peer: Peer) -> None:
        while True:
            peer.send(block)

    return act


def drip(content: bytes, seconds: float) -> Act:
    """Send one byte after the other, for ever, with a pause after each."""

    def act(peer: Peer) -> None:
        for byte in itertools.cycle(content):
            peer.send(bytes([byte]))
            peer.wait(seconds)

    return act


def alternate(*choices: Steps) -> Act:
    """Take one series of steps each time, in turn."""
    turns = itertools.cycle(choices)
    lock = threading.Lock()

    def act(peer: Peer) -> None:
        with lock:
            chosen = next(turns)
        take(peer, chosen)

    return act


def hang(peer: Peer) -> None:
    """Do nothing until the row ends."""
    peer.wait()


def reset(peer: Peer) -> None:
    peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise CutOff


def half_close(peer: Peer) -> None:
    """End our half of the stream without a close_notify."""
    peer.shut(socket.SHUT_WR)
    peer.wait()


def close(peer: Peer) -> None:
    raise CutOff


@dataclass(frozen=True)
class Row:
    """A hostile registry. Each connection takes ``first``, and then steps for each of its requests.

    ``answers`` maps the beginning of a request (see ``Peer.read``), such as ``HEAD`` or ``GET /token``, to
    steps; the first one that fits is taken. ``outcomes`` are what the reviews of its images may get.
    """

    name: str
    answers: Mapping[str, Steps]
    outcomes: frozenset[Outcome]
    first: Steps = ()
    speaks: tuple[Kind, ...] = KINDS
    shakes_hands: bool = True
    """Whether the TLS handshake is done before the steps."""
    chain: str = "usual"
    """Name of the file with the certificates."""
    accept_seconds: float = 0.0
    """Pause after each accepted connection; infinite: none is accepted."""
    seconds: float = 1.2
    """Minimum duration."""

    @property
    def is_accepting(self) -> bool:
        return self.accept_seconds < math.inf

    def behave(self, peer: Peer) -> None:
        """Serve one connection until either side ends it."""
        if peer.origin.startswith("https") and self.shakes_hands:
            peer.shake_hands()
        take(peer, self.first)
        while True:
            line = peer.read()
            take(peer, next(steps for start, steps in self.answers.items() if line.startswith(start)))
