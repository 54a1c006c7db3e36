"""The images on a mirror whose origin is in a set of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.images.glob import compiled
from gatekeeper_py.core.images.pattern import ANY, Prefix, host_matches
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    InvalidReference,
    locate,
    parse_reference,
)


class Mirrored(NamedTuple):
    """Images on a mirror.

    Only repositories of at most ``longest`` characters have an origin. The origin of a longer repository
    would be longer than a repository can be.
    """

    images: ImageSet
    longest: int = MAX_REPOSITORY_LENGTH


def on_mirror(origin: ImageSet, source: Prefix, to: Prefix) -> Iterator[Mirrored]:
    """Yield the images below ``to`` whose origin below ``source`` is in a set.

    ``Mirrors.origins`` is the inverse for one image: it yields the origins of that image.
    """
    if to.segments and _has_source_itself(origin, source):
        yield Mirrored(replace(origin, host=to.host, segments=to.segments, subtree=False))
    if not host_matches(origin.host, source.host):
        return
    at_root = source.host == DOCKER_HUB and not source.segments
    if at_root:
        # Only under these names does the grammar add "library/" to the length; the others are folded later.
        named = source.text.partition("/")[0] in {DOCKER_HUB, "index.docker.io"}
        for mirrored in _official(origin, to):
            yield _bounded(mirrored, (OFFICIAL_NAMESPACE,) if named else (), to)
    rest = _path_below(origin, source)
    # On Docker Hub, only official images have a single segment below the registry.
    if rest is not None and not (at_root and len(rest.segments) == 1 and not rest.subtree):
        segments = (ANY,) if at_root and not rest.segments else rest.segments
        yield _bounded(
            replace(origin, host=to.host, segments=(*to.segments, *segments), subtree=rest.subtree),
            source.segments,
            to,
        )


class _PathBelow(NamedTuple):
    segments: tuple[str, ...]
    subtree: bool


def _path_below(origin: ImageSet, source: Prefix) -> _PathBelow | None:
    """Return the part of a set's path below ``source``; ``None`` when the set has no images there."""
    shared = min(len(origin.segments), len(source.segments))
    pairs = zip(origin.segments[:shared], source.segments[:shared], strict=True)
    if not all(compiled(glob).matches(text) for glob, text in pairs):
        return None
    segments = origin.segments[len(source.segments) :]
    if len(origin.segments) < len(source.segments):
        return _PathBelow((), subtree=True) if origin.subtree else None
    return _PathBelow(segments, origin.subtree) if segments or origin.subtree else None


def _has_source_itself(origin: ImageSet, source: Prefix) -> bool:
    """Return whether a set contains the repository that ``source`` itself is parsed as."""
    try:
        location = locate(parse_reference(source.text))
    except InvalidReference:
        return False
    return location.host == source.host and origin.has_location(location)


def _official(origin: ImageSet, to: Prefix) -> Iterator[ImageSet]:
    """Yield the images of one segment below ``to`` whose origin is an official image of Docker Hub."""
    first, *others = origin.segments or (ANY,)
    if compiled(first).matches(OFFICIAL_NAMESPACE):
        if origin.subtree and not others:
            yield replace(origin, host=to.host, segments=(*to.segments, ANY), subtree=False)
        if not origin.subtree and len(others) == 1:
            yield replace(origin, host=to.host, segments=(*to.segments, *others), subtree=False)


def _bounded(images: ImageSet, origin: tuple[str, ...], to: Prefix) -> Mirrored:
    """Return the images, limited to repositories whose origin is not longer than a repository can be."""
    longer = len("/".join((*origin, ""))) - len("/".join((*to.segments, "")))
    return Mirrored(images, MAX_REPOSITORY_LENGTH - max(longer, 0))
