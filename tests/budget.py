"""How many examples hypothesis draws for a property: few in a quick run, many in a long one."""

from __future__ import annotations

from hypothesis import settings


def budget(count: int) -> int:
    """Return a third of ``count``, or three times ``count`` with ``--hypothesis-profile=long``."""
    return count * 3 if settings.get_current_profile_name() == "long" else max(count // 3, 20)
