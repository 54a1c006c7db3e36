"""The health listener: the answer of each path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CONTENT_TYPE_LATEST

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http.health import STUCK_SECONDS, Health, LoopWatch
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.settings import Address
from gatekeeper_py.webhook.metrics import Metrics
from support.served import families
from support.wire import Answer, Connection, request


class World:
    """The current problems, for the checks."""

    def __init__(self) -> None:
        self.wrong: dict[str, str] = {}
        self.port = 0

    async def get(self, path: str, method: str = "GET") -> Answer:
        connection = await Connection.open("127.0.0.1", self.port)
        try:
            await connection.send(request(path=path, method=method, headers=[]))
            return await connection.receive(head=method == "HEAD")
        finally:
            await connection.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    checks = ("policy", "certificate", "draining")
    health = Health(
        live={"loop": lambda: world.wrong.get("loop", "")},
        ready={name: lambda name=name: world.wrong.get(name, "") for name in checks},  # type: ignore[misc]
        exposition=Metrics(LivePolicy(), CacheCounts()).exposition,
        policy=lambda: {"mode": None},
        draining=lambda: "draining" in world.wrong,
    )
    listener = Listener(health.handle, max_connections=10)
    world.port = listener.bind(Address("127.0.0.1", 0)).port
    yield world
    await listener.close(0.5)


async def test_while_draining_every_answer_closes_its_connection(world: World) -> None:
    assert "connection" not in (await world.get("/readyz")).headers
    world.wrong["draining"] = "draining"
    for path in ("/readyz", "/livez", "/metrics", "/nowhere"):
        assert (await world.get(path)).headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/policy", "/", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_no_answer_names_the_versions_of_python_and_aiohttp(
    world: World, path: str, method: str
) -> None:
    assert (await world.get(path, method)).headers["server"] == "gatekeeper-py"


async def test_ready_and_live_list_their_checks(world: World) -> None:
    ready, live = await world.get("/readyz"), await world.get("/livez")
    assert (ready.status, live.status) == (200, 200)
    assert ready.json() == {"checks": {"policy": "ok", "certificate": "ok", "draining": "ok"}}
    assert live.json() == {"checks": {"loop": "ok"}}


@pytest.mark.parametrize("check", ["policy", "certificate", "draining"])
async def test_one_check_that_fails_makes_it_not_ready_but_live(world: World, check: str) -> None:
    world.wrong[check] = "something is wrong"
    ready = await world.get("/readyz")
    assert ready.status == 503
    expected = {"policy": "ok", "certificate": "ok", "draining": "ok", check: "something is wrong"}
    assert ready.json() == {"error": "not ready", "checks": expected}
    assert (await world.get("/livez")).status == 200


async def test_a_loop_that_stands_still_makes_it_not_live(world: World) -> None:
    world.wrong["loop"] = "stuck"
    live = await world.get("/livez")
    assert (live.status, live.json()) == (503, {"error": "not live", "checks": {"loop": "stuck"}})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/", 404, id="root"),
        pytest.param("GET", "/healthz", 404, id="other"),
        pytest.param("POST", "/validate-image", 404, id="the-webhook-is-elsewhere"),
        pytest.param("POST", "/readyz", 405, id="post"),
        pytest.param("DELETE", "/policy", 405, id="delete"),
    ],
)
async def test_other_paths_and_methods(world: World, method: str, path: str, status: int) -> None:
    answer = await world.get(path, method)
    assert answer.status == status
    assert "error" in answer.json()
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/policy"])
async def test_head_and_queries_are_answered(world: World, path: str) -> None:
    assert (await world.get(path, "HEAD")).status == 200
    assert (await world.get(f"{path}?verbose=1")).status == 200


async def test_metrics_are_what_prometheus_reads(world: World) -> None:
    answer = await world.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    assert "gatekeeper_py_connections" in families(answer.body)


async def test_metrics_are_rendered_once_for_all_requests_of_a_turn_and_are_never_old() -> None:
    rendered: list[bytes] = []

    def render() -> bytes:
        rendered.append(b"%d" % len(rendered))
        return rendered[-1]

    health = Health(live={}, ready={}, exposition=render)

    async def get() -> object:
        response = await health.handle(make_mocked_request("GET", "/metrics"))
        assert isinstance(response, web.Response)
        return response.body

    assert await asyncio.gather(*(get() for _ in range(100))) == [b"0"] * 100
    for number in (b"1", b"2"):
        await asyncio.sleep(0)
        assert await get() == number


async def test_a_client_hello_on_the_plain_port_gets_400(world: World) -> None:
    connection = await Connection.open("127.0.0.1", world.port)
    answer = await connection.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500)
    assert answer.status == 400
    assert await connection.ended()
    await connection.close()


def test_a_loop_is_stuck_after_30_seconds_without_a_turn() -> None:
    clock = [100.0]
    watch = LoopWatch(lambda _seconds: None, monotonic=lambda: clock[0])
    assert watch.problem() == ""
    clock[0] += STUCK_SECONDS
    assert watch.problem() == ""
    clock[0] += 0.1
    assert "30 s" in watch.problem()


async def test_lag_is_how_late_a_timer_runs() -> None:
    clock: list[float] = [0.0]
    lags: list[float] = []

    async def sleep(seconds: float) -> None:
        clock[0] += seconds + 0.25
        if len(lags) == 2:
            raise asyncio.CancelledError

    watch = LoopWatch(lags.append, monotonic=lambda: clock[0], sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    assert lags == [0.25, 0.25]
    assert watch.problem() == ""
