"""No peer, namespace or check uses up a common limit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final, Self

import pytest
import pytest_asyncio
from aiohttp import web

from builders import exceptions_text, pod, policy_text, review
from exhaustion import probe
from exhaustion.target import Arena, Attempt, Target, policy_arena, watching_arena
from fakeapi import NAME, NAMESPACE, FakeApi, configmap, listed
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP
from gatekeeper_py.runtime.logs import MAX_LINES
from httpserving import serving
from wire import Answer, Connection, eventually, request

pytestmark = [
    pytest.mark.long,
    # An attack ends without a close_notify on any connection, as a real attacker would end it.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

SLOW_BODIES: Final = 320
SLOW_BYTES: Final = 200_000
LARGE_REVIEWS: Final = 15
REDIAL_SECONDS: Final = 0.5
STORM_SECONDS: Final = 3.0
RATE: Final = 20


def content(image: str = "registry.corp.io/web:1", *, padding: int = 0, namespace: str = "shop") -> bytes:
    """Return a review of a Pod, with an annotation of some size."""
    obj = pod(image)
    obj["metadata"]["annotations"] = {"padding": "x" * padding}
    return json.dumps(review(obj, namespace=namespace)).encode()


LARGE: Final = request(content(padding=322_000))


def allowed(answer: Answer) -> bool:
    return answer.status == 200 and answer.json()["response"]["allowed"]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]) -> Iterator[Arena]:
    yield from policy_arena(tmp_path_factory.mktemp("server"), attempts, policy_text())


class Known:
    """A client with one connection. It blocks, because the attackers keep the event loop busy."""

    def __init__(self, target: Target, address: str) -> None:
        plain = socket.create_connection(target.server.address("webhook"), 10, source_address=(address, 0))
        self._connection = target.trust.wrap_socket(plain, server_hostname="localhost")

    def asks(self, data: bytes) -> str:
        """Send a review. Return its answer if it was not approved, else an empty text."""
        answer = probe._ask(self._connection, data)
        approved = answer.startswith(b"HTTP/1.1 200 ") and b'"allowed":true' in answer
        return "" if approved else answer.decode("latin-1")

    def asks_slowly(self, data: bytes, times: int) -> list[str]:
        """Send a review some times, and return the first answer that did not approve it, if there is one."""
        for _ in range(times):
            problem = self.asks(data)
            if problem:
                return [problem]
            time.sleep(0.1)
        return []

    def close(self) -> None:
        self._connection.close()


class SlowBodies:
    """Connections from one address that send a part of a large body, and the rest byte by byte."""

    def __init__(self, target: Target) -> None:
        self.statuses: Counter[int] = Counter()
        self._target = target
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._attack()) for _ in range(SLOW_BODIES)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _attack(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, EOFError):
                await self._send(await self._target.connect(source="127.0.0.2"))
            await asyncio.sleep(REDIAL_SECONDS)

    async def _send(self, caller: Connection) -> None:
        caller.writer.write(LARGE[:SLOW_BYTES])
        answer = asyncio.create_task(caller.receive())
        try:
            while not self._over.is_set() and not answer.done():
                caller.writer.write(b"x")
                await asyncio.wait([answer], timeout=0.3)
            if answer.done():
                self.statuses[answer.result().status] += 1
        finally:
            answer.cancel()
            caller.abort()


@pytest.mark.parametrize("address", ["127.0.0.9", "127.0.0.2"], ids=["another-address", "same-address"])
async def test_slow_bodies_of_one_address_do_not_refuse_large_reviews(arena: Arena, address: str) -> None:
    """The API server has an established connection; behind a masquerading proxy it shares the address."""
    problems: list[str] = []
    statuses: Counter[int] = Counter()

    async def attack(target: Target) -> None:
        known = Known(target, address)
        for _ in range(50):
            assert known.asks(request(content())) == ""
        async with SlowBodies(target) as slow:
            await eventually(lambda: slow.statuses.total() > 0)
            problems.extend(await asyncio.to_thread(known.asks_slowly, LARGE, LARGE_REVIEWS))
        statuses.update(slow.statuses)
        known.close()

    await arena.target.attacked(f"slow-bodies-{address}", attack)
    assert set(statuses) <= {408, 503}
    assert problems == []


async def test_a_storm_of_denials_of_one_address_is_counted(arena: Arena) -> None:
    denied = request(content("quay.io/storm:1"))
    sent = 0

    async def storm(target: Target, end: float) -> None:
        nonlocal sent
        caller = await target.connect(source="127.0.0.2")
        while time.monotonic() < end:
            assert not allowed(await caller.ask(denied))
            sent += 1
        caller.abort()

    async def attack(target: Target) -> None:
        end = time.monotonic() + STORM_SECONDS
        storms = [asyncio.create_task(storm(target, end)) for _ in range(8)]
        other = await target.connect(source="127.0.0.9")
        await asyncio.sleep(STORM_SECONDS / 2)
        assert not allowed(await other.ask(request(content("quay.io/other:1"))))
        other.abort()
        await asyncio.gather(*storms)

    target = arena.target
    await target.attacked("storm-of-denials", attack)
    server = target.server

    def images() -> list[str]:
        return [line["images"][0]["image"] for line in server.events("review") if line["images"]]

    def suppressed() -> int:
        lines = server.events("denials_suppressed")
        return sum(line["count"] for line in lines if line["peer"] == "127.0.0.2")

    await eventually(lambda: images().count("quay.io/storm:1") + suppressed() == sent)
    assert images().count("quay.io/storm:1") <= MAX_LINES * (STORM_SECONDS + 2)
    assert "quay.io/other:1" in images()
    assert suppressed() > 0, f"only {sent} denials in {STORM_SECONDS} s"


class Emergency(FakeApi):
    """An API server whose break-glass document approves all images of a registry."""

    async def _list(self, asked: web.BaseRequest) -> web.StreamResponse:
        if asked.query["fieldSelector"] != f"metadata.name={BREAK_GLASS_CONFIGMAP}":
            return await super()._list(asked)
        until = datetime.now(UTC) + timedelta(days=1)
        document = exceptions_text(f"image: ghcr.io/**, until: {until:%Y-%m-%dT%H:%M:%SZ}, reason: fire")
        found = configmap({"exceptions.yaml": document}, self.version, name=BREAK_GLASS_CONFIGMAP)
        return web.Response(body=listed([found], self.version), content_type="application/json")


class TestEvidence:
    """A storm of denials in one namespace, behind the address of an API server that all tenants share."""

    @pytest_asyncio.fixture
    async def arena(self, tmp_path: Path, attempts: dict[str, Attempt]) -> AsyncIterator[Arena]:
        api = Emergency()
        await api.start()
        api.apply(policy_text("exceptions: [{source: break-glass, images: [ghcr.io/**], longest: 14d}]"))
        async for arena in watching_arena(api, tmp_path, attempts):
            yield arena
        await api.stop()

    async def test_a_storm_of_denials_in_one_namespace_hides_no_evidence(self, arena: Arena) -> None:
        denied = request(content("quay.io/storm:1", namespace="storm"))
        excepted = request(content("ghcr.io/fire:1"))
        quiet = request(content("quay.io/quiet:1", namespace="quiet"))
        bad = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {"policy.yaml": "mode: [", "mode": "off?"},
        }
        refused = json.dumps(review(bad, operation="UPDATE", namespace=NAMESPACE)).encode()
        sent = Counter[tuple[str, str, str]]()

        async def storm(target: Target, over: asyncio.Event) -> None:
            caller = await target.connect(source="127.0.0.2")
            while not over.is_set():
                assert not allowed(await caller.ask(denied))
                sent["validate", "storm", "denied"] += 1
            caller.abort()

        async def attack(target: Target) -> None:
            over = asyncio.Event()
            caller = await target.connect(source="127.0.0.2")
            storms = [asyncio.create_task(storm(target, over)) for _ in range(8)]
            try:
                await asyncio.sleep(1.0)
                for number in range(40):
                    assert allowed(await caller.ask(excepted))
                    sent["validate", "shop", "allowed"] += 1
                    if number % 2:
                        assert not allowed(await caller.ask(quiet))
                        sent["validate", "quiet", "denied"] += 1
                    await asyncio.sleep(0.05)
                answer = await caller.ask(request(refused, path="/validate-policy?timeout=10s"))
                assert answer.status == 200
                assert not answer.json()["response"]["allowed"]
                sent["policy", NAMESPACE, "denied"] += 1
            finally:
                over.set()
                await asyncio.gather(*storms)
            caller.abort()

        target = await asyncio.to_thread(lambda: arena.target)
        await target.attacked("storm-beside-evidence", attack)
        server = target.server

        def lines() -> Counter[tuple[str, str, str]]:
            found = server.events("review")
            return Counter((line["endpoint"], line["namespace"], line["verdict"]) for line in found)

        def suppressed() -> int:
            return sum(line["count"] for line in server.events("denials_suppressed"))

        storm_of = ("validate", "storm", "denied")
        await eventually(lambda: lines()[storm_of] + suppressed() == sent[storm_of])
        assert suppressed() > 0, f"only {sent} denials"
        assert lines()["validate", "shop", "allowed"] >= 40
        for each in sent.keys() - {storm_of}:
            assert lines()[each] == sent[each], each


class TestOneNamespace:
    """One namespace that needs many look-ups in a registry."""

    @pytest.fixture
    def registry(self) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Docker-Content-Digest", "sha256:" + "a" * 64)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None: ...

        with serving(Handler) as host:
            yield host

    @pytest.fixture
    def looking(self, tmp_path: Path, registry: str, attempts: dict[str, Attempt]) -> Iterator[Arena]:
        policy = tmp_path / "policy.yaml"
        settings = f"registries: [{{host: '{registry}', plainHTTP: true, rate: {RATE}, timeout: 5s}}]"
        rule = f"[registry.corp.io, {{image: '{registry}/**', verify: true, onError: deny}}]"
        policy.write_text(policy_text(settings, allow=rule))
        arena = Arena(tmp_path / "ca.crt", attempts, "--policy", str(policy))
        yield arena
        arena.close()

    async def test_it_does_not_use_up_the_rate_of_the_others(self, looking: Arena, registry: str) -> None:
        modest: list[Answer] = []

        async def greedy(target: Target, number: int, end: float) -> None:
            caller = await target.connect(source="127.0.0.2")
            while time.monotonic() < end:
                number += 1000
                images = [{"name": f"c{n}", "image": f"{registry}/greedy-{number}-{n}:1"} for n in range(200)]
                obj = {**pod("x"), "spec": {"containers": images}}
                data = json.dumps(review(obj, namespace="greedy")).encode()
                answer = await caller.ask(request(data, path="/validate-image?timeout=10s"))
                assert answer.status == 200
            caller.abort()

        async def attack(target: Target) -> None:
            end = time.monotonic() + 6.0
            floods = [asyncio.create_task(greedy(target, number, end)) for number in range(4)]
            await asyncio.sleep(2.0)  # the burst of the rate is used up, and its turns for seconds
            caller = await target.connect(source="127.0.0.9")
            for number in range(12):
                data = content(f"{registry}/modest-{number}:1", namespace="modest")
                modest.append(await caller.ask(request(data, path="/validate-image?timeout=10s")))
            caller.abort()
            await asyncio.gather(*floods)

        await looking.target.attacked("one-namespace-and-a-rate", attack)
        assert [answer for answer in modest if not allowed(answer)] == []
        assert modest != []


class TestOneCheck:
    """A check of the policy beside a change of it."""

    @pytest_asyncio.fixture
    async def api(self) -> AsyncIterator[FakeApi]:
        api = FakeApi()
        await api.start()
        api.apply(policy_text())
        yield api
        await api.stop()

    async def test_it_does_not_delay_the_change(
        self, api: FakeApi, tmp_path: Path, attempts: dict[str, Attempt]
    ) -> None:
        kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
        arguments = ["--configmap", f"{NAMESPACE}/{NAME}", "--kubeconfig", str(kubeconfig)]
        arena = Arena(tmp_path / "ca.crt", attempts, *arguments)
        rules = "".join(f"\n  - '*{number}*.io/a'" for number in range(30_000))
        obj = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {"policy.yaml": policy_text(allow=rules)},
        }
        data = json.dumps(review(obj, operation="UPDATE", namespace=NAMESPACE)).encode()
        live: list[float] = []

        async def attack(target: Target) -> None:
            loaded = len(target.server.events("policy_loaded"))
            caller = await target.connect(source="127.0.0.2")
            checking = asyncio.create_task(caller.ask(request(data, path="/validate-policy?timeout=10s")))
            await eventually(lambda: _checks(target) == 1)
            start = time.monotonic()
            api.apply(policy_text(allow="[registry.corp.io, quay.io]"))
            await eventually(lambda: len(target.server.events("policy_loaded")) > loaded)
            live.append(time.monotonic() - start)
            assert not checking.done(), "the check was over before the change was live"
            assert (await checking).status in {200, 503}
            caller.abort()

        target = await asyncio.to_thread(lambda: arena.target)
        try:
            await target.attacked("a-check-beside-a-change", attack)
        finally:
            await asyncio.to_thread(arena.close)
        if not attempts["a-check-beside-a-change"].is_busy:
            assert live[-1] < 1.0


def _checks(target: Target) -> int:
    """Return the number of children of the server: a check has one while it runs."""
    pid = target.server.process.pid
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
