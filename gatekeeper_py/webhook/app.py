"""The composition root of ``serve``: builds everything, owns the task group and the drain."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import http_parser

from gatekeeper_py import __version__
from gatekeeper_py.core.names import DEFAULT_NAMESPACE
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http import aiohttp_internals
from gatekeeper_py.http.health import MAX_HEALTH_CONNECTIONS, Health, LoopWatch, listen
from gatekeeper_py.http.listener import Evicted, Listener, log_evictions, open_port
from gatekeeper_py.live.exceptions.keeper import ExceptionsKeeper, Read
from gatekeeper_py.live.parser.process import Parser
from gatekeeper_py.live.reload import Reloader
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.live.sources.exceptionfiles import ExceptionFilesSource
from gatekeeper_py.live.sources.file import FileSource
from gatekeeper_py.process.logs import RateLimit
from gatekeeper_py.process.memory import give_back
from gatekeeper_py.process.process import Process, allow_descriptors
from gatekeeper_py.process.settings import Settings, SettingsError, TlsSettings
from gatekeeper_py.registry.files import FilesWatch
from gatekeeper_py.registry.service import RegistryService
from gatekeeper_py.webhook.denials import Denials
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.statuspage import StatusPage, describe_policy
from gatekeeper_py.webhook.tls import Certificate, CertificateFiles, build_certificate
from gatekeeper_py.webhook.webhook import Webhook

if TYPE_CHECKING:
    from gatekeeper_py.cluster.configuration import ClusterConfiguration

QUIET_SECONDS: Final = 3.0
"""A drain ends when no request came for this long after the listening socket was closed."""

QUIET_CHECK_SECONDS: Final = 0.1
LATE_SECONDS: Final = 0.02
"""If the event loop wakes up later than this, the machine is overloaded, and the drain counts the quiet time
from the start again, because clients on the same machine stall, too. When they continue, they send their
backlog at once, even on idle connections, before they notice that the server closed a connection."""

MAX_QUIET_WAIT_SECONDS: Final = 25.0
"""Maximum wait for the quiet time: Kubernetes' default grace period of 30 s, less the default of
``--drain-seconds``, which is 5 s."""

OTHER_DESCRIPTORS: Final = 128
"""File descriptors for everything but connections: the event loop, files, the API server, logs."""

SELF_SIGNED_LIFETIME: Final = timedelta(days=365)


def serve(settings: Settings) -> int:
    """Run until a signal and return the exit code: 0 after the drain, 2 if the server cannot listen.

    A second signal exits at once. Raises ``SettingsError`` for a setting that turns out to be unusable.
    """
    if not http_parser.HttpRequestParser.__module__.endswith("_http_parser"):
        # The Python parser is many times slower and accepted malformed requests in past advisories.
        raise RuntimeError("aiohttp runs without its C parser")
    process = Process(log_level=settings.log_level, log_style=settings.log_format)
    return process.run(_Server(settings, process).run)


class _Server:
    """The server's parts, and the order in which they start and stop."""

    def __init__(self, settings: Settings, process: Process) -> None:
        self._settings = settings
        self._stop = process.stop
        self._writer = process.writer
        self._log = process.log

    async def run(self) -> int:
        settings, log = self._settings, self._log
        live, counts = LivePolicy(), CacheCounts()
        metrics = Metrics(live, counts)
        registries = RegistryService(metrics, settings.registry_config, log=log)
        parser = Parser(log=log, observer=metrics)
        # A process of its own, because strangers can request long checks, which must not suspend exceptions.
        documents = Parser("exceptions", log=log, observer=metrics)
        keeper = ExceptionsKeeper(live, documents, observer=metrics, log=log)
        guard = PolicyGuard(
            settings.configmap,
            parser,
            live,
            most_rejected=settings.guard_most_rejected,
            observer=metrics,
            log=log,
        )
        reloader = Reloader(
            live,
            parser,
            source="file" if settings.policy is not None else "configmap",
            source_name=str(settings.policy or settings.configmap),
            cache_size=settings.cache_size,
            counts=counts,
            observer=metrics,
            log=log,
            on_live=(registries.use_policy, keeper.use_policy),
        )
        certificates = await self._certificates(metrics)
        denials = Denials(details=settings.status_details)
        webhook = Webhook(
            live,
            guard,
            observer=metrics,
            log=log,
            limit=RateLimit(),
            max_body_bytes=settings.max_body_bytes,
            client_names=frozenset(settings.tls.client_names),
            log_allowed=settings.log_level == "debug",
            has_log_room=self._writer.has_room,
            registries=registries.lookups,
            denials=denials,
        )
        loop_watch = LoopWatch(metrics.loop_lag)
        ready = {
            "policy": lambda: "" if live.snapshot is not None else "no policy is loaded",
            "certificate": lambda: certificates.problem,
            "registries": registries.problem,
            "exceptions": keeper.problem,
            "draining": lambda: "draining" if webhook.draining else "",
        }

        policy = partial(describe_policy, reloader, live, keeper, registries.describe)
        page = StatusPage(
            describe=policy,
            live=live,
            ready=ready,
            certificates=certificates,
            counts=metrics,
            denials=denials,
            version=__version__,
        )
        health = Health(
            live={"loop": loop_watch.problem},
            ready=ready,
            exposition=metrics.exposition,
            policy=policy,
            page=page.render,
            draining=lambda: webhook.draining,
        )
        log_eviction = log_evictions(log, "webhook")

        def evicted(why: Evicted, peer: str) -> None:
            metrics.connection_evicted(why)
            log_eviction(why, peer)

        listener = Listener(
            webhook.handle,
            max_connections=self._max_connections(),
            context=certificates.context,
            on_error=metrics.http_error,
            on_evicted=evicted,
            answer=webhook.answer,
            fast=self._has_fast_http(metrics),
        )
        metrics.watch_connections(lambda: listener.connections)
        metrics.watch_dropped_lines(lambda: self._writer.dropped)
        async with self._deliveries(metrics.policy_synced) as deliveries, asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(reloader.run(deliveries)),
                group.create_task(loop_watch.run()),
                group.create_task(keeper.run(self._exceptions(keeper, documents))),
            ]
            if isinstance(certificates, CertificateFiles):
                tasks.append(group.create_task(certificates.watch()))
            registries.lookups.start()
            if settings.registry_config is not None:
                files = FilesWatch(
                    settings.registry_config,
                    log=log,
                    on_change=registries.use_files,
                    on_problem=metrics.registry_config,
                )
                await files.poll()
                tasks.append(group.create_task(files.run()))
            health_listener = listen(health, settings.health_listen, log)
            if health_listener is not None and open_port(listener, "webhook", settings.listen, log):
                give_back()  # return the memory that importing the code needed
                await self._stop.wait()
                registries.lookups.stop_refreshing()
                await self._drain(webhook, guard, listener)
                code = 0
            else:
                code = 2
            await listener.close(1.0)
            if health_listener is not None:
                await health_listener.close(1.0)
            for task in tasks:
                task.cancel()
            await parser.close()
            await documents.close()
            await registries.close()
        log.info("stopped")
        return code

    async def _drain(self, webhook: Webhook, guard: PolicyGuard, listener: Listener) -> None:
        """Stop without losing a review: let endpoints change, close the socket, wait for the last requests.

        Idle connections stay open, because Go does not send a POST again once it has written bytes. Each
        connection closes with its next answer instead.
        """
        self._log.info("draining", seconds=self._settings.drain_seconds)
        webhook.draining = True
        await asyncio.sleep(self._settings.drain_seconds)
        listener.stop_accepting()
        # A connection may have been accepted just now, and its request may still follow.
        closed = time.monotonic()
        end = closed + MAX_QUIET_WAIT_SECONDS
        now, quiet_since = closed, closed
        while listener.connections and now < end:
            if not guard.checking and now >= max(webhook.last_request, quiet_since) + QUIET_SECONDS:
                break
            due = now + QUIET_CHECK_SECONDS
            await asyncio.sleep(QUIET_CHECK_SECONDS)
            now = time.monotonic()
            if now - due > LATE_SECONDS:
                quiet_since = now

    def _max_connections(self) -> int:
        """Return how many connections the webhook may have, given the limit of file descriptors.

        If descriptors ran out first, the server could not accept the connection that replaces another one. So
        the limit of connections must be the lower one.
        """
        requested = self._settings.max_connections
        others = MAX_HEALTH_CONNECTIONS + OTHER_DESCRIPTORS
        possible = max(allow_descriptors(requested + others) - others, 1)
        if possible < requested:
            self._log.warning("max_connections_lowered", wanted=requested, possible=possible)
        return min(requested, possible)

    def _has_fast_http(self, metrics: Metrics) -> bool:
        """Check that aiohttp's parser can be used directly; log a warning if not."""
        problem = aiohttp_internals.check()
        if problem:
            self._log.warning("fast_http_unavailable", problem=problem, aiohttp=aiohttp.__version__)
        metrics.fast_http(usable=not problem)
        return not problem

    async def _certificates(self, metrics: Metrics) -> CertificateFiles | _InMemory:
        tls = self._settings.tls
        if tls.cert is not None and tls.key is not None:
            files = CertificateFiles(
                tls.cert,
                tls.key,
                client_ca=tls.client_ca,
                hostnames=tls.hostnames,
                observer=metrics,
                log=self._log,
            )
            await files.load()
            return files
        try:
            certificate = await asyncio.to_thread(_make_certificate, tls)
        except SettingsError:
            raise
        except (OSError, ValueError) as problem:
            raise SettingsError(f"no self-signed certificate: {problem}") from None
        metrics.certificate(certificate.not_after.timestamp())
        self._log.info("certificate_self_signed", names=list(tls.hostnames), ca=str(tls.ca_out or ""))
        return _InMemory(certificate)

    @asynccontextmanager
    async def _deliveries(self, on_synced: Callable[[], None]) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Yield the deliveries of the policy's source. Raises ``SettingsError`` if it is unusable."""
        settings = self._settings
        if settings.policy is not None:
            yield FileSource(settings.policy, on_synced=on_synced).deliveries()
            return
        if settings.configmap is None:
            raise SettingsError("no source of a policy")
        # Imported here, because a policy from a file needs no API server.
        from gatekeeper_py.live.sources.configmap import ConfigMapSource  # noqa: PLC0415

        connect = self._cluster().connect
        source = ConfigMapSource(settings.configmap, connect, log=self._log, on_synced=on_synced)
        try:
            await source.connect()
            yield source.deliveries()
        finally:
            await source.close()

    def _cluster(self) -> ClusterConfiguration:
        from gatekeeper_py.cluster.configuration import ClusterConfiguration  # noqa: PLC0415

        settings = self._settings
        return ClusterConfiguration(
            kubeconfig=settings.kubeconfig, context=settings.context, environ=os.environ
        )

    def _exceptions(self, keeper: ExceptionsKeeper, parser: Parser) -> Read:
        """Return the function that delivers the documents of some sources to the keeper."""
        settings = self._settings
        if settings.configmap is None:
            files = ExceptionFilesSource(
                settings.exceptions, DEFAULT_NAMESPACE, parser, keeper, log=self._log
            )
            return files.read
        from gatekeeper_py.live.sources.exceptions import ExceptionsSource  # noqa: PLC0415

        namespace = settings.configmap.namespace
        return ExceptionsSource(namespace, self._cluster().connect, keeper, log=self._log).read


