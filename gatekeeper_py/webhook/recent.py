"""The images that this replica admitted in the last 24 hours, for the policy guard.

A review whose images were all noted in this hour costs only one comparison of sets. Each image is noted again
at its first review in an hour.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gatekeeper_py.core.admission.radius import Admitted, impact
from gatekeeper_py.core.images.reference import InvalidReference, parse_reference
from gatekeeper_py.core.policy.cache import MAX_CACHED_LENGTH
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.process.shares import Share, Shares
from gatekeeper_py.process.slices import Steps

HOUR: Final = 3600.0
KEPT_SECONDS: Final = 25 * HOUR
"""An image is noted once an hour, so its last review may be up to an hour later than its note."""

LEAST_BYTES: Final = 128
"""An image counts for this many bytes, or for the length of its name and namespace if that is longer."""

MAX_IMAGES: Final = 16_384
MAX_BYTES: Final = MAX_IMAGES * LEAST_BYTES
"""Limit of the images of all peers. They take 5 MiB, and a check sends 2 MiB to the child process."""

MAX_OF_REVIEW: Final = 64
"""Maximum number of images of one review that are remembered. Few Pods have more, and finding room for one
takes up to 40 microseconds."""

_Key = tuple[str | None, str]
"""The namespace and the image."""


@dataclass(slots=True)
class _Group:
    """The images of one share with their times, the oldest first. ``fresh`` holds the images of this hour."""

    # Finding the first key of a plain dict is slow after many first keys were removed.
    noted: OrderedDict[_Key, float] = field(default_factory=OrderedDict)
    fresh: set[str] = field(default_factory=set)


class RecentImages:
    """Remembers admitted images by the peer that sent their reviews, and by namespace.

    When memory is full, the largest share loses its oldest image. So neither a peer that sends forged reviews
    nor a namespace whose Pods have invented images can displace the images of a smaller share.
    """

    def __init__(self, *, most_bytes: int = MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self._groups: dict[Share, _Group] = {}
        self._sizes = Shares()
        """The bytes that the images of each share count as."""
        self._size = 0
        self._hour_ends = float("-inf")

    def note(self, peer: str | None, namespace: str | None, images: Sequence[str], now: float) -> None:
        """Note the images of an admitted review. ``now`` is on ``time.perf_counter``.

        ``peer`` is the key of the peer that sent the review.
        """
        if now < self._hour_ends:
            # This tuple equals the key of the share, except for peers and namespaces beyond the limits.
            group = self._groups.get((peer, namespace))  # type: ignore[call-overload]
            if group is not None and group.fresh.issuperset(images):
                return
        else:
            self._begin_hour(now)
        self._add(self._sizes.of(peer, namespace), namespace, images[:MAX_OF_REVIEW], now)

    def admitted(self, policy: CompiledPolicy, now: float) -> Steps[tuple[tuple[Admitted, ...], ...]]:
        """Return the images of each peer, with what the live policy does with them. Runs in steps.

        Images that an exception approves are left out, because the new policy is judged without exceptions.
        """
        if now >= self._hour_ends:
            self._begin_hour(now)
        peers: defaultdict[str, list[Admitted]] = defaultdict(list)
        for share, noted in [(share, list(group.noted)) for share, group in self._groups.items()]:
            for namespace, image in noted:
                present = impact(policy, namespace, image)
                if present is not None:
                    peers[share.peer].append(Admitted(namespace, image, present))
                yield
        return tuple(map(tuple, peers.values()))

    def _begin_hour(self, now: float) -> None:
        """Forget images that were not noted for long, and let the others be noted again."""
        self._hour_ends = now + HOUR
        for share, group in list(self._groups.items()):
            group.fresh.clear()
            for key in _expired(group, now - KEPT_SECONDS):
                self._drop(share, key)

    def _add(self, share: Share, namespace: str | None, images: Sequence[str], now: float) -> None:
        for image in images:
            group, key = self._groups.get(share) or _Group(), (namespace, image)
            # The limit of the cache. A longer namespace cannot exist.
            if (
                (image in group.fresh and key in group.noted)
                or _length(key) > MAX_CACHED_LENGTH
                or not (namespace or "").isascii()
                or not _can_be_pulled(image)
            ):
                continue
            if key in group.noted:
                self._drop(share, key)
            self._groups[share] = group
            group.noted[key] = now
            group.fresh.add(image)
            self._resize(share, key, 1)
            while self._size > self._most_bytes:
                largest = self._sizes.largest()
                self._drop(largest, next(iter(self._groups[largest].noted)))

    def _drop(self, share: Share, key: _Key) -> None:
        group = self._groups[share]
        del group.noted[key]
        group.fresh.discard(key[1])
        self._resize(share, key, -1)
        if not group.noted:
            del self._groups[share]

    def _resize(self, share: Share, key: _Key, sign: int) -> None:
        size = sign * max(_length(key), LEAST_BYTES)
        self._sizes.add(share, size)
        self._size += size


def _can_be_pulled(image: str) -> bool:
    """Return whether a text is an image in a registry that can exist.

    The domain ``invalid`` never exists (RFC 2606). Each probe Pod of the controller has another image there.
    """
    try:
        host = parse_reference(image).registry
    except InvalidReference:
        return False
    return not host.lower().partition(":")[0].endswith(".invalid")


def _length(key: _Key) -> int:
    namespace, image = key
    return len(image) + len(namespace or "")


def _expired(group: _Group, before: float) -> list[_Key]:
    """Return the images noted before a time. The oldest come first, so no others are looked at."""
    expired: list[_Key] = []
    for key, at in group.noted.items():
        if at >= before:
            break
        expired.append(key)
    return expired
