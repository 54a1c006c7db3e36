"""Exponential back-off between retries."""

from __future__ import annotations


def backed_off(first: float, failures: int, longest: float) -> float:
    """Return the pause in seconds after this many failures.

    The pause is ``first`` after 0 failures, doubles with each failure, and never exceeds ``longest``.
    """
    # The exponent is bounded because 2.0 ** 1024 overflows, which an outage of some hours would reach.
    return min(first * 2.0 ** min(failures, 20), longest)
