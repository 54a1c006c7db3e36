"""Make the deliveries of a source live. The last good policy stays live until another one is accepted.

A document is parsed in a child process (``gatekeeper_py.live.parser``) and compiled here, in slices between
reviews. If a document is missing, bad or too costly to parse, the live policy stays. A log line lists the
problems, a metric counts the refusal, and ``/policy`` shows it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.document import MODES, Mode
from gatekeeper_py.core.policy.finding import MODE_CODES, Finding, in_order
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy
from gatekeeper_py.live.feed import Feed
from gatekeeper_py.live.parser.process import Fetch, Interrupted, Judged, Parser, ParserError
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.memory import collector_paused, dismantling, give_back
from gatekeeper_py.process.slices import in_slices
from gatekeeper_py.process.waiting import PartOfTime, wait_until

Result = Literal["loaded", "refused", "unchanged"]

AFTER_BUG_SECONDS: Final = 1.0
"""Pause after an exception while a delivery was applied or expired rules were removed. Without it, removing
the same rules would fail in an endless loop."""

LEAD_SECONDS: Final = 60.0
"""How long before the expiry of a rule its successor policy is compiled. Compiling the largest policy takes
seconds, and longer on a busy machine. Until the expiry, both policies are in memory."""

MARGIN: Final = timedelta(seconds=1)
"""The successor of a new policy is compiled before the policy becomes live, if the policy's next expiry is
closer than this plus twice the time that compiling takes."""

MAX_CATCH_UP: Final = 3
"""How often a policy is compiled again before it becomes live, if rules expire meanwhile."""

LINT_PAUSE_FACTOR: Final = 20.0
LEAST_LINT_PAUSE_SECONDS: Final = 10.0
"""Lint of the live policy takes at most a twentieth of the time, even if a rule expires every second. The
pause after it has this minimum."""

NOT_LINTED_SECONDS: Final = 300.0
"""Pause before lint is tried again after a failure that may be temporary."""

MAX_LOGGED_CHARACTERS: Final = 10_000
"""Maximum length of the findings in one log line. A log line has at most 16 KiB; ``/policy`` shows more."""

FEW_ENTRIES: Final = 2000
"""A policy with at most this many rules and cached decisions is freed at once, which takes 1 ms. Freeing it
in steps takes twenty times as long. The rules of such a policy expire without waiting for another
compilation."""

LARGE_TEXT: Final = 256 * 1024
"""Texts with more characters than this are hashed in a thread. Hashing 1 MiB takes 2 ms."""


class Observer(Protocol):
    """Receives the results of reloads, for metrics."""

    def policy_reloaded(self, result: Result) -> None: ...

    def policy_present(self, *, present: bool) -> None: ...

    def policy_live(self, snapshot: CompiledPolicy, source: str) -> None: ...

    def policy_linted(self, findings: tuple[Finding, ...]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedDelivery:
    """The last delivery, if it was not accepted. ``final`` is false if it is going to be parsed again."""

    at: datetime
    findings: tuple[Finding, ...]
    delivery: Delivery
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The last delivery that was accepted, with what lint found.

    At ``lint_due`` the policy is linted again, because the clock or another mode changes what lint finds.
    """

    at: datetime
    policy: Policy
    findings: tuple[Finding, ...]
    resource_version: str | None
    lint_due: datetime | None = None


