"""A frame that is longer than its receiver allows is refused before it is read."""

from __future__ import annotations

import io

import pytest

from gatekeeper_py.process.children import frames
from gatekeeper_py.process.children.frames import FrameError

LONGEST = 64 * 1024


@pytest.mark.parametrize("size", [0, 1, LONGEST])
def test_a_payload_is_unchanged(size: int) -> None:
    payload = b"x" * size
    content = frames.frame(payload, LONGEST)
    assert frames.read(io.BytesIO(content), LONGEST) == payload


def test_neither_side_sends_or_reads_a_longer_frame() -> None:
    too_long = b"x" * (LONGEST + 1)
    with pytest.raises(FrameError):
        frames.frame(too_long, LONGEST)
    content = frames.frame(too_long, LONGEST + 1)
    with pytest.raises(FrameError):
        frames.size_of(content[: frames.LENGTH_BYTES], LONGEST)
    source = io.BytesIO(content)
    with pytest.raises(FrameError):
        frames.read(source, LONGEST)
    assert source.tell() == frames.LENGTH_BYTES


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\0\5abc"])
def test_a_stream_that_ends_within_a_frame_has_no_frame(content: bytes) -> None:
    assert frames.read(io.BytesIO(content), LONGEST) is None
