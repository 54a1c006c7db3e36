"""Frames: how the server and a child process separate their messages on a pipe.

A frame is the length of its payload (four bytes, big-endian) and the payload. The receiver names the maximum
length, and checks it before it allocates memory.
"""

from __future__ import annotations

from typing import BinaryIO, Final

LENGTH_BYTES: Final = 4


class FrameError(ValueError):
    """A frame is longer than the receiver allows."""


def frame(payload: bytes, longest: int) -> bytes:
    """Return the frame with a payload. Raises ``FrameError``."""
    _check(len(payload), longest)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def read(stream: BinaryIO, longest: int) -> bytes | None:
    """Return the payload of the next frame; ``None`` at the end of the stream. Raises ``FrameError``."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    size = size_of(length, longest)
    payload = stream.read(size)
    return payload if len(payload) == size else None


def size_of(length: bytes, longest: int) -> int:
    """Return the size of a payload from the first bytes of its frame. Raises ``FrameError``."""
    size = int.from_bytes(length, "big")
    _check(size, longest)
    return size


def _check(size: int, longest: int) -> None:
    if size > longest:
        raise FrameError(f"a frame of {size} bytes; the limit is {longest}")
