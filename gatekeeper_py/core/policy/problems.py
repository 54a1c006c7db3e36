"""Words for what is wrong with a value, and the check of a mode."""

from __future__ import annotations

import difflib

from gatekeeper_py.core.policy.document import MODES
from gatekeeper_py.core.policy.finding import Finding


def mode_problem(mode: object) -> Finding | None:
    """The finding for a mode that is none, as when a ConfigMap's ``mode`` key holds one."""
    if mode in MODES:
        return None
    return Finding(
        severity="error",
        code="bad-value",
        path="mode",
        line=1,
        message=f"must be {listed(MODES)}, not {shown(mode)}",
        proposal=did_you_mean(str(mode), MODES),
    )


def did_you_mean(text: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else ""


def listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def shown(value: object) -> str:
    return ascii(value)[:60] if isinstance(value, str | int | float | bool) else type_name(value)


def type_name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"
