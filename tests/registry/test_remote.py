"""The registry process: it runs only for look-ups, and its death costs only the look-ups under way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatekeeper_py.core.images.manifest import Manifest, failed, found
from gatekeeper_py.core.policy.registries import Registries, Registry
from gatekeeper_py.process.children.frames import frame
from gatekeeper_py.process.children.process import Cause
from gatekeeper_py.registry import remote
from gatekeeper_py.registry.asking import Reply
from gatekeeper_py.registry.messages import MAX_EVENT_BYTES, Answered, Event, Pong, TurnWanted, encode
from gatekeeper_py.registry.remote import LEFT_OUT_SECONDS, SUSPECT_SECONDS, RemoteClient, Suspects
from registry.scripted import DIGEST, Scripted, challenge, scripted
from registry.scripted import found as found_answer
from support.recording import Counted, RecordingLog
from support.wire import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")


SCRIPTED = """
import asyncio, os, time
from gatekeeper_py.registry import client, program

usual = client.Client.query

async def query(self, manifest, turn, seconds, namespace):
    match manifest.repository:
        case "die":
            os._exit(3)
        case "hang":
            time.sleep(600)
        case "wait":
            await asyncio.sleep(600)
        case "silence":
            await asyncio.sleep(seconds)
            return client.Reply(client.failed("silence"), trouble=True)
        case "fill":
            held = [bytearray(1 << 20) for _ in range(1000)]
        case "error":
            raise LookupError("here")
    return await usual(self, manifest, turn, seconds, namespace)

client.Client.query = query
program.main()
"""
"""The registry process, except that it misbehaves for some repositories."""


INSISTENT = """
from gatekeeper_py.process.children import frames, program
from gatekeeper_py.registry.messages import *

pipes = program.begin(longest=MAX_EVENT_BYTES, niceness=0)
while True:
    match parse_order(frames.read(pipes.messages, MAX_ORDER_BYTES)):
        case Ping():
            pipes.send(encode(Pong()))
        case Stop(number):
            for _ in range(2):
                pipes.send(encode(TurnWanted(number, "r.io")))
