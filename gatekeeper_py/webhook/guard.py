"""Check changes of the policy for ``/validate-policy``, without competing with reviews.

Only changes of the ConfigMap that this server follows, and of exceptions, are checked. The parser process
parses one document at a time. If the server is too busy to check a change, the API server admits it. So no
caller may keep others waiting: each peer, and each namespace within a peer, has a share of the time. A change
of the live policy interrupts a check, and so does a check of a share that used less. The interrupted check is
repeated if there is time.

A changed policy also judges the images that this replica admitted recently, in the same process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Final, TypeVar

from gatekeeper_py.core.admission import Outcome, guard
from gatekeeper_py.core.admission.radius import Admitted
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.exceptions.exceptions import Exceptions
from gatekeeper_py.core.policy.configmap import ConfigMapPolicy, ExceptionsText
from gatekeeper_py.core.policy.exceptions import exception_findings
from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.http.answers import TRY_AGAIN, Refusal
from gatekeeper_py.http.connections.peers import MAX_CREDIT, Peer
from gatekeeper_py.live.parser.process import Interrupted, Judged, Parser, ParserError
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.settings import DEFAULT_MOST_REJECTED, ConfigMapName
from gatekeeper_py.process.shares import NOBODY, Share, Shares
from gatekeeper_py.process.slices import in_slices
from gatekeeper_py.process.waiting import PartOfTime
from gatekeeper_py.webhook.metrics import CheckResult, Metrics
from gatekeeper_py.webhook.recent import RecentImages

LONGEST_CHECK_SECONDS: Final = 9.5
"""Maximum time for a check. By default, an API server waits 10 s for a webhook, including the network."""

PAUSE_FACTOR: Final = 4.0
"""The pause of a share after its check, as a multiple of the check's duration. So the checks of the policy
and of the installation's exceptions that one peer sends take at most a fifth of the time."""

EXCEPTIONS_PAUSE_FACTOR: Final = 9.0
"""The same for the exceptions of a namespace, and for all peers without good reviews together. Each of these
takes at most a tenth of the time."""

MAX_CHECKS: Final = 8
"""Maximum number of checks in progress or waiting. Each holds up to 1 MiB. Further ones get 503."""

REMEMBERED_SECONDS: Final = 60.0
"""How long the time of a check counts for its share."""

PLACE_MS: Final = 1000
"""While a check is in progress or waits, its share counts this many more milliseconds as used."""

GRACE_SECONDS: Final = 0.5
"""A check runs at least this long before another check interrupts it. After an interruption, the parser
process needs 0.3 s to start again. So it is faster to let shorter checks end."""

POLICY: Final = "the policy is"
EXCEPTIONS: Final = "the exceptions are"
"""How messages name what was checked."""

BUSY: Final = "other policies are being checked"

LEAST_SHARE: Final = 0.5
"""A check begins only if at least this share of its time is left. Otherwise it could time out because of the
wait, and a good policy would be refused."""


T = TypeVar("T")


class _Place:
    """A check that is in progress or waits for its turn."""

    def __init__(
        self, shares: Mapping[bool, Shares], share: Share, peer: Peer | None, *, installation: bool
    ) -> None:
        self.shares = shares[installation]
        self.share = share
        self.key = installation, share
        self.pause_factor = PAUSE_FACTOR if installation else EXCEPTIONS_PAUSE_FACTOR
        self.turn = asyncio.Event()
        self.begun: float | None = None
        """When the check began, on the event loop's clock."""
        self.charged: float | None = None
        """The end of that time of the check in progress which its share has been charged for."""
        self.lost = False
        """Whether the check lost its place to another."""
        self.gave_way = False
        self.scope: asyncio.Timeout
        """The timeout that ends the present wait, or the check. It is set before the check can be
        interrupted."""
        self._peer = peer
        self._first = None if installation else shares[True]

    def rank(self) -> tuple[float, float]:
        """Return the sort key of this place; the check with the lowest key is the next.

        It begins with the time that the peer used, divided by its good requests plus one, like
        ``Peer.burden``. For checks of the installation, only the time of such checks counts.
        """
        of_peer, own = self.shares.used(self.share)
        if self._first is not None:
            of_peer += self._first.used(self.share)[0]
        credit = 0 if self._peer is None else min(self._peer.reviews, MAX_CREDIT)
        return of_peer / (1 + credit), own

    def interrupt(self) -> None:
        """End the present wait, or the check after its grace."""
        self.gave_way = True
        if not self.scope.expired():
            now = asyncio.get_running_loop().time()
            self.scope.reschedule(now if self.begun is None else max(now, self.begun + GRACE_SECONDS))


