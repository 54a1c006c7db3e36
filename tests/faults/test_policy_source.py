"""A real ``serve`` whose ConfigMap goes through everything it can, while reviews are asked of it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from builders import pod, policy_text, review
from gatekeeper_py.core import parse_policy
from server import Server
from sources.fakeapi import NAME, NAMESPACE, FakeApi
from wire import Connection, eventually, request

CORP, QUAY = "registry.corp.io", "quay.io"
POLICIES = {allowed: policy_text(allow=f"[{allowed}]") for allowed in (CORP, QUAY)}
REVISIONS = {parse_policy(text).revision: allowed for allowed, text in POLICIES.items()}


class Source:
    """A scripted API server, and a server that follows its ConfigMap."""

    def __init__(self, api: FakeApi, server: Server, ca: Path) -> None:
        self.api = api
        self.server = server
        self._trust = ssl.create_default_context(cafile=ca)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        connection = await Connection.open(*self.server.address("webhook"), self._trust)
        try:
            yield connection
        finally:
            await connection.close()

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.server.get("/policy")[1])
        return shown

    def refusals(self) -> int:
        return len(self.server.events("policy_refused"))


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    """Ready, with the policy that allows ``CORP`` only."""
    api, ca = FakeApi(), tmp_path / "ca.crt"
    await api.start()
    api.apply(POLICIES[CORP])
    kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
    server = Server(
        "--configmap", f"{NAMESPACE}/{NAME}", "--kubeconfig", str(kubeconfig), "--drain-seconds", "0",
        "--tls-self-signed", "--tls-ca-out", str(ca), "--listen", "127.0.0.1:0",
        "--health-listen", "127.0.0.1:0",
        ca=ca,
    )  # fmt: skip
    try:
        await eventually(lambda: len(server.events("policy_loaded")) == 1)
        yield Source(api, server, ca)
    finally:
        server.end()
        await api.stop()


class Asked:
    """Verdicts on a Pod with an image of either registry: one image is rejected, whichever policy holds."""

    def __init__(self) -> None:
        self.of: dict[str, int] = dict.fromkeys(POLICIES, 0)

    async def ask(self, connection: Connection, number: int) -> str:
        """The registry that is allowed. Few different images, so that verdicts are often remembered ones."""
        images = {registry: f"{registry}/team/app:{number % 7}" for registry in POLICIES}
        answer = await connection.ask(request(json.dumps(review(pod(*images.values()))).encode()))
        assert answer.status == 200
        response = answer.json()["response"]
        allowed = REVISIONS[response["auditAnnotations"]["policy"]]
        rejected = [image for registry, image in images.items() if registry != allowed]
        assert not response["allowed"]
        assert [response["auditAnnotations"]["rejected"]] == rejected
        self.of[allowed] += 1
        return allowed


@contextmanager
def stopping(*tasks: asyncio.Task[None]) -> Iterator[None]:
    """End these tasks afterwards; what they raised meanwhile is raised."""
    try:
        yield
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def test_while_policies_flap_each_review_is_judged_by_one_of_them(source: Source) -> None:
    """Fifty changes a second. A verdict of two policies, or one remembered from another, would show."""
    asked = Asked()

    async def ask_forever() -> None:
        async with source.connected() as connection:
            number = 0
            while True:
                await asked.ask(connection, number)
                number += 1

    tasks = [asyncio.create_task(ask_forever()) for _ in range(3)]
    with stopping(*tasks):
        for number in range(150):
            source.api.apply(POLICIES[CORP if number % 2 else QUAY])
            await asyncio.sleep(0.02)
        source.api.apply(POLICIES[QUAY])
        wanted = parse_policy(POLICIES[QUAY]).revision
        await eventually(lambda: source.shown()["revision"] == wanted)
    async with source.connected() as connection:
        assert await asked.ask(connection, 0) == QUAY
    assert min(asked.of.values()) > 20, "both policies were met often"
    assert source.refusals() == 0


BAD: list[Any] = [
    pytest.param(lambda api: api.apply(policy_text("colour: red\n")), "colour", id="a-field-unknown"),
    pytest.param(lambda api: api.apply("allow: [a"), "YAML", id="no-yaml"),
    pytest.param(lambda api: api.apply(""), "empty", id="empty"),
    pytest.param(lambda api: api.apply(POLICIES[CORP], mode="off"), "mode", id="mode-unknown"),
    pytest.param(lambda api: api.apply(None), "has no key policy.yaml", id="key-removed"),
    pytest.param(lambda api: api.delete(), "was deleted", id="deleted"),
    pytest.param(lambda api: api.apply("a: " + "[" * 300_000), "nesting depth", id="nested"),
    pytest.param(lambda api: api.apply("#" * (4 << 20)), "empty", id="4-mib-of-nothing"),
]


@pytest.mark.parametrize(("spoil", "said"), BAD)
async def test_a_bad_configmap_leaves_the_last_good_policy_serving(
    source: Source, spoil: Callable[[FakeApi], None], said: str
) -> None:
    asked, serving = Asked(), source.shown()
    async with source.connected() as connection:
        spoil(source.api)
        await eventually(lambda: source.refusals() == 1)
        assert await asked.ask(connection, 0) == CORP
        shown = source.shown()
        assert said in json.dumps(shown["refused"]["findings"])
        assert said in json.dumps(source.server.events("policy_refused")[0]["findings"])
        assert {**shown, "refused": None} == serving
        assert source.server.is_ready()
        source.api.apply(POLICIES[QUAY])
        await eventually(lambda: source.shown()["refused"] is None)
        assert await asked.ask(connection, 0) == QUAY


async def test_reviews_are_judged_by_the_old_policy_while_a_huge_one_compiles(source: Source) -> None:
    """A hundred thousand rules in 4 MiB of text, which is more than etcd would store."""
    rules = "".join(f"\n  - registry-{number}.corp.example/team-{number}/**" for number in range(100_000))
    text = policy_text(allow=f"{rules}\n  - {QUAY}")
    REVISIONS[parse_policy(text).revision] = QUAY
    asked = Asked()
    async with source.connected() as connection:
        source.api.apply(text)
        async with asyncio.timeout(90):
            while await asked.ask(connection, asked.of[CORP]) == CORP:
                pass
    assert asked.of[CORP] > 50
    assert source.shown()["counts"]["allow"] == 100_001