"""
"""A registry process that ignores that nobody waits for a look-up any more."""


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, str(os.getpid()))


def framed(event: Event) -> bytes:
    return frame(encode(event), MAX_EVENT_BYTES)


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


class World:
    """A client with its observer. ``skipped`` moves its clock."""

    def __init__(self, code: str = "", directory: Path | None = None) -> None:
        self.log, self.counted = RecordingLog(), Counted()
        self.turns: list[str] = []
        self.refused: dict[str, str] = {}
        self.now = 0.0
        self.client = RemoteClient(
            directory,
            log=self.log,
            observer=self.counted,
            clock=lambda: self.now,
            on_refused_realm=self.refused.__setitem__,
            program=program(code) if code else None,
            ping_seconds=0.1,
        )

    def use(self, *hosts: str, **settings: Any) -> None:
        registries = {host: Registry(host=host, plain_http=True, **settings) for host in hosts}
        self.client.use_policy(Registries(registries), looks_up=bool(hosts))

    async def turn(self, host: str) -> None:
        self.turns.append(host)

    async def query(self, host: str, repository: str = "team/app") -> Reply:
        return await self.client.query(Manifest(host, repository, "v1"), self.turn)

    async def queried(self, host: str, repository: str = "team/app") -> Reply:
        """Query a registry once the process may start."""
        await eventually(lambda: not self.client._child.pauses)
        return await self.query(host, repository)


Make = Callable[..., World]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    worlds: list[World] = []

    def build(*args: Any) -> World:
        worlds.append(World(*args))
        return worlds[-1]

    yield build
    for world in worlds:
        await world.client.close()
    assert children() == ""


@pytest.fixture
async def registry() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        made.on("HEAD /v2/team/app/manifests/v1", found_answer())
        yield made


class TestStart:
    async def test_the_process_runs_only_while_the_policy_has_look_ups(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make()
        world.use()
        assert world.client.pid is None
        assert not world.client.is_starting
        world.use(registry.host)
        assert (await world.query(registry.host)).answer == found(DIGEST)
        assert world.client.pid is not None
        world.use()
        await eventually(lambda: world.client.pid is None)
        assert (world.counted.deaths, world.log.lines) == ([], [])

    async def test_look_ups_under_way_end_before_the_process(self, make: Make, registry: Scripted) -> None:
        arrived, answer = asyncio.Event(), asyncio.Event()

        async def slow(_request: object) -> Any:
            arrived.set()
            await answer.wait()
            return found_answer()

        registry.on("HEAD /v2/team/app/manifests/v1", slow)
        world = make()
        world.use(registry.host)
        waiting = asyncio.create_task(world.query(registry.host))
        await arrived.wait()
        world.use()
        answer.set()
        assert (await waiting).answer == found(DIGEST)
        await eventually(lambda: world.client.pid is None)

    async def test_a_server_is_starting_until_the_first_process_answers(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make()
        world.use(registry.host)
        assert world.client.is_starting
        await eventually(lambda: not world.client.is_starting)

    async def test_a_server_whose_process_cannot_start_does_not_stay_unready(self, make: Make) -> None:
        world = make("import sys; sys.exit('broken')")
        world.use("r.io")
        await eventually(lambda: not world.client.is_starting)
        assert (await world.query("r.io")).answer.status == "error"


class TestMessages:
    async def test_each_further_request_waits_for_a_turn(self, make: Make, registry: Scripted) -> None:
        path = "HEAD /v2/team/app/manifests/v1"
        registry.on(path, challenge(f'Bearer realm="http://{registry.host}/token"'), found_answer())
        registry.on("GET /token", challenge("Basic"))
        world = make()
        world.use(registry.host)
        await world.query(registry.host)
        assert world.turns == [registry.host] * len(registry.requests)

    async def test_the_exception_of_a_turn_ends_the_look_up(self, make: Make, registry: Scripted) -> None:
        registry.on("HEAD /v2/team/app/manifests/v1")  # 404, so GET follows
        world = make()
        world.use(registry.host)

        async def turn(host: str) -> None:
            world.turns.append(host)
            if len(world.turns) > 1:
                raise LookupError(host)

        with pytest.raises(LookupError):
            await world.client.query(Manifest(registry.host, "team/app", "v1"), turn)
        assert registry.request_lines == ["HEAD /v2/team/app/manifests/v1"]
        assert world.counted.deaths == []

    async def test_a_refused_token_realm_is_reported(self, make: Make, registry: Scripted) -> None:
        registry.on("HEAD /v2/team/app/manifests/v1", challenge('Bearer realm="https://evil.example/"'))
        world = make()
        world.use(registry.host)
        reply = await world.query(registry.host)
        assert world.refused == {registry.host: reply.answer.cause}

    async def test_settings_of_any_size_arrive(self, make: Make, registry: Scripted) -> None:
        world = make()
        world.use(registry.host, token_hosts=tuple(f"{'t' * 200}{number}.io" for number in range(1000)))
        assert (await world.query(registry.host)).answer == found(DIGEST)

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"\0\1\0\1", id="a-frame-over-64-KiB"),
            pytest.param(frame(b"\xc1", MAX_EVENT_BYTES), id="not-msgpack"),
            pytest.param(framed(Pong()) * 2, id="two-pongs"),
            pytest.param(framed(Answered(5, Reply(found(DIGEST)), "")), id="nobody-asked"),
            pytest.param(framed(TurnWanted(5, "r.io")), id="a-turn-for-nobody"),
        ],
    )
    async def test_a_process_that_breaks_the_rules_is_killed(self, make: Make, sent: bytes) -> None:
        world = make(f"import os, time; os.read(0, 1); os.write(1, {sent!r}); time.sleep(600)")
        world.use("r.io")
        await eventually(lambda: bool(world.counted.deaths))
        assert world.counted.deaths[0] == "bug"

    @pytest.mark.parametrize(
        ("reply", "reference"),
        [
            pytest.param(Reply(found("sha256:x")), "v1", id="malformed-digest"),
            pytest.param(Reply(found(DIGEST)), "sha256:" + "b" * 64, id="another-digest"),
            pytest.param(Reply(failed("a\nb")), "v1", id="a-line-break"),
            pytest.param(Reply(failed("x" * 1001)), "v1", id="a-long-cause"),
            pytest.param(Reply(failed("")), "v1", id="no-cause"),
            pytest.param(Reply(failed("x"), pause=1e9), "v1", id="a-long-pause"),
            pytest.param(Reply(failed("x"), pause=float("nan")), "v1", id="not-a-number"),
        ],
    )
    def test_an_answer_is_checked(self, reply: Reply, reference: str) -> None:
        assert not remote._is_valid(reply, Manifest("r.io", "app", reference))

    async def test_a_turn_for_a_host_that_the_policy_does_not_name_ends_the_look_up(self, make: Make) -> None:
        event: Event = TurnWanted(1, "evil.example")
        code = f"import os, time; os.write(1, {framed(Pong())!r}); time.sleep(1);"
        world = make(f"{code} os.write(1, {framed(event)!r}); time.sleep(600)")
        world.use("r.io")
        reply = await world.query("r.io")
        assert reply.answer == failed("the policy does not name the host of the next request")
        assert world.turns == ["r.io"]

    async def test_a_process_that_wants_turns_for_a_stopped_look_up_is_killed(self, make: Make) -> None:
        world = make(INSISTENT)
        world.use("r.io")
        waiting = asyncio.create_task(world.query("r.io"))
        await eventually(lambda: len(world.client._running) == 1)
        waiting.cancel()
        await eventually(lambda: world.counted.deaths == ["bug"])
        assert world.turns == ["r.io"]


class TestDeaths:
    async def test_a_death_ends_the_look_ups_under_way_and_the_process_is_replaced(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make(SCRIPTED)
        world.use(registry.host)
        waiting = [asyncio.create_task(world.query(registry.host, "wait")) for _ in range(3)]
        await eventually(lambda: len(world.client._running) == 3)
        pid = world.client.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for reply in await asyncio.gather(*waiting):
            assert reply == Reply(failed("the registry process was ended by SIGKILL"))
        assert (await world.queried(registry.host)).answer == found(DIGEST)
        assert world.counted.deaths == ["died"]
        (line,) = world.log.named("child_failed")
        assert (line["child"], line["pid"], line["cause"]) == ("registry", pid, "died")

    @pytest.mark.parametrize(
        ("repository", "cause", "reason"),
        [
            ("die", "died", "ended with code 3"),
            ("hang", "time", "did not answer for 1 s"),
            ("fill", "memory", "used up its memory"),
        ],
    )
    async def test_every_way_to_die_is_an_error(
        self, make: Make, registry: Scripted, repository: str, cause: Cause, reason: str
    ) -> None:
        world = make(SCRIPTED)
        world.use(registry.host)
        reply = await world.query(registry.host, repository)
        assert reply.answer.cause == f"the registry process {reason}"
        assert world.counted.deaths == [cause]
        assert (await world.queried(registry.host)).answer == found(DIGEST)

    async def test_an_exception_in_a_look_up_costs_only_this_look_up(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make(SCRIPTED)
        world.use(registry.host)
        waiting = asyncio.create_task(world.query(registry.host, "wait"))
        reply = await world.query(registry.host, "error")
        assert reply == Reply(failed("internal error: LookupError"), trouble=True)
        assert (await world.query(registry.host)).answer == found(DIGEST)
        assert (world.counted.deaths, waiting.done()) == ([], False)
        waiting.cancel()

    async def test_a_registry_that_killed_the_process_twice_is_left_out(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make(SCRIPTED)
        world.use(registry.host, "killer.io")
        for _ in range(2):
            await world.queried("killer.io", "die")
        reply = await world.queried("killer.io")
        assert reply.answer.cause == (
            f"it ended the registry process 2 times; left out for another {LEFT_OUT_SECONDS:.0f} s"
        )
        assert (await world.queried(registry.host)).answer == found(DIGEST)
        assert len(world.counted.deaths) == 2
        world.now += LEFT_OUT_SECONDS
        await world.queried("killer.io", "die")
        assert len(world.counted.deaths) == 3

    async def test_only_the_registry_that_kills_the_process_is_left_out(
        self, make: Make, registry: Scripted
    ) -> None:
        """At the first death, three registries are queried."""
        world = make(SCRIPTED)
        world.use(registry.host, "slow.io", "killer.io")
        others = [asyncio.create_task(world.query(host, "wait")) for host in (registry.host, "slow.io")]
        await eventually(lambda: len(world.client._running) == 2)
        await world.query("killer.io", "die")
        await asyncio.gather(*others)
        await eventually(lambda: not world.client._child.pauses)
        again = [asyncio.create_task(world.query(*each)) for each in ((registry.host,), ("killer.io", "die"))]
        assert (await again[0]).answer == found(DIGEST)
        await again[1]
        assert (await world.queried(registry.host)).answer == found(DIGEST)
        assert "left out" in (await world.queried("killer.io")).answer.cause

    async def test_a_suspect_that_hangs_does_not_starve_other_suspects(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make(SCRIPTED)
        world.use(registry.host, "killer.io")
        innocent = asyncio.create_task(world.query(registry.host, "wait"))
        await eventually(lambda: len(world.client._running) == 1)
        await world.query("killer.io", "die")
        await innocent
        await eventually(lambda: not world.client._child.pauses)
        hanging = [asyncio.create_task(world.query("killer.io", "silence")) for _ in range(20)]
        await eventually(lambda: len(world.client._running) == 1)
        assert (await world.query(registry.host)).answer == found(DIGEST)
        assert sum(task.done() for task in hanging) <= 2
        for task in hanging:
            task.cancel()

    async def test_a_look_up_that_waits_for_its_turn_at_a_death_is_not_lost(
        self, make: Make, registry: Scripted
    ) -> None:
        world = make(SCRIPTED)
        world.use(registry.host, "killer.io")
        assert (await world.query(registry.host)).answer == found(DIGEST)
        turn = asyncio.Event()

        async def late(_host: str) -> None:
            await turn.wait()

        waiting = asyncio.create_task(world.client.query(Manifest(registry.host, "team/app", "v1"), late))
        await world.query("killer.io", "die")
        turn.set()
        assert (await waiting).answer == failed("the registry process ended")


def test_a_suspicion_expires() -> None:
    now = 0.0
    suspects = Suspects(lambda: now)
    suspects.died({"a.io", "b.io"})
    assert suspects.is_suspect("a.io")
    now += SUSPECT_SECONDS
    assert not suspects.is_suspect("a.io")
    suspects.died({"a.io"})
    assert suspects.reason("a.io") == ""


def test_a_death_counts_only_for_suspects_if_there_are_any() -> None:
    suspects = Suspects(lambda: 0.0)
    suspects.died({"a.io"})
    suspects.died({"a.io", "b.io"})
    assert suspects.reason("a.io")
    assert not suspects.is_suspect("b.io")


class TestConfinement:
    async def test_the_process_is_confined_as_the_parser_is(
        self, make: Make, registry: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GATEKEEPER_PY_POLICY", "/somewhere")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        world = make()
        world.use(registry.host)
        await world.query(registry.host)
        folder = Path(f"/proc/{world.client.pid}")
        assert b"secret" not in (folder / "environ").read_bytes()
        assert (folder / "oom_score_adj").read_text() == "1000\n"
        status = (folder / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        limits = (folder / "limits").read_text()
        assert "Max core file size        0 " in limits
        assert "Max file size             0 " in limits
        assert "Max address space         unlimited" not in limits
        assert "Max cpu time              unlimited" not in limits

    async def test_the_process_itself_reads_the_credentials(
        self, make: Make, registry: Scripted, tmp_path: Path
    ) -> None:
        config = msgspec.json.encode({"auths": {registry.host: {"username": "u", "password": "p"}}})
        (tmp_path / "config.json").write_bytes(config)
        registry.on("HEAD /v2/team/app/manifests/v1", challenge("Basic"), found_answer())
        world = make("", tmp_path)
        world.use(registry.host)
        assert (await world.query(registry.host)).answer == found(DIGEST)
        assert registry.requests[-1][2] == "Basic dTpw"
        registry.on("HEAD /v2/team/app/manifests/v1", challenge("Basic"))
        (tmp_path / "config.json").write_text("{}")
        world.client.use_files()
        assert (await world.query(registry.host)).answer.status == "error"
