"""Decide what follows a failed write of match conditions: retry it, or remove the conditions first."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

from gatekeeper_py.runtime.backoff import backed_off

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Pause between two attempts at a write; short, because the old condition may admit a removed image."""

FIRST_UNWRITABLE_SECONDS: Final = 5.0
LONGEST_UNWRITABLE_SECONDS: Final = 60.0
"""Pause before another attempt at an expression that could not be written."""

FIRST_REFUSED_SECONDS: Final = 60.0
LONGEST_REFUSED_SECONDS: Final = 3600.0
"""Pause before a refused expression is written again; an upgraded API server may accept it."""

REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
"""The statuses by which an API server reports that an object is invalid."""

CLIENT_ERRORS: Final = range(400, 500)


@dataclass(frozen=True, slots=True)
class Retry:
    """What to do after a failed write.

    ``seconds`` is the pause. If ``problem`` is empty, repeat the same write after the pause. Otherwise remove
    all conditions now, and do not write those of the policy before the pause ends.
    """

    result: Literal["failed", "refused"]
    seconds: float
    problem: str = ""


class WriteRetries:
    """Counts consecutive failures, and decides how to continue."""

    def __init__(self) -> None:
        self._failures = 0
        self._unwritable = 0

    def written(self) -> None:
        """Note that a write succeeded."""
        self._failures = 0

    def accepted(self) -> None:
        """Note that an expression was accepted and read back."""
        self._unwritable = 0

    def failed(self, status: int, *, has_expressions: bool) -> Retry:
        """Return what to do after a failed write.

        ``status`` is the HTTP status of the answer, 0 without an answer. The conditions on the API server may
        admit too much. So if the new conditions cannot be written, all conditions are removed: that write may
        succeed even so.
        """
        replaceable = has_expressions and status != HTTPStatus.CONFLICT
        if replaceable and status in REFUSED:
            pause = backed_off(FIRST_REFUSED_SECONDS, self._unwritable, LONGEST_REFUSED_SECONDS)
            self._unwritable += 1
            return Retry("refused", pause, "the API server refuses the expression")
        again = self._failures > 0
        pause = backed_off(FIRST_PAUSE_SECONDS, self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        if replaceable and (again or status in CLIENT_ERRORS):
            pause = backed_off(FIRST_UNWRITABLE_SECONDS, self._unwritable, LONGEST_UNWRITABLE_SECONDS)
            self._unwritable += 1
            return Retry("failed", pause, "the expression cannot be written")
        return Retry("failed", pause)
