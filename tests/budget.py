"""How many examples hypothesis draws for a property: few in a quick run, many in a long one."""

from __future__ import annotations

from hypothesis import settings

_QUICK, _LONG = 1, 5


def budget(count: int) -> int:
    """Return ``count`` for a quick run, and five times as many with ``--hypothesis-profile=long``."""
    return count * (_LONG if settings.get_current_profile_name() == "long" else _QUICK)
