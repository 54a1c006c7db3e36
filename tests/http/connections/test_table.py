"""The table of connections: which one is evicted for a new one, and that the choice is cheap."""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.http.connections.peers import MAX_CREDIT, Activity, Peer
from gatekeeper_py.http.connections.table import NEWCOMERS, PATIENCE_SECONDS, Table
from support.growth import check_linear
from support.transports import Member

SILENT, NEW, WAITING, IDLE, BUSY, CLOSING = Activity

SERVER: Final = "10.0.0.1"
STRANGER: Final = "10.9.9.9"
"""An API server and a stranger."""


class World:
    """A table and a clock."""

    def __init__(self, capacity: int = 100) -> None:
        self.table = Table(capacity)
        self.now = 1000.0
        self._newcomers = 0

    def peer(self, host: str, reviews: int = 0) -> Peer:
        """Return the peer of an address that has sent this many good reviews."""
        peer = self.table.peers.find(host)
        peer.reviews += reviews
        return peer

    def open(self, host: str, activity: Activity = SILENT, *, age: float = 0.0, reviews: int = 0) -> Member:
        """Open a connection that has had this activity for ``age`` seconds."""
        member = Member(self.peer(host, reviews), self.now - age)
        self.table.add(member)
        if activity is IDLE:
            self.table.good(member, self.now - age)
        elif activity is not SILENT:
            self.table.move(member, activity, self.now - age)
        return member

    def victim(self, newcomer: str = SERVER) -> Member | None:
        """Return the connection that is closed for a new one of ``newcomer``."""
        victim = self.table.victim(self.peer(newcomer), self.now)
        assert victim is None or isinstance(victim, Member)
        return victim

    def crowd(self, count: int, activity: Activity, *, hosts: int = 1, age: float = 5.0) -> list[Member]:
        """Open connections of strangers; return them with the oldest first."""
        return [
            self.open(f"10.9.{n % hosts // 250}.{n % hosts % 250}", activity, age=age + (count - n) / 1000)
            for n in range(count)
        ]


class Opened(NamedTuple):
    """Connections of one peer, or one connection of each of several strangers (``hosts``)."""

    host: str
    activity: Activity
    age: float
    number: int = 1
    hosts: int = 0
    reviews: int = 0


@pytest.mark.parametrize(
    ("capacity", "opened", "victim"),
    [
        pytest.param(
            4, [Opened(SERVER, IDLE, 60), Opened(SERVER, SILENT, 10), Opened(SERVER, IDLE, 120)], 1,
            id="one-without-a-good-request-first",
        ),
        pytest.param(
            6, [Opened("10.0.0.2", IDLE, 90), Opened("10.0.0.3", IDLE, 80), Opened(STRANGER, IDLE, 9, 3)], 2,
            id="then-one-of-the-peer-with-the-most",
        ),
        pytest.param(
            100, [Opened(STRANGER, NEW, 5, 50), Opened(SERVER, CLOSING, 0)], 50, id="a-closing-one-before-all"
        ),
        pytest.param(5, [Opened(STRANGER, BUSY, 60, 5)], None, id="never-one-with-a-complete-request"),
        pytest.param(
            100, [Opened(STRANGER, WAITING, 0, 100)], 0, id="half-a-request-if-all-have-one-and-none-is-late"
        ),
        pytest.param(
            100, [Opened(SERVER, IDLE, 0, reviews=50), Opened("", NEW, 0.1, 99, hosts=99)], 1,
            id="newcomers-beyond-their-share-replace-each-other",
        ),
        pytest.param(
            300,
            [
                Opened(SERVER, IDLE, 0, reviews=500), Opened(SERVER, SILENT, 1.5, 199),
                Opened(STRANGER, NEW, 0.1, 100),
            ],
            200, id="one-of-a-crowd-and-not-of-a-burst-of-an-api-server",
        ),
    ],
)  # fmt: skip
def test_the_least_valuable_connection_is_evicted(
    capacity: int, opened: list[Opened], victim: int | None
) -> None:
    world, members = World(capacity), list[Member]()
    for each in opened:
        for number in range(each.number):
            host = f"10.9.0.{number}" if each.hosts else each.host
            age = each.age + (each.number - number) / 1000
            members.append(world.open(host, each.activity, age=age, reviews=each.reviews))
    assert world.victim("10.8.0.1") is (None if victim is None else members[victim])


