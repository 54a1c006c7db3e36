"""Wait for a condition instead of a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_INTERVAL = 0.05


def wait_until(check: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Call ``check`` until it returns something true, and return that.

    Raises TimeoutError, which names ``what``, after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(_INTERVAL)
