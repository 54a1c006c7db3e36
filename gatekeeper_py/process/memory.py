"""Memory: limit the work of Python's garbage collector, and return free memory to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final


def _references_of_a_local() -> int:
    piece = object()
    return sys.getrefcount(piece)


ONLY_OURS: Final = _references_of_a_local()
"""Result of ``sys.getrefcount`` for an object that only one local name refers to. The function counts its own
argument, too, before Python 3.14."""

PIECES_A_STEP: Final = 100


def _find_trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None


_trim = _find_trim()


def give_back() -> bool:
    """Return the allocator's free pages to the system. Return false if the C library has no such function.

    Only glibc keeps free pages. The buffers of connections lie between objects that stay, so after 1,000
    connections at once glibc keeps 180 MiB, and takes more for the next 1,000. A call takes 0.2 ms for each
    MiB.
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
    """Exclude objects that are created in this context from garbage collection, now and later.

    Use it for objects that live long. While a policy is compiled, a collection finds nothing, and one over a
    million objects stops the event loop for a second. Later collections would visit all objects of the
    policy: with reviews of 33 KB, that caused an occasional pause of 10 ms.
    """
    # Collect garbage first, because gc.freeze() would keep it for ever. Connections that end badly leave
    # cycles.
    gc.collect()
    gc.disable()
    try:
        yield
        # Freeze before the collector is enabled again, because its first run would visit all new objects.
        gc.freeze()
    finally:
        gc.enable()


def dismantling(roots: list[Any]) -> Generator[None, None, None]:
    """Empty ``roots`` and free its objects in steps, except those that something else refers to.

    Dropping the last reference to a policy of 100,000 rules frees a million objects at once and stops the
    event loop for 100 ms. Parts of a cycle are left to the garbage collector.
    """
    pieces = deque(roots)
    roots.clear()
    while pieces:
        for _ in range(min(PIECES_A_STEP, len(pieces))):
            piece = pieces.popleft()
            if sys.getrefcount(piece) <= ONLY_OURS:
                # The piece is freed in this iteration. The objects that it refers to are queued.
                pieces.extend(gc.get_referents(piece))
            del piece
        yield
