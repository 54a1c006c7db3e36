"""Documents with exceptions become live, within the shares that one tenant may take from the others."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from datetime import datetime, timedelta

import pytest

from gatekeeper_py.core.exceptions.document import MAX_BYTES
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.live.exceptions import keeper, queue
from gatekeeper_py.live.exceptions.queue import RESERVE_SECONDS
from gatekeeper_py.live.parser.process import ParserError
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import MAX_LINES
from live.exceptions.world import GRANTS, IMAGE, TEAM, World, document
from support.fakeapi import until


async def test_a_document_and_its_removal_take_effect_at_once(world: World) -> None:
    assert not world.approves()
    await world.deliver(document("ghcr.io/acme/*"))
    assert await world.keeper.step() is None
    assert world.approves()
    assert not world.approves(namespace="team-b")
    await world.deliver(None)
    assert not world.approves()


async def test_begin_and_end_act_at_the_instant_although_the_decision_is_cached(world: World) -> None:
    await world.load(document(IMAGE))
    end = datetime.fromisoformat("2026-03-05T00:00:00Z")
    for now, expected in ((end - timedelta(microseconds=1), True), (end, False)):
        world.now = now
        assert world.approves() is expected
    assert world.live.snapshot is not None
    assert world.live.snapshot.cache is not None
    assert world.live.snapshot.cache.counts.hits == 1


async def test_exceptions_stay_when_the_policy_changes(world: World) -> None:
    await world.load(document(IMAGE))
    world.use(GRANTS + "message: hello\n")
    assert world.approves()
    world.use("")
    assert not world.approves()
    world.use(GRANTS)
    assert not world.approves()  # until the documents are read again


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(document("ghcr.io/acme/*").replace("until", "untill"), id="unknown-field"),
        pytest.param("{", id="not-yaml"),
        pytest.param("", id="empty"),
    ],
)
async def test_a_bad_document_approves_nothing_and_the_last_good_one_is_not_kept(
    world: World, bad: str
) -> None:
    await world.deliver(document(IMAGE))
    await world.load(document("ghcr.io/b"), DocumentKey("namespace", "team-b"))
    await world.deliver(bad)
    await world.step_after(1)
    assert not world.approves()
    assert world.approves("ghcr.io/b", "team-b")
    [refused] = world.log.named("exceptions_refused")
    assert (refused["source"], refused["namespace"]) == ("namespace", "team-a")
    assert all(each.count("line ") == 1 for each in refused["findings"])
    [(key, findings)] = world.keeper.refused()
    assert key == TEAM
    assert findings
    await world.keeper.entries.count()
    assert world.keeper.entries.counts["namespace", "invalid"] == 1
    await world.deliver(document(IMAGE))
    await world.step_after(1)
    assert world.approves()
    assert not list(world.keeper.refused())


async def test_a_bad_configmap_approves_nothing_at_once(world: World) -> None:
    await world.load(document(IMAGE))
    problem = Finding(severity="error", code="unknown-key", path="data.x", line=1, message="x")
    await world.deliver(document(IMAGE), TEAM, problem)
    assert not world.approves()
    assert dict(world.keeper.refused()) == {TEAM: (problem,)}
    await world.deliver(document(IMAGE))
    await world.step_after(1)
    assert world.approves()


async def test_without_a_grant_for_its_source_a_document_is_not_parsed(world: World) -> None:
    await world.load(document(IMAGE), DocumentKey("break-glass", "gatekeeper-py"))
    assert world.parser.parsed == []


async def test_a_document_is_parsed_again_only_when_its_text_changes(world: World) -> None:
    for _ in range(3):
        await world.deliver(document(IMAGE))
        await world.step_after(5)
    assert len(world.parser.parsed) == 1


async def test_a_document_is_parsed_at_most_once_a_second_with_its_newest_text(world: World) -> None:
    await world.settle()
    texts = [document(f"ghcr.io/acme/tool:{number}") for number in range(10)]
    for text in texts:
        await world.load(text)
        world.advance(0.05)
    assert await world.keeper.step() == pytest.approx(0.5)
    assert world.parser.parsed == texts[:1]
    await world.step_after(0.51)
    assert world.parser.parsed == [texts[0], texts[-1]]


@pytest.mark.parametrize("between", [None, "bad"], ids=["deleted", "bad-configmap"])
async def test_a_recreated_document_is_not_parsed_more_often(world: World, between: str | None) -> None:
    await world.settle()
    problem = Finding(severity="error", code="unknown-key", path="data.x", line=1, message="x")
    for number in range(10):
        await world.load(document(f"ghcr.io/acme/tool:{number}"))
        await world.load(None, TEAM, *([problem] if between else []))
        world.advance(0.05)
    assert len(world.parser.parsed) == 1


async def test_documents_are_parsed_in_the_order_of_their_changes(world: World) -> None:
    keys = [DocumentKey("namespace", f"team-{number}") for number in range(5)]
    for key in keys:
        await world.deliver(document(key.namespace), key)
        world.advance(0.01)
    await world.deliver(document("changed"), keys[0])  # keeps its place
    await world.keeper.step()
    assert world.parser.parsed == [
        document(name) for name in ("changed", "team-1", "team-2", "team-3", "team-4")
    ]


def parse_slowly(world: World, monkeypatch: pytest.MonkeyPatch, pause: float = 0.2) -> None:
    """Let each parse take some seconds of the world's clock."""
    parse = world.parser.parse_exceptions

    async def slow(text: str, source: Source, *, seconds: float | None = None) -> object:
        world.clock += pause
        return await parse(text, source, seconds=seconds)

    monkeypatch.setattr(world.parser, "parse_exceptions", slow)


