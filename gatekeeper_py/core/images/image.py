"""Images as patterns match them: a parsed reference, and its place."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Self

from gatekeeper_py.core.images.reference import Location, Reference, effective_tag, locate, parse_reference

Qualifiers = tuple[str | None, ...]
"""The qualifiers that a look-up in a leaf of an index accepts, e.g. ``("@sha256:…", "@*", None)`` or
``(":v1", None)``."""


class Image(NamedTuple):
    """An image that can be matched.

    ``location`` is the place of ``reference``, or of the original, if it is on a mirror. ``qualifiers`` are
    those that the image satisfies literally.
    """

    reference: Reference
    location: Location
    qualifiers: Qualifiers

    @property
    def tag(self) -> str | None:
        """The tag that a runtime would pull, ``None`` if there is a digest."""
        return effective_tag(self.reference)

    @property
    def digest(self) -> str | None:
        return self.reference.digest

    @property
    def name(self) -> str:
        """The name for matching: host and path."""
        return self.location.name

    def at(self, location: Location) -> Self:
        """Return the image with the same tag or digest, matched at another location."""
        return self._replace(location=location)

    def pinned(self, digest: str) -> Self:
        """Return the image with a digest that was found."""
        reference = replace(self.reference, digest=digest)
        return self._replace(reference=reference, qualifiers=qualifiers_of(None, digest))


def parse_image(text: str) -> Image:
    """Parse and locate an image. Raises ``InvalidReference`` (``parse_reference``, ``locate``)."""
    return image_of(parse_reference(text))


def image_of(reference: Reference) -> Image:
    """Locate a reference. Raises ``InvalidReference`` for images that no policy may approve."""
    return Image(reference, locate(reference), qualifiers_of(effective_tag(reference), reference.digest))


def qualifiers_of(tag: str | None, digest: str | None) -> Qualifiers:
    """Return the qualifiers that an image with this effective tag and digest satisfies literally."""
    if digest is not None:
        return (f"@{digest}", "@*", None)
    return (None,) if tag is None else (f":{tag}", None)
