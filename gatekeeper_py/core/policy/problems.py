"""Texts of messages about wrong values, and the check of a mode."""

from __future__ import annotations

import difflib
from typing import Final

from gatekeeper_py.core.policy.document import MODES
from gatekeeper_py.core.policy.finding import Finding

MAX_MISSPELT: Final = 60
"""Maximum number of characters of a text that is compared with the known words. A longer text is not a
misspelt word, and comparing a megabyte takes a second."""


def mode_problem(mode: object) -> Finding | None:
    """Return the finding for something that is not a mode, such as a bad ConfigMap key ``mode``."""
    if isinstance(mode, str) and mode in MODES:
        return None
    return Finding(
        severity="error",
        code="bad-value",
        path="mode",
        line=1,
        message=f"must be {listed(tuple(MODES))}, not {shown(mode)}",
        proposal=did_you_mean(mode, tuple(MODES)),
    )


def did_you_mean(value: object, known: tuple[str, ...]) -> str:
    """Return ``did you mean WORD?`` for the most similar known word, empty if no word is similar."""
    if not isinstance(value, str) or len(value) > MAX_MISSPELT:
        return ""
    close = difflib.get_close_matches(value.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else ""


def listed(words: tuple[str, ...]) -> str:
    """Return words as an enumeration for a sentence: ``a, b or c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def shown(value: object) -> str:
    """Return a value in at most 60 characters of printable ASCII; of a collection, only its type."""
    if isinstance(value, str):
        return ascii(value[:60])[:60]
    return ascii(value)[:60] if isinstance(value, int | float | bool) else type_name(value)


def type_name(value: object) -> str:
    """Return the readable name of a YAML value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"
