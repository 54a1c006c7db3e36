"""A feed takes the latest item, and repeats what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gatekeeper_py.live.feed import Feed
from support.wire import eventually


class Taker:
    """Notes what it takes, and fails as often as it was told to."""

    def __init__(self, first_retry: float = 1.0) -> None:
        self.taken: list[str] = []
        self.failures = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.feed = Feed(self.take, first_retry=first_retry)

    async def take(self, item: str) -> bool:
        self.taken.append(item)
        await self.may_end.wait()
        if item == "bug":
            raise ZeroDivisionError
        self.failures -= 1
        return self.failures < 0


async def ends(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_newer_item_replaces_those_that_wait() -> None:
    taker = Taker()
    taker.may_end.clear()

    async def items() -> AsyncIterator[str]:
        for item in "abcd":
            yield item
            await asyncio.sleep(0.001)

    running = asyncio.create_task(taker.feed.run())
    await taker.feed.follow(items())
    taker.may_end.set()
    await eventually(lambda: len(taker.taken) == 2)
    assert taker.taken == ["a", "d"]
    await ends(running)


async def test_a_failure_is_repeated_until_the_item_is_taken() -> None:
    taker = Taker(first_retry=0.0)
    taker.failures = 5
    running = asyncio.create_task(taker.feed.run())
    taker.feed.put("a")
    await eventually(lambda: taker.failures < 0)
    await asyncio.sleep(0.01)
    assert taker.taken == ["a"] * 6
    assert taker.feed.retry_seconds is None
    await ends(running)


async def test_the_pause_grows_to_a_bound_and_a_newer_item_ends_it() -> None:
    taker = Taker()
    taker.failures = 100
    running = asyncio.create_task(taker.feed.run())
    for item in "abc":
        taker.feed.put(item)
        await eventually(lambda item=item: taker.taken[-1:] == [item])  # type: ignore[misc]
        assert taker.feed.retry_seconds == 1.0
    pauses = []
    for failures in range(1, 12):
        taker.feed._failures = failures
        pauses.append(taker.feed.retry_seconds)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]
    await ends(running)


async def test_an_item_whose_take_raises_is_not_retried() -> None:
    taker = Taker()
    taker.feed.put("bug")
    with pytest.raises(ZeroDivisionError):
        await taker.feed.run()
    assert taker.feed.retry_seconds is None
    running = asyncio.create_task(taker.feed.run())
    await asyncio.sleep(0.01)
    assert taker.taken == ["bug"]
    taker.feed.put("a")
    await eventually(lambda: taker.taken == ["bug", "a"])
    await ends(running)