def _make_certificate(tls: TlsSettings) -> Certificate:
    """Make a self-signed certificate, and write its CA to ``--tls-ca-out`` if that is set.

    Raises ``SettingsError`` for a file that cannot be read or written.
    """
    # Imported here, because a certificate from files needs no issuer.
    from gatekeeper_py.cluster.issuing import issue  # noqa: PLC0415

    made = issue(tls.hostnames, datetime.now(UTC), SELF_SIGNED_LIFETIME)
    client_ca: tuple[bytes, ...] = ()
    if tls.client_ca is not None:
        with _file_of("--client-ca", tls.client_ca) as path:
            client_ca = (path.read_bytes(),)
    certificate = build_certificate((made.leaf, made.key, *client_ca), "", datetime.now(UTC))
    if tls.ca_out is not None:
        with _file_of("--tls-ca-out", tls.ca_out) as path:
            path.write_bytes(made.ca)
    return certificate


@contextmanager
def _file_of(option: str, path: Path) -> Iterator[Path]:
    """Name the option in errors about its file."""
    try:
        yield path
    except OSError as problem:
        raise SettingsError(f"{option} {path}: {problem.strerror or problem}") from None


class _InMemory:
    """A self-signed certificate that is held only in memory."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate

    @property
    def problem(self) -> str:
        expired = self._certificate.not_after <= datetime.now(UTC)
        return (
            "the self-signed certificate expired; restart the server to create a new one" if expired else ""
        )

    @property
    def files_problem(self) -> str:
        return ""

    def summary(self) -> tuple[datetime, tuple[str, ...]]:
        return self._certificate.not_after, self._certificate.names

    def context(self) -> Any:
        return self._certificate.context
