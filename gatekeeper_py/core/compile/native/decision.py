"""The decision about an image as CEL, exact for every image (``core/policy/decision`` in Python)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gatekeeper_py.core.compile.cost import CALL_LIMIT, Part, Text, all_of, any_of, negated
from gatekeeper_py.core.compile.entry import Entry, EntryIndex
from gatekeeper_py.core.compile.exclusions import Bounded, denied_on_mirror, entry_of
from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.matching import Image, in_entries
from gatekeeper_py.core.compile.native.canonical import name_length
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.rules import Rule

MAX_IMAGES: Final = 100
MAX_CHARACTERS: Final = 10_000
"""Bounds of the new images that one object may have judged: their number, and their characters together.
The cost of an expression grows with both. Real objects have a few images of some 60 characters."""

MAX_COST: Final = CALL_LIMIT * 8 // 10
MAX_EXPRESSION_LENGTH: Final = 64 * 1024

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


def approves(allow: Iterable[Entry], deny: Iterable[Bounded]) -> Condition:
    """Return the condition that some entry of ``allow`` has an image, and none of ``deny``."""
    allowed, denied = tuple(allow), tuple(deny)

    def condition(name: Text) -> Part:
        if not allowed:
            return Part("false", 0)
        parts = [in_entries(allowed, Image(name))]
        if denied:
            parts.append(negated(in_bounded(denied, name)))
        return all_of(parts)

    return condition


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
