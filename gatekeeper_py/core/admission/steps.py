"""Work on the images of one object in steps, so that an event loop can do other work between them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, TypeVar, cast

MANY_IMAGES: Final = 32
"""An object with more images is judged in steps. Few Pods have more, and judging this many takes less than a
millisecond under most policies. The bound does not depend on the cost, because the cost is not known in
advance."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Steps = Generator[None, None, Result]
"""Work that yields after each of its steps and returns its result."""


def for_each(
    work: Callable[[Sequence[Item]], Iterable[Result]], items: Sequence[Item]
) -> Steps[tuple[Result, ...]]:
    """Return the results of ``work`` for all items. If there are many, ``work`` gets one item per step."""
    if len(items) <= MANY_IMAGES:
        return tuple(work(items))
    done: list[Result] = []
    for item in items:
        done += work((item,))
        yield
    return tuple(done)


def at_once(steps: Steps[Result]) -> Result:
    """Do all steps without a break, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(Result, end.value)
