"""Namespaces take turns, however many look-ups each of them needs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.process.shares import Share
from gatekeeper_py.registry.fairness import MAX_JOINED, MAX_REMEMBERED, Claim, FairQueue, FairSlots, Place
from support.wire import DEADLINE_SECONDS, eventually

NAMESPACES = ("a", "b", "c")


def served(queue: FairQueue, turns: int) -> list[Place]:
    """Give some turns, and return the places that had them."""
    found = []
    for _ in range(turns):
        place = queue.first()
        assert place is not None
        assert queue.ahead(place) == 0
        queue.remove(place, has_turn=True)
        found.append(place)
    return found


REPOSITORIES = ("one", "two", "three")


def share(namespace: str, peer: str = "api") -> Share:
    return Share(peer, namespace)


claims = st.lists(st.tuples(st.sampled_from((*NAMESPACES, None)), st.sampled_from(REPOSITORIES)), max_size=40)


def queue_of(
    wanted: list[tuple[str | None, str]], peers: Iterable[str] = repeat("api")
) -> tuple[FairQueue, list[Place]]:
    """Return a queue with these look-ups, and their places."""
    queue = FairQueue()
    return queue, [
        queue.add(Claim(number, urgent=of is not None, share=share(of or "", peer), repository=repository))
        for number, ((of, repository), peer) in enumerate(zip(wanted, peers, strict=False))
    ]


@given(claims, st.lists(st.sampled_from(("api", "bad")), min_size=40, max_size=40))
def test_the_number_ahead_is_the_order_of_the_turns(
    wanted: list[tuple[str | None, str]], peers: list[str]
) -> None:
    queue, places = queue_of(wanted, peers)
    expected = sorted(places, key=queue.ahead)
    assert served(queue, len(places)) == expected
    assert not queue


@given(claims, st.lists(st.sampled_from(NAMESPACES), max_size=40))
def test_while_a_namespace_waits_no_other_gets_two_turns_more(
    first: list[tuple[str | None, str]], later: list[str]
) -> None:
    """Whatever came earlier, and whatever comes while it waits."""
    queue, _ = queue_of(first)
    served(queue, len(first) // 2)
    mine = queue.add(Claim(1000, share=share("mine")))
    turns: Counter[str | None] = Counter()
    for number, each in enumerate(later):
        queue.add(Claim(2000 + number, share=share(each)))
        (place,) = served(queue, 1)
        if place == mine:
            break
        assert place.peer is not None
        turns[place.namespace] += 1
    assert max(turns.values(), default=0) <= 1


@given(claims, st.lists(st.sampled_from(NAMESPACES), max_size=40))
def test_while_a_peer_waits_no_other_gets_two_turns_more(
    first: list[tuple[str | None, str]], later: list[str]
) -> None:
    """Whatever namespaces the other invents, or takes the name of."""
    queue, _ = queue_of(first)
    served(queue, len(first) // 2)
    mine = queue.add(Claim(1000, share=share("a", "mine")))
    turns = 0
    for number, each in enumerate(later):
        queue.add(Claim(2000 + number, share=share(each)))
        (place,) = served(queue, 1)
        if place == mine:
            break
        turns += 1
    assert turns <= 1


@given(claims, st.lists(st.sampled_from(REPOSITORIES), max_size=40))
def test_while_a_repository_waits_no_other_of_its_namespace_gets_two_turns_more(
    first: list[tuple[str | None, str]], later: list[str]
) -> None:
    queue, _ = queue_of(first)
    served(queue, len(first) // 2)
    mine = queue.add(Claim(1000, share=share("a"), repository="mine"))
    turns: Counter[str] = Counter()
    for number, each in enumerate(later):
        queue.add(Claim(2000 + number, share=share("a"), repository=each))
        (place,) = served(queue, 1)
        if place == mine:
            break
        turns[place.repository] += place.namespace == "a"
    assert max(turns.values(), default=0) <= 1


def test_a_look_up_that_several_namespaces_wait_for_has_the_best_place() -> None:
    queue = FairQueue()
    for number in range(10):
        queue.add(Claim(number, share=share("a")))
    claim = Claim(10, share=share("a"))
    place = queue.add(claim)
    assert queue.ahead(place) == 10
    claim.hurry(share("b"))
    assert claim.hurried.is_set()
    queue.remove(place)
    assert queue.ahead(queue.add(claim)) == 1
    assert not claim.hurried.is_set()


def test_the_namespaces_of_a_look_up_and_of_a_queue_are_bounded() -> None:
    claim = Claim()
    for number in range(2 * MAX_JOINED):
        claim.hurry(share(f"ns-{number}"))
    assert len(claim.shares) == MAX_JOINED
    claim.hurry(share("ns-0", "another"))
    assert len(claim.shares) == MAX_JOINED + 1, "one peer must not hide all others"
    queue = FairQueue()
    queue.add(Claim(10**6, share=share("waits")))
    queue.add(Claim(10**6 + 1, share=share("waits")))
    for number in range(3 * MAX_REMEMBERED):
        place = queue.add(Claim(number, share=share(f"ns-{number}")))
        queue.remove(place, has_turn=True)
    assert len(queue._urgent._next) <= MAX_REMEMBERED + 2


async def test_a_slot_that_is_freed_as_its_next_waiter_gives_up_goes_to_the_one_after() -> None:
    slots, free, held = FairSlots(1), asyncio.Event(), []

    async def use(number: int) -> None:
        async with slots.slot(Claim(number, share=share(str(number)))):
            held.append(number)
            await free.wait()

    tasks = [asyncio.create_task(use(number)) for number in range(3)]
    await eventually(lambda: held == [0])
    tasks[0].cancel()
    tasks[1].cancel()
    free.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert held == [0, 2]
    async with slots.slot(Claim(3)):
        pass


@pytest.mark.parametrize("urgent", [True, False], ids=["reviews", "ahead"])
async def test_a_namespace_without_a_slot_waits_for_no_look_up_of_the_others(*, urgent: bool) -> None:
    """The others' look-ups may need many requests, so none of them may end while a review waits."""
    slots, free, held = FairSlots(8, reserved=2), asyncio.Event(), list[str]()

    async def use(number: int, namespace: str, *, urgent: bool = True) -> None:
        repository = f"r{number % 10}"
        async with slots.slot(Claim(number, urgent=urgent, share=share(namespace), repository=repository)):
            held.append(namespace)
            await free.wait()

    others = [asyncio.create_task(use(i, NAMESPACES[i % 3], urgent=urgent)) for i in range(30)]
    await eventually(lambda: len(held) >= (6 if urgent else 4))
    mine = [asyncio.create_task(use(100 + i, "mine")) for i in range(2)]
    await eventually(lambda: "mine" in held)
    assert held.count("mine") == (1 if urgent else 2)
    free.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*others, *mine)
    assert Counter(held) == {"a": 10, "b": 10, "c": 10, "mine": 2}


