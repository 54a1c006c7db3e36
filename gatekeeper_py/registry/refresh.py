"""Look-ups that no review waits for: of manifests named in rules, and to renew facts before they expire."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from gatekeeper_py.core.images.manifest import Answer, Manifest

MAX_OF_HOST: Final = 4
"""Look-ups in one registry at once. Reviews keep most of the requests that may be under way there."""

MAX_IN_ALL: Final = 100
"""Look-ups in all registries at once: a tenth of what reviews and refreshes may have under way together."""

FIRST_RETRY_SECONDS: Final = 2.0
"""Delay after the first failure. A fact that lives for 60 s is renewed 12 s before it expires."""

LONGEST_RETRY_SECONDS: Final = 60.0

LONGEST_SLEEP_SECONDS: Final = 1.0
SHORTEST_SLEEP_SECONDS: Final = 0.05
"""Look-ups that are due at nearly the same time are started together."""


class Fetch(Protocol):
    """Starts the look-ups of a ``Refresh``."""

    def is_wanted(self, manifest: Manifest) -> bool:
        """Return whether the manifest is still to be refreshed."""

    def is_blocked(self, host: str) -> bool:
        """Return whether the host is not to be asked now."""

    def fetch(self, manifest: Manifest) -> asyncio.Task[Answer]:
        """Start a look-up, or return the one under way. When it ends, it calls ``schedule`` or ``retry``."""


class Refresh:
    """Starts each scheduled look-up when it is due, a few at a time in each registry."""

    def __init__(self, fetch: Fetch, *, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._due: dict[Manifest, float] = {}
        self._heap: list[tuple[float, Manifest]] = []
        """What ``_due`` holds, earliest first, and entries that were scheduled anew since."""
        self._ready: dict[str, dict[Manifest, None]] = {}
        """Manifests by host that are due and wait until fewer look-ups are under way, oldest first."""
        self._under_way: Counter[str] = Counter()
        self._failures: dict[Manifest, int] = {}
        self._wake = asyncio.Event()

    def schedule(self, manifest: Manifest, at: float) -> None:
        """Look a manifest up at an instant of the clock, instead of when it was scheduled for before."""
        self._failures.pop(manifest, None)
        self._plan(manifest, at)

    def retry(self, manifest: Manifest) -> None:
        """Look a manifest up again after a failure, later each time. One that is scheduled stays so."""
        if self.is_scheduled(manifest):
            return
        failures = self._failures.get(manifest, 0)
        self._failures[manifest] = failures + 1
        delay = min(FIRST_RETRY_SECONDS * 2 ** min(failures, 16), LONGEST_RETRY_SECONDS)
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
        """Start what is due, until cancelled."""
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
            await self._sleep(seconds)

    def _start(self, host: str) -> None:
        """Start look-ups in a registry, as many as may be under way."""
        ready = self._ready[host]
        while ready and self._under_way[host] < MAX_OF_HOST and self._under_way.total() < MAX_IN_ALL:
            manifest = next(iter(ready))
            del ready[manifest]
            if not self._fetch.is_wanted(manifest):
                self._failures.pop(manifest, None)
            elif self._fetch.is_blocked(host):
                self.retry(manifest)
            else:
                self._under_way[host] += 1
                self._fetch.fetch(manifest).add_done_callback(lambda _task: self._ended(host))
        if not ready:
            del self._ready[host]

    def _ended(self, host: str) -> None:
        self._under_way[host] -= 1
        if not self._under_way[host]:
            del self._under_way[host]
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
