"""Scheduler: a turn of the loop has a budget, and the peers share what exceeds it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.http.connections.scheduler import (
    ANSWERS_A_TURN,
    HANDSHAKE_PATIENCE_SECONDS,
    HANDSHAKES_A_TURN,
    INPUT_SECONDS,
    MAX_HANDSHAKES,
    MAX_WAITING_HANDSHAKES,
    Rank,
    Scheduler,
)
from support.recording import Clock
from support.wire import eventually


class Client:
    """A connection with input."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Handshakes:
    """Records which handshakes begin and which are ended."""

    def __init__(self) -> None:
        self.begun: list[Handshake] = []
        self.given_up: list[Handshake] = []

    def of(self, peer: Peer, count: int = 1) -> list[Handshake]:
        return [Handshake(self, peer) for _ in range(count)]


class Handshake(Client):
    def __init__(self, world: Handshakes, peer: Peer) -> None:
        super().__init__(peer)
        self.started = 0.0
        self._world = world

    def begin(self) -> None:
        self._world.begun.append(self)

    def give_up(self) -> None:
        self._world.given_up.append(self)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Problems = list[dict[str, Any]]


@pytest.fixture
async def scheduler(clock: Clock) -> Scheduler:
    return Scheduler(asyncio.get_running_loop(), clock=clock)


@pytest.fixture
def world() -> Handshakes:
    return Handshakes()


STRANGER, SERVER = "10.9.9.9", "10.0.0.1"


def peer(host: str = STRANGER, connections: int = 0, reviews: int = 0) -> Peer:
    made = Peer(host, 1)
    made.connections, made.reviews = connections, reviews
    return made


async def test_a_few_handshakes_begin_in_each_turn(scheduler: Scheduler, world: Handshakes) -> None:
    for handshake in world.of(peer(), 20):
        scheduler.add(handshake)
    assert world.begun == []
    before = 0
    while len(world.begun) < 20:
        await asyncio.sleep(0)
        assert len(world.begun) - before <= HANDSHAKES_A_TURN
        before = len(world.begun)


async def test_many_waiting_handshakes_hold_up_new_connections_until_they_begin(
    scheduler: Scheduler, world: Handshakes
) -> None:
    handshakes = world.of(peer(), MAX_WAITING_HANDSHAKES)
    for handshake in handshakes[1:]:
        scheduler.add(handshake)
    assert not scheduler.is_behind
    scheduler.add(handshakes[0])
    assert scheduler.is_behind
    scheduler.remove(handshakes[1])
    assert not scheduler.is_behind
    scheduler.add(handshakes[1])
    scheduler.add(handshakes[1])
    assert scheduler.is_behind
    await eventually(lambda: len(world.begun) == len(handshakes))
    assert not scheduler.is_behind


async def test_silent_handshakes_do_not_hold_up_new_connections(
    scheduler: Scheduler, world: Handshakes
) -> None:
    """Only a new connection ends a silent handshake. Otherwise no client could connect until a timeout."""
    for handshake in world.of(peer(), MAX_HANDSHAKES + MAX_WAITING_HANDSHAKES):
        scheduler.add(handshake)
    assert scheduler.is_behind
    await eventually(lambda: len(world.begun) == MAX_HANDSHAKES)
    assert not scheduler.is_behind


async def test_input_that_takes_less_than_three_quarters_of_the_mean_is_cheap(scheduler: Scheduler) -> None:
    for _ in range(1000):
        scheduler.is_costly(0.001)
    assert scheduler.is_costly(0.001)
    assert scheduler.is_costly(0.0008)
    assert not scheduler.is_costly(0.0007)


async def test_peers_take_turns_with_their_handshakes(scheduler: Scheduler, world: Handshakes) -> None:
    crowd, newcomer = peer(), peer(SERVER)
    for handshake in [*world.of(crowd, 100), *world.of(newcomer)]:
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) > 0)
    assert newcomer in [handshake.peer for handshake in world.begun[:HANDSHAKES_A_TURN]]


async def test_the_peer_with_the_least_burden_waits_for_few_others(
    scheduler: Scheduler, world: Handshakes
) -> None:
    """It does not wait for a thousand strangers with one address each."""
    server = peer(SERVER, 25, 100)
    for number in range(1000):
        scheduler.add(*world.of(peer(f"10.9.{number}", 1)))
    for handshake in world.of(server, 5):
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) >= 12)
    assert [handshake.peer for handshake in world.begun[:12]].count(server) == 5


async def test_stalled_handshakes_are_ended_for_other_peers(
    scheduler: Scheduler, clock: Clock, world: Handshakes
) -> None:
    stranger, server = peer(connections=MAX_HANDSHAKES + 1), peer(SERVER, 1)
    half = world.of(stranger, MAX_HANDSHAKES + 1)
    (newcomer,) = world.of(server)
    for handshake in half:
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) == MAX_HANDSHAKES)
    scheduler.add(newcomer)
    clock.now += HANDSHAKE_PATIENCE_SECONDS
    await asyncio.sleep(0.02)
    assert world.given_up == []
    clock.now += 0.001
    await eventually(lambda: newcomer in world.begun)
    assert world.given_up == [half[0]]
    clock.now += 100
    await asyncio.sleep(0.02)
    assert half[-1] not in world.begun, "its own peer's handshakes are in its way"
    scheduler.remove(half[1])
    await eventually(lambda: half[-1] in world.begun)
    assert world.given_up == [half[0]]


