"""The order in which documents with exceptions are parsed, and the share of time that this may take."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, NamedTuple

from gatekeeper_py.core.exceptions.exceptions import DocumentKey

PAUSE_FACTOR: Final = 9.0
"""The pause after work, as a multiple of the work's time. So work takes at most a tenth of the time."""


class _Place(NamedTuple):
    """A place in a queue: when it is due, and a number for the order of places that are due at the same time.

    If it is ``free``, the share of time does not limit it.
    """

    due: float
    number: int
    key: DocumentKey
    free: bool


class Turns:
    """Gives each document at most one place, and the next turn to the place that is due first.

    Documents of the installation go first, and no share of time limits them. Tenants cannot write these
    documents, and must not delay an exception in an emergency.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._own: list[_Place] = []
        """The places of documents of the installation."""
        self._shared: list[_Place] = []
        self._placed: set[DocumentKey] = set()
        self._number = 0
        self._next_start = float("-inf")

    def place(self, key: DocumentKey, due: float, *, free: bool) -> None:
        """Give a document a place, unless it has one."""
        if key not in self._placed:
            self._placed.add(key)
            self._number += 1
            queue = self._shared if key.source == "namespace" else self._own
            heapq.heappush(queue, _Place(due, self._number, key, free))

    def next(self) -> tuple[float, DocumentKey] | None:
        """Return the next document and the seconds until its turn, ``None`` if none has a place."""
        now = self._monotonic()
        turns = [
            (max(self._begin(queue[0]) - now, 0.0), queue[0].key)
            for queue in (self._own, self._shared)
            if queue
        ]
        return min(turns, key=lambda turn: turn[0], default=None)

    def take(self, key: DocumentKey) -> None:
        """Take the place of the next document."""
        heapq.heappop(self._shared if key.source == "namespace" else self._own)
        self._placed.remove(key)

    def spent(self, start: float, end: float) -> None:
        """Begin the pause after a document of a namespace was parsed."""
        self._next_start = end + PAUSE_FACTOR * (end - start)

    def _begin(self, place: _Place) -> float:
        if place.free or place.key.source != "namespace":
            return place.due
        return max(place.due, self._next_start)
