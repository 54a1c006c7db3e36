"""Share the look-ups in a registry, and the reviews that wait for them, between namespaces.

Within a namespace, repositories share the look-ups.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple

from gatekeeper_py.runtime.shares import Share, Shares

MAX_REMEMBERED: Final = 1000
"""Maximum number of namespaces without a waiting look-up whose last round is remembered, and the same for the
repositories of each namespace. A forgotten one is treated like a new one."""

MAX_JOINED: Final = 100
"""Maximum number of namespaces that are considered for one look-up."""


class Claim:
    """A look-up that waits for its next request.

    The look-ups that a review waits for (``urgent``) come first. Within a repository, the look-up with the
    lower ``number``, which is older, comes first. ``namespace`` is that of the review.
    """

    def __init__(
        self, number: int = 0, *, urgent: bool = True, namespace: str = "", repository: str = ""
    ) -> None:
        self.number = number
        self.namespace = namespace
        self.repository = repository
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
    repository: str
    number: int


class _Numbers:
    """The numbers of the look-ups of one share, in order."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, place: Sequence[Any]) -> None:
        insort(self._numbers, place[-1])

    def remove(self, place: Sequence[Any], *, has_turn: bool) -> None:  # noqa: ARG002 - as in `_Rounds`
        del self._numbers[bisect_left(self._numbers, place[-1])]

    def ahead(self, place: Sequence[Any]) -> int:
        return bisect_left(self._numbers, place[-1])

    def first(self, may_be: Callable[[Place], bool], *share: Any) -> Place | None:
        place = Place._make((*share, self._numbers[0]))
        return place if may_be(place) else None


