"""The composition root of ``control``: builds everything, and owns the task group."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.control.certificates import CertificateSettings
from gatekeeper_py.control.fastpath import dry_run
from gatekeeper_py.control.fastpath.policy_view import WEBHOOKS
from gatekeeper_py.control.fastpath.probe import RemovalProbe
from gatekeeper_py.control.fastpath.probe_image import ProbeImage
from gatekeeper_py.control.fastpath.reconcile import FastPathController
from gatekeeper_py.control.loop import Controller
from gatekeeper_py.control.metrics import ControlMetrics, FastPathMetrics
from gatekeeper_py.control.reconcile import FIELD_MANAGER, Installation
from gatekeeper_py.runtime.logs import Format
from gatekeeper_py.runtime.process import Process
from gatekeeper_py.serving.health import Health, LoopWatch
from gatekeeper_py.serving.listener import Listener
from gatekeeper_py.settings import Address, ConfigMapName
from gatekeeper_py.sources.configmap import ConfigMapSource

MAX_HEALTH_CONNECTIONS: Final = 100

ONCE_SECONDS: Final = 300.0
"""How long ``--once`` waits for the webhook to be armed."""

EXIT_INTERRUPTED: Final = 130

WATCH_RETRY_SECONDS: Final = 2.0
"""Pause between two watches of one object; the pass each minute covers what is missed meanwhile."""

ERRORS: Final = (ApiError, LookupError)
"""What a request to the API server, or a part that disappears during a pass, raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastPathSettings:
    """The policy to follow, and the namespace for probe Pods; without one, removals are not probed."""

    configmap: ConfigMapName
    probe_namespace: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Everything ``control`` is told."""

    installation: Installation
    certificates: CertificateSettings
    kubeconfig: Path | None
    context: str | None
    health_listen: Address
    log_level: str
    log_format: Format
    once: bool
    fast_path: FastPathSettings | None


def control(settings: ControlSettings) -> int:
    """Run until a signal, or with ``once`` until armed. Return the exit code.

    Raises ``SettingsError`` when there is no cluster configuration.
    """
    cluster = ClusterConfiguration(
        kubeconfig=settings.kubeconfig, context=settings.context, environ=os.environ
    )
    process = Process(log_level=settings.log_level, log_style=settings.log_format)
    return process.run(_Control(settings, process, cluster).run)


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
        self._tasks: list[Callable[[], Awaitable[None]]] = []

    async def run(self) -> int:
        fast_path = None if self._settings.fast_path is None else self._fast_path(self._settings.fast_path)
        controller = Controller(
            self._api,
            self._installation,
            self._settings.certificates,
            observer=self._metrics,
            log=self._log,
            errors=ERRORS,
            fast_path=fast_path,
        )
        try:
            if self._settings.once:
                return await self._run_once(controller)
            return await self._run_forever(controller)
        finally:
            if fast_path is not None:
                await fast_path.shut_down()
            await controller.shut_down()
            await self._api.close()

    async def _run_once(self, controller: Controller) -> int:
        """Return 0 once armed, 2 when that takes too long, 130 when stopped before."""
        armed = asyncio.create_task(controller.run_once(ONCE_SECONDS))
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({armed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if armed.done():
            return 0 if armed.result() else 2
        armed.cancel()
        return EXIT_INTERRUPTED

    async def _run_forever(self, controller: Controller) -> int:
        loop_watch = LoopWatch(self._metrics.loop_lag)
        health = Health(
            live={"loop": loop_watch.problem},
            ready={"reconcile": controller.problem},
            exposition=self._metrics.exposition,
        )
        listener = Listener(health.handle, max_connections=MAX_HEALTH_CONNECTIONS)
        address = self._settings.health_listen
        try:
            bound = listener.bind(address)
        except OSError as problem:
            self._log.error("cannot_listen", listener="health", address=str(address), problem=str(problem))
            return 2
        self._log.info("listening", listener="health", address=str(bound))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(controller.run()), group.create_task(loop_watch.run())]
            tasks += [
                group.create_task(self._watch(collection, name, controller.changed.set))
                for collection, name in watched(self._installation)
            ]
            tasks += [group.create_task(_run(task)) for task in self._tasks]
            await self._stop.wait()
            for task in tasks:
                task.cancel()
        await listener.close(1.0)
        self._log.info("stopped")
        return 0

    def _fast_path(self, settings: FastPathSettings) -> FastPathController:
        namespace, configmap = settings.probe_namespace or "", settings.configmap

        async def probe(image: ProbeImage) -> dry_run.DryRun:
            return await dry_run.create(self._cluster.connect, namespace, image, WEBHOOKS[image.endpoint])

        controller = FastPathController(
            self._api,
            self._installation.desired,
            f"/api/v1/namespaces/{configmap.namespace}/configmaps/{configmap.name}",
            RemovalProbe(probe if namespace else None, namespace, log=self._log),
            observer=FastPathMetrics(self._metrics.registry),
            log=self._log,
            errors=ERRORS,
            status=_status,
        )
        source = ConfigMapSource(configmap, self._cluster.connect, log=self._log, on_synced=controller.seen)

        async def follow() -> None:
            async with aclosing(source.deliveries()) as deliveries:
                await controller.run(deliveries)

        self._tasks.append(follow)
        return controller

    async def _watch(self, collection: str, name: str, changed: Callable[[], object]) -> None:
        """Call ``changed`` after each change of an object, for ever."""
        while True:
            try:
                async with aclosing(self._api.changes(collection, name)) as changes:
                    async for _ in changes:
                        changed()
            except ApiError:
                # The pass that this starts logs what is wrong with the API server.
                changed()
            await asyncio.sleep(WATCH_RETRY_SECONDS * random.uniform(1.0, 1.5))  # noqa: S311 - not a secret


async def _run(task: Callable[[], Awaitable[None]]) -> None:
    await task()


def _status(problem: Exception) -> int:
    """Return the HTTP status of an error, 0 when the API server did not answer."""
    return problem.status if isinstance(problem, ApiError) else 0


def watched(installation: Installation) -> list[tuple[str, str]]:
    """Return collection and name of every object whose change starts a pass."""
    namespaced = f"/api/v1/namespaces/{installation.namespace}"
    objects = [
        ("/api/v1/namespaces", installation.namespace),
        (f"{namespaced}/secrets", installation.secret),
        (f"{namespaced}/services", installation.service),
        (f"/apis/apps/v1/namespaces/{installation.namespace}/deployments", installation.deployment),
        (f"/apis/discovery.k8s.io/v1/namespaces/{installation.namespace}/endpointslices", ""),
    ]
    return objects + [(desired.collection, desired.name) for desired in installation.desired]