async def test_a_repository_without_a_slot_waits_for_no_look_up_of_the_others() -> None:
    """It does not wait for repositories of its own namespace either."""
    slots, free, held = FairSlots(20, reserved=5), asyncio.Event(), list[str]()

    async def use(number: int, repository: str) -> None:
        async with slots.slot(Claim(number, share=share("a"), repository=repository)):
            held.append(repository)
            await free.wait()

    tasks = [asyncio.create_task(use(number, "hostile")) for number in range(40)]
    await eventually(lambda: len(held) == 10)
    tasks += [asyncio.create_task(use(100 + number, f"r{number}")) for number in range(5)]
    await eventually(lambda: len(held) == 15)
    assert Counter(held)["hostile"] == 10
    free.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*tasks)
    assert len(held) == 45


@pytest.mark.parametrize("urgent", [False, True], ids=["ahead", "of-a-peer-with-many"])
async def test_a_look_up_gets_the_slot_of_the_review_that_joins_it(*, urgent: bool) -> None:
    slots, free, held = FairSlots(5, reserved=1), asyncio.Event(), list[int]()

    async def use(claim: Claim) -> None:
        async with slots.slot(claim):
            held.append(claim.number)
            await free.wait()

    ahead = Claim(9, urgent=urgent, share=share("a"))
    tasks = [asyncio.create_task(use(Claim(number, share=share("a")))) for number in range(6)]
    tasks.append(asyncio.create_task(use(ahead)))
    await eventually(lambda: len(held) == 3)
    ahead.hurry(share("a", "mine"))
    await eventually(lambda: held == [0, 1, 2, 9])
    free.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*tasks)
    assert sorted(held) == [0, 1, 2, 3, 4, 5, 9]
