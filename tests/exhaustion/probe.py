"""Send reviews from a separate process, and measure the duration of each.

``python probe.py PORT CA SERVER_PID`` waits for lines on standard input. The first one holds the requests by
kind. ``start`` begins to send reviews, each kind on its own thread: ``new`` makes a new connection for each
review, the others use an established connection. ``stop`` ends that and prints the samples as a list in one
line of JSON.

The test that attacks the server is busy itself, so it cannot measure the delay of other clients. A sample
also holds how long the server's main thread and the probe's own thread waited for a processor meanwhile: on a
shared machine that is not the server's fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

GIVE_UP_SECONDS: Final = 10.0
ESTABLISHED_PAUSE_SECONDS: Final = 0.01
PAUSE_SECONDS: Final = 0.05
"""Pause of the other kinds."""

UNIQUE: Final = b"00000000000000000000"
"""In a request, these digits are replaced by others each time."""


@dataclass(frozen=True)
class Sample:
    """One review. ``problem`` is empty if it was approved.

    A review that was approved although its image could not be verified is a problem, too. ``waited_seconds``
    is the time during which the server's main thread was ready but had no processor.
    """

    kind: str
    started: float
    seconds: float
    waited_seconds: float
    problem: str


class Prober:
    """A thread that sends reviews."""

    def __init__(self, kind: str, port: int, trust: ssl.SSLContext, server: int, content: bytes) -> None:
        self.samples: list[Sample] = []
        self._kind = kind
        self._port = port
        self._trust = trust
        self._server = server
        self._content = content
        self._connection: ssl.SSLSocket | None = None
        self._asking = threading.Event()
        self._idle = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def start(self) -> None:
        self.samples = []
        self._idle.clear()
        self._asking.set()

    def stop(self) -> None:
        self._asking.clear()
        self._idle.wait()

    def _run(self) -> None:
        while True:
            self._idle.set()
            self._asking.wait()
            while self._asking.is_set():
                self._sample()
                time.sleep(ESTABLISHED_PAUSE_SECONDS if self._kind == "established" else PAUSE_SECONDS)

    def _sample(self) -> None:
        waited, own = _waited(f"/proc/{self._server}"), _waited("/proc/thread-self")
        started = time.monotonic()
        problem = ""
        try:
            if self._connection is None:
                self._connection = _connect(self._port, self._trust)
            answer = _ask(self._connection, self._content.replace(UNIQUE, b"%020d" % time.time_ns()))
            approved = answer.startswith(b"HTTP/1.1 200 ") and b'"allowed":true' in answer
            if not approved or b'"unverified"' in answer:
                problem = answer[:300].decode("latin-1")
        except OSError as error:
            problem = repr(error)
        seconds = time.monotonic() - started
        if self._connection is not None and (self._kind == "new" or problem):
            self._connection.close()
            self._connection = None
        self.samples.append(
            Sample(
                kind=self._kind,
                started=started,
                seconds=seconds - (_waited("/proc/thread-self") - own),
                waited_seconds=_waited(f"/proc/{self._server}") - waited,
                problem=problem,
            )
        )


def _connect(port: int, trust: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trust.wrap_socket(plain, server_hostname="localhost")


def _ask(connection: ssl.SSLSocket, content: bytes) -> bytes:
    connection.sendall(content)
    answer = b""
    while True:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {answer[:100]!r}")
        answer += part
        head, separator, body = answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if separator and len(body) >= int(length):
            return answer


def _waited(place: str) -> float:
    """Return the seconds that a thread waited for a processor; 0 where the kernel does not count them."""
    try:
        return int(Path(place, "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def main(port: int, ca: str, server: int) -> None:
    with contextlib.suppress(OSError):
        os.nice(-10)  # a late measurement is useless, and the probe takes very little CPU from the server
    trust = ssl.create_default_context(cafile=ca)
    contents = json.loads(sys.stdin.readline())
    probers = [
        Prober(kind, port, trust, server, content.encode("latin-1")) for kind, content in contents.items()
    ]
    for line in sys.stdin:
        for prober in probers:
            prober.start() if line.strip() == "start" else prober.stop()
        if line.strip() == "stop":
            samples = [asdict(sample) for prober in probers for sample in prober.samples]
            sys.stdout.write(json.dumps(samples) + "\n")
        else:
            sys.stdout.write("started\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
