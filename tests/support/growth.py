"""Check that a function's work grows at most linearly with the size of its input.

``check_linear(work, make, limit=...)`` calls ``work(make(n))`` for n, 2n, 4n and so on up to a limit, and
compares each size with the one four times smaller. It compares three things, because each finds what the
others miss:

* executed bytecode instructions: exact and the same on every machine, but blind to work in C;
* CPU time of the calling thread: sees work in C (a regular expression, ``str.replace``), but is noisy, so
  that only a long run (`make test-long`) compares it;
* peak of allocated memory, as ``tracemalloc`` counts it.

Example::

    check_linear(parse_reference, lambda n: "a" * n, limit=4096)
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Generic, TypeVar

from support.budget import is_long

T = TypeVar("T")

TIMES: Final = 5
"""The fastest of this many calls counts, because other load on the machine only adds time."""

TRIES: Final = 3
"""A failed comparison is repeated, so that one busy moment does not decide."""

MAX_INSTRUCTIONS: Final = 12_000_000 if is_long() else 1_000_000
"""No larger input is tested after so many counted instructions. A limit of seconds would test larger inputs
on a faster machine, and so pass on one machine and fail on the next. Quadratic work is found long before."""


@dataclass(frozen=True)
class Measure(Generic[T]):
    """A compared quantity. ``most`` is the allowed ratio between a size and the one four times smaller.

    ``least`` hides fixed costs and noise: smaller values count as this value.
    """

    name: str
    most: float
    least: float
    of: Callable[[Callable[[T], object], T], float]


def check_linear(
    work: Callable[[T], object], make: Callable[[int], T], *, limit: int, start: int = 64
) -> None:
    """Fail unless ``work`` grows at most linearly for inputs from the size ``start`` to ``limit``.

    ``make`` returns an input of a given size; the caller decides what a size is (characters, items,
    bytes). ``limit`` is usually the limit that the product enforces. ``work`` must not raise, change
    its input, or remember results between calls.

    Raises ``AssertionError`` with the figures.
    """
    if not 0 < 4 * start <= limit:
        raise ValueError(f"limit={limit} must be at least four times start={start}")
    measures: tuple[Measure[T], ...] = (
        # Linear work has a ratio of 4, n log n stays below 5, quadratic work has 16.
        Measure("bytecode instructions", 5.0, 2_000, instructions),
        # Lists and dictionaries grow in leaps, so that linear work can have a ratio of 5.
        Measure("bytes of memory", 6.0, 64 * 1024, _peak),
        # Halfway, as factors go, between 4 and 16: larger inputs fit less well into the processor's caches.
        Measure("seconds of CPU time", 8.0, 0.002, _seconds),
    )
    # The garbage collections below then skip what the tests before have left behind.
    gc.collect()
    gc.freeze()
    counted = _count(work, make, start, limit)
    for measure in measures if is_long() else measures[:-1]:
        if measure.of is instructions:
            _compare(measure, counted)
            continue
        found: dict[int, float] = {}
        for size in counted:
            found[size] = measure.of(work, make(size))
            for _ in range(TRIES):
                if _grows_at_most_linearly(measure, found, size):
                    break
                found[size] = min(found[size], measure.of(work, make(size)))
        _compare(measure, found)


def _count(work: Callable[[T], object], make: Callable[[int], T], start: int, limit: int) -> dict[int, float]:
    """Return the instructions for each size to compare. Each size is twice the one before."""
    # From Python 3.13 on, the instructions of a function count only after a first traced call.
    instructions(work, make(start))
    counted: dict[int, float] = {}
    while start <= limit and (len(counted) < 3 or sum(counted.values()) < MAX_INSTRUCTIONS):
        counted[start] = instructions(work, make(start))
        start *= 2
    return counted


def _grows_at_most_linearly(measure: Measure[T], found: dict[int, float], size: int) -> bool:
    smaller = max(found.get(size // 4, measure.least), measure.least)
    return size // 4 not in found or found[size] <= measure.most * smaller


def _compare(measure: Measure[T], found: dict[int, float]) -> None:
    for size, value in found.items():
        if not _grows_at_most_linearly(measure, found, size):
            shown = ", ".join(f"{size}: {value:g}" for size, value in found.items())
            ratio = value / max(found[size // 4], measure.least)
            raise AssertionError(
                f"{measure.name} grow {ratio:.1f}-fold"
                f" (at most {measure.most:g}) for four times the size: {shown}"
            )


def instructions(work: Callable[[T], object], argument: T) -> int:
    """Return the bytecode instructions of one call and of all Python functions that it calls."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    # From Python 3.12 on, instructions are only traced if a frame asked for it before.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        work(argument)
    finally:
        sys.settrace(before)
    return count


def _peak(work: Callable[[T], object], argument: T) -> float:
    """Return the peak of allocated bytes during a call."""
    gc.collect()
    tracing = sys.gettrace()
    sys.settrace(None)  # the coverage's own memory does not count
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work(argument)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sys.settrace(tracing)
    return most - before


def _seconds(work: Callable[[T], object], argument: T) -> float:
    """Return the CPU time of this thread for one call, the minimum of several."""
    gc.collect()
    gc.disable()
    try:
        return min(_once(work, argument) for _ in range(TIMES))
    finally:
        gc.enable()


def _once(work: Callable[[T], object], argument: T) -> float:
    started = time.thread_time()
    work(argument)
    return time.thread_time() - started
