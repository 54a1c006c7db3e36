"""No peer, namespace or check uses up a common limit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final, Self

import pytest
import pytest_asyncio
from aiohttp import web

from exhaustion import probe
from exhaustion.target import Arena, Attempt, Target, policy_arena, watching_arena
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.process.logs import MAX_LINES
from support.builders import exceptions_text, pod, policy_text, review
from support.fakeapi import NAME, NAMESPACE, FakeApi, configmap, listed
from support.httpserving import serving
from support.wire import Answer, Connection, eventually, request

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
        settings = f"registries: [{{host: '{registry}', plainHTTP: true, rate: {RATE}, timeout: 5s}}]\n"
        require = f"require: [{{images: ['{registry}/**'], exists: true, onError: deny}}]\n"
        policy.write_text(policy_text(settings + require, allow=f"[registry.corp.io, '{registry}']"))
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

    async def test_invented_namespaces_of_a_stranger_use_up_no_look_up_of_a_peer(
        self, looking: Arena, registry: str
    ) -> None:
        """Forty of them, one with the name of the victim's namespace; each review needs a new image."""
        found: list[Answer] = []
        refused = 0

        async def forge(target: Target, name: str, end: float) -> None:
            nonlocal refused
            caller, number = await target.connect(source="127.0.0.2"), 0
            while time.monotonic() < end:
                number += 1
                data = content(f"{registry}/{name}-{number}:1", namespace=name)
                refused += not allowed(await caller.ask(request(data, path="/validate-image?timeout=2s")))
            caller.abort()

        async def attack(target: Target) -> None:
            end = time.monotonic() + 6.0
            names = ["victim", *(f"forged-{number}" for number in range(39))]
            floods = [asyncio.create_task(forge(target, name, end)) for name in names]
            await asyncio.sleep(2.0)  # the burst of the rate is used up
            caller = await target.connect(source="127.0.0.9")
            for number in range(12):
                data = content(f"{registry}/mine-{number}:1", namespace="victim")
                found.append(await caller.ask(request(data, path="/validate-image?timeout=2s")))
            caller.abort()
            await asyncio.gather(*floods)

        await looking.target.attacked("invented-namespaces-and-a-rate", attack)
        assert [answer for answer in found if not allowed(answer)] == []
        assert refused > 0, "the stranger did not use up the rate"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    await api.start()
    api.apply(policy_text("exceptions: [{source: namespace, images: [quay.io/**], longest: 14d}]\n"))
    yield api
    await api.stop()


@pytest_asyncio.fixture
async def guarding(api: FakeApi, tmp_path: Path, attempts: dict[str, Attempt]) -> AsyncIterator[Arena]:
    """Return an arena whose server follows the ConfigMap of ``api``."""
    async for arena in watching_arena(api, tmp_path, attempts):
        yield arena


COSTLY: Final = policy_text(allow="".join(f"\n  - '*{number}*.io/a'" for number in range(30_000)))
"""A policy whose check takes seconds."""

UNTIL: Final = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"


def changed_policy(text: str, query: str = "?timeout=10s") -> bytes:
    """Return a request to check a change of the policy."""
    return _changed({"policy.yaml": text}, NAME, NAMESPACE, query)


def changed_exceptions(namespace: str, entries: int, number: int) -> bytes:
    """Return a request to check exceptions of a namespace."""
    many = (f"image: quay.io/a/{each}, until: {UNTIL}, reason: x" for each in range(entries))
    text = f"# {number}\n{exceptions_text(*many)}"
    return _changed({"exceptions.yaml": text}, EXCEPTIONS_CONFIGMAP, namespace, "?timeout=5s")


def _changed(data: dict[str, str], name: str, namespace: str, query: str) -> bytes:
    metadata = {"name": name, "namespace": namespace}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    content = json.dumps(review(obj, operation="UPDATE", namespace=namespace)).encode()
    return request(content, path=f"/validate-policy{query}")


async def repeat(target: Target, data: bytes, address: str, good: int, end: float) -> Counter[int]:
    """Send good reviews, then one request as fast as it is answered. Count the statuses."""
    statuses: Counter[int] = Counter()
    caller = await target.connect(source=address)
    for _ in range(good):
        assert allowed(await caller.ask(request(content())))
    while time.monotonic() < end:
        statuses[(await caller.ask(data)).status] += 1
    caller.abort()
    return statuses


