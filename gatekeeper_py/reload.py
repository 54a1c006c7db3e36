"""Text -> policy -> LivePolicy, the last good one kept.

A bad document, a missing one or one that is unreadable leaves the live policy serving and says
so: in a log line with every problem, in a metric, and in what ``/policy`` shows.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from gatekeeper_py.core.policy.dismantle import dismantle
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy, parse_policy
from gatekeeper_py.delivery import Delivery
from gatekeeper_py.live import CacheCounts, LivePolicy, Snapshot
from gatekeeper_py.runtime.logs import Log

Result = Literal["loaded", "refused", "unchanged"]

AFTER_BUG_SECONDS: Final = 1.0
"""Before a rule that has lapsed is tried again: it would otherwise fail without a pause."""


class Observer(Protocol):
    """Who is told of reloads, for metrics."""

    def policy_reloaded(self, result: Result) -> None: ...

    def policy_present(self, *, present: bool) -> None: ...

    def policy_live(self, snapshot: Snapshot, source: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The last delivery that was not accepted."""

    at: datetime
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The last delivery that was accepted, with its lint."""

    at: datetime
    policy: Policy
    findings: tuple[Finding, ...]
    resource_version: str | None


class Reloader:
    """Keeps ``live`` in step with a source.

    ``source`` names it in metrics (``file`` or ``configmap``), ``place`` says where it is.
    """

    def __init__(
        self,
        live: LivePolicy,
        *,
        source: str,
        place: str,
        cache_size: int,
        counts: CacheCounts,
        observer: Observer,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.source = source
        self.place = place
        self.loaded: Loaded | None = None
        self.refused: Refusal | None = None
        self._live = live
        self._cache_size = cache_size
        self._counts = counts
        self._observer = observer
        self._log = log
        self._now = now
        self._latest: Delivery | None = None
        self._delivered = asyncio.Event()

    async def run(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Follow a source until cancelled. What arrives while a policy compiles replaces itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compile_forever())
            async for delivery in deliveries:
                self._latest = delivery
                self._delivered.set()

    async def apply(self, delivery: Delivery) -> Result:
        """Take one delivery: install its policy, or keep the last good one and say why."""
        self._observer.policy_present(present=delivery.text is not None)
        if delivery.text is None:
            missing = Finding(severity="error", code="no-policy", path="", line=1, message=delivery.problem)
            return self._refuse((missing,))
        loaded = self.loaded
        if loaded is not None and _same(loaded.policy, delivery):
            return self._keep(loaded, delivery.resource_version)
        try:
            with _collector_off():
                compiled, findings = await asyncio.to_thread(
                    _compile, delivery.text, delivery.mode, self._now()
                )
        except PolicyError as problem:
            return self._refuse(problem.findings)
        except Exception:  # noqa: BLE001 - a bug of ours must cost this delivery, not the server
            self._log.error("policy_not_compiled", source=self.place, exc_info=True)
            bug = Finding(severity="error", code="internal-error", path="", line=1, message="internal error")
            return self._refuse((bug,))
        replaced = [self._live.snapshot, self.loaded]
        before = 0 if loaded is None else len(loaded.policy.allow) + len(loaded.policy.deny)
        self._install(compiled)
        self.refused = None
        self.loaded = loaded = Loaded(
            at=self._now(),
            policy=compiled.policy,
            findings=findings,
            resource_version=delivery.resource_version,
        )
        self._log.info(
            "policy_loaded",
            source=self.place,
            revision=compiled.revision,
            mode=compiled.policy.mode,
            allow=len(compiled.allow),
            deny=len(compiled.deny),
            mirrors=len(compiled.mirrors),
            findings=[f"{finding.code}: {finding}" for finding in findings[:20]],
            more_findings=max(len(findings) - 20, 0),
        )
        self._observer.policy_reloaded("loaded")
        await asyncio.to_thread(dismantle, replaced, rules=before)
        return "loaded"

    async def _compile_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next_change()):
                    await self._delivered.wait()
            self._delivered.clear()
            latest, self._latest = self._latest, None
            try:
                if latest is not None:
                    await self.apply(latest)
                await self._lapse()
            except Exception:  # noqa: BLE001 - a bug of ours must not end the server: what is live stays
                self._log.error("policy_not_compiled", source=self.place, exc_info=True)
                await asyncio.sleep(AFTER_BUG_SECONDS)

    def _seconds_to_next_change(self) -> float | None:
        snapshot = self._live.snapshot
        if snapshot is None or snapshot.compiled.next_change is None:
            return None
        wait = (snapshot.compiled.next_change - self._now()).total_seconds()
        # Sleep at most a day at a time: a calendar that is set back or forth is noticed then.
        return min(max(wait, 0.0), 86_400.0)

    async def _lapse(self) -> None:
        """Compile the live policy again when a rule or an override has lapsed."""
        snapshot = self._live.snapshot
        if snapshot is None or snapshot.compiled.next_change is None:
            return
        now = self._now()
        if snapshot.compiled.next_change > now:
            return
        with _collector_off():
            compiled = await asyncio.to_thread(snapshot.compiled.policy.at, now)
        self._install(compiled)
        self._log.info(
            "policy_rule_lapsed",
            revision=compiled.revision,
            allow=len(compiled.allow),
            deny=len(compiled.deny),
        )
        before = len(snapshot.compiled.allow) + len(snapshot.compiled.deny)
        replaced = [snapshot]
        del snapshot
        await asyncio.to_thread(dismantle, replaced, rules=before)

    def _install(self, compiled: CompiledPolicy) -> None:
        snapshot = Snapshot(compiled, self._cache_size, self._counts)
        self._live.install(snapshot)
        self._observer.policy_live(snapshot, self.source)

    def _keep(self, loaded: Loaded, resource_version: str | None) -> Result:
        self.refused = None
        self.loaded = Loaded(
            at=loaded.at,
            policy=loaded.policy,
            findings=loaded.findings,
            resource_version=resource_version,
        )
        self._observer.policy_reloaded("unchanged")
        return "unchanged"

    def _refuse(self, findings: tuple[Finding, ...]) -> Result:
        self.refused = Refusal(at=self._now(), findings=findings)
        serving = self._live.snapshot
        self._log.error(
            "policy_refused",
            source=self.place,
            findings=[f"{finding.code}: {finding}" for finding in findings],
            serving=None if serving is None else serving.revision,
        )
        self._observer.policy_reloaded("refused")
        return "refused"


@contextmanager
def _collector_off() -> Iterator[None]:
    """While a policy is compiled: all it makes is kept, and no collection looks at it later.

    Every collection would be for nothing, and one of a million objects stops the loop for a second.
    Later ones would walk what lives as long as the policy: at 33 KB a review, that was a pause of
    10 ms now and then.
    """
    # What is garbage already would be frozen with the rest, and stay for ever: connections that end badly
    # leave cycles, and reloads make the collector's own turns seldom. What was frozen before is not walked.
    gc.collect()
    gc.disable()
    try:
        yield
        # Before the collector is on again: it would begin with all that was made meanwhile.
        gc.freeze()
    finally:
        gc.enable()


def _compile(text: str, mode: str | None, now: datetime) -> tuple[CompiledPolicy, tuple[Finding, ...]]:
    policy = parse_policy(text, mode)
    return policy.at(now), policy.lint(now)


def _same(policy: Policy, delivery: Delivery) -> bool:
    mode = policy.document.mode if delivery.mode is None else delivery.mode
    return policy.text == delivery.text and policy.mode == mode
