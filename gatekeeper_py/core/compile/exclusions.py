"""The parts of a policy that revoke an approval, or need a call of the webhook for another reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from types import MappingProxyType
from typing import Final

from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.images.reference import DOCKER_HUB, HUB_ALIASES
from gatekeeper_py.core.images.scope import NO_LIMIT, Scope, ScopeIndex
from gatekeeper_py.core.policy.copies import copies, pairs
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule

Exclusion = Callable[[Policy, datetime], Iterable[Scope]]
"""Yields entries whose images are never pre-approved from an instant on."""


def scope_of(rule: Rule) -> Scope:
    """Return the images and the namespaces that a rule matches."""
    return Scope(images=rule.pattern.unwritten(), namespaces=rule.namespaces, because=str(rule))


def without_digest(requirement: Requirement) -> Iterator[Scope]:
    """Yield the images without a digest that a requirement matches, whatever its ``except`` spares."""
    for rule in requirement.rules:
        entry = scope_of(rule)
        if entry.images.digest is None:
            # Exactly the images without a digest have an effective tag.
            images = replace(entry.images, tag=entry.images.tag or ANY)
            yield replace(entry, images=images, because=f"{rule} (needs a digest)")


def with_copies(restricting: Iterable[Scope], mirrors: Iterable[Mirror]) -> Iterator[Scope]:
    """Yield what deny rules or requirements match, and the images on mirrors whose origin they match."""
    originals = tuple(restricting)
    yield from originals
    reached = pairs(mirrors, (entry.images for entry in originals))
    found = ((mirror.index, order, mirror) for order, mirror in reached if mirror is not None)
    for _, order, mirror in sorted(found, key=itemgetter(0, 1)):
        entry = originals[order]
        for to in mirror.targets:
            because = f"{entry.because}, by way of mirrors[{mirror.index}]"
            yield from copies(mirror, to, replace(entry, because=because))


def _restricted(restricting: Iterable[Scope], policy: Policy) -> Iterator[Scope]:
    """Yield entries and their copies, whatever the length of a repository."""
    for each in with_copies(restricting, policy.mirrors):
        yield replace(each, longest=NO_LIMIT)


def _denied(policy: Policy, instant: datetime) -> Iterator[Scope]:
    # A rule that has expired never denies again. A rule that will expire counts as permanent.
    live = (rule for rule in policy.deny if rule.lives_at(instant))
    return _restricted((_denial(rule, instant) for rule in live), policy)


def _denial(rule: Rule, instant: datetime) -> Scope:
    # The images that the ``except`` of a rule spares count as denied, because its entries can end; the
    # webhook judges them.
    spared = " (including its except)" if rule.excepts_at(instant) else ""
    return replace(scope_of(rule), because=f"{rule}{spared}")


def _required(policy: Policy, _: datetime) -> Iterator[Scope]:
    return _restricted((entry for each in policy.document.require for entry in _doubtful(each)), policy)


def _doubtful(requirement: Requirement) -> Iterator[Scope]:
    """Yield the images of which only the webhook can find out whether they meet a requirement."""
    if not requirement.looks_up:
        yield from without_digest(requirement)
        return
    for rule in requirement.rules:
        yield replace(scope_of(rule), because=f"{rule} (needs a look-up)")


def _looked_up(policy: Policy, instant: datetime) -> Iterator[Scope]:
    """Yield the images that are approved by name, but that a look-up by their mirror may reject."""
    recalls = any(rule.recalls and rule.lives_at(instant) for rule in policy.deny)
    for mirror in policy.mirrors:
        # A deny rule for digests may match what the mirror has. Then any look-up there, even one that only a
        # requirement needs, may refuse the image.
        looks_up = mirror.verify or bool(policy.document.require)
        if "deny" in {mirror.on_missing, mirror.on_error} or (recalls and looks_up):
            yield from _source(mirror, f"mirrors[{mirror.index}], which looks images up")


def _pinned(policy: Policy, _: datetime) -> Iterator[Scope]:
    pinning = (each for each in policy.document.require if each.digest)
    return _restricted((entry for each in pinning for entry in without_digest(each)), policy)


def _aliases(_: Policy, __: datetime) -> Iterator[Scope]:
    """Yield other names of Docker Hub, which are folded to ``docker.io`` before a rule is looked up."""
    for host in sorted(HUB_ALIASES):
        yield Scope(images=Pattern(host=host, subtree=True), because=f"{host} stands for {DOCKER_HUB}")


def _short_names(_: Policy, __: datetime) -> Iterator[Scope]:
    """Yield short names on Docker Hub: ``docker.io/nginx`` stands for ``docker.io/library/nginx``."""
    because = f"an official image is written in full with {DOCKER_HUB}/library"
    yield Scope(images=Pattern(host=DOCKER_HUB, segments=(ANY,)), because=because)


def _rewritten(policy: Policy, _: datetime) -> Iterator[Scope]:
    for mirror in policy.mirrors:
        yield from _source(mirror, f"mirrors[{mirror.index}]")


def _source(mirror: Mirror, because: str) -> Iterator[Scope]:
    """Yield the images that a mirror may rewrite, but not those of a rule that its ``except`` covers."""
    but: ScopeIndex | None = None
    if mirror.excepts:
        but = ScopeIndex()
        but.extend(Scope(images=pattern.unwritten()) for pattern in mirror.excepts)
    for end in (mirror.source.here, mirror.source.below):
        yield Scope(images=end, but=but, because=because)


SPELLING: Final[Mapping[str, Exclusion]] = MappingProxyType(
    {"aliases": _aliases, "short-names": _short_names}
)
"""Texts that look written in full but are parsed differently. Only a rule with a wildcard in its registry can
match them."""

VALIDATING: Final[Mapping[str, Exclusion]] = MappingProxyType(
    {"denied": _denied, "required": _required, "looked-up": _looked_up, **SPELLING}
)
MUTATING: Final[Mapping[str, Exclusion]] = MappingProxyType(
    {"rewritten": _rewritten, "pinned": _pinned, **SPELLING}
)
"""The exclusions by name. Each is needed: a test removes them one at a time."""
