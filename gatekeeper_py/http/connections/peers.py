"""Peers: the addresses that connections come from, and the credit that each earned with good requests."""

from __future__ import annotations

import heapq
import socket
from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from operator import attrgetter
from typing import Final, Protocol

MAX_CREDIT: Final = 1024
"""Maximum number of a peer's good requests that count. Without this bound, a stranger could send a million
good reviews from one address and then hold every connection. Peers that have all reached the bound share the
connections equally. A peer reaches it with one review a second over 30 minutes, although credit is halved
every 10 minutes. Every API server in use reaches it."""

CREDIT_HALF_LIFE_SECONDS: Final = 600.0
"""After this time a good request counts half. An API server that is quiet over lunch stays known."""

MAX_REMEMBERED: Final = 4096
"""Maximum number of peers without a connection whose credit is kept (200 bytes each). Beyond it the half with
the least credit is forgotten, so strangers cannot push out an API server by sending one review each."""


class Activity(IntEnum):
    """What a connection is doing. Eviction depends on it."""

    SILENT = 0
    """No byte has arrived."""
    NEW = 1
    """Some bytes have arrived, but no good request."""
    WAITING = 2
    """The connection has carried a good request. Now it waits for the peer to send the rest of the next
    request, or to read an answer."""
    IDLE = 3
    """The connection has carried a good request, and no request is pending."""
    BUSY = 4
    """A complete request is being answered, and the connection has carried a good request, or no bad one.
    Such a connection is never evicted."""
    CLOSING = 5
    """The server has closed its side and waits for the peer to close, too."""


class Member(Protocol):
    """A connection. ``since`` is when its activity began, in seconds on the event loop's clock."""

    peer: Peer
    activity: Activity
    since: float


class Peer:
    """One address with its credit, and its open connections by activity, oldest first."""

    __slots__ = ("connections", "key", "members", "ranked", "reviews", "serial")

    def __init__(self, key: str, serial: int) -> None:
        self.key = key
        self.serial = serial
        self.reviews = 0
        self.connections = 0
        self.members: tuple[OrderedDict[Member, None], ...] = tuple(OrderedDict() for _ in Activity)
        self.ranked: list[tuple[float, float] | None] = [None] * len(Activity)

    def burden(self, more: int = 0) -> float:
        """Return the ratio of its connections to its good requests plus one.

        A stranger with one connection that sent nothing has a burden of 1. An API server has far less:
        it has 25 idle connections for a thousand reviews. ``more`` is added to the number of connections.
        """
        return (self.connections + more) / (1 + min(self.reviews, MAX_CREDIT))

    def oldest(self, activity: Activity) -> Member | None:
        """Return the connection that has had this activity for longest."""
        return next(iter(self.members[activity]), None)


class Peers:
    """Every peer that has a connection or credit."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._absent = 0
        self._serial = 0

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def find(self, host: str) -> Peer:
        """Return the peer of an address. A new peer is stored only when it connects."""
        key = peer_key(host)
        peer = self._peers.get(key)
        if peer is None:
            self._serial += 1
            peer = Peer(key, self._serial)
        return peer

    def connected(self, peer: Peer) -> None:
        """Count one more connection of a peer."""
        if not peer.connections:
            if peer.key in self._peers:
                self._absent -= 1
            self._peers[peer.key] = peer
        peer.connections += 1

    def disconnected(self, peer: Peer) -> None:
        """Count one connection less. Forget the peer if it has no connections and no credit left."""
        peer.connections -= 1
        if peer.connections:
            return
        if not peer.reviews:
            del self._peers[peer.key]
            return
        self._absent += 1
        if self._absent > MAX_REMEMBERED:
            self._forget_half()

    def halve_credit(self) -> None:
        """Halve the credit of every peer, and forget absent peers that have none left."""
        for peer in list(self._peers.values()):
            peer.reviews >>= 1
            if not peer.reviews and not peer.connections:
                self._forget(peer)

    def _forget_half(self) -> None:
        absent = [peer for peer in self._peers.values() if not peer.connections]
        for peer in heapq.nsmallest(len(absent) // 2, absent, key=attrgetter("reviews")):
            self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        del self._peers[peer.key]
        self._absent -= 1


def peer_key(host: str) -> str:
    """Return the key of the peer that connections from ``host`` belong to.

    For IPv4 the key is the address, even if a socket of both families shows it as ``::ffff:192.0.2.1``. For
    IPv6 the key is the /64 prefix, because a host can choose any address in its /64. Pods of one node often
    share a /64, and so do API servers on one network of nodes. Behind a Service of type NodePort, or a
    kube-proxy that masquerades, every caller may even have the address of one node. Sharing a peer is not a
    disadvantage by itself: within a peer, connections are still evicted by what they carried and by how long
    they have been idle.
    """
    if ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


_MAPPED: Final = bytes(10) + b"\xff\xff"
