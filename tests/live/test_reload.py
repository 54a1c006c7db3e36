"""A text becomes the live policy, or the last good policy stays and the refusal is reported."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.live import reload
from gatekeeper_py.live.parser.process import Interrupted, ParserError
from gatekeeper_py.live.reload import Reloader
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.process import waiting
from support.builders import policy_text
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.wire import eventually

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = policy_text()
OTHER = policy_text(allow="[other.io]")
BAD = policy_text("colour: red\n", allow="[nginx]")


class Observer:
    def __init__(self) -> None:
        self.results: list[str] = []
        self.present: list[bool] = []
        self.revisions: list[str] = []

    def policy_reloaded(self, result: str) -> None:
        self.results.append(result)

    def policy_present(self, *, present: bool) -> None:
        self.present.append(present)

    def policy_live(self, snapshot: CompiledPolicy, source: str) -> None:
        assert source == "file"
        self.revisions.append(snapshot.revision)

    def policy_linted(self, findings: tuple[Finding, ...]) -> None:
        self.codes = [finding.code for finding in findings]


class World:
    """A reloader and its observers."""

    def __init__(self) -> None:
        self.live, self.log, self.observer = LivePolicy(), RecordingLog(), Observer()
        self.now = START
        self.parser = InProcessParser()
        self.reloader = Reloader(
            self.live,
            self.parser,
            source="file",
            source_name="/etc/policy.yaml",
            cache_size=10,
            counts=CacheCounts(),
            observer=self.observer,
            log=self.log,
            now=lambda: self.now,
            monotonic=lambda: self.reloader._now().timestamp(),
        )

    async def take(self, text: str | None, **more: Any) -> str:
        problem = "" if text is not None else "it is gone"
        return await self.reloader.apply(Delivery(text=text, problem=problem, **more))

    @asynccontextmanager
    async def following(self, *texts: str) -> AsyncIterator[Callable[[str], None]]:
        """Follow a source that has delivered these texts; yield the function that delivers another one."""
        queue: asyncio.Queue[Delivery] = asyncio.Queue()

        async def deliveries() -> AsyncIterator[Delivery]:
            while True:
                yield await queue.get()

        def deliver(text: str) -> None:
            queue.put_nowait(Delivery(text=text))

        for text in texts:
            deliver(text)
        task = asyncio.create_task(self.reloader.run(deliveries()))
        yield deliver
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def approves(self, image: str) -> bool:
        assert self.live.snapshot is not None
        return self.live.snapshot.decide("shop", image).approved


@pytest.fixture
def world() -> World:
    return World()


async def test_a_good_policy_is_installed(world: World) -> None:
    assert await world.take(GOOD, resource_version="7") == "loaded"
    assert world.approves("registry.corp.io/a")
    loaded = world.reloader.loaded
    assert loaded is not None
    assert (loaded.at, loaded.resource_version) == (START, "7")
    assert [finding.code for finding in loaded.findings] == world.observer.codes == ["floating-latest"]
    assert world.reloader.refused is None
    assert world.observer.present == [True]
    assert world.observer.results == ["loaded"]
    assert world.observer.revisions == [parse_policy(GOOD).revision]
    (line,) = world.log.named("policy_loaded")
    assert (line["mode"], line["allow"], line["revision"]) == ("enforce", 1, parse_policy(GOOD).revision)


async def test_a_bad_policy_leaves_the_last_good_one_and_names_every_problem(world: World) -> None:
    await world.take(GOOD)
    live = world.live.snapshot
    world.now += timedelta(minutes=1)
    assert await world.take(BAD) == "refused"
    assert world.live.snapshot is live
    refused = world.reloader.refused
    assert refused is not None
    assert refused.at == world.now
    assert {finding.path for finding in refused.findings} == {"allow[0]", "colour"}
    (line,) = world.log.named("policy_refused")
    assert len(line["findings"]) == 2
    assert "colour" in " ".join(line["findings"])
    assert line["serving"] == parse_policy(GOOD).revision
    assert world.observer.results == ["loaded", "refused"]
    assert world.observer.present == [True, True]


@pytest.mark.parametrize(
    "delivery",
    [
        pytest.param(Delivery(text=None, problem="deleted"), id="deleted"),
        pytest.param(Delivery(text=""), id="empty"),
        pytest.param(Delivery(text="\0"), id="binary"),
        pytest.param(Delivery(text="\ud800"), id="surrogate"),
        pytest.param(Delivery(text="a: &a [*a]"), id="alias"),
        pytest.param(Delivery(text="[" * 100_000), id="deep"),
        pytest.param(Delivery(text=GOOD, mode="audit"), id="mode"),
        pytest.param(Delivery(text=GOOD, mode=""), id="empty-mode"),
        pytest.param(Delivery(text=GOOD + "---\n" + GOOD), id="two-documents"),
    ],
)
async def test_every_kind_of_bad_delivery_is_refused(world: World, delivery: Delivery) -> None:
    assert await world.reloader.apply(delivery) == "refused"
    assert world.live.snapshot is None
    await world.take(GOOD)
    assert await world.reloader.apply(delivery) == "refused"
    assert world.approves("registry.corp.io/a")
    assert world.observer.results == ["refused", "loaded", "refused"]


async def test_a_bug_costs_the_delivery_and_not_the_server(world: World) -> None:
    await world.take(GOOD)
    world.parser.failures.append(RecursionError())
    assert await world.take(OTHER) == "refused"
    assert world.approves("registry.corp.io/a")
    assert [keys["exc_info"] for keys in world.log.named("policy_not_compiled")] == [True]
    assert world.reloader.refused is not None
    assert await world.take(GOOD) == "unchanged"
    assert await world.take(OTHER) == "loaded"
    assert world.reloader.refused is None


async def test_the_log_says_once_that_the_source_holds_the_policy_in_use_again(world: World) -> None:
    await world.take(GOOD)
    await world.take(GOOD)
    assert world.log.named("policy_restored") == []
    await world.take(BAD)
    await world.take(GOOD)
    await world.take(GOOD)
    assert world.live.snapshot is not None
    [restored] = world.log.named("policy_restored")
    assert restored["revision"] == world.live.snapshot.revision


@pytest.mark.parametrize("mode", [None, "enforce"])
async def test_the_same_document_again_keeps_the_cache(world: World, mode: str | None) -> None:
    await world.take(GOOD, resource_version="1")
    live, loaded = world.live.snapshot, world.reloader.loaded
    world.now += timedelta(hours=1)
    assert await world.take(GOOD, mode=mode, resource_version="2") == "unchanged"
    assert world.live.snapshot is live
    assert world.reloader.loaded is not None
    assert loaded is not None
    assert world.reloader.loaded.at == loaded.at
    assert world.reloader.loaded.resource_version == "2"


@pytest.mark.parametrize(
    ("taken", "results", "parsed", "mode", "codes"),
    [
        pytest.param(
            [(GOOD, "warn"), (GOOD, None)], ["loaded"] * 2, [GOOD], "enforce", ["floating-latest"],
            id="back-to-the-documents-mode",
        ),
        pytest.param(
            [(GOOD, "warn")], ["loaded"], [GOOD], "warn", ["floating-latest", "mode-overridden"],
            id="the-mode-of-the-source",
        ),
        pytest.param(
            [(GOOD, None), (GOOD, "audit")], ["loaded", "refused"], [GOOD] * 2, "enforce",
            ["floating-latest"], id="an-unknown-mode",
        ),
        pytest.param(
            [(GOOD, None), *[(BAD, None)] * 4], ["loaded", *["refused"] * 4], [GOOD, BAD], "enforce",
            ["floating-latest"], id="a-refused-document-again",
        ),
        pytest.param(
            [(GOOD, None), (BAD, None), (GOOD, None)], ["loaded", "refused", "unchanged"], [GOOD, BAD],
            "enforce", ["floating-latest"], id="back-to-the-loaded-policy",
        ),
        pytest.param(
            [(GOOD, None), (None, None)], ["loaded", "refused"], [GOOD], "enforce", ["floating-latest"],
            id="deleted",
        ),
    ],
)  # fmt: skip
async def test_what_a_source_delivers_becomes_live_or_is_refused(
    world: World,
    taken: list[tuple[str | None, str | None]],
    results: list[str],
    parsed: list[str],
    mode: str,
    codes: list[str],
) -> None:
    """A document is parsed only when its text changed, because parsing is expensive."""
    for number, (text, source_mode) in enumerate(taken):
        await world.take(text, mode=source_mode, resource_version=f"{number}")
    assert world.observer.results == results
    assert world.observer.present == [text is not None for text, _ in taken]
    assert len(set(world.observer.revisions)) == results.count("loaded")
    assert world.parser.parsed == parsed
    assert world.live.snapshot is not None
    assert world.live.snapshot.mode("shop").name == mode
    assert world.approves("registry.corp.io/a")
    assert world.reloader.loaded is not None
    assert sorted(finding.code for finding in world.reloader.loaded.findings) == codes
    accepted = [f"{number}" for number, result in enumerate(results) if result != "refused"]
    assert world.reloader.loaded.resource_version == accepted[-1]
    assert world.log.named("policy_loaded")[-1]["mode"] == mode
    assert (world.reloader.refused is not None) is (results[-1] == "refused")
    if taken[-1][0] is None:
        assert world.reloader.refused is not None
        assert [finding.message for finding in world.reloader.refused.findings] == ["it is gone"]


async def test_a_source_is_followed(world: World) -> None:
    async with world.following() as deliver:
        for text, result in ((BAD, "refused"), (GOOD, "loaded"), (BAD, "refused"), (OTHER, "loaded")):
            before = len(world.observer.results)
            deliver(text)
            await eventually(lambda before=before: len(world.observer.results) > before)  # type: ignore[misc]
            assert world.observer.results[-1] == result
    assert world.approves("other.io/a")


async def test_a_burst_of_changes_ends_with_the_last(world: World) -> None:
    good = [policy_text(allow=f"[r{number}.io]") for number in range(200)]
    revisions = [parse_policy(text).revision for text in good]
    async with world.following(*(each for text in good for each in (f"{text}colour: red\n", text))):
        await eventually(lambda: world.observer.revisions[-1:] == revisions[-1:])
    assert len(world.observer.revisions) < 200
    assert {*world.observer.revisions} <= {*revisions}


async def test_a_rule_expires_without_a_delivery(world: World) -> None:
    until = START + timedelta(seconds=0.05)
    rule = f"[{{image: registry.corp.io, until: {until.isoformat()}}}, other.io]"
    begin = datetime.now(UTC)
    world.reloader._now = lambda: START + (datetime.now(UTC) - begin)
    async with world.following(policy_text(allow=rule)):
        await eventually(lambda: world.log.named("policy_rule_expired") != [])
    assert not world.approves("registry.corp.io/a")
    assert world.approves("other.io/a")
    assert world.observer.results == ["loaded"]
    assert len(set(world.observer.revisions)) == 1
    assert world.live.snapshot is not None
    assert world.live.snapshot.next_expiry is None


async def test_a_denial_names_an_expired_rule_for_90_days(world: World) -> None:
    await world.take(policy_text(allow="[{image: quay.io, until: 2026-03-01T00:00:00Z}, registry.corp.io]"))
    due = world.reloader._next_change()
    assert due == datetime(2026, 5, 30, tzinfo=UTC) + datetime.resolution
    for now, is_named in ((due - datetime.resolution, True), (due, False)):
        world.now = now
        await world.reloader._expire()
        assert world.live.snapshot is not None
        detail = world.live.snapshot.decide("shop", "quay.io/a").detail
        assert ("expired 2026-03-01" in detail) == is_named
    assert world.log.named("policy_rule_expired") == []


async def test_an_override_that_expires_gives_the_mode_back(world: World) -> None:
    until = START + timedelta(days=3)
    text = policy_text(f"namespaces: [{{names: ['*'], mode: warn, until: {until.isoformat()}}}]\n")
    await world.take(text)
    assert world.live.snapshot is not None
    assert world.live.snapshot.mode("shop").name == "warn"
    assert world.reloader._next_change() == until
    world.now = until - timedelta(seconds=1)
    await world.reloader._expire()
    assert world.live.snapshot.mode("shop").name == "warn"
    world.now = until
    await world.reloader._expire()
    assert world.live.snapshot.mode("shop").name == "enforce"


async def test_a_rule_expires_while_another_policy_is_parsed(world: World) -> None:
    begin = datetime.now(UTC)
    world.reloader._now = lambda: START + (datetime.now(UTC) - begin)
    rule = f"[{{image: quay.io, until: {(START + timedelta(seconds=0.5)).isoformat()}}}, other.io]"
    async with world.following(policy_text(allow=rule)) as deliver:
        await eventually(lambda: world.observer.results == ["loaded"])
        assert world.approves("quay.io/a")
        async with world.parser.turn():  # the next policy waits
            deliver(GOOD)
            await eventually(lambda: not world.approves("quay.io/a"))
            assert world.approves("other.io/a")
            assert world.observer.results == ["loaded"]
        await eventually(lambda: world.observer.results == ["loaded", "loaded"])


async def test_a_rule_expires_while_another_policy_is_compiled(world: World) -> None:
    await world.take(policy_text(allow="[{image: quay.io, until: 2026-03-05T00:00:00Z}, registry.corp.io]"))
    world.now = START + timedelta(days=5)
    async with world.reloader._compiling, asyncio.timeout(30):
        await world.reloader._expire()
    assert not world.approves("quay.io/x")


async def test_the_policy_without_a_rule_is_compiled_before_the_rule_expires(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock moves without a timer."""
    monkeypatch.setattr(waiting, "LONGEST_SLEEP_SECONDS", 0.001)
    until = START + timedelta(days=3)
    await world.take(policy_text(allow=f"[{{image: quay.io, until: {until.isoformat()}}}, other.io]"))
    world.now = until - timedelta(seconds=reload.LEAD_SECONDS + 1)
    task = asyncio.create_task(world.reloader._forever(world.reloader._expire_next))
    await asyncio.sleep(0.01)
    assert world.reloader._successor is None
    world.now += timedelta(seconds=1)
    await eventually(lambda: world.reloader._successor is not None)
    assert world.approves("quay.io/a")
    task.cancel()
    assert world.live.snapshot is not None
    monkeypatch.setattr(type(world.live.snapshot.policy), "compiling", None)
    world.now = until
    await world.reloader._expire()
    assert not world.approves("quay.io/a")
    assert world.approves("other.io/a")


