"""The table of open connections, and the choice of the one that makes room for a new one.

When all connections are taken, a new one is still accepted, and the worst one is closed. The worst connection
is chosen by its peer first, because connections are cheap to open and addresses are not:

1. The worst peer has the most connections for each good request that it sent (``Peer.burden``). Anybody can
   send a good review, so one review has little weight: an API server has sent hundreds for each of its
   connections. A connection that never carried a good request is therefore closed first, unless its peer is
   known to be good.
2. Of one peer, a connection that never carried a good request is closed first, then one that waits for its
   peer for too long, then the one that has been idle for longest.

New connections and requests in progress are protected. A quarter of the connections is reserved for those
that have not had the time to send a request yet (``NEWCOMERS``). A request that is still arriving is safe for
``PATIENCE_SECONDS``. A complete request is never interrupted, unless its connection has carried only bad
requests before.

Every step takes constant or logarithmic time: thousands of connections may be dialled a second.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from gatekeeper_py.http.connections.peers import Activity, Member, Peer, Peers

NEWCOMERS: Final = 4
"""Connections that have not carried a good request are protected for ``GRACE_SECONDS``, as long as they are
fewer than one in this many of the maximum number of connections."""

GRACE_SECONDS: Final = 1.0
"""Time for the handshake and the first request. An API server needs some milliseconds for both."""

PATIENCE_SECONDS: Final = 0.25
"""How long the rest of a request, or the reading of an answer, may take while others wait for a connection.
Otherwise 500 strangers that each send half a body would lock out everybody for the 2 s that a body may take.
API servers send a request at once. TCP sends a lost packet again after 200 ms."""

CROWD: Final = 8
"""A peer that holds one connection in this many never evicts connections of a better, well-known peer. This
holds even if none of its own connections can be evicted because each has a request in progress."""

WELL_KNOWN: Final = 0.25
"""Largest burden of a well-known peer: it sent four good requests for each connection."""

_NEWCOMERS: Final = (Activity.SILENT, Activity.NEW)
_CANDIDATES: Final = (*_NEWCOMERS, Activity.WAITING, Activity.IDLE)


class Table:
    """The open connections. ``capacity`` is their maximum number."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.peers = Peers()
        self._count = 0
        self._counts = [0] * len(Activity)
        self._closing: OrderedDict[Member, None] = OrderedDict()
        self._rankings = tuple(_Ranking(activity) for activity in _CANDIDATES)

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
        """Add a connection, as ``SILENT``."""
        peer = member.peer
        self.peers.connected(peer)
        self._count += 1
        self._counts[Activity.SILENT] += 1
        peer.members[Activity.SILENT][member] = None
        for ranking in self._rankings:
            ranking.worsened(peer, len(self.peers))

    def remove(self, member: Member) -> None:
        """Forget a connection. Nothing happens if it was removed before."""
        peer = member.peer
        members = peer.members[member.activity]
        if member not in members:
            return
        del members[member]
        self._count -= 1
        self._counts[member.activity] -= 1
        self._closing.pop(member, None)
        self.peers.disconnected(peer)

    def good(self, member: Member, now: float) -> None:
        """Note a good request that was just answered on a connection."""
        peer = member.peer
        peer.reviews += 1
        if member.activity is Activity.IDLE:
            # Hot path: every review on an established connection.
            member.since = now
            peer.members[Activity.IDLE].move_to_end(member)
        else:
            self.move(member, Activity.IDLE, now)

    def move(self, member: Member, activity: Activity, now: float, *, first: bool = False) -> None:
        """Change the activity of a connection. With ``first``, it is the next of its peer to be evicted."""
        peer = member.peer
        members = peer.members[member.activity]
        if member not in members:
            return
        del members[member]
        self._counts[member.activity] -= 1
        self._counts[activity] += 1
        self._closing.pop(member, None)
        member.activity = activity
        member.since = now
        peer.members[activity][member] = None
        if first:
            peer.members[activity].move_to_end(member, last=False)
        if activity is Activity.CLOSING:
            self._closing[member] = None
        if activity in _CANDIDATES:
            self._rankings[activity].worsened(peer, len(self.peers))

    def victim(self, newcomer: Peer, now: float) -> Member | None:
        """Return the connection to evict for a new one of ``newcomer``, or ``None`` if there is none."""
        for closing in self._closing:
            return closing
        candidates = (
            self._newcomer(newcomer),
            self._candidate(Activity.WAITING, newcomer),
            self._candidate(Activity.IDLE, newcomer),
        )
        found = [member for member in candidates if member is not None]
        safe = [member for member in found if self._is_safe(member, now)]
        unsafe = [member for member in found if member not in safe]
        worst, spare = max(unsafe, key=_burden, default=None), max(safe, key=_burden, default=None)
        if worst is None or spare is None:
            return worst or spare
        # A young connection, or one with a request in progress, is evicted rather than a connection of a
        # better, well-known peer.
        return spare if worst.peer.burden() < min(WELL_KNOWN, spare.peer.burden()) else worst

    def _candidate(self, activity: Activity, newcomer: Peer) -> Member | None:
        """Return the connection with this activity that is the next to be evicted."""
        peer = self._rankings[activity].worst()
        if peer is not None and self._is_crowding(newcomer, peer):
            peer = newcomer
        return None if peer is None else peer.oldest(activity)

    def _newcomer(self, newcomer: Peer) -> Member | None:
        """Return the connection without a good request that is the next to be evicted.

        If their peers are about equally bad, the connection is taken from the larger group: the silent
        connections, or the connections with some input. Otherwise the newest connection of all, on which no
        input can have arrived yet, would be evicted first.
        """
        silent, begun = (self._candidate(activity, newcomer) for activity in _NEWCOMERS)
        if silent is None or begun is None:
            return silent or begun
        if silent.peer is begun.peer:
            members = silent.peer.members
            is_crowd = len(members[Activity.SILENT]) >= len(members[Activity.NEW])
        elif max(_burden(silent), _burden(begun)) > 2 * min(_burden(silent), _burden(begun)):
            is_crowd = _burden(silent) > _burden(begun)
        else:
            is_crowd = self._counts[Activity.SILENT] >= self._counts[Activity.NEW]
        return silent if is_crowd else begun

    def halve_credit(self) -> None:
        """Halve the credit of all peers. Call this every ``CREDIT_HALF_LIFE_SECONDS``."""
        self.peers.halve_credit()
        for ranking in self._rankings:
            ranking.rebuild(self.peers)

    def _is_safe(self, member: Member, now: float) -> bool:
        age = now - member.since
        match member.activity:
            case Activity.SILENT | Activity.NEW:
                newcomers = sum(self._counts[each] for each in _NEWCOMERS)
                return age <= GRACE_SECONDS and newcomers * NEWCOMERS < self.capacity
            case Activity.WAITING:
                return age <= PATIENCE_SECONDS
            case _:
                return False

    def _is_crowding(self, newcomer: Peer, peer: Peer) -> bool:
        """Whether ``newcomer`` has many connections and would evict one of a well-known, better peer."""
        return (
            newcomer is not peer
            and newcomer.connections * CROWD >= self.capacity
            and peer.burden() < WELL_KNOWN
            and newcomer.burden(1) > peer.burden()
        )


