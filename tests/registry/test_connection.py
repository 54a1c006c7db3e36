"""A host that sends too much, or unsolicited data, loses its connection and affects nothing else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trustme

from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.asking import MAX_BODY_BYTES
from gatekeeper_py.registry.connection import (
    MAX_HANDSHAKE_BYTES,
    MAX_HEAD_BYTES,
    MAX_INFORMATIONAL,
    MAX_LINES,
    SLICE_BYTES,
)
from registry.scripted import DIGEST, OCI
from registry.world import World

FOUND = f"HTTP/1.1 200 OK\r\nDocker-Content-Digest: {DIGEST}\r\nContent-Length: 5\r\n\r\n".encode()
NO_DIGEST = f"HTTP/1.1 200 OK\r\nContent-Type: {OCI}\r\n".encode()
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
ENDLESS = 200 * 1024 * 1024
IN_FLIGHT = 8 * 1024 * 1024
"""What the kernel's buffers of both ends hold at most."""


class Peer:
    """A peer that reads requests and sends bytes. ``sent`` counts them, until the other side has gone."""

    def __init__(self) -> None:
        self.host = ""
        self.connections = 0
        self.sent = 0
        self.gone = asyncio.Event()
        self.reply: Callable[[asyncio.StreamWriter], Awaitable[None]] = self.send_found

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await self.reply(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.gone.set()
        finally:
            writer.transport.abort()

    async def send(self, writer: asyncio.StreamWriter, content: bytes, times: int = 1) -> None:
        for _ in range(times):
            writer.write(content)
            await writer.drain()
            self.sent += len(content)

    async def send_found(self, writer: asyncio.StreamWriter) -> None:
        await self.send(writer, FOUND)

    def answer(self, *parts: bytes, then: bytes = b"") -> None:
        """Answer each request with parts, and then with endless repetitions of ``then``."""

        async def reply(writer: asyncio.StreamWriter) -> None:
            await self.send(writer, b"".join(parts))
            if then:
                block = then * (64 * 1024 // len(then))
                await self.send(writer, block, ENDLESS // len(block))

        self.reply = reply


@asynccontextmanager
async def peer_of(context: ssl.SSLContext | None) -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=context)
    peer.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield peer
    server.close()


@pytest.fixture(params=["plain", "tls"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[tuple[World, Peer]]:
    ca = trustme.CA()
    trust, context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.configure_trust(trust)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    is_tls = request.param == "tls"
    world = World(trust)
    async with peer_of(context if is_tls else None) as peer:
        world.settings[peer.host] = Registry(host=peer.host, plain_http=not is_tls)
        yield world, peer
        await world.close()


Site = tuple[World, Peer]


async def test_a_connection_is_used_again(site: Site) -> None:
    world, peer = site
    for _ in range(3):
        assert (await world.query(peer.host)).answer.digest == DIGEST
    assert peer.connections == 1


@pytest.mark.parametrize("part", [CONTINUE, HINTS], ids=["continue", "early-hints"])
async def test_a_few_informational_responses_are_skipped(site: Site, part: bytes) -> None:
    world, peer = site
    peer.answer(part * MAX_INFORMATIONAL, FOUND)
    assert (await world.query(peer.host)).answer.digest == DIGEST
    peer.answer(part * (MAX_INFORMATIONAL + 1), FOUND)
    reply = await world.query(peer.host)
    assert (reply.answer.cause, reply.trouble) == ("more than 8 informational responses", True)


HEAD = "the head of the answer is larger"
LONG_HEADER = b"A: " + b"b" * 200 + b"\r\n"
LINES = "too many short lines"
BODY = "the answer is larger than 4194304 bytes"


@pytest.mark.parametrize(
    ("start", "then", "cause"),
    [
        pytest.param(b"", CONTINUE, "more than 8 informational", id="endless-continue"),
        pytest.param(b"", HINTS, "more than 8 informational", id="endless-hints"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", LINES, id="endless-headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", LONG_HEADER, HEAD, id="endless-long-headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", b"a", HEAD, id="an-endless-header"),
        pytest.param(b"HTTP/1.1 ", b"9", HEAD, id="an-endless-status"),
        pytest.param(b"", b"\r\n", "not valid HTTP", id="endless-line-breaks"),
        pytest.param(b"", b"\0", "not valid HTTP", id="endless-zeros"),
        pytest.param(NO_DIGEST + b"Content-Length: 99999999999\r\n\r\n", b"x", BODY, id="an-endless-body"),
        pytest.param(NO_DIGEST + b"\r\n", b"x", BODY, id="a-body-without-length"),
        pytest.param(
            NO_DIGEST + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nxxxx\r\n", "chunks", id="tiny-chunks"
        ),
        pytest.param(
            NO_DIGEST + b"Transfer-Encoding: chunked\r\n\r\n1;a=",
            b"a",
            "not valid HTTP",
            id="a-chunk-extension",
        ),
        pytest.param(
            NO_DIGEST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
            b"A: b\r\n",
            LINES,
            id="trailers",
        ),
        pytest.param(
            NO_DIGEST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
            LONG_HEADER,
            "not valid HTTP",
            id="long-trailers",
        ),
    ],
)
async def test_an_endless_answer_is_given_up_and_its_connection_aborted(
    site: Site, start: bytes, then: bytes, cause: str
) -> None:
    world, peer = site

    async def reply(writer: asyncio.StreamWriter) -> None:
        # An answer to HEAD has no body, so the body follows in the answer to GET.
        if peer.connections == 1 and start.startswith(NO_DIGEST):
            await peer.send(writer, NO_DIGEST + b"Connection: close\r\n\r\n")
            raise ConnectionResetError
        peer.gone.clear()
        block = then * (64 * 1024 // len(then))
        await peer.send(writer, start)
        await peer.send(writer, block, ENDLESS // len(block))

    peer.reply = reply
    answer = (await world.query(peer.host)).answer
    assert (answer.status, cause in answer.cause) == ("error", True), answer.cause
    await peer.gone.wait()
    assert peer.sent < MAX_BODY_BYTES * 1.5 + IN_FLIGHT


@pytest.mark.parametrize(("size", "status"), [(300, "found"), (200, "error")])
async def test_a_long_body_may_not_come_in_chunks_that_are_small_on_average(
    site: Site, size: int, status: str
) -> None:
    world, peer = site
    chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)

    async def reply(writer: asyncio.StreamWriter) -> None:
        if peer.connections == 1:  # an answer to HEAD
            await peer.send(writer, NO_DIGEST + b"Connection: close\r\n\r\n")
            raise ConnectionResetError
        await peer.send(writer, NO_DIGEST + b"Transfer-Encoding: chunked\r\n\r\n")
        await peer.send(writer, chunk * 1000 + b"0\r\n\r\n")

    peer.reply = reply
    assert (await world.query(peer.host)).answer.status == status


@pytest.mark.parametrize(("count", "status"), [(1000, "found"), (1100, "error")])
async def test_an_answer_has_a_limited_number_of_headers(site: Site, count: int, status: str) -> None:
    world, peer = site
    peer.answer(FOUND[:-2] + b"A:\r\n" * count + b"\r\n")
    assert (await world.query(peer.host)).answer.status == status


async def test_unsolicited_data_ends_an_idle_connection(site: Site) -> None:
    world, peer = site
    asked = asyncio.Event()

    async def reply(writer: asyncio.StreamWriter) -> None:
        await peer.send_found(writer)
        if peer.connections == 1:
            await asked.wait()
            await peer.send(writer, FOUND * 1000, ENDLESS // (len(FOUND) * 1000))

    peer.reply = reply
    assert (await world.query(peer.host)).answer.digest == DIGEST
    asked.set()
    await peer.gone.wait()
    assert peer.sent < IN_FLIGHT
    assert (await world.query(peer.host)).answer.digest == DIGEST
    assert peer.connections == 2


async def test_data_after_the_end_of_an_answer_is_an_error(site: Site) -> None:
    world, peer = site
    peer.answer(FOUND, FOUND)
    assert (await world.query(peer.host)).answer.cause == "the answer is not valid HTTP"
    peer.answer(FOUND)
    assert (await world.query(peer.host)).answer.digest == DIGEST
    assert peer.connections == 2


async def test_data_that_is_not_read_yet_is_not_the_next_answer(site: Site) -> None:
    """The answer fills what is read at once. The rest stays in the kernel, or in OpenSSL."""
    world, peer = site
    padding = b"X: " + b"x" * (SLICE_BYTES - len(FOUND) - len(b"X: \r\n")) + b"\r\n"
    other = FOUND.replace(DIGEST.encode(), b"sha256:" + b"0" * 64)
    peer.answer(FOUND[:-2] + padding + b"\r\n" + other)
    assert (await world.query(peer.host)).answer.digest == DIGEST
    peer.answer(FOUND)
    assert (await world.query(peer.host)).answer.digest == DIGEST
    assert peer.connections == 2


async def test_a_connection_that_the_peer_closed_while_it_was_idle_is_replaced(site: Site) -> None:
    world, peer = site

    async def reply(writer: asyncio.StreamWriter) -> None:
        if peer.connections == 1 and peer.sent:
            raise ConnectionResetError
        await peer.send_found(writer)

    peer.reply = reply
    for _ in range(2):
        assert (await world.query(peer.host)).answer.digest == DIGEST
    assert peer.connections == 2


async def test_an_answer_that_is_cut_off_is_an_error(site: Site) -> None:
    world, peer = site

    async def reply(writer: asyncio.StreamWriter) -> None:
        await peer.send(writer, FOUND[:30])
        raise ConnectionResetError

    peer.reply = reply
    answer = (await world.query(peer.host)).answer
    assert answer.cause in {"connection reset by peer", "the answer is not valid HTTP"}


async def test_an_endless_handshake_is_given_up() -> None:
    """Each record holds a part of a handshake message that never ends."""
    gone = asyncio.Event()
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(SLICE_BYTES)
        try:
            while sent < ENDLESS:
                writer.write(b"\x15\x03\x03\x00\x02\x01\x00" * 1000)  # a warning, which OpenSSL skips
                await writer.drain()
                sent += 7000
        except OSError:
            gone.set()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    world = World()
    world.settings[host] = Registry(host=host)
    answer = (await world.query(host)).answer
    assert answer.status == "error"
    await gone.wait()
    assert sent < MAX_HANDSHAKE_BYTES + IN_FLIGHT
    await world.close()
    server.close()


async def test_session_tickets_count_as_part_of_the_answer() -> None:
    ca = trustme.CA()
    trust, context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.configure_trust(trust)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    context.num_tickets = 1000  # about 250 KB
    world = World(trust)
    async with peer_of(context) as peer:
        peer.answer()
        world.settings[peer.host] = Registry(host=peer.host)
        answer = (await world.query(peer.host)).answer
        assert (answer.status, HEAD in answer.cause) == ("error", True), answer
        await world.close()


def test_the_limits_are_those_that_the_pages_state() -> None:
    assert (MAX_INFORMATIONAL, MAX_HEAD_BYTES, MAX_BODY_BYTES) == (8, 32 * 1024, 4 * 1024 * 1024)
    assert MAX_LINES == 1024
