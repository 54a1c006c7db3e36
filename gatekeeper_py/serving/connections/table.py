"""The table of open connections, and the choice of the one that makes room for a new one.

When all connections are taken, the new one still gets in, and the worst one is closed. Which one is the
worst is decided by the peer first, because connections are cheap to open and addresses are not:

1. The worst peer has the most connections for each good request that it sent (``Peer.burden``).
   Anybody can send a good review, so one review buys little: an API server has sent hundreds for each of
   its connections. A connection that never carried a good request therefore goes first, unless its peer
   is known to be good.
2. Of one peer, a connection that never carried a good request goes first, then one that waits for its peer
   for too long, then the one that has been idle for longest.

Two exceptions protect new connections and requests in progress. A quarter of the connections is reserved for
those that have not had the time to send a request yet (``NEWCOMERS``). A request that is still arriving is
safe for ``PATIENCE_SECONDS``. A request that is complete is never interrupted.

Every step takes constant or logarithmic time: thousands of connections may be dialled a second.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from gatekeeper_py.serving.connections.peers import Member, Peer, Peers, Standing

NEWCOMERS: Final = 4
"""One connection in this many is for those that have not carried a good request and are younger than
``GRACE_SECONDS``. They only push out each other when there are more of them."""

GRACE_SECONDS: Final = 1.0
"""Time for the handshake and the first request. An API server needs some milliseconds for both."""

PATIENCE_SECONDS: Final = 0.25
"""How long the rest of a request, or the reading of an answer, may take while others wait for a connection.
Otherwise 500 strangers that each send half a body would lock out everybody for the 2 s that a body may take.
API servers send a request at once. TCP sends a lost packet again after 200 ms."""

CROWD: Final = 8
"""A peer that holds one connection in this many never evicts those of a better, well-known peer, even if none
of its own can make room because each has a request in progress."""

WELL_KNOWN: Final = 0.25
"""Largest burden of a well-known peer: it sent four good requests for each connection."""

_NEWCOMERS: Final = (Standing.SILENT, Standing.NEW)
_CANDIDATES: Final = (*_NEWCOMERS, Standing.WAITING, Standing.IDLE)


class Table:
    """Open connections. ``capacity`` is how many there may be."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.peers = Peers()
        self._count = 0
        self._counts = [0] * len(Standing)
        self._closing: OrderedDict[Member, None] = OrderedDict()
        self._rankings = tuple(_Ranking(standing) for standing in _CANDIDATES)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Member]:
        for peer in self.peers:
            for members in peer.members:
                yield from members

    @property
    def is_full(self) -> bool:
        return self._count >= self.capacity

    def add(self, member: Member) -> None:
        """Enter a connection, as ``SILENT``."""
        peer = member.peer
        self.peers.connected(peer)
        self._count += 1
        self._counts[Standing.SILENT] += 1
        peer.members[Standing.SILENT][member] = None
        for ranking in self._rankings:
            ranking.worsened(peer, len(self.peers))

    def remove(self, member: Member) -> None:
        """Forget a connection. Nothing happens if it was removed before."""
        peer = member.peer
        members = peer.members[member.standing]
        if member not in members:
            return
        del members[member]
        self._count -= 1
        self._counts[member.standing] -= 1
        self._closing.pop(member, None)
        self.peers.disconnected(peer)

    def good(self, member: Member, now: float) -> None:
        """Note a good request that was just answered on a connection."""
        peer = member.peer
        peer.reviews += 1
        if member.standing is Standing.IDLE:
            # Hot path: every review on an established connection.
            member.since = now
            peer.members[Standing.IDLE].move_to_end(member)
        else:
            self.move(member, Standing.IDLE, now)

    def move(self, member: Member, standing: Standing, now: float, *, first: bool = False) -> None:
        """Change what a connection is doing. ``first`` makes it the next of its peer to go."""
        peer = member.peer
        members = peer.members[member.standing]
        if member not in members:
            return
        del members[member]
        self._counts[member.standing] -= 1
        self._counts[standing] += 1
        self._closing.pop(member, None)
        member.standing = standing
        member.since = now
        peer.members[standing][member] = None
        if first:
            peer.members[standing].move_to_end(member, last=False)
        if standing is Standing.CLOSING:
            self._closing[member] = None
        if standing in _CANDIDATES:
            self._rankings[standing].worsened(peer, len(self.peers))

    def victim(self, newcomer: Peer, now: float) -> Member | None:
        """Choose the connection that makes room for one of ``newcomer``; ``None`` when there is none."""
        for closing in self._closing:
            return closing
        candidates = (
            self._newcomer(newcomer),
            self._candidate(Standing.WAITING, newcomer),
            self._candidate(Standing.IDLE, newcomer),
        )
        found = [member for member in candidates if member is not None]
        safe = [member for member in found if self._is_safe(member, now)]
        unsafe = [member for member in found if member not in safe]
        worst, spare = max(unsafe, key=_burden, default=None), max(safe, key=_burden, default=None)
        if worst is None or spare is None:
            return worst or spare
        # A young connection or one in progress goes before an idle one of a better, well-known peer.
        return spare if worst.peer.burden() < min(WELL_KNOWN, spare.peer.burden()) else worst

    def _candidate(self, standing: Standing, newcomer: Peer) -> Member | None:
        """Return the connection of one standing that is the next to go."""
        peer = self._rankings[standing].worst()
        if peer is not None and self._is_crowding(newcomer, peer):
            peer = newcomer
        return None if peer is None else peer.oldest(standing)

    def _newcomer(self, newcomer: Peer) -> Member | None:
        """Return the connection without a good request that is the next to go.

        If nothing else tells them apart, the connection is taken from the larger group: the silent ones, or
        those with some input. Otherwise the newest connection of all, on which nothing can have come yet,
        would go first.
        """
        silent, begun = (self._candidate(standing, newcomer) for standing in _NEWCOMERS)
        if silent is None or begun is None:
            return silent or begun
        if silent.peer is begun.peer:
            members = silent.peer.members
            is_crowd = len(members[Standing.SILENT]) >= len(members[Standing.NEW])
        elif max(_burden(silent), _burden(begun)) > 2 * min(_burden(silent), _burden(begun)):
            is_crowd = _burden(silent) > _burden(begun)
        else:
            is_crowd = self._counts[Standing.SILENT] >= self._counts[Standing.NEW]
        return silent if is_crowd else begun

    def halve_credit(self) -> None:
        """Let earlier good requests count half; to be called every ``CREDIT_HALF_LIFE_SECONDS``."""
        self.peers.halve_credit()
        for ranking in self._rankings:
            ranking.rebuild(self.peers)

    def _is_safe(self, member: Member, now: float) -> bool:
        age = now - member.since
        match member.standing:
            case Standing.SILENT | Standing.NEW:
                newcomers = sum(self._counts[each] for each in _NEWCOMERS)
                return age <= GRACE_SECONDS and newcomers * NEWCOMERS < self.capacity
            case Standing.WAITING:
                return age <= PATIENCE_SECONDS
            case _:
                return False

    def _is_crowding(self, newcomer: Peer, peer: Peer) -> bool:
        """Whether a peer with many connections would push out one of a well-known, better peer."""
        return (
            newcomer is not peer
            and newcomer.connections * CROWD >= self.capacity
            and peer.burden() < WELL_KNOWN
            and newcomer.burden(1) > peer.burden()
        )


