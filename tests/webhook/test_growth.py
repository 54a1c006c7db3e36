"""Reading a request takes at most linear time and memory in each part that a client chooses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Final

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.http.bodymemory import BodyMemory
from gatekeeper_py.webhook.body import check_weight, parse_json, read_body
from gatekeeper_py.webhook.decode import parse_pod_review
from gatekeeper_py.webhook.webhook import budget
from support.builders import pod, review
from support.growth import check_linear
from support.hostilejson import VALUES

REVIEW: Final = json.dumps(review(pod("nginx"))).encode()


def with_padding(value: str) -> bytes:
    """Return a review with one more field that no decision reads."""
    return REVIEW[:-1] + b',"padding":' + value.encode() + b"}"


@pytest.mark.parametrize("name", VALUES)
def test_decoding_grows_linearly_with_the_body(name: str) -> None:
    """The growth is linear for any content. The work includes the weighing and the typed decoder."""

    def decode(body: bytes) -> None:
        check_weight(body)
        parse_pod_review(body)
        parse_json(body)

    # Larger inputs exceed the processor's caches, and the cost of a parser's tables then jumps.
    check_linear(decode, lambda size: with_padding(VALUES[name](size)), limit=1 << 18, start=1 << 14)


NUMBERS: Final[dict[str, Callable[[int], str]]] = {
    "like-exponents-in-texts": lambda size: '[1e1,"' + "ae000" * (size // 5) + '"]',
    "like-exponents-behind-digits": lambda size: '[1e1,"' + ("a" + "1" * 150 + "e000") * (size // 155) + '"]',
    "exponents": lambda size: "[" + ",".join(["1e100"] * (size // 6)) + "]",
    "samples-of-digits": lambda size: '["' + "1" * 400 + "\u20ac" * (size // 3) + '"]',
    "digests": lambda size: "[1e1," + ",".join(['"sha256:' + "1e234567" * 8 + '"'] * (size // 74)) + "]",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_looking_for_large_numbers_grows_linearly(name: str) -> None:
    """Orjson refuses them, so the typed decoder has to find them in what it skips."""
    check_linear(
        parse_pod_review, lambda size: with_padding(NUMBERS[name](size)), limit=1 << 18, start=1 << 14
    )


QUERIES: Final[dict[str, Callable[[int], str]]] = {
    "digits": lambda size: "timeout=" + "1" * size,
    "units": lambda size: "timeout=" + "1h" * (size // 2),
    "dots": lambda size: "timeout=1" + "." * size + "s",
    "parameters": lambda size: "timeout=1s&" * (size // 11),
    "equals": lambda size: "=" * size,
    "ampersands": lambda size: "&" * size,
    "percents": lambda size: "timeout=" + "%00" * (size // 3),
}


@pytest.mark.parametrize("name", QUERIES)
def test_the_timeout_of_a_query_is_read_in_linear_time(name: str) -> None:
    """A header has at most 8 KB, so these sizes are far beyond real ones."""
    check_linear(budget, QUERIES[name], limit=1 << 18, start=1 << 14)


TYPES: Final[dict[str, Callable[[int], str]]] = {
    "letters": lambda size: "a" * size,
    "spaces": lambda size: "application/json" + " " * size,
    "parameters": lambda size: "application/json" + ";a=b" * (size // 4),
    "quotes": lambda size: 'application/json; charset="' + '\\"' * (size // 2),
    "semicolons": lambda size: ";" * size,
}


@pytest.mark.parametrize("name", TYPES)
async def test_the_media_type_is_read_in_linear_time(name: str) -> None:
    """Python's own parser of its parameters takes quadratic time."""
    loop = asyncio.get_running_loop()
    requests: dict[int, web.Request] = {}

    def posted(size: int) -> web.Request:
        if size not in requests:
            headers = {"Content-Type": TYPES[name](size), "Content-Length": "0"}
            payload = StreamReader(BaseProtocol(loop), 1024, loop=loop)
            payload.feed_eof()
            requests[size] = make_mocked_request("POST", "/validate-image", headers=headers, payload=payload)
        return requests[size]

    def read(request: web.Request) -> None:
        steps = read_body(request, max_bytes=1024, seconds=1, memory=BodyMemory(1024))
        with contextlib.suppress(StopIteration, Refusal):
            steps.send(None)

    check_linear(read, posted, limit=1 << 16, start=1 << 12)
