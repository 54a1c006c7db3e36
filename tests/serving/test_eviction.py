"""When all connections are in use, a new one gets the place of the one that can best be spared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator

import pytest

from builders import pod, review
from gatekeeper_py.serving import listener
from gatekeeper_py.serving.listener import peer_group
from served import Served, Start
from wire import Connection, eventually, request

REVIEW = json.dumps(review(pod("registry.corp.io/web:1"))).encode()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience that a test need not wait for long."""
    monkeypatch.setattr(listener, "FIRST_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(listener, "PATIENCE_SECONDS", 0.2)


@contextlib.asynccontextmanager
async def opened(served: Served, count: int) -> AsyncIterator[list[Connection]]:
    made = [await Connection.open("127.0.0.1", served.address.port, served.trust) for _ in range(count)]
    try:
        yield made
    finally:
        for connection in made:
            await connection.close()


async def reviewed(connection: Connection) -> None:
    assert (await connection.ask(request(REVIEW))).status == 200


@pytest.mark.usefixtures("short")
async def test_silent_connections_give_way_and_those_that_carry_reviews_stay(start: Start) -> None:
    served = start(max_connections=4)
    async with opened(served, 4) as [used, *silent]:
        await reviewed(used)
        async with opened(served, 3) as newer:
            for connection in newer:
                await reviewed(connection)
            await reviewed(used)
            assert [await connection.ended() for connection in silent] == [True] * 3
    assert served.metric("connections_evicted_total", why="unused") == 3


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("half", [b"POST /validate-image HTTP/1.1\r\nHost: a\r\n", request(REVIEW)[:-10]])
async def test_half_a_request_gives_way(start: Start, half: bytes) -> None:
    served = start(max_connections=2)
    async with opened(served, 2) as [used, unfinished]:
        await reviewed(used)
        await unfinished.send(half)
        await asyncio.sleep(0.3)  # the patience with a body
        await reviewed(used)
        async with opened(served, 1) as [newer]:
            await reviewed(newer)
            await reviewed(used)
            await unfinished.ended()
    evicted = [served.metric("connections_evicted_total", why=why) for why in ("unused", "late")]
    assert sum(evicted) == 1


@pytest.mark.usefixtures("short")
async def test_of_connections_that_carried_reviews_the_longest_idle_goes(start: Start) -> None:
    served = start(max_connections=2)
    async with opened(served, 2) as [first, second]:
        await reviewed(second)
        await asyncio.sleep(0.05)  # the loop's clock counts milliseconds
        await reviewed(first)
        await asyncio.sleep(0.3)  # the patience with an idle connection
        async with opened(served, 1) as [newer]:
            await reviewed(newer)
            await reviewed(first)
            assert await second.ended()
    assert served.metric("connections_evicted_total", why="idle") == 1


async def test_a_connection_that_was_just_used_is_safe(start: Start) -> None:
    served = start(max_connections=1)
    async with opened(served, 1) as [used]:
        await reviewed(used)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await Connection.open("127.0.0.1", served.address.port, served.trust)
        await reviewed(used)


async def test_silent_connections_leave_by_themselves_for_a_new_one(start: Start) -> None:
    served = start(max_connections=20)
    async with opened(served, 20):
        newer: list[Connection] = []

        async def dial() -> bool:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                newer.append(await Connection.open("127.0.0.1", served.address.port, served.trust))
            return bool(newer)

        async with asyncio.timeout(5):
            while not await dial():
                pass
        await reviewed(newer[0])
        await newer[0].close()
    await eventually(lambda: served.listener.connections == 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("10.0.0.1", "10.0.0.1", True, id="one-address"),
        pytest.param("10.0.0.1", "10.0.0.2", False, id="two-addresses"),
        pytest.param("10.0.0.1", "::ffff:10.0.0.1", True, id="mapped"),
        pytest.param("2001:db8::1", "2001:db8::ffff:2", True, id="one-ipv6-network"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two-ipv6-networks"),
        pytest.param("fe80::1%eth0", "fe80::2", True, id="link-local"),
    ],
)
def test_peers_are_counted_by_address_and_ipv6_network(one: str, other: str, *, same: bool) -> None:
    assert (peer_group(one) == peer_group(other)) is same