def _burden(member: Member) -> float:
    return member.peer.burden()


class _Ranking:
    """Peers that have a connection with one activity, the worst first.

    Of equally bad peers, the one with the oldest connection is first. The ranking is a heap with lazy
    corrections. A peer's rank can improve at any time, because the peer sent a good request or its oldest
    connection ended. The peer's entry is then out of date until it reaches the top, where it is corrected.
    When a peer's rank becomes worse, the caller must call ``worsened``.
    """

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self._heap: list[tuple[tuple[float, float], int, Peer]] = []

    def worsened(self, peer: Peer, peers: int) -> None:
        """Note that a peer may be worse than before. ``peers`` is the number of all peers."""
        rank = self._rank(peer)
        recorded = peer.ranked[self.activity]
        if rank is None or (recorded is not None and recorded <= rank):
            return
        if len(self._heap) > 4 * peers + 64:
            self.rebuild({entry[2] for entry in self._heap} | {peer})
            return
        peer.ranked[self.activity] = rank
        heapq.heappush(self._heap, (rank, peer.serial, peer))

    def worst(self) -> Peer | None:
        """Return the worst peer that has such a connection."""
        heap = self._heap
        while heap:
            rank, serial, peer = heap[0]
            if peer.ranked[self.activity] != rank:
                heapq.heappop(heap)  # out of date: a newer entry of this peer replaced it
                continue
            now = self._rank(peer)
            if now == rank:
                return peer
            peer.ranked[self.activity] = now
            if now is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (now, serial, peer))
        return None

    def rebuild(self, peers: Iterable[Peer]) -> None:
        """Build the heap again from these peers, in linear time."""
        self._heap = []
        for peer in peers:
            rank = peer.ranked[self.activity] = self._rank(peer)
            if rank is not None:
                self._heap.append((rank, peer.serial, peer))
        heapq.heapify(self._heap)

    def _rank(self, peer: Peer) -> tuple[float, float] | None:
        """Return the rank of a peer; the worst is the smallest. ``None`` if it has no such connection."""
        oldest = peer.oldest(self.activity)
        return None if oldest is None else (-peer.burden(), oldest.since)
