"""Everything in a policy that can distinguish two images, as patterns over hosts and paths.

These are the rules and the ends of mirrors. A deny rule refuses an image on a mirror if the rule matches the
original image. So a deny rule that applies below the source of a mirror yields a second pattern, moved below
the mirror's ``to``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from gatekeeper_py.core.compare.sequences import Item
from gatekeeper_py.core.images.glob import Glob
from gatekeeper_py.core.images.pattern import ANY, Pattern, Prefix, host_matches, path_matches
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    Location,
    parse_reference,
)
from gatekeeper_py.core.policy.mirror import MAX_NAME_LENGTH, Mirror
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.rules import Rule

Role = Literal["allow", "deny", "source", "except"]

NO_LIMIT: Final = MAX_REPOSITORY_LENGTH + len(OFFICIAL_NAMESPACE) + 1
"""The length of the longest repository that can be matched. The grammar limits the repository as written. For
an image such as ``registry-1.docker.io/nginx``, ``library/`` is added after that check."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The conditions of an entry besides host and path. ``None`` means that every value is accepted."""

    tag: str | None = None
    digest: str | None = None
    namespaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One pattern of one policy. ``longest`` is the length of the longest repository it applies to.

    ``target`` distinguishes mirrors with the same source. Two entries with equal fields have the same effect
    on every image, even if they are of different policies.
    """

    role: Role
    host: str
    item: Item
    condition: Condition = Condition()
    longest: int = NO_LIMIT
    target: str = ""


def entries_of(policy: CompiledPolicy) -> Iterator[Entry]:
    """Yield the entries of a policy's live rules and of its mirrors."""
    for rule in policy.allow:
        yield _of_rule(rule)
    denies = tuple(policy.deny)
    for rule in denies:
        yield _of_rule(rule)
    for mirror in policy.mirrors:
        yield from _of_source(mirror)
        for rule in denies:
            yield from _through_mirror(policy, mirror, rule)


def _of_rule(rule: Rule) -> Entry:
    pattern = rule.pattern
    item = Item(pattern.segments, pattern.subtree)
    return Entry(rule.list, pattern.host, item, _condition(pattern, rule.namespaces))


def _condition(pattern: Pattern, namespaces: tuple[str, ...] | None = None) -> Condition:
    return Condition(pattern.tag, pattern.digest, None if namespaces is None else tuple(sorted(namespaces)))


def _of_source(mirror: Mirror) -> Iterator[Entry]:
    """Yield the images that a mirror rewrites, below its source, and the exceptions of ``except``."""
    source = mirror.source
    # If the repository is longer, the rewritten name would be too long, and the image stays as written.
    # The comparison ignores look-ups, so the preferred target stands for all targets.
    longest = MAX_NAME_LENGTH - len(mirror.to.text) - 1 + _prefix_length(source)
    for subtree in (False, True):
        item = Item(source.segments, subtree)
        if item.parts or subtree:
            yield Entry("source", source.host, item, longest=longest, target=mirror.to.text)
    for pattern in mirror.exceptions:
        # An exception applies only to its own mirror: the mirror with the longest source decides alone.
        target = "/".join((source.host, *source.segments))
        item = Item(pattern.segments, pattern.subtree)
        yield Entry("except", pattern.host, item, _condition(pattern), target=target)


def _through_mirror(policy: CompiledPolicy, mirror: Mirror, rule: Rule) -> Iterator[Entry]:
    """Yield the images below a mirror's ``to`` that a deny rule refuses, because their origin is denied."""
    pattern = rule.pattern
    if not host_matches(pattern.host, mirror.source.host):
        return
    condition = _condition(pattern, rule.namespaces)
    for to in mirror.targets:
        for item, added in _moved(policy, mirror, to, pattern):
            # The repository of the origin is `added` characters longer than the path below `to`. If it has
            # more than 255 characters, the image has no origin.
            longest = min(MAX_REPOSITORY_LENGTH - added + _prefix_length(to), NO_LIMIT)
            below = Item((*to.segments, *item.parts), item.subtree)
            yield Entry("deny", to.host, below, condition, longest)


def _moved(
    policy: CompiledPolicy, mirror: Mirror, to: Prefix, pattern: Pattern
) -> Iterator[tuple[Item, int]]:
    """Yield patterns for the path below ``to`` of images whose origin matches ``pattern``.

    Each comes with the number of characters by which the repository of the origin is longer than this path.
    """
    source = mirror.source
    if to.segments and any(
        host_matches(pattern.host, origin.host) and _path_matches(pattern, origin)
        for origin in policy.mirrors.origins(Location(to.host, to.segments))
    ):
        yield Item(()), 0
    rest = _residual(pattern, source.segments)
    if (source.host, source.segments) != (DOCKER_HUB, ()):
        if rest is not None and (rest.parts or rest.subtree):
            yield rest, _prefix_length(source)
        return
    # The source is the whole of Docker Hub. There, one segment is an official image: library/ precedes it.
    official = _residual(pattern, (OFFICIAL_NAMESPACE,))
    if official == Item((), subtree=True):
        yield Item((ANY,)), _official_length(source)
    elif official is not None and len(official.parts) == 1 and not official.subtree:
        yield official, _official_length(source)
    if rest == Item((), subtree=True):
        yield Item((ANY,), subtree=True), 0
    elif rest is not None and (rest.subtree or len(rest.parts) > 1):
        yield rest, 0


def _path_matches(pattern: Pattern, origin: Location) -> bool:
    return path_matches(pattern.segments, origin.segments, subtree=pattern.subtree)


def _residual(pattern: Pattern, start: tuple[str, ...]) -> Item | None:
    """Return the pattern for the path after ``start``, or ``None`` if no path that begins so can match.

    If ``pattern`` is a subtree with no more segments than ``start``, the result matches every path after it.
    """
    parts = pattern.segments
    if len(parts) < len(start) and not pattern.subtree:
        return None
    if not all(Glob(want).matches(have) for want, have in zip(parts, start, strict=False)):
        return None
    return Item(parts[len(start) :], pattern.subtree)


def _prefix_length(prefix: Prefix) -> int:
    """Return the length of a prefix's path with the slash after it."""
    return sum(len(segment) + 1 for segment in prefix.segments)


def _official_length(source: Prefix) -> int:
    """Return how many characters the grammar adds to the name of an official image below ``source``.

    It adds ``library/`` below some of the names of Docker Hub, and nothing below the others.
    """
    return len(parse_reference(f"{source.text}/x").repository) - 1
