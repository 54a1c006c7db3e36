"""Keep the webhooks' match conditions in step with the watched policy.

The configurations carry no condition in these cases:

- the policy was not read yet;
- the ConfigMap holds no usable policy, so replicas may serve an older or a newer one than the controller saw;
- the ConfigMap does not hold the policy that the watch delivered;
- the watch has been silent for too long;
- the API server refuses the expression, or the expression cannot be written;
- another controller writes other conditions;
- the controller was shut down in an orderly way.

If a policy removes images from the fast path, the controller writes its conditions at once, and then verifies
them with a probe Pod. Any other change is written once the policy has not changed for a moment, and only
every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.fastpath.conditions import (
    WRITE_ERRORS,
    ConditionStore,
    LiveConditions,
    NotStored,
    WriteRetries,
)
from gatekeeper_py.controller.fastpath.policy_view import PolicyView, renewed, unknown, view
from gatekeeper_py.controller.fastpath.probe import RemovalProbe
from gatekeeper_py.controller.metrics import FastPathMetrics, PolicyChange
from gatekeeper_py.controller.policy import KnownPolicy
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions, Desired
from gatekeeper_py.core.compile.fastpath import WebhookKind
from gatekeeper_py.core.policy.configmap import read_configmap
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.waiting import unless, wait_for

QUIET_SECONDS: Final = 1.0
WRITE_INTERVAL_SECONDS: Final = 5.0
"""A change that only adds to the fast path is written once the policy has been unchanged for
``QUIET_SECONDS``, and at the earliest ``WRITE_INTERVAL_SECONDS`` after the last write, because every API
server compiles each write again."""

UNSEEN_SECONDS: Final = 90.0
"""How long the policy counts as known after the watch was last in step with the API server. The API server
sends a bookmark each minute, and the watch is restarted after 70 s of silence."""

CONFIGMAP_RETRY_SECONDS: Final = 1.0
"""Delay before the ConfigMap is compared again with the delivered policy."""

UNARMED_SECONDS: Final = 2.0
"""Interval between checks for a configuration that does not exist yet."""

CHECK_SECONDS: Final = 60.0
"""Interval between checks of the configurations and the ConfigMap, while no watch reports a change."""

IDLE_SECONDS: Final = 3600.0
"""Pause when nothing is due."""


@dataclass(frozen=True, slots=True)
class _OnHold:
    """A policy whose conditions are not written until an instant of the monotonic clock."""

    view: PolicyView
    until: float
    problem: str


class FastPathController:
    """Keeps the conditions in step with the delivered policies. ``run`` is the only task that does so.

    ``policy_path`` is the ConfigMap's path. ``expected`` returns whether a configuration should exist
    at that moment.
    """

    def __init__(
        self,
        api: KubernetesApi,
        desired: Iterable[Desired],
        policy_path: str,
        probe: RemovalProbe,
        *,
        expected: Callable[[Desired], bool] = lambda _desired: True,
        metrics: FastPathMetrics,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.conditions: Conditions = NO_CONDITIONS
        """The conditions that the configurations should carry at this moment."""
        self._api = api
        self._policy_path = policy_path
        self._store = ConditionStore(api, desired, expected=expected, on_written=self._written)
        self._probe = probe
        self._metrics = metrics
        self._log = log
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._latest: KnownPolicy | None = None
        self._expected_policy = False
        """Whether a delivery arrived whose policy is not parsed yet."""
        self._view = unknown("the policy is not known yet")
        self._done: PolicyView | None = None
        """The view whose conditions all configurations carry; ``None`` when that is not known."""
        self._carried = self._view
        """The view whose conditions all configurations carried when this was last known for certain."""
        self._check_now = False
        self._writing: asyncio.Task[bool] | None = None
        self._on_hold: _OnHold | None = None
        self._retries = WriteRetries()
        start = monotonic()
        self._seen_at = self._changed_at = self._checked_at = start
        self._written_at = start - WRITE_INTERVAL_SECONDS
        self._out_of_step_since: float | None = start
        self._change: PolicyChange = "loosened"
        self._reported = ""
        metrics.fastpath_step(in_step=False, rules=self._rules())

    def expect(self) -> None:
        """Record that a policy arrived. The fast path counts as out of step until ``deliver`` is called."""
        self._expected_policy = True
        self._changed_at = self._monotonic()
        if self._out_of_step_since is None or self._view.policy is None:
            self._out_of_step_since = self._changed_at
        self._report(self._view)

    def deliver(self, known: KnownPolicy) -> None:
        """Accept the policy of a delivery. It replaces an earlier one that no step has processed yet."""
        self._expected_policy = False
        self._latest = known
        self._wake.set()

    def seen(self) -> None:
        """Note that the source is in step with the API server at this moment."""
        was_blind = self._blind()
        self._seen_at = self._monotonic()
        self._metrics.policy_synced()
        if was_blind:
            self._out_of_step_since = self._seen_at
            self._wake.set()

    def check(self) -> None:
        """Read the configurations soon, because one may have drifted."""
        self._check_now = True
        self._wake.set()

    async def shut_down(self) -> None:
        """Remove every condition, because nothing keeps them in step afterwards."""
        self.conditions = NO_CONDITIONS
        problem = await self._store.remove_all(self._writing, self._sleep)
        if problem:
            self._log.error("fastpath_cleanup_failed", problem=problem)

    async def step(self) -> float:
        """Do the work that is due. Return the seconds until the next step, if nothing changes before."""
        await self._compile()
        desired_view = self._desired_view()
        if desired_view is self._done and self._next_check() <= 0 and not await self._unchanged(desired_view):
            self._check_now = True
        if desired_view is not self._done or self._check_now:
            pause = await self._apply(desired_view)
        else:
            pause = await self._verify(desired_view)
        self._report(desired_view)
        if self._latest is not None:
            return 0.0
        return max(min(pause, self._next_check(), self._next_deadline(desired_view)), 0.0)

    async def run(self) -> None:
        """Take steps until cancelled."""
        while True:
            self._wake.clear()
            pause = await self.step()
            await wait_for(self._wake, pause)

    async def _compile(self) -> None:
        """Compile the last policy, or the same one again when a rule expires."""
        latest, self._latest = self._latest, None
        now = self._now()
        again = self._view.compile_again
        if latest is None and (again is None or now < again):
            return
        if latest is not None and latest.policy is None:
            self._view = unknown(latest.problem)
        else:
            try:
                if latest is None or latest.policy is None:
                    self._view = await asyncio.to_thread(renewed, self._view, now)
                else:
                    text, mode = latest.delivery.text, latest.delivery.mode
                    self._view = await asyncio.to_thread(view, latest.policy, text, mode, now)
            except Exception:  # noqa: BLE001 - a bug of ours must cost the fast path, not the webhook
                self._log.error("fastpath_not_compiled", exc_info=True)
                self._view = unknown("internal error")
        known = self._view.policy
        self._metrics.fastpath_known("" if known is None else known.revision)

    def _desired_view(self) -> PolicyView:
        if self._on_hold is not None and self._monotonic() >= self._on_hold.until:
            self._on_hold = None
        desired_view, on_hold = self._view, self._on_hold
        if desired_view.policy is not None:
            if self._blind():
                desired_view = unknown(f"the policy was not seen for more than {UNSEEN_SECONDS:.0f} s")
            elif on_hold is not None and on_hold.view is desired_view:
                desired_view = unknown(on_hold.problem)
        done = self._done
        # If the conditions are already removed for the same reason, there is nothing to write.
        return (
            done
            if done is not None and desired_view.problem and done.problem == desired_view.problem
            else desired_view
        )

    def _blind(self) -> bool:
        return self._monotonic() - self._seen_at > UNSEEN_SECONDS

    def _next_deadline(self, desired_view: PolicyView) -> float:
        """Return the seconds until the policy counts as unseen, a rule expires, or a hold ends."""
        now, seconds = self._monotonic(), IDLE_SECONDS
        if self._view.compile_again is not None:
            seconds = min(seconds, (self._view.compile_again - self._now()).total_seconds())
        if desired_view.policy is not None:
            seconds = min(seconds, self._seen_at + UNSEEN_SECONDS + 0.001 - now)
        if self._on_hold is not None and self._on_hold.view is self._view:
            seconds = min(seconds, self._on_hold.until - now)
        return seconds

    def _next_check(self) -> float:
        """Return the seconds until the configurations are checked again."""
        if self._done is None or not self._done.conditions.expressions:
            return IDLE_SECONDS
        return self._checked_at + CHECK_SECONDS - self._monotonic()

    async def _unchanged(self, desired_view: PolicyView) -> bool:
        """Return whether the configurations and the ConfigMap are unchanged.

        This check finds changes that passes and watches missed.
        """
        self._checked_at = self._monotonic()
        return (await self._store.read()).carry(desired_view.conditions) and await self._is_current(
            desired_view
        )

    async def _apply(self, desired_view: PolicyView) -> float:
        """Write the desired conditions if a write is due; return the seconds until the next step.

        The configurations are read before the ConfigMap is compared, and written with the resource version
        that was read. So if another controller writes the conditions of a newer policy meanwhile, this write
        conflicts and does not undo them.
        """
        if self._out_of_step_since is None:
            self._out_of_step_since = self._monotonic()
        self._check_now, self._done = False, None
        found = await self._store.read()
        in_place = found.carry(desired_view.conditions)
        postponed = None if in_place else self._postponed(desired_view, found)
        if postponed is not None:
            return postponed
        if not await self._is_current(desired_view):
            return self._not_current(desired_view)
        self.conditions = desired_view.conditions
        try:
            # Shielded, because a request that was sent may take effect even if nobody waits for its answer.
            self._writing = asyncio.create_task(self._store.write(found, desired_view))
            complete = await asyncio.shield(self._writing)
        except WRITE_ERRORS as problem:
            return self._failed(desired_view, problem)
        self._retries.written()
        if not complete:
            return UNARMED_SECONDS
        if not in_place and not await self._is_current(desired_view):
            return self._not_current(desired_view)
        return await self._applied(desired_view)

    def _postponed(self, desired_view: PolicyView, found: LiveConditions) -> float | None:
        """Return the seconds until the next step if the write must wait; ``None`` if it is due now."""
        now = self._monotonic()
        interval = self._written_at + WRITE_INTERVAL_SECONDS - now
        early = max(self._changed_at + QUIET_SECONDS - now, interval)
        if early > 0 and not desired_view.fast_path.tightens(found.skipped):
            return early
        if interval > 0 and found.foreign and desired_view.conditions.expressions:
            # Two controllers that compile different expressions must not overwrite each other in turns.
            return self._hold(desired_view, interval, "another controller writes match conditions")
        return None

    def _not_current(self, desired_view: PolicyView) -> float:
        problem = "the ConfigMap does not hold what was delivered"
        return self._hold(desired_view, CONFIGMAP_RETRY_SECONDS, problem)

    async def _applied(self, desired_view: PolicyView) -> float:
        """Note that all configurations carry the conditions, and verify the images that were removed."""
        previous, self._carried, self._done = self._carried.fast_path, desired_view, desired_view
        self._checked_at = self._monotonic()
        if desired_view.conditions.expressions:
            self._on_hold = None
            self._retries.accepted()
        if desired_view.policy is not None and desired_view.fast_path.tightens(previous):
            self._change = "tightened"
        await self._probe.begin(previous, desired_view)
        return await self._verify(desired_view)

    async def _is_current(self, desired_view: PolicyView) -> bool:
        """Return whether the ConfigMap holds the delivered policy; ``False`` when it cannot be read.

        A watch may lag, and another controller may be ahead. Without expressions the ConfigMap is not read,
        because having no condition is correct for every policy.
        """
        if not desired_view.conditions.expressions:
            return True
        try:
            found = await self._api.get(self._policy_path)
        except ApiError:
            return False
        current = read_configmap((found or {}).get("data"), (found or {}).get("binaryData"))
        return not current.findings and (current.text, current.mode) == (desired_view.text, desired_view.mode)

    def _failed(self, desired_view: PolicyView, problem: ApiError | NotStored) -> float:
        """Log and count a failed write; return the seconds until the next step."""
        text = str(problem)[:500]
        has_expressions = bool(desired_view.conditions.expressions)
        retry = self._retries.failed(problem.status, has_expressions=has_expressions)
        self._metrics.fastpath_write(retry.result)
        if retry.result == "refused":
            self._log.error("fastpath_expression_refused", problem=text, retry_seconds=retry.seconds)
        else:
            self._log.warning("fastpath_write_failed", problem=text, retry_seconds=retry.seconds)
        return self._hold(desired_view, retry.seconds, retry.problem) if retry.problem else retry.seconds

    def _hold(self, held: PolicyView, seconds: float, problem: str) -> float:
        """Put a policy's conditions on hold for some seconds; return 0, so the next step follows at once.

        The next step removes all conditions. Meanwhile API servers call the webhook for every Pod.
        """
        self._on_hold = _OnHold(held, self._monotonic() + seconds, problem)
        return 0.0

    async def _verify(self, desired_view: PolicyView) -> float:
        """Run the pending probes until new work arrives, which must not wait for a slow answer."""
        pause = await unless(self._wake, self._probe.attempt(), 0.0)
        if pause is not None:
            return pause
        self._in_step(desired_view)
        return IDLE_SECONDS

    def _written(self) -> None:
        self._written_at = self._monotonic()
        self._metrics.fastpath_write("written")

    def _in_step(self, desired_view: PolicyView) -> None:
        if desired_view.policy is None or self._out_of_step_since is None or self._expected_policy:
            return
        seconds, self._out_of_step_since = self._monotonic() - self._out_of_step_since, None
        change, self._change = self._change, "loosened"
        self._metrics.fastpath_synced(change, seconds)
        self._log.info(
            "fastpath_in_step",
            revision=desired_view.policy.revision,
            change=change,
            # Without a suitable image, the conditions were only read back.
            verified_with=[each.image for each in self._probe.verified],
            seconds=round(seconds, 3),
            rules=self._rules(),
        )

    def _report(self, desired_view: PolicyView) -> None:
        in_step = (
            desired_view.policy is not None and self._done is desired_view and self._out_of_step_since is None
        )
        self._metrics.fastpath_step(in_step=in_step, rules=self._rules())
        if self._done is desired_view and desired_view.problem != self._reported:
            self._reported = desired_view.problem
            if desired_view.problem:
                self._log.warning("fastpath_disabled", reason=desired_view.problem)

    def _rules(self) -> dict[WebhookKind, int]:
        return dict(self._carried.rules)