async def test_another_mode_keeps_the_compiled_successor(world: World) -> None:
    until = START + timedelta(days=3)
    text = policy_text(allow=f"[{{image: quay.io, until: {until.isoformat()}}}, other.io]")
    await world.take(text)
    world.now = until - timedelta(seconds=1)
    assert world.live.snapshot is not None
    await world.reloader._prepare(world.live.snapshot, until)
    await world.take(text, mode="warn")
    assert world.reloader._successor is not None
    world.now = until
    await world.reloader._expire()
    assert not world.approves("quay.io/a")
    assert world.live.snapshot.mode(None).name == "warn"


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5])
async def test_a_rule_that_expires_while_its_policy_is_compiled_is_never_live_too_long(
    world: World, seconds: float
) -> None:
    """The clock advances by a second each time it is read, as if compiling took seconds."""
    until = START + timedelta(seconds=seconds)

    def now() -> datetime:
        world.now += timedelta(seconds=1)
        return world.now

    world.reloader._now = now
    live: list[bool] = []

    def note(snapshot: CompiledPolicy, source: str) -> None:
        live.append(snapshot.decide("shop", "quay.io/a").approved and world.now >= until)

    world.observer.policy_live = note  # type: ignore[method-assign]
    world.now = START - timedelta(seconds=1)
    await world.take(policy_text(allow=f"[{{image: quay.io, until: {until.isoformat()}}}, other.io]"))
    assert live == [False]
    assert world.live.snapshot is not None
    due = world.live.snapshot.next_expiry
    assert due is None or world.reloader._successor is not None


