"""The server in a soak test: its log and the resources that it uses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.bodies import pod_review
from benchmarks.contestant import ours
from benchmarks.load import processes
from benchmarks.load.certificates import Certificate
from benchmarks.load.processes import Place
from benchmarks.load.server import Server

END_SECONDS: Final = 40.0

BAD_EVENTS: Final = frozenset({"internal_error", "library", "log_line_cut"})
"""Log events that mean a bug in gatekeeper-py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The resources that the server holds at an instant."""

    rss_mib: float
    files: int
    threads: int
    tasks: int
    connections: int
    inflight: int


class SoakFailure(Exception):
    """The server misbehaved; the message says how."""


class WatchedServer(Server):
    """``gatekeeper-py serve``, which counts its tasks. A thread reads its log, except inside ``log_held``."""

    def __init__(self, folder: Path, policy: Path, certificate: Certificate, *options: str) -> None:
        self.events: Counter[str] = Counter()
        self.bad_lines: list[str] = []
        self.errors = b""
        self._tasks = folder / "tasks"
        self._reading = threading.Event()
        self._reading.set()
        super().__init__(
            ours(
                module="benchmarks.soak.counted",
                arguments=(str(self._tasks),),
                options=("--drain-seconds", "1", *options),
            ),
            policy=policy,
            certificate=certificate,
            place=Place(min(os.sched_getaffinity(0))),
            output=folder / "output",
        )
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._read, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def _read(self) -> None:
        assert self.process.stdout is not None
        while self._reading.wait() and (line := self.process.stdout.readline()):
            try:
                event = json.loads(line)
            except ValueError:
                self.bad_lines.append(repr(line[:300]))
                continue
            self.events[event["event"]] += 1
            if event["event"] in BAD_EVENTS or "exception" in event:
                self.bad_lines.append(repr(line[:300]))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    @contextlib.contextmanager
    def log_held(self) -> Iterator[None]:
        """Stop reading the log inside the ``with`` block."""
        self._reading.clear()
        try:
            yield
        finally:
            self._reading.set()

    def tail(self) -> str:
        return f"{self.errors[-2000:].decode(errors='replace')} {self.bad_lines}"

    def start(self) -> None:
        """Wait until it answers reviews. Raises ``NotReady``."""
        self.wait_ready(pod_review(size=2300))

    def held(self) -> Held:
        """Return the resources that the server holds. Raises ``OSError`` if it does not answer in time."""
        self.process.send_signal(signal.SIGUSR1)
        metrics = self.metrics()  # after this answer, the signal was handled and the tasks are counted
        pid = self.process.pid
        return Held(
            rss_mib=round(processes.rss_mib(pid), 3),
            files=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            threads=int(processes.status(pid)["Threads"]),
            tasks=int(self._tasks.read_text(encoding="ascii")),
            connections=int(metrics.sum("connections")),
            inflight=int(metrics.sum("inflight_reviews")),
        )

    def end(self, seconds: float = END_SECONDS) -> int:
        """End the process, read the rest of its output, and return its exit code."""
        self._reading.set()
        code = super().end(seconds)
        for thread in self._threads:
            thread.join(seconds)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds; connection errors mean not yet. Raises ``SoakFailure`` when too late."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        if time.monotonic() > end:
            raise SoakFailure(f"no {what} in {seconds:.0f} s")
        time.sleep(0.05)  # between two attempts
