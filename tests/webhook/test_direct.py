"""The hot path: which requests it answers, and how the others continue on the slow path."""

from __future__ import annotations

import asyncio
import json

import pytest

from gatekeeper_py.http.connections import protocol
from gatekeeper_py.webhook.body import LARGE_BODY_BYTES
from support.builders import pod, review
from support.contract import check_response
from support.served import Served, Start
from support.wire import Connection, eventually, request

APPROVED = review(pod("registry.corp.io/web:1"))
DENIED = review(pod("evil.io/web:1"))
WHOLE = request(json.dumps(APPROVED).encode())
PADDED = json.dumps({**APPROVED, "padding": "x" * 5000}).encode()


@pytest.fixture(params=["fast"])
def start(start: Start) -> Start:
    """Start webhooks with the hot path only."""
    return start


class Handled:
    """Counts the requests that went through aiohttp's handler."""

    def __init__(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        handle = served.webhook._answer

        async def counted(request: object) -> object:
            self.count += 1
            return await handle(request)  # type: ignore[arg-type]

        monkeypatch.setattr(served.webhook, "_answer", counted)


@pytest.fixture
def handled(served: Served, monkeypatch: pytest.MonkeyPatch) -> Handled:
    return Handled(served, monkeypatch)


@pytest.mark.parametrize("document", [APPROVED, DENIED])
async def test_a_whole_review_never_reaches_the_handler(
    served: Served, handled: Handled, document: dict[str, object]
) -> None:
    async with served.connected() as connection:
        for _ in range(3):
            answer = await connection.ask(request(json.dumps(document).encode()))
            check_response(answer.json(), document, "validate")
            assert answer.status == 200
            assert not answer.closes
            assert {"content-type", "content-length", "date", "server"} <= answer.headers.keys()
    assert handled.count == 0


async def test_the_server_waits_a_moment_for_the_rest_of_a_body(
    served: Served, handled: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HELD_SECONDS", 20)
    content = request(PADDED)
    async with served.connected() as connection:
        for cut in (len(content) - len(PADDED), len(content) - 1000, len(content) - 1):
            await connection.send(content[:cut])
            await asyncio.sleep(0.05)  # so that the request arrives in two pieces
            assert (await connection.ask(content[cut:])).status == 200
    assert handled.count == 0


async def test_a_late_body_takes_the_slow_path(served: Served, handled: Handled) -> None:
    content = request(PADDED)
    async with served.connected() as connection:
        await connection.send(content[:-1000])
        await eventually(lambda: handled.count == 1)
        assert (await connection.ask(content[-1000:])).status == 200
        assert (await connection.ask(content)).status == 200
    assert handled.count == 1


@pytest.mark.parametrize(
    ("size", "handlings"),
    [
        pytest.param(100_000, 0, id="100-kb"),
        pytest.param(LARGE_BODY_BYTES, 0, id="largest"),
        pytest.param(LARGE_BODY_BYTES + 1, 1, id="too-large"),
    ],
)
async def test_a_body_in_many_pieces_never_reaches_the_handler_unless_it_is_parsed_alone(
    served: Served, handled: Handled, monkeypatch: pytest.MonkeyPatch, size: int, handlings: int
) -> None:
    monkeypatch.setattr(protocol, "HELD_SECONDS", 20)
    empty = json.dumps({**APPROVED, "padding": ""}).encode()
    body = empty.replace(b'"padding": "', b'"padding": "' + b"x" * (size - len(empty)))
    async with served.connected() as connection:
        for _ in range(2):
            answer = await connection.ask(request(body))
            check_response(answer.json(), APPROVED, "validate")
            assert answer.status == 200
    assert handled.count == 2 * handlings


async def test_a_large_body_that_is_not_a_review_is_refused(served: Served, handled: Handled) -> None:
    """The handler then gets the complete body."""
    body = json.dumps({**APPROVED, "kind": "x" * 200_000}).encode()
    async with served.connected() as connection:
        assert (await connection.ask(request(body))).status == 400
        assert (await connection.ask(WHOLE)).status == 200
    assert handled.count == 1


async def test_a_request_behind_a_held_one_is_answered_after_it(served: Served) -> None:
    content = request(PADDED)
    async with served.connected() as connection:
        await connection.send(content[:-1000])
        await asyncio.sleep(0.01)
        await connection.send(content[-1000:] + WHOLE + content)
        for _ in range(3):
            assert (await connection.receive()).status == 200


async def test_garbage_behind_a_held_request_ends_the_connection(start: Start) -> None:
    served = start(body_seconds=0.2)
    head, _, body = request(PADDED).partition(b"\r\n\r\n")
    async with served.connected() as connection:
        await connection.send(head + b"\r\n\r\n" + body[:-1000])
        await asyncio.sleep(0.01)
        assert (await connection.ask(body[-1000:] + b"garbage\r\n\r\n")).status == 200
        answer = await connection.receive()
        assert answer.status == 400
        assert await connection.ended()


async def test_a_connection_lost_with_a_held_request_leaves_nothing(served: Served, handled: Handled) -> None:
    connection = await Connection.open("127.0.0.1", served.address.port, served.trust)
    await connection.send(request(PADDED)[:-1000])
    await eventually(lambda: served.listener.connections == 1)
    connection.abort()
    await eventually(lambda: served.listener.connections == 0)
    assert (await served.ask(WHOLE)).status == 200
    assert served.metric("inflight_reviews") == 0


async def test_a_request_that_ends_its_connection_takes_the_slow_path(
    served: Served, handled: Handled
) -> None:
    for content in (
        WHOLE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
        WHOLE.replace(b"1.1", b"1.0", 1),
    ):
        async with served.connected() as connection:
            answer = await connection.ask(content)
            assert answer.status == 200
            assert answer.closes
            assert await connection.ended()
    assert handled.count == 2


async def test_a_peer_that_reads_no_answers_is_not_written_to_without_end(served: Served) -> None:
    """The transport pauses the protocol, requests queue up, and aiohttp stops reading."""
    async with served.connected() as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0
        while sent < 400_000:
            connection.writer.write(WHOLE * 20)
            sent += 20
            try:
                async with asyncio.timeout(1.0):
                    await connection.writer.drain()
            except TimeoutError:
                break
        else:
            pytest.fail("everything was read")
        connection.abort()
    assert (await served.ask(WHOLE)).status == 200
