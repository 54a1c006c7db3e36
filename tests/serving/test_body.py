"""Large bodies that become complete together are parsed in turn, and count until they are."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from gatekeeper_py.serving import body
from gatekeeper_py.serving.body import LARGE_BODY_BYTES, Held, Refusal, parse_in_turn, read_body

SMALL = b'{"a": 1}'
LARGE = b'{"a": "' + b" " * LARGE_BODY_BYTES + b'"}'
MANY = 8


def posted(content: bytes) -> web.BaseRequest:
    """A request whose body has come whole."""
    loop = asyncio.get_running_loop()
    payload = StreamReader(BaseProtocol(loop), 2 * len(content), loop=loop)
    payload.feed_data(content)
    payload.feed_eof()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    return make_mocked_request("POST", "/validate-image", headers=headers, payload=payload)


async def read(content: bytes, held: Held) -> Any:
    whole = await read_body(posted(content), max_bytes=2**22, seconds=10, held=held)
    return await parse_in_turn(whole, held)


async def test_between_two_large_bodies_others_have_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def parse(content: bytes) -> None:
        order.append("large" if len(content) > LARGE_BODY_BYTES else "small")

    monkeypatch.setattr(body, "parse_json", parse)
    held = Held(2**26)

    async def small_ones() -> None:
        while order.count("large") < MANY:
            await read(SMALL, held)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(MANY):
            group.create_task(read(LARGE, held))
        group.create_task(small_ones())
    largest = [place for place, size in enumerate(order) if size == "large"]
    assert len(largest) == MANY
    assert all(after - before > 1 for before, after in itertools.pairwise(largest))


async def test_what_waits_to_be_parsed_counts_as_held() -> None:
    held = Held(len(LARGE) * 2)
    answers = await asyncio.gather(*(read(LARGE, held) for _ in range(MANY)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {answer.status for answer in refused} == {503}
    assert 0 < len(refused) < MANY
    # All is given back, also by those who were refused.
    for document in await asyncio.gather(read(LARGE, held), read(LARGE, held)):
        assert document == {"a": " " * LARGE_BODY_BYTES}
