"""What was freed goes back to the system, where the C library keeps it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from gatekeeper_py.runtime.memory import give_back

GLIBC = platform.libc_ver()[0] == "glibc"


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not GLIBC, reason="this C library gives memory back by itself")
def test_pages_between_things_that_stay_are_given_back() -> None:
    # Too large for Python's own allocator, too small for a mapping of their own.
    blocks = [bytes([1]) * 20_000 for _ in range(5000)]
    stay = blocks[49::50]
    blocks.clear()
    before = _resident_mib()
    assert give_back()
    assert _resident_mib() < before - 50
    assert len(stay) == 100


def test_where_it_cannot_be_told_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper_py.runtime.memory._trim", None)
    assert not give_back()
