"""When all connections are taken, a new one replaces the least valuable one."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import Any

import pytest

from builders import pod, review
from contract import check_response
from gatekeeper_py.serving.listener import SPARE_RATIO
from served import Start
from wire import Connection, eventually, request

GOOD = review(pod("registry.corp.io/web:1"))
CONTENT = json.dumps(GOOD).encode()


async def test_a_new_connection_replaces_one_that_never_carried_a_review(start: Start) -> None:
    served = start(max_connections=3)
    async with served.connected() as used, served.connected() as unused, served.connected() as other:
        for connection in (used, other):
            assert (await connection.ask(request(CONTENT))).status == 200
        async with served.connected() as newcomer:
            assert (await newcomer.ask(request(CONTENT))).status == 200
            assert await unused.ended()
            for connection in (used, other):
                answer = await connection.ask(request(CONTENT))
                assert check_response(answer.body, GOOD, "validate").allowed
            assert served.listener.connections == 3
    assert served.evicted == ["unused"]
    await eventually(lambda: served.listener.connections == 0)


async def test_a_new_connection_replaces_the_one_that_has_been_idle_for_longest(start: Start) -> None:
    served = start(max_connections=3)
    async with served.connected() as first, served.connected() as second, served.connected() as third:
        for connection in (first, second, third, first):
            assert (await connection.ask(request(CONTENT))).status == 200
        async with served.connected() as newcomer:
            assert (await newcomer.ask(request(CONTENT))).status == 200
        assert await second.ended()
        for connection in (first, third):
            assert (await connection.ask(request(CONTENT))).status == 200
    assert served.evicted == ["idle"]


async def test_the_idle_connection_with_the_fewest_reviews_is_evicted(start: Start) -> None:
    """A stranger behind the same address sends one review on each connection; an API server sends many."""
    served = start(max_connections=2)
    async with served.connected() as used, served.connected() as stranger:
        for connection in (used, used, stranger):
            assert (await connection.ask(request(CONTENT))).status == 200
        async with served.connected() as newcomer:
            assert (await newcomer.ask(request(CONTENT))).status == 200
        assert await stranger.ended()
        assert (await used.ask(request(CONTENT))).status == 200
    assert served.evicted == ["idle"]


async def test_a_client_that_pauses_is_not_evicted_for_strangers_who_never_pause(start: Start) -> None:
    """The client shares their address, and its connection has carried far more reviews."""
    served = start(max_connections=2)
    async with served.connected() as client, served.connected() as stranger:
        for connection in (stranger, *[client] * (SPARE_RATIO + 1)):
            assert (await connection.ask(request(CONTENT))).status == 200
        with socket.create_connection(("127.0.0.1", served.address.port)):
            stranger.writer.write(request(CONTENT))
            served.listener._accept()
            assert await stranger.ended()
            assert (await client.ask(request(CONTENT))).status == 200
    assert served.evicted == ["idle"]


async def test_the_most_recent_connection_is_evicted_while_reviews_arrive_on_all(start: Start) -> None:
    served = start(max_connections=2)
    async with served.connected() as first, served.connected() as second:
        for connection in (first, second):
            assert (await connection.ask(request(CONTENT))).status == 200
        with socket.create_connection(("127.0.0.1", served.address.port)):
            for connection in (first, second):
                connection.writer.write(request(CONTENT))
            served.listener._accept()
            assert (await first.receive()).status == 200
            assert await second.ended()
    assert served.evicted == ["idle"]


async def test_a_connection_with_an_arriving_review_is_not_evicted(start: Start) -> None:
    """The API server would not send the review again, so the next connection is evicted instead."""
    served = start(max_connections=2)
    async with served.connected() as first, served.connected() as second:
        for connection in (first, second):
            assert (await connection.ask(request(CONTENT))).status == 200
        # The new connection and the review on the oldest one arrive in the same turn of the loop.
        with socket.create_connection(("127.0.0.1", served.address.port)):
            tls = first.writer.get_extra_info("ssl_object")
            assert tls is not None
            first.writer.write(request(CONTENT))
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
        assert (await newcomer.ask(request(CONTENT))).status == 200
        assert await silent[0].ended()
        assert served.listener.connections == 2
    for connection in silent:
        await connection.close()
    assert served.evicted == ["handshake"]
    await eventually(lambda: served.listener.connections == 0)
