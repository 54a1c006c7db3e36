"""The pause before the next try, from how many failed."""

from __future__ import annotations


def backed_off(first: float, failures: int, longest: float) -> float:
    """``first`` after none, twice as much after each, ``longest`` at the most."""
    return min(first * 2.0 ** min(failures, 10), longest)
