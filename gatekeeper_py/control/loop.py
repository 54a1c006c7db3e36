"""The controller's loop: one pass after each change and each minute, until it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from gatekeeper_py.control.certificates import CertificateSettings
from gatekeeper_py.control.reconcile import (
    Installation,
    KubernetesApi,
    ProbeReplica,
    Report,
    TrustTimer,
    disarm,
    reconcile,
    removal_under_way,
)
from gatekeeper_py.control.webhooks import Conditions
from gatekeeper_py.runtime.backoff import backed_off
from gatekeeper_py.runtime.logs import Log

DEBOUNCE_SECONDS: Final = 0.05
"""Changes arrive in bursts; one pass covers all that arrive within this time."""

AFTER_WRITE_SECONDS: Final = 1.0
"""Pause after a pass that wrote, so that two controllers that disagree do not write in a tight loop."""

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 30.0

STALE_SECONDS: Final = 300.0
"""The controller is not ready when no pass completed for this long; five were due meanwhile."""


class Observer(Protocol):
    """Receives the outcome of each pass, for metrics."""

    def reconciled(self, report: Report) -> None: ...

    def failed(self) -> None: ...


class FastPath(Protocol):
    """Keeps match conditions in the configurations. ``check`` makes it compare them again."""

    @property
    def conditions(self) -> Conditions: ...

    def check(self) -> None: ...


class Controller:
    """Runs passes. ``errors`` are the exceptions that the client raises for a request that failed."""

    def __init__(
        self,
        api: KubernetesApi,
        installation: Installation,
        settings: CertificateSettings,
        *,
        observer: Observer,
        log: Log,
        errors: tuple[type[Exception], ...],
        probe_replica: ProbeReplica | None = None,
        fast_path: FastPath | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.changed = asyncio.Event()
        self._api = api
        self._installation = installation
        self._settings = settings
        self._observer = observer
        self._log = log
        self._errors = errors
        self._probe_replica = probe_replica
        self._fast_path = fast_path
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._trust_timer = TrustTimer()
        self._failures = 0
        self._completed = monotonic()
        self._last: Report | None = None

    def problem(self) -> str:
        """Return why the controller is not ready; empty when a pass completed recently."""
        silence = self._monotonic() - self._completed
        return f"no pass completed for {silence:.0f} s" if silence > STALE_SECONDS else ""

    async def run(self) -> None:
        """Run passes until cancelled; setting ``changed`` starts one at once."""
        while True:
            seconds = await self.attempt()
            if self._failures:
                # Changes do not shorten this pause: watches that fail along with the passes count as changes.
                await self._sleep(seconds)
                continue
            try:
                async with asyncio.timeout(seconds):
                    await self.changed.wait()
            except TimeoutError:
                continue
            wrote = self._last is not None and (self._last.change or self._last.repaired)
            await self._sleep(AFTER_WRITE_SECONDS if wrote else DEBOUNCE_SECONDS)
            self.changed.clear()

    async def run_once(self, seconds: float) -> bool:
        """Run passes until the webhook is armed and no rotation is in progress; whether that was reached."""
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
        """Run one pass; return the seconds until the next is due."""
        fast_path = self._fast_path
        try:
            report = await reconcile(
                self._api,
                self._installation,
                self._settings,
                self._trust_timer,
                now=self._now(),
                probe_replica=self._probe_replica,
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
        self._report(report)
        return report.next_seconds

    async def shut_down(self) -> None:
        """Delete the configurations if the installation is being removed."""
        try:
            if await removal_under_way(self._api, self._installation):
                await disarm(self._api, self._installation)
                self._log.info("disarmed")
        except self._errors as problem:
            # The garbage collector deletes them when their owner is deleted.
            self._log.warning("disarm_failed", problem=str(problem)[:500])

    def _report(self, report: Report) -> None:
        """Log what changed, and count every pass."""
        last, self._last = self._last, report
        self._observer.reconciled(report)
        if report.conditions_differ and self._fast_path is not None:
            self._fast_path.check()
        if report.change:
            self._log.info("certificate_step", step=report.change)
        if report.armed and (last is None or not last.armed):
            self._log.info("armed", replicas=report.replicas)
        elif report.repaired:
            self._log.warning("repaired", configurations=list(report.repaired))
        if report.removed and (last is None or not last.removed):
            self._log.warning("disarmed", reason=report.waiting)
        elif report.waiting and (last is None or last.waiting != report.waiting):
            self._log.info("not_armed", reason=report.waiting)
