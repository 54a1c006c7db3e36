"""Work on the images of one object in steps, so that an event loop can do other work between them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, TypeVar, cast

MANY_IMAGES: Final = 32
"""An object with more images is judged in steps. Few Pods have that many, and judging so few takes less than
a millisecond under most policies. The bound is the same whatever they cost, because that is not known
before."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Steps = Generator[None, None, Result]
"""Work that yields after each of its steps and returns its result."""


def for_each(
    work: Callable[[Sequence[Item]], Iterable[Result]], items: Sequence[Item]
) -> Steps[tuple[Result, ...]]:
    """Return what ``work`` makes of all items; of many, it gets one in each step."""
    if len(items) <= MANY_IMAGES:
        return tuple(work(items))
    done: list[Result] = []
    for item in items:
        done += work((item,))
        yield
    return tuple(done)


def at_once(steps: Steps[Result]) -> Result:
    """Return the result of work that is done in one go."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(Result, end.value)