async def test_parsing_takes_at_most_a_tenth_of_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.settle()
    parse_slowly(world, monkeypatch)
    for number in range(20):
        await world.deliver(document("ghcr.io/x"), DocumentKey("namespace", f"team-{number}"))
    start = world.clock
    while (pause := await world.keeper.step()) is not None:
        world.advance(pause)
    assert len(world.parser.parsed) == 20
    assert (20 * 0.2 - RESERVE_SECONDS) / (world.clock - start) <= 0.11


@pytest.mark.parametrize("size", [0, MAX_BYTES - 1_000], ids=["small", "large"])
@pytest.mark.parametrize("crowd", [1, 8, 100])
async def test_a_flood_of_others_suspends_no_unchanged_document_and_delays_no_quiet_one(
    world: World, monkeypatch: pytest.MonkeyPatch, crowd: int, size: int
) -> None:
    unchanged, quiet = DocumentKey("namespace", "unchanged"), DocumentKey("namespace", "quiet")
    for key in (unchanged, quiet):
        await world.load(document(IMAGE), key)
    await world.settle_with(unchanged, quiet)
    parse_slowly(world, monkeypatch, 0.12)
    monkeypatch.setattr(queue, "FORGET_SECONDS", 10.0)
    flood = "#" * (MAX_BYTES - 1_000)
    changed_at, image = world.clock, IMAGE
    for tick in range(100):
        for each in range(tick % 4, crowd, 4):  # each changes once a second
            await world.deliver(f"{document(IMAGE)}{flood}{tick}", DocumentKey("namespace", f"team-{each}"))
        assert world.approves(namespace="unchanged")
        assert world.approves(namespace="quiet")
        if not world.approves(image, "quiet"):
            assert world.clock < changed_at + keeper.STALE_SECONDS
        elif tick % 20 == 15:
            changed_at, image = world.clock, f"ghcr.io/acme/tool:{tick}"
            await world.deliver(document(IMAGE, image) + "#" * size, quiet)
        await world.step_after(0.25)
    assert image != IMAGE


