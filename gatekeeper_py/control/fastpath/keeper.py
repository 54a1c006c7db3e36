"""Keeps the webhooks' match conditions in step with the watched policy.

Nothing stands there while the policy is not known for sure: before it was read, while the ConfigMap
holds none that can be used (replicas may serve an older good one, or a newer one that was never seen
here), when it was not seen for long, when the API server refuses the expression, and after an orderly
end.

A policy that takes something off the fast path is written at once, and then tried with an image that
was just taken off. Anything else waits until the policy has been quiet, and is written now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, Protocol

from gatekeeper_py.control.fastpath.knowledge import Known, know, unknown
from gatekeeper_py.control.fastpath.leaving import take_out
from gatekeeper_py.control.fastpath.placement import Cluster, Placement
from gatekeeper_py.control.fastpath.trial import Trial
from gatekeeper_py.control.webhooks import ASK_ALWAYS, Conditions, Desired
from gatekeeper_py.core.admission.guard import MODE_KEY, POLICY_KEY
from gatekeeper_py.core.compile.preapproved import Endpoint
from gatekeeper_py.delivery import Delivery
from gatekeeper_py.runtime.backoff import backed_off
from gatekeeper_py.runtime.logs import Log

QUIET_SECONDS: Final = 1.0
CALM_SECONDS: Final = 5.0
"""What widens the fast path is written once the policy has not changed for the one, and not sooner than
the other after the last write: each has every API server compile the expressions anew."""

UNSEEN_SECONDS: Final = 90.0
"""The API server tells each minute how far it is, and the watch starts over after 70 s of silence."""

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between two tries of a write; short, because something may be let in that should not be."""

FIRST_UNWRITABLE_SECONDS: Final = 5.0
LONGEST_UNWRITABLE_SECONDS: Final = 60.0
"""Before an expression that could not be written for another reason is tried again."""

FIRST_REFUSED_SECONDS: Final = 60.0
LONGEST_REFUSED_SECONDS: Final = 3600.0
"""Before an expression that was refused is tried again; an upgraded API server may take it."""

AHEAD_SECONDS: Final = 1.0
"""Before the ConfigMap is compared again with what was delivered."""

UNARMED_SECONDS: Final = 2.0
"""Between two looks for a configuration that is not there yet."""

CHECK_SECONDS: Final = 60.0
"""Between two looks at what stands and at the ConfigMap, while nobody says that they changed."""

IDLE_SECONDS: Final = 3600.0
"""When nothing is due."""

REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
"""By which the API server says that an object is not valid."""

CLIENT_ERRORS: Final = range(400, 500)

Change = Literal["tightened", "loosened"]


