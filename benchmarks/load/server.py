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
from typing import Any, Final

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
        plain: bool,
    ) -> None:
        self.contestant = contestant
        self.policy = policy
        self.certificate = certificate
        self.plain = plain
        self.port = free_port()
        self._output = output
        launch = Launch(self.port, certificate.chain, certificate.key, policy, place.core)
        with output.open("wb") as written:
            self.process = subprocess.Popen(
                place.command(contestant.argv(launch)),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env={**os.environ, **contestant.environment},
            )
        self.cipher = ""
        self._health: int | None = None

    def wait_ready(self, body: bytes) -> None:
        """Wait until the server allows this review. Raises ``NotReady`` after 60 s or if the server ends."""
        deadline = time.monotonic() + READY_SECONDS
        last = "it does not listen"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                connection = self.connect()
                with contextlib.closing(connection):
                    last = self._problem(connection, body)
            except (OSError, http.client.HTTPException) as problem:
                last = repr(problem)
            if not last:
                return
            time.sleep(0.05)  # between two attempts
        raise NotReady(f"{self.contestant.name} is not ready: {last}\n{self.tail()}")

    def _problem(self, connection: http.client.HTTPConnection, body: bytes) -> str:
        connection.request("POST", self.contestant.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if isinstance(connection.sock, ssl.SSLSocket):
            self.cipher = " ".join(str(part) for part in (connection.sock.cipher() or ())[:2])
        if response.status != 200:
            return f"status {response.status}: {answer[:200]!r}"
        return "" if json.loads(answer)["response"]["allowed"] is True else f"refused: {answer[:300]!r}"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the webhook that is not open yet."""
        if self.plain:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        context = ssl.create_default_context(cafile=self.certificate.ca)
        return http.client.HTTPSConnection("localhost", self.port, timeout=10, context=context)

    def health(self, path: str) -> tuple[int, bytes]:
        """Return the answer of gatekeeper-py's health listener."""
        if self._health is None:
            self._health = self._health_port()
        connection = http.client.HTTPConnection("127.0.0.1", self._health, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def _health_port(self) -> int:
        with self._output.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if '"listener":"health"' in line:
                    return int(json.loads(line)["address"].rpartition(":")[2])
        raise NotReady(f"no health listener was logged\n{self.tail()}")

    def metric(self, name: str, label: str = "") -> float:
        """Return the sum of a metric's samples, or only of those with a label such as ``result="found"``."""
        text = self.health("/metrics")[1].decode()
        labels = rf"\{{.*{label}.*\}}" if label else r"(?:\{.*\})?"
        found = re.findall(rf"^{name}{labels} (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def usage(self) -> processes.Usage:
        return processes.usage(self.process.pid)

    def tail(self) -> str:
        """Return the last 2,000 characters of the server's output."""
        return self._output.read_text(encoding="utf-8", errors="replace")[-2000:]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return gatekeeper-py's log lines with this event."""
        with self._output.open(encoding="utf-8", errors="replace") as lines:
            return [json.loads(line) for line in lines if f'"event":"{event}"' in line]

    def end(self) -> None:
        """End the process and its descendants, by their ids."""
        family = processes.family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            self._output.unlink()


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
