"""A connection that is lost at an unlucky moment leaves no error behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import time
from typing import Any

from aiohttp import web

from gatekeeper_py.serving.aiohttp_internals import Message
from gatekeeper_py.serving.answers import json_response
from gatekeeper_py.serving.limits import HELD_SECONDS
from gatekeeper_py.serving.listener import Listener
from gatekeeper_py.settings import Address
from wire import request


def answer(_message: Message, body: bytes) -> bytes:
    if body == b"slow":
        time.sleep(4 * HELD_SECONDS)  # meanwhile the loop stands
    return b"{}"


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    with contextlib.suppress(ConnectionError, web.RequestPayloadError):
        await request.read()
    return json_response(200, {})


async def connected(port: int) -> socket.socket:
    """A connection that was asked on before, so that requests are answered where they are parsed."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    for _ in range(2):
        await loop.sock_sendall(connection, request(b"x"))
        await loop.sock_recv(connection, 65536)
    return connection


async def test_a_reset_in_the_turn_in_which_half_a_body_is_handed_over_is_no_error() -> None:
    """Found by the soak: the request began when its connection was gone, and aiohttp failed on it."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    listener = Listener(handle, max_connections=10, answer=answer)
    port = listener.bind(Address("127.0.0.1", 0)).port
    lost, other = await connected(port), await connected(port)
    lost.send(request(b"half", length=100))
    await asyncio.sleep(HELD_SECONDS / 5)  # it is held now
    lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    lost.close()
    # Seen in the same turn, after the reset; when it was answered, the held one is due.
    other.send(request(b"slow"))
    await asyncio.get_running_loop().sock_recv(other, 65536)
    other.close()
    await listener.close(1.0)
    gc.collect()  # a task whose exception nobody took tells of it then
    assert problems == []
