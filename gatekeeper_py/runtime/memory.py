"""Memory: what Python's garbage collector looks at, and what goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

ONLY_OURS: Final = 2
"""Of ``sys.getrefcount``: a local name, and its own argument."""

PIECES_A_STEP: Final = 100


def _find_trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None


_trim = _find_trim()


def give_back() -> bool:
    """Tell the C library's allocator to give back its free pages; false where there is nothing to tell.

    Only glibc keeps them: the buffers of connections lie between objects that stay, so after 1,000
    connections at once it keeps 180 MiB, and takes more for the next 1,000. This takes 0.2 ms for each MiB.
    """
    if _trim is None:
        return False
    _trim(0)
    return True


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from running while many values are made that will soon be freed."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Make objects that live for long, without the garbage collector looking at them now or later.

    While a policy is compiled, every collection would find nothing, and one of a million objects stops the
    event loop for a second. Later ones would visit all that lives as long as the policy: with reviews of
    33 KB, that was a pause of 10 ms now and then.
    """
    # Garbage would be frozen with the rest and stay for ever: connections that end badly leave cycles.
    gc.collect()
    gc.disable()
    try:
        yield
        # Before the collector is on again: it would begin with all that was made meanwhile.
        gc.freeze()
    finally:
        gc.enable()


def dismantling(roots: list[Any]) -> Generator[None, None, None]:
    """Empty ``roots`` and free, in steps, what nothing else refers to; the rest is left as it is.

    Dropping the last reference to a policy of 100,000 rules frees a million objects at once and stops the
    event loop for 100 ms. Parts of a cycle are left to the garbage collector.
    """
    pieces = deque(roots)
    roots.clear()
    while pieces:
        for _ in range(min(PIECES_A_STEP, len(pieces))):
            piece = pieces.popleft()
            if sys.getrefcount(piece) <= ONLY_OURS:
                # It goes with this turn; what it held waits here for its own.
                pieces.extend(gc.get_referents(piece))
            del piece
        yield
