"""The decision about an image as CEL, exact for every image (``core/policy/decision`` in Python)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from gatekeeper_py.core.compile.cost import CALL_LIMIT, Part, Text, all_of, any_of
from gatekeeper_py.core.compile.entry import Entry, EntryIndex
from gatekeeper_py.core.compile.exclusions import Bounded, denied_on_mirror, entry_of
from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.matching import Image, in_entries
from gatekeeper_py.core.compile.native.canonical import name_length
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.rules import Rule

T = TypeVar("T")

MAX_IMAGES: Final = 100
MAX_CHARACTERS: Final = 10_000
"""Bounds of the new images that one object may have judged: their number, and their characters together.
The cost of an expression grows with both. Real objects have a few images of some 60 characters."""

MAX_COST: Final = CALL_LIMIT * 8 // 10
MAX_EXPRESSION_LENGTH: Final = 64 * 1024

MAX_EXPRESSIONS: Final = 8
"""Expressions that hold the rules. Each costs at most 800,000, and an API server gives up at 10,000,000 for
all expressions of a policy; the others cost half a million."""

MAX_GROWTH: Final = len("docker.io/library/")
"""Characters that an image can gain on its way to canonical form."""

NAME: Final = Text("p[1]", longest=MAX_CHARACTERS + MAX_IMAGES * MAX_GROWTH)
"""The image that is judged, in canonical form. ``longest`` is that of all images of an object together."""

Condition = Callable[[Text], Part]
"""An expression about one image."""


def affordable(condition: Condition, name: Text = NAME) -> Part | None:
    """Return a condition about a name; ``None`` when it is too long or costs too much.

    The cost has a part for each image and a part for each character of all images together.
    """
    part = condition(name)
    cost = MAX_IMAGES * condition(name._replace(longest=0)).cost + part.cost
    return part if cost <= MAX_COST and len(part.text) <= MAX_EXPRESSION_LENGTH else None


class Fitting(NamedTuple, Generic[T]):
    """Conditions that together cover items in their order, and the items that no expression has room for."""

    parts: list[Part]
    left: Sequence[T]


def fitting(
    items: Sequence[T], condition: Callable[[Sequence[T]], Condition], name: Text, most: int
) -> Fitting[T]:
    """Return at most ``most`` conditions, each of as many items as one expression has room for."""
    parts: list[Part] = []
    while items and len(parts) < most:
        left = items

        def fits(number: int, left: Sequence[T] = left) -> bool:
            return affordable(condition(left[:number]), name) is not None

        count = _count(fits, len(left))
        part = affordable(condition(left[:count]), name)
        if not count or part is None:
            break
        parts.append(part)
        items = left[count:]
    return Fitting(parts, items)


def _count(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number, up to ``most``, that fits. More never fits when less does not."""
    # Few of a hundred thousand rules may fit, so the search begins with few.
    number = 1
    while number < most and fits(number):
        number *= 2
    if number >= most and fits(most):
        return most
    least, beyond = number // 2, min(number, most)  # so many fit, and so many do not
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (middle, beyond) if fits(middle) else (least, middle)
    return least


def approves(allow: Iterable[Entry]) -> Condition:
    """Return the condition that some entry of ``allow`` has an image."""
    allowed = tuple(allow)
    return lambda name: in_entries(allowed, Image(name)) if allowed else Part("false", 0)


def denies(deny: Iterable[Bounded]) -> Condition:
    """Return the condition that some entry of ``deny`` has an image."""
    denied = tuple(deny)
    return lambda name: in_bounded(denied, name) if denied else Part("false", 0)


def in_bounded(entries: Iterable[Bounded], name: Text) -> Part:
    """Return whether an image is in one of the entries (at least one)."""
    groups: dict[int | None, list[Entry]] = {}
    for entry, longest in entries:
        groups.setdefault(longest, []).append(entry)
    parts = []
    for longest, group in sorted(groups.items(), key=lambda item: item[0] or 0):
        part = in_entries(group, Image(name))
        if longest is not None:
            short = Part(f"{name_length(name.text)} <= {longest}", name.find("x" * 20).cost)
            part = all_of([short, part])
        parts.append(part)
    return any_of(parts)


def denied_entries(deny: Iterable[Rule], mirrors: Iterable[Mirror]) -> Iterator[Bounded]:
    """Yield what deny rules match, on mirrors too. Raises ``TooManyComparisonsError``."""
    index = EntryIndex()
    for rule in deny:
        entry = entry_of(rule)
        index.add(entry)
        yield Bounded(entry)
    for mirror in mirrors:
        yield from denied_on_mirror(index, mirror)


def every_version(allow: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries without their tags, digests and namespaces, which is wider."""
    return tuple(dict.fromkeys(entry.unqualified() for entry in allow))


def whole_registries(allow: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the registries of entries, which is wider still."""
    hosts = dict.fromkeys(entry.images.host for entry in allow)
    return tuple(Entry(images=ImageSet(host=host, subtree=True)) for host in hosts)
