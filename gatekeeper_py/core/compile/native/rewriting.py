"""The name of an image on its mirror, as CEL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from gatekeeper_py.core.compile.cost import Part, Text, any_of, negated, quoted
from gatekeeper_py.core.compile.matching import Image, in_some
from gatekeeper_py.core.compile.native.canonical import name_length, with_library
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.reference import DOCKER_HUB, Location, Reference
from gatekeeper_py.core.policy.mirror import MAX_NAME_LENGTH, Mirror, Mirrors

MAX_MIRRORS: Final = 50
"""A mirror is a branch of one conditional expression. CEL's parser gives up at a depth of 250 (cel-go,
parser/parser.go)."""


def rewritten(mirrors: Iterable[Mirror], name: Text) -> Part:
    """Return an expression for the new name that the longest matching mirror gives, or an empty text.

    Both names are in canonical form. No rule denies ``name``.
    """
    longest_first = sorted(mirrors, key=lambda mirror: -len(mirror.source.segments))
    text, cost = "", 1
    for mirror in longest_first:
        condition = any_of([*_is(mirror.source.here, name), name.starts_with(mirror.source.below.start)])
        usable = _usable(mirror, name)
        text += f"{condition.text} ? ({usable.text} ? {_judged(mirror, name)} : '') : "
        cost += condition.cost + usable.cost + 8 * name.cost + name.longest
    return Part(f"({text}'')", cost, closed=True)


def _judged(mirror: Mirror, name: Text) -> str:
    to = "/".join((mirror.to.host, *mirror.to.segments))
    moved = _moved(mirror, name, to)
    return f"({with_library(moved)})" if to == DOCKER_HUB else moved


def _moved(mirror: Mirror, name: Text, to: str) -> str:
    return f"({quoted(to)} + {name.text}.substring({len(mirror.source.here.start)}))"


def _usable(mirror: Mirror, name: Text) -> Part:
    """Return the condition that no ``except`` spares a matching image and that its new name is valid."""
    text = f"{name_length(_moved(mirror, name, mirror.to.text))} <= {MAX_NAME_LENGTH}"
    cost = name.find("x" * 20).cost + name.longest
    if mirror.source.segments and not _has_image_itself(mirror):
        inside = name.starts_with(mirror.source.below.start)
        text, cost = f"{text} && {inside.text}", cost + inside.cost
    if mirror.excepts:
        others = negated(in_some(mirror.excepts, Image(name)))
        text, cost = f"{text} && {others.text}", cost + others.cost
    return Part(text, cost)


def _is(here: Pattern, name: Text) -> Iterator[Part]:
    """Yield the conditions for the repository that a source names. A registry is not a repository."""
    if here.segments:
        yield name.equals(here.start)
        yield name.starts_with(f"{here.start}:")
        yield name.starts_with(f"{here.start}@")


def _has_image_itself(mirror: Mirror) -> bool:
    """Return whether the repository that a source names has a usable name on the mirror."""
    location = Location(mirror.source.host, mirror.source.segments)
    reference = Reference(raw="", registry=location.host, repository="/".join(location.segments))
    alone = replace(mirror, index=0, excepts=())
    plan = Mirrors([alone]).rewrite(reference, location)
    return plan is not None and plan.image is not None
