"""One sample a second: what the process holds, what it says of itself, whether ``/livez`` answers."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.soak.process import Metrics, Server

INTERVAL_SECONDS: Final = 1.0

LIVEZ_SECONDS: Final = 5.0
"""The kubelet's patience in the shipped Deployment."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one instant, ``second`` from the start."""

    second: float
    rss_mib: float
    files: int
    threads: int
    connections: float
    inflight: float
    cache_entries: float
    lag: float
    livez_ms: float


class Sampler(threading.Thread):
    """Samples until stopped. ``livez`` tells of every question that was not answered with 200 in time."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self.livez: list[str] = []
        self.begun = time.monotonic()
        self._server = server
        self._ended = threading.Event()

    @property
    def second(self) -> float:
        """Since the start."""
        return time.monotonic() - self.begun

    def run(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            asked = time.monotonic()
            try:
                status, body = self._server.health("/livez", LIVEZ_SECONDS)
                answered = time.monotonic()
                metrics = self._server.metrics()
            except (OSError, http.client.HTTPException) as problem:
                self.livez.append(f"second {self.second:.0f}: {problem!r}")
                continue
            if status != 200:
                self.livez.append(f"second {self.second:.0f}: {status} {body[:200]!r}")
            self.samples.append(self._sample(metrics, (answered - asked) * 1000))

    def _sample(self, metrics: Metrics, livez_ms: float) -> Sample:
        rss, threads = memory_and_threads(self._server.pid)
        return Sample(
            second=round(self.second, 2),
            rss_mib=round(rss, 3),
            files=open_files(self._server.pid),
            threads=threads,
            connections=metrics.sum("connections"),
            inflight=metrics.sum("inflight_reviews"),
            cache_entries=metrics.sum("cache_entries"),
            lag=round(metrics.sum("event_loop_lag_seconds"), 4),
            livez_ms=round(livez_ms, 2),
        )

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(sample) for sample in self.samples]


def memory_and_threads(pid: int) -> tuple[float, int]:
    """Resident memory in MiB, and how many threads."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
