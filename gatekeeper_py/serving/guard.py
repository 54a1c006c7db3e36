"""Check changes of the policy for ``/validate-policy``, without competing with reviews.

Only changes of the ConfigMap that this server follows, and of exceptions, are checked. The parser process
parses one document at a time, for at most a fifth of the time, because anyone who can reach the port can
request a check. A change of the live policy interrupts a check, which is repeated if there is time.

A changed policy also judges the images that this replica admitted recently, in the same process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

from gatekeeper_py.core.admission import Outcome, guard
from gatekeeper_py.core.admission.guard import WrittenExceptions
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.exceptions.exceptions import Exceptions
from gatekeeper_py.core.policy.configmap import ConfigMapPolicy
from gatekeeper_py.core.policy.exceptions import exception_findings
from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.core.policy.radius import Admitted
from gatekeeper_py.live import LivePolicy
from gatekeeper_py.parser.process import Interrupted, Judged, Parser, ParserError
from gatekeeper_py.runtime.logs import Log
from gatekeeper_py.runtime.slices import in_slices
from gatekeeper_py.serving.answers import TRY_AGAIN, Refusal
from gatekeeper_py.serving.metrics import CheckResult, Metrics
from gatekeeper_py.serving.recent import RecentImages
from gatekeeper_py.settings import DEFAULT_MOST_REJECTED, ConfigMapName

LONGEST_CHECK_SECONDS: Final = 9.5
"""Maximum time for a check. By default, an API server waits 10 s for a webhook, including the network."""

PAUSE_FACTOR: Final = 4.0
"""The pause after a check, as a multiple of its duration. So checks take at most a fifth of the time."""

EXCEPTIONS_PAUSE_FACTOR: Final = 9.0
"""The same for checks of exceptions. They take at most a tenth of the time."""

MAX_CHECKS: Final = 4
"""Maximum number of checks in progress or waiting. Each holds up to 1 MiB; other callers try again."""

POLICY: Final = "the policy is"
EXCEPTIONS: Final = "the exceptions are"
"""How messages name what was checked."""

LEAST_SHARE: Final = 0.5
"""A check begins only if at least this share of its time is left. Otherwise it could time out because of the
wait, and a good policy would be refused."""


T = TypeVar("T")


class Checks:
    """Runs checks in the parser process, one at a time, for a limited share of the time.

    The pause after a check is ``pause_factor`` times its duration.
    """

    def __init__(
        self,
        parser: Parser,
        pause_factor: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.checking = 0
        """Checks under way or waiting for their turn."""
        self._parser = parser
        self._pause_factor = pause_factor
        self._monotonic = monotonic
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._next_start = float("-inf")

    async def run(self, check: Callable[[float], Awaitable[T]], seconds: float) -> T:
        """Run a check when its turn comes; ``check`` is called with its limit in seconds.

        Raises ``_Busy`` and ``ParserError``.
        """
        end = self._monotonic() + seconds
        latest_start = end - LEAST_SHARE * seconds
        # An exception in a local variable would form a cycle with its own traceback, which would keep the
        # text until the garbage collector runs.
        busy = "other policies are being checked"
        if self.checking >= MAX_CHECKS:
            raise _Busy(busy)
        self.checking += 1
        try:
            self._check_pause(latest_start, busy)
            async with asyncio.timeout(latest_start - self._monotonic()):
                await self._turn.acquire()
            try:
                while True:
                    self._check_pause(latest_start, busy)
                    await self._sleep(max(self._next_start - self._monotonic(), 0.0))
                    with suppress(Interrupted):
                        async with self._parser.turn(latest_start - self._monotonic(), gives_way=True):
                            return await self._timed(check, end)
                    busy = "the policy changed during the check"
            finally:
                self._turn.release()
        except TimeoutError:
            raise _Busy(busy) from None
        finally:
            self.checking -= 1

    def _check_pause(self, latest_start: float, busy: str) -> None:
        """Raise ``_Busy`` if the pause after the previous check ends too late."""
        if self._next_start > latest_start:
            raise _Busy(busy)

    async def _timed(self, check: Callable[[float], Awaitable[T]], end: float) -> T:
        start = self._monotonic()
        try:
            return await check(end - start)
        finally:
            now = self._monotonic()
            self._next_start = now + self._pause_factor * (now - start)


class PolicyGuard:
    """Judges reviews of the ConfigMap ``name``, and of exceptions by the policy in ``live``.

    Without a name, every review is allowed. Checks of exceptions in namespaces have their own share, so that
    a tenant cannot use up the share of the policy and of the installation's exceptions.

    A policy that refuses more than ``most_rejected`` percent of the images that ``live`` admitted recently is
    refused, unless an annotation forces it; 0 refuses none.
    """

    def __init__(
        self,
        name: ConfigMapName | None,
        parser: Parser,
        live: LivePolicy,
        *,
        most_rejected: int = DEFAULT_MOST_REJECTED,
        observer: Metrics,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.recent = RecentImages()
        self._name = name
        self._parser = parser
        self._live = live
        self._most_rejected = most_rejected
        self._monotonic = monotonic
        self._observer = observer
        self._log = log
        self._now = now
        self._policies = Checks(parser, PAUSE_FACTOR, monotonic=monotonic, sleep=sleep)
        self._exceptions = Checks(parser, EXCEPTIONS_PAUSE_FACTOR, monotonic=monotonic, sleep=sleep)
        self._namespaces: set[str] = set()
        """The namespaces whose exceptions are being checked or wait for their turn."""

    @property
    def checking(self) -> int:
        """Checks under way or waiting for their turn."""
        return self._policies.checking + self._exceptions.checking

    def read(self, request: AdmissionRequest) -> ConfigMapPolicy | WrittenExceptions | None:
        """Return what a request would write: the policy, exceptions, or ``None`` for another object."""
        name = self._name
        if name is None:
            return None
        policy = guard.guarded(request, name.namespace, name.name)
        return guard.written_exceptions(request, name.namespace) if policy is None else policy

    async def judge(
        self, request: AdmissionRequest, written: ConfigMapPolicy | WrittenExceptions | None, seconds: float
    ) -> Outcome:
        """Answer a review within ``seconds``. ``written`` is the result of ``read``.

        Raises ``Refusal`` if it cannot be checked in time.
        """
        if written is None:
            return self._counted("skipped", guard.untouched(request))
        seconds = min(seconds, LONGEST_CHECK_SECONDS)
        what = POLICY if isinstance(written, ConfigMapPolicy) else EXCEPTIONS
        if written.text is None:
            return self._counted("refused", guard.refused(request, written.findings, what))
        try:
            if isinstance(written, WrittenExceptions):
                return await self._judge_exceptions(request, written, written.text, seconds)
            return await self._judge_policy(request, written, written.text, seconds)
        except _Busy as problem:
            if written.findings:
                return self._counted("refused", guard.refused(request, written.findings, what))
            self._observer.policy_check("busy")
            raise Refusal(503, str(problem), headers=TRY_AGAIN) from None
        except ParserError as problem:
            self._log.warning("policy_check_failed", cause=problem.cause, problem=str(problem))
            message = f"the document could not be checked: {problem}"
            failed = Finding(severity="error", code="not-checked", path="", line=1, message=message)
            return self._counted("failed", guard.refused(request, (*written.findings, failed), what))

    async def _judge_policy(
        self, request: AdmissionRequest, policy: ConfigMapPolicy, text: str, seconds: float
    ) -> Outcome:
        report = await self._policies.run(lambda left: self._parse_and_judge(policy, text, left), seconds)
        errors = [*policy.findings, *(() if report.accepted else report.findings)]
        notes: tuple[str, ...] = ()
        if report.radius is not None:
            self._observer.guard_rejected(report.radius.rejected)
            too_many = guard.excess(report.radius, self._most_rejected)
            if too_many is not None and not policy.accepts_rejections:
                errors.append(too_many)
            notes = guard.radius_notes(report.radius, insisted=policy.accepts_rejections)
        if errors:
            return self._counted("refused", guard.refused(request, in_order(errors)))
        return self._counted("accepted", guard.accepted(request, report.findings, notes))

    async def _parse_and_judge(self, policy: ConfigMapPolicy, text: str, seconds: float) -> Judged:
        end = self._monotonic() + seconds
        admitted = await self._admitted(policy, text, end)
        left = end - self._monotonic()
        return await self._parser.judge(text, policy.mode, self._now(), seconds=left, admitted=admitted)

    async def _judge_exceptions(
        self, request: AdmissionRequest, written: WrittenExceptions, text: str, seconds: float
    ) -> Outcome:
        key = written.key
        if key.namespace in self._namespaces:
            raise _Busy("other exceptions of this namespace are being checked")
        self._namespaces.add(key.namespace)
        try:
            checks = self._exceptions if key.source == "namespace" else self._policies
            parsed = await checks.run(
                lambda left: self._parser.parse_exceptions(text, key.source, seconds=left), seconds
            )
        finally:
            self._namespaces.discard(key.namespace)
        snapshot = self._live.snapshot
        found = parsed.findings
        notes: tuple[str, ...] = ()
        if parsed.document is not None and snapshot is not None:
            compiled, now = snapshot.compiled, self._now()
            exceptions = Exceptions({key: parsed.document})
            found = exception_findings(compiled, exceptions, now)
            notes = guard.approvals(compiled.grants, exceptions, now)
        errors = [finding for finding in found if finding.severity == "error"]
        if written.findings or errors:
            all_errors = in_order((*written.findings, *errors))
            return self._counted("refused", guard.refused(request, all_errors, EXCEPTIONS))
        return self._counted("accepted", guard.accepted(request, found, notes))

    async def _admitted(
        self, policy: ConfigMapPolicy, text: str, end: float
    ) -> tuple[tuple[Admitted, ...], ...] | None:
        """Return the images to judge by the new policy, or ``None`` if it is the live one.

        Raises ``TimeoutError`` if this takes longer than until ``end``.
        """
        snapshot = self._live.snapshot
        if snapshot is None:
            return None
        live = snapshot.compiled.policy
        if text == live.text and (policy.mode or live.document.mode) == live.mode:
            return None
        steps = self.recent.admitted(snapshot, time.perf_counter())
        return await in_slices(steps, end=end, monotonic=self._monotonic)

    def _counted(self, result: CheckResult, outcome: Outcome) -> Outcome:
        self._observer.policy_check(result)
        return outcome


class _Busy(Exception):
    """The check cannot begin in time; the message gives the reason."""
