"""Schedule look-ups that no review waits for.

They fetch the manifests named in rules, and renew facts before they expire.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from gatekeeper_py.core.images.manifest import Answer, Manifest
from gatekeeper_py.process.waiting import backed_off, wait_for

MAX_OF_HOST: Final = 4
"""Maximum number of these look-ups in one registry at once. Most of the concurrent requests to a registry
remain for reviews."""

MAX_IN_ALL: Final = 100
"""Maximum number of these look-ups in all registries at once: a tenth of ``lookups.MAX_REQUESTS``, which
includes the look-ups of reviews."""

FIRST_RETRY_SECONDS: Final = 2.0
"""Delay after the first failure. The delay is short, because a fact with a lifetime of 60 s is renewed only
12 s before it expires."""

LONGEST_RETRY_SECONDS: Final = 60.0

LONGEST_SLEEP_SECONDS: Final = 1.0
SHORTEST_SLEEP_SECONDS: Final = 0.05
"""Minimum delay of the timer, so that look-ups that are due at nearly the same time start together."""


class Fetch(Protocol):
    """Starts the look-ups of a ``Refresh``."""

    def is_in_use(self, manifest: Manifest) -> bool:
        """Return whether the manifest still needs a refresh."""

    def is_blocked(self, host: str) -> bool:
        """Return whether the host must not be queried now."""

    def fetch(self, manifest: Manifest) -> asyncio.Task[Answer]:
        """Start a look-up, or return the running one. When it ends, it calls ``schedule`` or ``retry``."""


class Refresh:
    """Starts each scheduled look-up when it is due, a few at a time in each registry."""

    def __init__(self, fetch: Fetch, *, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._due: dict[Manifest, float] = {}
        self._heap: list[tuple[float, Manifest]] = []
        """The items of ``_due``, earliest first, and outdated items that were rescheduled."""
        self._ready: dict[str, dict[Manifest, None]] = {}
        """Due manifests by host, oldest first, that wait until fewer look-ups are running."""
        self._running: Counter[str] = Counter()
        self._failures: dict[Manifest, int] = {}
        self._wake = asyncio.Event()

    def schedule(self, manifest: Manifest, at: float) -> None:
        """Look a manifest up at an instant of the clock; this replaces an earlier schedule."""
        self._failures.pop(manifest, None)
        self._plan(manifest, at)

    def retry(self, manifest: Manifest) -> None:
        """Look a manifest up again after a failure. The delay doubles with each failure.

        If a look-up is already scheduled, nothing changes.
        """
        if self.is_scheduled(manifest):
            return
        failures = self._failures.get(manifest, 0)
        self._failures[manifest] = failures + 1
        delay = backed_off(FIRST_RETRY_SECONDS, failures, LONGEST_RETRY_SECONDS)
        self._plan(manifest, self._clock() + delay)

    def cancel(self, manifest: Manifest) -> None:
        """Do not look a manifest up until it is scheduled again."""
        self._failures.pop(manifest, None)
        self._due.pop(manifest, None)
        self._ready.get(manifest.host, {}).pop(manifest, None)

    def is_scheduled(self, manifest: Manifest) -> bool:
        return manifest in self._due or manifest in self._ready.get(manifest.host, ())

    def _plan(self, manifest: Manifest, at: float) -> None:
        self._ready.get(manifest.host, {}).pop(manifest, None)
        self._due[manifest] = at
        heapq.heappush(self._heap, (at, manifest))
        if self._heap[0] == (at, manifest):
            self._wake.set()

    async def run(self) -> None:
        """Start the due look-ups, until cancelled."""
        while True:
            self._wake.clear()
            now = self._clock()
            while self._heap and self._heap[0][0] <= now:
                at, manifest = heapq.heappop(self._heap)
                if self._due.get(manifest) == at:
                    del self._due[manifest]
                    self._ready.setdefault(manifest.host, {})[manifest] = None
            for host in list(self._ready):
                self._start(host)
            seconds = LONGEST_SLEEP_SECONDS
            if self._heap:
                seconds = min(max(self._heap[0][0] - now, SHORTEST_SLEEP_SECONDS), seconds)
            await wait_for(self._wake, seconds)

    def _start(self, host: str) -> None:
        """Start the due look-ups in a registry, as far as the limits allow."""
        ready = self._ready[host]
        while ready and self._running[host] < MAX_OF_HOST and self._running.total() < MAX_IN_ALL:
            manifest = next(iter(ready))
            del ready[manifest]
            if not self._fetch.is_in_use(manifest):
                self._failures.pop(manifest, None)
            elif self._fetch.is_blocked(host):
                self.retry(manifest)
            else:
                self._running[host] += 1
                self._fetch.fetch(manifest).add_done_callback(lambda _task: self._finish(host))
        if not ready:
            del self._ready[host]

    def _finish(self, host: str) -> None:
        self._running[host] -= 1
        if not self._running[host]:
            del self._running[host]
        self._wake.set()
