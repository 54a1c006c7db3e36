"""Frames: how the server and a child process separate their messages on a pipe.

A frame is the length of its payload (four bytes, big-endian) and the payload. The receiver names the maximum
length, and checks it before it allocates memory.
"""

from __future__ import annotations

import asyncio
from typing import BinaryIO, Final

LENGTH_BYTES: Final = 4


class FrameError(ValueError):
    """A frame is longer than the receiver allows."""


def frame(payload: bytes, longest: int) -> bytes:
    """Return the frame with a payload. Raises ``FrameError``."""
    _check(len(payload), longest)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


async def receive(stream: asyncio.StreamReader, longest: int) -> bytes:
    """Return the payload of the next frame. Raises ``FrameError`` and ``asyncio.IncompleteReadError``."""
    size = int.from_bytes(await stream.readexactly(LENGTH_BYTES), "big")
    _check(size, longest)
    return await stream.readexactly(size)


def read(stream: BinaryIO, longest: int) -> bytes | None:
    """Do the same as ``receive``, but block; return ``None`` at the end of the stream."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "big")
    _check(size, longest)
    payload = stream.read(size)
    return payload if len(payload) == size else None


def _check(size: int, longest: int) -> None:
    if size > longest:
        raise FrameError(f"a frame of {size} bytes; the limit is {longest}")
