"""Share a registry, and the places of those that wait for registries, between peers and their namespaces."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Generic, NamedTuple, TypeVar

from gatekeeper_py.process.shares import NOBODY, Share, Shares

MAX_CONNECTIONS: Final = 20
"""Maximum number of connections to one host. A repository gets at most 10, a namespace 15 and a peer 18. The
rate limits the requests; this constant limits the sockets. There is no common limit, because a
host that hangs would use up the connections of all others."""

MAX_REMEMBERED: Final = 1000
"""Maximum number of peers, of namespaces of each, and of repositories of each of these, without a waiting
look-up whose last round is remembered. A forgotten one is treated like a new one."""

MAX_JOINED: Final = 100
"""Maximum number of namespaces that are considered for one look-up, in addition to one of each peer."""


class Claim:
    """A look-up that waits for its next request.

    The look-ups that a review waits for (``urgent``) come first. Within a repository, the look-up with the
    lower ``number``, which is older, comes first. ``share`` is that of the review.
    """

    def __init__(
        self, number: int = 0, *, urgent: bool = True, share: Share = NOBODY, repository: str = ""
    ) -> None:
        self.number = number
        self.share = share
        self.repository = repository
        self.is_reserved = False
        """Whether the look-up may start even if too many requests are under way."""
        self.shares = {share} if urgent else set[Share]()
        """The shares of the reviews that wait for the look-up; empty if it is not urgent."""
        self.hurried = asyncio.Event()
        """Set when a review has joined the look-up, which may improve its place."""

    @property
    def urgent(self) -> bool:
        return bool(self.shares)

    def hurry(self, share: Share = NOBODY) -> None:
        """Record that a review of a share now waits for the result, too."""
        if share not in self.shares and (
            len(self.shares) < MAX_JOINED or all(each.peer != share.peer for each in self.shares)
        ):
            self.shares.add(share)
            self.hurried.set()


class Place(NamedTuple):
    """The place of a look-up in a queue. ``peer`` is ``None`` if no review waits for it."""

    peer: str | None
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


PartT = TypeVar("PartT", bound="_Rounds[Any] | _Numbers")


class _Rounds(Generic[PartT]):
    """The look-ups of several shares, which take turns. A place names the share, and then the place in it.

    Turns come in rounds. In each round, every share with a look-up gets one turn, so a share with a thousand
    look-ups delays one with a single look-up by one turn. ``part`` makes a share.
    """

    def __init__(self, part: Callable[[], PartT]) -> None:
        self._part = part
        self._round = 0
        self._next: dict[str | None, int] = {}
        """Share -> the first round in which it may have another turn."""
        self.shares: dict[str | None, PartT] = {}
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
        ahead, is_earlier = self.within(place), True
        turn = self._first_round(place[0]) + ahead
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

    def _first_round(self, name: str | None) -> int:
        return max(self._round, self._next.get(name, 0))


class FairQueue:
    """Look-ups in the order of their turns: peers take turns, in each peer its namespaces, and so on.

    So a stranger who invents namespaces delays no look-up of another peer, and whoever can push to one
    repository delays no look-up in another. Look-ups that no review waits for come last.
    """

    def __init__(self) -> None:
        self._urgent = _Rounds(lambda: _Rounds(lambda: _Rounds(_Numbers)))
        self._spare = _Numbers()
        """The look-ups that no review waits for."""
        self._contended = False
        """Whether several namespaces have waited at the same time since the queue was empty."""

    def __bool__(self) -> bool:
        return bool(self._urgent or self._spare)

    def add(self, claim: Claim, may_be: Callable[[Place], bool] = lambda _place: True) -> Place:
        """Add a look-up, at the place of the share whose turn comes first of those that wait for it.

        A place that ``may_be`` accepts is better.
        """
        claim.hurried.clear()
        places = [Place(*each, claim.repository, claim.number) for each in claim.shares]
        places = list(filter(may_be, places)) or places
        place = min(places, key=self._urgent.round_of, default=Place(None, None, "", claim.number))
        self._part_of(place).add(place)
        if place.peer is not None:
            self._contended = self._contended or len(self._namespace(place)) < len(self._urgent)
        return place

    def remove(self, place: Place, *, has_turn: bool = False) -> None:
        """Remove a look-up, which takes its turn if ``has_turn`` is set."""
        self._part_of(place).remove(place, has_turn=has_turn)
        self._contended = self._contended and bool(self._urgent)

    def ahead(self, place: Place) -> int:
        """Return the number of look-ups whose turns come before that of a look-up in the queue."""
        return (len(self._urgent) if place.peer is None else 0) + self._part_of(place).ahead(place)

    def first(self, may_be: Callable[[Place], bool] = lambda _place: True) -> Place | None:
        """Return the place whose turn is next, of those that ``may_be`` accepts, if there is one."""
        if self._urgent:
            return self._urgent.first(may_be)
        return self._spare.first(may_be, None, None, "") if self._spare else None

    def is_over_share(self, place: Place) -> bool:
        """Return whether a look-up waits for others of its namespace, while or after others wait."""
        return place.peer is not None and self._contended and self._namespace(place).ahead(place[2:]) > 0

    def _namespace(self, place: Place) -> _Rounds[_Numbers]:
        return self._urgent.shares[place.peer].shares[place.namespace]

    def _part_of(self, place: Place) -> _Rounds[Any] | _Numbers:
        return self._spare if place.peer is None else self._urgent


_LEVELS: Final = (1, 2, 3)
"""The lengths of the beginnings of a ``Place`` that name a peer, a namespace and a repository."""


class FairSlots:
    """Limits what is in progress with slots, which peers, their namespaces and repositories get in turn.

    Some slots are ``reserved`` for namespaces that hold none, and as many for repositories that hold none.
    Half of those for namespaces are for peers that hold none. Otherwise, a few of them could hold all slots
    for a long time, and others would wait until one is free.
    """

    def __init__(self, count: int, *, reserved: int = 0) -> None:
        self._free = count
        self._reserved = reserved
        self._held = Counter[Sequence[Any]]()
        """The slots of each peer, namespace and repository, without those that no review waits for."""
        self._queue = FairQueue()
        self._waiters: dict[Place, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def slot(self, claim: Claim) -> AsyncIterator[None]:
        """Wait until one of the slots is free, and hold it."""
        peer = claim.share.peer if claim.urgent else None
        place = Place(peer, claim.share.namespace, claim.repository, claim.number)
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
            place = self._queue.add(claim, self._may_have)
            given = self._waiters[place] = asyncio.get_running_loop().create_future()
            self._give_slots()
            try:
                await _either(given, claim.hurried)
            except asyncio.CancelledError:
                if given.done():
                    self._release_slot(place)
                else:
                    self._forget_waiter(place)
                raise
            if given.done():
                return place
            self._forget_waiter(place)  # a review waits for it now, so it gets another place

    def _may_have(self, place: Place) -> bool:
        """Return whether enough slots are free for those who hold none."""
        if place.peer is None:
            return self._free > 2 * self._reserved
        holding = sum(self._held[place[:length]] > 0 for length in _LEVELS)
        return self._free > (0, self._reserved // 2, self._reserved, 2 * self._reserved)[holding]

    def _hold(self, place: Place, count: int) -> None:
        self._free -= count
        if place.peer is not None:
            self._held.update({place[:length]: count for length in _LEVELS})
            self._held = +self._held  # without those that hold none

    def _release_slot(self, place: Place) -> None:
        self._hold(place, -1)
        self._give_slots()

    def _give_slots(self) -> None:
        """Give the free slots to the waiting look-ups whose turns are next."""
        while self._free and (place := self._queue.first(self._may_have)) is not None:
            given = self._waiters[place]
            self._forget_waiter(place, has_turn=True)
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


OVER_SHARE: Final = "too many reviews of its address or namespace wait for registries, while others wait, too"
"""The reason for a review whose share of the places is used."""


class TooManyWaiting(Exception):
    """Nothing more of a share must wait for registries. ``over_share`` is set if others need their share."""

    def __init__(self, reason: str, *, over_share: bool) -> None:
        super().__init__(reason)
        self.over_share = over_share


class Places:
    """A limit of ``most`` reviews, or workloads, that wait for registries at the same time.

    While others wait, a namespace of a peer gets at most a quarter of the places. When all are taken, a peer
    that has fewer than another gets the latest place of the largest namespace of the peer with the most. A
    namespace gets one in the same way from a larger namespace of its own peer.
    """

    def __init__(self) -> None:
        self._held = Shares()
        self._scopes: defaultdict[Share, list[asyncio.Timeout]] = defaultdict(list)
        self._count = 0

    @contextmanager
    def place(self, share: Share, scope: asyncio.Timeout, most: int) -> Iterator[None]:
        """Hold one of ``most`` places. Raises ``TooManyWaiting``.

        ``scope`` expires when somebody else takes the place.
        """
        share = self._held.of(*share)
        _, own = self._held.used(share)
        if own >= most // 4 and own < self._count:
            raise TooManyWaiting(OVER_SHARE, over_share=True)
        if self._count >= most and not (self._count and self._displace(share)):
            raise TooManyWaiting(f"more than {most} reviews wait for registries", over_share=False)
        self._scopes[share].append(scope)
        self._add(share, 1)
        try:
            yield
        finally:
            self._remove(share, scope)

    def _displace(self, share: Share) -> bool:
        """Take a place from a larger peer, or else from a larger namespace of the peer; return whether."""
        of_peer, own = self._held.used(share)
        largest = self._held.largest()
        # More than one less: otherwise, two equal peers would take places from each other all the time.
        if of_peer + 1 >= self._held.used(largest)[0]:
            largest = self._held.largest(share.peer) if of_peer else largest
            if own + 1 >= self._held.used(largest)[1]:
                return False
        scope = self._scopes[largest][-1]
        self._remove(largest, scope)
        scope.reschedule(asyncio.get_running_loop().time())
        return True

    def _remove(self, share: Share, scope: asyncio.Timeout) -> None:
        if scope in self._scopes.get(share, ()):
            self._scopes[share].remove(scope)
            if not self._scopes[share]:
                del self._scopes[share]
            self._add(share, -1)

    def _add(self, share: Share, count: int) -> None:
        self._count += count
        self._held.add(share, count)
