"""The parser process: its results, its limits, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission.radius import Admitted, Radius, Ratio
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.live.parser import process
from gatekeeper_py.live.parser.process import (
    COMMAND,
    Fetch,
    Interrupted,
    Judged,
    Limits,
    Parser,
    ParserError,
    limits_for,
)
from gatekeeper_py.process.children.process import INHERITED
from gatekeeper_py.webhook.recent import MAX_IMAGES
from support.builders import INSTANT, exceptions_text, policy_text
from support.processes import children, runs
from support.recording import Counted, RecordingLog
from support.wire import eventually

GOOD = policy_text()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")


def rules(number: int) -> str:
    return policy_text(allow="".join(f"\n  - r{i}.corp.io/team/**" for i in range(number)))


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


SCRIPTED = """
import sys
from gatekeeper_py.live.parser import program
from gatekeeper_py.live.parser.messages import Linted

usual = program.judge

def judge(job):
    if not job.text.startswith(b"#!"):
        yield from usual(job)
    else:
        exec(job.text)
        yield Linted(())

program.judge = judge
program.main()
"""
"""The parser process, except that it executes documents that begin with ``#!``."""


def command(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, str(os.getpid()))


def script(code: str) -> str:
    return "#!\n" + textwrap.dedent(code)


SLEEP = script("import time; time.sleep(60)")


def limits(
    *, seconds: float = 60.0, cpu_seconds: int = 60, memory_bytes: int = 2**28
) -> Callable[[int], Limits]:
    return lambda _size: Limits(seconds=seconds, cpu_seconds=cpu_seconds, memory_bytes=memory_bytes)


class World:
    """A parser with its log and the documents that it sent."""

    def __init__(self, **options: Any) -> None:
        self.log = RecordingLog()
        self.parser = Parser(log=self.log, observer=Counted(), **options)
        self.documents: list[PolicyDocument] = []

    async def judge(self, text: str, mode: str | None = None, **options: Any) -> Judged:
        async with self.parser.turn():
            return await self.parser.judge(text, mode, INSTANT, **options)

    async def load(self, text: str) -> Judged:
        async def keep(fetch: Fetch) -> None:
            self.documents.append(await fetch())

        return await self.judge(text, on_accepted=keep)

    async def failure(self, text: str = GOOD, **options: Any) -> ParserError:
        with pytest.raises(ParserError) as raised:
            await self.judge(text, **options)
        return raised.value

    @property
    def pid(self) -> int:
        assert self.parser.pid is not None
        return self.parser.pid


Make = Callable[..., World]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Return a function that makes worlds; their processes end with the test."""
    worlds: list[World] = []

    def build(**options: Any) -> World:
        worlds.append(World(**options))
        return worlds[-1]

    yield build
    for world in worlds:
        await world.parser.close()
    assert children(os.getpid()) == []


@pytest.fixture
async def world(make: Make) -> World:
    return make()


@pytest.fixture
async def scripted(make: Make) -> World:
    return make(command=command(SCRIPTED))


SERVER = """
import asyncio, os, sys
from datetime import UTC, datetime
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.live.parser.process import Parser
from gatekeeper_py.webhook.metrics import Metrics

async def main():
    command = (sys.executable, "-c", sys.argv[1], str(os.getpid()))
    parser = Parser(log=None, observer=Metrics(LivePolicy(), CacheCounts()), command=command)
    async with parser.turn():
        judging = asyncio.create_task(parser.judge(sys.argv[2], None, datetime.now(UTC)))
        while parser.pid is None:
            await asyncio.sleep(0.01)
        print(parser.pid, flush=True)
        await judging
        await asyncio.sleep(60)

asyncio.run(main())
"""


def wait_for(condition: Callable[[], bool]) -> None:
    """Do the same as ``eventually``, without an event loop."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def longest(host: str) -> tuple[tuple[Admitted, ...], ...]:
    """Return as many admitted images as a server knows, each as long as a runtime can pull."""
    suffix = f":{'v' * 128}@sha256:{'0' * 64}"
    return (tuple(Admitted("shop", f"{host}/{number:0>230}{suffix}", 0) for number in range(MAX_IMAGES)),)


