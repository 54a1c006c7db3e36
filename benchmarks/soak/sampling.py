"""Sample once a second which resources the process holds, and whether ``/livez`` answers."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.soak.process import Held, WatchedServer

INTERVAL_SECONDS: Final = 1.0

LIVEZ_SECONDS: Final = 5.0
"""The timeout of the kubelet's probe in the Deployment in ``k8s/``."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that was taken ``second`` seconds after the start."""

    second: float
    livez_ms: float
    held: Held


class Sampler(threading.Thread):
    """Samples until stopped. ``livez`` lists the requests that did not get 200 in time.

    ``late`` is the longest time by which the sampler itself woke up late, in seconds. It shows pauses of the
    whole machine.
    """

    def __init__(self, server: WatchedServer) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self.livez: list[str] = []
        self.late = 0.0
        self.begun = time.monotonic()
        self._server = server
        self._ended = threading.Event()

    @property
    def second(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.begun

    def run(self) -> None:
        due = time.monotonic() + INTERVAL_SECONDS
        while not self._ended.wait(INTERVAL_SECONDS):
            sent = time.monotonic()
            self.late = max(self.late, sent - due)
            try:
                status, body = self._server.health("/livez", LIVEZ_SECONDS)
                answered = time.monotonic()
                held = self._server.held()
            except (OSError, http.client.HTTPException) as problem:
                self.livez.append(f"second {self.second:.0f}: {problem!r}")
            else:
                if status != 200:
                    self.livez.append(f"second {self.second:.0f}: {status} {body[:200]!r}")
                self.samples.append(Sample(round(self.second, 2), round((answered - sent) * 1000, 2), held))
            due = time.monotonic() + INTERVAL_SECONDS

    def stop(self) -> None:
        self._ended.set()
        self.join()
