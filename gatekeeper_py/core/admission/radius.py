"""The blast radius of a policy change: what the new policy does to images that were admitted recently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from gatekeeper_py.core.admission.fields import CONTAINERS
from gatekeeper_py.core.admission.judge import Subject, judge
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import BY_NAME
from gatekeeper_py.core.policy.policy import CompiledPolicy

APPROVED: Final = 0
WARNED: Final = 1
REFUSED: Final = 2
"""What a policy does with an image in a namespace. A larger number is worse."""

LEAST_KNOWN: Final = 10
"""With fewer images than this, a ratio says little, so the guard refuses no change because of it."""

MAX_NAMED: Final = 20
"""Maximum number of images that a radius names. The warnings have room for fewer."""


class Admitted(NamedTuple):
    """An image that was admitted in a namespace, and what the present policy does with it there."""

    namespace: str | None
    image: str
    present: int


class Ratio(NamedTuple):
    """The number of images that the present policy admits, and how many of them the new one refuses."""

    refused: int = 0
    known: int = 0

    def exceeds(self, percent: int) -> bool:
        return 100 * self.refused > percent * self.known


class Radius(NamedTuple):
    """The admitted images that the new policy rejects: their number, and the first of them.

    ``worst`` is the largest ratio of refused images, of all or of one group. ``complete`` is false if
    there was no time to judge all images.
    """

    rejected: int
    known: int
    images: tuple[str, ...]
    worst: Ratio
    complete: bool


def impact(policy: CompiledPolicy, namespace: str | None, image: str) -> int | None:
    """Return what a policy does with an image of new Pods; ``None`` if only an exception approves it."""
    mode = policy.mode(namespace)
    # A template is judged after its rewrite, as the Pods are.
    subject = Subject(namespace, mode, "template")
    verdict = judge(policy, subject, Slot((), CONTAINERS.noun, image), BY_NAME)
    if verdict.decision.exception is not None:
        return None
    return APPROVED if verdict.approved else REFUSED if mode.refuses else WARNED


def measure(
    policy: CompiledPolicy, groups: Sequence[Sequence[Admitted]], has_time: Callable[[], bool]
) -> Radius:
    """Judge the admitted images of all groups by a new policy.

    A group holds the images of one sender of reviews. Each group, and each namespace in it, is measured
    separately. So no sender and no namespace can lower the percentage of another with images of its own.
    """
    impacts: dict[tuple[str | None, str], int] = {}
    complete = True
    for namespace, image, _ in chain.from_iterable(groups):
        if (namespace, image) not in impacts:
            if not has_time():
                complete = False
                break
            impacts[namespace, image] = impact(policy, namespace, image) or APPROVED
    judged = [[(each, impacts[each[:2]]) for each in group if each[:2] in impacts] for group in groups]
    everything = list(chain.from_iterable(judged))
    rejected = {
        each.image for each, new in everything if new and (new > each.present or each.present == REFUSED)
    }
    # Images that the present policy approves count by themselves. Together with those that it warns about,
    # they show what a change to another mode refuses.
    ratios = (
        ratio
        for group in (everything, *judged)
        for most in (APPROVED, WARNED)
        for ratio in _ratios(group, most)
    )
    return Radius(
        rejected=len(rejected),
        known=len({each.image for each, _ in everything}),
        images=tuple(sorted(rejected)[:MAX_NAMED]),
        worst=max(ratios, key=lambda ratio: ratio.refused / (ratio.known or 1)),
        complete=complete,
    )


def _ratios(judged: Iterable[tuple[Admitted, int]], most: int) -> Iterator[Ratio]:
    """Yield the ratios of refused images, among those on which the present policy has at most this impact.

    Count them for all namespaces together, for each namespace, and for all small namespaces together. A small
    one has too few images to be counted by itself. Otherwise, one namespace with many images could lower the
    percentage of many small ones.
    """
    namespaces: defaultdict[str | None, set[tuple[str, int]]] = defaultdict(set)
    for each, new in judged:
        if each.present <= most:
            namespaces[each.namespace].add((each.image, new))
    small = [images for images in namespaces.values() if len(images) < LEAST_KNOWN]
    for images in (set().union(*namespaces.values()), set().union(*small), *namespaces.values()):
        known = len({image for image, _ in images})
        refused = len({image for image, new in images if new == REFUSED})
        yield Ratio(refused, known) if known >= LEAST_KNOWN else Ratio()
