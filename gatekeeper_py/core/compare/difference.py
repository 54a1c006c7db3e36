"""Compare two policies over every image that can be written.

Images fall into finitely many classes that no pattern of either policy tells apart: by host, by path, by tag
or digest, and by namespace. The comparison examines one member of every class in which the two policies
could differ. So "no difference" is a proof. Each difference is checked with the ordinary decision.

Modes count only for what is written in place of an image. Requirements are compared by what they demand,
whether or not an image meets them now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from gatekeeper_py.core.compare.conditions import namespaces, qualifiers
from gatekeeper_py.core.compare.demands import ALWAYS, Demand, Refusal, demand_of, includes
from gatekeeper_py.core.compare.entries import PolicyScope, entries_of, entries_of_grants
from gatekeeper_py.core.compare.parts import LABEL, SEGMENT, Effort, GlobSet, TooComplex
from gatekeeper_py.core.compare.sequences import Item, Sequences
from gatekeeper_py.core.exceptions.grants import SOURCES, Grant, Override
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import ANY, split_port
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    HUB_ALIASES,
    MAX_IMAGE_LENGTH,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
)
from gatekeeper_py.core.images.scope import NO_LIMIT
from gatekeeper_py.core.policy.decision import Decision, names_to_except
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule

MAX_WITNESSES: Final = 100
MAX_COMBINATIONS: Final = 2_000_000
"""Maximum number of classes that are examined. It bounds the time to about a minute. 10,000 rules that share
little need a tenth of it."""

_LONG_SPELLING: Final = "registry-1.docker.io"
"""A name of Docker Hub to which the grammar does not add ``library/``, so that longer names are possible."""

CLASS_WORK: Final = 4
"""Work for one class of repositories. The work for one class of tags, digests and namespaces is 1."""

Change = Literal["approved", "rejected", "rewritten"]

Requiring = Literal["less-required", "more-required"]
"""A change of the requirements of an image whose name both policies approve."""

_Demands = frozenset[Demand]


class Witness(NamedTuple):
    """One image that the two policies treat differently.

    ``old`` and ``new`` are the rules that decided. If the requirements changed, each is a requirement by the
    first of its patterns: the first one that is not in the other policy, or else the first of the image.
    """

    image: str
    namespace: str | None
    before: Literal["approved", "rejected"]
    after: Literal["approved", "rejected"]
    change: Change | Requiring
    old: Rule | None
    new: Rule | None


class GrantWitness(NamedTuple):
    """An image that exceptions can approve under only one policy. ``old`` and ``new`` are the grants."""

    image: str
    namespace: str | None
    change: Literal["granted", "withdrawn"]
    old: Grant | None
    new: Grant | None


@dataclass(frozen=True, slots=True)
class GrantDifference:
    """What the new policy changes in the images that exceptions can approve.

    Both policies reject these images, at least if they do not meet the requirements. ``False`` is a proof, as
    in ``Difference``. ``exist`` is whether a policy has grants at all.
    """

    widens: bool
    narrows: bool
    witnesses: tuple[GrantWitness, ...]
    exist: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What the new policy changes. ``changes`` has all kinds of change that at least one image has.

    It is a proof that no image in any namespace has another one.
    """

    changes: frozenset[Change | Requiring]
    witnesses: tuple[Witness, ...]
    grants: GrantDifference
    requires: bool
    """Whether a policy has requirements at all."""
    next_change: datetime | None
    """When the first rule, override or key of either policy expires. The answers hold until then."""

    @property
    def widens(self) -> bool:
        """Whether the new policy approves an image that the old one rejects, perhaps by a requirement."""
        return not self.changes.isdisjoint({"approved", "less-required"})

    @property
    def narrows(self) -> bool:
        return not self.changes.isdisjoint({"rejected", "more-required"})

    @property
    def rewrites(self) -> bool:
        return "rewritten" in self.changes


class Contradiction(Exception):
    """The comparison and the ordinary decision disagree. This is a bug of gatekeeper-py, always reported."""


def compare(old: CompiledPolicy, new: CompiledPolicy) -> Difference:
    """Compute the exact difference between two policies at the instant of both.

    Raises ``TooComplex`` if that would take too long, and ``ValueError`` if the instants differ.
    """
    if old.instant != new.instant:
        raise ValueError("both policies must be compiled as of the same instant")
    return _Comparison(old, new).run()


