"""Images grouped by what was decided of them, each with where it stands. Pure: no I/O.

A cluster may have 50,000 Pods, so an object is not kept: of each place there is one small tuple,
and of an image that is not to be listed only that there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple

from gatekeeper_py.core.policy.decision import Reason


class JudgedImage(NamedTuple):
    """An image as written, and what was decided of it.

    The same text has several when the decision depends on the namespace. ``canonical`` is ``None`` when
    the image is invalid. An image that is missing or no text is the empty one.
    """

    image: str
    canonical: str | None
    verdict: Literal["approved", "rejected"]
    reason: Reason
    detail: str


class Place(NamedTuple):
    """Where an image stands; ``namespace`` is ``None`` in a cluster-scoped object."""

    kind: str
    namespace: str | None
    name: str
    path: str


class Tally:
    """What was found so far; ``keep_approved`` is whether approved images get their places, too."""

    __slots__ = ("_keep_approved", "_places", "objects")

    def __init__(self, *, keep_approved: bool) -> None:
        self.objects = 0
        self._keep_approved = keep_approved
        self._places: dict[JudgedImage, list[Place]] = {}

    def add(self, image: JudgedImage, place: Place) -> None:
        places = self._places.setdefault(image, [])
        if self._keep_approved or image.verdict == "rejected":
            # The API's JSON gives a new text each time; kinds, namespaces and paths are few.
            namespace = None if place.namespace is None else sys.intern(place.namespace)
            places.append(Place(sys.intern(place.kind), namespace, place.name, sys.intern(place.path)))

    def merge(self, other: Tally) -> None:
        """Take over what another tally has found; it is not to be used any more."""
        self.objects += other.objects
        for image, places in other._places.items():
            self._places.setdefault(image, []).extend(places)

    @property
    def counts(self) -> dict[str, int]:
        """Objects looked at, and images in them, also of those that are not listed."""
        rejected = sum(image.verdict == "rejected" for image in self._places)
        total = len(self._places)
        return {
            "objects": self.objects,
            "images": total,
            "approved": total - rejected,
            "rejected": rejected,
        }

    def listed(self) -> Iterator[tuple[JudgedImage, list[Place]]]:
        """Each image that is to be listed with its places, both sorted by their fields."""
        for image in sorted(self._places, key=_image_order):
            if self._keep_approved or image.verdict == "rejected":
                yield image, sorted(self._places[image], key=_place_order)


def _image_order(image: JudgedImage) -> tuple[str, str, str, str]:
    return image.image, image.verdict, image.reason, image.detail


def _place_order(place: Place) -> tuple[str, str, str, str]:
    return place.kind, place.namespace or "", place.name, place.path