def _burden(member: Member) -> float:
    return member.peer.burden()


class _Ranking:
    """Peers that have a connection of one standing, the worst first; among equals the oldest connection.

    A heap whose entries are checked when they come to the top. A peer's rank can become better at any time
    (it sent a good request, its oldest connection ended). Then its entry is out of date, and is corrected
    once it is at the top. When a peer's rank becomes worse, the caller must call ``worsened``.
    """

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self._heap: list[tuple[tuple[float, float], int, Peer]] = []

    def worsened(self, peer: Peer, peers: int) -> None:
        """Note that a peer may be worse than before. ``peers`` is the number of all peers."""
        place = self._place(peer)
        recorded = peer.ranked[self.standing]
        if place is None or (recorded is not None and recorded <= place):
            return
        if len(self._heap) > 4 * peers + 64:
            self.rebuild({entry[2] for entry in self._heap} | {peer})
            return
        peer.ranked[self.standing] = place
        heapq.heappush(self._heap, (place, peer.serial, peer))

    def worst(self) -> Peer | None:
        """Return the worst peer that has such a connection."""
        heap = self._heap
        while heap:
            place, serial, peer = heap[0]
            if peer.ranked[self.standing] != place:
                heapq.heappop(heap)  # it has a worse entry, which is still in the heap or was handled
                continue
            now = self._place(peer)
            if now == place:
                return peer
            peer.ranked[self.standing] = now
            if now is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (now, serial, peer))
        return None

    def rebuild(self, peers: Iterable[Peer]) -> None:
        """Start anew, in linear time."""
        self._heap = []
        for peer in peers:
            place = peer.ranked[self.standing] = self._place(peer)
            if place is not None:
                self._heap.append((place, peer.serial, peer))
        heapq.heapify(self._heap)

    def _place(self, peer: Peer) -> tuple[float, float] | None:
        """Where a peer belongs, the worst being the smallest; ``None`` without such a connection."""
        oldest = peer.oldest(self.standing)
        return None if oldest is None else (-peer.burden(), oldest.since)
