"""Read and parse a request's body, within limits that are checked before the work.

Source: docs/interface.md, "HTTP".
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import orjson
from aiohttp import hdrs, web

from gatekeeper_py.http.aiohttp_internals import send_continue
from gatekeeper_py.http.answers import TRY_AGAIN, Refusal
from gatekeeper_py.http.bodymemory import BodyMemory, Sender
from gatekeeper_py.http.connections.slowpath import take_turn
from gatekeeper_py.process.memory import collector_off, give_back
from gatekeeper_py.process.slices import Steps, Unfinished, in_slices, run_slice

BODY_SECONDS: Final = 2.0
"""Maximum time to receive a body. The API server sends 7 MiB over the cluster's network in milliseconds."""

MAX_BRACKETS: Final = 400_000
"""Maximum number of ``[`` and ``{`` in a body. 7 MiB of ``[[],`` block the event loop for 0.9 s; counting
them takes 2 ms."""

MAX_WEIGHT: Final = 1_050_000
"""Maximum weight of a body (see ``weigh``). Within this limit, parsing takes at most 100 ms and 100 MiB.
Without it, 7 MiB of different keys took 125 ms, and 7 MiB of short texts took 190 MiB. Reviews from API
servers, of Pods full of small values, reach it at 6.8 MB."""

KEY_WEIGHT: Final = 3
"""Weight of a key in a wide mapping. Parsing one takes as long as parsing this many other values."""

MAX_TYPED_WEIGHT: Final = 400_000
"""Heavier bodies skip the typed decoder, because it may reject them only at the end of the work. A Pod of 1
MB has an estimated weight of 390,000."""

LARGE_BODY_BYTES: Final = 256 * 1024
"""Larger bodies are processed one at a time, and other requests run between the steps. Parsing one takes
milliseconds, and several at once would add up in time and memory."""

REVIEW_SLICE_SECONDS: Final = 0.003
"""Length of a slice of a review with many images. Other requests run before the next slice."""

Result = TypeVar("Result")


async def read_body(
    request: web.BaseRequest,
    *,
    max_bytes: int,
    seconds: float,
    memory: BodyMemory,
    sender: Sender | None = None,
) -> bytes:
    """Read the body of a request whose media type is JSON. ``sender`` is the connection that it comes from.

    Raises ``Refusal``, or ``ConnectionError`` if the peer has gone.
    """
    # aiohttp's content_type is not used. It parses the parameters with Python's parser, which takes quadratic
    # time (half a second for 8 KB) and fails on some headers.
    kind = request.headers.get(hdrs.CONTENT_TYPE, "")
    if kind.partition(";")[0].strip(" \t").lower() != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Refusal(415, "a compressed body is not accepted")
    length = request.content_length
    if length is not None and length > max_bytes:
        raise Refusal(413, f"the body is over {max_bytes} bytes", close=True)
    content = request.content
    # A small body arrives together with its header, and needs no timer and no copy.
    if content.is_eof():
        body = content.read_nowait()
    else:
        body = await _read_slowly(request, max_bytes=max_bytes, seconds=seconds, memory=memory, sender=sender)
    if len(body) > max_bytes:
        raise Refusal(413, f"the body is over {max_bytes} bytes", close=True)
    return body


async def with_document(
    body: bytes,
    memory: BodyMemory,
    *,
    decode: Callable[[bytes], Any],
    use: Callable[[Any], Steps[Result]],
    end: float = float("inf"),
    sender: Sender | None = None,
) -> Result:
    """Decode a body, call ``use`` with the document, and return the result of its steps.

    Large bodies, and small ones for which ``use`` takes longer than a slice, are processed one after the
    other. Decoding and freeing a document each block the event loop for tens of milliseconds. ``use`` takes
    as many slices as it needs. Other requests run in between. A body that is too heavy for ``decode`` is
    decoded with orjson.

    ``end`` is when the caller stops waiting, on the clock of ``time.perf_counter``. Raises ``Refusal`` when
    that time has passed, and whatever ``decode`` and ``use`` raise.
    """
    if len(body) <= LARGE_BODY_BYTES:
        with suppress(Unfinished):
            return run_slice(use(decode(body)), time.perf_counter() + REVIEW_SLICE_SECONDS)
    if check_weight(body) > MAX_TYPED_WEIGHT:
        decode = _loads
    try:
        with memory.body(sender) as held:
            held.take(len(body))
            async with memory.parsing(held):
                # The garbage collector would scan a million new values several times without freeing any.
                with collector_off():
                    return await _decoded_alone(body, decode, use, end)
    except TimeoutError:
        raise Refusal(503, "there was no time to judge the review", headers=TRY_AGAIN) from None


