"""Slow, silent, too many or lost clients are disconnected without an effect on other clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from faults.monitored import GOOD_REQUEST, REVIEW, MonitoredServer, warmed_up
from support.builders import pod, review
from support.contract import check_response
from support.wire import DEADLINE_SECONDS, Connection, chunked, eventually, request

MOST: Final = 2000
HEADER_SECONDS: Final = 5.0
BODY_SECONDS: Final = 2.0
SLACK_SECONDS: Final = 10.0
"""Slack for a busy machine."""

GET: Final = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredServer]:
    yield from warmed_up(tmp_path_factory.mktemp("server"), [GOOD_REQUEST], "--max-connections", str(MOST))


@pytest.fixture(autouse=True)
async def check_unharmed(server: MonitoredServer) -> AsyncIterator[None]:
    """Check after each test that the server has no more resources in use than before."""
    yield
    await server.check_unharmed()


async def _drip(connection: Connection, content: bytes, seconds: float = 0.2) -> None:
    """Send single bytes with pauses until the peer closes the connection."""
    with contextlib.suppress(ConnectionError):
        for byte in content:
            await connection.send(bytes([byte]))
            await asyncio.sleep(seconds)


async def _ends_with_408(connection: Connection, *, after: float) -> None:
    start = time.monotonic()
    answer = await connection.receive()
    assert answer.status == 408
    assert list(answer.json()) == ["error"]
    assert answer.closes
    assert await connection.ended()
    assert after - 0.5 < time.monotonic() - start < after + SLACK_SECONDS


async def _slow_header(
    server: MonitoredServer, listener: str, *, completed: int = 0, drip: bool = False
) -> None:
    """Send some requests and then part of a header, either at once or byte by byte."""
    whole = GOOD_REQUEST if listener == "webhook" else GET
    async with server.connected(listener) as connection, asyncio.TaskGroup() as group:
        for _ in range(completed):
            assert (await connection.ask(whole)).status == 200
        if drip:
            dripping = group.create_task(_drip(connection, whole[:30] + b"x" * 1000))
        else:
            await connection.send(whole[:30])
        await _ends_with_408(connection, after=HEADER_SECONDS)
        if drip:
            dripping.cancel()


async def _idle(server: MonitoredServer, listener: str, content: bytes) -> None:
    """Idle connections stay open, with or without an earlier request; empty lines are ignored."""
    async with server.connected() as fresh, server.connected() as used:
        assert (await used.ask(GOOD_REQUEST)).status == 200
        for connection in (fresh, used):
            await connection.send(content)
        await asyncio.sleep(HEADER_SECONDS + 3)
        for connection in (fresh, used):
            assert (await connection.ask(GOOD_REQUEST)).status == 200


async def test_a_slow_header_gets_408_and_an_idle_connection_stays_open(server: MonitoredServer) -> None:
    async with asyncio.TaskGroup() as group:
        for listener in ("webhook", "health"):
            for completed in (0, 2):
                for drip in (False, True):
                    group.create_task(_slow_header(server, listener, completed=completed, drip=drip))
            for content in (b"", b"\r\n"):
                group.create_task(_idle(server, listener, content))


async def _slow_body(server: MonitoredServer, content: bytes, rest: bytes) -> None:
    async with server.connected() as connection, asyncio.TaskGroup() as group:
        await connection.send(content)
        dripping = group.create_task(_drip(connection, rest))
        await _ends_with_408(connection, after=BODY_SECONDS)
        dripping.cancel()


async def test_a_slow_body_gets_408(server: MonitoredServer) -> None:
    head = request(b"", length=1000)
    async with asyncio.TaskGroup() as group:
        group.create_task(_slow_body(server, head, b""))
        group.create_task(_slow_body(server, head, b" " * 500))
        group.create_task(_slow_body(server, request(b"", length=6_000_000) + b" " * 3_000_000, b""))
        group.create_task(_slow_body(server, chunked([]), b"1\r\n{\r\n" * 100))
        group.create_task(_slow_body(server, chunked([b"{"]) + b"ffff\r\n", b" " * 500))


def _reset(connection: Connection) -> None:
    """Reset the connection, as the kernel does for a process that dies with unread bytes."""
    handle = connection.writer.get_extra_info("socket")
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()


async def test_a_reset_amid_a_body_leaves_nothing(server: MonitoredServer) -> None:
    for content in (
        GOOD_REQUEST[:-300],
        request(b"", length=6_000_000) + b" " * 3_000_000,
        chunked([b"{"]),
        GOOD_REQUEST,
    ):
        for _ in range(20):
            connection = await Connection.open(*server.server.address("webhook"), server.trust)
            await connection.send(content)
            _reset(connection)


async def test_10_000_pipelined_requests_are_answered_in_order(server: MonitoredServer) -> None:
    documents = [{**REVIEW, "request": {**REVIEW["request"], "uid": f"u{n}"}} for n in range(10_000)]
    content = b"".join(request(json.dumps(document).encode()) for document in documents)
    async with server.connected() as connection:
        connection.writer.write(content)
        for document in documents:
            assert check_response((await connection.receive()).body, document, "validate").allowed


async def _goes_on(server: MonitoredServer, stop: asyncio.Event, going: asyncio.Event) -> list[float]:
    """Send reviews on one connection until stopped; return the seconds of each."""
    seconds = []
    async with server.connected() as connection:
        assert (await connection.ask(GOOD_REQUEST)).status == 200
        going.set()
        while not stop.is_set():
            start = time.perf_counter()
            assert (await connection.ask(GOOD_REQUEST)).status == 200
            seconds.append(time.perf_counter() - start)
            await asyncio.sleep(0.02)
    return seconds


async def test_1_000_concurrent_handshakes_are_served_while_reviews_continue(server: MonitoredServer) -> None:
    async def ask() -> None:
        async with server.connected() as connection:
            assert (await connection.ask(GOOD_REQUEST)).status == 200

    stop, established = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        going = group.create_task(_goes_on(server, stop, established))
        await established.wait()
        await asyncio.gather(*(ask() for _ in range(1000)))
        stop.set()
    # This process also does the client half of the handshakes, so it measures its own delay, too.
    assert len(going.result()) > 1
    assert max(going.result()) < SLACK_SECONDS


async def _dialled(address: tuple[str, int], count: int) -> list[socket.socket]:
    """Open silent connections, which the server may close again."""
    loop, dialled = asyncio.get_running_loop(), []
    for _ in range(count):
        silent = socket.socket()
        silent.setblocking(False)
        dialled.append(silent)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(
            *(loop.sock_connect(silent, address) for silent in dialled), return_exceptions=True
        )
    return dialled


async def test_5_000_silent_connections_lock_out_no_client(server: MonitoredServer) -> None:
    """The server keeps them for the time of a handshake, as long as no other connection arrives."""
    stop, established = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        going = group.create_task(_goes_on(server, stop, established))
        await established.wait()
        dialled = await _dialled(server.server.address("webhook"), 5000)
        assert server.server.metric("connections") <= MOST
        deadline = time.monotonic() + 4.0  # before the first handshake times out
        while True:
            with contextlib.suppress(OSError):
                await server.check_answers()
                break
            assert time.monotonic() < deadline
        stop.set()
    for silent in dialled:
        silent.close()
    assert len(going.result()) > 1


async def test_silent_connections_to_the_plain_port_lock_out_no_probe(server: MonitoredServer) -> None:
    dialled = await _dialled(server.server.address("health"), 1000)
    await eventually(lambda: _is_alive(server))
    for silent in dialled:
        silent.close()


def _is_alive(server: MonitoredServer) -> bool:
    try:
        return server.server.get("/livez")[0] == 200
    except OSError:
        return False


async def test_clients_that_never_read_are_disconnected_and_hold_no_memory(server: MonitoredServer) -> None:
    """Denials are the longest answers. The server makes no answers that it cannot send."""
    denied = request(json.dumps(review(pod(*(f"evil.io/web:{n}" for n in range(20))))).encode())
    before = server.mib()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            connection = await stack.enter_async_context(server.connected())
            # Otherwise the kernel would buffer megabytes of answers for the client.
            connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # Otherwise asyncio's TLS would read 256 KiB ahead.
            connection.writer.transport.set_read_buffer_limits(0)  # type: ignore[attr-defined]
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            connection.writer.write(denied * 2000)
        start = time.monotonic()
        await eventually(lambda: server.server.metric("connections") == 50)
        await server.check_answers()
        # The server parses one read of 256 KiB, and reads no more.
        assert server.mib() < before + 50 * 1.5
        await eventually(lambda: server.server.metric("connections") == 0)
        assert time.monotonic() - start < 10 + SLACK_SECONDS


def test_the_log_has_few_lines_and_no_traceback(server: MonitoredServer) -> None:
    """This must be the last test, because it checks the log of all the others."""
    server.check_log()
