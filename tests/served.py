"""A running webhook for tests."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

import contract
from builders import pod, review
from gatekeeper_py.live import LivePolicy
from gatekeeper_py.serving.listener import Evicted, Listener
from gatekeeper_py.serving.metrics import Metrics
from gatekeeper_py.serving.webhook import Webhook
from gatekeeper_py.settings import Address, ConfigMapName
from parsing import InProcessParser
from recording import RecordingLog
from wire import Answer, Connection, request

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
