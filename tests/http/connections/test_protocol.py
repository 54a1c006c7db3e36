"""HTTP on one connection: the boundaries of requests, and the limits of their headers."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.http.aiohttp_internals import Message
from gatekeeper_py.http.answers import MALFORMED, Refusal, json_response
from gatekeeper_py.http.bodymemory import BodyMemory
from gatekeeper_py.http.connections.peers import Activity, Peer
from gatekeeper_py.http.connections.protocol import HttpConnection
from gatekeeper_py.http.connections.scheduler import ANSWERS_A_TURN
from gatekeeper_py.http.connections.slowpath import TOO_MUCH_FRAMING
from gatekeeper_py.http.limits import (
    HEADER_SECONDS,
    KEEPALIVE_SECONDS,
    MAX_HEADER_BYTES,
    MAX_WAITING_BYTES,
    SHUTDOWN_SECONDS,
    STALLED_SECONDS,
)
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.webhook.body import read_body
from support.growth import check_linear
from support.transports import Transport
from support.wire import chunked, eventually, request


class World:
    """A connection that answers requests with even numbers on the hot path, if there is one."""

    def __init__(self, *, fast: bool) -> None:
        self.errors: list[int] = []
        self.handled = 0
        self.held: asyncio.Event | None = None
        self.listener = Listener(
            self._handle, max_connections=10, answer=self._answer, fast=fast, on_error=self.errors.append
        )
        self.transport = Transport()
        with socket.socket() as accepted:
            self.connection: HttpConnection = self.listener.enter(accepted, Peer("192.0.2.1", 1))
        self.connection.connection_made(self.transport)

    def _answer(self, message: Message, body: bytes, _peer: str) -> bytes | None:
        return None if message.path.endswith("1") else self._echo(message.path, body)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.handled += 1
        if self.held is not None:
            await self.held.wait()
        return json_response(200, json.loads(self._echo(request.path, await request.read())))

    def _echo(self, path: str, body: bytes) -> bytes:
        return json.dumps([path, body.decode()]).encode()

    def answers(self) -> list[tuple[int, Any]]:
        """Return the complete answers so far."""
        rest, found = bytes(self.transport.sent), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:])
            length = int(fields["content-length"])
            found.append((int(lines[0].split()[1]), json.loads(rest[:length])))
            rest = rest[length:]
        return found

    async def send(self, content: bytes, *cuts: int) -> None:
        """Send the bytes in pieces, each once the last one was read and reading is not paused."""
        places = sorted(cut % (len(content) + 1) for cut in cuts)
        for start, end in zip([0, *places], [*places, len(content)], strict=True):
            await eventually(lambda: self.transport.reading or self.transport.closing)
            if content[start:end] and not self.transport.closing:
                self.connection.data_received(content[start:end])

    async def close(self) -> None:
        self.connection.connection_lost(None)
        await self.listener.close(0.1)


@pytest.fixture(params=["fast", "public"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(fast=request.param == "fast")
    yield world
    await world.close()


def text(number: int, size: int) -> str:
    """Return a body that contains some header ends."""
    return (f"{number}:" + "\r\n\r\n{}" * 20 + "x" * size)[: size + 8]


def numbered(number: int, kind: str, size: int) -> bytes:
    """Return a request with a unique path and body."""
    body = text(number, size).encode()
    path = f"/{number}-{number % 2}"
    if kind == "chunked":
        middle = len(body) // 2
        return chunked([part for part in (body[:middle], body[middle:]) if part], path=path) + b"0\r\n\r\n"
    if kind == "trailer":
        return chunked([body], path=path) + b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
    if kind == "empty-lines":
        return b"\r\n\r\n\r\n" + request(body, path=path)
    if kind == "no-body":
        return request(b"", path=path, method="GET", headers=[])
    return request(body, path=path)


def echo(number: int, kind: str, size: int) -> tuple[int, Any]:
    """Return the answer to such a request."""
    body = "" if kind == "no-body" else text(number, size)
    return 200, [f"/{number}-{number % 2}", body]


KINDS: Final = ("plain", "plain", "plain", "chunked", "trailer", "empty-lines", "no-body")
REQUESTS: Final = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from([0, 1, 7, 300, 9000, 70_000])), min_size=1, max_size=6
)


@settings(max_examples=60)
@given(requests=REQUESTS, cuts=st.lists(st.integers(0, 200_000), max_size=6), fast=st.booleans())
async def test_requests_in_any_pieces_are_answered_in_order(
    requests: list[tuple[str, int]], cuts: list[int], *, fast: bool
) -> None:
    world = World(fast=fast)
    content = b"".join(numbered(number, *each) for number, each in enumerate(requests))
    await world.send(content, *cuts)
    await eventually(lambda: len(world.answers()) == len(requests))
    assert world.answers() == [echo(number, *each) for number, each in enumerate(requests)]
    assert world.connection.activity.name == "IDLE"
    assert world.transport.reading
    await world.close()


GOOD: Final = request(b"{}", path="/0")
PREFIXES: Final = {
    "first": b"",
    "after-a-request-in-one-read": GOOD,
    "after-a-request-of-the-slow-path": request(b"{}", path="/1"),
    "after-chunks": chunked([b"{}"], path="/0") + b"0\r\n\r\n",
    "after-many-requests": GOOD * 20,
    "after-empty-lines": b"\r\n" * 20,
}
LONG: Final = b"GET /0 HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 2000 + b"\r\n"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("cut", [0, 1, 100, -1, -100, -7000])
async def test_a_header_of_over_8_kib_is_refused_wherever_it_begins(
    world: World, prefix: str, cut: int
) -> None:
    before = PREFIXES[prefix]
    await world.send(before + LONG + LONG.split(b"\r\n", 2)[2] * 4, cut)
    await eventually(lambda: world.transport.closing)
    assert world.answers()[-1] == (400, {"error": MALFORMED})
    assert [status for status, _ in world.answers()[:-1]] == [200] * before.count(b"HTTP/1.1")
    assert world.errors == [400]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_header_of_just_8_kib_is_read_wherever_it_begins(world: World, prefix: str) -> None:
    head = request(b"", path="/0")[:-4]
    line = b"\r\nX: " + b"x" * (MAX_HEADER_BYTES - len(head) - len(b"\r\nX: \r\n\r\n"))
    content = PREFIXES[prefix] + head + line + b"\r\n\r\n"
    await world.send(content)
    await eventually(lambda: len(world.answers()) == content.count(b"HTTP/1.1"))
    assert [status for status, _ in world.answers()] == [200] * content.count(b"HTTP/1.1")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("part", [b"P", b"POST /0 HTT", LONG])
async def test_a_header_that_is_not_complete_in_time_is_late_wherever_it_begins(
    world: World, prefix: str, part: bytes
) -> None:
    before = PREFIXES[prefix]
    await world.send(before + part)
    await eventually(lambda: len(world.answers()) == before.count(b"HTTP/1.1"))
    exchange = world.connection._exchange
    await eventually(lambda: not world.connection._rest and not (exchange and exchange._rest))  # had its turn
    now = asyncio.get_running_loop().time()
    world.connection.check_timeouts(now + HEADER_SECONDS - 1)
    assert not world.transport.closing
    world.connection.check_timeouts(now + HEADER_SECONDS + 0.1)
    assert world.answers()[-1][0] == 408
    assert world.transport.closing
    assert world.errors == [408]


@pytest.mark.parametrize("content", [b"", b"\r\n", GOOD, GOOD + b"\r\n", request(b"{}", path="/1")])
async def test_an_idle_connection_is_closed_after_two_minutes_and_not_before(
    world: World, content: bytes
) -> None:
    await world.send(content)
    await eventually(lambda: len(world.answers()) == content.count(b"HTTP/1.1"))
    now = asyncio.get_running_loop().time()
    world.connection.check_timeouts(now + KEEPALIVE_SECONDS - 1)
    assert not world.transport.closing
    world.connection.check_timeouts(now + KEEPALIVE_SECONDS + 1)
    assert world.transport.closing
    assert not world.transport.aborted


async def test_a_peer_that_does_not_close_is_cut_off(world: World) -> None:
    world.connection.close()
    now = asyncio.get_running_loop().time()
    world.connection.check_timeouts(now + SHUTDOWN_SECONDS - 1)
    assert not world.transport.aborted
    world.connection.check_timeouts(now + SHUTDOWN_SECONDS + 0.1)
    assert world.transport.aborted
    assert world.listener.connections == 0


async def test_a_peer_that_takes_no_byte_of_its_answers_is_cut_off(world: World) -> None:
    world.transport.unsent = 1000
    now = asyncio.get_running_loop().time()
    world.connection.check_timeouts(now)
    world.transport.unsent = 500
    world.connection.check_timeouts(now + STALLED_SECONDS)
    assert not world.transport.aborted
    world.connection.check_timeouts(now + 2 * STALLED_SECONDS + 0.1)
    assert world.transport.aborted


async def test_nothing_is_answered_to_a_peer_that_does_not_read(world: World) -> None:
    await world.send(GOOD)
    await eventually(lambda: len(world.answers()) == 1)
    world.connection.pause_writing()
    assert world.connection.activity.name == "WAITING"
    await world.send(GOOD)
    await asyncio.sleep(0.01)
    world.connection.resume_writing()
    await eventually(lambda: len(world.answers()) == 2)
    assert world.connection.activity.name == "IDLE"


async def test_little_is_read_behind_a_request_that_is_being_answered(world: World) -> None:
    world.held = asyncio.Event()
    await world.send(request(b"{}", path="/1") + GOOD)
    await eventually(lambda: world.connection.activity is Activity.BUSY)
    assert world.transport.reading
    world.connection.data_received(GOOD * (MAX_WAITING_BYTES // len(GOOD)))
    assert not world.transport.reading
    world.held.set()
    await eventually(lambda: len(world.answers()) == 2 + MAX_WAITING_BYTES // len(GOOD))
    assert world.transport.reading


async def test_aiohttp_handles_one_of_several_pipelined_requests_in_each_turn(world: World) -> None:
    """Since Python 3.12, aiohttp handles them without a pause, and 500 requests fit into one read."""
    await world.send(request(b"{}", path="/1") * 50)
    known = 0
    while known < 50:
        await asyncio.sleep(0)
        now = len(world.answers())
        assert now - known <= 1
        known = now


async def test_a_few_of_many_bodies_that_end_at_the_same_moment_are_parsed_in_each_turn(world: World) -> None:
    """Parsing a body takes up to 5 ms, and 128 bodies of 256 KiB may be in progress."""
    memory, parsed = BodyMemory(2**20), 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal parsed
        await read_body(request, max_bytes=100, seconds=10, memory=memory)
        parsed += 1
        return json_response(200, {})

    server = world.connection._service.server
    server._handler, server.scheduler.crowded = handle, True
    server.scheduler._clock = itertools.count().__next__  # each call uses up the time of a turn
    connections = [world.connection]
    for _ in range(4 * ANSWERS_A_TURN):
        with socket.socket() as accepted:
            connections.append(world.listener.enter(accepted, world.connection.peer))
        connections[-1].connection_made(Transport())
    body = chunked([b"{}"], path="/1") + b"0\r\n\r\n"
    for connection in connections:
        connection.data_received(body[:-1])
    await asyncio.sleep(0.01)
    for connection in connections:
        connection.data_received(body[-1:])
    before = 0
    while parsed < len(connections):
        await asyncio.sleep(0)
        assert parsed - before <= ANSWERS_A_TURN
        before = parsed
    for connection in connections[1:]:
        connection.connection_lost(None)


FINE: Final = chunked([b" "] * 64 + [b" " * 256] * 1000, path="/1") + b"0\r\n\r\n"
FRAMINGS: Final = {
    "tiny-chunks": ([b"1\r\n \r\n"] * 10_000, 0),
    "tiny-chunks-after-a-large-one": (
        [b"ffff\r\n" + b" " * 0xFFFF + b"\r\n", *[b"1\r\n \r\n"] * 10_000],
        0xFFFF,
    ),
    "chunks-of-100-bytes": ([b"64\r\n" + b" " * 100 + b"\r\n"] * 1000, 17_900),
    "extensions": ([b"1;" + b"x" * 500 + b"\r\n \r\n"] * 100, 0),
    "whole": ([b"1\r\n \r\n"] * 150 + [b"0\r\n\r\n"], 0),
    "trailers": ([b"2\r\n{}\r\n0\r\n", *[b"a: b\r\n"] * 10_000], 0),
}
"""The pieces of a body, and how many bytes of it are within the limit."""


async def test_a_body_in_64_chunks_of_any_size_and_one_for_each_256_bytes_is_read(world: World) -> None:
    await world.send(FINE, *range(0, len(FINE), 5000))
    await eventually(lambda: len(world.answers()) == 1)
    assert world.answers() == [(200, ["/1", " " * (64 + 256_000)])]


@pytest.mark.parametrize("kind", FRAMINGS)
@pytest.mark.parametrize("step", [1, 100, 2**20])
async def test_a_body_that_is_mostly_framing_is_read_no_further_than_its_limit(
    world: World, kind: str, step: int
) -> None:
    """Parsing a chunk costs as much as parsing a hundred bytes."""
    pieces, within = FRAMINGS[kind]
    content = chunked([], path="/1") + b"".join(pieces)
    parsed = 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal parsed
        try:
            await request.read()
        except Refusal as refusal:
            parsed = request.content.total_bytes
            response = json_response(refusal.status, {"error": refusal.reason})
            response.force_close()
            return response
        raise AssertionError("the body was read")

    world.connection._service.server._handler = handle
    for start in range(0, len(content), step):
        if not world.transport.closing:
            world.connection.data_received(content[start : start + step])
        if step > 1 or start % 1000 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: world.transport.closing)
    assert world.answers() == [(413, {"error": TOO_MUCH_FRAMING})]
    assert parsed <= within + 2048


async def test_the_activity_follows_the_requests(world: World) -> None:
    connection = world.connection
    assert connection.activity.name == "SILENT"
    await world.send(request(b"", length=20, path="/1"))
    await eventually(lambda: world.handled == 1)
    assert connection.activity.name == "NEW", "half a request proves nothing"
    await world.send(b" " * 20)
    await eventually(lambda: connection.activity is Activity.IDLE)
    await world.send(b"POST")
    assert connection.activity.name == "WAITING"
    await world.send(GOOD[4:])
    await eventually(lambda: len(world.answers()) == 2)
    assert connection.activity.name == "IDLE"
    connection.close()
    assert connection.activity.name == "CLOSING"


async def test_a_connection_with_a_bad_request_is_the_first_of_its_peer_to_be_evicted(world: World) -> None:
    peer = world.connection.peer
    with socket.socket() as accepted:
        other = world.listener.enter(accepted, peer)
    other.connection_made(Transport())
    for connection in (world.connection, other):
        connection.data_received(request(b"{}", path="/0"))
        await eventually(lambda: connection.activity is Activity.IDLE)  # noqa: B023
    assert peer.oldest(Activity.IDLE) is world.connection
    other._service.server._handler = _refuse
    other.data_received(request(b"{}", path="/1"))
    await eventually(lambda: peer.oldest(Activity.IDLE) is other)
    other.connection_lost(None)


async def _refuse(_request: web.BaseRequest) -> web.StreamResponse:
    return json_response(404, {"error": "not found"})


async def test_a_connection_that_is_lost_before_aiohttp_begins_is_not_an_error(world: World) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    world.connection.data_received(request(b"{}", path="/1"))
    world.connection.connection_lost(ConnectionResetError())
    await asyncio.sleep(1.1)  # aiohttp has been notified by then
    assert world.handled == 0
    assert problems == []


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: b"GET /" + b"x" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="path"),
        pytest.param(lambda n: b"GET /?" + b"&" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="query"),
        pytest.param(lambda n: b"GET /?timeout=" + b"9" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="timeout"),
        pytest.param(lambda n: b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b" " * n + b"\r\n\r\n", id="blanks"),
        pytest.param(
            lambda n: b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"a=b;" * (n // 4) + b"\r\n\r\n", id="cookie"
        ),
        pytest.param(
            lambda n: b"GET / HTTP/1.1\r\nHost: a\r\nAccept: " + b"(" * n + b"\r\n\r\n", id="brackets"
        ),
        pytest.param(lambda n: b"\r\n" * n, id="empty-lines"),
        pytest.param(lambda n: b"GET " + b"\xff" * n, id="not-ascii"),
    ],
)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_a_header_costs_linear_work(make: Callable[[int], bytes], pieces: str) -> None:
    """Regardless of its content, and even if it arrives byte by byte."""

    async def run(content: bytes) -> None:
        world = World(fast=True)
        step = 1 if pieces == "bytes" else len(content)
        for start in range(0, len(content), step):
            if not world.transport.closing:
                world.connection.data_received(content[start : start + step])
        await asyncio.sleep(0)
        await world.close()

    check_linear(lambda content: asyncio.run(run(content)), make, limit=4096)