async def test_the_first_list_does_not_wait_for_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a flood could keep a new replica without the exceptions of others."""
    parse_slowly(world, monkeypatch, 1.0)
    await world.load(document(IMAGE))
    for number in range(3):
        await world.step_after(1)
        await world.load(document(f"ghcr.io/acme/tool:{number}"))
    for number in range(20):
        await world.deliver(document(IMAGE), DocumentKey("namespace", f"team-{number}"))
    await world.keeper.step()
    assert all(world.approves(namespace=f"team-{number}") for number in range(20))


async def test_what_may_be_read_again_is_read_without_pauses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.load(document(IMAGE))
    sources: frozenset[Source] = frozenset({"namespace", "installation"})
    world.keeper.unreadable(sources)
    assert world.keeper.problem() == ""
    await world.step_after(1)
    parse_slowly(world, monkeypatch)
    keys = [DocumentKey("namespace", f"team-{number}") for number in range(20)]
    for key in keys:
        await world.deliver(document(IMAGE), key)
    assert await world.keeper.step() is None
    assert all(world.approves(namespace=key.namespace) for key in keys)


async def test_the_longest_text_makes_room_for_the_change_of_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.load(document(IMAGE))
    await world.settle_with(TEAM)
    monkeypatch.setattr(keeper, "MAX_WAITING_BYTES", 100_000)
    for number in range(10):
        text = f"{document(IMAGE)}# {'x' * 30_000}"
        await world.deliver(text, DocumentKey("namespace", f"flood-{number}"))
    world.advance(1)
    await world.deliver(document("ghcr.io/changed") + "#" * 20_000)
    assert TEAM not in dict(world.keeper.refused())
    assert len(dict(world.keeper.refused())) == 8
    await world.keeper.step()
    assert world.approves("ghcr.io/changed")


async def test_the_largest_documents_make_room_for_smaller_ones_and_the_newest_of_them_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after a change nor in a new replica do the documents of a flood displace those of others."""
    monkeypatch.setattr(keeper, "MAX_ENTRIES_OF_NAMESPACES", 8)
    small, old, new = (DocumentKey("namespace", name) for name in ("small", "old", "new"))
    large = document(IMAGE, "ghcr.io/b", "ghcr.io/c", "ghcr.io/d")
    for key in (old, new):
        await world.load(large, key)
        world.advance(1)
    await world.load(document(IMAGE), small)
    assert [world.approves(namespace=key.namespace) for key in (small, old, new)] == [True, True, False]
    [(refused, (finding,))] = world.keeper.refused()
    assert (refused, finding.code) == (new, "too-many-entries")
    await world.step_after(keeper.ROOM_SECONDS)
    await world.load(large, new)  # it is read again
    assert [world.approves(namespace=key.namespace) for key in (small, old, new)] == [True, True, False]


async def test_the_first_list_is_read_without_pauses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_slowly(world, monkeypatch)
    keys = [DocumentKey("namespace", f"team-{number}") for number in range(100)]
    for key in keys:
        await world.deliver(document(IMAGE), key)
    assert await world.keeper.step() is None
    assert len(world.parser.parsed) == 100
    world.keeper.listed(frozenset({"namespace", "installation"}), frozenset(keys))
    world.advance(1)
    for key in keys[:3]:
        await world.deliver(document("ghcr.io/changed"), key)
    assert await world.keeper.step() == pytest.approx(9 * 2 * 0.2 - 10 * RESERVE_SECONDS, abs=0.01)


async def test_an_old_version_stops_when_the_new_one_waits_too_long(world: World) -> None:
    await world.load(document(IMAGE))
    await world.deliver(document("ghcr.io/other"))
    world.advance(keeper.STALE_SECONDS - 0.01)
    assert world.approves()
    world.advance(0.01)
    assert not world.approves()
    await world.keeper.step()
    assert world.approves("ghcr.io/other")


async def test_a_text_that_was_replaced_while_it_was_parsed_never_takes_effect(world: World) -> None:
    await world.deliver(document(IMAGE))
    async with world.parser.turn():
        step = asyncio.create_task(world.keeper.step())
        await asyncio.sleep(0)
        await world.deliver(document("ghcr.io/other"))
    await step
    assert world.parser.parsed == [document(IMAGE)]
    assert not world.approves()
    await world.step_after(1)
    assert world.approves("ghcr.io/other")


