"""The controller knows if the policy can rewrite images: after a change, over time, without a document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gatekeeper_py.controller.policy import (
    KEEP_SECONDS,
    UNSEEN_SECONDS,
    KnownPolicy,
    PolicyFollower,
)
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.live.parser.process import ParserError
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.process import waiting
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.wire import eventually

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HEAD = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nallow: [a.io]\n"
MIRRORS = "mirrors: [{from: docker.io, to: a.io/hub}]\n"
MUTATE = HEAD + MIRRORS + "mode: mutate\n"
ENFORCE = HEAD + MIRRORS + "mode: enforce\n"


class Setup:
    """A policy follower with a clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.changes = 0
        self.arrived = 0
        self.known: list[KnownPolicy] = []
        self.parser = InProcessParser()
        self.log = RecordingLog()
        self.follower = PolicyFollower(
            self.parser,
            on_changed=self.changed,
            on_arrived=self.count_arrival,
            on_known=self.known.append,
            log=self.log,
            now=lambda: self.now,
            monotonic=lambda: self.now.timestamp(),  # noqa: PLW0108 - the clock moves
        )

    def changed(self) -> None:
        self.changes += 1

    def count_arrival(self) -> None:
        self.arrived += 1

    async def mutates_until(self, instant: datetime) -> None:
        """Check that ``mutates`` becomes false ``KEEP_SECONDS`` after an instant."""
        changes = self.changes
        self.now = instant + timedelta(seconds=KEEP_SECONDS) - datetime.resolution
        await asyncio.sleep(0.01)
        assert self.follower.mutates is True
        self.now += datetime.resolution
        await eventually(lambda: self.follower.mutates is False)
        assert self.changes == changes + 1

    async def take(self, text: str | None, mode: str | None = None, problem: str = "") -> bool:
        problem = problem if text is not None else "ConfigMap was deleted"
        return await self.follower.take(Delivery(text=text, mode=mode, problem=problem))


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(waiting, "LONGEST_SLEEP_SECONDS", 0.001)  # the clock moves without a timer
    return Setup()


async def test_the_result_is_unknown_until_the_first_good_policy(setup: Setup) -> None:
    assert setup.follower.mutates is None
    await setup.take("nonsense")
    assert setup.follower.mutates is None
    assert "is refused" in setup.follower.problem()
    await setup.take(ENFORCE)
    assert setup.follower.mutates is False
    assert setup.follower.problem() == ""
    assert setup.changes == 2


async def test_a_change_to_mutate_counts_at_once(setup: Setup) -> None:
    await setup.take(ENFORCE)
    await setup.take(ENFORCE, "mutate")
    assert setup.follower.mutates is True


async def test_a_change_from_mutate_counts_after_a_delay(setup: Setup) -> None:
    await setup.take(MUTATE)
    await setup.take(ENFORCE)
    await setup.mutates_until(NOW)


async def test_a_change_back_and_forth_has_no_effect(setup: Setup) -> None:
    await setup.take(MUTATE)
    await setup.take(ENFORCE)
    await setup.take(MUTATE)
    setup.now += timedelta(days=1)
    await asyncio.sleep(0.01)
    assert setup.follower.mutates is True


async def test_rewriting_ends_when_its_override_expires(setup: Setup) -> None:
    await setup.take(ENFORCE + "namespaces: [{names: [x], mode: mutate, until: 2026-05-01T02:30:00Z}]")
    await setup.mutates_until(NOW + timedelta(hours=2.5))


@pytest.mark.parametrize("text", [None, "nonsense"], ids=["deleted", "bad"])
async def test_a_deleted_or_bad_policy_keeps_the_last_result(setup: Setup, text: str | None) -> None:
    await setup.take(MUTATE)
    await setup.take(text)
    assert setup.follower.mutates is True
    assert setup.follower.problem()


@pytest.mark.parametrize(
    ("failure", "problem", "is_final"),
    [
        pytest.param(ZeroDivisionError(), "internal error", True, id="bug"),
        pytest.param(ParserError("memory", "it needs more"), "it needs more", True, id="too-costly"),
        pytest.param(ParserError("time", "it was stopped"), "it was stopped", False, id="too-slow"),
    ],
)
async def test_a_policy_that_cannot_be_parsed_keeps_the_last_result(
    setup: Setup, failure: Exception, problem: str, *, is_final: bool
) -> None:
    await setup.take(MUTATE)
    setup.parser.failures = [failure]
    changes = setup.changes
    assert await setup.take(ENFORCE) is is_final
    assert setup.follower.mutates is True
    assert setup.log.events == (["policy_not_parsed"] if isinstance(failure, ZeroDivisionError) else [])
    # The follower reports the change at once, so that the alarm does not wait for the next pass.
    assert setup.changes == changes + 1
    assert problem in setup.follower.problem()
    assert problem in setup.known[-1].problem


@pytest.mark.parametrize(
    ("text", "mode", "reported", "problem"),
    [
        pytest.param(MUTATE, "warn", "", "", id="accepted"),
        pytest.param(MUTATE, None, "unknown keys", "unknown keys", id="beside-other-keys"),
        pytest.param("nonsense", None, "", "the document is refused: line 1: ", id="refused"),
        pytest.param(None, None, "", "ConfigMap was deleted", id="gone"),
    ],
)
async def test_the_policy_is_passed_on_only_if_replicas_accept_it(
    setup: Setup, text: str | None, mode: str | None, reported: str, problem: str
) -> None:
    assert await setup.take(text, mode, reported)
    [known] = setup.known
    assert known.delivery.text == text
    assert known.problem.startswith(problem)
    assert (known.policy is None) is bool(problem)
    if known.policy is not None:
        assert text is not None
        assert known.policy == parse_policy(text, mode)


async def test_a_policy_that_was_not_confirmed_for_long_is_a_problem(setup: Setup) -> None:
    await setup.take(MUTATE)
    setup.now += timedelta(seconds=UNSEEN_SECONDS + 1)
    assert "not confirmed" in setup.follower.problem()
    setup.follower.seen()
    assert setup.follower.problem() == ""


async def test_a_delivery_replaces_those_that_still_wait(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that could not be parsed for a temporary reason is parsed again."""
    setup.parser.failures = [ParserError("died", "it was killed")]
    texts = [ENFORCE + f"message: change {number}\n" for number in range(4)]

    async def source() -> AsyncIterator[Delivery]:
        for text in texts:
            yield Delivery(text=text)
        await asyncio.Event().wait()

    monkeypatch.setattr(setup.follower._feed, "_first_retry", 0.001)
    task = asyncio.create_task(setup.follower.run(source()))
    await eventually(lambda: len(setup.known) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert setup.parser.parsed == [texts[-1]] * 2
    assert [known.policy is None for known in setup.known] == [True, False]
    assert setup.arrived == 4
