"""The last denials, for the status page. By default they name no image, no namespace and no user."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.process.shares import Share, Shares

MAX_DENIALS: Final = 50

MAX_OF_PEER: Final = 20
"""Maximum number of these denials for one peer, so that one peer cannot push out all others."""

MAX_KEPT_IMAGES: Final = 3
"""Maximum number of images kept of one denial. The log has more."""

MAX_TEXT: Final = 256
"""Maximum length of a text that is kept. A request may name kinds and images that are megabytes long."""


@dataclass(frozen=True, slots=True)
class Details:
    """The object, the user and the images of a denial. Kept only with ``--status-details``."""

    namespace: str
    name: str
    user: str
    images: tuple[str, ...]


class Denial(NamedTuple):
    """One denied request. ``at`` is Unix time; ``reasons`` counts the rejected images by reason."""

    at: float
    kind: str
    operation: str
    reasons: tuple[tuple[str, int], ...]
    details: Details | None


class Denials:
    """Keeps the last 50 denials, at most 20 of one peer, in bounded memory.

    A new denial replaces the oldest one of the namespace with the most denials, of the peer with the most.
    """

    def __init__(self, *, details: bool = False, now: Callable[[], float] = time.time) -> None:
        self.with_details = details
        self._now = now
        self._kept: dict[int, Denial] = {}
        """Number -> denial, the oldest first."""
        self._numbers: defaultdict[Share, deque[int]] = defaultdict(deque)
        """The numbers of the denials of each share, the oldest first."""
        self._shares = Shares()
        self._next = count()

    def __iter__(self) -> Iterator[Denial]:
        """Yield the denials, the newest first."""
        return reversed(self._kept.values())

    def add(self, request: AdmissionRequest, outcome: Outcome, peer: str | None = None) -> None:
        """Keep a denial. ``peer`` is the key of the peer that sent the review, ``None`` if unknown."""
        rejected = outcome.rejected
        details = None
        if self.with_details:
            details = Details(
                namespace=(request.namespace or "")[:MAX_TEXT],
                name=request.name[:MAX_TEXT],
                user=request.username[:MAX_TEXT],
                images=tuple(verdict.decision.image[:MAX_TEXT] for verdict in rejected[:MAX_KEPT_IMAGES]),
            )
        reasons = dict[str, int]()
        for verdict in rejected:
            reasons[verdict.decision.reason] = reasons.get(verdict.decision.reason, 0) + 1
        denial = Denial(
            self._now(),
            request.kind[:MAX_TEXT],
            request.operation[:MAX_TEXT],
            tuple(reasons.items()) or (("policy", 1),),  # a denied change of the policy has no images
            details,
        )
        number = next(self._next)
        self._kept[number] = denial
        share = self._shares.of(peer, request.namespace)
        self._shares.add(share)
        self._numbers[share].append(number)
        if len(self._kept) > MAX_DENIALS or self._shares.used(share)[0] > MAX_OF_PEER:
            largest = self._shares.largest()
            self._shares.add(largest, -1)
            numbers = self._numbers[largest]
            del self._kept[numbers.popleft()]
            if not numbers:
                del self._numbers[largest]