async def test_documents_that_a_list_lacks_are_gone(world: World) -> None:
    other = DocumentKey("namespace", "team-b")
    await world.deliver(document(IMAGE))
    await world.load(document(IMAGE), other)
    world.keeper.listed(frozenset({"namespace", "installation"}), frozenset({other}))
    assert (world.approves(), world.approves(namespace="team-b")) == (False, True)
    assert world.readable == {"namespace": True, "installation": True}


async def test_exceptions_that_may_not_be_read_approve_nothing(world: World) -> None:
    await world.load(document(IMAGE))
    world.keeper.unreadable(frozenset({"namespace", "installation"}))
    assert not world.approves()
    assert world.readable == {"namespace": False, "installation": False}
    assert world.keeper.problem() == ""


async def test_a_source_without_a_grant_is_neither_readable_nor_unreadable(world: World) -> None:
    world.keeper.unreadable(frozenset({"namespace", "installation"}))
    world.use("")
    world.keeper.unreadable(frozenset({"namespace"}))  # an answer that arrives later
    assert world.readable == {"namespace": None, "installation": None}
    assert not world.keeper.unread


LIMITS = pytest.mark.parametrize(
    ("limit", "code"),
    [("MAX_OF_NAMESPACES", "too-many-documents"), ("MAX_ENTRIES_OF_NAMESPACES", "too-many-entries")],
)


async def _fill(world: World, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Deliver one document more than the limit, which is 2."""
    monkeypatch.setattr(keeper, limit, 2)
    for name in ("team-a", "team-b", "team-c"):
        await world.load(document(IMAGE), DocumentKey("namespace", name))


@LIMITS
async def test_more_documents_or_entries_than_the_limit_approve_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str, code: str
) -> None:
    await _fill(world, monkeypatch, limit)
    assert [world.approves(namespace=name) for name in ("team-a", "team-b", "team-c")] == [True, True, False]
    [refused] = world.log.named("exceptions_refused")
    assert code in refused["findings"][0]
    world.keeper.listed(frozenset({"installation"}), frozenset())
    assert [(key.namespace, finding.code) for key, (finding,) in world.keeper.refused()] == [("team-c", code)]
    await world.keeper.entries.count()
    assert world.keeper.entries.counts["namespace", "invalid"] == 1
    await world.deliver(None)
    await world.step_after(2)
    await world.load(document(IMAGE, "ghcr.io/b"), DocumentKey("namespace", "team-d"))
    assert world.approves(namespace="team-d") is (limit == "MAX_OF_NAMESPACES")


async def test_a_document_of_the_installation_does_not_wait_for_those_of_namespaces(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these takes ten times its duration of the time. An emergency cannot wait for them."""
    await world.settle()
    start = world.clock
    parse_slowly(world, monkeypatch)
    for number in range(20):
        await world.load(document("ghcr.io/x"), DocumentKey("namespace", f"team-{number}"))
    key = DocumentKey("installation", "gatekeeper-py")
    for number in range(3):
        await world.deliver(document(f"quay.io/x{number}"), key)
        assert not world.approves(f"quay.io/x{number}")
        pause = await world.keeper.step()
        assert world.approves(f"quay.io/x{number}")
        assert pause is not None
        world.advance(keeper.APART_SECONDS)  # each document is parsed at most once a second
    used = 0.2 * sum("ghcr.io" in text for text in world.parser.parsed)
    assert used <= RESERVE_SECONDS + 0.2 + (world.clock - start) / 10


@LIMITS
async def test_documents_of_namespaces_leave_room_for_those_of_the_installation(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str, code: str
) -> None:
    """Otherwise a tenant with many namespaces could prevent an exception in an emergency."""
    await _fill(world, monkeypatch, limit)
    await world.load(document("quay.io/x"), DocumentKey("installation", "gatekeeper-py"))
    assert world.approves("quay.io/x"), code


@LIMITS
async def test_a_document_beyond_a_limit_acts_when_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str, code: str
) -> None:
    """The whole list is read again, because the API server sends no event about such a document."""
    await _fill(world, monkeypatch, limit)
    lists = 0

    async def read(_sources: frozenset[Source]) -> None:
        nonlocal lists
        lists += 1
        await asyncio.Event().wait()

    running = asyncio.create_task(world.keeper.run(read))
    try:
        await until(lambda: lists == 1)
        await world.deliver(None)
        await world.step_after(2)
        world.advance(keeper.ROOM_SECONDS)
        await until(lambda: lists == 2)
        await world.deliver(document(IMAGE), DocumentKey("namespace", "team-c"))
        await until(lambda: world.approves(namespace="team-c"))
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert not list(world.keeper.refused()), code


