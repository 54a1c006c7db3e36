"""The composition root of ``control``: builds everything, and owns the task group."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.controller import enforcement
from gatekeeper_py.controller.certificates import CertificateSettings
from gatekeeper_py.controller.configurations import Wanted
from gatekeeper_py.controller.enforcement import ApiServers, Prover
from gatekeeper_py.controller.events import Events
from gatekeeper_py.controller.exceptions import ExceptionEvents
from gatekeeper_py.controller.fastpath.policy_view import WEBHOOKS
from gatekeeper_py.controller.fastpath.probe import ProbeImage, RemovalProbe, dry_run
from gatekeeper_py.controller.fastpath.reconcile import FastPathController
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.loop import Alarms, Controller
from gatekeeper_py.controller.metrics import ControlMetrics, EnforcementMetrics, FastPathMetrics
from gatekeeper_py.controller.plan import Alarm
from gatekeeper_py.controller.policy import KnownPolicy, PolicyFollower
from gatekeeper_py.controller.reconcile import Passes
from gatekeeper_py.controller.removal import remove
from gatekeeper_py.controller.store import Store
from gatekeeper_py.controller.webhooks.desired import MUTATING, Desired
from gatekeeper_py.controller.webhooks.file import SettingsFile
from gatekeeper_py.controller.webhooks.templates import MUTATING_PATH, VALIDATING_PATH
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.http.health import Health, LoopWatch, listen
from gatekeeper_py.live.parser.process import IDLE_SECONDS, Parser
from gatekeeper_py.live.sources.configmap import ConfigMapSource
from gatekeeper_py.live.sources.exceptions import ExceptionsSource
from gatekeeper_py.process.children.process import Cause
from gatekeeper_py.process.logs import Format
from gatekeeper_py.process.process import Process
from gatekeeper_py.process.settings import Address
from gatekeeper_py.process.waiting import unless

FIELD_MANAGER: Final = "gatekeeper-py-controller"

KEPT_SECONDS: Final = 30 * 86400.0
"""With the fast path, an idle parser process ends only after this time. Starting one takes 0.3 s. During this
time, API servers would still admit images that the new policy removes."""

ONCE_SECONDS: Final = 300.0
"""How long ``--once`` waits for the webhook to be armed."""

ONCE_RETRY_SECONDS: Final = 1.0

EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The settings of ``control``.

    ``probe_namespace`` is the namespace for probe Pods. If it is ``None``, enforcement is not proven, and
    removals from the fast path are not probed.
    """

    installation: Installation
    certificates: CertificateSettings
    webhooks_config: Path | None
    kubeconfig: Path | None
    context: str | None
    health_listen: Address
    log_level: str
    log_format: Format
    once: bool
    remove: bool
    """Remove the webhook configurations instead of keeping them."""
    fast_path: bool
    probe_namespace: str | None


def control(settings: ControlSettings) -> int:
    """Run the controller until a signal arrives, and return the exit code.

    With ``once``, run only until the webhook is armed. With ``remove``, run only until the webhook
    configurations are removed. Raises ``SettingsError`` when there is no cluster configuration.
    """
    cluster = ClusterConfiguration(
        kubeconfig=settings.kubeconfig, context=settings.context, environ=os.environ
    )
    process = Process(
        log_level=settings.log_level,
        log_style=settings.log_format,
        # A Job that did not finish must not look complete.
        second_signal_code=EXIT_INTERRUPTED if settings.once or settings.remove else 0,
    )
    if settings.remove:
        return process.run(lambda: _remove(settings.installation, process, cluster))
    return process.run(_Control(settings, process, cluster).run)


async def _remove(installation: Installation, process: Process, cluster: ClusterConfiguration) -> int:
    """Remove the webhook configurations and their owner.

    Return 0 when they are gone, 2 if that takes too long, 130 if the process is stopped first.
    """
    api = ApiClient(cluster.connect, field_manager=FIELD_MANAGER)
    paths = (VALIDATING_PATH, MUTATING_PATH)
    try:
        return await _until_stopped(
            remove(api, installation.owner_path, paths, log=process.log), process.stop
        )
    finally:
        await api.close()


async def _until_stopped(work: Coroutine[Any, Any, bool], stop: asyncio.Event) -> int:
    """Run ``work`` until it ends or the process is stopped.

    Return 0 if the work succeeds, 2 if it fails, 130 if the process is stopped first.
    """
    succeeded = await unless(stop, work, None)
    return EXIT_INTERRUPTED if succeeded is None else 0 if succeeded else 2


class _Unobserved:
    """Ignores the starts and deaths of the parser process: a log line and an alarm already report a death."""

    def child_runs(self, child: str, *, runs: bool) -> None: ...

    def child_died(self, child: str, cause: Cause) -> None: ...


