"""What mutate mode makes of an image, as CEL: its name on a mirror."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from gatekeeper_py.core.compile.cost import Part, Text, any_of, negated, quoted
from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.matching import Image, in_some
from gatekeeper_py.core.compile.native.canonical import name_length, with_library
from gatekeeper_py.core.images.reference import DOCKER_HUB, Location, Reference
from gatekeeper_py.core.policy.mirror import MAX_NAME_LENGTH, Mirror, Mirrors

MAX_MIRRORS: Final = 50
"""A mirror is a branch of one conditional expression, and an API server bounds how deep these are nested."""

_UNCHANGED: Final = quoted("")


def rewritten(mirrors: Iterable[Mirror], name: Text, *, canonical: bool) -> Part:
    """Return an expression for what the longest mirror makes of an image; an empty text when it stays.

    ``name`` is the image written in full, not denied. The result has the mirror's name as the policy has it,
    or, when ``canonical``, as patterns are compared with.
    """
    longest_first = sorted(mirrors, key=lambda mirror: -len(mirror.source.segments))
    branches = [_branch(mirror, name, canonical=canonical) for mirror in longest_first]
    text = "".join(f"{condition.text} ? ({result}) : " for condition, result in branches)
    cost = sum(condition.cost + 8 * name.cost + name.longest for condition, _ in branches)
    return Part(f"({text}{_UNCHANGED})", cost, closed=True)


def _branch(mirror: Mirror, name: Text, *, canonical: bool) -> tuple[Part, str]:
    """Return the condition under which a mirror has an image, and what it makes of it."""
    here, below = ImageSet.below(mirror.source)
    condition = any_of([*_starts(here, name), name.starts_with(below.start)])
    written = f"({quoted(mirror.to.text)} + {name.text}.substring({len(below.start) - 1}))"
    usable = [f"{name_length(written)} <= {MAX_NAME_LENGTH}"]
    if mirror.source.segments and not _has_image_itself(mirror):
        usable.append(name.starts_with(below.start).text)
    if mirror.exceptions:
        excepted = in_some(map(ImageSet.of, mirror.exceptions), Image(name))
        usable.append(negated(excepted).text)
    result = written
    if canonical:
        to = "/".join((mirror.to.host, *mirror.to.segments))
        result = f"({quoted(to)} + {name.text}.substring({len(below.start) - 1}))"
        if to == DOCKER_HUB:
            result = f"({with_library(result)})"
    return condition, f"{' && '.join(usable)} ? {result} : {_UNCHANGED}"


def _starts(here: ImageSet, name: Text) -> Iterator[Part]:
    """Yield the conditions for the repository itself, which a registry is not."""
    if here.segments:
        yield name.equals(here.start)
        yield name.starts_with(f"{here.start}:")
        yield name.starts_with(f"{here.start}@")


def _has_image_itself(mirror: Mirror) -> bool:
    """Return whether the repository that a mirror's source names has a usable name on the mirror."""
    location = Location(mirror.source.host, mirror.source.segments)
    reference = Reference(raw="", registry=location.host, repository="/".join(location.segments))
    plan = Mirrors([replace(mirror, index=0)]).rewrite(reference, location)
    return plan is not None and (plan.image is not None or not plan.problem)