@pytest.mark.parametrize("cause", ["cpu", "died"])
async def test_a_document_that_cannot_be_parsed_is_tried_again_only_if_that_may_help(
    world: World, cause: str
) -> None:
    world.parser.failures = [ParserError(cause, "it failed")]  # type: ignore[arg-type]
    await world.load(document(IMAGE))
    assert not world.approves()
    assert [findings[0].code for _, findings in world.keeper.refused()] == ["not-parsed"]
    await world.step_after(keeper.RETRY_SECONDS)
    assert world.approves() is (cause == "died")


async def test_a_change_of_the_policy_goes_first(world: World) -> None:
    async with world.parser.turn():
        await world.deliver(document(IMAGE))
        step = asyncio.create_task(world.keeper.step())
        await asyncio.sleep(0)
        assert world.parser.parsed == []
    await step
    assert world.approves()


async def test_a_replica_that_starts_is_ready_once_it_has_read_the_exceptions(world: World) -> None:
    assert world.keeper.problem()
    await world.deliver(document(IMAGE))
    world.keeper.listed(frozenset({"namespace", "installation"}), frozenset({TEAM}))
    assert world.keeper.problem()
    await world.keeper.step()
    assert world.keeper.problem() == ""
    assert World("").keeper.problem() == ""


async def test_a_replica_becomes_ready_even_if_nobody_answers(world: World) -> None:
    world.advance(keeper.READY_SECONDS + 1)
    assert world.keeper.problem() == ""


async def test_new_grants_do_not_make_a_running_replica_unready(world: World) -> None:
    world = World("")
    world.use(GRANTS)
    assert world.keeper.problem() == ""


async def test_run_reads_the_granted_sources_and_again_when_they_change(world: World) -> None:
    reads: list[frozenset[Source]] = []
    world.use("")

    async def read(granted: frozenset[Source]) -> None:
        reads.append(granted)
        await world.deliver(document(IMAGE))
        await asyncio.Event().wait()

    running = asyncio.create_task(world.keeper.run(read))
    world.use(GRANTS)
    await until(world.approves)
    world.use(GRANTS.partition("  - {source: installation")[0])
    await until(lambda: len(reads) == 2)
    assert reads == [frozenset({"namespace", "installation"}), frozenset({"namespace"})]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_source_waits_while_the_texts_that_wait_take_too_much_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MAX_WAITING_BYTES", 100_000)
    text = f"{document(IMAGE)}# {'x' * 30_000}"
    for mark in ("", "\N{GRINNING FACE}"):
        await world.deliver(text + mark)
    await world.deliver(text, DocumentKey("namespace", "team-b"))
    waiting = asyncio.create_task(
        world.deliver(text + "\N{GRINNING FACE}" * 10_000, DocumentKey("namespace", "team-c"))
    )
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await world.keeper.step()
    await waiting