async def test_the_most_admitted_images_are_judged(world: World) -> None:
    report = await world.judge(GOOD, admitted=longest("registry.corp.io"))
    assert report.radius == Radius(0, MAX_IMAGES, (), Ratio(0, MAX_IMAGES), complete=True)
    assert (await world.judge(policy_text("x: y"), admitted=longest("a.io"))).radius is None
    assert (await world.judge(GOOD)).radius is None


async def test_the_worst_images_are_judged_within_the_budget_of_a_check(world: World) -> None:
    """Each image takes up to a millisecond, because it could match hundreds of wildcards."""
    rules = "".join(f"\n  - 'registry.corp.io/*0*{number}*x'" for number in range(319))
    report = await world.judge(policy_text(allow=rules), admitted=longest("registry.corp.io"), seconds=60)
    assert report.radius is not None
    # How many of them the budget is enough for depends on the machine.
    assert 0 < report.radius.rejected == report.radius.known <= MAX_IMAGES
    assert report.radius.complete == (report.radius.known == MAX_IMAGES)


async def test_a_good_document_is_accepted_with_its_findings(world: World) -> None:
    report = await world.judge(GOOD)
    assert report.accepted
    assert report.findings == lint(parse_policy(GOOD), INSTANT)


async def test_a_bad_document_is_refused_with_its_findings(world: World) -> None:
    report = await world.judge(policy_text("colour: red\n", allow="[nginx]"), "audit")
    assert not report.accepted
    assert {finding.path for finding in report.findings} == {"colour", "allow[0]", "mode"}


async def test_the_parser_returns_the_complete_document(world: World) -> None:
    text = rules(3000)
    assert (await world.load(text)).accepted
    assert world.documents == [parse_policy(text).document]


async def test_the_same_process_judges_one_document_after_the_other(world: World) -> None:
    await world.judge(GOOD)
    pid = world.pid
    await world.judge("a: [")
    await world.load(rules(2000))
    assert world.pid == pid


async def test_concurrent_jobs_take_turns(world: World) -> None:
    texts = [policy_text(f"message: number {number}\n") for number in range(20)]
    await asyncio.gather(*map(world.load, texts))
    assert sorted(document.message for document in world.documents) == sorted(
        f"number {number}" for number in range(20)
    )


async def test_waiting_for_a_turn_can_be_bounded(world: World) -> None:
    async with world.parser.turn():
        with pytest.raises(TimeoutError):
            async with world.parser.turn(0.01):
                pass
    assert (await world.judge(GOOD)).accepted


async def test_a_turn_that_gives_way_ends_when_another_turn_is_needed(scripted: World) -> None:
    async def check(text: str) -> Judged:
        async with scripted.parser.turn(gives_way=True):
            return await scripted.parser.judge(text, None, INSTANT)

    checking = asyncio.create_task(check(SLEEP))
    await eventually(lambda: scripted.parser.pid is not None)
    next_check = asyncio.create_task(check(SLEEP))
    await asyncio.sleep(0)
    assert (await scripted.judge(GOOD)).accepted
    for interrupted in (checking, next_check):
        with pytest.raises(Interrupted):
            await interrupted
    assert (await check(GOOD)).accepted


async def test_a_turn_that_gives_way_waits_for_a_turn_that_does_not(world: World) -> None:
    async with world.parser.turn():
        with pytest.raises(TimeoutError):
            async with world.parser.turn(0.01, gives_way=True):
                pass


async def test_an_idle_process_ends_and_the_next_document_gets_a_new_one(make: Make) -> None:
    world = make(idle_seconds=0.05)
    await world.judge(GOOD)
    pid = world.pid
    await eventually(lambda: world.parser.pid is None and not runs(pid))
    assert (await world.judge(GOOD)).accepted
    assert world.log.lines == []


async def test_an_idle_process_ends_after_its_caller_failed(make: Make) -> None:
    world = make(idle_seconds=0.05)

    async def fail() -> None:
        async with world.parser.turn():
            await world.parser.judge(GOOD, None, INSTANT)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    await eventually(lambda: world.parser.pid is None)


async def test_a_process_that_had_a_large_document_ends_at_once(world: World) -> None:
    assert (await world.judge(rules(15_000))).accepted
    assert world.parser.pid is None


async def test_close_ends_the_process(world: World) -> None:
    await world.judge(GOOD)
    pid = world.pid
    await world.parser.close()
    assert not runs(pid)
    assert children(os.getpid()) == []


