"""What in a policy takes an approval back, or has the webhook called for another reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from gatekeeper_py.core.compile.entry import Entry, EntryIndex, TooManyComparisonsError
from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.mirroring import on_mirror
from gatekeeper_py.core.images.pattern import ANY
from gatekeeper_py.core.images.reference import DOCKER_HUB, HUB_ALIASES
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule

Exclusion = Callable[[Policy, datetime], Iterable[Entry]]
"""Yields entries whose images are never pre-approved from an instant on."""


def entry_of(rule: Rule) -> Entry:
    """Return what a rule matches."""
    return Entry(images=ImageSet.of(rule.pattern), namespaces=rule.namespaces, because=str(rule))


def _denied(policy: Policy, instant: datetime) -> Iterator[Entry]:
    # One that expired never denies again. One that will expire counts as if it did not.
    yield from (entry_of(rule) for rule in policy.deny if rule.lives_at(instant))


def _mirrored(policy: Policy, instant: datetime) -> Iterator[Entry]:
    """Denials follow mirrors: an image is refused when its origin is."""
    denied = EntryIndex()
    denied.extend(_denied(policy, instant))
    for mirror in policy.mirrors:
        found: dict[Entry, None] = {}
        try:
            for end in ImageSet.below(mirror.source):
                found |= dict.fromkeys(denied.overlapping(Entry(images=end)))
            # An official image of Docker Hub may stand below its mirror without its "library".
            if mirror.source.host == DOCKER_HUB:
                hub = Entry(images=ImageSet(host=DOCKER_HUB, subtree=True))
                found |= dict.fromkeys(denied.overlapping(hub))
        except TooManyComparisonsError:
            because = f"mirrors[{mirror.index}], with too many deny rules to compare"
            for end in ImageSet.below(mirror.to):
                yield Entry(images=end, because=because)
            continue
        for entry in found:
            for mirrored in on_mirror(entry.images, mirror.source, mirror.to):
                because = f"{entry.because}, by way of mirrors[{mirror.index}]"
                yield Entry(images=mirrored.images, namespaces=entry.namespaces, because=because)


def _aliases(_: Policy, __: datetime) -> Iterator[Entry]:
    """Other names of Docker Hub are folded to ``docker.io`` before a rule is looked up."""
    for host in sorted(HUB_ALIASES):
        yield Entry(images=ImageSet(host=host, subtree=True), because=f"{host} stands for {DOCKER_HUB}")


def _short_names(_: Policy, __: datetime) -> Iterator[Entry]:
    """On Docker Hub ``docker.io/nginx`` stands for ``docker.io/library/nginx``."""
    because = f"an official image is written in full with {DOCKER_HUB}/library"
    yield Entry(images=ImageSet(host=DOCKER_HUB, segments=(ANY,)), because=because)


def _rewritten(policy: Policy, _: datetime) -> Iterator[Entry]:
    for mirror in policy.mirrors:
        for end in ImageSet.below(mirror.source):
            yield Entry(images=end, because=f"mirrors[{mirror.index}]")


SPELLING: Final[Mapping[str, Exclusion]] = MappingProxyType(
    {"aliases": _aliases, "short-names": _short_names}
)
"""Texts that look written in full and are read as something else. A literal registry is never one of them."""

VALIDATING: Final[Mapping[str, Exclusion]] = MappingProxyType(
    {"denied": _denied, "mirrored": _mirrored, **SPELLING}
)
MUTATING: Final[Mapping[str, Exclusion]] = MappingProxyType({"rewritten": _rewritten, **SPELLING})
"""By name. Each is needed: a test takes them out one at a time."""
