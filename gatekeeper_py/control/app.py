"""The composition root of ``control``."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.control.certificates import Terms
from gatekeeper_py.control.fastpath import dryrun
from gatekeeper_py.control.fastpath.canary import Canary
from gatekeeper_py.control.fastpath.keeper import FastPathKeeper
from gatekeeper_py.control.fastpath.knowledge import WEBHOOKS
from gatekeeper_py.control.fastpath.trial import Trial
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

EXIT_INTERRUPTED: Final = 130

WATCH_RETRY_SECONDS: Final = 2.0
"""Between two watches of one object; the pass each minute sees what falls in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastPathTerms:
    """Which policy to follow, and where to try images; without a namespace none are tried."""

    configmap: ConfigMapName
    probe_namespace: str | None


def run(
    installation: Installation,
    terms: Terms,
    *,
    kubeconfig: Path | None,
    context: str | None,
    health_listen: Address,
    log_level: str,
    log_style: Format,
    once_seconds: float | None,
    fast_path: FastPathTerms | None = None,
) -> int:
    """Run until a signal, or with ``once_seconds`` until armed; answers the exit code.

    Raises ``SettingsError`` when there is no cluster configuration.
    """
    cluster = ClusterConfiguration(kubeconfig=kubeconfig, context=context, environ=os.environ)
    process = Process(log_level=log_level, log_style=log_style)
    return process.run(
        lambda: _main(
            process,
            cluster,
            installation,
            terms,
            health_listen,
            once_seconds=once_seconds,
            fast_path=fast_path,
        )
    )


async def _main(
    process: Process,
    cluster: ClusterConfiguration,
    installation: Installation,
    terms: Terms,
    health_listen: Address,
    *,
    once_seconds: float | None,
    fast_path: FastPathTerms | None,
) -> int:
    metrics, log = ControlMetrics(), process.log
    api = ApiClient(cluster.connect, field_manager=FIELD_MANAGER)
    keeper: FastPathKeeper | None = None
    following: list[Callable[[], Coroutine[Any, Any, None]]] = []
    if fast_path is not None:
        keeper = _keeper(process, api, cluster, installation, fast_path, metrics)
        source = ConfigMapSource(fast_path.configmap, cluster.connect, log=log, on_synced=keeper.seen)
        following.append(partial(_keep_in_step, keeper, source))
    controller = Controller(
        api, installation, terms, observer=metrics, log=log, errors=(ApiError, LookupError), fast_path=keeper
    )
    try:
        if once_seconds is not None:
            return await _run_once(process, controller, once_seconds)
        return await _run_forever(
            process, api, controller, installation, metrics, health_listen, following=following
        )
    finally:
        if keeper is not None:
            await keeper.leave()
        await controller.leave()
        await api.close()


def _keeper(
    process: Process,
    api: ApiClient,
    cluster: ClusterConfiguration,
    installation: Installation,
    terms: FastPathTerms,
    metrics: ControlMetrics,
) -> FastPathKeeper:
    namespace, configmap = terms.probe_namespace or "", terms.configmap

    async def probe(canary: Canary) -> dryrun.Seen:
        return await dryrun.create(cluster.connect, namespace, canary, WEBHOOKS[canary.endpoint])

    return FastPathKeeper(
        api,
        installation.desired,
        f"/api/v1/namespaces/{configmap.namespace}/configmaps/{configmap.name}",
        Trial(probe if namespace else None, namespace, log=process.log),
        observer=FastPathMetrics(metrics.registry),
        log=process.log,
        errors=(ApiError, LookupError),
        status=_status,
    )


async def _keep_in_step(keeper: FastPathKeeper, source: ConfigMapSource) -> None:
    async with aclosing(source.deliveries()) as deliveries:
        await keeper.run(deliveries)


def _status(problem: Exception) -> int:
    """What an API server answered; 0 when it did not."""
    return problem.status if isinstance(problem, ApiError) else 0


async def _run_once(process: Process, controller: Controller, seconds: float) -> int:
    """0 once armed, 2 when that takes too long, 130 when told to stop before."""
    armed = asyncio.create_task(controller.run_once(seconds))
    stopped = asyncio.create_task(process.stop.wait())
    await asyncio.wait({armed, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if armed.done():
        return 0 if armed.result() else 2
    armed.cancel()
    return EXIT_INTERRUPTED


async def _run_forever(
    process: Process,
    api: ApiClient,
    controller: Controller,
    installation: Installation,
    metrics: ControlMetrics,
    health_listen: Address,
    *,
    following: list[Callable[[], Coroutine[Any, Any, None]]],
) -> int:
    loop_watch = LoopWatch(metrics.loop_lag)
    health = Health(
        live={"loop": loop_watch.problem},
        ready={"reconcile": controller.problem},
        exposition=metrics.exposition,
    )
    listener = Listener(health.handle, max_connections=MAX_HEALTH_CONNECTIONS)
    try:
        bound = listener.bind(health_listen)
    except OSError as problem:
        process.log.error(  # noqa: TRY400 - the problem is the message
            "cannot_listen", listener="health", address=str(health_listen), problem=str(problem)
        )
        return 2
    process.log.info("listening", listener="health", address=str(bound))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(controller.run()), group.create_task(loop_watch.run())]
        tasks += [
            group.create_task(_follow(api, collection, name, controller.changed.set))
            for collection, name in watched(installation)
        ]
        tasks += [group.create_task(follow()) for follow in following]
        await process.stop.wait()
        for task in tasks:
            task.cancel()
    await listener.close(1.0)
    process.log.info("stopped")
    return 0


def watched(installation: Installation) -> list[tuple[str, str]]:
    """(collection, name) of everything whose change asks for a pass."""
    namespaced = f"/api/v1/namespaces/{installation.namespace}"
    objects = [
        ("/api/v1/namespaces", installation.namespace),
        (f"{namespaced}/secrets", installation.secret),
        (f"{namespaced}/services", installation.service),
        (f"/apis/apps/v1/namespaces/{installation.namespace}/deployments", installation.deployment),
        (f"/apis/discovery.k8s.io/v1/namespaces/{installation.namespace}/endpointslices", ""),
    ]
    return objects + [(desired.collection, desired.name) for desired in installation.desired]


async def _follow(api: ApiClient, collection: str, name: str, changed: Callable[[], object]) -> None:
    """Watch one object for ever; what is missed between two watches, the pass each minute sees."""
    while True:
        try:
            async with aclosing(api.changes(collection, name)) as changes:
                async for _ in changes:
                    changed()
        except ApiError:
            # The passes themselves say what is wrong with the API server.
            changed()
        await asyncio.sleep(WATCH_RETRY_SECONDS * random.uniform(1.0, 1.5))  # noqa: S311 - no secret
