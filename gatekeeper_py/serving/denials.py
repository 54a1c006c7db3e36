"""The last denials, for the status page. By default they name no image, no namespace and no user."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.review import AdmissionRequest

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


@dataclass(frozen=True, slots=True)
class Denial:
    """One denied request. ``at`` is Unix time; ``reasons`` counts the rejected images by reason."""

    at: float
    kind: str
    operation: str
    reasons: tuple[tuple[str, int], ...]
    details: Details | None


class Denials:
    """Keeps the last 50 denials, at most 20 of one peer, in bounded memory."""

    def __init__(self, *, details: bool = False, now: Callable[[], float] = time.time) -> None:
        self.with_details = details
        self._now = now
        self._kept: dict[int, tuple[str | None, Denial]] = {}
        """Number -> peer and denial, the oldest first."""
        self._numbers: dict[str, deque[int]] = {}
        """Peer -> the numbers of its denials, the oldest first."""
        self._next = count()

    def __iter__(self) -> Iterator[Denial]:
        """Yield the denials, the newest first."""
        return (denial for _, denial in reversed(self._kept.values()))

    def add(self, request: AdmissionRequest, outcome: Outcome, peer: str | None = None) -> None:
        """Keep a denial. ``peer`` is the key of the peer that sent the review, ``None`` if unknown."""
        rejected = outcome.rejected
        details = None
        if self.with_details:
            details = Details(
                namespace=(request.namespace or "")[:MAX_TEXT],
                name=request.name[:MAX_TEXT],
                user=request.username[:MAX_TEXT],
                images=tuple(judgement.decision.image[:MAX_TEXT] for judgement in rejected[:MAX_KEPT_IMAGES]),
            )
        # A denied change of the policy has no images.
        reasons = Counter([judgement.decision.reason for judgement in rejected]) or {"policy": 1}
        denial = Denial(
            self._now(),
            request.kind[:MAX_TEXT],
            request.operation[:MAX_TEXT],
            tuple(reasons.items()),
            details,
        )
        number = next(self._next)
        self._kept[number] = peer, denial
        if peer is not None:
            numbers = self._numbers.setdefault(peer, deque())
            numbers.append(number)
            if len(numbers) > MAX_OF_PEER:
                self._drop(numbers[0])
        if len(self._kept) > MAX_DENIALS:
            self._drop(next(iter(self._kept)))

    def _drop(self, number: int) -> None:
        peer, _ = self._kept.pop(number)
        if peer is not None:
            numbers = self._numbers[peer]
            numbers.popleft()
            if not numbers:
                del self._numbers[peer]
