"""The images that this replica admitted in the last 24 hours, for the policy guard.

A review whose images were all noted in this hour costs only one comparison of sets. Each image is noted again
at its first review in an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from gatekeeper_py.core.images.reference import InvalidReference, parse_reference
from gatekeeper_py.core.policy.radius import Admitted, effect
from gatekeeper_py.live import MAX_CACHED_LENGTH, Snapshot
from gatekeeper_py.runtime.slices import Steps

HOUR: Final = 3600.0
KEPT_SECONDS: Final = 25 * HOUR
"""An image is noted once an hour, so its last review may be up to an hour later than its note."""

LEAST_BYTES: Final = 128
"""An image counts for this many bytes, or for the length of its name and namespace if that is longer."""

MAX_IMAGES: Final = 16_384
MAX_BYTES: Final = MAX_IMAGES * LEAST_BYTES
"""Limit of the images of all peers. They take 5 MiB, and a check sends 2 MiB to the child process."""

MAX_PEERS: Final = 64
"""Maximum number of peers with a group of their own. The other peers share one group."""

OTHER_PEERS: Final = "other"

_Key = str | tuple[str | None, str]
"""The image. With its namespace if the policy's decision depended on the namespace."""


@dataclass(slots=True)
class _Group:
    """The images of one peer, the oldest first, with namespace and time; ``fresh`` are those of this hour.

    ``size`` is the number of bytes that they count for.
    """

    # Finding the first key of a plain dict is slow after many first keys were removed.
    noted: OrderedDict[_Key, tuple[str | None, str, float]] = field(default_factory=OrderedDict)
    fresh: set[_Key] = field(default_factory=set)
    size: int = 0


class RecentImages:
    """Remembers admitted images by the peer that sent their reviews.

    When memory is full, the peer with the most bytes loses its oldest image. So a peer that sends forged
    reviews cannot push out the images of another that has fewer bytes.
    """

    def __init__(self, *, most_bytes: int = MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self._groups: dict[str, _Group] = {}
        self._size = 0
        self._hour_ends = float("-inf")

    def note(
        self, peer: str | None, snapshot: Snapshot, namespace: str | None, images: Sequence[str], now: float
    ) -> None:
        """Note the images of an admitted review. ``now`` is on ``time.perf_counter``.

        ``peer`` is the key of the peer that sent the review.
        """
        keys: Sequence[_Key] = images
        if snapshot.by_namespace:
            keys = [(namespace, image) for image in images]
        if now < self._hour_ends:
            group = self._groups.get(peer or OTHER_PEERS)
            if group is not None and group.fresh.issuperset(keys):
                return
        else:
            self._begin_hour(now)
        self._add(peer or OTHER_PEERS, namespace, images, keys, now)

    def admitted(self, snapshot: Snapshot, now: float) -> Steps[tuple[tuple[Admitted, ...], ...]]:
        """Return the images of each peer, with what the live policy does with them. Runs in steps.

        Images that an exception approves are left out, because the new policy is judged without exceptions.
        """
        if now >= self._hour_ends:
            self._begin_hour(now)
        groups = []
        for noted in [list(group.noted.values()) for group in self._groups.values()]:
            group = []
            for namespace, image, _ in noted:
                if snapshot.decide(namespace, image).exception is None:
                    group.append(Admitted(namespace, image, effect(snapshot, namespace, image)))
                yield
            groups.append(tuple(group))
        return tuple(groups)

    def _begin_hour(self, now: float) -> None:
        """Forget images that were not noted for long, and let the others be noted again."""
        self._hour_ends = now + HOUR
        for peer, group in list(self._groups.items()):
            group.fresh.clear()
            for key in _expired(group, now - KEPT_SECONDS):
                self._drop(group, key)
            if not group.noted:
                del self._groups[peer]

    def _add(
        self, peer: str, namespace: str | None, images: Sequence[str], keys: Sequence[_Key], now: float
    ) -> None:
        if peer not in self._groups and len(self._groups) >= MAX_PEERS:
            peer = OTHER_PEERS
        group = self._groups.setdefault(peer, _Group())
        for key, image in zip(keys, images, strict=True):
            # The limit of the cache. A longer namespace cannot exist.
            length = _length(namespace, image)
            if (
                key in group.fresh
                or length > MAX_CACHED_LENGTH
                or not (namespace or "").isascii()
                or not _can_be_pulled(image)
            ):
                continue
            if key in group.noted:
                self._drop(group, key)
            group.noted[key] = namespace, image, now
            group.fresh.add(key)
            group.size += max(length, LEAST_BYTES)
            self._size += max(length, LEAST_BYTES)
            while self._size > self._most_bytes:
                largest = max(self._groups.values(), key=attrgetter("size"))
                self._drop(largest, next(iter(largest.noted)))

    def _drop(self, group: _Group, key: _Key) -> None:
        namespace, image, _ = group.noted.pop(key)
        group.fresh.discard(key)
        size = max(_length(namespace, image), LEAST_BYTES)
        group.size -= size
        self._size -= size


def _can_be_pulled(image: str) -> bool:
    """Return whether a text is an image in a registry that can exist.

    The domain ``invalid`` never exists (RFC 2606). Each probe Pod of the controller has another image there.
    """
    try:
        host = parse_reference(image).registry
    except InvalidReference:
        return False
    return not host.lower().partition(":")[0].endswith(".invalid")


def _length(namespace: str | None, image: str) -> int:
    return len(image) + len(namespace or "")


def _expired(group: _Group, before: float) -> list[_Key]:
    """Return the images noted before a time. The oldest come first, so no others are looked at."""
    expired: list[_Key] = []
    for key, (_, _, at) in group.noted.items():
        if at >= before:
            break
        expired.append(key)
    return expired