@pytest.mark.parametrize("hosts", [1, 90])
@pytest.mark.parametrize(("crowd", "own"), [(SILENT, NEW), (NEW, SILENT)])
def test_a_newcomer_is_not_mistaken_for_one_of_a_crowd(crowd: Activity, own: Activity, hosts: int) -> None:
    """The server first evicts from the larger group: silent connections or those in a handshake."""
    world = World()
    members = world.crowd(90, crowd, hosts=hosts, age=0.5)
    own_hosts = [members[0].peer.key] * 10 if hosts == 1 else [f"10.0.1.{n}" for n in range(10)]
    newcomers = [world.open(host, own, age=0.6) for host in own_hosts]
    for _ in range(80):
        victim = world.victim(STRANGER)
        assert victim in members
        world.table.remove(victim)
        members.remove(victim)
    assert all(member in world.table for member in newcomers)


def test_the_longest_idle_connection_of_a_peer_is_evicted_next() -> None:
    world = World(capacity=3)
    first, second, third = (world.open(SERVER, IDLE, age=age) for age in (30, 20, 10))
    world.table.good(first, world.now)
    assert world.victim() is second
    world.table.good(second, world.now)
    assert world.victim() is third


@pytest.mark.parametrize("hosts", [1, 20, 80])
@pytest.mark.parametrize("activity", [SILENT, NEW, WAITING, IDLE])
def test_a_crowd_of_strangers_is_evicted_and_an_api_server_keeps_its_connections(
    activity: Activity, hosts: int
) -> None:
    """One good review on each of a stranger's connections gives it no advantage."""
    world = World()
    kept = [world.open(SERVER, IDLE, age=40, reviews=20) for _ in range(20)]
    world.crowd(80, activity, hosts=hosts)
    for newcomer in (SERVER, "10.0.0.2", STRANGER):
        for _ in range(30):
            victim = world.victim(newcomer)
            assert victim is not None
            assert victim not in kept
            world.table.remove(victim)
            world.open(newcomer, activity, age=5.0)


