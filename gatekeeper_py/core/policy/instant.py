"""Dates and times as policies and commands write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

MAX_LENGTH: Final = 64
"""Maximum length in characters. RFC 3339 itself does not limit the digits of a fraction of a second."""

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?P<offset>[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def parse_instant(text: str) -> datetime:
    """Parse a date (00:00 UTC of that day) or an RFC 3339 time with its offset; the result is in UTC.

    Raises ``ValueError``.
    """
    match = _TIME.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None and (len(text) > MAX_LENGTH or not _DATE.fullmatch(text)):
        message = "neither a date (2026-12-31) nor an RFC 3339 time (2026-12-31T18:00:00Z)"
        raise ValueError(message)
    if match is not None and match["offset"] is None:
        message = "a time needs its offset, e.g. Z or +02:00"
        raise ValueError(message)
    try:
        parsed = datetime.fromisoformat(text.upper())
        return parsed.replace(tzinfo=UTC) if match is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"there is no such time as {text}"
        raise ValueError(message) from None


def format_instant(instant: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the second: ``2026-12-31T18:00:00Z``."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
