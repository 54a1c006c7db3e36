"""Worlds: what registries hold, as far as a caller knows or assumes.

The webhook judges at least twice if a review needs look-ups, with the same policy. The first time, its world
notes the look-ups that it cannot answer (``Answers.missing``). The next time, it has their answers. It may
need others: a signature is looked up by the digest that an earlier look-up found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from gatekeeper_py.core.images.manifest import MISSING, Answer, Lookup, Resolution, failed

ResolveCached = Callable[[Lookup], Resolution | None]
"""Resolves a look-up from earlier answers; returns ``None`` if a registry must be queried first."""

NOT_LOOKED_UP: Final = Resolution(failed("no registry was queried"))

MAX_ROUNDS: Final = 3
"""Maximum number of rounds of look-ups for one review: those in mirrors, that of the digest of an image that
no mirror has, and that of the digest's signature."""


class World(Protocol):
    """Answers look-ups.

    An answer ``found`` without a digest stands for an image that exists, with a digest that is not known.
    """

    def answer(self, lookup: Lookup) -> Resolution: ...


class Known(NamedTuple):
    """The world of the hot path: earlier answers only. It does not record look-ups."""

    resolve_cached: ResolveCached

    def answer(self, lookup: Lookup) -> Resolution:
        return self.resolve_cached(lookup) or NOT_LOOKED_UP


NOTHING_KNOWN: Final = Known(lambda _lookup: None)


class Answers:
    """The answers that one review may use. Returns ``NOT_LOOKED_UP`` for a look-up without one.

    ``missing`` collects the look-ups without an answer, unless ``notes`` is false, and ``used`` the answers
    that were returned. ``resolved`` has the answers that were obtained for this review. ``resolve_cached`` is
    called for every look-up that is not in ``resolved``.
    """

    __slots__ = ("_notes", "_resolve_cached", "_resolved", "missing", "used")

    def __init__(
        self,
        resolve_cached: ResolveCached,
        resolved: Mapping[Lookup, Resolution] | None = None,
        *,
        notes: bool = True,
    ) -> None:
        self._notes = notes
        self.missing: list[Lookup] = []
        self.used: dict[Lookup, Resolution] = {}
        self._resolve_cached = resolve_cached
        self._resolved = resolved or {}

    def answer(self, lookup: Lookup) -> Resolution:
        resolution = self._resolved.get(lookup) or self._resolve_cached(lookup)
        if resolution is None:
            if self._notes:
                self.missing.append(lookup)
            return NOT_LOOKED_UP
        self.used[lookup] = resolution
        return resolution


def answers_so_far(answers: Mapping[Lookup, Resolution], *, notes: bool = True) -> Answers:
    """Return the world for the next decision on a request. With ``notes``, it collects new look-ups.

    The decision before determines which answers are needed. ``answers`` holds the answers that it used, and
    those that it lacked. No other answer is read, so an answer that expires in between cannot change the
    decision. The next decision may need more look-ups than the one before: an image on a mirror is pinned
    only when it is known which candidate exists. So an answer about several manifests also serves as the
    answer about the manifest that was found, or about each of them if all are missing.
    """
    single: dict[Lookup, Resolution] = {}
    for (candidates,), (answer, candidate, _) in answers.items():
        if answer.status == "found":
            single[Lookup((candidates[candidate],))] = Resolution(answer, 0)
        elif answer.status == "missing":
            single |= {Lookup((manifest,)): Resolution(answer) for manifest in candidates}
    return Answers({**single, **answers}.get, notes=notes)


class Assumed(NamedTuple):
    """A world in which every image exists, and all images or none are signed. No digest is known."""

    signed: bool

    def answer(self, lookup: Lookup) -> Resolution:
        manifest = lookup.candidates[0]
        if manifest.kind.found_approves:
            return _EXISTS
        if not self.signed:
            return _UNSIGNED
        return Resolution(Answer("found", digest=manifest.reference, key=manifest.keys[0]), 0)


_EXISTS: Final = Resolution(Answer("found"), 0)
_UNSIGNED: Final = Resolution(MISSING)

BY_NAME: Final = Assumed(signed=True)
"""For callers that query no registry. An image is rejected only if the webhook rejects it whatever registries
answer: because of its name, or because it needs a signature, but has no digest or no live key."""

NOTHING_SIGNED: Final = Assumed(signed=False)