async def _decoded_alone(
    body: bytes, decode: Callable[[bytes], Any], use: Callable[[Any], Steps[Result]], end: float
) -> Result:
    """Decode a large body, use the document in slices, and free it. Raises ``TimeoutError`` at ``end``."""
    if time.perf_counter() > end:
        raise TimeoutError
    document = decode(body)
    await asyncio.sleep(0)
    try:
        return await in_slices(use(document), seconds=REVIEW_SLICE_SECONDS, end=end)
    except Exception as problem:
        # Otherwise the traceback would keep the document until the answer is sent.
        traceback.clear_frames(problem.__traceback__)
        raise
    finally:
        await asyncio.sleep(0)
        del document
        await asyncio.sleep(0)
        give_back()


def check_weight(body: bytes) -> int:
    """Return an upper bound of a body's weight. Raises ``Refusal`` if the weight is over the limit."""
    structure = body.translate(None, _NOT_STRUCTURE)
    braces = structure.count(b"{")
    brackets = structure.count(b"[") + braces
    if brackets > MAX_BRACKETS:
        raise Refusal(413, f"more than {MAX_BRACKETS} arrays and objects")
    commas = structure.count(b",")
    colons = len(structure) - brackets - commas
    # A quick upper bound, usually low enough. It counts even the colons in strings, and treats every mapping
    # as wide.
    most = brackets + commas + max(braces, KEY_WEIGHT * colons)
    if most <= MAX_WEIGHT:
        return most
    weight = weigh(body)
    if weight > MAX_WEIGHT:
        raise Refusal(413, "too many values, or too many keys in an object")
    return weight


def weigh(body: bytes) -> int:
    """Return the weight of a body, an estimate of the work to parse it.

    The weight is the number of opening brackets, commas and non-empty mappings, plus ``KEY_WEIGHT`` for each
    key beyond two for each non-empty mapping. Wide mappings weigh more, because each of their keys is new,
    and a hash table is rebuilt as it grows. A million list items of other kinds stay within the limit, and so
    do 300,000 containers of one field, because the review itself denies such Pods.
    """
    dense = body.translate(None, b" \t\r\n")
    braces = dense.count(b"{")
    mappings = braces - dense.count(b"{}")
    wide = max(dense.count(b'":') - 2 * mappings, 0)
    return dense.count(b"[") + braces + dense.count(b",") + mappings + KEY_WEIGHT * wide


_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b"[{,:")


def parse_json(body: bytes) -> Any:
    """Return a body as plain values. Raises ``Refusal`` if it is not JSON or exceeds the limits."""
    # A shorter body can neither have too many brackets nor weigh too much.
    if len(body) > MAX_BRACKETS:
        check_weight(body)
    return _loads(body)


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise Refusal(400, f"not JSON: {problem}") from None


async def _read_slowly(
    request: web.BaseRequest,
    *,
    max_bytes: int,
    seconds: float,
    memory: BodyMemory,
    sender: Sender | None,
) -> bytes:
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await send_continue(request)
    parts: list[bytes] = []
    size = 0
    try:
        with memory.body(sender) as held:
            async with held.waiting(seconds, reading=True):
                while True:
                    part = await request.content.readany()
                    if not part:
                        break
                    parts.append(part)
                    size += len(part)
                    held.take(len(part))
                    if size > max_bytes:
                        raise Refusal(413, f"the body is over {max_bytes} bytes", close=True)
            # Otherwise 500 bodies whose last bytes arrive at the same moment would be parsed in one turn.
            async with held.waiting():
                await take_turn(request)
            return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, f"the body was not complete within {seconds:g} s", close=True) from None
    except (web.RequestPayloadError, ValueError):
        raise Refusal(400, "malformed HTTP body", close=True) from None
