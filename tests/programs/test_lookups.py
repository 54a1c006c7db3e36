"""``serve`` and a registry: what it sends without a review, and what its log tells about failures."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from support.builders import pod, policy_text, review
from support.httpserving import serving
from support.server import Server

Servers = Callable[..., Server]


@dataclass
class Registry:
    """A registry that answers every request with ``code`` and records its path."""

    host: str = ""
    code: int = 200
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            registry.requests.append(self.path)
            self.send_response(registry.code)
            self.send_header("Docker-Content-Digest", "sha256:" + "a" * 64)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as registry.host:
        yield registry


def policy(registry: Registry, image: str, more: str = "") -> str:
    required = f"require: [{{images: ['{registry.host}/{image}'], exists: true, onError: deny}}]"
    registries = f"registries: [{{host: '{registry.host}', plainHTTP: true{more}}}]"
    return policy_text(f"{required}\n{registries}", allow=f"['{registry.host}/{image}']")


def test_a_server_that_drains_renews_nothing(servers: Servers, registry: Registry) -> None:
    """Without the drain, three more renewals would be due in this time."""
    server = servers("--drain-seconds", "3", policy=policy(registry, "app:v1", ", ttlFound: 1s"))
    server.wait(lambda: len(registry.requests) >= 2)
    server.signal(signal.SIGTERM)
    server.wait(lambda: server.events("draining") != [])
    before = len(registry.requests)
    assert server.code() == 0
    assert len(registry.requests) <= before + 1, "the one that was under way"


def test_the_log_and_the_metrics_show_why_look_ups_fail(servers: Servers, registry: Registry) -> None:
    registry.code = 500
    server = servers(policy=policy(registry, "**"))
    server.wait(server.is_ready)
    failures = 5
    for number in range(failures + 2):
        server.post(review(pod(f"{registry.host}/app:{number}")))
    server.wait(lambda: server.events("lookup_breaker_opened") != [])
    (line,) = server.events("lookup_failed")
    assert (line["level"], line["host"]) == ("warning", registry.host)
    assert (line["cause"], line["suppressed"]) == ("the registry answered 500", 0)
    assert server.events("lookup_breaker_opened")[0]["host"] == registry.host
    assert len(registry.requests) == failures
    metric = f'gatekeeper_py_lookups_total{{host="{registry.host}",result="error"}} {failures + 2}.0'
    assert metric in server.get("/metrics")[1].decode().splitlines()
