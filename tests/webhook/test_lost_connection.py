"""A connection that is lost at an unlucky moment leaves no error behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
import time
from typing import Any

import pytest
from aiohttp import web

from gatekeeper_py.http.aiohttp_internals import Message
from gatekeeper_py.http.answers import json_response
from gatekeeper_py.http.connections.protocol import HttpConnection
from gatekeeper_py.http.connections.slowpath import Exchange
from gatekeeper_py.http.connections.tlstransport import TlsTransport
from gatekeeper_py.http.limits import HELD_SECONDS
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.process.settings import Address
from support.builders import pod, review
from support.served import Start
from support.wire import Connection, eventually, request

GOOD = request(json.dumps(review(pod("registry.corp.io/web:1"))).encode())


def answer(_message: Message, body: bytes, _peer: str) -> bytes:
    if body == b"slow":
        time.sleep(4 * HELD_SECONDS)  # the loop is blocked meanwhile
    return b"{}"


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    with contextlib.suppress(ConnectionError, web.RequestPayloadError):
        await request.read()
    return json_response(200, {})


async def connected(port: int) -> socket.socket:
    """Open a connection and complete one review, so that the next ones take the hot path."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    for _ in range(2):
        await loop.sock_sendall(connection, request(b"x"))
        await loop.sock_recv(connection, 65536)
    return connection


async def test_a_reset_in_the_turn_in_which_half_a_body_is_handed_over_is_not_an_error() -> None:
    """The soak found this: a request began after its connection was lost, and aiohttp failed."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    listener = Listener(handle, max_connections=10, answer=answer)
    port = listener.bind(Address("127.0.0.1", 0)).port
    lost, other = await connected(port), await connected(port)
    lost.send(request(b"half", length=100))
    await asyncio.sleep(HELD_SECONDS / 5)  # the request is held now
    lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    lost.close()
    # The loop sees it in the same turn, after the reset. Once it is answered, the held request is due.
    other.send(request(b"slow"))
    await asyncio.get_running_loop().sock_recv(other, 65536)
    other.close()
    await listener.close(1.0)
    gc.collect()  # a task with an unretrieved exception reports it now
    assert problems == []


def parts_of_connections() -> int:
    """Return the number of connection objects of the server."""
    kinds = (HttpConnection, TlsTransport, Exchange, web.RequestHandler, web.BaseRequest)
    return sum(isinstance(each, kinds) for each in gc.get_objects())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="silent"),
        pytest.param(GOOD, id="a-review"),
        pytest.param(GOOD[:30], id="half-a-header"),
        pytest.param(GOOD[:-10], id="half-a-body"),
        pytest.param(request(b"x" * 70_000, length=100_000), id="half-a-large-body"),
        pytest.param(GOOD + request(path="/nowhere") + GOOD[:-10], id="several"),
        pytest.param(b"\0\0\0\0", id="malformed"),
    ],
)
async def test_a_lost_connection_is_freed_without_a_garbage_collection(start: Start, content: bytes) -> None:
    """Thousands of lost connections a second would fill the memory until the next collection."""
    served = start()
    gc.collect()
    gc.freeze()  # parts_of_connections then searches only what is made from now on
    gc.disable()
    try:
        connection = await Connection.open("127.0.0.1", served.address.port, served.trust)
        if content:
            await connection.send(content)
        await eventually(lambda: parts_of_connections() > 0)
        await asyncio.sleep(0.05)  # until the input was read
        connection.abort()
        await eventually(lambda: parts_of_connections() == 0)
    finally:
        gc.enable()