def shortest_by(policy: Policy, rule: Rule, instant: datetime) -> Witness | None:
    """Return the shortest image that an allow rule alone approves, or a deny rule alone refuses.

    ``old`` and ``before`` of the result are the answer without the rule. A deny rule is needed only for
    images that would be approved without it. If the result is ``None``, this proves that there is no such
    image: the rule decides nothing. Raises ``TooComplex``.
    """
    document = policy.document
    if rule.list == "allow":
        others = replace(document, allow=_without(document.allow, rule.index))
    else:
        others = replace(document, deny=_without(document.deny, rule.index))
    without = replace(policy, document=others)
    change = "approved" if rule.list == "allow" else "rejected"
    found = _Comparison(without.at(instant), policy.at(instant), names_only=True).run().witnesses
    return next((witness for witness in found if witness.change == change), None)


def _without(rules: tuple[Rule, ...], index: int) -> tuple[Rule, ...]:
    after = (replace(rule, index=rule.index - 1) for rule in rules[index + 1 :])
    return (*rules[:index], *after)


class _Shared:
    """Entries that match several classes of hosts."""

    def __init__(self, entries: Sequence[PolicyScope]) -> None:
        self._all = entries
        self._by_first: dict[str, list[PolicyScope]] = {}
        for entry in entries:
            self._by_first.setdefault(_first(entry), []).append(entry)
        self._wild = [entry for first, found in self._by_first.items() if is_glob(first) for entry in found]

    def beside(self, own: Iterable[PolicyScope]) -> Iterable[PolicyScope]:
        """Return the entries that can match an image that an entry of ``own`` also matches."""
        firsts = {_first(entry) for entry in own}
        if any(map(is_glob, firsts)):
            return self._all
        return chain(self._wild, *(self._by_first.get(first, ()) for first in sorted(firsts)))


def _matches_all(entry: PolicyScope) -> bool:
    """Return whether an entry matches all images of its hosts."""
    return entry.unconditional and not entry.images.segments and entry.longest >= NO_LIMIT


def _first(entry: PolicyScope) -> str:
    """Return the glob for the first segment of the repositories that an entry matches."""
    return entry.images.segments[0] if entry.images.segments else ANY


class _HostClass(NamedTuple):
    """A class of hosts: a member, and the entries whose host matches it.

    Images that only entries of ``shared`` match are judged as in another class of hosts. They are examined
    with that class.
    """

    name: str
    own: list[PolicyScope]
    shared: _Shared | None = None


class _Rules:
    """The rules of one policy for one repository, as sets of entries with one bit for each entry."""

    __slots__ = ("_allow", "_deny", "_grants", "_require", "_spare")

    def __init__(self) -> None:
        self._allow = 0
        self._deny: dict[tuple[str, str], int] = {}
        """Name of the image, and group of deny rules -> the deny rules that match this name."""
        self._spare: dict[tuple[str, str], int] = {}
        self._require: dict[tuple[str, str, Demand | None], int] = {}
        self._grants: dict[tuple[str, frozenset[Override]], int] = {}
        """Name of the image, and what grants override -> these grants for this name."""

    def add(self, entry: PolicyScope, bit: int) -> None:
        key = (entry.name, entry.group)
        if entry.role == "allow":
            self._allow |= bit
        elif entry.role == "deny":
            self._deny[key] = self._deny.get(key, 0) | bit
        elif entry.role == "spare":
            self._spare[key] = self._spare.get(key, 0) | bit
        elif entry.role == "require":
            demanded = (*key, entry.demand)
            self._require[demanded] = self._require.get(demanded, 0) | bit
        elif entry.role == "grant":
            granted = (entry.name, entry.overrides)
            self._grants[granted] = self._grants.get(granted, 0) | bit

    @property
    def work(self) -> int:
        """The work for one class of tags, digests and namespaces, beyond 1."""
        return (len(self._require) + len(self._grants)) // 64

    def approve(self, holding: int) -> bool:
        """Return whether the policy approves an image for which these entries hold."""
        return bool(self._allow & holding) and not self._denied(holding)

    def demands(self, holding: int) -> _Demands:
        """Return what the requirements that hold for an image demand."""
        return frozenset(
            demand
            for (name, group, demand), bits in self._require.items()
            if demand is not None and bits & holding and not self._spare.get((name, group), 0) & holding
        )

    def grant(self, holding: int, *, unmet: bool) -> bool:
        """Return whether an exception could approve such an image, if the policy rejects it.

        ``unmet`` is whether it does not meet a requirement.
        """
        names = self._denied(holding)
        overridden: set[Override] = {"deny"} if names else set()
        if unmet:
            overridden.add("require")
        if unmet or not self._allow & holding:
            names.add("")
        found = {
            name
            for (name, overrides), bits in self._grants.items()
            if bits & holding and overridden <= overrides
        }
        return names <= found

    def _denied(self, holding: int) -> set[str]:
        """Return those names of such an image that deny rules match."""
        return {
            key[0]
            for key, denials in self._deny.items()
            if denials & holding and not self._spare.get(key, 0) & holding
        }