IGNORES_SIGNALS = script(
    """
    import signal, time
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)
    """
)
FILLS_MEMORY = script("held = [bytearray(1 << 20) for _ in range(1000)]")


class TestLimits:
    @pytest.mark.parametrize(
        ("text", "cause", "message", "stderr"),
        [
            pytest.param(
                script("import os; os.kill(os.getpid(), 9)"), "died",
                "the parser process was ended by SIGKILL", "", id="killed",
            ),
            pytest.param(
                IGNORES_SIGNALS, "time", "it was stopped after 2 s", "", id="ignores-signals"
            ),
            pytest.param(
                FILLS_MEMORY, "memory", "it needs more than 47 MiB of memory to parse", "", id="memory"
            ),
            pytest.param(
                script("while True: pass"), "cpu", "it needs more than 1 s of processor time", "",
                id="processor-time",
            ),
            pytest.param(
                script("raise LookupError('here')"), "bug", "internal error in the parser process",
                "LookupError: here", id="a-bug",
            ),
        ],
    )  # fmt: skip
    async def test_a_process_that_fails_is_ended_reported_and_replaced(
        self,
        make: Make,
        text: str,
        cause: str,
        message: str,
        stderr: str,
    ) -> None:
        tight = limits(memory_bytes=50_000_000, cpu_seconds=1 if cause == "cpu" else 60)
        world = make(command=command(SCRIPTED), limits=tight)
        problem = await world.failure(text, seconds=2.0 if cause == "time" else 30.0)
        assert (problem.cause, str(problem)) == (cause, message)
        assert problem.permanent is (cause in {"memory", "cpu", "bug"})
        assert children(os.getpid()) == []
        (line,) = world.log.named("child_failed")
        assert (line["cause"], stderr in line["stderr"]) == (cause, True)
        assert (await world.judge(GOOD)).accepted

    async def test_a_real_document_over_the_memory_limit_is_an_error(self, make: Make) -> None:
        world = make(limits=limits(memory_bytes=20_000_000))
        # An allocation that fails inside a library can also end the process.
        assert (await world.failure(rules(100_000))).cause in {"memory", "died"}
        assert (await world.judge(GOOD)).accepted

    async def test_the_processor_time_limit_applies_to_each_document(self, make: Make) -> None:
        world = make(command=command(SCRIPTED), limits=limits(cpu_seconds=1))
        text = script(
            """
            import time
            end = time.process_time() + 0.6
            while time.process_time() < end:
                pass
            """
        )
        for _ in range(2):
            assert (await world.judge(text)).accepted

    async def test_output_of_the_process_goes_to_the_log(self, scripted: World) -> None:
        code = "import os; print('printed', flush=True); os.system('echo echoed')"
        assert (await scripted.judge(script(code))).accepted
        await scripted.parser.close()
        assert scripted.log.named("child_failed")[0]["stderr"] == "printed\nechoed\n"

    @pytest.mark.parametrize("answer", [b"\0\0\0\1\xc1", b"\xff" * 9, b"\0\0\0\2\x91\xa0"])
    async def test_an_unreadable_answer_is_an_error(self, make: Make, answer: bytes) -> None:
        world = make(command=command(f"import os, time; os.write(1, {answer!r}); time.sleep(60)"))
        assert (await world.failure()).cause == "bug"

    @pytest.mark.parametrize("path", ["/nonexistent", "/dev/null"])
    async def test_a_process_that_cannot_start_is_an_error(self, make: Make, path: str) -> None:
        problem = await make(command=[path]).failure()
        assert (problem.cause, problem.permanent) == ("start", False)
        assert "could not be started" in str(problem)

    async def test_a_process_that_exits_at_once_is_an_error(self, make: Make) -> None:
        world = make(command=command("import sys; sys.exit('no module of that name')"))
        problem = await world.failure()
        assert (problem.cause, str(problem)) == ("died", "the parser process ended with code 1")
        assert "no module" in world.log.named("child_failed")[0]["stderr"]

    async def test_a_process_that_stops_sending_is_an_error(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process, "FRAME_SECONDS", 0.1)
        code = SCRIPTED.replace("        exec(job.text)\n", "").replace(
            "yield Linted(())", "yield from list(usual(job))[:-2]; import time; time.sleep(60)"
        )
        world = make(command=command(code))
        with pytest.raises(ParserError) as raised:
            await world.load(f"#!\n{GOOD}")
        assert (raised.value.cause, str(raised.value)) == ("time", "the parser process stopped sending")

    async def test_a_cancelled_job_leaves_nothing_for_the_next(self, scripted: World) -> None:
        task = asyncio.create_task(scripted.judge(SLEEP))
        await eventually(lambda: scripted.parser.pid is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not (await scripted.judge("a: [")).accepted

    async def test_an_error_of_the_receiver_reaches_the_caller(self, world: World) -> None:
        async def fail(_fetch: Fetch) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await world.judge(GOOD, on_accepted=fail)
        assert (await world.load(GOOD)).accepted

    def test_the_limits_grow_with_the_document(self) -> None:
        small, large = limits_for(1000), limits_for(16 * 2**20)
        assert small.seconds < large.seconds
        assert small.cpu_seconds < large.cpu_seconds
        assert small.memory_bytes < large.memory_bytes


class TestConfinement:
    async def test_the_process_inherits_only_its_pipes(
        self, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("GATEKEEPER_PY_POLICY", "/somewhere")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        inherited = os.open(tmp_path, os.O_RDONLY)
        os.set_inheritable(inherited, True)
        try:
            await world.judge(GOOD)
        finally:
            os.close(inherited)
        folder = Path(f"/proc/{world.pid}")
        assert (
            len(list((folder / "fd").iterdir())) == 4
        )  # the three standard streams, and the pipe for answers
        assert str(tmp_path) not in [str(link.readlink()) for link in (folder / "fd").iterdir()]
        names = {
            entry.partition(b"=")[0] for entry in (folder / "environ").read_bytes().split(b"\0") if entry
        }
        assert names <= {
            b"PYTHONPATH",
            b"PYTHONSAFEPATH",
            b"MALLOC_ARENA_MAX",
            *map(str.encode, INHERITED),
        }

    async def test_the_process_has_low_priority_and_is_killed_first_without_memory(
        self, world: World
    ) -> None:
        await world.judge(GOOD)
        folder = Path(f"/proc/{world.pid}")
        assert (folder / "oom_score_adj").read_text() == "1000\n"
        niceness = int((folder / "stat").read_text().rpartition(")")[2].split()[16])
        assert niceness == min(os.nice(0) + 10, 19)
        limits = (folder / "limits").read_text()
        assert "Max core file size        0 " in limits
        assert "Max file size             0 " in limits

    async def test_the_process_ignores_signals_that_end_the_server(self, world: World) -> None:
        await world.judge(GOOD)
        pid = world.pid
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
            assert (await world.judge(GOOD)).accepted
        assert world.pid == pid

    def test_the_process_ends_when_its_server_is_killed(self, tmp_path: Path) -> None:
        """It is busy, so it does not see the end of its input."""
        begun = tmp_path / "begun"
        text = script(f"import pathlib; pathlib.Path({str(begun)!r}).touch()\nwhile True: pass")
        server = subprocess.Popen([sys.executable, "-c", SERVER, SCRIPTED, text], stdout=subprocess.PIPE)
        assert server.stdout is not None
        try:
            pid = int(server.stdout.readline())
            wait_for(begun.exists)
            assert runs(pid)
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
        wait_for(lambda: not runs(pid))

    def test_the_process_exits_at_once_if_its_server_is_gone(self) -> None:
        other_parent = [*COMMAND[:-1], "1"]
        reading, writing = os.pipe()  # so that its input does not end
        try:
            done = subprocess.run(other_parent, stdin=reading, capture_output=True, timeout=60, check=False)
        finally:
            os.close(reading)
            os.close(writing)
        assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.long
async def test_a_small_document_with_exceptions_takes_little_time(world: World) -> None:
    """A replica that starts may have 10,000 of them to read: 0.5 ms of CPU time each."""
    text = exceptions_text("image: ghcr.io/a, until: 2026-03-05, reason: x")
    spent = []
    for _ in range(2):
        for _ in range(100):
            async with world.parser.turn():
                assert (await world.parser.parse_exceptions(text, "namespace")).document
        spent.append(cpu_seconds(world.pid))
    assert spent[1] - spent[0] < 0.2
