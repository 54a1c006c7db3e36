"""TLS: input arrives regardless of its pieces, and no client's input costs other clients much."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import ssl
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.cluster.issuing import Issued
from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.http.connections.scheduler import Rank, Scheduler
from gatekeeper_py.http.connections.tlstransport import (
    MANY_COSTLY,
    MAX_HELLO_BYTES,
    RECORDS_A_TURN,
    TlsTransport,
)
from gatekeeper_py.webhook.tls import build_certificate
from support.transports import Transport


class Tcp(Transport):
    """The TCP connection below TLS, which may be paused and resumed again and again."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Application:
    """The protocol above TLS."""

    def __init__(self) -> None:
        self.peer = Peer("192.0.2.1", 1)
        self.transport: TlsTransport | None = None
        self.received = bytearray()
        self.lost = self.given_up = self.continues = False
        self.pieces = self.hearings = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport

    def first_bytes_received(self) -> None:
        self.hearings += 1

    def data_received(self, data: bytes) -> None:
        assert data
        self.received += data
        self.pieces += 1

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True

    def give_up(self) -> None:
        self.given_up = True


class World:
    """A server's transport with a client of the ``ssl`` module, without a network between them."""

    def __init__(self, context: ssl.SSLContext, trust: ssl.SSLContext) -> None:
        self.application = Application()
        self.scheduler = Scheduler(asyncio.get_running_loop())
        self.server = TlsTransport(context, self.application, self.scheduler)
        self.tcp = Tcp()
        self.server.connection_made(self.tcp)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def sent(self) -> bytes:
        """Return the bytes that the client has to send."""
        return self._outgoing.read()

    def hello(self) -> bytes:
        """Return the client's first message."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
        return self.sent()

    def take(self) -> None:
        """Pass the bytes that the server sent to the client."""
        self._incoming.write(bytes(self.tcp.sent))
        self.tcp.sent.clear()

    async def shake_hands(self) -> None:
        for _ in range(10):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.server.data_received(self.sent())
                await asyncio.sleep(0)
                self.take()
                continue
            self.server.data_received(self.sent())
            break
        assert self.application.transport is self.server

    def records(self, *contents: bytes) -> bytes:
        """Return one record for each of these contents."""
        for content in contents:
            self.client.write(content)
        return self.sent()

    async def settle(self) -> None:
        """Run the event loop until no work is left for a later turn."""
        for _ in range(10_000):
            if not self.server._deferred:
                return
            await asyncio.sleep(0)
        raise AssertionError


@pytest.fixture(scope="module")
def context(authority: Issued) -> ssl.SSLContext:
    from datetime import UTC, datetime  # noqa: PLC0415

    return build_certificate((authority.leaf, authority.key), "", datetime.now(UTC)).context


@pytest.fixture
async def world(context: ssl.SSLContext, trust: ssl.SSLContext) -> World:
    return World(context, trust)


async def test_both_sides_can_talk_after_the_handshake(world: World) -> None:
    await world.shake_hands()
    world.server.data_received(world.records(b"hello"))
    assert world.application.received == b"hello"
    world.server.writelines([b"good", b"bye"])
    world.take()
    assert world.client.read(100) == b"goodbye"
    assert world.server.get_extra_info("peername") == "there"
    assert world.server.get_extra_info("peercert") == {}


@pytest.mark.parametrize("crowded", [True, False])
async def test_the_first_request_of_a_new_connection_waits_with_the_costly_ones_in_a_crowd(
    world: World, *, crowded: bool
) -> None:
    world.scheduler.crowded = crowded
    await world.shake_hands()
    assert (world.server._costly == MANY_COSTLY) is crowded


async def test_data_that_comes_with_the_end_of_the_handshake_is_not_lost(world: World) -> None:
    world.server.data_received(world.hello())
    await asyncio.sleep(0)
    world.take()
    world.client.do_handshake()
    world.server.data_received(world.records(b"early", b"bird"))
    assert world.application.received == b"earlybird"


async def test_half_a_client_hello_is_not_queued(world: World) -> None:
    hello = world.hello()
    for byte in hello[:-1]:
        world.server.data_received(bytes([byte]))
    await asyncio.sleep(0)
    assert not world.server.is_waiting
    assert world.application.hearings == 1
    assert world.tcp.sent == b""
    world.server.data_received(hello[-1:])
    assert world.server.is_waiting
    await asyncio.sleep(0)
    assert not world.server.is_waiting
    world.take()
    world.client.do_handshake()
    world.server.data_received(world.records(b"hello"))
    assert world.application.received == b"hello"


@pytest.mark.parametrize(
    ("costly", "ranks"),
    [
        ([False] * 3, [Rank.CHEAP] * 3),
        ([True] * (MANY_COSTLY - 1), [Rank.CHEAP] * MANY_COSTLY),
        ([True] * MANY_COSTLY, [*[Rank.CHEAP] * MANY_COSTLY, Rank.COSTLY]),
        ([*[True] * MANY_COSTLY, False], [*[Rank.CHEAP] * MANY_COSTLY, Rank.COSTLY, Rank.CHEAP]),
        (
            [*[True] * MANY_COSTLY, False, True],
            [*[Rank.CHEAP] * MANY_COSTLY, Rank.COSTLY, Rank.CHEAP, Rank.COSTLY],
        ),
        ([True, False] * MANY_COSTLY, [Rank.CHEAP] * 2 * MANY_COSTLY),
    ],
)  # fmt: skip
async def test_a_connection_whose_requests_are_mostly_costly_loses_its_precedence(
    world: World, monkeypatch: pytest.MonkeyPatch, costly: list[bool], ranks: list[Rank]
) -> None:
    await world.shake_hands()
    monkeypatch.setattr(world.scheduler, "crowded", True)
    monkeypatch.setattr(world.scheduler, "has_time", lambda: False)
    given: list[Rank] = []
    defer = world.scheduler.defer

    def note(connection: TlsTransport, handle: Callable[[], None], rank: Rank) -> None:
        given.append(rank)
        defer(connection, handle, rank)

    monkeypatch.setattr(world.scheduler, "defer", note)
    monkeypatch.setattr(time, "thread_time", itertools.count(0.0, 0.25).__next__)
    verdicts = iter([*costly, False])

    def note_time(seconds: float) -> bool:
        assert seconds == 0.25
        return next(verdicts)

    monkeypatch.setattr(world.scheduler, "is_costly", note_time)
    for _ in ranks:
        world.server.data_received(world.records(b"x"))
        await world.settle()
    assert world.application.received == b"x" * len(ranks)
    assert given == ranks


async def test_input_behind_an_unanswered_request_does_not_wait_with_new_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.shake_hands()
    monkeypatch.setattr(world.scheduler, "crowded", True)
    monkeypatch.setattr(world.scheduler, "has_time", lambda: False)
    given: list[Rank] = []
    defer = world.scheduler.defer

    def note(connection: TlsTransport, handle: Callable[[], None], rank: Rank) -> None:
        given.append(rank)
        defer(connection, handle, rank)

    monkeypatch.setattr(world.scheduler, "defer", note)
    monkeypatch.delattr(Scheduler, "is_costly")  # it is not compared with the cost of requests either
    world.application.continues = True
    world.server.data_received(world.records(b"x"))
    await world.settle()
    assert world.application.received == b"x"
    assert given == [Rank.REST]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([1, 2, 100, 5000, 16384, 20_000, 100_000]), max_size=8),
    cuts=st.lists(st.integers(0, 300_000), max_size=8),
    crowded=st.booleans(),
)
async def test_any_records_in_any_pieces_arrive(
    context: ssl.SSLContext, trust: ssl.SSLContext, sizes: list[int], cuts: list[int], *, crowded: bool
) -> None:
    world = World(context, trust)
    await world.shake_hands()
    world.scheduler.crowded = crowded
    contents = [random.randbytes(size) for size in sizes]
    stream = world.records(*contents)
    places = sorted(cut % (len(stream) + 1) for cut in cuts)
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        if stream[start:end]:
            await world.settle()
            assert world.tcp.reading
            world.server.data_received(stream[start:end])
    await world.settle()
    assert world.application.received == b"".join(contents)


async def test_tiny_records_are_read_a_few_in_each_turn(world: World) -> None:
    await world.shake_hands()
    world.scheduler._clock = itertools.count().__next__  # each call uses up the time of a turn
    count = 20 * RECORDS_A_TURN
    world.server.data_received(world.records(*[b"x"] * count))
    assert len(world.application.received) == RECORDS_A_TURN
    assert not world.tcp.reading, "nothing more is read meanwhile"
    before = len(world.application.received)
    while len(world.application.received) < count:
        await asyncio.sleep(0)
        assert len(world.application.received) - before <= RECORDS_A_TURN
        before = len(world.application.received)
    await world.settle()
    assert world.tcp.reading


async def test_input_waits_for_a_turn_when_it_is_crowded(world: World) -> None:
    await world.shake_hands()
    world.scheduler.crowded = True
    world.scheduler._clock = itertools.count().__next__
    assert world.scheduler.has_time()
    world.server.data_received(world.records(b"hello"))
    assert world.application.received == b""
    assert not world.tcp.reading
    await world.settle()
    assert world.application.received == b"hello"
    assert world.tcp.reading


async def test_an_application_that_does_not_read_gets_nothing_until_it_does(world: World) -> None:
    await world.shake_hands()
    world.server.pause_reading()
    assert not world.server.is_reading()
    world.server.data_received(world.records(b"a" * 50_000, b"b" * 50_000))
    assert world.application.received == b""
    world.server.resume_reading()
    await world.settle()
    assert world.application.received == b"a" * 50_000 + b"b" * 50_000
    assert world.tcp.reading


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="plain-http"),
        pytest.param(b"\x16\x03\x01" + b"x" * MAX_HELLO_BYTES, id="more-than-a-record"),
    ],
)
async def test_input_that_is_not_a_handshake_closes_the_connection(world: World, content: bytes) -> None:
    world.server.data_received(content)
    assert world.tcp.aborted
    assert world.server._tls is None


async def test_a_bad_handshake_ends_with_an_alert(world: World) -> None:
    world.server.data_received(b"\x16\x03\x01\x00\x05hello")
    await asyncio.sleep(0)
    assert world.tcp.closing
    assert bytes(world.tcp.sent).startswith(b"\x15\x03"), "an alert record"


async def test_garbage_behind_a_good_record_ends_the_connection_after_it(world: World) -> None:
    await world.shake_hands()
    world.server.data_received(world.records(b"good") + b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert world.application.received == b"good"
    assert world.tcp.aborted
    assert world.server.is_closing()


async def test_renegotiation_is_refused(context: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    """Each renegotiation of TLS 1.2 would cost as much as a new connection."""
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_close_sends_close_notify_and_waits_for_that_of_the_peer(world: World) -> None:
    await world.shake_hands()
    world.server.write(b"the last answer")
    world.server.close()
    world.server.close()
    assert world.tcp.ended
    assert not world.tcp.closing
    world.server.data_received(world.records(b"too late"))
    world.server.write(b"too late")
    world.take()
    assert world.client.read(100) == b"the last answer"
    with contextlib.suppress(ssl.SSLZeroReturnError):
        assert world.client.read(100) == b""
    assert world.application.received == b""


async def test_the_close_notify_of_the_peer_is_answered(world: World) -> None:
    await world.shake_hands()
    with contextlib.suppress(ssl.SSLWantReadError):
        world.client.unwrap()
    world.server.data_received(world.sent())
    assert world.server.is_closing()
    assert world.tcp.ended


async def test_end_sends_close_notify_and_closes(world: World) -> None:
    await world.shake_hands()
    world.server.end()
    assert world.tcp.closing
    assert not world.tcp.aborted
    assert bytes(world.tcp.sent) != b""


@pytest.mark.parametrize("end", ["end", "abort", "close"])
async def test_a_connection_can_end_before_it_is_made(context: ssl.SSLContext, end: str) -> None:
    application = Application()
    server = TlsTransport(context, application, Scheduler(asyncio.get_running_loop()))
    getattr(server, end)()
    tcp = Tcp()
    server.connection_made(tcp)
    assert tcp.closing
    server.connection_lost(None)
    assert application.lost


async def test_a_lost_connection_leaves_no_work(world: World) -> None:
    world.server.data_received(world.hello())
    world.server.connection_lost(None)
    await asyncio.sleep(0)
    assert world.application.lost
    assert world.application.transport is None
    assert world.tcp.sent == b""