class _Control:
    """The controller's parts, and the order in which they start and stop."""

    def __init__(self, settings: ControlSettings, process: Process, cluster: ClusterConfiguration) -> None:
        self._settings = settings
        self._installation = settings.installation
        self._cluster = cluster
        self._stop = process.stop
        self._log = process.log
        self._metrics = ControlMetrics()
        self._api = ApiClient(cluster.connect, field_manager=FIELD_MANAGER)
        self._store = Store(
            self._api, cluster.connect, self._installation.watched(), on_changed=self._changed
        )
        self._passes = Passes(self._api, self._installation, settings.certificates, shown=self._store.get)
        self._file = SettingsFile(settings.webhooks_config, log=self._log, on_changed=self._changed)
        self._fast_path = self._build_fast_path() if settings.fast_path else None
        self._parser = Parser(
            log=self._log,
            observer=_Unobserved(),
            idle_seconds=KEPT_SECONDS if settings.fast_path else IDLE_SECONDS,
        )
        self._policy = PolicyFollower(
            self._parser,
            on_changed=self._changed,
            on_arrived=self._policy_arrived,
            on_known=self._policy_known,
            log=self._log,
            judge=self._rejects_valid_probes,
        )
        events = Events(self._api, self._installation, log=self._log)
        self._exceptions = ExceptionEvents(
            self._parser, events, enabled=self._installation.exceptions, log=self._log
        )
        self._controller = Controller(
            self._passes,
            self._wanted,
            alarms=Alarms(self._metrics, self._log),
            events=events,
            metrics=self._metrics,
            log=self._log,
            problems=self._problems,
            refused=lambda: (self._installation.policy.name, self._policy.refused),
            check_conditions=self._conditions_differ,
        )
        namespace = settings.probe_namespace
        self._prover = None if namespace is None else self._build_prover(namespace)

    async def run(self) -> int:
        try:
            await self._file.load()
            if self._settings.once:
                return await self._run_once()
            return await self._run_forever()
        finally:
            if self._fast_path is not None:
                await self._fast_path.shut_down()
            await self._controller.shut_down()
            await self._parser.close()
            await self._api.close()

    def _wanted(self) -> Wanted:
        return Wanted(
            settings=self._file.settings,
            mutates=self._policy.mutates,
            conditions=None if self._fast_path is None else self._fast_path.conditions,
        )

    def _problems(self) -> dict[Alarm, str]:
        return {
            "settings": self._file.problem,
            "policy": self._policy.problem(),
            "exceptions": self._exceptions.problem(),
        }

    def _changed(self) -> None:
        self._controller.changed.set()

    async def _run_once(self) -> int:
        """Return 0 once the webhook is armed, 2 if that takes too long, 130 if the process stops first."""
        return await _until_stopped(self._arm_once(), self._stop)

    async def _arm_once(self) -> bool:
        """Read the current policy, then run passes until the webhook is armed."""
        source = self._source()
        try:
            async with asyncio.timeout(ONCE_SECONDS), aclosing(source.deliveries()) as deliveries:
                delivery = await anext(deliveries)
                while not await self._policy.take(delivery):  # noqa: ASYNC110 - a pause between attempts
                    await asyncio.sleep(ONCE_RETRY_SECONDS)
        except TimeoutError:
            return False
        return await self._controller.run_once(ONCE_SECONDS)

    async def _run_forever(self) -> int:
        loop_watch = LoopWatch(self._metrics.loop_lag)
        health = Health(
            live={"loop": loop_watch.problem},
            ready={"reconcile": self._controller.problem},
            exposition=self._metrics.exposition,
        )
        listener = listen(health, self._settings.health_listen, self._log)
        if listener is None:
            return 2
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._controller.run()),
                group.create_task(loop_watch.run()),
                group.create_task(self._file.run()),
                group.create_task(self._follow_policy()),
            ]
            tasks.append(group.create_task(self._store.run()))
            if self._installation.exceptions:
                source = ExceptionsSource(
                    self._installation.namespace,
                    self._cluster.connect,
                    self._exceptions.keeper,
                    log=self._log,
                )
                tasks.append(group.create_task(self._exceptions.run(source.read)))
            if self._fast_path is not None:
                tasks.append(group.create_task(self._fast_path.run()))
            if self._prover is not None:
                tasks.append(group.create_task(self._prover.run()))
            await self._stop.wait()
            for task in tasks:
                task.cancel()
        await listener.close(1.0)
        self._log.info("stopped")
        return 0

    def _build_prover(self, namespace: str) -> Prover:
        servers = ApiServers(self._cluster.connect, self._api, namespace, in_cluster=self._cluster.in_cluster)
        return Prover(
            servers.send,
            servers.addresses,
            armed=lambda: self._controller.armed,
            rejects_valid_images=lambda: self._policy.judgement,
            metrics=EnforcementMetrics(self._metrics.registry),
            log=self._log,
        )

    def _rejects_valid_probes(self, policy: Policy, now: datetime) -> bool:
        return enforcement.rejects_valid_probes(policy, self._settings.probe_namespace, now)

    def _build_fast_path(self) -> FastPathController:
        async def probe(namespace: str, image: ProbeImage) -> str:
            return await dry_run(self._cluster.connect, namespace, image, WEBHOOKS[image.endpoint])

        return FastPathController(
            self._api,
            self._passes.configurations,
            self._installation.policy_path,
            RemovalProbe(probe, self._settings.probe_namespace, log=self._log),
            expected=self._expected,
            metrics=FastPathMetrics(self._metrics.registry),
            log=self._log,
        )

    def _expected(self, desired: Desired) -> bool:
        """Return whether a configuration should exist.

        The mutating configuration should exist only while the policy can rewrite images.
        """
        return desired.kind != MUTATING or bool(self._policy.mutates)

    def _source(self) -> ConfigMapSource:
        return ConfigMapSource(
            self._installation.policy, self._cluster.connect, log=self._log, on_synced=self._policy_synced
        )

    def _policy_synced(self) -> None:
        self._policy.seen()
        if self._fast_path is not None:
            self._fast_path.seen()

    def _policy_arrived(self) -> None:
        if self._fast_path is not None:
            self._fast_path.expect()

    def _policy_known(self, known: KnownPolicy) -> None:
        if known.policy is not None:
            self._exceptions.use_policy(known.policy)
        if self._fast_path is not None:
            self._fast_path.deliver(known)

    def _conditions_differ(self) -> None:
        if self._fast_path is not None:
            self._fast_path.check()

    async def _follow_policy(self) -> None:
        async with aclosing(self._source().deliveries()) as deliveries:
            await self._policy.run(deliveries)
