"""A running webhook for tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from gatekeeper_py.cluster.issuing import Issued, issue
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.http.listener import Evicted, Listener
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import RateLimit
from gatekeeper_py.process.settings import Address, ConfigMapName
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.tls import build_certificate
from gatekeeper_py.webhook.webhook import Webhook
from support import contract
from support.builders import pod, policy, review
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.wire import Answer, Connection, request

GOOD: Final = review(pod("registry.corp.io/web:1"))
"""A review that the default policy approves."""
CONTENT: Final = json.dumps(GOOD).encode()
ASKED: Final = request(CONTENT)

GUARDED: Final = ConfigMapName("gatekeeper-py", "gatekeeper-py-policy")
"""The ConfigMap that the webhook guards."""


@dataclass
class Served:
    """A running webhook and its recorded metrics and log."""

    webhook: Webhook
    listener: Listener
    live: LivePolicy
    metrics: Metrics
    log: RecordingLog
    address: Address
    trust: ssl.SSLContext
    parser: InProcessParser
    fast: bool
    evicted: list[Evicted]
    """The reasons of the evictions so far."""

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a sample; 0 when there is none."""
        return sample(self.metrics, name, **labels)

    async def ask(self, content: bytes) -> Answer:
        """Return the answer to a request on a connection of its own."""
        async with self.connected() as connection:
            return await connection.ask(content)

    async def review(
        self, document: dict[str, Any], endpoint: contract.Endpoint = "validate", query: str = ""
    ) -> contract.Answer:
        """Return the checked response to a review."""
        content = json.dumps(document).encode()
        answer = await self.ask(request(content, path=f"/{endpoint}-image{query}"))
        assert answer.status == 200, answer.body
        return contract.check_response(answer.body, document, endpoint)

    @contextlib.asynccontextmanager
    async def connected(self, trust: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
        connection = await Connection.open("127.0.0.1", self.address.port, trust or self.trust)
        try:
            yield connection
        finally:
            await connection.close()


Start = Callable[..., Served]


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the value of a sample; 0 when there is none."""
    value = metrics.registry.get_sample_value(f"gatekeeper_py_{name}", labels)
    return 0.0 if value is None else value


def families(exposition: bytes) -> dict[str, set[str]]:
    """Return the names of the metrics in an exposition, each with its labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


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
            live.install(compiled.serving(100, counts))
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
