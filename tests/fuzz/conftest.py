"""Duration of fuzzing: ``FUZZ_SECONDS`` for each law in ``make fuzz``, and a moment in other runs.

Searches for slow inputs measure time, so they run in ``make test-long`` and not in ``make test``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pytest
from hypothesis import settings

from fuzz.climbing import Grammar, Recipe, climb

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
CALLS: Final = 10
"""Minimum number of inputs of each search."""

# In CI, hypothesis draws the same examples each time, which is useless for fuzzing.
settings.register_profile("fuzz", deadline=None, derandomize=False, print_blob=True)
if SECONDS:
    settings.load_profile("fuzz")


@pytest.fixture
def rounds() -> Iterator[int]:
    """Return the numbers of the calls of a property: one, or as many as begin within ``SECONDS``.

    Each call draws new examples. Hypothesis keeps failures in its database and repeats them first.
    """

    def numbers() -> Iterator[int]:
        yield 0
        end = time.monotonic() + SECONDS
        number = 1
        while time.monotonic() < end:
            yield number
            number += 1

    return numbers()


def search(
    grammar: Grammar,
    cost: Callable[[Recipe], float],
    *,
    searches: int = 1,
    first: Sequence[Recipe] = (),
) -> None:
    """Run one of several searches that together take ``SECONDS``."""
    worst, recipe = climb(grammar, cost, seconds=SECONDS / searches, least_calls=CALLS, first=first)
    print(f"the most expensive input takes {worst:.0%} of what it may: {recipe}")  # noqa: T201 - pytest -s shows it
    assert worst <= 1.0, f"{worst:.1f} times what it may take: {recipe}"
