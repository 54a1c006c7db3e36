"""Everything in a policy that can distinguish two images, as entries with a role.

These parts are the rules, the requirements that do not only warn, and ``from`` and ``except`` of mirrors. A
deny rule and a requirement apply to an image on a mirror if they match the original image. So if they match
images below the source of a mirror, they yield further entries for the copies below its targets.

A deny rule or a requirement does not match what an entry of its ``except`` matches. So its entries and these
entries, with the role ``spare``, have the same ``group``. On a mirror, an entry of ``except`` must match the
same original. So the entries of each target of a mirror have a ``name`` of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from gatekeeper_py.core.compare.demands import Demand, demand_of
from gatekeeper_py.core.compare.sequences import Item
from gatekeeper_py.core.exceptions.grants import SOURCES, Override
from gatekeeper_py.core.images.pattern import ANY
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.copies import copies, pairs
from gatekeeper_py.core.policy.mirror import MAX_NAME_LENGTH, Mirror
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.rules import Rule

Role = Literal["allow", "deny", "spare", "require", "source", "except", "grant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyScope(Scope):
    """A scope with its role in one policy.

    ``target`` distinguishes mirrors with the same source. ``group`` names the entries of an ``except``, all
    with their namespaces; it is empty if there are none. If the entry matches the original of an image on a
    mirror, ``name`` is this mirror. It is empty if the entry matches the image's own name. ``demand`` is that
    of a requirement, and ``overrides`` are those of a grant. Two entries with equal fields have the same
    effect on every image, even if they are of different policies.
    """

    role: Role
    target: str = ""
    group: str = ""
    name: str = ""
    demand: Demand | None = None
    overrides: frozenset[Override] = frozenset()

    @property
    def item(self) -> Item:
        """The repositories of the entry, in any registry."""
        return Item(self.images.segments, self.images.subtree)

    @property
    def unconditional(self) -> bool:
        """Whether the entry applies to all tags, digests and namespaces."""
        return self.namespaces is None and self.images.qualifier is None


def entries_of(policy: CompiledPolicy, *, overridden: bool, required: bool = True) -> Iterator[PolicyScope]:
    """Yield the entries of a policy's live rules and requirements, and of its mirrors.

    ``overridden`` is true if some grant overrides deny rules. Entries then record which name of an image a
    deny rule matches. Requirements are left out unless ``required`` is true.
    """
    for rule in policy.allow:
        yield _of_rule(rule, "allow")
    restricting = [entry for rule in policy.deny for entry in _restricting(policy, [rule], "deny")]
    for each in policy.require.all if required else ():
        demand = demand_of(each, policy)
        if demand is not None:
            restricting += _restricting(policy, each.rules, "require", demand)
    yield from restricting
    for mirror in policy.mirrors:
        yield from _of_source(mirror)
    for order, paired in pairs(policy.mirrors, (entry.images for entry in restricting)):
        if paired is not None:
            entry = restricting[order]
            named = bool(entry.group) or (overridden and entry.role == "deny")
            yield from _on_mirror(paired, entry, named=named)


def entries_of_grants(policy: CompiledPolicy) -> Iterator[PolicyScope]:
    """Yield the images that exceptions can approve.

    A grant that overrides deny rules must match the name that a deny rule matched. So for each target of a
    mirror, there are further entries for the copies of its images.
    """
    for grant in policy.grants:
        names = None if grant.namespaces is None else tuple(sorted(grant.namespaces))
        if SOURCES[grant.source].scope == "namespace" and names is None:
            names = (ANY,)  # a request without a namespace has no such document
        overrides = frozenset(grant.overrides)
        for pattern in grant.images:
            entry = PolicyScope(
                role="grant", images=pattern.unwritten(), namespaces=names, overrides=overrides
            )
            yield entry
            if "deny" in overrides:
                for mirror in policy.mirrors:
                    yield from _on_mirror(mirror, entry, named=True)


def _on_mirror(mirror: Mirror, entry: PolicyScope, *, named: bool) -> Iterator[PolicyScope]:
    """Yield the copies of an entry on a mirror. If ``named`` is true, they have its name."""
    for to in mirror.targets:
        name = f"from {mirror.source.text} to {to.text}" if named else ""
        yield from copies(mirror, to, replace(entry, name=name))


def _restricting(
    policy: CompiledPolicy, rules: Iterable[Rule], role: Role, demand: Demand | None = None
) -> Iterator[PolicyScope]:
    """Yield rules with the same ``except``, and what its live entries spare."""
    spares: list[PolicyScope] | None = None
    group = ""
    for rule in rules:
        if spares is None:
            spares = [_of_rule(each, "spare") for each in rule.excepts_at(policy.instant)]
            group = "; ".join(sorted(map(str, spares)))
            yield from (replace(spare, group=group) for spare in spares)
        yield replace(_of_rule(rule, role), group=group, demand=demand)


def _of_rule(rule: Rule, role: Role) -> PolicyScope:
    names = None if rule.namespaces is None else tuple(sorted(rule.namespaces))
    return PolicyScope(role=role, images=rule.pattern.unwritten(), namespaces=names)


def _of_source(mirror: Mirror) -> Iterator[PolicyScope]:
    """Yield the images that a mirror rewrites, below its source, and those that its ``except`` spares."""
    source = mirror.source
    # If the repository is longer, the rewritten name would be too long, and the image stays as written.
    # The comparison ignores look-ups, so the preferred target stands for all targets.
    longest = MAX_NAME_LENGTH - len(mirror.to.text) - 1 + source.path_length
    for end in (source.here, source.below):
        if end.segments or end.subtree:
            yield PolicyScope(role="source", images=end, longest=longest, target=mirror.to.text)
    for pattern in mirror.excepts:
        # It applies only to its own mirror: the mirror with the longest source decides alone.
        yield PolicyScope(role="except", images=pattern.unwritten(), target=source.here.start)