class Observer(Protocol):
    """Who is told, for metrics."""

    def fastpath_known(self, revision: str) -> None: ...

    def fastpath_step(self, *, in_step: bool, rules: dict[Endpoint, int]) -> None: ...

    def fastpath_synced(self, change: Change, seconds: float) -> None: ...

    def fastpath_write(self, result: Literal["written", "failed", "refused"]) -> None: ...

    def policy_synced(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A policy that is not to be written for a while."""

    known: Known
    until: float
    problem: str


class FastPathKeeper:
    """Follows the policy; one task, ``run``.

    ``policy_path`` is the ConfigMap's. ``errors`` are what the client raises, ``status`` tells the HTTP
    status of one, 0 when there was no answer.
    """

    def __init__(
        self,
        cluster: Cluster,
        desired: Iterable[Desired],
        policy_path: str,
        trial: Trial,
        *,
        observer: Observer,
        log: Log,
        errors: tuple[type[Exception], ...],
        status: Callable[[Exception], int],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.conditions: Conditions = ASK_ALWAYS
        """What the configurations are to carry, as of this moment."""
        self._cluster = cluster
        self._policy_path = policy_path
        self._placement = Placement(cluster, desired, errors=errors, on_written=self._written)
        self._trial = trial
        self._observer = observer
        self._log = log
        self._errors = errors
        self._status = status
        self._monotonic = monotonic
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._latest: Delivery | None = None
        self._known = unknown("the policy is not known yet")
        self._done: Known | None = None
        """What stands; ``None`` when that is not known."""
        self._placed = self._known
        """What stood last for certain."""
        self._look = False
        self._writing: asyncio.Task[bool] | None = None
        self._doubt: _Doubt | None = None
        self._failures = 0
        self._unwritable = 0
        """How often in a row an expression could not be written."""
        start = monotonic()
        self._seen_at = self._changed_at = self._checked_at = start
        self._written_at = start - CALM_SECONDS
        self._since: float | None = start
        """From when on the conditions have not been in step; ``None`` while they are."""
        self._change: Change = "loosened"
        self._told = ""
        observer.fastpath_step(in_step=False, rules=self._rules())

    async def run(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Follow a source until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            async for delivery in deliveries:
                self.deliver(delivery)

    def deliver(self, delivery: Delivery) -> None:
        """Take a change of the policy. What comes during a step replaces what came before it."""
        self._latest = delivery
        self._changed_at = self._monotonic()
        if self._since is None or self._known.policy is None:
            self._since = self._changed_at
        self._tell(self._known)
        self._wake.set()

    def seen(self) -> None:
        """The source is in step with the API server at this moment."""
        was_blind = self._blind()
        self._seen_at = self._monotonic()
        self._observer.policy_synced()
        if was_blind:
            self._since = self._seen_at
            self._wake.set()

    def look(self) -> None:
        """A configuration may not be as it should be."""
        self._look = True
        self._wake.set()

    async def leave(self) -> None:
        """At an orderly end: leave no condition behind that nobody keeps in step."""
        self.conditions = ASK_ALWAYS
        problem = await take_out(self._placement, self._writing, status=self._status, sleep=self._sleep)
        if problem:
            self._log.error("fastpath_left_behind", problem=problem)

    async def step(self) -> float:
        """Do what is due; answers the seconds until the next is, unless something changes."""
        await self._learn()
        wanted = self._wanted()
        if wanted is self._done and self._next_check() <= 0 and not await self._still(wanted):
            self._look = True
        if wanted is not self._done or self._look:
            pause = await self._bring(wanted)
        else:
            pause = await self._try(wanted)
        self._tell(wanted)
        if self._latest is not None:
            return 0.0
        return max(min(pause, self._next_check(), self._next_doubt(wanted)), 0.0)

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            pause = await self.step()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _learn(self) -> None:
        """Compile what arrived last."""
        latest, self._latest = self._latest, None
        if latest is None:
            return
        if latest.text is None:
            self._known = unknown(latest.problem)
        else:
            try:
                self._known = await asyncio.to_thread(know, latest.text, latest.mode)
            except Exception:  # noqa: BLE001 - a bug of ours must cost the fast path, not the webhook
                self._log.error("fastpath_not_compiled", exc_info=True)
                self._known = unknown("internal error")
        policy = self._known.policy
        self._observer.fastpath_known("" if policy is None else policy.revision)

    def _wanted(self) -> Known:
        if self._doubt is not None and self._monotonic() >= self._doubt.until:
            self._doubt = None
        known, doubt = self._known, self._doubt
        if known.policy is not None:
            if self._blind():
                known = unknown(f"the policy was not seen for more than {UNSEEN_SECONDS:.0f} s")
            elif doubt is not None and doubt.known is known:
                known = unknown(doubt.problem)
        done = self._done
        # For the same reason as before, nothing stands already.
        return done if done is not None and known.problem and done.problem == known.problem else known

    def _blind(self) -> bool:
        return self._monotonic() - self._seen_at > UNSEEN_SECONDS

    def _next_doubt(self, wanted: Known) -> float:
        """Seconds until what is known is too old, or what was doubted may be tried again."""
        now, seconds = self._monotonic(), IDLE_SECONDS
        if wanted.policy is not None:
            seconds = self._seen_at + UNSEEN_SECONDS + 0.001 - now
        if self._doubt is not None and self._doubt.known is self._known:
            seconds = min(seconds, self._doubt.until - now)
        return seconds

    def _next_check(self) -> float:
        """Seconds until it is to be looked whether all is as it was left."""
        if self._done is None or not self._done.conditions.expressions:
            return IDLE_SECONDS
        return self._checked_at + CHECK_SECONDS - self._monotonic()

    async def _still(self, wanted: Known) -> bool:
        """Whether all is as it was left: passes may fail, and a watch may be silent."""
        self._checked_at = self._monotonic()
        return (await self._placement.read()).carry(wanted.conditions) and await self._holds(wanted)

    async def _bring(self, wanted: Known) -> float:
        """Bring the configurations to what is wanted, when it is time.

        They are read before the policy is compared, and written on the version that was read: what
        another controller makes of a newer policy in between is a conflict, and never undone.
        """
        now = self._monotonic()
        if self._since is None:
            self._since = now
        self._look, self._done = False, None
        found = await self._placement.read()
        calm = self._written_at + CALM_SECONDS - now
        early = max(self._changed_at + QUIET_SECONDS - now, calm)
        there = found.carry(wanted.conditions)
        if early > 0 and not there and not wanted.fast_path.tightens(found.standing):
            return early
        if calm > 0 and not there and found.unknown and wanted.conditions.expressions:
            # Two controllers that make different expressions must not race each other.
            return self._hold(wanted, calm, "another writes match conditions")
        if not await self._holds(wanted):
            return self._behind(wanted)
        self.conditions = wanted.conditions
        try:
            # A request that was sent may be carried out whether its answer is waited for or not.
            self._writing = asyncio.create_task(self._placement.put(found, wanted))
            complete = await asyncio.shield(self._writing)
        except self._placement.errors as problem:
            return self._failed(wanted, problem)
        self._failures = 0
        if not complete:
            return UNARMED_SECONDS
        if not there and not await self._holds(wanted):
            return self._behind(wanted)
        return await self._stands(wanted)

    def _behind(self, wanted: Known) -> float:
        return self._hold(wanted, AHEAD_SECONDS, "the ConfigMap does not hold what was delivered")

    async def _stands(self, wanted: Known) -> float:
        """All configurations carry what is wanted."""
        previous, self._placed, self._done = self._placed.fast_path, wanted, wanted
        self._checked_at = self._monotonic()
        if wanted.conditions.expressions:
            self._doubt, self._unwritable = None, 0
        if wanted.policy is not None and wanted.fast_path.tightens(previous):
            self._change = "tightened"
        await self._trial.begin(previous, wanted)
        return await self._try(wanted)

    async def _holds(self, wanted: Known) -> bool:
        """Whether the ConfigMap holds what was delivered; not when it cannot be read.

        A watch may lag, and another controller may be ahead of this one. Where nothing is skipped that
        is no matter.
        """
        if not wanted.conditions.expressions:
            return True
        try:
            found = await self._cluster.get(self._policy_path)
        except self._errors:
            return False
        data = (found or {}).get("data") or {}
        return (data.get(POLICY_KEY), data.get(MODE_KEY)) == (wanted.text, wanted.mode)

    def _failed(self, wanted: Known, problem: Exception) -> float:
        """Take note of a failed write; answers the seconds until the next try.

        What stands may be too wide. So it is taken out when what is to replace it is not taken: what is
        against the one write need not be against the other.
        """
        status, text = self._status(problem), str(problem)[:500]
        replaceable = bool(wanted.conditions.expressions) and status != HTTPStatus.CONFLICT
        if replaceable and status in REFUSED:
            pause = backed_off(FIRST_REFUSED_SECONDS, self._unwritable, LONGEST_REFUSED_SECONDS)
            self._unwritable += 1
            self._observer.fastpath_write("refused")
            self._log.error("fastpath_expression_refused", problem=text, retry_seconds=pause)
            return self._hold(wanted, pause, "the API server refuses the expression")
        again = self._failures > 0
        pause = backed_off(FIRST_PAUSE_SECONDS, self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        self._observer.fastpath_write("failed")
        self._log.warning("fastpath_write_failed", problem=text, retry_seconds=pause)
        if replaceable and (again or status in CLIENT_ERRORS):
            pause = backed_off(FIRST_UNWRITABLE_SECONDS, self._unwritable, LONGEST_UNWRITABLE_SECONDS)
            self._unwritable += 1
            return self._hold(wanted, pause, "the expression cannot be written")
        return pause

    def _hold(self, known: Known, seconds: float, problem: str) -> float:
        """Leave a policy unwritten for a while, and everything asked about from now on."""
        self._doubt = _Doubt(known, self._monotonic() + seconds, problem)
        return 0.0

    async def _try(self, wanted: Known) -> float:
        """Go on with the trial, unless something arrives: that must not wait for a slow answer."""
        attempt = asyncio.create_task(self._trial.attempt())
        woken = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({attempt, woken}, return_when=asyncio.FIRST_COMPLETED)
            pause = attempt.result() if attempt.done() else 0.0
        finally:
            attempt.cancel()
            woken.cancel()
            await asyncio.gather(attempt, woken, return_exceptions=True)
        if pause is not None:
            return pause
        self._in_step(wanted)
        return IDLE_SECONDS

    def _written(self) -> None:
        self._written_at = self._monotonic()
        self._observer.fastpath_write("written")

    def _in_step(self, wanted: Known) -> None:
        if wanted.policy is None or self._since is None:
            return
        seconds, self._since = self._monotonic() - self._since, None
        change, self._change = self._change, "loosened"
        self._observer.fastpath_synced(change, seconds)
        self._log.info(
            "fastpath_in_step",
            revision=wanted.policy.revision,
            change=change,
            # Without an image that tells, it was read back and no more.
            asked_about=[each.image for each in self._trial.shown],
            seconds=round(seconds, 3),
            rules=self._rules(),
        )

    def _tell(self, wanted: Known) -> None:
        in_step = wanted.policy is not None and self._done is wanted and self._since is None
        self._observer.fastpath_step(in_step=in_step, rules=self._rules())
        if self._done is wanted and wanted.problem != self._told:
            self._told = wanted.problem
            if wanted.problem:
                self._log.warning("fastpath_nothing_skipped", reason=wanted.problem)

    def _rules(self) -> dict[Endpoint, int]:
        return dict(self._placed.rules)
