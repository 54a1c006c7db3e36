"""A child process that dies is counted, logged and replaced after a pause; one that was ended is not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from gatekeeper_py.process.children import process
from gatekeeper_py.process.children.process import Cause, ChildError, ChildProcess
from support.recording import Counted, RecordingLog
from support.wire import eventually

ECHO = """
import os
while part := os.read(0, 1000):
    os.write(1, part)
"""
EXIT = "import sys; sys.exit('no module of that name')"


class World:
    """One child process with its observer and its log."""

    def __init__(self) -> None:
        self.log, self.counted = RecordingLog(), Counted()
        self.made: list[ChildProcess] = []

    def child(self, code: str, environ: Mapping[str, str] = os.environ) -> ChildProcess:
        made = ChildProcess(
            "echo",
            (sys.executable, "-c", code),
            log=self.log,
            observer=self.counted,
            longest_pause=0.4,
            environ=environ,
            jitter=lambda: 1.0,
        )
        self.made.append(made)
        return made


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    for child in made.made:
        await child.end()


async def failure(child: ChildProcess) -> ChildError:
    with pytest.raises(ChildError) as raised:
        await child.receive(100)
    await child.end()
    return raised.value


async def test_a_process_that_is_ended_has_not_died(world: World) -> None:
    child = world.child(ECHO)
    await child.start()
    await child.send(b"ping", 100)
    assert await child.receive(100) == b"ping"
    waiting = asyncio.create_task(failure(child))
    await asyncio.sleep(0)
    child.kill()
    await waiting
    assert child.pid is None
    assert (world.counted.runs, world.counted.deaths, world.log.lines) == ([True, False], [], [])
    assert not child.pauses


@pytest.mark.parametrize(
    ("code", "cause", "reason"),
    [
        pytest.param(EXIT, "died", "the echo process ended with code 1", id="exit"),
        pytest.param(
            "import os; os.kill(os.getpid(), 9)", "died", "the echo process was ended by SIGKILL", id="killed"
        ),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",
            "cpu",
            "the echo process used up its processor time",
            id="processor-time",
        ),
        pytest.param("import os; os._exit(77)", "memory", "the echo process used up its memory", id="memory"),
        pytest.param(
            "import os, time; os.write(1, b'\\0\\0\\0\\x65'); time.sleep(60)",
            "bug",
            "the echo process sent a frame of 101 bytes; the limit is 100",
            id="a-long-frame",
        ),
    ],
)
async def test_a_death_is_counted_and_logged_once(world: World, code: str, cause: Cause, reason: str) -> None:
    child = world.child(code)
    await child.start()
    problem = await failure(child)
    assert (problem.cause, str(problem)) == (cause, reason)
    assert (world.counted.runs, world.counted.deaths) == ([True, False], [cause])
    (line,) = world.log.named("child_failed")
    assert (line["child"], line["cause"], line["reason"]) == ("echo", cause, reason)
    assert ("no module" in line["stderr"]) == (code == EXIT)


async def test_a_process_that_dies_while_it_is_idle_is_counted(world: World) -> None:
    child = world.child(ECHO)
    await child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: child.has_ended)
    await child.start()
    assert child.pid not in {None, first}
    assert world.counted.deaths == ["died"]


async def test_the_pause_before_a_start_grows_until_the_process_works(world: World) -> None:
    child = world.child(EXIT)
    loop = asyncio.get_running_loop()
    for pause in (0.1, 0.2, 0.4, 0.4):
        due = child._not_before
        await child.start()
        started = loop.time()
        assert started >= due
        await failure(child)
        assert child.pauses
        assert child._not_before - loop.time() <= pause <= child._not_before - started
    child.worked()
    await child.start()
    await failure(child)
    assert child._not_before - loop.time() <= process.FIRST_PAUSE_SECONDS


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_message_to_a_process_that_has_ended_is_an_error(run: Callable[..., Any]) -> None:
    async def send() -> None:
        world = World()
        child = world.child(EXIT)
        await child.start()
        await eventually(lambda: child.has_ended)
        with pytest.raises(ChildError):
            await child.send(bytes(100_000), 200_000)
        with pytest.raises(ChildError):
            await child.receive(100)
        await child.end()

    run(send())
