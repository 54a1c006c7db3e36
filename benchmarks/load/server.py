"""A contestant as a process on a core of its own: start it, wait until it is ready, inspect and end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Final

from benchmarks.contestant import Contestant, Launch
from benchmarks.load import processes
from benchmarks.load.certificates import Certificate
from benchmarks.load.processes import Place

READY_SECONDS: Final = 60.0
END_SECONDS: Final = 10.0


class NotReady(RuntimeError):
    """The server ended or did not answer in time; the message holds the end of its output."""


class Server:
    """A contestant that has been started. ``plain`` means HTTP without TLS."""

    def __init__(
        self,
        contestant: Contestant,
        *,
        policy: Path,
        certificate: Certificate,
        place: Place,
        output: Path,
        plain: bool = False,
    ) -> None:
        self.contestant = contestant
        self.policy = policy
        self.certificate = certificate
        self.plain = plain
        self.port, self.health_port = free_ports(2)
        self._output = output
        launch = Launch(self.port, self.health_port, certificate.chain, certificate.key, policy)
        self.process = self._spawn(place.command(contestant.argv(launch)))
        self.cipher = ""

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._output.open("wb") as written:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.contestant.environment},
            )

    def wait_ready(self, body: bytes) -> None:
        """Wait until the server allows this review. Raises ``NotReady`` after 60 s or if the server ends."""
        deadline = time.monotonic() + READY_SECONDS
        last = "it does not listen"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                connection = self.connect()
                with contextlib.closing(connection):
                    last = self._problem(connection, body)
                if not last and self.contestant.has_readyz and self.health("/readyz")[0] != 200:
                    last = "/readyz fails"
            except (OSError, http.client.HTTPException) as problem:
                last = repr(problem)
            if not last:
                return
            time.sleep(0.05)  # between two attempts
        raise NotReady(f"{self.contestant.name} is not ready: {last}\n{self.tail()}")

    def _problem(self, connection: http.client.HTTPConnection, body: bytes) -> str:
        status, answer = self.ask(connection, body)
        if isinstance(connection.sock, ssl.SSLSocket):
            self.cipher = " ".join(str(part) for part in (connection.sock.cipher() or ())[:2])
        if status != 200:
            return f"status {status}: {answer[:200]!r}"
        return "" if json.loads(answer)["response"]["allowed"] is True else f"refused: {answer[:300]!r}"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the webhook that is not open yet."""
        if self.plain:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=10, context=self.certificate.trust()
        )

    def ask(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
        """Send a review, and return the status and body of the answer."""
        # API servers send their timeout in the query, too.
        path = f"{self.contestant.path}?timeout=10s"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()

    def health(self, path: str, seconds: float = 10.0) -> tuple[int, bytes]:
        """Return the answer of our health listener. Raises ``OSError`` if there is none in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def metrics(self) -> Metrics:
        """Return gatekeeper-py's metrics."""
        return Metrics(self.health("/metrics")[1].decode())

    def usage(self) -> processes.Usage:
        return processes.usage(self.process.pid)

    def tail(self) -> str:
        """Return the last 2,000 characters of the server's output."""
        return self._output.read_text(encoding="utf-8", errors="replace")[-2000:]

    def end(self, seconds: float = END_SECONDS) -> int:
        """End the process and its descendants, by their ids; return its exit code."""
        family = processes.family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self._output.unlink(missing_ok=True)
        return self.process.returncode


class Metrics:
    """The metrics of one scrape of gatekeeper-py."""

    def __init__(self, text: str) -> None:
        self._text = text

    def sum(self, name: str, label: str = "") -> float:
        """Return the sum of a metric's samples, or of those with a label (``verdict="denied"``)."""
        found = re.findall(rf"^gatekeeper_py_{name}(\{{.*\}})? (\S+)$", self._text, re.MULTILINE)
        return sum(float(value) for labels, value in found if label in labels)


def free_ports(count: int) -> list[int]:
    """Return different free ports of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]
