"""A hanging registry delays only the reviews that need it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from gatekeeper_py.registry.lookups import MAX_WAITING
from gatekeeper_py.registry.pacing import MAX_CONCURRENT, RESERVED
from registries.distribution import Registry, start_registry
from registries.hanging import Hanging, hanging
from registries.looking import Looking, looking
from support.builders import pod, review
from support.server import ask

TOO_MANY = 10
NAMED = "registry.corp.example/team/app:v1"


@dataclass(frozen=True)
class Site(Looking):
    """A server, a registry that hangs, and a registry that works."""

    stuck: Hanging
    working: Registry


@pytest.fixture
def site(tmp_path: Path, ca: trustme.CA) -> Iterator[Site]:
    working = start_registry(tmp_path / "working", ca, auth={}, authorization=lambda _: "", tls=False)
    try:
        with hanging() as stuck:
            policy = f"""mode: enforce
allow: ["{stuck.host}/", "{working.host}/", registry.corp.example]
require:
  - {{images: ["{stuck.host}/", "{working.host}/"], exists: true, onError: deny}}
registries:
  - {{host: "{stuck.host}", plainHTTP: true, timeout: 5s, rate: 1000}}
  - {{host: "{working.host}", plainHTTP: true, timeout: 5s}}
"""
            with looking(tmp_path, policy, {"config.json": b"{}"}) as server:
                yield Site(server.server, server.config, stuck, working)
    finally:
        working.stop()


def test_a_registry_that_hangs_holds_up_no_other_review(site: Site) -> None:
    site.working.push("team/app", "v1")
    server = site.server
    answers: list[str] = []
    """The messages for the reviews that need the hanging registry, in the order of the answers."""

    def needs_the_registry(number: int, connection: Any) -> None:
        body = ask(connection, review(pod(f"{site.stuck.host}/team/app:{number}")))[1]
        answers.append(json.loads(body)["response"]["status"]["message"])

    connections = [server.connect() for _ in range(MAX_WAITING + TOO_MANY)]
    other = server.connect()
    for connection in (*connections, other):
        connection.connect()  # so that the handshakes are not measured
    threads = [
        threading.Thread(target=needs_the_registry, args=each, daemon=True) for each in enumerate(connections)
    ]
    for thread in threads:
        thread.start()
    server.wait(lambda: len(answers) == TOO_MANY)
    assert all(f"more than {MAX_WAITING} reviews wait for registries" in answer for answer in answers)
    server.wait(lambda: len(site.stuck.request_lines) >= 5)

    def message(image: str) -> str:
        status, body = ask(other, review(pod(image)))
        assert status == 200
        text: str = json.loads(body)["response"].get("status", {}).get("message", "")
        return text

    for _ in range(50):
        assert message(NAMED) == ""
        assert "matches no rule" in message("quay.io/team/app:v1")
    assert len(answers) == TOO_MANY  # reviews that need the registry still wait
    for thread in threads:
        thread.join()
    for connection in (*connections, other):
        connection.close()
    assert len(answers) == MAX_WAITING + TOO_MANY
    assert all("(unverified)" in answer for answer in answers)
    # The requests last a little longer than the reviews.
    server.wait(lambda: site.metric(f'gatekeeper_py_lookup_breaker_open{{host="{site.stuck.host}"}}') == 1)
    assert site.metric('gatekeeper_py_http_errors_total{code="5') == 0


def test_a_registry_that_hangs_leaves_connections_for_others(site: Site) -> None:
    """One Pod needs more images of a hanging repository than may be looked up there at the same time."""
    site.working.push("team/app", "v1")
    server = site.server
    images = [f"{site.stuck.host}/team/app:{number}" for number in range(40)]
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(json.loads(server.post(review(pod(*images)))[1])["response"])
    )
    waiting.start()
    server.wait(lambda: len(site.stuck.request_lines) >= MAX_CONCURRENT - 2 * RESERVED)
    assert site.refusal(f"{site.working.host}/team/app:v1") == ""
    assert "does not exist" in site.refusal(f"{site.working.host}/team/app:v2")
    assert answers == []
    waiting.join()
    assert not answers[0]["allowed"]