class TestChecks:
    """While the policy guard is busy, the API server admits changes. So nobody may keep it busy."""

    SECONDS: Final = 16.0
    PERIOD_SECONDS: Final = 2.5
    WAIT_SECONDS: Final = 2.0

    async def changes(
        self, target: Target, address: str, good: int, make: Callable[[int], bytes], end: float
    ) -> tuple[Counter[int], float]:
        """Change something again and again. Return the statuses of the checks and the longest wait."""
        statuses: Counter[int] = Counter()
        worst, number = 0.0, 0
        caller = await target.connect(source=address)
        for _ in range(good):
            assert allowed(await caller.ask(request(content())))
        while time.monotonic() < end:
            number += 1
            start = time.monotonic()
            statuses[(await caller.ask(make(number))).status] += 1
            worst = max(worst, time.monotonic() - start)
            await asyncio.sleep(self.PERIOD_SECONDS)
        caller.abort()
        return statuses, worst

    @pytest.mark.parametrize("addresses", [1, 8])
    async def test_strangers_do_not_delay_the_writer_of_the_policy(
        self, guarding: Arena, attempts: dict[str, Attempt], addresses: int
    ) -> None:
        """One of the strangers sent some good reviews first."""
        found: list[tuple[Counter[int], float]] = []
        refused: Counter[int] = Counter()

        def small(number: int) -> bytes:
            return changed_policy(policy_text(allow=f"[registry.corp.io, quay.io/{number}]"), "?timeout=5s")

        async def attack(target: Target) -> None:
            end = time.monotonic() + self.SECONDS
            floods = [
                asyncio.create_task(
                    repeat(target, changed_policy(COSTLY), f"127.0.0.{2 + each}", 20 * (each == 0), end)
                )
                for each in range(addresses)
            ]
            await asyncio.sleep(1.0)
            found.append(await self.changes(target, "127.0.0.20", 500, small, end))
            for each in await asyncio.gather(*floods):
                refused.update(each)

        name = f"costly-policies-of-{addresses}-strangers"
        await guarding.target.attacked(name, attack)
        statuses, worst = found[-1]
        assert set(refused) <= {200, 503}
        assert statuses[200] > 0
        if not attempts[name].is_busy:
            assert set(statuses) == {200}
            assert worst < self.WAIT_SECONDS

    async def test_tenants_do_not_delay_each_other_or_the_policy(
        self, guarding: Arena, attempts: dict[str, Attempt]
    ) -> None:
        """All requests arrive from one address, that of an API server."""
        found: list[tuple[Counter[int], float]] = []

        def quiet(number: int) -> bytes:
            return changed_exceptions("quiet", 2, number)

        def small(number: int) -> bytes:
            return changed_policy(policy_text(allow=f"[registry.corp.io, quay.io/{number}]"), "?timeout=5s")

        async def attack(target: Target) -> None:
            end = time.monotonic() + self.SECONDS
            floods = [
                asyncio.create_task(
                    repeat(target, changed_exceptions(f"noisy-{each}", 900, each), "127.0.0.20", 50, end)
                )
                for each in range(4)
                for _ in range(4)
            ]
            await asyncio.sleep(1.0)
            found.extend(
                await asyncio.gather(
                    *(self.changes(target, "127.0.0.20", 50, make, end) for make in (quiet, small))
                )
            )
            await asyncio.gather(*floods)

        name = "checks-of-noisy-tenants"
        await guarding.target.attacked(name, attack)
        assert all(statuses[200] > 0 for statuses, _ in found[-2:])
        if not attempts[name].is_busy:
            assert [set(statuses) for statuses, _ in found[-2:]] == [{200}, {200}]
            assert max(worst for _, worst in found[-2:]) < self.WAIT_SECONDS

    async def test_a_check_does_not_delay_a_change_of_the_policy(
        self, api: FakeApi, guarding: Arena, attempts: dict[str, Attempt]
    ) -> None:
        live: list[float] = []

        async def attack(target: Target) -> None:
            loaded = len(target.server.events("policy_loaded"))
            caller = await target.connect(source="127.0.0.2")
            checking = asyncio.create_task(caller.ask(changed_policy(COSTLY)))
            await eventually(lambda: _checks(target) == 1)
            start = time.monotonic()
            api.apply(policy_text(allow="[registry.corp.io, quay.io]"))
            await eventually(lambda: len(target.server.events("policy_loaded")) > loaded)
            live.append(time.monotonic() - start)
            assert not checking.done(), "the check was over before the change was live"
            assert (await checking).status in {200, 503}
            caller.abort()

        await guarding.target.attacked("a-check-beside-a-change", attack)
        if not attempts["a-check-beside-a-change"].is_busy:
            assert live[-1] < 1.0


def _checks(target: Target) -> int:
    """Return the number of children of the server: a check has one while it runs."""
    pid = target.server.process.pid
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
