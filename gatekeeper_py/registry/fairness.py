"""Share turns at a registry, and places for reviews that wait for registries, between namespaces."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

MAX_REMEMBERED: Final = 1000
"""Maximum number of namespaces without a waiting look-up whose last round is remembered. A forgotten
namespace is treated like a new one."""

MAX_JOINED: Final = 100
"""Maximum number of namespaces that are considered for one look-up."""


class Claim:
    """A look-up that waits for its next request.

    The look-ups that a review waits for (``urgent``) come first. Within a namespace, the look-up with the
    lower ``number``, which is older, comes first. ``namespace`` is that of the review.
    """

    def __init__(self, number: int = 0, *, urgent: bool = True, namespace: str = "") -> None:
        self.number = number
        self.namespace = namespace
        self.is_reserved = False
        """Whether the look-up may start even if too many requests are under way."""
        self.namespaces: set[str] = {namespace} if urgent else set()
        """The namespaces whose reviews wait for the look-up; empty if it is not urgent."""
        self.hurried = asyncio.Event()
        """Set when a review has joined the look-up, which may improve its place."""

    @property
    def urgent(self) -> bool:
        return bool(self.namespaces)

    def hurry(self, namespace: str = "") -> None:
        """Record that a review in a namespace now waits for the result, too."""
        if namespace not in self.namespaces and len(self.namespaces) < MAX_JOINED:
            self.namespaces.add(namespace)
            self.hurried.set()


class Place(NamedTuple):
    """The place of a look-up in a queue. ``namespace`` is ``None`` if no review waits for it."""

    namespace: str | None
    number: int


class FairQueue:
    """Look-ups in the order of their turns.

    Turns come in rounds. In each round, every namespace with a look-up in the queue gets one turn, so a
    namespace with a thousand look-ups delays a namespace with a single look-up by one turn. Look-ups that no
    review waits for come last.
    """

    def __init__(self) -> None:
        self._round = 0
        self._next: dict[str, int] = {}
        """Namespace -> the first round in which it may have another turn. Cleared when the queue is empty."""
        self._numbers: dict[str, list[int]] = {}
        """Namespace -> the numbers of its look-ups in the queue, in order."""
        self._contended = False
        """Whether several namespaces have waited at the same time since the queue was empty."""
        self._urgent = 0
        self._spare: list[int] = []
        """The numbers of the look-ups that no review waits for, in order."""

    def __bool__(self) -> bool:
        return bool(self._urgent or self._spare)

    def add(self, claim: Claim) -> Place:
        """Add a look-up, at the place of the namespace whose turn comes first of those that wait for it."""
        claim.hurried.clear()
        if not claim.urgent:
            insort(self._spare, claim.number)
            return Place(None, claim.number)
        namespace = min(claim.namespaces, key=lambda each: self._round_of(Place(each, claim.number)))
        insort(self._numbers.setdefault(namespace, []), claim.number)
        self._urgent += 1
        self._contended = self._contended or len(self._numbers) > 1
        return Place(namespace, claim.number)

    def remove(self, place: Place) -> None:
        namespace, number = place
        if namespace is None:
            del self._spare[bisect_left(self._spare, number)]
            return
        numbers = self._numbers[namespace]
        del numbers[bisect_left(numbers, number)]
        self._urgent -= 1
        if not numbers:
            del self._numbers[namespace]
        if not self._urgent:
            self._next.clear()
            self._round, self._contended = 0, False

    def took_turn(self, place: Place) -> None:
        """Record that a look-up in the queue takes its turn. Call ``remove``, too."""
        namespace, _ = place
        if namespace is None:
            return
        self._round = self._first_round(namespace)
        self._next[namespace] = self._round + 1
        if len(self._next) > MAX_REMEMBERED + len(self._numbers):
            self._next = {each: self._next[each] for each in self._numbers if each in self._next}

    def ahead(self, place: Place) -> int:
        """Return the number of look-ups whose turns come before that of a look-up in the queue."""
        namespace, number = place
        if namespace is None:
            return self._urgent + bisect_left(self._spare, number)
        turn = self._round_of(place)
        ahead = bisect_left(self._numbers[namespace], number)
        for other, numbers in self._numbers.items():
            rounds = turn - self._first_round(other)
            if other != namespace and rounds >= 0:
                ahead += min(rounds, len(numbers))
                ahead += rounds < len(numbers) and numbers[rounds] < number
        return ahead

    def first(self, excluded: Container[str | None] = ()) -> Place | None:
        """Return the place whose turn is next, other than those of ``excluded`` namespaces, if there is one.

        Look-ups that no review waits for count as those of the namespace ``None``.
        """
        if not self._urgent:
            return Place(None, self._spare[0]) if self._spare and None not in excluded else None
        places = (
            Place(namespace, numbers[0])
            for namespace, numbers in self._numbers.items()
            if namespace not in excluded
        )
        return min(places, key=lambda each: (self._round_of(each), each.number), default=None)

    def is_over_share(self, place: Place) -> bool:
        """Return whether a look-up waits for older ones of its namespace, while or after others wait."""
        namespace, number = place
        if namespace is None or not self._contended:
            return False
        return bisect_left(self._numbers[namespace], number) > 0

    def _first_round(self, namespace: str) -> int:
        return max(self._round, self._next.get(namespace, 0))

    def _round_of(self, place: Place) -> int:
        namespace, number = place
        if namespace is None:
            raise ValueError("a look-up that no review waits for has no round")
        return self._first_round(namespace) + bisect_left(self._numbers.get(namespace, ()), number)


class FairSlots:
    """Limits the look-ups in progress with numbered slots, which namespaces get in turn.

    Some slots are ``reserved`` for namespaces that hold none. Otherwise, a few namespaces could hold all
    slots with look-ups that need many requests, and other namespaces would wait until such a look-up ends.
    """

    def __init__(self, count: int, *, reserved: int = 0) -> None:
        self._free = count
        self._reserved = reserved
        self._held: Counter[str | None] = Counter()
        """Namespace -> the number of slots that it holds; ``None`` for look-ups that no review waits for."""
        self._queue = FairQueue()
        self._waiters: dict[Place, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def slot(self, claim: Claim) -> AsyncIterator[None]:
        """Wait until one of the slots is free, and hold it."""
        holder = claim.namespace if claim.urgent else None
        if self._free > (self._reserved if holder is None or holder in self._held else 0):
            self._take_slot(holder)
        else:
            holder = await self._wait_for_slot(claim)
        try:
            yield
        finally:
            self._release_slot(holder)

    async def _wait_for_slot(self, claim: Claim) -> str | None:
        """Wait for a slot, and return the namespace that got it."""
        while True:
            is_urgent, place = claim.urgent, self._queue.add(claim)
            given = self._waiters[place] = asyncio.get_running_loop().create_future()
            self._give_slots()
            try:
                await (given if is_urgent else _either(given, claim.hurried))
            except asyncio.CancelledError:
                if self._waiters.get(place) is given:
                    self._forget_waiter(place)
                elif not given.cancelled():
                    self._release_slot(place.namespace)
                raise
            if given.done():
                return place.namespace
            self._forget_waiter(place)  # a review waits for it now, so it gets another place

    def _take_slot(self, holder: str | None) -> None:
        self._free -= 1
        self._held[holder] += 1

    def _release_slot(self, holder: str | None) -> None:
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        self._give_slots()

    def _give_slots(self) -> None:
        """Give the free slots to the waiting look-ups whose turns are next."""
        while self._free:
            place = self._queue.first(() if self._free > self._reserved else {None, *self._held})
            if place is None:
                return
            given = self._waiters[place]
            if not given.cancelled():  # in this very turn of the event loop
                self._queue.took_turn(place)
                self._take_slot(place.namespace)
                given.set_result(None)
            self._forget_waiter(place)

    def _forget_waiter(self, place: Place) -> None:
        self._queue.remove(place)
        del self._waiters[place]


async def _either(given: asyncio.Future[None], event: asyncio.Event) -> None:
    happened = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((given, happened), return_when=asyncio.FIRST_COMPLETED)
    finally:
        happened.cancel()


OVER_SHARE: Final = "too many reviews of its namespace wait for registries, while others wait, too"
"""The reason for a review whose namespace used its share."""


class TooManyWaiting(Exception):
    """A review must not wait for registries. ``over_share`` is set if its namespace used its share."""

    def __init__(self, reason: str, *, over_share: bool) -> None:
        super().__init__(reason)
        self.over_share = over_share


class WaitingReviews:
    """The reviews that wait for registries, and the share of each namespace.

    The share of a namespace is a quarter of the places. While reviews of other namespaces wait, it gets no
    more. When all places are taken, a namespace below its share gets the latest place of the namespace with
    the most places, if that one is above its share.
    """

    def __init__(self) -> None:
        self._scopes: dict[str, list[asyncio.Timeout]] = {}
        self._count = 0

    @contextmanager
    def place(self, namespace: str, scope: asyncio.Timeout, most: int) -> Iterator[None]:
        """Hold one of ``most`` places. Raises ``TooManyWaiting``.

        ``scope`` expires when another review takes the place.
        """
        own = len(self._scopes.get(namespace, ()))
        others = self._count - own
        share = most // 4
        if own >= share and others:
            raise TooManyWaiting(OVER_SHARE, over_share=True)
        if self._count >= most and not (others and self._displace(share)):
            raise TooManyWaiting(f"more than {most} reviews wait for registries", over_share=False)
        self._scopes.setdefault(namespace, []).append(scope)
        self._count += 1
        try:
            yield
        finally:
            self._remove(namespace, scope)

    def _displace(self, share: int) -> bool:
        """Take a place from the namespace with the most places, if it is above its share; return whether."""
        namespace = max(self._scopes, key=lambda each: len(self._scopes[each]))
        if len(self._scopes[namespace]) <= share:
            return False
        scope = self._scopes[namespace][-1]
        self._remove(namespace, scope)
        scope.reschedule(asyncio.get_running_loop().time())
        return True

    def _remove(self, namespace: str, scope: asyncio.Timeout) -> None:
        scopes = self._scopes.get(namespace, [])
        if scope in scopes:
            scopes.remove(scope)
            self._count -= 1
            if not scopes:
                del self._scopes[namespace]
