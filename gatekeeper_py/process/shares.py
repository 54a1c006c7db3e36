"""Count how much of a shared limit each peer uses, and each namespace within a peer.

All tenants of a cluster reach a server through the few addresses of its API servers. So a limit for each
address alone does not protect one tenant from another.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

MAX_PEERS: Final = 64
"""Maximum number of peers that are counted separately. All other peers count as one."""

MAX_NAMESPACES: Final = 1000
"""The same for the namespaces of each peer. It also limits the work of ``Shares.largest``."""

MAX_NAME_LENGTH: Final = 63
"""Maximum length of a namespace's name. Longer names in reviews are cut, so that they do not fill memory."""

OTHERS: Final = "other"
"""The name of all peers or namespaces beyond a limit, and of an unknown peer."""


class Share(NamedTuple):
    """A namespace of a peer. It is ``None`` for requests without a namespace."""

    peer: str
    namespace: str | None


NOBODY: Final = Share(OTHERS, None)
"""The share of what no request asked for, or a command."""


class Shares:
    """Counts what each share uses, in any unit: seconds, bytes, lines or entries."""

    def __init__(self) -> None:
        self._namespaces: dict[str, dict[str | None, float]] = {}
        """Peer -> namespace -> what it uses."""
        self._peers: defaultdict[str, float] = defaultdict(float)
        """Peer -> what all its namespaces use."""

    def of(self, peer: str | None, namespace: str | None) -> Share:
        """Return the share under which a namespace of a peer is counted."""
        if peer is None or (peer not in self._namespaces and len(self._namespaces) >= MAX_PEERS):
            peer = OTHERS
        name = namespace and namespace[:MAX_NAME_LENGTH]
        known = self._namespaces.get(peer, {})
        return Share(peer, OTHERS if name not in known and len(known) >= MAX_NAMESPACES else name)

    def add(self, share: Share, amount: float = 1) -> None:
        """Add an amount to what a share uses. A negative amount gives something back."""
        names = self._namespaces.setdefault(share.peer, {})
        used = names[share.namespace] = names.get(share.namespace, 0) + amount
        self._peers[share.peer] += amount
        if used <= 0:
            del names[share.namespace]
            if not names:
                del self._namespaces[share.peer], self._peers[share.peer]

    def used(self, share: Share) -> tuple[float, float]:
        """Return what the peer of a share uses, and what its namespace uses of that.

        If shares are sorted by these pairs, the one that used least comes first.
        """
        return self._peers.get(share.peer, 0), self._namespaces.get(share.peer, {}).get(share.namespace, 0)

    def largest(self, peer: str | None = None) -> Share:
        """Return the namespace that uses most, of a peer or else of the peer that uses most.

        Raises ``KeyError`` if the peer uses nothing, and ``ValueError`` if nobody uses anything.
        """
        if peer is None:
            peer = max(self._peers, key=self._peers.__getitem__)
        names = self._namespaces[peer]
        return Share(peer, max(names, key=names.__getitem__))

    def has_room(self, share: Share, most: float) -> bool:
        """Return whether a share uses less than its part of what its peer may use.

        The namespaces of a peer that use something have equal parts of ``most``. The parts get smaller with
        each further namespace, so n namespaces use at most ``most * (1 + 1/2 + ... + 1/n)``.
        """
        names = self._namespaces.get(share.peer, {})
        parts = len(names) + (share.namespace not in names)
        return names.get(share.namespace, 0) < most / parts

    def take(self, peer: str | None, namespace: str | None, most: float) -> bool:
        """Add 1 for a namespace if it has room, and return whether it had. Fast, for code that runs often."""
        peer = peer or OTHERS
        names = self._namespaces.get(peer)
        used = None if names is None else names.get(namespace)
        if names is not None and used is not None:
            if used >= most / len(names):
                return False
            names[namespace] = used + 1
            self._peers[peer] += 1
            return True
        share = self.of(peer, namespace)
        has_room = self.has_room(share, most)
        if has_room:
            self.add(share)
        return has_room

    def clear(self) -> None:
        """Set everything to zero."""
        self._namespaces.clear()
        self._peers.clear()