class _Rounds:
    """The look-ups of several shares, which take turns. A place names the share first, then the place in it.

    Turns come in rounds. In each round, every share with a look-up gets one turn, so a share with a thousand
    look-ups delays one with a single look-up by one turn. ``part`` returns a new, empty share.
    """

    def __init__(self, part: Callable[[], _Rounds | _Numbers]) -> None:
        self._part = part
        self._round = 0
        self._next: dict[str, int] = {}
        """Share -> the first round in which it may have another turn."""
        self.shares: dict[str, _Rounds | _Numbers] = {}
        """The shares with a look-up. In one round, they have their turns in this order."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, place: Sequence[Any]) -> None:
        name, *rest = place
        self.shares.setdefault(name, self._part()).add(rest)
        self._count += 1

    def remove(self, place: Sequence[Any], *, has_turn: bool) -> None:
        name, *rest = place
        if has_turn:
            self._round = self._first_round(name)
            self._next[name] = self._round + 1
            if len(self._next) > MAX_REMEMBERED + len(self.shares):
                self._next = {each: self._next[each] for each in self.shares if each in self._next}
        self.shares[name].remove(rest, has_turn=has_turn)
        self._count -= 1
        if not self.shares[name]:
            del self.shares[name]
        if not self.shares:
            self._next.clear()
            self._round = 0

    def within(self, place: Sequence[Any]) -> int:
        """Return how many look-ups of the same share come before this place."""
        name, *rest = place
        return self.shares[name].ahead(rest) if name in self.shares else 0

    def round_of(self, place: Sequence[Any]) -> int:
        return self._first_round(place[0]) + self.within(place)

    def ahead(self, place: Sequence[Any]) -> int:
        ahead, turn, is_earlier = self.within(place), self.round_of(place), True
        for name, part in self.shares.items():
            if name == place[0]:
                is_earlier = False
            else:
                ahead += min(max(turn - self._first_round(name) + is_earlier, 0), len(part))
        return ahead

    def first(self, may_be: Callable[[Place], bool], *share: Any) -> Place | None:
        found: tuple[int, Place] | None = None
        for name, part in self.shares.items():
            turn = self._first_round(name)
            if found is None or turn < found[0]:
                place = part.first(may_be, *share, name)
                found = found if place is None else (turn, place)
        return None if found is None else found[1]

    def _first_round(self, name: str) -> int:
        return max(self._round, self._next.get(name, 0))


class FairQueue:
    """Look-ups in the order of their turns: namespaces take turns, and in each namespace its repositories.

    So somebody who can push to one repository cannot delay look-ups in another. Look-ups that no review waits
    for come last.
    """

    def __init__(self) -> None:
        self._urgent = _Rounds(lambda: _Rounds(_Numbers))
        self._spare = _Numbers()
        """The look-ups that no review waits for."""
        self._contended = False
        """Whether several namespaces have waited at the same time since the queue was empty."""

    def __bool__(self) -> bool:
        return bool(self._urgent or self._spare)

    def add(self, claim: Claim) -> Place:
        """Add a look-up, at the place of the namespace whose turn comes first of those that wait for it."""
        claim.hurried.clear()
        places = (Place(each, claim.repository, claim.number) for each in claim.namespaces)
        place = min(places, key=self._urgent.round_of, default=Place(None, "", claim.number))
        self._part_of(place).add(place)
        self._contended = self._contended or len(self._urgent.shares) > 1
        return place

    def remove(self, place: Place, *, has_turn: bool = False) -> None:
        """Remove a look-up, which takes its turn if ``has_turn`` is set."""
        self._part_of(place).remove(place, has_turn=has_turn)
        self._contended = self._contended and bool(self._urgent)

    def ahead(self, place: Place) -> int:
        """Return the number of look-ups whose turns come before that of a look-up in the queue."""
        return (len(self._urgent) if place.namespace is None else 0) + self._part_of(place).ahead(place)

    def first(self, may_be: Callable[[Place], bool] = lambda _place: True) -> Place | None:
        """Return the next place that ``may_be`` accepts, ``None`` if there is none."""
        if self._urgent:
            return self._urgent.first(may_be)
        return self._spare.first(may_be, None, "") if self._spare else None

    def is_over_share(self, place: Place) -> bool:
        """Return whether a look-up waits for others of its namespace, while or after others wait."""
        return place.namespace is not None and self._contended and self._urgent.within(place) > 0

    def _part_of(self, place: Place) -> _Rounds | _Numbers:
        return self._spare if place.namespace is None else self._urgent


class FairSlots:
    """Limits what is in progress with numbered slots, which namespaces and their repositories get in turn.

    ``reserved`` slots are for namespaces that hold none, and the same number for repositories that hold none.
    Otherwise, a few namespaces or repositories could hold all slots for a long time.
    """

    def __init__(self, count: int, *, reserved: int = 0) -> None:
        self._free = count
        self._reserved = reserved
        self._held = Shares()
        """The slots that the repositories of each namespace hold. Look-ups without a waiting review do not
        count."""
        self._queue = FairQueue()
        self._waiters: dict[Place, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def slot(self, claim: Claim) -> AsyncIterator[None]:
        """Wait until one of the slots is free, and hold it."""
        place = Place(claim.namespace if claim.urgent else None, claim.repository, claim.number)
        if self._may_have(place):
            self._hold(place, 1)
        else:
            place = await self._wait_for_slot(claim)
        try:
            yield
        finally:
            self._release_slot(place)

    async def _wait_for_slot(self, claim: Claim) -> Place:
        """Wait for a slot, and return the place that got it."""
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
                    self._release_slot(place)
                raise
            if given.done():
                return place
            self._forget_waiter(place)  # a review waits for it now, so it gets another place

    def _may_have(self, place: Place) -> bool:
        """Return whether a look-up may have a free slot: the reserved slots must stay free for others."""
        if place.namespace is None:
            return self._free > 2 * self._reserved
        of_namespace, of_repository = self._held.used(Share(place.namespace, place.repository))
        return self._free > self._reserved * ((of_namespace > 0) + (of_repository > 0))

    def _hold(self, place: Place, count: int) -> None:
        self._free -= count
        if place.namespace is not None:
            self._held.add(Share(place.namespace, place.repository), count)

    def _release_slot(self, place: Place) -> None:
        self._hold(place, -1)
        self._give_slots()

    def _give_slots(self) -> None:
        """Give the free slots to the waiting look-ups whose turns are next."""
        while self._free and (place := self._queue.first(self._may_have)) is not None:
            given = self._waiters[place]
            is_waiting = not given.cancelled()  # it may have been cancelled in this turn of the event loop
            self._forget_waiter(place, has_turn=is_waiting)
            if is_waiting:
                self._hold(place, 1)
                given.set_result(None)

    def _forget_waiter(self, place: Place, *, has_turn: bool = False) -> None:
        self._queue.remove(place, has_turn=has_turn)
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
