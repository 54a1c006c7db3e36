"""Dates and times as policies and commands write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

MAX_LENGTH: Final = 64
"""Maximum length in characters. RFC 3339 itself does not limit the digits of a fraction of a second."""

_DATE: Final = "(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:[.](?P<fraction>[0-9]+))?"
_OFFSET: Final = "[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-5][0-9])"
_INSTANT: Final = re.compile(f"{_DATE}(?:[Tt ]{_TIME}(?P<offset>{_OFFSET})?)?")


def parse_instant(text: str) -> datetime:
    """Parse a date (00:00 UTC of that day) or an RFC 3339 time with its offset; the result is in UTC.

    ``datetime.fromisoformat`` is not used, because each release of Python accepts other texts. A fraction of
    a second is cut to microseconds. Raises ``ValueError``.
    """
    match = _INSTANT.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        message = "neither a date (2026-12-31) nor an RFC 3339 time (2026-12-31T18:00:00Z)"
        raise ValueError(message)
    if match["hour"] and not match["offset"]:
        message = "a time needs its offset, e.g. Z or +02:00"
        raise ValueError(message)
    names = ("year", "month", "day", "hour", "minute", "second", "hours", "minutes")
    year, month, day, hour, minute, second, hours, minutes = (int(match[name] or 0) for name in names)
    microsecond = int((match["fraction"] or "")[:6].ljust(6, "0"))
    try:
        ahead = timedelta(hours=hours, minutes=minutes)
        zone = timezone(-ahead if match["sign"] == "-" else ahead)
        return datetime(year, month, day, hour, minute, second, microsecond, zone).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"there is no such time as {text}"
        raise ValueError(message) from None


def format_duration(duration: timedelta) -> str:
    """Write a number of whole hours as a policy does: ``14d``, or ``12h`` if it is not a number of days."""
    hours = duration // timedelta(hours=1)
    return f"{hours}h" if hours % 24 else f"{hours // 24}d"


def format_minute(instant: datetime) -> str:
    """Write a time as RFC 3339 in UTC, without its seconds: ``2026-12-31T18:00Z``."""
    return f"{format_instant(instant)[:-4]}Z"


def format_instant(instant: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the second: ``2026-12-31T18:00:00Z``."""
    # strftime writes the year 999 with three digits on some systems.
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
