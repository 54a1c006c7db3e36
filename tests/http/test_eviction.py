"""When all connections are taken, a new one replaces the least valuable one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from gatekeeper_py.http.listener import SPARE_RATIO
from support.contract import check_response
from support.served import ASKED, CONTENT, GOOD, Start
from support.wire import Connection, eventually, request


@pytest.mark.parametrize(
    ("asked", "evicted", "why"),
    [
        pytest.param([0, 2], 1, "unused", id="one-that-never-carried-a-review"),
        pytest.param([0, 1, 2, 0], 1, "idle", id="the-one-that-has-been-idle-for-longest"),
        # A stranger behind the same address sends one review on each connection; an API server sends many.
        pytest.param([0, 0, 1, 2, 2], 1, "idle", id="the-one-with-the-fewest-reviews"),
    ],
)
async def test_a_new_connection_replaces_the_least_valuable_one(
    start: Start, asked: list[int], evicted: int, why: str
) -> None:
    served = start(max_connections=3)
    async with served.connected() as first, served.connected() as second, served.connected() as third:
        connections = [first, second, third]
        for number in asked:
            assert (await connections[number].ask(ASKED)).status == 200
        async with served.connected() as newcomer:
            assert (await newcomer.ask(ASKED)).status == 200
            assert await connections.pop(evicted).ended()
            for connection in connections:
                assert check_response((await connection.ask(ASKED)).body, GOOD, "validate").allowed
            assert served.listener.connections == 3
    assert served.evicted == [why]
    await eventually(lambda: served.listener.connections == 0)


async def test_a_client_that_pauses_is_not_evicted_for_strangers_who_never_pause(start: Start) -> None:
    """The client shares their address, and its connection has carried far more reviews."""
    served = start(max_connections=2)
    async with served.connected() as client, served.connected() as stranger:
        for connection in (stranger, *[client] * (SPARE_RATIO + 1)):
            assert (await connection.ask(ASKED)).status == 200
        with socket.create_connection(("127.0.0.1", served.address.port)):
            stranger.writer.write(ASKED)
            served.listener._accept()
            assert await stranger.ended()
            assert (await client.ask(ASKED)).status == 200
    assert served.evicted == ["idle"]


async def test_the_most_recent_connection_is_evicted_while_reviews_arrive_on_all(start: Start) -> None:
    served = start(max_connections=2)
    async with served.connected() as first, served.connected() as second:
        for connection in (first, second):
            assert (await connection.ask(ASKED)).status == 200
        with socket.create_connection(("127.0.0.1", served.address.port)):
            for connection in (first, second):
                connection.writer.write(ASKED)
            served.listener._accept()
            assert (await first.receive()).status == 200
            assert await second.ended()
    assert served.evicted == ["idle"]


async def test_a_connection_with_an_arriving_review_is_not_evicted(start: Start) -> None:
    """The API server would not send the review again, so the next connection is evicted instead."""
    served = start(max_connections=2)
    async with served.connected() as first, served.connected() as second:
        for connection in (first, second):
            assert (await connection.ask(ASKED)).status == 200
        # The new connection and the review on the oldest one arrive in the same turn of the loop.
        with socket.create_connection(("127.0.0.1", served.address.port)):
            tls = first.writer.get_extra_info("ssl_object")
            assert tls is not None
            first.writer.write(ASKED)
            served.listener._accept()
            assert (await first.receive()).status == 200
            assert await second.ended()
    assert served.evicted == ["idle"]


async def test_a_new_connection_is_refused_while_all_others_have_a_request_in_progress(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(max_connections=2)
    judged = asyncio.Event()
    handle = served.webhook._answer

    async def slow(request_: Any) -> Any:
        await judged.wait()
        return await handle(request_)

    monkeypatch.setattr(served.webhook, "_answer", slow)
    slow_request = request(CONTENT, headers=[("Content-Type", "application/json; charset=utf-8")])
    async with served.connected() as first, served.connected() as second:
        for connection in (first, second):
            await connection.send(slow_request)
        await eventually(lambda: served.metric("inflight_reviews") == 2)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await Connection.open("127.0.0.1", served.address.port, served.trust)
        judged.set()
        for connection in (first, second):
            assert check_response((await connection.receive()).body, GOOD, "validate").allowed
    assert served.evicted == ["refused"]


async def test_a_connection_in_its_handshake_is_evicted(start: Start) -> None:
    served = start(max_connections=2)
    silent = [await Connection.open("127.0.0.1", served.address.port) for _ in range(2)]
    await eventually(lambda: served.listener.connections == 2)
    async with served.connected() as newcomer:
        assert (await newcomer.ask(ASKED)).status == 200
        assert await silent[0].ended()
        assert served.listener.connections == 2
    for connection in silent:
        await connection.close()
    assert served.evicted == ["handshake"]
    await eventually(lambda: served.listener.connections == 0)
