"""The controller knows if the policy can rewrite images: after a change, over time, without a document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from gatekeeper_py.control.policy import (
    KEEP_SECONDS,
    UNSEEN_SECONDS,
    PolicyFollower,
    PolicyParser,
    fan_out,
)
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.delivery import Delivery
from recording import RecordingLog

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HEAD = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nallow: [a.io]\n"
MIRRORS = "mirrors: [{from: docker.io, to: a.io/hub}]\n"
PINS = HEAD.replace("a.io", "{image: a.io/app, pin: true}")
MUTATE = HEAD + MIRRORS + "mode: mutate\n"
ENFORCE = HEAD + MIRRORS + "mode: enforce\n"


class Setup:
    """A policy follower with a clock. ``tick`` ends the next sleep of the follower."""

    def __init__(self) -> None:
        self.now = NOW
        self.changes = 0
        self.log = RecordingLog()
        self.sleeping: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.follower = PolicyFollower(
            PolicyParser(keep=False),
            on_changed=self.changed,
            log=self.log,
            now=lambda: self.now,
            monotonic=lambda: self.now.timestamp(),  # noqa: PLW0108 - the clock moves
            sleep=self.sleep,
        )

    def changed(self) -> None:
        self.changes += 1

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        await self.sleeping.put((seconds, woken))
        await woken.wait()

    async def tick(self) -> float:
        """End the follower's next sleep, and return its length in seconds."""
        seconds, woken = await self.sleeping.get()
        self.now += timedelta(seconds=seconds)
        woken.set()
        for _ in range(5):
            await asyncio.sleep(0)
        return seconds

    async def take(self, text: str | None, mode: str | None = None) -> None:
        problem = "" if text is not None else "ConfigMap was deleted"
        await self.follower.take(Delivery(text=text, mode=mode, problem=problem))


@pytest.fixture
def setup() -> Setup:
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
    assert setup.follower.mutates is True
    changes = setup.changes
    assert await setup.tick() == KEEP_SECONDS
    assert setup.follower.mutates is False
    assert setup.changes == changes + 1


async def test_a_change_back_and_forth_has_no_effect(setup: Setup) -> None:
    await setup.take(MUTATE)
    await setup.take(ENFORCE)
    await setup.sleeping.get()
    await setup.take(MUTATE)
    for _ in range(5):
        await asyncio.sleep(0)
    assert setup.follower.mutates is True
    assert setup.sleeping.empty()


async def test_rewriting_ends_when_its_override_expires(setup: Setup) -> None:
    await setup.take(ENFORCE + "namespaces: [{names: [x], mode: mutate, until: 2026-05-01T02:30:00Z}]")
    slept = [await setup.tick() for _ in range(3)]
    assert slept == [3600.0, 3600.0, 1800.0]
    assert setup.follower.mutates is True
    assert await setup.tick() == KEEP_SECONDS
    assert setup.follower.mutates is False


@pytest.mark.parametrize("text", [None, "nonsense"], ids=["deleted", "bad"])
async def test_a_deleted_or_bad_policy_keeps_the_last_result(setup: Setup, text: str | None) -> None:
    await setup.take(MUTATE)
    await setup.take(text)
    assert setup.follower.mutates is True
    assert setup.follower.problem()


async def test_an_internal_error_keeps_the_last_result(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    await setup.take(MUTATE)

    async def broken(_text: str, _mode: str | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(setup.follower._parser, "parse", broken)
    changes = setup.changes
    await setup.take(ENFORCE)
    assert setup.follower.mutates is True
    assert setup.log.events == ["policy_not_parsed"]
    # The follower reports the change at once, so that the alarm does not wait for the next pass.
    assert setup.changes == changes + 1
    assert "internal error" in setup.follower.problem()


async def test_a_policy_that_was_not_confirmed_for_long_is_a_problem(setup: Setup) -> None:
    await setup.take(MUTATE)
    setup.now += timedelta(seconds=UNSEEN_SECONDS + 1)
    assert "not confirmed" in setup.follower.problem()
    setup.follower.seen()
    assert setup.follower.problem() == ""


async def test_a_second_caller_gets_the_same_policy() -> None:
    parser = PolicyParser(keep=True)
    first = await parser.parse(MUTATE, None)
    assert await parser.parse(MUTATE, None) is first
    assert await parser.parse(MUTATE, "warn") is not first
    with pytest.raises(PolicyError):
        await parser.parse("nonsense", None)


async def test_every_consumer_gets_the_latest_delivery() -> None:
    taken: dict[str, list[str | None]] = {"slow": [], "fast": []}
    release, done = asyncio.Event(), asyncio.Event()

    def consumer(name: str) -> Callable[[AsyncIterator[Delivery]], asyncio.Future[None]]:
        async def consume(deliveries: AsyncIterator[Delivery]) -> None:
            async for delivery in deliveries:
                taken[name].append(delivery.text)
                if name == "slow":
                    await release.wait()
                if delivery.text == "3" and name == "slow":
                    done.set()

        return lambda deliveries: asyncio.ensure_future(consume(deliveries))

    async def source() -> AsyncIterator[Delivery]:
        for text in ("1", "2", "3"):
            yield Delivery(text=text)
            for _ in range(5):
                await asyncio.sleep(0)
        release.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(fan_out(source(), consumer("slow"), consumer("fast")))
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert taken == {"slow": ["1", "3"], "fast": ["1", "2", "3"]}
