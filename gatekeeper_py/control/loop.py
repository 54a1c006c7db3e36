"""The endless part: a pass at each change and each minute, until told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from gatekeeper_py.control.certificates import Terms
from gatekeeper_py.control.reconcile import (
    Ask,
    Cluster,
    Installation,
    Report,
    Settling,
    disarm,
    reconcile,
    removal_under_way,
)
from gatekeeper_py.control.webhooks import Conditions
from gatekeeper_py.runtime.backoff import backed_off
from gatekeeper_py.runtime.logs import Log

DEBOUNCE_SECONDS: Final = 0.05
"""Changes come in bursts: one pass for all that arrives within this."""

CALM_SECONDS: Final = 1.0
"""After a pass that wrote: two controllers that want different things must not race each other."""

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 30.0

STALE_SECONDS: Final = 300.0
"""Without a completed pass for so long, the controller is not ready: five were due."""


class Observer(Protocol):
    """Who is told of passes, for metrics."""

    def reconciled(self, report: Report) -> None: ...

    def failed(self) -> None: ...


class Skips(Protocol):
    """What says which Pods need not be asked about, and puts that into the configurations.

    ``look`` has it do so again.
    """

    @property
    def conditions(self) -> Conditions: ...

    def look(self) -> None: ...


class Controller:
    """Runs passes. ``errors`` are what the cluster's client raises for a request that failed."""

    def __init__(
        self,
        cluster: Cluster,
        installation: Installation,
        terms: Terms,
        *,
        observer: Observer,
        log: Log,
        errors: tuple[type[Exception], ...],
        ask: Ask | None = None,
        fast_path: Skips | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.changed = asyncio.Event()
        self._cluster = cluster
        self._installation = installation
        self._terms = terms
        self._observer = observer
        self._log = log
        self._errors = errors
        self._ask = ask
        self._fast_path = fast_path
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._settling = Settling()
        self._failures = 0
        self._completed = monotonic()
        self._last: Report | None = None

    def problem(self) -> str:
        """Why the controller is not ready; empty when a pass completed lately."""
        silence = self._monotonic() - self._completed
        return f"no pass completed for {silence:.0f} s" if silence > STALE_SECONDS else ""

    async def run(self) -> None:
        """Pass after pass until cancelled; ``changed`` starts one at once."""
        while True:
            seconds = await self.attempt()
            if self._failures:
                # Changes do not shorten this: watches that fail with the passes are changes, too.
                await self._sleep(seconds)
                continue
            try:
                async with asyncio.timeout(seconds):
                    await self.changed.wait()
            except TimeoutError:
                continue
            wrote = self._last is not None and (self._last.change or self._last.repaired)
            await self._sleep(CALM_SECONDS if wrote else DEBOUNCE_SECONDS)
            self.changed.clear()

    async def run_once(self, seconds: float) -> bool:
        """Passes until armed and settled, for at most this long; whether that was reached."""
        end = self._monotonic() + seconds
        while True:
            wait = await self.attempt()
            if self._last is not None and self._last.steady:
                return True
            left = end - self._monotonic()
            if left <= 0:
                return False
            await self._sleep(min(wait, left))

    async def attempt(self) -> float:
        """One pass; answers the seconds until the next is due."""
        fast_path = self._fast_path
        try:
            report = await reconcile(
                self._cluster,
                self._installation,
                self._terms,
                self._settling,
                now=self._now(),
                ask=self._ask,
                wanted=None if fast_path is None else lambda: fast_path.conditions,
            )
        except self._errors as problem:
            pause = backed_off(FIRST_RETRY_SECONDS, self._failures, LONGEST_RETRY_SECONDS)
            self._failures += 1
            self._observer.failed()
            self._log.warning("reconcile_failed", problem=str(problem)[:500], retry_seconds=pause)
            return pause
        self._failures = 0
        self._completed = self._monotonic()
        self._tell(report)
        return report.next_seconds

    async def leave(self) -> None:
        """At the end: when the installation is being removed, take the configurations along."""
        try:
            if await removal_under_way(self._cluster, self._installation):
                await disarm(self._cluster, self._installation)
                self._log.info("disarmed")
        except self._errors as problem:
            # Their owner's deletion takes them along, too.
            self._log.warning("disarm_failed", problem=str(problem)[:500])

    def _tell(self, report: Report) -> None:
        """Log what changed, count every pass."""
        last, self._last = self._last, report
        self._observer.reconciled(report)
        if report.astray and self._fast_path is not None:
            self._fast_path.look()
        if report.change:
            self._log.info("certificate_step", step=report.change)
        if report.armed and (last is None or not last.armed):
            self._log.info("armed", replicas=report.replicas)
        elif report.repaired:
            self._log.warning("repaired", configurations=list(report.repaired))
        if report.removed and (last is None or not last.removed):
            self._log.warning("disarmed", reason=report.waiting)
        elif report.waiting and (last is None or last.waiting != report.waiting):
            self._log.info("not_armed_yet", reason=report.waiting)