async def test_a_flood_of_texts_does_not_delay_that_another_document_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds no room approves nothing until it is read again. The source never waits."""
    await world.settle()
    monkeypatch.setattr(keeper, "MAX_WAITING_BYTES", 100_000)
    removed, late = DocumentKey("namespace", "removed"), DocumentKey("namespace", "late")
    for key in (removed, late):
        await world.load(document(IMAGE), key)
    for number in range(3):
        await world.deliver(f"{document(IMAGE)}# {'x' * 30_000}", DocumentKey("namespace", f"team-{number}"))
    changed = f"{document('ghcr.io/late')}# {'x' * 31_000}"
    await world.deliver(changed, late)
    await world.deliver(None, removed)
    assert not world.approves(namespace="removed")
    assert not world.approves(namespace="late")
    assert {finding.code for _, (finding,) in world.keeper.refused()} == {"too-many-changes"}
    await world.deliver(document("quay.io/x"), DocumentKey("installation", "gatekeeper-py"))
    while (pause := await world.keeper.step()) is not None:
        world.advance(pause)
    assert world.approves("quay.io/x", "late")
    await world.deliver(changed, late)  # because the list is read again
    await world.step_after(1)
    assert world.approves("ghcr.io/late", "late")


async def test_the_texts_that_wait_take_no_more_memory_than_their_size(world: World) -> None:
    """One emoji makes each character of a text take four bytes."""
    text = f"{document(IMAGE)}# {'x' * 60_000}\N{GRINNING FACE}"
    tracemalloc.start()
    try:
        for number in range(20):
            await world.deliver(f"{text}{number}", DocumentKey("namespace", f"team-{number}"))
        assert tracemalloc.get_traced_memory()[0] < 20 * 70_000
    finally:
        tracemalloc.stop()


async def test_few_findings_about_a_bad_document_are_kept(world: World) -> None:
    await world.load("apiVersion: x\n" + "".join(f"a{number}: 1\n" for number in range(200)))
    [(_, findings)] = world.keeper.refused()
    assert len(findings) == keeper.MAX_KEPT
    [line] = world.log.named("exceptions_refused")
    assert len(line["findings"]) + line["more_findings"] == 101


async def test_bad_documents_of_namespaces_do_not_hide_those_of_the_installation(world: World) -> None:
    installed = DocumentKey("installation", "gatekeeper-py")
    for key in (TEAM, DocumentKey("namespace", "team-b"), installed):
        await world.load("bad: [", key)
    assert next(key for key, _ in world.keeper.refused()) == installed
    assert len(list(world.keeper.refused())) == 3


@pytest.mark.parametrize("gone", ["deleted", "unlisted", "unreadable", "no-grant"])
async def test_a_document_beyond_the_limit_that_is_gone_is_not_shown(
    world: World, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    await _fill(world, monkeypatch, "MAX_OF_NAMESPACES")
    sources: frozenset[Source] = frozenset({"namespace"})
    match gone:
        case "deleted":
            await world.deliver(None, DocumentKey("namespace", "team-c"))
        case "unlisted":
            world.keeper.listed(sources, frozenset({TEAM}))
        case "unreadable":
            world.keeper.unreadable(sources)
        case _:
            world.use("")
    assert not list(world.keeper.refused())


async def test_a_bad_document_does_not_hide_another_in_the_log(world: World) -> None:
    """Each namespace has 200 lines a second, and the others are counted. The installation loses no line."""
    own = DocumentKey("installation", "gatekeeper-py")
    for number in range(MAX_LINES + 2):
        for key in (TEAM, DocumentKey("namespace", "team-b"), own):
            problem = Finding(severity="error", code="x", path=f"{number}", line=1, message="x")
            await world.deliver(None, key, problem)
    lines = [line["namespace"] for line in world.log.named("exceptions_refused")]
    assert Counter(lines) == {"team-a": MAX_LINES, "team-b": MAX_LINES, "gatekeeper-py": MAX_LINES + 2}
    world.advance(1)
    assert world.log.named("exceptions_refused_suppressed") == [
        {"namespace": "team-a", "count": 2},
        {"namespace": "team-b", "count": 2},
    ]


async def test_changes_become_live_together_if_that_takes_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant may delete and create documents all the time, and each change copies 10,000 names."""
    use, uses = world.live.use_exceptions, []

    def slow(exceptions: Exceptions) -> None:
        world.clock += 0.01
        uses.append(exceptions)
        use(exceptions)

    monkeypatch.setattr(LivePolicy, "use_exceptions", lambda _, exceptions: slow(exceptions))
    keys = [DocumentKey("namespace", f"team-{number}") for number in range(50)]
    for key in keys:
        await world.load(document(IMAGE), key)
    installs = len(uses)
    for key in keys:
        await world.deliver(None, key)
    assert len(uses) == installs
    world.advance(0.1)
    assert len(uses) == installs + 1
    assert not any(world.approves(namespace=key.namespace) for key in keys)