async def test_a_bug_during_expiry_does_not_end_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "AFTER_BUG_SECONDS", 0.0)
    await world.take(policy_text(allow="[{image: quay.io, until: 2026-03-05T00:00:00Z}, registry.corp.io]"))
    assert world.live.snapshot is not None
    policy, tried = world.live.snapshot.policy, []

    def fail_once(_policy: object, instant: datetime) -> object:
        tried.append(instant)
        if len(tried) == 1:
            raise RuntimeError("a bug")
        return compiling(policy, instant)

    compiling = type(policy).compiling
    monkeypatch.setattr(type(policy), "compiling", fail_once)
    world.now = START + timedelta(days=5)
    async with world.following():
        await eventually(lambda: world.log.named("policy_rule_expired") != [])
    assert len(world.log.named("policy_not_compiled")) == 1
    assert not world.approves("quay.io/x")


async def test_nothing_expires_without_a_policy(world: World) -> None:
    await world.reloader._expire()
    assert world.reloader._next_change() is None


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def thawed() -> Iterator[None]:
    """Unfreeze the objects of earlier tests before the test, and its own objects afterwards."""
    gc.unfreeze()
    gc.collect()
    yield
    gc.unfreeze()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.usefixtures("thawed")
@pytest.mark.long
@pytest.mark.parametrize(("rule_count", "policies"), [(200, 60), (2000, 100)])
async def test_a_replaced_policy_is_freed_though_it_was_frozen(
    world: World, rule_count: int, policies: int
) -> None:
    """The collector ignores frozen objects, so a cycle or a stray reference would leak them."""
    rules = "".join(f"\n  - r{number}.corp.io/team-{number % 50}/**" for number in range(rule_count))
    watched: list[weakref.ref[object]] = []
    frozen, resident = [], []
    for number in range(policies):
        assert await world.take(policy_text(f"message: change {number}\n", allow=rules)) == "loaded"
        assert world.live.snapshot is not None
        for image in (f"r{number}.corp.io/team-{number % 50}/app:1", f"elsewhere.io/app:{number}"):
            world.live.snapshot.decide("shop", image)
            world.live.snapshot.plan("shop", image)
        watched += [
            weakref.ref(world.live.snapshot),
            weakref.ref(world.live.snapshot.policy),
        ]
        assert await world.take((BAD, "a: [", None)[number % 3]) == "refused"
        # Do not count the references of the test itself.
        world.log.lines.clear()
        world.observer.__init__()  # type: ignore[misc]
        frozen.append(gc.get_freeze_count())
        resident.append(resident_bytes())
        assert gc.isenabled()

    assert [watch for watch in watched[:-2] if watch() is not None] == []
    assert all(watch() is not None for watch in watched[-2:])
    assert max(frozen[20:]) - frozen[20] < rule_count, "less than one object for each rule"
    assert max(resident[50:]) - resident[50] < 16 * 2**20
    world.live.snapshot = world.reloader.loaded = None
    gc.unfreeze()
    assert gc.collect() < 1000, "garbage was frozen"


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("thawed")
async def test_garbage_that_waited_for_the_collector_is_not_frozen(world: World) -> None:
    """The soak found this: connections that ended badly leaked when a policy was loaded after them."""
    cycle = weakref.ref(_Cycle())
    assert await world.take(GOOD) == "loaded"
    assert cycle() is None


