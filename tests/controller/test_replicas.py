"""The controller sends a review to a replica over real TLS, as an API server does."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gatekeeper_py.cluster.issuing import issue
from gatekeeper_py.controller.certificates import KeyPair
from gatekeeper_py.controller.replicas import PROBE_UID, ProbeResult, ReplicaAddress, addresses, probe

NAME = "gk.ns.svc"
MADE = issue((NAME,), datetime.now(UTC), timedelta(days=1))
FINGERPRINT = KeyPair(certificate=MADE.leaf, key=MADE.key).fingerprint
VERDICT = {"response": {"uid": PROBE_UID, "allowed": True}}


class Replica:
    """A replica that answers every review with a given response."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = VERDICT
        self.hosts: list[str | None] = []
        self.port = 0

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.hosts.append(request.headers.get("Host"))
        review = orjson.loads(await request.read())
        assert review["request"]["operation"] == "DELETE"
        body = self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)
        return web.Response(status=self.status, body=body, headers={"Location": "/elsewhere"})


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    (tmp_path / "pair.pem").write_bytes(MADE.leaf + MADE.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    replica = Replica()
    runner = web.ServerRunner(web.Server(replica.handle), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    replica.port = runner.addresses[0][1]
    yield replica
    await runner.cleanup()


async def probed(replica: Replica, *, name: str = NAME, bundle: bytes = MADE.ca) -> ProbeResult:
    return await probe("127.0.0.1", replica.port, server_name=name, bundle=bundle)


async def test_a_replica_that_answers(replica: Replica) -> None:
    """The controller knows the leaf even if the complete response arrives at once."""
    assert await probed(replica) == ProbeResult(fingerprint=FINGERPRINT, answered=True)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(503, VERDICT, id="overloaded"),
        pytest.param(302, VERDICT, id="redirect"),
        pytest.param(200, {"response": {"uid": "another", "allowed": True}}, id="another-uid"),
        pytest.param(200, {"response": {"uid": PROBE_UID, "allowed": False}}, id="refuses-a-delete"),
        pytest.param(200, {"response": {"uid": PROBE_UID}}, id="no-verdict"),
        pytest.param(200, {"response": None}, id="no-response"),
        pytest.param(200, [], id="a-list"),
        pytest.param(200, b"<html>", id="not-json"),
    ],
)
async def test_a_replica_that_does_not_judge(replica: Replica, status: int, body: Any) -> None:
    replica.status, replica.body = status, body
    answer = await probed(replica)
    assert answer == ProbeResult(fingerprint=FINGERPRINT, problem=f"it answered {status} without a verdict")
    assert len(replica.hosts) == 1


@pytest.mark.parametrize(
    ("name", "bundle"),
    [
        pytest.param(NAME, issue((NAME,), datetime.now(UTC), timedelta(days=1)).ca, id="another-authority"),
        pytest.param("other.ns.svc", MADE.ca, id="another-name"),
    ],
)
async def test_a_leaf_that_is_not_trusted(replica: Replica, name: str, bundle: bytes) -> None:
    answer = await probed(replica, name=name, bundle=bundle)
    assert (answer.untrusted, answer.answered, answer.fingerprint) == (True, False, None)
    assert "certificate verify failed" in answer.problem
    assert replica.hosts == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_unreachable_replica_is_a_problem(host: str) -> None:
    answer = await probe(host, 1, server_name=NAME, bundle=MADE.ca)
    assert (answer.untrusted, answer.answered) == (False, False)
    assert answer.problem


def test_endpoints_of_every_state() -> None:
    ports = [{"name": "health", "port": 8080}, {"name": "webhook", "port": 8443}]
    slices = {
        "items": [
            {
                "ports": ports,
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "targetRef": {"uid": "a"}, "conditions": {"ready": False}},
                    {"addresses": ["10.0.0.2"], "targetRef": {"name": "b"}},
                    {"addresses": ["10.0.0.3"], "conditions": {"terminating": True}},
                    {"addresses": None, "conditions": None},
                ],
            },
            {
                "addressType": "IPv6",
                "ports": ports,
                "endpoints": [{"addresses": ["2001:db8::1"], "targetRef": {"uid": "a"}}],
            },
            {"ports": [{"name": "webhook"}], "endpoints": [{"addresses": ["10.0.0.9"]}]},
            {"ports": None, "endpoints": None},
        ]
    }
    assert list(addresses(slices, "webhook")) == [
        ReplicaAddress(host="10.0.0.1", port=8443, replica="a"),
        ReplicaAddress(host="10.0.0.2", port=8443, replica="b"),
        ReplicaAddress(host="10.0.0.3", port=8443, replica="10.0.0.3", leaving=True),
        ReplicaAddress(host="2001:db8::1", port=8443, replica="a"),
    ]
    assert list(addresses({}, "webhook")) == []
