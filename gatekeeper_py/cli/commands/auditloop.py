"""``audit --every``: audit a cluster at regular intervals, and keep reports about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from gatekeeper_py.cli.inputs.cluster import CACHE_SIZE, MAX_TRIES, exemptions_in, policy_in
from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.cli.inputs.lookups import Queries
from gatekeeper_py.cli.inputs.policies import PolicyInput, now, read_policy
from gatekeeper_py.cli.inventory.exceptions import read_exceptions_of
from gatekeeper_py.cli.inventory.listing import collect
from gatekeeper_py.cli.inventory.provenance import provenance
from gatekeeper_py.cli.inventory.resources import ClusterError, Forbidden, kind_text
from gatekeeper_py.cli.inventory.survey import Survey, Warned
from gatekeeper_py.cli.reporting.policyreports.apis import ApiChoice
from gatekeeper_py.cli.reporting.policyreports.events import WarningEvents
from gatekeeper_py.cli.reporting.policyreports.results import findings_by_namespace
from gatekeeper_py.cli.reporting.policyreports.writer import Published, ReportError, publish
from gatekeeper_py.cluster.api import LIST_TIMEOUT, ApiClient
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.core.admission.judge import Role
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.exceptions.grants import Grants
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.http.health import Health, LoopWatch, listen
from gatekeeper_py.live.feed import Feed
from gatekeeper_py.process import settings as checked
from gatekeeper_py.process.process import Process
from gatekeeper_py.process.waiting import unless

MAX_LOGGED: Final = 5

RETRY_PART: Final = 0.1
"""A failed audit is repeated after this part of the interval, and then after pauses that double."""


class UnusablePolicy(Exception):
    """The policy has errors. The message names the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What to audit, how often, and what to write about it. ``every`` is in seconds."""

    cluster: ClusterConfiguration
    policy: str | None
    configmap: checked.ConfigMapName | None
    cluster_name: str | None
    namespace: str | None
    exempt: frozenset[str] | None
    """``None``: read the exempt namespaces from the settings in the namespace of the ConfigMap."""
    installation: str
    """The namespace of the installation."""
    every: float
    report: ApiChoice
    events: bool
    health_listen: checked.Address | None
    """``None``: do not serve /livez, /readyz and /metrics."""
    look_up: bool = False
    registry_config: Path | None = None

    @property
    def policy_name(self) -> str:
        return str(self.configmap or self.policy)


def run(settings: LoopSettings) -> int:
    """Audit until a signal, then return 0, or return 2 if the health port cannot be used.

    Raises ``SettingsError`` if the configuration cannot be used.
    """
    process = Process(log_level="info", log_style="json")
    return process.run(lambda: AuditLoop(settings, process.log, process.stop).run())


class AuditMetrics:
    """The results of the audits, as metrics and as the check of /readyz. ``every`` is in seconds."""

    def __init__(self, every: float) -> None:
        self.problem = "no audit has ended yet"
        self.registry = CollectorRegistry()
        self._success = Gauge(
            "gatekeeper_py_audit_last_success_timestamp_seconds",
            "Unix time at which a periodic audit last succeeded; 0 if none has since the start.",
            registry=self.registry,
        )
        self._failures = Counter(
            "gatekeeper_py_audit_failures",
            "Periodic audits that failed, or that could not write all reports.",
            registry=self.registry,
        )
        Gauge("gatekeeper_py_audit_interval_seconds", "Interval of the audits.", registry=self.registry).set(
            every
        )
        ProcessCollector(registry=self.registry)

    def ended(self, *, succeeded: bool) -> None:
        """Note how an audit ended."""
        if succeeded:
            self._success.set_to_current_time()
        else:
            self._failures.inc()
        self.problem = "" if succeeded else "the last audit failed; the log has the reason"

    def exposition(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class AuditLoop:
    """Runs one audit after another.

    A failed audit is logged, and the reports stay as they are. If it may succeed later, it is repeated before
    the next one is due.
    """

    def __init__(
        self,
        settings: LoopSettings,
        log: Any,
        stop: asyncio.Event,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._log = log
        self._stop = stop
        self._monotonic = monotonic
        self._unknown_exemptions = ""
        self._unread_exceptions: tuple[str, ...] = ()
        self._events = WarningEvents() if settings.events else None
        self._metrics = AuditMetrics(settings.every)
        self._queries = Queries(settings.registry_config, log) if settings.look_up else None

    async def run(self) -> int:
        if self._settings.health_listen is None:
            await self._repeat()
        else:
            watch = LoopWatch(lambda _lag: None)
            health = Health(
                live={"loop": watch.problem},
                ready={"audit": lambda: self._metrics.problem},
                exposition=self._metrics.exposition,
            )
            listener = listen(health, self._settings.health_listen, self._log)
            if listener is None:
                return 2
            watching = asyncio.create_task(watch.run())
            try:
                await self._repeat()
            finally:
                watching.cancel()
                await listener.close(1.0)
        self._log.info("stopped")
        return 0

    async def _repeat(self) -> None:
        """Audit at the interval until a signal."""
        api = ApiClient(self._settings.cluster.connect, timeout=LIST_TIMEOUT, tries=MAX_TRIES)
        try:
            await api.connect()
            # After a signal, the next process writes the reports that are missing.
            await unless(self._stop, self._audits(api), None)
        finally:
            if self._queries is not None:
                await self._queries.close()
            await api.close()

    async def _audits(self, api: ApiClient) -> None:
        """Audit at the interval until cancelled."""
        every = self._settings.every
        feed: Feed[float] = Feed(
            lambda _due: self._audit(api), first_retry=every * RETRY_PART, longest_retry=every
        )

        async def due() -> AsyncIterator[float]:
            while True:
                yield (began := self._monotonic())
                await asyncio.sleep(began + every - self._monotonic())

        ticking = asyncio.create_task(feed.follow(due()))
        try:
            await feed.run()
        finally:
            ticking.cancel()

    async def _audit(self, api: ApiClient) -> bool:
        """Audit once. Return false if nothing was written, and a repetition may succeed."""
        began = self._monotonic()
        try:
            policy = _usable(await self._policy(api))
            instant = now()
            excepted = await self._exceptions(api, policy.at(instant).grants)
            compiled = policy.at(instant, excepted)
            judge = compiled.serving(CACHE_SIZE, CacheCounts())
            warned = Warned()
            queries, namespace = self._queries, self._settings.namespace
            exempt, looks_up = await self._exempt(api), queries is not None
            later: tuple[Role, ...] = ("pod",) if looks_up else ()
            found = Survey(judge, exempt, keep_approved=True, warned=warned, later=later)
            missing = await collect(api, judge.resources, found, namespace=namespace)
            if queries is not None:
                # One object for all audits, so that each image is looked up only once.
                found.merge(await queries.answered(compiled, found.verified))
            findings = findings_by_namespace(found.tally, self._settings.policy_name)
            cluster = self._settings.cluster_name or self._settings.cluster.context
            meta = provenance(instant, cluster, policy, self._settings.policy_name)
            published = await publish(api, self._settings.report, findings, meta, namespace=namespace)
            recorded = await self._record(api, warned)
        except (ClusterError, UnreadableError, UnusablePolicy, ReportError) as problem:
            text = problem.message if isinstance(problem, UnreadableError) else str(problem)
            self._metrics.ended(succeeded=False)
            self._log.error("audit_failed", problem=text)
            return isinstance(problem, UnreadableError | UnusablePolicy | Forbidden)
        self._metrics.ended(succeeded=not published.written.failed)
        self._log_reports(published)
        self._log.info(
            "audited",
            policy=policy.revision,
            seconds=round(self._monotonic() - began, 3),
            **found.tally.counts,
            missing=[kind_text(kind) for kind in missing],
            report=published.api,
            created=published.written.created,
            replaced=published.written.replaced,
            deleted=published.written.deleted,
            unchanged=published.written.unchanged,
            events=recorded,
        )
        return True

    async def _policy(self, api: ApiClient) -> PolicyInput:
        """Read the policy again, because it may have changed."""
        if self._settings.configmap is not None:
            return await policy_in(api, self._settings.configmap)
        return await asyncio.to_thread(read_policy, self._settings.policy or "")

    async def _exempt(self, api: ApiClient) -> frozenset[str]:
        """Return the exempt namespaces; read them again, because settings and labels may have changed."""
        if self._settings.exempt is not None:
            return self._settings.exempt
        assert self._settings.configmap is not None  # noqa: S101 - otherwise the namespaces are given
        found = await exemptions_in(api, self._settings.configmap.namespace, self._settings.namespace)
        if found.problem and found.problem != self._unknown_exemptions:
            self._log.warning("exemptions_unknown", problem=found.problem)
        self._unknown_exemptions = found.problem
        return found.namespaces

    async def _exceptions(self, api: ApiClient, grants: Grants) -> Exceptions:
        """Return the exceptions in the cluster; log why some of them are ignored."""
        if not grants:
            return NO_EXCEPTIONS
        settings = self._settings
        found = await read_exceptions_of(api, grants, settings.installation, settings.namespace)
        if found.problems and found.problems != self._unread_exceptions:
            self._log.warning("exceptions_not_all_read", problems=found.problems, number=found.bad)
        self._unread_exceptions = found.problems
        return found.exceptions

    async def _record(self, api: ApiClient, warned: Warned) -> int:
        if self._events is None:
            return 0
        recorded, problems = await self._events.record(api, warned)
        for problem in problems[:MAX_LOGGED]:
            self._log.warning("event_not_recorded", problem=problem)
        if warned.left_out:
            self._log.warning("events_left_out", pods=warned.left_out)
        return recorded

    def _log_reports(self, published: Published) -> None:
        if published.api is None and self._settings.report != "none":
            self._log.warning("no_report_api", choice=self._settings.report)
        if published.written.failed:
            written = published.written
            self._log.error("reports_not_written", failed=written.failed, problems=written.problems)


def _usable(given: PolicyInput) -> Policy:
    if given.policy is None:
        first = given.errors[0] if given.errors else None
        reason = "it holds no policy" if first is None else f"line {first.line}: {first.message}"
        raise UnusablePolicy(f"{given.name}: {reason}")
    return given.policy
