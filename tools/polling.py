"""Waiting for the world without fixed sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_INTERVAL = 0.05


def wait_until(check: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Call until the answer is true, and return that answer.

    Raises TimeoutError, saying what was waited for, after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(_INTERVAL)
