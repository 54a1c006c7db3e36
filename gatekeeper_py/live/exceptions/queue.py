"""The order in which documents with exceptions are parsed, and the share of time that this may take."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from math import inf
from typing import Final, NamedTuple

from gatekeeper_py.core.exceptions.document import MAX_BYTES
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.process.shares import Shares
from gatekeeper_py.process.waiting import PartOfTime

PAUSE_FACTOR: Final = 9.0
"""The pause after work, as a multiple of the work's time. So work takes at most a tenth of the time."""

RESERVE_SECONDS: Final = 0.3
"""Maximum time that is saved up for later, of this tenth, while nothing is parsed. Three of the most
expensive documents use it up. A namespace must leave as much of it as its own changes needed recently. So
namespaces that change documents all the time leave the reserve to the others, which need not wait for a
pause."""

LONGEST_PARSE_SECONDS: Final = 0.1
"""Time to parse the longest document on an ordinary machine. The time is in proportion to the length."""

FORGET_SECONDS: Final = 60.0
"""Interval at which the used time of each namespace is set to zero. A namespace with waiting documents keeps
its time, up to the reserve. So documents that a flood left behind neither go before a quiet namespace nor use
its reserve."""


class _Place(NamedTuple):
    """The place of a document in a queue. Lower ranks come first, and then lower numbers."""

    rank: float
    number: int
    key: DocumentKey


class ParseQueue:
    """Decides which document is parsed next. Each document has at most one place in the queues.

    Documents of the installation go first. Tenants cannot write them, and must not delay an exception in an
    emergency. Of the other changes, the namespace whose changes needed the least time goes first. Of several
    changes of one namespace, the newest goes first, so that an earlier flood does not delay it. Only these
    changes are limited to a part of the time; the first list may use the rest.
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
        """The places of documents that are due. The rank is the time that the changes of their namespaces
        needed, or less."""
        self._queues: dict[DocumentKey, list[_Place]] = {}
        """The queue in which each document has its place."""
        self._number = 0
        self._asked = Shares()
        """The seconds that the changes of each namespace need to be parsed, even if they are never parsed."""
        self._kept: dict[DocumentKey, float] = {}
        """For each document that waited at the last reset: a minimum for its namespace's time."""
        self._forget_at = -inf
        self._part = PartOfTime(PAUSE_FACTOR, reserve=RESERVE_SECONDS)

    @property
    def first_wait(self) -> bool:
        """Whether documents of the first list or of the installation wait."""
        return bool(self._own or self._listed)

    def ask(self, key: DocumentKey, size: int) -> None:
        """Note that a document changed. ``size`` is the length of its text in bytes."""
        seconds = LONGEST_PARSE_SECONDS * size / MAX_BYTES
        self._asked.add(self._asked.of(key.source, key.namespace), seconds)

    def place(self, key: DocumentKey, due: float, *, free: bool) -> None:
        """Give a document a place, unless it has one. If it is ``free``, the limit of time does not apply."""
        if key not in self._queues:
            self._number += 1
            queue = self._own if not key.of_tenant else self._listed if free else self._early
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
        self._kept.pop(key, None)
        heapq.heappop(self._queues.pop(key))

    def spent(self, start: float, end: float) -> None:
        """Count the time in which a document of a namespace was parsed, up to the reserve.

        A parse that takes longer waits for a processor most of the time. If all of it counted, one second
        would delay the next change of a quiet namespace by seven seconds.
        """
        self._part.spent(start, min(end, start + RESERVE_SECONDS))

    def _starts(self) -> Iterator[tuple[float, DocumentKey]]:
        """Yield the first document of each queue and when its parse may start, in the order of the queues."""
        for queue in (self._own, self._due, self._listed, self._early):
            if queue:
                rank, _, key = queue[0]
                yield (self._part.free_without(rank) if queue is self._due else rank), key

    def _move(self, now: float) -> None:
        """Queue the documents that are due, in the order of the time that their namespaces needed so far."""
        if now >= self._forget_at:
            waiting = (place.key for queue in (self._early, self._due) for place in queue)
            self._kept = {key: min(self._seconds(key), RESERVE_SECONDS) for key in waiting}
            self._asked.clear()
            self._forget_at = now + FORGET_SECONDS
            self._due[:] = [place._replace(rank=self._kept[place.key]) for place in self._due]
            heapq.heapify(self._due)
        while self._early and self._early[0].rank <= now:
            _, number, key = heapq.heappop(self._early)
            self._queues[key] = self._due
            heapq.heappush(self._due, _Place(self._seconds(key), -number, key))
        # The time of a namespace only grows until it is set to zero, so each place moves back at most once
        # for each change.
        while self._due and (rank := self._seconds(self._due[0].key)) > self._due[0].rank:
            heapq.heapreplace(self._due, self._due[0]._replace(rank=rank))

    def _seconds(self, key: DocumentKey) -> float:
        """Return the time of a namespace; infinity, to go last, if it is not counted by itself."""
        share = self._asked.of(key.source, key.namespace)
        if share.namespace != key.namespace:
            return inf
        return max(self._asked.used(share)[1], self._kept.get(key, 0.0))