@pytest.mark.usefixtures("thawed")
async def test_compiled_policies_are_freed_when_rules_expire(world: World) -> None:
    """The policy stays, and is compiled again without the expired rules."""
    days = range(1, 21)
    rules = "".join(
        f"\n  - {{image: r{day}.io, until: {(START + timedelta(days=day)).isoformat()}}}" for day in days
    )
    await world.take(policy_text(allow=f"{rules}\n  - other.io"))
    watched: list[weakref.ref[object]] = []
    for day in days:
        assert world.live.snapshot is not None
        watched.append(weakref.ref(world.live.snapshot))
        assert world.approves(f"r{day}.io/a")
        world.now = START + timedelta(days=day)
        await world.reloader._expire()
        assert not world.approves(f"r{day}.io/a")
        assert world.approves("other.io/a")

    assert [watch for watch in watched if watch() is not None] == []
    assert world.live.snapshot.policy is world.reloader.loaded.policy  # type: ignore[union-attr]


class TestParsing:
    """Parsing is expensive, so a document is parsed only when its text changed."""

    async def test_another_mode_keeps_an_expired_rule_out(self, world: World) -> None:
        until = START + timedelta(days=1)
        text = policy_text(allow=f"[{{image: quay.io, until: {until.isoformat()}}}, other.io]")
        await world.take(text)
        world.now = until
        await world.reloader._expire()
        await world.take(text, mode="warn")
        assert not world.approves("quay.io/a")

    @pytest.mark.parametrize("cause", ["memory", "cpu", "bug"])
    async def test_a_document_that_is_too_costly_is_not_parsed_again(self, world: World, cause: Any) -> None:
        await world.take(GOOD)
        world.parser.failures.append(ParserError(cause, "it needs more than it may"))
        assert await world.take(OTHER) == "refused"
        assert await world.take(OTHER) == "refused"
        assert world.parser.parsed == [GOOD, OTHER]
        assert world.approves("registry.corp.io/a")
        assert world.reloader.refused is not None
        assert world.reloader.refused.final
        (finding,) = world.reloader.refused.findings
        assert "it needs more than it may" in finding.message

    @pytest.mark.parametrize(
        ("text", "paths"),
        [
            pytest.param(OTHER, ["data.x"], id="good-document"),
            pytest.param(BAD, ["data.x", "allow[0]", "colour"], id="bad-document"),
        ],
    )
    async def test_a_problem_of_the_source_is_listed_with_those_of_the_document(
        self, world: World, text: str, paths: list[str]
    ) -> None:
        await world.take(GOOD)
        error = Finding(severity="error", code="unknown-key", path="data.x", line=1, message="no")
        delivery = Delivery(text=text, problem="it holds another key", findings=(error,))
        assert await world.reloader.apply(delivery) == "refused"
        assert world.reloader.refused is not None
        assert [finding.path for finding in world.reloader.refused.findings] == paths
        assert world.approves("registry.corp.io/a")
        # After the key is removed, the text is parsed again, because the key may have been its only problem.
        assert await world.take(text) == ("loaded" if text == OTHER else "refused")


