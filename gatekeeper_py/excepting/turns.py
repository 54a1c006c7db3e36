"""The order in which documents with exceptions are parsed, and the share of time that this may take."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from math import inf
from typing import Final, NamedTuple

from gatekeeper_py.core.exceptions.document import MAX_BYTES
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.runtime.shares import Shares

PAUSE_FACTOR: Final = 9.0
"""The pause after work, as a multiple of the work's time. So work takes at most a tenth of the time."""

RESERVE_SECONDS: Final = 0.3
"""How much of this tenth is saved up at most while nothing is parsed. Three of the most expensive documents
take it. A namespace can use it only up to where the rest is what the namespace itself asked for lately. So
those that change documents all the time leave it to the others, which need not wait for a pause."""

LONGEST_PARSE_SECONDS: Final = 0.1
"""What parsing the longest document takes on an ordinary machine. A shorter one takes its part of it."""

FORGET_SECONDS: Final = 60.0
"""After this time, what namespaces asked for is forgotten."""


class _Place(NamedTuple):
    """A place in a queue: its rank, and a number for the order of places with the same rank."""

    rank: float
    number: int
    key: DocumentKey


class Turns:
    """Gives each document at most one place, and the next turn to one of the places that are due.

    Documents of the installation go first. Tenants cannot write them, and must not delay an exception in an
    emergency. Of the other changes, that of the namespace that asked for least time goes first; of several,
    the newest, so that an earlier flood does not delay it. Only these changes share a part of the time, so
    the first list takes the rest.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._own: list[_Place] = []
        """The places of documents of the installation. The rank is when they are due."""
        self._listed: list[_Place] = []
        """The same for the documents in the first list."""
        self._early: list[_Place] = []
        """The same for the other documents that are not due yet."""
        self._due: list[_Place] = []
        """The places of documents that are due. The rank is what their namespaces asked for, or less."""
        self._queues: dict[DocumentKey, list[_Place]] = {}
        """The queue in which each document has its place."""
        self._number = 0
        self._asked = Shares()
        """The seconds of parsing that the changes of each namespace asked for, even if never parsed."""
        self._forget_at = -inf
        self._paid_at = -inf
        """When the time that was used is a tenth of the time again."""

    @property
    def first_wait(self) -> bool:
        """Whether documents of the first list wait, or some of the installation."""
        return bool(self._own or self._listed)

    def ask(self, key: DocumentKey, size: int) -> None:
        """Note that a document changed. ``size`` is the length of its text in bytes."""
        seconds = LONGEST_PARSE_SECONDS * size / MAX_BYTES
        self._asked.add(self._asked.of(key.source, key.namespace), seconds)

    def place(self, key: DocumentKey, due: float, *, free: bool) -> None:
        """Give a document a place, unless it has one. If it is ``free``, the share does not limit it."""
        if key not in self._queues:
            self._number += 1
            queue = self._own if key.source != "namespace" else self._listed if free else self._early
            self._queues[key] = queue
            heapq.heappush(queue, _Place(due, self._number, key))

    def next(self) -> tuple[float, DocumentKey] | None:
        """Return the next document and the seconds until its turn, ``None`` if none has a place."""
        now = self._monotonic()
        self._move(now)
        waits = ((max(start - now, 0.0), key) for start, key in self._starts())
        return min(waits, key=lambda wait: wait[0], default=None)

    def take(self, key: DocumentKey) -> None:
        """Take the place of the next document."""
        heapq.heappop(self._queues.pop(key))

    def spent(self, start: float, end: float) -> None:
        """Count the time in which a document of a namespace was parsed."""
        saved = start - (1 + PAUSE_FACTOR) * RESERVE_SECONDS
        self._paid_at = max(self._paid_at, saved) + (1 + PAUSE_FACTOR) * (end - start)

    def _starts(self) -> Iterator[tuple[float, DocumentKey]]:
        """Yield the first document of each queue and when it may start: those that go first come first."""
        for queue in (self._own, self._due, self._listed, self._early):
            if queue:
                rank, _, key = queue[0]
                saved = self._paid_at + (1 + PAUSE_FACTOR) * min(rank, RESERVE_SECONDS)
                yield (saved if queue is self._due else rank), key

    def _move(self, now: float) -> None:
        """Queue the documents that are due, in the order of what their namespaces asked for by now."""
        if now >= self._forget_at:
            self._asked.clear()
            self._forget_at = now + FORGET_SECONDS
            self._due[:] = [place._replace(rank=0.0) for place in self._due]
            heapq.heapify(self._due)
        while self._early and self._early[0].rank <= now:
            _, number, key = heapq.heappop(self._early)
            self._queues[key] = self._due
            heapq.heappush(self._due, _Place(self._seconds(key), -number, key))
        # What a namespace asked for only grows until it is forgotten, so each place moves back at most once
        # for each change.
        while self._due and (rank := self._seconds(self._due[0].key)) > self._due[0].rank:
            heapq.heapreplace(self._due, self._due[0]._replace(rank=rank))

    def _seconds(self, key: DocumentKey) -> float:
        """Return what a namespace asked for. Those that are not counted one by one go last."""
        share = self._asked.of(key.source, key.namespace)
        return self._asked.used(share)[1] if share.namespace == key.namespace else inf
