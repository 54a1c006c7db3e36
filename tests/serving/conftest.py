"""Fixtures: a webhook on a real socket, with verified TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop

from builders import policy
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.issuing import Issued, issue
from gatekeeper_py.live import CacheCounts, LivePolicy, snapshot_of
from gatekeeper_py.runtime.logs import RateLimit
from gatekeeper_py.serving.guard import PolicyGuard
from gatekeeper_py.serving.listener import Evicted, Listener
from gatekeeper_py.serving.metrics import Metrics
from gatekeeper_py.serving.tls import build_certificate
from gatekeeper_py.serving.webhook import Webhook
from gatekeeper_py.settings import Address, ConfigMapName
from parsing import InProcessParser
from recording import RecordingLog
from served import GUARDED, Served, Start


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loop that the product uses."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority() -> Issued:
    """Return a certificate of the product and its CA."""
    return issue(("localhost", "127.0.0.1"), datetime.now(UTC), timedelta(days=1))


@pytest.fixture(scope="session")
def trust(authority: Issued) -> ssl.SSLContext:
    """Return a client context that verifies the server, like that of an API server."""
    return ssl.create_default_context(cadata=authority.ca.decode())


@pytest.fixture(params=["fast", "public"])
async def start(
    request: pytest.FixtureRequest, authority: Issued, trust: ssl.SSLContext
) -> AsyncIterator[Start]:
    """Return a function that starts webhooks; they end with the test.

    Each test runs twice: with the hot path, and without the undocumented parts of aiohttp, as
    after an update of aiohttp that changed its parser. Both must behave the same.
    """
    running: list[Listener] = []

    def start(
        compiled: CompiledPolicy | None = policy(),  # noqa: B008 - it is frozen
        *,
        max_connections: int = 50,
        max_body_bytes: int = 7 * 1024 * 1024,
        client_ca: bytes | None = None,
        handshake_seconds: float = 5.0,
        guarded: ConfigMapName | None = GUARDED,
        most_rejected: int = 50,
        **options: Any,
    ) -> Served:
        live, counts, log = LivePolicy(), CacheCounts(), RecordingLog()
        if compiled is not None:
            live.install(snapshot_of(compiled, 100, counts))
        metrics = Metrics(live, counts)
        parser = InProcessParser()
        guard = PolicyGuard(guarded, parser, live, most_rejected=most_rejected, observer=metrics, log=log)
        webhook = Webhook(
            live,
            guard,
            observer=metrics,
            log=log,
            limit=RateLimit(),
            max_body_bytes=max_body_bytes,
            **options,
        )
        contents = (authority.leaf, authority.key, *(() if client_ca is None else (client_ca,)))
        certificate = build_certificate(contents, "", datetime.now(UTC))
        fast, evicted = request.param == "fast", list[Evicted]()

        def note_eviction(why: Evicted, _peer: str) -> None:
            evicted.append(why)
            metrics.connection_evicted(why)

        listener = Listener(
            webhook.handle,
            max_connections=max_connections,
            context=lambda: certificate.context,
            on_error=metrics.http_error,
            answer=webhook.answer,
            on_evicted=note_eviction,
            fast=fast,
            handshake_seconds=handshake_seconds,
        )
        address = listener.bind(Address("127.0.0.1", 0))
        running.append(listener)
        return Served(webhook, listener, live, metrics, log, address, trust, parser, fast, evicted)

    yield start
    for listener in running:
        await listener.close(1.0)


@pytest.fixture
async def served(start: Start) -> Served:
    """Start a webhook with the default limits that approves only images of registry.corp.io."""
    return start()
