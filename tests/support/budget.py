"""The number of examples of a test: few in a quick run, many in a long one (`make test-long`)."""

from __future__ import annotations

from hypothesis import settings


def is_long() -> bool:
    """Return whether this is a long run, which the hypothesis profile ``long`` selects."""
    return settings.get_current_profile_name() == "long"


def budget(count: int) -> int:
    """Return how many examples to draw: a twelfth of ``count``, or four thirds of it in a long run."""
    return max(count * 4 // 3 if is_long() else count // 12, 15)