async def test_a_silent_handshake_of_the_best_peer_does_not_delay_its_next_ones(
    scheduler: Scheduler, clock: Clock, world: Handshakes
) -> None:
    """An API server may share its address with strangers; the oldest handshake may be one of theirs."""
    stranger, server = peer(connections=MAX_HANDSHAKES - 1), peer(SERVER, 2)
    (silent, newcomer), others = world.of(server, 2), world.of(stranger, MAX_HANDSHAKES - 1)
    for handshake in (silent, *others):
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) == MAX_HANDSHAKES)
    clock.now += 2 * HANDSHAKE_PATIENCE_SECONDS
    scheduler.add(newcomer)
    await eventually(lambda: newcomer in world.begun)
    assert world.given_up == others[:1]


async def test_a_worse_peer_waits_until_a_handshake_ends(
    scheduler: Scheduler, clock: Clock, world: Handshakes
) -> None:
    stranger, server = peer(connections=1), peer(SERVER, 1, 100)
    (newcomer,) = world.of(stranger)
    for handshake in world.of(server, MAX_HANDSHAKES):
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) == MAX_HANDSHAKES)
    scheduler.add(newcomer)
    clock.now += 100
    await asyncio.sleep(0.02)
    assert newcomer not in world.begun
    scheduler.remove(world.begun[7])
    await eventually(lambda: newcomer in world.begun)
    assert world.given_up == []


async def test_complete_and_lost_handshakes_are_removed(scheduler: Scheduler, world: Handshakes) -> None:
    shared = peer()
    complete = world.of(shared, MAX_HANDSHAKES)
    for handshake in complete:
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) == MAX_HANDSHAKES)
    lost, newcomer = world.of(shared, 2)
    for handshake in complete:
        scheduler.remove(handshake)
    scheduler.add(lost)
    scheduler.remove(lost)
    scheduler.add(newcomer)
    await eventually(lambda: newcomer in world.begun)
    assert lost not in world.begun
    assert world.given_up == []


async def test_input_waits_after_a_long_turn(scheduler: Scheduler, clock: Clock) -> None:
    assert scheduler.has_time()
    clock.now += INPUT_SECONDS / 2
    assert scheduler.has_time()
    clock.now += INPUT_SECONDS
    assert not scheduler.has_time()
    await asyncio.sleep(0)
    assert scheduler.has_time(), "the next turn has its own time"


async def test_input_that_waits_is_handled_by_peer_in_turns(scheduler: Scheduler, clock: Clock) -> None:
    crowd, server = Client(peer()), Client(peer(SERVER))
    handled: list[tuple[Client, int]] = []

    def handle(client: Client, number: int) -> None:
        handled.append((client, number))
        clock.now += INPUT_SECONDS / 4

    for number in range(20):
        scheduler.defer(crowd, lambda number=number: handle(crowd, number), Rank.CHEAP)  # type: ignore[misc]
    scheduler.defer(server, lambda: handle(server, 0), Rank.CHEAP)
    assert handled == []
    await asyncio.sleep(0)
    assert (server, 0) in handled[:2]
    assert len(handled) <= 5, "the others are for later turns"
    await eventually(lambda: len(handled) == 21)
    assert [number for client, number in handled if client is crowd] == list(range(20))


@pytest.mark.parametrize("own", Rank)
async def test_input_of_one_rank_does_not_wait_for_that_of_others_from_the_same_peer(
    scheduler: Scheduler, clock: Clock, own: Rank
) -> None:
    client = Client(peer())
    handled: list[Rank] = []

    def handle(rank: Rank) -> None:
        handled.append(rank)
        clock.now += INPUT_SECONDS / 4

    others = [rank for rank in Rank if rank is not own]
    for rank in others * 100:
        scheduler.defer(client, lambda rank=rank: handle(rank), rank)  # type: ignore[misc]
    scheduler.defer(client, lambda: handle(own), own)
    await asyncio.sleep(0)
    assert own in handled[: len(Rank)]
    await eventually(lambda: len(handled) == 201)


async def test_answers_wait_for_a_turn_that_has_time(scheduler: Scheduler, clock: Clock) -> None:
    client = Client(peer())
    scheduler.crowded = True
    await scheduler.wait(client)
    clock.now += 2 * INPUT_SECONDS
    waiting = scheduler.wait(client)
    turn = waiting.send(None)  # the future that it waits for
    assert not turn.done()
    await eventually(turn.done)
    waiting.close()
    scheduler.crowded = False
    clock.now += 2 * INPUT_SECONDS
    await scheduler.wait(client)