class _ImageClass(NamedTuple):
    """A class of images in a namespace, by one image, with what the old and the new policy say of it.

    ``pinned`` is whether it has a digest, and ``pins`` whether each policy would write one.
    """

    image: str
    namespace: str | None
    approved: tuple[bool, bool]
    demands: tuple[_Demands, _Demands]
    pinned: bool
    pins: tuple[bool, bool]

    def refusals(self, side: int, *, offline: bool = False) -> frozenset[Refusal]:
        """Return the states of the registries in which a policy refuses the image because of requirements.

        With ``offline``, the webhook writes no digest.
        """
        pins = self.pins[side] and not offline
        return frozenset(
            refusal
            for demand in self.demands[side]
            for refusal in demand.refusals(pinned=self.pinned, pins=pins)
        )

    def requires_more(self, one: int, other: int) -> bool:
        """Return whether one policy refuses the image in a state in which the other one does not."""
        return not includes(self.refusals(other), self.refusals(one))

    def states(self) -> Iterator[tuple[bool, bool]]:
        """Yield each possible pair: whether the image does not meet the old, and the new requirements.

        The webhook writes no digest here.
        """
        old, new = (self.refusals(side, offline=True) for side in (0, 1))
        if not includes(old | new, [ALWAYS]):
            yield False, False
        if old and new:
            yield True, True
        if not includes(new, old):
            yield True, False
        if not includes(old, new):
            yield False, True


