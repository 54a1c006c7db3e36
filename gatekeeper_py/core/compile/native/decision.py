"""The decision about an image as CEL, exact for every image (``core/policy/decision`` in Python)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, Generic, NamedTuple, TypeVar

from gatekeeper_py.core.compile.cost import Part, Text, all_of, any_of, fits
from gatekeeper_py.core.compile.expression import is_pre_approved
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.compile.matching import Image, in_entries
from gatekeeper_py.core.compile.native.canonical import name_length
from gatekeeper_py.core.compile.native.objects import Variable
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.reference import MAX_REPOSITORY_LENGTH
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.policy import Policy

T = TypeVar("T")

MAX_NEW_IMAGES: Final = 100
MAX_CHARACTERS: Final = 10_000
"""Limits for the new images of one object: their number and their total length in characters. Objects above
them are refused. The cost of an expression grows with both. Real objects have a few images of some 60
characters."""

MAX_EXPRESSIONS: Final = 8
"""Maximum number of expressions that hold the rules. Eight at 800,000, and half a million for all other
expressions of a policy, stay below an API server's limit of 10,000,000."""

MAX_GROWTH: Final = len("docker.io/library/")
"""Maximum number of characters that canonical form adds to an image."""

NAME: Final = Text("p[1]", longest=MAX_CHARACTERS + MAX_NEW_IMAGES * MAX_GROWTH)
"""The image that is judged, in canonical form. ``longest`` is the total length of all images of an object."""

APPROVED: Final = "approved"
REJECTED: Final = "rejected"
UNPINNED: Final = "unpinned"

Condition = Callable[[Text], Part]
"""An expression about one image."""


def affordable(condition: Condition, name: Text = NAME) -> Part | None:
    """Return a condition about a name; ``None`` when it is too long or costs too much.

    The cost is a fixed cost for each image plus a cost for each character of all images.
    """
    part = condition(name)
    cost = MAX_NEW_IMAGES * condition(name._replace(longest=0)).cost + part.cost
    return part if fits(part._replace(cost=cost)) else None


def recognised(policy: Policy, now: datetime, image: str) -> Part | None:
    """Return the condition that the fast path pre-approves ``image``, a CEL variable.

    ``None`` when it pre-approves nothing, or when the condition is too long or costs too much.
    """
    approved = compile_fastpath(policy, now).approved["validating"]
    if not approved:
        return None
    return affordable(lambda name: is_pre_approved(approved, name._replace(text=image)))


class Fitting(NamedTuple, Generic[T]):
    """Conditions that together cover items in order; ``remaining`` are the items that did not fit."""

    parts: list[Part]
    remaining: Sequence[T]


def fitting(
    items: Sequence[T], condition: Callable[[Sequence[T]], Condition], name: Text, most: int
) -> Fitting[T]:
    """Return at most ``most`` conditions, each of as many items as fit into one expression."""
    parts: list[Part] = []
    while items and len(parts) < most:
        left = items

        def is_affordable(number: int, left: Sequence[T] = left) -> bool:
            return affordable(condition(left[:number]), name) is not None

        count = _count(is_affordable, len(left))
        part = affordable(condition(left[:count]), name)
        if not count or part is None:
            break
        parts.append(part)
        items = left[count:]
    return Fitting(parts, items)


def _count(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number that fits, at most ``most``.

    If a number fits, every smaller one must fit too.
    """
    # Double from 1, because only a few of many rules may fit.
    number = 1
    while number < most and fits(number):
        number *= 2
    least = number // 2
    return least + bisect_left(range(least + 1, min(number, most) + 1), True, key=lambda each: not fits(each))


def approves(allow: Iterable[Scope]) -> Condition:
    """Return the condition that an image matches an entry of ``allow``."""
    allowed = tuple(allow)
    return lambda name: in_entries(allowed, Image(name)) if allowed else Part("false", 0)


def denies(deny: Iterable[Scope]) -> Condition:
    """Return the condition that an image matches an entry of ``deny``, and is not too long for it."""
    # The entries by the maximum length of a name; 0 means no limit.
    groups: dict[int, list[Scope]] = {}
    for entry in deny:
        limited = entry.longest < MAX_REPOSITORY_LENGTH
        longest = len(entry.images.host) + 1 + entry.longest if limited else 0
        groups.setdefault(longest, []).append(entry)

    def condition(name: Text) -> Part:
        parts = []
        for longest, group in sorted(groups.items()):
            part = in_entries(group, Image(name))
            if longest:
                short = Part(f"{name_length(name.text)} <= {longest}", name.find("x" * 20).cost)
                part = all_of([short, part])
            parts.append(part)
        return any_of(parts) if parts else Part("false", 0)

    return condition


def every_version(allow: Iterable[Scope]) -> tuple[Scope, ...]:
    """Return entries without their tags, digests and namespaces, which is wider."""
    return tuple(dict.fromkeys(entry.unqualified() for entry in allow))


def whole_registries(allow: Iterable[Scope]) -> tuple[Scope, ...]:
    """Return the registries of entries, which is wider still."""
    hosts = dict.fromkeys(entry.images.host for entry in allow)
    return tuple(Scope(images=Pattern(host=host, subtree=True)) for host in hosts)


def verdicts(prefix: str, source: str, conditions: Iterable[tuple[str, Part]]) -> Iterator[Variable]:
    """Yield variables that decide about images one after the other.

    An API server limits the cost of an expression, so the rules are split over several variables of a policy.
    Each variable decides the images that the earlier ones left undecided. Their names are
    ``prefix0``, ``prefix1`` and so on.

    ``source`` is a list of ``[image, name]``. The last variable adds the verdict to each item. ``conditions``
    holds pairs of a verdict and its condition. The verdict is empty when no condition matched. An image
    without a name is rejected.
    """
    variable = Variable(f"{prefix}0", f"{source}.map(p, [p[0], p[1], p[1] == '' ? '{REJECTED}' : ''])")
    yield variable
    for number, (given, part) in enumerate(conditions):
        mapping = f"[p[0], p[1], p[2] == '' && {part.text} ? '{given}' : p[2]]"
        variable = Variable(f"{prefix}{number + 1}", f"{variable.reference}.map(p, {mapping})")
        yield variable
