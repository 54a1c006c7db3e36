"""A peer holds at most a quarter of the memory for bodies, and bodies of known peers come first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.http.bodymemory import Body, BodyMemory
from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.http.connections.table import PATIENCE_SECONDS

MOST = 4000
SHARE = MOST // 4


@dataclass
class Connection:
    peer: Peer
    good: int = 0


@dataclass
class World:
    """A body memory with a clock; ``reading`` are the bodies that wait for their rest."""

    now: float = 100.0
    reading: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = BodyMemory(MOST, monotonic=lambda: self.now)

    async def read(self, sender: Connection | None, size: int, *, whole: bool = False) -> asyncio.Task[None]:
        """Begin to receive a body. The task ends when it is refused."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def read() -> None:
            with self.memory.body(sender) as body:
                async with body.waiting(reading=not whole):
                    try:
                        body.take(size)
                    finally:
                        taken.set_result(None)
                    await asyncio.Event().wait()

        task = asyncio.create_task(read())
        self.reading.append(task)
        await taken
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    async def parse(self, sender: Connection, order: list[str], name: str, gate: asyncio.Event) -> None:
        with self.memory.body(sender) as body:
            body.take(100)
            async with self.memory.parsing(body):
                await gate.wait()
                order.append(name)


@pytest.fixture
async def world() -> World:
    return World()


def peer(name: str, reviews: int = 0) -> Peer:
    made = Peer(name, 0)
    made.reviews = reviews
    return made


def refused(task: asyncio.Task[None]) -> bool:
    if not task.done():
        return False
    problem = task.exception()
    assert isinstance(problem, Refusal)
    assert (problem.status, problem.headers) == (503, {"Retry-After": "1"})
    return True


async def test_a_peer_holds_at_most_a_quarter(world: World) -> None:
    attacker = Connection(peer("attacker"))
    tasks = [await world.read(attacker, 300) for _ in range(10)]
    assert [refused(task) for task in tasks] == [False] * 3 + [True] * 7
    other = await world.read(Connection(peer("other")), 900)
    assert not refused(other)


async def test_a_single_body_may_be_larger_than_the_share(world: World) -> None:
    assert not refused(await world.read(Connection(peer("a")), SHARE * 2))


async def test_a_body_of_a_known_peer_takes_the_place_of_one_of_a_stranger(world: World) -> None:
    strangers = [await world.read(Connection(peer(f"10.0.0.{number}")), 900) for number in range(4)]
    known = await world.read(Connection(peer("api-server", reviews=500)), 900)
    assert not refused(known)
    assert [refused(task) for task in strangers] == [True, False, False, False]
    newcomer = await world.read(Connection(peer("newcomer")), 950)
    assert refused(newcomer)


@pytest.mark.parametrize("whole", [False, True])
async def test_at_one_address_the_connection_with_more_good_requests_comes_first(
    world: World, *, whole: bool
) -> None:
    """All callers may share an address, for example behind a masquerading proxy."""
    shared = peer("10.0.0.1", reviews=1000)
    strangers = [await world.read(Connection(shared, good=1), 300, whole=whole) for _ in range(3)]
    assert not refused(await world.read(Connection(shared, good=900), 300))
    assert [refused(task) for task in strangers] == [True, False, False]
    assert refused(await world.read(Connection(shared), 300))


@pytest.mark.parametrize("patience", [1, 5])
async def test_at_one_address_a_body_may_arrive_slower_after_more_good_requests(
    world: World, patience: int
) -> None:
    shared = peer("10.0.0.1", reviews=1000)
    slow = await world.read(Connection(shared, good=patience - 1), 900)
    world.now += patience * PATIENCE_SECONDS - 0.01
    assert refused(await world.read(Connection(shared), 300))
    world.now += 0.02
    assert not refused(await world.read(Connection(shared), 300))
    assert refused(slow)


async def test_the_memory_of_an_ended_body_is_free_and_no_peer_is_remembered(world: World) -> None:
    tasks = [await world.read(Connection(peer(str(number))), 900) for number in range(5)]
    assert refused(tasks[-1])
    for task in world.reading:
        task.cancel()
    await asyncio.gather(*world.reading, return_exceptions=True)
    assert world.memory.all() == []
    assert not refused(await world.read(None, MOST))


async def test_bodies_of_known_peers_are_parsed_first(world: World) -> None:
    order: list[str] = []
    gate = asyncio.Event()
    stranger, known = Connection(peer("stranger")), Connection(peer("known", reviews=100))
    async with asyncio.TaskGroup() as group:
        for name, sender in (("first", stranger), ("second", stranger), ("third", known)):
            group.create_task(world.parse(sender, order, name, gate))
            await asyncio.sleep(0)
        gate.set()
    assert order == ["first", "third", "second"]


async def test_a_body_that_waits_to_be_parsed_can_be_ended_or_cancelled(world: World) -> None:
    order: list[str] = []
    gate = asyncio.Event()
    sender = Connection(peer("stranger"))
    tasks = [asyncio.create_task(world.parse(sender, order, str(number), gate)) for number in range(4)]
    await asyncio.sleep(0)
    waiting: list[Body] = list(world.memory.all()[0].held)
    waiting[1].end()
    tasks[2].cancel()
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["0", "3"]
    assert isinstance(results[1], Refusal)
    assert isinstance(results[2], asyncio.CancelledError)
    assert world.memory.all() == []


async def test_a_body_that_is_cancelled_in_the_turn_in_which_it_is_next_stops_no_other(world: World) -> None:
    order: list[str] = []
    gate = asyncio.Event()
    sender = Connection(peer("stranger"))
    tasks = [asyncio.create_task(world.parse(sender, order, str(number), gate)) for number in range(3)]
    await asyncio.sleep(0)
    gate.set()
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["0", "2"]
    assert results[0] is None
    assert isinstance(results[1], asyncio.CancelledError)


async def test_a_body_that_runs_out_of_time_in_the_same_turn_can_be_ended(world: World) -> None:
    sender = Connection(peer("stranger"))
    scopes: list[Body] = []

    async def read() -> None:
        with world.memory.body(sender) as body:
            async with body.waiting(0.0, reading=True):
                body.take(100)
                scopes.append(body)
                await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: loop.call_soon(scopes[0].end))  # after the timeout, before the task runs
    with pytest.raises((Refusal, TimeoutError)):
        await task
    assert world.memory.all() == []