@pytest.mark.parametrize("newcomer", ["10.0.0.2", SERVER])
def test_newcomers_have_a_share_that_lasts_for_a_handshake_and_a_review(newcomer: str) -> None:
    """The share remains even if strangers hold all connections, each with one good review."""
    world = World()
    world.crowd(100, IDLE, hosts=100)
    opened = []
    for _ in range(world.table.capacity // NEWCOMERS):
        victim = world.victim(newcomer)
        assert victim is not None
        assert victim not in opened
        world.table.remove(victim)
        opened.append(world.open(newcomer))
        world.now += 0.001
    for member in opened:
        world.table.good(member, world.now)
        assert member.activity is IDLE


def test_callers_with_one_address_are_distinguished_by_their_good_requests() -> None:
    """Behind address translation, the API servers and all strangers are one peer."""
    world = World()
    once = [world.open(SERVER, IDLE, age=9.0 - n / 100) for n in range(39)]
    silent = [world.open(SERVER, age=3.0 - n / 100) for n in range(60)]
    in_use = world.open(SERVER, IDLE, age=0.1, reviews=100)
    for expected in silent[:50]:
        assert world.victim() is expected
        world.table.remove(expected)
        world.open(SERVER, IDLE)
    for expected in silent[50:] + once:
        assert world.victim() is expected
        world.table.remove(expected)
        world.open(SERVER, IDLE)
    assert in_use.activity is IDLE


def test_a_request_in_progress_is_evicted_only_when_it_is_late() -> None:
    world = World(capacity=2)
    idle = world.open(STRANGER, IDLE, age=1.0)
    waiting = world.open(STRANGER, WAITING, age=PATIENCE_SECONDS)
    assert world.victim() is idle
    world.now += 0.01
    assert world.victim() is waiting


def test_requests_of_strangers_do_not_evict_idle_connections_of_an_api_server() -> None:
    world = World()
    kept = world.open(SERVER, IDLE, age=40, reviews=100)
    world.crowd(99, WAITING, hosts=50, age=0.0)
    for _ in range(90):
        victim = world.victim("10.0.0.2")
        assert victim is not None
        assert victim is not kept
        world.table.remove(victim)
        world.open("10.0.0.2", WAITING)


def test_a_peer_with_many_connections_cannot_push_out_a_better_one() -> None:
    """All its own connections are busy, and only the API server has idle ones."""
    world = World()
    kept = [world.open(SERVER, IDLE, reviews=50) for _ in range(10)]
    for _ in range(90):
        world.open(STRANGER, BUSY)
    assert world.victim(STRANGER) is None
    assert world.victim(SERVER) is kept[0]
    assert world.victim("10.0.0.2") is kept[0]


def test_credit_fades() -> None:
    world = World(capacity=50)
    server = world.open(SERVER, IDLE, age=600, reviews=MAX_CREDIT)
    stranger = world.open(STRANGER, IDLE, age=10)
    assert world.victim() is stranger
    for _ in range(12):
        world.table.halve_credit()
    assert server.peer.reviews == stranger.peer.reviews == 0
    assert world.victim() is server


def test_a_connection_is_counted_once_in_every_state() -> None:
    world = World(capacity=2)
    member = world.open(SERVER)
    for activity in (NEW, WAITING, BUSY, IDLE, CLOSING, SILENT):
        world.table.move(member, activity, world.now)
        assert len(world.table) == 1
        assert list(world.table) == [member]
        assert not world.table.is_full
    world.table.remove(member)
    world.table.remove(member)
    world.table.move(member, IDLE, world.now)
    assert len(world.table) == 0
    assert list(world.table) == []
    assert world.victim() is None


def scanned(table: Table, activity: Activity) -> Member | None:
    """Return the worst connection with an activity, found by comparing all peers."""
    ranks = [
        ((-peer.burden(), oldest.since, peer.serial), oldest)
        for peer in table.peers
        if (oldest := peer.oldest(activity)) is not None
    ]
    found = min(ranks, default=(None, None))[1]
    assert found is None or isinstance(found, Member)
    return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "open", "close", "move", "good", "good", "wait", "fade"]),
        st.integers(0, 7),
        st.integers(0, 30),
    ),
    max_size=120,
)


@given(STEPS)
def test_the_ranking_agrees_with_a_scan_of_all_peers(steps: list[tuple[str, int, int]]) -> None:
    world, members = World(capacity=200), list[Member]()
    for step, peer, number in steps:
        member = members[number % len(members)] if members else None
        if step == "open" or member is None:
            members.append(world.open(f"10.0.0.{peer}", Activity(number % len(Activity))))
        elif step == "close":
            world.table.remove(member)
            members.remove(member)
        elif step == "move":
            world.table.move(member, Activity(peer % len(Activity)), world.now, first=number % 3 == 0)
        elif step == "good":
            world.table.good(member, world.now)
        elif step == "fade":
            world.table.halve_credit()
        world.now += number / 10
        for ranking in world.table._rankings:
            worst = ranking.worst()
            found = scanned(world.table, ranking.activity)
            assert (worst and worst.oldest(ranking.activity)) is found
    assert len(world.table) == len(members)
    assert {*world.table} == {*members}


@pytest.mark.parametrize("hosts", [1, 5000], ids=["one-address", "many-addresses"])
@pytest.mark.parametrize("activity", [NEW, IDLE])
def test_a_victim_is_found_without_looking_at_all_connections(activity: Activity, hosts: int) -> None:
    """A flood that replaces every connection costs linear work, so each newcomer costs the same."""

    def flood(size: int) -> None:
        world = World(capacity=size)
        world.crowd(size, activity, hosts=hosts)
        for number in range(2 * size):
            newcomer = f"10.8.{number % hosts // 250}.{number % hosts % 250}"
            victim = world.victim(newcomer)
            assert victim is not None
            world.table.remove(victim)
            world.open(newcomer, activity)

    check_linear(flood, lambda size: size, limit=512)
