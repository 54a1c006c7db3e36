"""The controller's loop: one pass after each change and each minute, until it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final, get_args

from gatekeeper_py.controller.configurations import Wanted
from gatekeeper_py.controller.events import CONFIGMAP, Events
from gatekeeper_py.controller.metrics import ControlMetrics
from gatekeeper_py.controller.plan import Alarm, Armed, Paused, Removing, Report, Waiting
from gatekeeper_py.controller.reconcile import PASS_ERRORS, Passes
from gatekeeper_py.controller.webhooks.desired import MUTATING, VALIDATING
from gatekeeper_py.controller.webhooks.templates import MUTATING_NAME
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.waiting import backed_off, wait_for

DEBOUNCE_SECONDS: Final = 0.05
"""Changes arrive in bursts; one pass covers all changes within this time."""

AFTER_WRITE_SECONDS: Final = 1.0
"""Pause after a pass that wrote, so that two controllers that disagree do not write in a tight loop."""

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 30.0

STALE_SECONDS: Final = 300.0
"""The controller is not ready if no pass completed for this long. Five passes are due in that time."""


class Alarms:
    """Conditions that need attention. Each is logged when it begins and when it ends.

    Call ``update`` after each check of the conditions.
    """

    def __init__(self, metrics: ControlMetrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log
        self._active: dict[Alarm, str] = {}
        for what in get_args(Alarm):
            metrics.alarm(what, active=False)

    def update(self, problems: Mapping[Alarm, str]) -> None:
        """Set the problems of some alarms; an empty text ends an alarm. Other alarms do not change."""
        for what, problem in problems.items():
            was_active = what in self._active
            if problem:
                self._active[what] = problem
                if not was_active:
                    self._log.warning("alarm", what=what, problem=problem[:500])
            elif was_active:
                del self._active[what]
                self._log.info("alarm_ended", what=what)
            self._metrics.alarm(what, active=bool(problem))


class Controller:
    """Runs passes, and reports what they did.

    ``wanted`` returns the current desired state of the configurations. ``problems`` returns the alarms
    of other parts. ``refused`` returns the name of the policy's ConfigMap, and why its policy is refused;
    the reason is empty if the policy is accepted. ``check_conditions`` is called when the match conditions of
    a configuration differ from those of the fast path.
    """

    def __init__(
        self,
        passes: Passes,
        wanted: Callable[[], Wanted],
        *,
        alarms: Alarms,
        events: Events,
        metrics: ControlMetrics,
        log: Log,
        problems: Callable[[], Mapping[Alarm, str]] = dict,
        refused: Callable[[], tuple[str, str]] = lambda: ("", ""),
        check_conditions: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.changed = asyncio.Event()
        self._passes = passes
        self._wanted = wanted
        self._alarms = alarms
        self._events = events
        self._metrics = metrics
        self._log = log
        self._problems = problems
        self._refused = refused
        self._last_refused = ""
        self._check_conditions = check_conditions
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._failures = 0
        self._completed = monotonic()
        self._last: Report | None = None

    @property
    def armed(self) -> bool:
        """Whether the webhook configurations existed at the end of the last pass."""
        return self._last is not None and self._last.armed

    def problem(self) -> str:
        """Return why the controller is not ready; empty when a pass completed recently."""
        silence = self._monotonic() - self._completed
        return f"no pass completed for {silence:.0f} s" if silence > STALE_SECONDS else ""

    async def run(self) -> None:
        """Run passes until cancelled. Setting ``changed`` starts one at once, except after a failed pass."""
        direct, due = True, 0.0
        while True:
            seconds = await self.attempt(direct=direct)
            # Changes must not put off the direct pass that is due.
            now = self._monotonic()
            due = now + seconds if direct else min(due, now + seconds)
            direct = True
            if self._failures:
                # Do not let a change shorten this pause: a watch that fails counts as a change, and watches
                # fail together with the passes.
                await self._sleep(seconds)
                continue
            if not await wait_for(self.changed, max(due - now, 0.0)):
                continue
            last = self._last
            wrote = last is not None and (last.change or last.changes.any)
            await self._sleep(AFTER_WRITE_SECONDS if wrote else DEBOUNCE_SECONDS)
            self.changed.clear()
            direct = self._monotonic() >= due

    async def run_once(self, seconds: float) -> bool:
        """Run passes until the webhook is armed and no rotation is in progress.

        Return whether this state was reached within ``seconds``.
        """
        end = self._monotonic() + seconds
        while True:
            wait = await self.attempt()
            if self._last is not None and self._last.steady:
                return True
            left = end - self._monotonic()
            if left <= 0:
                return False
            await self._sleep(min(wait, left))

    async def attempt(self, *, direct: bool = True) -> float:
        """Run one pass; return the seconds until the next pass is due. ``direct`` is as for a pass."""
        try:
            report = await self._passes.run(self._wanted, self._now, direct=direct)
        except PASS_ERRORS as problem:
            pause = backed_off(FIRST_RETRY_SECONDS, self._failures, LONGEST_RETRY_SECONDS)
            self._failures += 1
            self._metrics.failed()
            self._alarms.update(self._problems())
            self._log.warning("reconcile_failed", problem=str(problem)[:500], retry_seconds=pause)
            return pause
        self._failures = 0
        self._completed = self._monotonic()
        await self._report(report)
        return report.next_seconds

    async def shut_down(self) -> None:
        """Delete the configurations if the installation is being removed."""
        try:
            if await self._passes.shut_down():
                self._log.info("disarmed", reason="the installation is being removed")
        except PASS_ERRORS as problem:
            # The garbage collector deletes them when their owner is deleted.
            self._log.warning("disarm_failed", problem=str(problem)[:500])

    async def _report(self, report: Report) -> None:
        """Log and count what changed since the last pass, and record Events."""
        last, self._last = self._last, report
        self._metrics.reconciled(report)
        self._alarms.update({**report.alarms, **self._problems()})
        if report.changes.conditions_differ:
            self._check_conditions()
        if report.change:
            self._log.info("certificate_step", step=report.change)
        await self._report_refused()
        await self._report_stage(last, report)
        await self._report_changes(report)
        if report.changes.active and (last is None or not last.changes.active):
            self._log.info("mutation_active")

    async def _report_refused(self) -> None:
        name, problem = self._refused()
        if problem and problem != self._last_refused:
            message = f"the policy is refused, and the last good one stays in use: {problem}"
            await self._events.record("PolicyRefused", message, kind=CONFIGMAP, name=name)
        self._last_refused = problem

    async def _report_stage(self, last: Report | None, report: Report) -> None:
        was_armed = last is not None and last.armed
        ignored = report.alarms.get("pause")
        if ignored and (last is None or last.alarms.get("pause") != ignored):
            self._log.warning("pause_ignored", problem=ignored)
            await self._events.record("PauseIgnored", ignored)
        if last is not None and last.stage == report.stage:
            return
        match report.stage:
            case Armed() if not was_armed:
                self._log.info("armed", replicas=report.replicas)
                if report.changes.created:
                    await self._events.record("Armed", f"armed with {report.replicas} replicas")
            case Waiting(why):
                self._log.info("not_armed", reason=why)
            case Paused(until):
                self._metrics.paused()
                end = format_instant(until)
                self._log.warning("paused", until=end)
                removed = "the webhook configurations are removed, and every image is admitted"
                await self._events.record("Paused", f"paused until {end}: {removed}")
            case Removing(why):
                self._log.warning("disarmed", reason=why)
                if was_armed:
                    await self._events.record("Disarmed", f"disarmed: {why}")

    async def _report_changes(self, report: Report) -> None:
        changes = report.changes
        if changes.updated:
            self._log.info("updated", configurations=list(changes.updated))
        if changes.repaired:
            details = list(changes.details[:20])
            self._log.warning("repaired", configurations=list(changes.repaired), fields=details)
            for name in changes.repaired:
                kind = MUTATING if name == MUTATING_NAME else VALIDATING
                message = f"repaired, because somebody changed {', '.join(details)}"
                await self._events.record("Repaired", message, kind=kind, name=name)
        if MUTATING_NAME in changes.created:
            self._log.info("mutation_registered")
        if MUTATING_NAME in changes.removed:
            self._log.info("mutation_unregistered")