class Checks:
    """Runs checks in the parser process, one at a time. The share that used least is the next.

    All peers without good reviews have one share together.
    """

    def __init__(
        self,
        parser: Parser,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._parser = parser
        self._monotonic = monotonic
        self._sleep = sleep
        self._shares = {True: Shares(), False: Shares()}
        """The milliseconds that each share used: for the installation (true), and for namespaces (false)."""
        self._spent: deque[tuple[float, Shares, Share, int]] = deque()
        """The milliseconds of earlier checks, with the time from which they no longer count."""
        self._parts: dict[tuple[bool, Share], PartOfTime] = {}
        """The part of the time that each share may use. Those that are free are left out."""
        self._places: dict[_Place, None] = {}
        self._queue: dict[_Place, None] = {}
        self._running: _Place | None = None

    @property
    def checking(self) -> int:
        """Checks in progress or waiting for their turn."""
        return len(self._places)

    async def run(
        self,
        check: Callable[[float], Awaitable[T]],
        seconds: float,
        peer: Peer | None,
        namespace: str | None,
        *,
        installation: bool,
    ) -> T:
        """Run a check when its turn comes; ``check`` is called with its limit in seconds.

        Raises ``_Busy`` and ``ParserError``.
        """
        end = self._monotonic() + seconds
        latest_start = end - LEAST_SHARE * seconds
        # An exception in a local variable would form a cycle with its own traceback, which would keep the
        # text until the garbage collector runs.
        busy = BUSY
        place = self._enter(peer, namespace, installation=installation)
        try:
            while True:
                now = self._monotonic()
                start = max(self._free_at(place), now)
                if start > latest_start or place.lost:
                    raise _Busy(busy)
                try:
                    async with self._turn(place, latest_start - now, start - now):
                        # Another check of the share may have ended meanwhile, and begun a new pause.
                        if self._free_at(place) <= start:
                            async with self._parser.turn(gives_way=True):
                                return await self._timed(place, check, end)
                except Interrupted:
                    busy = BUSY if place.gave_way else "the policy changed during the check"
        finally:
            self._leave(place)

    def _enter(self, peer: Peer | None, namespace: str | None, *, installation: bool) -> _Place:
        """Return a new place. If there are too many, the place with the highest key is lost.

        Raises ``_Busy`` if that is the new place.
        """
        while self._spent and self._spent[0][0] <= self._monotonic():
            _, shares, share, spent = self._spent.popleft()
            shares.add(share, -spent)
        known = peer is not None and peer.reviews > 0
        installation = installation and known
        shares = self._shares[installation]
        share = shares.of(peer.key, namespace) if peer is not None and known else NOBODY
        place = _Place(self._shares, share, peer, installation=installation)
        self._places[place] = None
        shares.add(share, PLACE_MS)
        if len(self._places) > MAX_CHECKS:
            last = max(
                (each for each in reversed(self._places) if each is not self._running), key=_Place.rank
            )
            self._leave(last)
            if last is place:
                raise _Busy(BUSY)
            last.lost = True
            last.interrupt()
        return place

    def _leave(self, place: _Place) -> None:
        if place in self._places:
            del self._places[place]
            place.shares.add(place.share, -PLACE_MS)

    @asynccontextmanager
    async def _turn(self, place: _Place, patience: float, pause: float) -> AsyncIterator[None]:
        """Wait for the turn after a pause.

        Raises ``_Busy``, or ``Interrupted`` if a share that used less goes first.
        """
        place.gave_way, place.begun = False, None
        place.turn.clear()
        try:
            async with asyncio.timeout(patience) as place.scope:
                await self._sleep(pause)
                self._queue[place] = None
                running = self._running
                if running is None:
                    self._give_turn()
                else:
                    self._charge(running)
                    if place.rank() < running.rank():
                        running.interrupt()
                await place.turn.wait()
                yield
        except TimeoutError:
            if place.gave_way and not place.lost and place.scope.expired():
                raise Interrupted from None
            raise _Busy(BUSY) from None
        finally:
            self._queue.pop(place, None)
            if self._running is place:
                self._give_turn()

    def _give_turn(self) -> None:
        self._running = min(self._queue, key=_Place.rank, default=None)
        if self._running is not None:
            del self._queue[self._running]
            self._running.turn.set()

    async def _timed(self, place: _Place, check: Callable[[float], Awaitable[T]], end: float) -> T:
        if place.gave_way:  # it was interrupted in the turn of the event loop in which its turn came
            raise Interrupted
        place.scope.reschedule(None)
        place.begun = asyncio.get_running_loop().time()
        start = place.charged = self._monotonic()
        try:
            return await check(end - start)
        finally:
            now = self._charge(place)
            place.charged = None
            if not place.scope.expired():
                self._parts = {key: part for key, part in self._parts.items() if part.free_at > now}
                self._parts.setdefault(place.key, PartOfTime(place.pause_factor)).spent(start, now)

    def _free_at(self, place: _Place) -> float:
        part = self._parts.get(place.key)
        return -inf if part is None else part.free_at

    def _charge(self, place: _Place) -> float:
        """Charge a share for the time of its check until now. Return the present time."""
        now = self._monotonic()
        if place.charged is not None and (spent := round(1000 * (now - place.charged))):
            place.charged += spent / 1000
            place.shares.add(place.share, spent)
            self._spent.append((now + REMEMBERED_SECONDS, place.shares, place.share, spent))
        return now


class PolicyGuard:
    """Judges reviews of the ConfigMap ``name``, and of exceptions by the policy in ``live``.

    Without a name, every review is allowed.

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
        self._checks = Checks(parser, monotonic=monotonic, sleep=sleep)

    @property
    def checking(self) -> int:
        """Checks in progress or waiting for their turn."""
        return self._checks.checking

    def read(self, request: AdmissionRequest) -> ConfigMapPolicy | ExceptionsText | None:
        """Return what a request would write: the policy, exceptions, or ``None`` for another object."""
        name = self._name
        if name is None:
            return None
        policy = guard.guarded(request, name.namespace, name.name)
        return guard.written_exceptions(request, name.namespace) if policy is None else policy

    async def judge(
        self,
        request: AdmissionRequest,
        written: ConfigMapPolicy | ExceptionsText | None,
        seconds: float,
        peer: Peer | None = None,
    ) -> Outcome:
        """Answer a review from ``peer`` within ``seconds``. ``written`` is the result of ``read``.

        Raises ``Refusal`` if it cannot be checked in time.
        """
        if written is None:
            return self._counted("skipped", request, guard.untouched(request))
        seconds = min(seconds, LONGEST_CHECK_SECONDS)
        what = POLICY if isinstance(written, ConfigMapPolicy) else EXCEPTIONS
        if written.text is None:
            return self._counted("refused", request, guard.refused(request, written.findings, what))
        try:
            if isinstance(written, ExceptionsText):
                return await self._judge_exceptions(request, written, written.text, seconds, peer)
            return await self._judge_policy(request, written, written.text, seconds, peer)
        except _Busy as problem:
            if written.findings:
                return self._counted("refused", request, guard.refused(request, written.findings, what))
            self._count("busy", request)
            raise Refusal(503, str(problem), headers=TRY_AGAIN) from None
        except ParserError as problem:
            log = self._log.debug if request.dry_run else self._log.warning
            log("policy_check_failed", cause=problem.cause, problem=str(problem))
            message = f"the document could not be checked: {problem}"
            failed = Finding(severity="error", code="not-checked", path="", line=1, message=message)
            return self._counted("failed", request, guard.refused(request, (*written.findings, failed), what))

    async def _judge_policy(
        self,
        request: AdmissionRequest,
        policy: ConfigMapPolicy,
        text: str,
        seconds: float,
        peer: Peer | None,
    ) -> Outcome:
        check = partial(self._parse_and_judge, policy, text)
        report = await self._checks.run(check, seconds, peer, request.namespace, installation=True)
        errors = [*policy.findings, *(() if report.accepted else report.findings)]
        notes: tuple[str, ...] = ()
        if report.radius is not None:
            if not request.dry_run:
                self._observer.guard_rejected(report.radius.rejected)
            too_many = guard.excess(report.radius, self._most_rejected)
            if too_many is not None and not policy.accepts_rejections:
                errors.append(too_many)
            notes = guard.radius_notes(report.radius, insisted=policy.accepts_rejections)
        if errors:
            return self._counted("refused", request, guard.refused(request, in_order(errors)))
        return self._counted("accepted", request, guard.accepted(request, report.findings, notes))

    async def _parse_and_judge(self, policy: ConfigMapPolicy, text: str, seconds: float) -> Judged:
        end = self._monotonic() + seconds
        admitted = await self._admitted(policy, text, end)
        left = end - self._monotonic()
        return await self._parser.judge(text, policy.mode, self._now(), seconds=left, admitted=admitted)

    async def _judge_exceptions(
        self,
        request: AdmissionRequest,
        written: ExceptionsText,
        text: str,
        seconds: float,
        peer: Peer | None,
    ) -> Outcome:
        key = written.key
        parsed = await self._checks.run(
            lambda left: self._parser.parse_exceptions(text, key.source, seconds=left),
            seconds,
            peer,
            key.namespace,
            installation=not key.of_tenant,
        )
        snapshot = self._live.snapshot
        found = parsed.findings
        notes: tuple[str, ...] = ()
        if parsed.document is not None and snapshot is not None:
            compiled, now = snapshot, self._now()
            exceptions = Exceptions({key: parsed.document})
            found = exception_findings(compiled, exceptions, now)
            notes = guard.approvals(compiled.grants, exceptions, now)
        errors = [finding for finding in found if finding.severity == "error"]
        if written.findings or errors:
            all_errors = in_order((*written.findings, *errors))
            return self._counted("refused", request, guard.refused(request, all_errors, EXCEPTIONS))
        return self._counted("accepted", request, guard.accepted(request, found, notes))

    async def _admitted(
        self, policy: ConfigMapPolicy, text: str, end: float
    ) -> tuple[tuple[Admitted, ...], ...] | None:
        """Return the images to judge by the new policy, or ``None`` if it is the live one.

        Raises ``TimeoutError`` if this takes longer than until ``end``.
        """
        snapshot = self._live.snapshot
        if snapshot is None:
            return None
        live = snapshot.policy
        if text == live.text and (policy.mode or live.document.mode.name) == live.mode.name:
            return None
        steps = self.recent.admitted(snapshot, time.perf_counter())
        return await in_slices(steps, end=end, monotonic=self._monotonic)

    def _counted(self, result: CheckResult, request: AdmissionRequest, outcome: Outcome) -> Outcome:
        self._count(result, request)
        return outcome

    def _count(self, result: CheckResult, request: AdmissionRequest) -> None:
        if not request.dry_run:
            self._observer.policy_check(result)


class _Busy(Exception):
    """The check cannot begin in time; the message gives the reason."""