async def test_a_few_handlers_continue_in_each_turn_and_no_input_waits_for_them(
    scheduler: Scheduler, clock: Clock
) -> None:
    """They run after the turn, so the limit of its time does not apply to them."""
    client = Client(peer())
    scheduler.crowded = True
    assert scheduler.has_time()
    clock.now += 2 * INPUT_SECONDS
    waiting = [scheduler.wait(client) for _ in range(100)]
    futures = [each.send(None) for each in waiting]
    handled: list[Client] = []
    scheduler.defer(client, lambda: handled.append(client), Rank.CHEAP)
    await asyncio.sleep(0)
    assert handled == [client]
    before = 0
    while (done := sum(future.done() for future in futures)) < len(futures):
        assert 0 < done - before <= ANSWERS_A_TURN
        before = done
        await asyncio.sleep(0)
    for each in waiting:
        each.close()


async def test_handlers_of_the_peer_with_the_least_burden_wait_for_few_others(
    scheduler: Scheduler, clock: Clock
) -> None:
    scheduler.crowded = True
    assert scheduler.has_time()
    clock.now += 2 * INPUT_SECONDS
    strangers = [scheduler.wait(Client(peer(f"10.9.{number}", 1))) for number in range(200)]
    own = scheduler.wait(Client(peer(SERVER, 25, 100)))
    futures = [each.send(None) for each in [*strangers, own]]
    await asyncio.sleep(0)
    assert futures[-1].done()
    for each in [*strangers, own]:
        each.close()


@pytest.fixture
async def problems() -> Problems:
    """Collect the errors that the event loop would log."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: found.append(context))
    return found


class Broken(Handshake):
    """A handshake that fails in an unexpected way."""

    def begin(self) -> None:
        raise MemoryError("no memory for the handshake")


class Stuck(Handshake):
    def give_up(self) -> None:
        raise RuntimeError("cannot give up")


async def test_input_that_cannot_be_handled_ends_its_own_connection_only(
    scheduler: Scheduler, world: Handshakes, problems: list[dict[str, Any]]
) -> None:
    broken, same_peer, other = (Client(peer()) for _ in range(3))
    same_peer.peer = broken.peer
    handled: list[Client] = []
    (handshake,) = world.of(peer(SERVER))

    def fail() -> None:
        raise RuntimeError("what nobody thought of")

    scheduler.defer(broken, fail, Rank.CHEAP)
    scheduler.defer(same_peer, lambda: handled.append(same_peer), Rank.CHEAP)
    scheduler.defer(other, lambda: handled.append(other), Rank.REST)
    scheduler.add(handshake)
    await eventually(lambda: len(handled) == 2 and world.begun == [handshake])
    assert broken.aborted
    assert not same_peer.aborted
    assert not other.aborted
    (problem,) = problems
    assert str(problem["exception"]) == "what nobody thought of"
    scheduler.defer(other, lambda: handled.append(other), Rank.CHEAP)
    await eventually(lambda: len(handled) == 3)


async def test_a_handshake_that_cannot_begin_ends_its_own_connection_only(
    scheduler: Scheduler, world: Handshakes, problems: list[dict[str, Any]]
) -> None:
    shared = peer()
    before, after = world.of(shared, 2)
    broken = Broken(world, shared)
    for handshake in (before, broken, after):
        scheduler.add(handshake)
    await eventually(lambda: world.begun == [before, after])
    assert (before.aborted, broken.aborted, after.aborted) == (False, True, False)
    assert [str(problem["exception"]) for problem in problems] == ["no memory for the handshake"]


async def test_a_handshake_that_cannot_be_given_up_is_ended_and_makes_room(
    scheduler: Scheduler, clock: Clock, world: Handshakes, problems: list[dict[str, Any]]
) -> None:
    stranger, server = peer(connections=MAX_HANDSHAKES), peer(SERVER, 1)
    stuck = Stuck(world, stranger)
    for handshake in (stuck, *world.of(stranger, MAX_HANDSHAKES - 1)):
        scheduler.add(handshake)
    await eventually(lambda: len(world.begun) == MAX_HANDSHAKES)
    clock.now += 2 * HANDSHAKE_PATIENCE_SECONDS
    (newcomer,) = world.of(server)
    scheduler.add(newcomer)
    await eventually(lambda: newcomer in world.begun)
    assert stuck.aborted
    assert [str(problem["exception"]) for problem in problems] == ["cannot give up"]


async def test_a_connection_that_cannot_even_be_ended_does_not_stop_the_others(
    scheduler: Scheduler, problems: list[dict[str, Any]]
) -> None:
    handled: list[str] = []

    class Endless(Client):
        def abort(self) -> None:
            raise RuntimeError("cannot end")

    def fail() -> None:
        raise RuntimeError("cannot handle")

    scheduler.defer(Endless(peer()), fail, Rank.CHEAP)
    scheduler.defer(Client(peer(SERVER)), lambda: handled.append("a"), Rank.CHEAP)
    await eventually(lambda: handled == ["a"])
    assert [str(problem["exception"]) for problem in problems] == ["cannot handle", "cannot end"]
