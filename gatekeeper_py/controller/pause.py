"""The pause: an annotation on the namespace that removes the webhook configurations until a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.names import PAUSED_UNTIL
from gatekeeper_py.core.policy.instant import parse_instant

LONGEST_PAUSE: Final = timedelta(hours=24)
"""Maximum length of a pause, so that a mistake cannot disable the webhook for long."""

MAX_LENGTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The end of the pause, if there is one; ``problem`` is why an annotation is ignored."""

    until: datetime | None = None
    problem: str = ""


def read_pause(namespace: Mapping[str, Any], now: datetime) -> Pause:
    """Read the annotation of a Namespace. A time in the past is neither a pause nor a problem."""
    metadata = namespace.get("metadata") or {}
    value = (metadata.get("annotations") or {}).get(PAUSED_UNTIL)
    if value is None:
        return Pause()
    shown = escape(str(value), MAX_LENGTH)
    if not isinstance(value, str) or len(value) > MAX_LENGTH or ":" not in value:
        return Pause(problem=_problem(shown, "not an RFC 3339 time such as 2026-12-31T18:00:00Z"))
    try:
        until = parse_instant(value)
    except ValueError as problem:
        return Pause(problem=_problem(shown, str(problem)))
    if until <= now:
        return Pause()
    if until - now > LONGEST_PAUSE:
        return Pause(problem=_problem(shown, "more than 24 hours ahead"))
    return Pause(until=until)


def _problem(shown: str, reason: str) -> str:
    return f"the annotation {PAUSED_UNTIL} is ignored: {shown!r}: {reason}"
