"""A stalled event loop: the metric, the answer of ``/livez``, and when a kubelet acts on it.

``/livez`` is answered by the loop that it is about. While the loop stands nobody answers, and the
kubelet's probe times out; several in a row, by the shipped Deployment's numbers, are what restarts
the process. A 503 is for the other case: the loop answers, and its timers have not run for 30 s.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop
import yaml

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http.health import LAG_INTERVAL_SECONDS, STUCK_SECONDS, Health, LoopWatch
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.settings import Address
from gatekeeper_py.webhook.metrics import Metrics
from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import Server, ask, ready_server
from support.wire import Answer, Connection, eventually, request

DEPLOYMENT: Final = Path(__file__).parents[2] / "k8s" / "base" / "deployment.yaml"
GET: Final = request(path="/livez", method="GET", headers=[])


class World:
    """A health listener whose loop watch has a clock of its own, which can be ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.timers_run = True
        self.lags: list[float] = []
        self.metrics = Metrics(LivePolicy(), CacheCounts())
        self.watch = LoopWatch(self._lag, monotonic=self.now, sleep=self._sleep)
        health = Health(live={"loop": self.watch.problem}, ready={}, exposition=self.metrics.exposition)
        self.listener = Listener(health.handle, max_connections=10)
        self.port = self.listener.bind(Address("127.0.0.1", 0)).port

    def now(self) -> float:
        return time.monotonic() + self.ahead

    def _lag(self, seconds: float) -> None:
        self.metrics.loop_lag(seconds)
        value = self.metrics.registry.get_sample_value("gatekeeper_py_event_loop_lag_seconds")
        assert value == seconds
        self.lags.append(seconds)

    async def _sleep(self, seconds: float) -> None:
        if not self.timers_run:
            await asyncio.Event().wait()
        await asyncio.sleep(seconds)


def on_its_loop(story: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Return a test that runs a function with a new ``World`` on the event loop of the product."""

    async def run() -> None:
        world = World()
        try:
            await story(world)
        finally:
            await world.listener.close(0.5)

    def test() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    return test


async def livez(connection: Connection) -> Answer:
    return await connection.ask(GET)


@on_its_loop
async def test_the_metric_grows_when_the_loop_is_blocked(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(world.watch.run())
        await eventually(lambda: world.lags != [])
        before = len(world.lags)
        time.sleep(LAG_INTERVAL_SECONDS + 1.0)  # noqa: ASYNC251 - the fault: nothing else can run
        await eventually(lambda: len(world.lags) > before)
        assert max(world.lags[before:]) >= 0.9
        running.cancel()


@on_its_loop
async def test_a_stall_that_has_ended_causes_no_restart(world: World) -> None:
    """A probe that arrives during the stall is answered after it.

    The order of two due callbacks is up to the event loop, so this answer may still report the stall. The
    next one must not.
    """
    connection = await Connection.open("127.0.0.1", world.port)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(world.watch.run())
        await eventually(lambda: world.lags != [])
        before = len(world.lags)
        await connection.send(GET)
        time.sleep(LAG_INTERVAL_SECONDS)  # noqa: ASYNC251 - nothing can run, and all that was due still is
        world.ahead = 80.0
        assert (await connection.receive()).status in {200, 503}
        await eventually(lambda: len(world.lags) > before)
        assert max(world.lags) > STUCK_SECONDS
        assert (await livez(connection)).status == 200
        running.cancel()
    await connection.close()


@on_its_loop
async def test_a_loop_without_timers_is_not_live_after_30_seconds(world: World) -> None:
    world.timers_run = False
    connection = await Connection.open("127.0.0.1", world.port)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(world.watch.run())
        assert (await livez(connection)).json() == {"checks": {"loop": "ok"}}
        world.ahead = STUCK_SECONDS / 2
        assert (await livez(connection)).status == 200
        world.ahead = STUCK_SECONDS + 1
        stuck = await livez(connection)
        assert stuck.status == 503
        assert "has not turned" in stuck.json()["checks"]["loop"]
        running.cancel()
    await connection.close()


def probe(name: str) -> dict[str, Any]:
    (deployment,) = yaml.safe_load_all(DEPLOYMENT.read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container[name]
    return found


def test_the_shipped_probe_tolerates_a_stall_of_30_seconds() -> None:
    """A restart takes six timeouts, ten seconds apart: longer than the stall that ``/livez`` reports."""
    liveness = probe("livenessProbe")
    assert liveness["httpGet"]["path"] == "/livez"
    least = (liveness["failureThreshold"] - 1) * liveness["periodSeconds"] + liveness["timeoutSeconds"]
    assert least > STUCK_SECONDS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with ready_server(tmp_path, policy_text()) as it:
        yield it


def test_a_frozen_process_continues_after_it_resumes(server: Server) -> None:
    """A node that swaps freezes a process. Afterwards it answers open connections and reports the lag."""
    document = review(pod("registry.corp.io/web:1"))

    def lag() -> float:
        return server.metric("event_loop_lag_seconds")

    connection = server.connect()
    try:
        assert ask(connection, document)[0] == 200

        def seen_after_another_stop() -> bool:
            """Stop the loop again. The gauge shows only the last turn, so a busy machine may miss the lag."""
            server.signal(signal.SIGSTOP)
            time.sleep(1.5)
            server.signal(signal.SIGCONT)
            end = time.monotonic() + LAG_INTERVAL_SECONDS
            while time.monotonic() < end:
                if lag() >= 0.5:
                    return True
            return False

        server.wait(seen_after_another_stop)
        status, body = ask(connection, document)
        assert status == 200
        assert check_response(body, document, "validate").allowed
    finally:
        connection.close()
    assert server.get("/livez")[0] == 200
    server.wait(lambda: lag() < 0.5)
