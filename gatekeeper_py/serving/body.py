"""Reading a request's body: the limits that hold before anything is parsed (docs/interface.md, "HTTP")."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

BODY_SECONDS: Final = 2.0
"""For the whole body. The API server sends 7 MiB over the cluster's network in milliseconds."""

MAX_BRACKETS: Final = 400_000
"""``[`` and ``{`` in a body. 7 MiB of ``[[],`` block the loop for 0.9 s; counting them takes 9 ms."""

LARGE_BODY_BYTES: Final = 256 * 1024
"""Parsing more takes milliseconds, and of several that became complete together the time and the
memory would add up. So they are parsed one at a time, with a turn of the loop for others after each."""

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Of all bodies that are being read or wait to be parsed. 500 connections of 7 MiB each would hold
3.5 GiB, and the process would be killed for it; real reviews are some KiB and come complete."""

TRY_AGAIN: Final[dict[str, str]] = {hdrs.RETRY_AFTER: "1"}
"""The API server does so within its own timeout, up to ten times."""


class Refusal(Exception):
    """The request is not to be judged: ``status`` and ``reason`` are the answer.

    ``close`` ends the connection, because the rest of the body is still to come. ``headers`` go
    with the answer.
    """

    def __init__(
        self, status: int, reason: str, *, close: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.close = close
        self.headers = headers


class Held:
    """How many bytes of bodies are being read, of all requests together, and whose turn it is to parse."""

    def __init__(self, most: int) -> None:
        self.parsing = asyncio.Lock()
        self._most = most
        self._bytes = 0

    def take(self, size: int) -> None:
        """Raises ``Refusal`` when it would be too many; to be given back nevertheless."""
        self._bytes += size
        if self._bytes > self._most:
            raise Refusal(503, "too many bodies are being read", close=True, headers=TRY_AGAIN)

    def give_back(self, size: int) -> None:
        self._bytes -= size


async def read_body(request: web.BaseRequest, *, max_bytes: int, seconds: float, held: Held) -> bytes:
    """The body of a request that says it is JSON.

    Raises ``Refusal``, or ``ConnectionError`` when the peer left.
    """
    # Not aiohttp's content_type: Python's parser of its parameters takes quadratic time, half a second for
    # 8 KB, and fails on some.
    kind = request.headers.get(hdrs.CONTENT_TYPE, "")
    if kind.partition(";")[0].strip(" \t").lower() != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Refusal(415, "a compressed body is not accepted")
    length = request.content_length
    if length is not None and length > max_bytes:
        raise Refusal(413, f"the body is over {max_bytes} bytes", close=True)
    content = request.content
    # Small bodies come with their headers: no timer and no copy for them.
    if content.is_eof():
        body = content.read_nowait()
    else:
        body = await _read_slowly(request, max_bytes=max_bytes, seconds=seconds, held=held)
    if len(body) > max_bytes:
        raise Refusal(413, f"the body is over {max_bytes} bytes", close=True)
    return body


async def parse_in_turn(body: bytes, held: Held) -> Any:
    """As ``parse_json``; of large bodies, only one at a time."""
    if len(body) <= LARGE_BODY_BYTES:
        return parse_json(body)
    try:
        held.take(len(body))
        async with held.parsing:
            document = parse_json(body)
            await asyncio.sleep(0)
            return document
    finally:
        held.give_back(len(body))


def parse_json(body: bytes) -> Any:
    """A body as plain values. Raises ``Refusal``."""
    # No body has more brackets than bytes: small ones need no count.
    if len(body) > MAX_BRACKETS and body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise Refusal(413, f"more than {MAX_BRACKETS} arrays and objects")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise Refusal(400, f"not JSON: {problem}") from None


async def _read_slowly(request: web.BaseRequest, *, max_bytes: int, seconds: float, held: Held) -> bytes:
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                part = await request.content.readany()
                if not part:
                    return b"".join(parts)
                parts.append(part)
                size += len(part)
                held.take(len(part))
                if size > max_bytes:
                    raise Refusal(413, f"the body is over {max_bytes} bytes", close=True)
    except TimeoutError:
        raise Refusal(408, f"the body was not complete within {seconds:g} s", close=True) from None
    except (web.RequestPayloadError, ValueError):
        raise Refusal(400, "malformed HTTP body", close=True) from None
    finally:
        held.give_back(size)
