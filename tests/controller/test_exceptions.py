"""Events report bad documents, ends and break-glass once, and no tenant can cause too many of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.world import INSTALLATION, START, FakeCluster
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.events import Events
from gatekeeper_py.controller.exceptions import APART_SECONDS, ExceptionEvents
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.policy.configmap import ExceptionsText
from gatekeeper_py.core.policy.instant import format_instant
from support.builders import exceptions_text, policy
from support.parsing import InProcessParser
from support.recording import RecordingLog

GRANTS = "exceptions:\n" + "".join(
    f"  - {{source: {source}, images: ['ghcr.io/**'], longest: 400d}}\n" for source in SOURCES
)
TEAM = DocumentKey("namespace", "team-a")
OWN = DocumentKey("installation", "ns")
EMERGENCY = DocumentKey("break-glass", "ns")
BAD = "{"
TOMORROW = "approved until 2026-01-02T00:00:00Z: ghcr.io/acme/tool:1"


def entry(image: str = "ghcr.io/acme/tool:1", *, days: float = 1.0, more: str = "") -> str:
    until = format_instant(START + timedelta(days=days))
    return f"image: '{image}', until: {until}, reason: INC-1{more}"


class World:
    def __init__(self, more: str = GRANTS, *, enabled: bool = True) -> None:
        self.api, self.log, self.now, self.clock = FakeCluster(), RecordingLog(), START, 0.0
        self.events = ExceptionEvents(
            InProcessParser(),
            Events(self.api, INSTALLATION, log=self.log, now=lambda: self.now),
            enabled=enabled,
            log=self.log,
            now=lambda: self.now,
            monotonic=lambda: self.clock,
            sleep=self.advance,
        )
        self.events.use_policy(policy(more).policy)
        self.paused = 0.0

    async def advance(self, seconds: float) -> None:
        self.clock += seconds
        self.now += timedelta(seconds=seconds)
        self.paused += seconds

    async def deliver(self, key: DocumentKey, text: str | None) -> None:
        await self.events.keeper.deliver(ExceptionsText(key=key, text=text))

    async def recorded(self) -> list[dict[str, Any]]:
        """Parse and count what was delivered. Return the Events that are recorded then."""
        self.clock += 1.0
        while await self.events.keeper.step() is not None:
            self.clock += 1.0
        await self.events.keeper.entries.count()
        before = len(self.api.posted)
        await self.events.record()
        return [event for _, event in self.api.posted[before:]]


@pytest.mark.parametrize(
    ("key", "text", "reason", "name", "message"),
    [
        pytest.param(
            TEAM,
            exceptions_text("image: nginx, until: 2026-01-02, reason: x"),
            "ExceptionsInvalid",
            "gatekeeper-py-exceptions",
            "none of its exceptions counts: line 4, exceptions[0].image:",
            id="bad",
        ),
        pytest.param(
            TEAM,
            exceptions_text(entry(), entry(days=30)),
            "ExceptionEnds",
            "gatekeeper-py-exceptions",
            f"{TOMORROW} (team-a/gatekeeper-py-exceptions) (team-a: INC-1)",
            id="ends-soon",
        ),
        pytest.param(
            OWN,
            exceptions_text(entry(more=", owner: a, namespaces: [shop]")),
            "ExceptionEnds",
            "gatekeeper-py-exceptions",
            f"{TOMORROW} in shop (ns/gatekeeper-py-exceptions) (a: INC-1)",
            id="of-the-installation",
        ),
        pytest.param(
            EMERGENCY,
            exceptions_text(*(entry(f"ghcr.io/{name}", days=9) for name in "abcde")),
            "BreakGlass",
            "gatekeeper-py-break-glass",
            "approved until 2026-01-10T00:00:00Z: ghcr.io/a (ns/gatekeeper-py-break-glass, 4 more) (ns",
            id="break-glass",
        ),
    ],
)
async def test_an_event_is_about_the_document_in_its_namespace(
    key: DocumentKey, text: str, reason: str, name: str, message: str
) -> None:
    world = World()
    await world.deliver(key, text)
    [event] = await world.recorded()
    assert (event["reason"], event["involvedObject"]["name"]) == (reason, name)
    assert event["type"] == ("Normal" if reason == "ExceptionEnds" else "Warning")
    assert event["message"].startswith(message)
    assert event["metadata"]["namespace"] == event["involvedObject"]["namespace"] == key.namespace
    assert world.api.posted[0][0] == f"/api/v1/namespaces/{key.namespace}/events"


@pytest.mark.parametrize(
    "text", [exceptions_text(), exceptions_text(entry(days=30), entry(days=-1), entry("docker.io/x"))]
)
async def test_a_good_document_without_an_end_soon_causes_no_event(text: str) -> None:
    world = World()
    await world.deliver(TEAM, text)
    assert await world.recorded() == []


async def test_the_end_is_announced_three_days_before() -> None:
    world = World()
    await world.deliver(TEAM, exceptions_text(entry(days=5)))
    assert await world.recorded() == []
    world.now += timedelta(days=2, seconds=1)
    assert [each["reason"] for each in await world.recorded()] == ["ExceptionEnds"]


async def test_a_cause_is_reported_once_and_a_new_one_again() -> None:
    world = World()
    await world.deliver(TEAM, exceptions_text(entry("ghcr.io/b", days=4), entry("ghcr.io/a", days=1.5)))
    assert len(await world.recorded()) == 1
    world.clock += 60
    assert await world.recorded() == []
    # Another one ends soon, and then the first one ends.
    world.now += timedelta(hours=25)
    assert len(await world.recorded()) == 1
    world.clock += 60
    world.now += timedelta(hours=15)
    assert await world.recorded() == []
    # The document changes. The API server may still have an Event with the same content.
    names = set()
    for days in (30, 31):
        world.clock += 60
        await world.deliver(TEAM, exceptions_text(entry("ghcr.io/c", days=days), entry("ghcr.io/b", days=4)))
        [event] = await world.recorded()
        assert event["message"].startswith(
            "approved until 2026-01-05T00:00:00Z: ghcr.io/b (team-a/gatekeeper-py-exceptions)"
        )
        names.add(event["metadata"]["name"])
    assert len(names) == 1


async def test_a_document_that_changes_all_the_time_causes_one_event_a_minute() -> None:
    world, events = World(), []
    begin = world.clock
    for number in range(200):
        await world.deliver(TEAM, exceptions_text(f"bad{number}") if number % 2 else exceptions_text())
        events += await world.recorded()
    assert 1 < len(events) <= 1 + (world.clock - begin) / 60


async def test_events_are_recorded_one_after_the_other_and_those_of_the_installation_first() -> None:
    world = World()
    for number in range(20):
        await world.deliver(DocumentKey("namespace", f"flood-{number}"), BAD)
    assert len(await world.recorded()) == 20
    assert world.paused == 20 * APART_SECONDS
    for number in range(20):
        await world.deliver(DocumentKey("namespace", f"flood-{number}"), BAD + BAD)
    await world.deliver(TEAM, BAD)
    await world.deliver(EMERGENCY, exceptions_text(entry()))
    world.clock += 60
    namespaces = [each["metadata"]["namespace"] for each in await world.recorded()]
    assert namespaces == ["ns", "team-a", *(f"flood-{number}" for number in range(20))]


async def test_an_event_that_the_api_server_still_has_is_not_recorded_again() -> None:
    names = []
    for _ in range(2):  # a controller, and the one after a restart
        world = World()
        await world.deliver(TEAM, BAD)
        names += [each["metadata"]["name"] for each in await world.recorded()]
    assert names[0] == names[1]

    world = World()
    world.api.fail = _answering(409)
    await world.deliver(TEAM, BAD)
    await world.recorded()
    assert not world.log.named("event_not_recorded")
    world.clock += 60
    world.api.fail = lambda _verb, _path: False
    assert await world.recorded() == []


async def test_an_event_that_failed_is_tried_again_after_a_minute() -> None:
    world = World()
    world.api.fail = _answering(403)
    await world.deliver(EMERGENCY, exceptions_text(entry()))
    assert await world.recorded() == []
    [logged] = world.log.named("event_not_recorded")
    assert logged["reason"] == "BreakGlass"
    world.api.fail = lambda _verb, _path: False
    assert await world.recorded() == []
    world.clock += 60
    assert len(await world.recorded()) == 1


async def test_without_a_grant_for_its_source_a_document_causes_no_event() -> None:
    world = World()
    await world.deliver(TEAM, BAD)
    world.events.use_policy(policy("").policy)
    assert await world.recorded() == []


def test_grants_without_the_right_to_read_exceptions_are_a_problem() -> None:
    assert World("").events.problem() == World("", enabled=False).events.problem() == ""
    assert World().events.problem() == ""
    assert "set the chart value exceptions.enabled" in World(enabled=False).events.problem()
    world = World()
    world.events.keeper.unreadable(frozenset({"break-glass"}))
    assert "exceptions are not enabled" in world.events.problem()
    world.events.keeper.listed(frozenset({"break-glass"}), frozenset())
    assert world.events.problem() == ""


def _answering(status: int) -> Any:
    def fail(verb: str, path: str) -> bool:
        raise ApiError(verb, path, status, "")

    return fail
