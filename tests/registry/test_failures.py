"""Every error of a look-up that decides a review is counted, and its cause is logged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gatekeeper_py.core.images.manifest import Lookup, Manifest, failed, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry import failures as module
from gatekeeper_py.registry import lookups as lookups_module
from gatekeeper_py.registry.client import Reply, Turn
from gatekeeper_py.registry.failures import LoggedFailures
from gatekeeper_py.registry.lookups import Lookups
from gatekeeper_py.runtime.logs import RateLimit
from recording import RecordingLog

HOST = "r.io"
A, B = (Lookup((Manifest(HOST, name, "v1"),)) for name in ("a", "b"))
FOUND = Reply(found("sha256:" + "a" * 64))
DOWN = Reply(failed("connection refused"), trouble=True)


class World:
    """Look-ups whose failures are counted and logged. A test moves the clock of the log."""

    def __init__(self) -> None:
        self.reply: Reply | None = FOUND
        """The reply to every request; ``None`` means that no answer comes."""
        self.now = 0.0
        self.skipped = 0.0
        self.counted: Counter[tuple[str, str]] = Counter()
        self.timed = 0
        self.breakers: list[bool] = []
        self.log = RecordingLog()
        self.failures = LoggedFailures(self, self.log)
        self.failures._limit = RateLimit(module.QUIET_SECONDS, monotonic=lambda: self.now)
        self.lookups = Lookups(
            self,
            registry=lambda host: Registry(host=host, timeout=0.1, rate=1000),
            observer=self.failures,
            clock=lambda: time.monotonic() + self.skipped,
        )
        self.lookups.configure(hosts=[HOST], changed=(), pinned=())

    async def query(self, manifest: Manifest, turn: Turn) -> Reply:
        await turn(manifest.host)
        if self.reply is None:
            await asyncio.Event().wait()
        assert self.reply is not None
        return self.reply

    def lookup(self, host: str, result: str, seconds: float | None, cause: str = "") -> None:
        assert bool(cause) == (result == "error")
        self.counted[host, result] += 1
        self.timed += seconds is not None

    def breaker(self, host: str, *, is_open: bool) -> None:
        assert host == HOST
        self.breakers.append(is_open)

    def over_share(self, limit: str) -> None: ...

    async def review(self, *lookups: Lookup) -> str:
        """Answer a review as the webhook does, and return the cause of the first error."""
        cached = {
            lookup: resolution for lookup in lookups if (resolution := self.lookups.resolve_cached(lookup))
        }
        resolved = await self.lookups.resolve([each for each in lookups if each not in cached], 5.0)
        used = {**cached, **resolved}
        self.lookups.answered(used)
        return next((each.answer.cause for each in used.values() if each.answer.cause), "")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.lookups.close()


async def test_an_error_of_a_request_is_counted_once_and_its_cause_is_logged(world: World) -> None:
    world.reply = DOWN
    await asyncio.gather(*(world.review(A) for _ in range(3)))
    assert world.counted == {(HOST, "error"): 1}
    keys = {"host": HOST, "cause": "connection refused", "suppressed": 0}
    assert world.log.lines == [("warning", "lookup_failed", keys)]


async def test_reviews_that_an_open_breaker_answers_are_counted(world: World) -> None:
    world.reply = DOWN
    for _ in range(5):
        await world.review(A)
    assert world.breakers == [True]
    for _ in range(3):
        assert await world.review(A, B) == "its last 5 requests failed"
    assert world.counted == {(HOST, "error"): 5 + 3 * 2}
    assert world.timed == 5, "only a request takes a registry's time"


async def test_reviews_that_a_pause_answers_are_counted(world: World) -> None:
    world.reply = Reply(failed("too many requests"), pause=60.0)
    await world.review(A)
    assert "a pause of another" in await world.review(A)
    assert world.counted == {(HOST, "error"): 2}


async def test_reviews_that_may_not_wait_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups_module, "MAX_WAITING", 0)
    assert "reviews wait for registries" in await world.review(A, B)
    assert world.counted == {(HOST, "error"): 2}
    assert world.log.events == ["lookup_failed"]


async def test_reviews_that_wait_in_vain_are_counted_before_the_request_ends(world: World) -> None:
    world.reply = None
    assert await world.review(A) == "no answer in 0.1 s"
    assert world.counted == {(HOST, "error"): 1}


async def test_a_cached_answer_is_not_an_error(world: World) -> None:
    for _ in range(2):
        assert await world.review(A) == ""
    assert world.counted == {(HOST, "found"): 1}
    assert world.log.lines == []


async def test_a_host_that_the_policy_does_not_name_is_not_counted(world: World) -> None:
    assert await world.review(Lookup((Manifest("169.254.169.254", "app", "v1"),)))
    assert world.counted == {}
    assert world.log.lines == []


async def test_one_line_in_ten_seconds_for_each_registry(world: World) -> None:
    for _ in range(20):
        world.failures.lookup(HOST, "error", 0.1, "down")
    world.failures.lookup("other.io", "error", 0.1, "down")
    world.now += 10
    world.failures.lookup(HOST, "error", 0.1, "certificate: expired")
    assert [tuple(keys.values()) for keys in world.log.named("lookup_failed")] == [
        (HOST, "down", 0),
        ("other.io", "down", 0),
        (HOST, "certificate: expired", 19),
    ]


async def test_a_breaker_that_opens_and_closes_is_logged(world: World) -> None:
    world.reply = DOWN
    for _ in range(5):
        await world.review(A)
    world.skipped += 5
    world.reply = FOUND
    await world.review(A)
    assert world.breakers == [True, False]
    assert [(event, level, keys["host"]) for level, event, keys in world.log.lines] == [
        ("lookup_failed", "warning", HOST),
        ("lookup_breaker_opened", "warning", HOST),
        ("lookup_breaker_closed", "info", HOST),
    ]