class TestRetries:
    """The document may be good even if the parser process does not start, is killed or is too slow."""

    @pytest.mark.parametrize("cause", ["start", "died", "time"])
    async def test_a_failed_document_is_retried_until_it_loads(
        self, world: World, cause: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(world.reloader._feed, "_first_retry", 0.001)
        world.parser.failures = [ParserError(cause, "no luck")] * 3
        async with world.following(GOOD):
            await eventually(lambda: world.reloader.loaded is not None)
        assert world.parser.parsed == [GOOD] * 4
        assert world.observer.results == ["refused"] * 3 + ["loaded"]
        assert world.reloader.refused is None

    async def test_another_document_is_parsed_at_once(self, world: World) -> None:
        world.parser.failures.append(ParserError("start", "no luck"))
        assert await world.take(GOOD) == "refused"
        assert world.reloader.refused is not None
        assert not world.reloader.refused.final
        assert await world.take(OTHER) == "loaded"


async def test_a_policy_that_could_not_be_linted_is_live_all_the_same(world: World) -> None:
    world.parser.lint_failure = ParserError("cpu", "it needs more than 10 s of processor time")
    assert await world.take(GOOD) == "loaded"
    assert world.approves("registry.corp.io/a")
    assert world.reloader.loaded is not None
    assert [finding.code for finding in world.reloader.loaded.findings] == ["not-linted"]
    assert world.log.named("policy_not_linted") != []


async def test_many_findings_make_a_bounded_log_line(world: World) -> None:
    await world.take(policy_text(allow=f"[{', '.join(['nginx'] * 1000)}]"))
    assert world.reloader.refused is not None
    findings = world.reloader.refused.findings
    (line,) = world.log.named("policy_refused")
    assert len(json.dumps(line)) < 16_384
    assert len(line["findings"]) + line["more_findings"] == len(findings) == 101
    assert line["findings"][0] == f"{findings[0].code}: {findings[0]}"


UNTIL = datetime(2026, 6, 1, tzinfo=UTC)
DATED = policy_text(
    "deny: ['*/**:latest']\n",
    allow="[other.io, {image: quay.io/team/**, until: 2026-06-01, owner: build team}]",
)


class TestLintAgain:
    """The findings stay true for months without a delivery."""

    async def test_the_findings_follow_the_clock(self, world: World) -> None:
        await world.take(DATED)
        assert world.observer.codes == []
        for now, codes, parsed in (
            (UNTIL - timedelta(days=14, seconds=1), [], 1),
            (UNTIL - timedelta(days=14), ["expires-soon"], 2),
            (UNTIL - timedelta(seconds=1), ["expires-soon"], 2),
            (UNTIL, ["expired"], 3),
            (UNTIL + timedelta(days=365), ["expired"], 3),
        ):
            world.now = now
            await world.reloader._lint_again()
            assert world.reloader.loaded is not None
            assert [each.code for each in world.reloader.loaded.findings] == world.observer.codes == codes
            assert len(world.parser.parsed) == parsed
        assert world.observer.results == ["loaded"]
        lines = world.log.named("policy_linted")
        assert len(lines) == 2
        assert "it expired at 2026-06-01T00:00:00Z (owner: build team)" in lines[-1]["findings"][0]

    async def test_a_server_without_a_policy_lints_nothing(self, world: World) -> None:
        await world.reloader._lint_again()
        assert world.parser.parsed == []

    async def test_a_running_server_lints_by_itself(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "LONGEST_SLEEP_SECONDS", 0.001)
        async with world.following(DATED):
            await eventually(lambda: world.observer.results == ["loaded"])
            world.now = UNTIL
            await eventually(lambda: world.observer.codes == ["expired"])

    async def test_another_mode_is_linted(self, world: World) -> None:
        await world.take(GOOD)
        await world.take(GOOD, mode="warn")
        assert world.observer.codes == ["floating-latest"]
        world.now += timedelta(seconds=reload.LEAST_LINT_PAUSE_SECONDS)
        await world.reloader._lint_again()
        assert sorted(world.observer.codes) == ["floating-latest", "mode-overridden"]
        await world.reloader._lint_again()
        assert len(world.parser.parsed) == 2

    async def test_a_mode_that_changes_meanwhile_is_linted_next(self, world: World) -> None:
        await world.take(GOOD)
        await world.take(GOOD, mode="warn")
        judge = world.parser.judge

        async def slow(*arguments: Any, **more: Any) -> Any:
            report = await judge(*arguments, **more)
            await world.take(GOOD, mode="enforce")
            return report

        world.parser.judge = slow  # type: ignore[method-assign]
        world.now += timedelta(seconds=reload.LEAST_LINT_PAUSE_SECONDS)
        await world.reloader._lint_again()
        assert world.observer.codes == ["floating-latest"]
        assert world.reloader.loaded is not None
        assert world.reloader.loaded.lint_due == world.now + timedelta(
            seconds=reload.LEAST_LINT_PAUSE_SECONDS
        )

    async def test_a_policy_that_was_loaded_meanwhile_is_not_linted_again(self, world: World) -> None:
        await world.take(DATED)
        world.now = UNTIL
        async with world.parser.turn():
            task = asyncio.create_task(world.reloader._lint_again())
            await asyncio.sleep(0)
            assert world.reloader.loaded is not None
            world.reloader.loaded = replace(world.reloader.loaded, lint_due=None)
        await task
        assert world.parser.parsed == [DATED]

    @pytest.mark.parametrize(("cause", "again"), [("died", timedelta(seconds=300)), ("cpu", None)])
    async def test_a_failure_is_shown_and_tried_again_unless_the_document_is_too_costly(
        self, world: World, cause: Any, again: timedelta | None
    ) -> None:
        await world.take(DATED)
        world.now = UNTIL
        world.parser.failures.append(ParserError(cause, "no luck"))
        await world.reloader._lint_again()
        assert world.observer.codes == ["not-linted"]
        assert world.approves("other.io/a:1")
        assert world.reloader.loaded is not None
        assert world.reloader.loaded.lint_due == (None if again is None else UNTIL + again)

    async def test_rules_that_expire_one_after_another_cost_a_twentieth_of_the_time(
        self, world: World
    ) -> None:
        dates = ((UNTIL + timedelta(seconds=second)).isoformat() for second in range(100))
        rules = ", ".join(f"{{image: r.io/x{index}, until: '{at}'}}" for index, at in enumerate(dates))
        await world.take(policy_text(allow=f"[other.io, {rules}]"))
        world.now = UNTIL
        judge = world.parser.judge

        async def slow(*arguments: Any, **more: Any) -> Any:
            world.now += timedelta(seconds=5)
            return await judge(*arguments, **more)

        world.parser.judge = slow  # type: ignore[method-assign]
        await world.reloader._lint_again()
        assert world.reloader.loaded is not None
        assert world.reloader.loaded.lint_due == world.now + timedelta(seconds=100)

    async def test_lint_that_is_interrupted_pauses(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise, deliveries that are refused would start and interrupt it all the time."""
        monkeypatch.setattr(reload, "LEAST_LINT_PAUSE_SECONDS", 0.2)
        await world.take(DATED)
        world.now = UNTIL
        begun = []

        async def interrupted(*_: Any, **__: Any) -> Any:
            begun.append(world.now)
            raise Interrupted

        world.parser.judge = interrupted  # type: ignore[method-assign]
        task = asyncio.create_task(world.reloader._forever(world.reloader._lint_when_due))
        await asyncio.sleep(0.3)
        task.cancel()
        assert 1 <= len(begun) <= 2