class _Comparison:
    def __init__(self, old: CompiledPolicy, new: CompiledPolicy, *, names_only: bool = False) -> None:
        self._policies = (old, new)
        # Equal entries of the two policies are one: they match the same images.
        self._sides: dict[PolicyScope, list[bool]] = {}
        grants = not names_only
        overridden = grants and any("deny" in g.overrides for p in (old, new) for g in p.grants)
        for side, policy in enumerate((old, new)):
            rules = entries_of(policy, overridden=overridden, required=not names_only)
            for entry in chain(rules, entries_of_grants(policy) if grants else ()):
                self._sides.setdefault(entry, [False, False])[side] = True
        self._entries = tuple(self._sides)
        needs_digests = any(entry.demand is not None and entry.demand.digest for entry in self._entries)
        self._asked_by_one = old.looked_up_hosts ^ new.looked_up_hosts if needs_digests else frozenset[str]()
        """The hosts that only one policy allows to query for digests."""
        self._modes = tuple(
            (policy.policy.mode, tuple((o.names, o.mode) for o in policy.overrides)) for policy in (old, new)
        )
        self._budget = MAX_COMBINATIONS
        self._effort = Effort()
        self._found: dict[tuple[str, ...], Witness] = {}
        self._changes: set[Change | Requiring] = set()
        self._granted: dict[tuple[str, str, str], GrantWitness] = {}

    def run(self) -> Difference:
        for host in self._hosts():
            entries = [*host.own, *(host.shared.beside(host.own) if host.shared else ())]
            if self._may_differ(entries) and not self._settled(entries, _matches_all):
                self._paths(host.name, entries, host.own if host.shared else None)
        witnesses = sorted(self._found.values(), key=lambda w: (len(w.image), w.image))
        # Keep the first witness of each kind of change, so that the limit removes no kind completely.
        first = {id(next(w for w in witnesses if w.change == change)) for change in self._changes}
        shown = sorted(witnesses, key=lambda w: id(w) not in first)[:MAX_WITNESSES]
        return Difference(
            changes=frozenset(self._changes),
            witnesses=tuple(sorted(shown, key=lambda w: w.change)),
            grants=self._grants(),
            requires=any(policy.require.all for policy in self._policies),
            next_change=min(
                (p.next_expiry for p in self._policies if p.next_expiry is not None), default=None
            ),
        )

    def _grants(self) -> GrantDifference:
        found = sorted(self._granted.values(), key=lambda w: (w.change, len(w.image), w.image))
        granted = [witness for witness in found if witness.change == "granted"]
        withdrawn = found[len(granted) :]
        shown = (*granted[: MAX_WITNESSES // 2], *withdrawn[: MAX_WITNESSES // 2])
        return GrantDifference(
            widens=bool(granted),
            narrows=bool(withdrawn),
            witnesses=shown,
            exist=any(policy.grants for policy in self._policies),
        )

    def _may_differ(self, entries: Sequence[PolicyScope]) -> bool:
        """Return whether entries of the policies differ, or their modes do and an image can be rewritten."""
        if any(self._sides[entry] != [True, True] for entry in entries):
            return True
        return self._modes[0] != self._modes[1] and any(entry.role == "source" for entry in entries)

    def _settled(self, entries: Sequence[PolicyScope], always: Callable[[PolicyScope], bool]) -> bool:
        """Return whether both policies treat every image that only these entries match in the same way.

        This means the same verdict, the same demands, the same name after a rewrite, and that exceptions can
        approve the same images of those that both policies reject. ``always`` returns whether an entry
        matches all of these images.
        """
        overridden = {override for entry in entries for override in entry.overrides}
        roles = {entry.role for entry in entries}
        allows, grants = "allow" in roles, "grant" in roles
        if ("deny" in overridden and "deny" in roles) or ("require" in overridden and "require" in roles):
            return False
        decided: dict[str, list[bool]] = {role: [False, False] for role in ("allow", "deny", "grant")}
        same = dict.fromkeys(("deny", "require", "grant"), True)
        for entry in entries:
            sides = self._sides[entry]
            if entry.role in same:
                same[entry.role] &= all(sides)
            # A deny rule with an ``except`` (a group) does not deny every image that it matches.
            own = not entry.name or entry.role == "deny"
            if entry.role in decided and own and not entry.group and always(entry):
                decided[entry.role] = [a or b for a, b in zip(decided[entry.role], sides, strict=True)]
        if all(decided["deny"]):
            return True
        if "source" in roles or (not same["require"] and (allows or grants)):
            return False
        if not allows:
            return not grants or (same["deny"] and (same["grant"] or all(decided["grant"])))
        # If every image matches an allow rule, only a deny rule can reject its name.
        return same["deny"] and all(decided["allow"])

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise TooComplex("hosts, paths, tags and namespaces")

    def _hosts(self) -> Iterator[_HostClass]:
        """Yield every class of hosts."""
        everywhere = [entry for entry in self._entries if entry.images.host == ANY]
        by_host: dict[str, list[PolicyScope]] = {host: [] for host in self._asked_by_one}
        for entry in self._entries:
            if entry.images.host != ANY:
                by_host.setdefault(entry.images.host, []).append(entry)
        by_port: dict[str, list[str]] = {"": []}
        for host, found in by_host.items():
            name, port = split_port(host)
            if name.startswith("["):
                yield _HostClass(host, [*everywhere, *found])
            else:
                by_port.setdefault(port, []).append(host)
        # Docker Hub has a class of its own. Its aliases are folded into it, so they get classes here only to
        # be left out below.
        by_port[""] = list(dict.fromkeys([*by_port[""], DOCKER_HUB, *HUB_ALIASES]))
        for port, texts in by_port.items():
            items = [Item(tuple(split_port(text)[0].split("."))) for text in texts]
            classes = Sequences(items, LABEL, longest=MAX_IMAGE_LENGTH, effort=self._effort).classes()
            hosts = {
                matched: f"{'.'.join(labels)}:{port}" if port else ".".join(labels)
                for matched, labels in classes.items()
                if HUB_ALIASES.isdisjoint(texts[index] for index in matched)
            }
            shared: dict[GlobSet, _Shared] = {}

            def entries(matched: GlobSet, texts: Sequence[str] = texts) -> Iterator[PolicyScope]:
                return (entry for index in sorted(matched) for entry in by_host.get(texts[index], ()))

            for matched, host in hosts.items():
                common = self._common(matched, host, hosts, texts)
                if common is None or host in self._asked_by_one:
                    yield _HostClass(host, [*everywhere, *entries(matched)])
                else:
                    if common not in shared:
                        shared[common] = _Shared([*everywhere, *entries(common)])
                    yield _HostClass(host, list(entries(matched - common)), shared[common])

    @staticmethod
    def _common(
        matched: GlobSet, host: str, hosts: Mapping[GlobSet, str], texts: Sequence[str]
    ) -> GlobSet | None:
        """Return a class of hosts that fewer patterns match and whose member is not longer, or ``None``.

        An image on ``host`` that no further pattern matches is judged like an image in that class. Docker Hub
        never gets such a class, because its repositories have another form.
        """
        if host == DOCKER_HUB:
            return None
        wildcards = frozenset(index for index in matched if is_glob(texts[index]))
        for fewer in (wildcards, frozenset[int]()):
            other = hosts.get(fewer)
            if fewer != matched and other is not None and len(_written(other, "")) <= len(_written(host, "")):
                return fewer
        return None

    def _paths(self, host: str, entries: list[PolicyScope], own: Iterable[PolicyScope] | None = None) -> None:
        """Examine every class of repositories in one class of hosts, or only those that ``own`` matches."""
        items = list(dict.fromkeys(entry.item for entry in entries))
        by_item: dict[Item, list[PolicyScope]] = {}
        for entry in entries:
            by_item.setdefault(entry.item, []).append(entry)
        owned = None if own is None else {entry.item for entry in own}
        touching = None if owned is None else frozenset(i for i, item in enumerate(items) if item in owned)
        fewest = 2 if host == DOCKER_HUB else 1
        sequences = Sequences(
            items, SEGMENT, longest=MAX_REPOSITORY_LENGTH, fewest=fewest, effort=self._effort
        )
        limits = sorted({max(e.longest, 0) for e in entries if e.longest < NO_LIMIT})
        members = [
            sequences.classes(touching),
            *(sequences.longer_than(limit) for limit in limits if limit < MAX_REPOSITORY_LENGTH),
        ]
        if host == DOCKER_HUB:
            members += _official_longer(sequences, limits)
        for classes in members:
            self._spend(CLASS_WORK * len(classes))
            for matched, parts in classes.items():
                if touching is not None and not matched & touching:
                    continue
                repository = "/".join(parts)
                matching = [
                    entry
                    for index in matched
                    for entry in by_item[items[index]]
                    if len(repository) <= entry.longest or entry.role == "source"
                ]
                if self._may_differ(matching) and not self._settled(matching, attrgetter("unconditional")):
                    self._qualified(host, repository, matching)

    def _qualified(self, host: str, repository: str, entries: list[PolicyScope]) -> None:
        """Examine every class of tags, digests and namespaces for one repository."""
        rewriting = any(entry.role == "source" for entry in entries)
        requiring = any(entry.role == "require" for entry in entries)
        # The mode of a namespace matters only if something can be written in place of an image.
        names = {name for _, overrides in self._modes for names, _ in overrides for name in names}
        in_namespaces = namespaces(entries, names if rewriting or requiring else (), self._effort)
        for_qualifiers = qualifiers(entries, self._effort)
        rules = old, new = self._rules(entries)
        granting = any(entry.role == "grant" for entry in entries)
        work = 1 + len(entries) // 4096 + sum(rule.work for rule in rules)
        self._spend(len(in_namespaces) * len(for_qualifiers) * work)
        name = _written(host, repository)
        modes = {
            namespace: tuple(
                (rewriting or requiring) and policy.mode(namespace).rewrites for policy in self._policies
            )
            for namespace, _ in in_namespaces
        }
        # If the same entries hold under the same modes, the answers are the same. So the first combination is
        # enough; it is the shortest.
        seen: set[tuple[int, tuple[bool, ...], bool]] = set()
        for suffix, holding in for_qualifiers:
            for namespace, there in in_namespaces:
                pinned = suffix.startswith("@")
                key = (holding & there, modes[namespace], pinned and requiring)
                if key not in seen:
                    seen.add(key)
                    class_ = _ImageClass(
                        image=f"{name}{suffix}",
                        namespace=namespace,
                        approved=(old.approve(key[0]), new.approve(key[0])),
                        demands=(old.demands(key[0]), new.demands(key[0])),
                        pinned=pinned,
                        pins=(
                            all(modes[namespace]) and host in self._policies[0].looked_up_hosts,
                            all(modes[namespace]) and host in self._policies[1].looked_up_hosts,
                        ),
                    )
                    self._spend(len(class_.demands[0]) * len(class_.demands[1]) // 8)
                    self._judge(class_, rewriting=rewriting)
                    if granting:
                        self._judge_grants(class_, rules, key[0])

    def _rules(self, entries: Sequence[PolicyScope]) -> tuple[_Rules, _Rules]:
        """Return for each policy which entries have which role."""
        found = _Rules(), _Rules()
        for index, entry in enumerate(entries):
            for side in (0, 1):
                if self._sides[entry][side]:
                    found[side].add(entry, 1 << index)
        return found

    def _judge(self, images: _ImageClass, *, rewriting: bool) -> None:
        """Compare the two policies on a class of images."""
        image, namespace = images.image, images.namespace
        before, after = images.approved
        if before != after:
            self._record(images, "approved" if after else "rejected")
        elif rewriting:
            old, new = (self._rewritten(policy, namespace, image) for policy in self._policies)
            if (old and old.image) != (new and new.image):
                # This change is caused by a mirror, not by a rule.
                sources = tuple("" if found is None else found.mirror.source.text for found in (old, new))
                self._record(images, "rewritten", sources)
        if before and after:
            if images.requires_more(0, 1):
                self._record(images, "less-required")
            if images.requires_more(1, 0):
                self._record(images, "more-required")

    def _judge_grants(self, images: _ImageClass, rules: Sequence[_Rules], holding: int) -> None:
        """Compare what exceptions can approve of a class of images, in each state of the registries."""
        for unmet in images.states():
            if any(approves and not fails for approves, fails in zip(images.approved, unmet, strict=True)):
                continue
            could = [rule.grant(holding, unmet=fails) for rule, fails in zip(rules, unmet, strict=True)]
            if could[0] != could[1]:
                self._record_grant(images, unmet, could)

    @staticmethod
    def _rewritten(policy: CompiledPolicy, namespace: str | None, image: str) -> Rewrite | None:
        return policy.plan(namespace, image) if policy.mode(namespace).rewrites else None

    def _record(self, images: _ImageClass, change: Change | Requiring, sources: tuple[str, ...] = ()) -> None:
        decisions = [policy.decide_by_rules(images.namespace, images.image) for policy in self._policies]
        names = tuple(decision.approved for decision in decisions)
        demands = tuple(map(self._demands_of, decisions, self._policies))
        if names != images.approved or (all(names) and demands != images.demands):
            raise Contradiction(f"{images.image} in namespace {images.namespace}: computed {images}")
        old, new = (decision.rule for decision in decisions)
        if change in {"less-required", "more-required"}:
            old, new = self._causes(images, decisions)
        self._changes.add(change)
        witness = Witness(
            image=images.image,
            namespace=images.namespace,
            before="approved" if names[0] else "rejected",
            after="approved" if names[1] else "rejected",
            change=change,
            old=old,
            new=new,
        )
        key = (change, str(old), str(new), *sources)
        known = self._found.get(key)
        if known is None or len(images.image) < len(known.image):
            self._found[key] = witness

    @staticmethod
    def _demands_of(decision: Decision, policy: CompiledPolicy) -> _Demands:
        demands = (demand_of(each, policy) for each in decision.requirements)
        return frozenset(each for each in demands if each is not None)

    def _causes(self, images: _ImageClass, decisions: Sequence[Decision]) -> list[Rule | None]:
        """Return for each policy the first requirement that the other one lacks, or else the first one."""
        found: list[Rule | None] = []
        for side, decision in enumerate(decisions):
            policy, pins, others = self._policies[side], images.pins[side], images.refusals(1 - side)

            def is_covered(
                requirement: Requirement,
                policy: CompiledPolicy = policy,
                pins: bool = pins,  # noqa: FBT001
                others: frozenset[Refusal] = others,
            ) -> bool:
                demand = demand_of(requirement, policy)
                return demand is None or includes(others, demand.refusals(pinned=images.pinned, pins=pins))

            chosen = sorted(decision.requirements, key=is_covered)[:1]
            found.append(next((rule for each in chosen for rule in each.rules), None))
        return found

    def _record_grant(self, images: _ImageClass, unmet: tuple[bool, bool], expected: list[bool]) -> None:
        image, namespace = images.image, images.namespace
        old, new = (
            _grant_for(policy, namespace, image, unmet=fails)
            for policy, fails in zip(self._policies, unmet, strict=True)
        )
        if [old is not None, new is not None] != expected:
            raise Contradiction(f"exceptions for {image} in namespace {namespace}: computed {expected}")
        change: Literal["granted", "withdrawn"] = "withdrawn" if new is None else "granted"
        witness = GrantWitness(image, namespace, change, old, new)
        key = (change, str(old), str(new))
        known = self._granted.get(key)
        if known is None or len(image) < len(known.image):
            self._granted[key] = witness


def _grant_for(policy: CompiledPolicy, namespace: str | None, image: str, *, unmet: bool) -> Grant | None:
    """Return the first grant with which an exception could approve an image that the policy rejects.

    ``unmet`` is whether the image does not meet a requirement.
    """
    decision = policy.decide_by_rules(namespace, image)
    if decision.parsed is None or (decision.approved and not unmet):
        return None
    needed: set[Override] = {"deny"} if decision.reason == "denied" else set()
    if unmet:
        needed.add("require")
    return _first_grant(policy, namespace, image, frozenset(needed))


def _first_grant(
    policy: CompiledPolicy, namespace: str | None, image: str, needed: frozenset[Override]
) -> Grant | None:
    """Return the first grant for an image; ``None`` if one of its names has no grant with these overrides."""
    names = names_to_except(parse_image(image), policy.allow, policy.denied_origins, namespace, needed)
    found = [
        min(
            (
                grant
                for source, each in SOURCES.items()
                if each.scope == "installation" or namespace is not None
                for grant in policy.grants.matching(source, name, namespace)
                if needed.issubset(grant.overrides)
            ),
            key=attrgetter("index"),
            default=None,
        )
        for name in names
    ]
    return None if None in found else found[0]


def _official_longer(sequences: Sequences, limits: Sequence[int]) -> Iterator[dict[GlobSet, tuple[str, ...]]]:
    """Yield the classes of official images whose names are too long to be written with ``docker.io``.

    Such a name is possible below ``registry-1.docker.io``, because ``library/`` is added to it only after its
    length is checked.
    """
    added = len(OFFICIAL_NAMESPACE) + 1
    longest = MAX_REPOSITORY_LENGTH - added
    if limits:
        for limit in (longest, *(limit - added for limit in limits if limit > MAX_REPOSITORY_LENGTH)):
            yield sequences.below((OFFICIAL_NAMESPACE,), limit)
    else:
        # Without limits, a class that has a shorter member is already known.
        members = sequences.below((OFFICIAL_NAMESPACE,))
        yield {matched: parts for matched, parts in members.items() if len(parts[-1]) > longest}


def _written(host: str, repository: str) -> str:
    """Return the name of an image as users write it.

    A host with neither a dot nor a port gets the port 443, unless it is ``localhost``.
    """
    if host == DOCKER_HUB and len(repository) > MAX_REPOSITORY_LENGTH:
        return f"{_LONG_SPELLING}/{repository.removeprefix(f'{OFFICIAL_NAMESPACE}/')}"
    plain = "." in host or ":" in host or host == "localhost"
    return f"{host}/{repository}" if plain else f"{host}:443/{repository}"


__all__ = ["Contradiction", "Difference", "TooComplex", "Witness", "compare", "shortest_by"]