class Reloader:
    """Keeps ``live`` in step with a source.

    ``source`` is its kind in metrics (``file`` or ``configmap``), ``source_name`` its path or its name.
    The functions in ``on_live`` receive every policy that becomes live.
    """

    def __init__(
        self,
        live: LivePolicy,
        parser: Parser,
        *,
        source: str,
        source_name: str,
        cache_size: int,
        counts: CacheCounts,
        observer: Observer,
        log: Log,
        on_live: Iterable[Callable[[CompiledPolicy], None]] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.source_name = source_name
        self.loaded: Loaded | None = None
        self.refused: RefusedDelivery | None = None
        self._live = live
        self._parser = parser
        self._cache_size = cache_size
        self._counts = counts
        self._observer = observer
        self._log = log
        self._on_live = tuple(on_live)
        self._now = now
        self._monotonic = monotonic
        self._feed = Feed(self._take)
        self._lint_time = PartOfTime(LINT_PAUSE_FACTOR)
        self._noted = asyncio.Event()
        """Findings were noted, so lint may be due at another time."""
        self._successor: CompiledPolicy | None = None
        """What replaces the live snapshot at its next expiry, once it is compiled."""
        self._installed = asyncio.Event()
        self._compiling = asyncio.Lock()
        """Held while a new policy or a large one is compiled: two at once would take more memory."""

    async def run(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Follow a source until cancelled. A delivery replaces earlier ones that still wait."""
        async with asyncio.TaskGroup() as group:
            # Separate tasks, because a rule must expire even while another policy is loaded or linted.
            for step in (self._feed.run, self._expire_next, self._lint_when_due):
                group.create_task(self._forever(step))
            await self._feed.follow(deliveries)

    async def _take(self, delivery: Delivery) -> bool:
        """Apply a delivery. Return false if a retry may succeed.

        This is so if the parser process did not start, was killed from outside, or was too slow.
        """
        await self.apply(delivery)
        return self.refused is None or self.refused.final

    async def apply(self, delivery: Delivery) -> Result:
        """Make the policy of a delivery live, or keep the last good one and report why."""
        self._observer.policy_present(present=delivery.text is not None)
        if delivery.text is None:
            return self._refuse(delivery, delivery.findings or (_error("no-policy", delivery.problem),))
        if self.refused is not None and self.refused.final and self.refused.delivery.same_state(delivery):
            return self._refuse(delivery, self.refused.findings)
        if not delivery.problem and self.loaded is not None and self.loaded.policy.text == delivery.text:
            mode = self.loaded.policy.document.mode if delivery.mode is None else MODES.get(delivery.mode)
            if mode is self.loaded.policy.mode:
                return self._keep(self.loaded, delivery.resource_version)
            if mode is not None:
                return await self._change_mode(mode, delivery.resource_version)
        try:
            return await self._parse(delivery, delivery.text)
        except ParserError as problem:
            return self._refuse(delivery, _parser_findings(delivery, problem), final=problem.permanent)
        except Exception:  # noqa: BLE001 - a bug of ours must cost this delivery, not the server
            self._log.error("policy_not_compiled", source=self.source_name, exc_info=True)
            return self._refuse(delivery, (_error("internal-error", "internal error"),))

    async def _parse(self, delivery: Delivery, text: str) -> Result:
        """Parse and lint a document, and make its policy live if it is accepted. Raises ``ParserError``."""
        loaded: Loaded | None = None
        compiled: CompiledPolicy | None = None
        replaced: list[Any] = []

        async def load(fetch: Fetch) -> None:
            nonlocal loaded, compiled
            async with self._compiling:
                with collector_paused():
                    document = await fetch()
                    mode = MODES[delivery.mode] if delivery.mode else document.mode
                    policy = Policy(document=document, text=text, mode=mode)
                    await _hash(policy)
                    compiled, successor = await self._compile(policy)
            replaced.extend((self._live.snapshot, self.loaded))
            loaded = self._make_live(compiled, (), delivery.resource_version, successor)

        # If the source reported a problem, the policy does not become live. Only its findings are needed.
        on_accepted = None if delivery.problem else load
        begun = self._monotonic()
        try:
            async with self._parser.turn():
                report = await self._parser.judge(text, delivery.mode, self._now(), on_accepted=on_accepted)
        except ParserError as problem:
            if loaded is None:
                raise
            # The policy is live already.
            report = self._not_linted(problem)
        if delivery.problem:
            errors = report.findings if not report.accepted else ()
            return self._refuse(delivery, in_order((*delivery.findings, *errors)))
        if loaded is None or compiled is None:
            return self._refuse(delivery, report.findings)
        self._note_findings(loaded, report, begun)
        self._log_loaded(compiled, report.findings)
        await self._free(replaced)
        return "loaded"

    async def _change_mode(self, mode: Mode, resource_version: str | None) -> Result:
        """Install the live rules with another mode, without parsing or compiling anything."""
        loaded = self.loaded
        if loaded is None:
            raise RuntimeError("there is no policy to change the mode of")
        policy = replace(loaded.policy, mode=mode)
        await _hash(policy)
        # After the `await`, because a rule may expire meanwhile.
        snapshot, successor = self._live.snapshot, self._successor
        if snapshot is None:
            raise RuntimeError("there is no policy to change the mode of")
        # Drop the findings about the mode until the document is linted again, which takes too long here. The
        # policy guard reports them to the user who sets the key ``mode``.
        findings = tuple(finding for finding in loaded.findings if finding.code not in MODE_CODES)
        compiled = replace(snapshot, policy=policy)
        if successor is not None:
            successor = self._snapshot(replace(successor, policy=policy))
        replaced = [snapshot, loaded]
        del snapshot, loaded
        now_loaded = self._make_live(compiled, findings, resource_version, successor)
        self._note_findings(now_loaded, Judged(accepted=True, findings=findings, until=self._now()))
        self._log_loaded(compiled, findings)
        await self._free(replaced)
        return "loaded"

    async def _lint_when_due(self) -> None:
        """Wait until lint is due, and lint the live policy. Return early when new findings are noted."""
        self._noted.clear()
        due = None if self.loaded is None else self.loaded.lint_due
        if not await wait_until(due, self._now, self._noted):
            try:
                await self._lint_again()
            except Interrupted:
                await asyncio.sleep(LEAST_LINT_PAUSE_SECONDS)

    async def _lint_again(self) -> None:
        """Lint the live policy again if that is due. Raises ``Interrupted``."""
        begun = self._monotonic()
        if self._to_lint() is None:
            return
        async with self._parser.turn(gives_way=True):
            policy = self._to_lint()  # another one may have been loaded meanwhile
            if policy is None:
                return
            try:
                report = await self._parser.judge(policy.text, policy.mode.name, self._now())
            except ParserError as problem:
                report = self._not_linted(problem)
        loaded = self.loaded
        if loaded is None or loaded.policy is not policy:
            return  # the mode changed, so the next lint is due
        self._note_findings(loaded, report, begun)
        if report.findings != loaded.findings:
            self._log.info("policy_linted", source=self.source_name, **_logged(report.findings))

    def _to_lint(self) -> Policy | None:
        """Return the live policy if it is to be linted again."""
        loaded = self.loaded
        if loaded is None or loaded.lint_due is None or self._now() < loaded.lint_due:
            return None
        return loaded.policy

    def _note_findings(self, loaded: Loaded, report: Judged, begun: float | None = None) -> None:
        """Store what lint found, and when to lint again.

        ``begun`` is when lint began, in seconds of the monotonic clock; ``None`` if lint did not run.
        """
        due, now = report.until, self._monotonic()
        if begun is not None:
            self._lint_time.spent(begun, now)
        if due is not None:
            pause = max(self._lint_time.free_at - now, LEAST_LINT_PAUSE_SECONDS)
            due = max(due, self._now() + timedelta(seconds=pause))
        self.loaded = replace(loaded, findings=report.findings, lint_due=due)
        self._noted.set()
        self._observer.policy_linted(report.findings)

    def _not_linted(self, problem: ParserError) -> Judged:
        """Return the finding that a live policy could not be linted. Unless it is too costly, try again."""
        self._log.warning("policy_not_linted", source=self.source_name, problem=str(problem))
        findings = (_warning("not-linted", f"the policy is live but was not checked: {problem}"),)
        again = None if problem.permanent else self._now() + timedelta(seconds=NOT_LINTED_SECONDS)
        return Judged(accepted=True, findings=findings, until=again)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception:  # noqa: BLE001 - a bug of ours must not end the server: what is live stays
                self._log.error("policy_not_compiled", source=self.source_name, exc_info=True)
                await asyncio.sleep(AFTER_BUG_SECONDS)

    async def _expire_next(self) -> None:
        """Expire what is due, compile the successor of the live policy in time, and wait until it is due.

        Returns early if another policy becomes live.
        """
        await self._expire()
        self._installed.clear()
        snapshot, due = self._live.snapshot, self._next_change()
        if snapshot is not None and due is not None and self._successor is None:
            prepare_at = due - timedelta(seconds=LEAD_SECONDS)
            if prepare_at <= self._now():
                await self._prepare(snapshot, due)
            else:
                due = prepare_at
        del snapshot
        await wait_until(due, self._now, self._installed)

    def _next_change(self) -> datetime | None:
        snapshot = self._live.snapshot
        return None if snapshot is None else snapshot.next_change

    async def _prepare(self, snapshot: CompiledPolicy, instant: datetime) -> None:
        """Compile the live policy as of an instant. Drop the result if another one is live by then."""
        policy = snapshot.policy
        if len(policy.allow) + len(policy.deny) <= FEW_ENTRIES:
            # This takes little memory, so do not wait until another policy has been compiled.
            compiled = await in_slices(policy.compiling(instant))
        else:
            async with self._compiling:
                if not self._is_live(snapshot):
                    return
                with collector_paused():
                    compiled = await in_slices(policy.compiling(instant))
        if self._is_live(snapshot):
            self._successor = self._snapshot(compiled)

    async def _compile(self, policy: Policy) -> tuple[CompiledPolicy, CompiledPolicy | None]:
        """Compile a policy as of now, and its successor if there is no time to compile that later."""
        begun = self._now()
        compiled = await in_slices(policy.compiling(begun))
        for _ in range(MAX_CATCH_UP):
            due, now = compiled.next_change, self._now()
            if due is None or due - now > MARGIN + 2 * (now - begun):
                break
            begun = now
            following = await in_slices(policy.compiling(max(due, now)))
            if due > self._now():
                return compiled, self._snapshot(following)
            compiled = following
        return compiled, None

    async def _expire(self) -> None:
        """Replace the live policy when its answers change, for example because a rule has expired."""
        snapshot, due = self._live.snapshot, self._next_change()
        if snapshot is None or due is None or due > self._now():
            return
        if self._successor is None:
            await self._prepare(snapshot, self._now())
        successor = self._successor
        if successor is None or not self._is_live(snapshot):
            return
        compiled, expiry = successor, snapshot.next_expiry
        replaced = [snapshot]
        del snapshot
        self._install(successor)
        del successor
        if expiry is not None and expiry <= compiled.instant:
            self._log.info(
                "policy_rule_expired",
                revision=compiled.revision,
                allow=len(compiled.allow),
                deny=len(compiled.deny),
            )
        await self._free(replaced)

    def _make_live(
        self,
        compiled: CompiledPolicy,
        findings: tuple[Finding, ...],
        resource_version: str | None,
        successor: CompiledPolicy | None,
    ) -> Loaded:
        """Install a policy that was just accepted."""
        self._install(self._snapshot(compiled), successor)
        self.refused = None
        self.loaded = loaded = Loaded(
            at=self._now(), policy=compiled.policy, findings=findings, resource_version=resource_version
        )
        self._observer.policy_reloaded("loaded")
        return loaded

    def _snapshot(self, compiled: CompiledPolicy) -> CompiledPolicy:
        return compiled.serving(self._cache_size, self._counts, self._now)

    def _is_live(self, snapshot: CompiledPolicy) -> bool:
        """Return whether the policy of a snapshot is live, with whatever exceptions."""
        live = self._live.snapshot
        return live is not None and live.policy is snapshot.policy and live.instant is snapshot.instant

    def _install(self, snapshot: CompiledPolicy, successor: CompiledPolicy | None = None) -> None:
        self._live.install(snapshot)
        self._successor = successor
        self._installed.set()
        self._observer.policy_live(snapshot, self.source)
        for use in self._on_live:
            use(snapshot)

    def _log_loaded(self, compiled: CompiledPolicy, findings: tuple[Finding, ...]) -> None:
        self._log.info(
            "policy_loaded",
            source=self.source_name,
            revision=compiled.revision,
            mode=compiled.policy.mode.name,
            allow=len(compiled.allow),
            deny=len(compiled.deny),
            mirrors=len(compiled.mirrors),
            **_logged(findings),
        )

    def _keep(self, loaded: Loaded, resource_version: str | None) -> Result:
        if self.refused is not None:
            self._log.info("policy_restored", source=self.source_name, revision=loaded.policy.revision)
        self.refused = None
        self.loaded = replace(loaded, resource_version=resource_version)
        self._observer.policy_reloaded("unchanged")
        return "unchanged"

    def _refuse(self, delivery: Delivery, findings: tuple[Finding, ...], *, final: bool = True) -> Result:
        self.refused = RefusedDelivery(at=self._now(), findings=findings, delivery=delivery, final=final)
        serving = self._live.snapshot
        self._log.error(
            "policy_refused",
            source=self.source_name,
            **_logged(findings),
            serving=None if serving is None else serving.revision,
        )
        self._observer.policy_reloaded("refused")
        return "refused"

    async def _free(self, replaced: list[Any]) -> None:
        """Free a policy that was replaced.

        A large one is freed in slices, and its memory is returned to the system.
        """
        snapshot = next((each for each in replaced if isinstance(each, CompiledPolicy)), None)
        if snapshot is None:
            return
        entries = len(snapshot.allow) + len(snapshot.deny) + len(snapshot.expired) + snapshot.cached
        del snapshot
        if entries <= FEW_ENTRIES:
            replaced.clear()
            return
        await in_slices(dismantling(replaced))
        await asyncio.to_thread(give_back)


async def _hash(policy: Policy) -> None:
    """Compute the revision of a policy with a large text in a thread. The policy caches its revision."""
    if len(policy.text) > LARGE_TEXT:
        await asyncio.to_thread(lambda: policy.revision)


def _logged(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """Return as many findings as fit into a log line, and the number of the others."""
    shown: list[str] = []
    size = 0
    for finding in findings:
        text = f"{finding.code}: {finding}"
        size += len(text)
        if size > MAX_LOGGED_CHARACTERS:
            break
        shown.append(text)
    return {"findings": shown, "more_findings": len(findings) - len(shown)}


def _parser_findings(delivery: Delivery, problem: ParserError) -> tuple[Finding, ...]:
    code = "internal-error" if problem.cause == "bug" else "not-parsed"
    return (*delivery.findings, _error(code, f"the document was not parsed: {problem}"))


def _error(code: str, message: str) -> Finding:
    return Finding(severity="error", code=code, path="", line=1, message=message)


def _warning(code: str, message: str) -> Finding:
    return Finding(severity="warning", code=code, path="", line=1, message=message)
