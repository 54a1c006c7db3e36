"""Compare two policies over every image that can be written.

Images fall into finitely many classes that no pattern of either policy tells apart: by host, by path, by tag
or digest, and by namespace. The comparison examines one member of every class in which the two policies
could differ. So "no difference" is a proof. Each difference is checked with the ordinary decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from gatekeeper_py.core.compare.conditions import namespaces, qualifiers
from gatekeeper_py.core.compare.entries import PolicyEntry, entries_of, entries_of_grants
from gatekeeper_py.core.compare.parts import LABEL, SEGMENT, Effort, GlobSet, TooComplex
from gatekeeper_py.core.compare.sequences import Item, Sequences
from gatekeeper_py.core.exceptions.grants import SOURCES, Grant, Override
from gatekeeper_py.core.images.entry import NO_LIMIT
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.index import qualifiers_of
from gatekeeper_py.core.images.pattern import ANY, split_port
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    HUB_ALIASES,
    MAX_IMAGE_LENGTH,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    effective_tag,
    parse_reference,
)
from gatekeeper_py.core.policy.decision import names_to_except, signing_rule
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy
from gatekeeper_py.core.policy.rules import Rule

MAX_WITNESSES: Final = 100
MAX_COMBINATIONS: Final = 2_000_000
"""Maximum number of classes that are examined. It bounds the time to about a minute. 10,000 rules that share
little need a tenth of it."""

_LONG_SPELLING: Final = "registry-1.docker.io"
"""A name of Docker Hub to which the grammar does not add ``library/``, so that longer names are possible."""

CLASS_WORK: Final = 4
"""Work for one class of repositories. The work for one class of tags, digests and namespaces is 1, or
``SIGNATURE_WORK`` where grants override signatures, because then the ordinary decision is needed."""

SIGNATURE_WORK: Final = 4

Change = Literal["approved", "rejected", "rewritten"]


class Witness(NamedTuple):
    """One image that the two policies treat differently. ``old`` and ``new`` are the rules that decided."""

    image: str
    namespace: str | None
    before: Literal["approved", "rejected"]
    after: Literal["approved", "rejected"]
    change: Change
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

    Both policies reject these images, at least without a signature. ``False`` is a proof, as in
    ``Difference``, if both policies require the same signatures. ``exist`` is whether a policy has grants at
    all.
    """

    widens: bool
    narrows: bool
    witnesses: tuple[GrantWitness, ...]
    exist: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What the new policy changes. ``False`` proves that no image in any namespace has this change."""

    widens: bool
    narrows: bool
    rewrites: bool
    witnesses: tuple[Witness, ...]
    grants: GrantDifference
    next_change: datetime | None
    """When the first rule or override of either policy expires. The answers hold until then."""

    @property
    def changes(self) -> frozenset[Change]:
        """The kinds of change that at least one image has."""
        found: tuple[tuple[Change, bool], ...] = (
            ("approved", self.widens),
            ("rejected", self.narrows),
            ("rewritten", self.rewrites),
        )
        return frozenset(change for change, holds in found if holds)


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
    found = _Comparison(without.at(instant), policy.at(instant), grants=False).run().witnesses
    return next((witness for witness in found if witness.change == change), None)


def _without(rules: tuple[Rule, ...], index: int) -> tuple[Rule, ...]:
    after = (replace(rule, index=rule.index - 1) for rule in rules[index + 1 :])
    return (*rules[:index], *after)


class _Shared:
    """Entries that match several classes of hosts."""

    def __init__(self, entries: Sequence[PolicyEntry]) -> None:
        self._all = entries
        self._by_first: dict[str, list[PolicyEntry]] = {}
        for entry in entries:
            self._by_first.setdefault(_first(entry), []).append(entry)
        self._wild = [entry for first, found in self._by_first.items() if is_glob(first) for entry in found]

    def beside(self, own: Iterable[PolicyEntry]) -> Iterable[PolicyEntry]:
        """Return the entries that can match an image that an entry of ``own`` also matches."""
        firsts = {_first(entry) for entry in own}
        if any(map(is_glob, firsts)):
            return self._all
        return chain(self._wild, *(self._by_first.get(first, ()) for first in sorted(firsts)))


def _matches_all(entry: PolicyEntry) -> bool:
    """Return whether an entry matches all images of its hosts."""
    return entry.unconditional and not entry.images.segments and entry.longest >= NO_LIMIT


def _override_signatures(entries: Iterable[PolicyEntry]) -> bool:
    """Return whether some grant overrides signatures."""
    return any(entry.role == "signature" for entry in entries)


def _first(entry: PolicyEntry) -> str:
    """Return the glob for the first segment of the repositories that an entry matches."""
    return entry.images.segments[0] if entry.images.segments else ANY


class _HostClass(NamedTuple):
    """A class of hosts: a member, and the entries whose host matches it.

    Images that only entries of ``shared`` match are judged as in another class of hosts. They are examined
    with that class.
    """

    name: str
    own: list[PolicyEntry]
    shared: _Shared | None = None


class _Rules:
    """The rules of one policy for one repository, as sets of entries with one bit for each entry."""

    __slots__ = ("_allow", "_deny", "_grants", "_overrides", "_spare")

    def __init__(self) -> None:
        self._allow = 0
        self._grants = 0
        self._overrides: dict[str, int] = {}
        """Name of the image -> the grants for it that override deny rules."""
        self._deny: dict[tuple[str, str], int] = {}
        """Name of the image, and group of deny rules -> the deny rules that match this name."""
        self._spare: dict[tuple[str, str], int] = {}

    def add(self, entry: PolicyEntry, bit: int) -> None:
        if entry.role == "allow":
            self._allow |= bit
        elif entry.role == "deny":
            key = (entry.name, entry.group)
            self._deny[key] = self._deny.get(key, 0) | bit
        elif entry.role == "spare":
            key = (entry.name, entry.group)
            self._spare[key] = self._spare.get(key, 0) | bit
        elif entry.role == "grant":
            self._grants |= bit
        elif entry.role == "override":
            self._overrides[entry.name] = self._overrides.get(entry.name, 0) | bit

    def approve(self, holding: int) -> bool:
        """Return whether the policy approves an image for which these entries hold."""
        return bool(self._allow & holding) and not self._denied(holding)

    def grant(self, holding: int) -> bool:
        """Return whether an exception could approve such an image, if the rules reject it."""
        names = self._denied(holding)
        if not names and self._grants & holding:
            return True
        if not self._allow & holding:
            names.add("")
        return all(self._overrides.get(name, 0) & holding for name in names)

    def _denied(self, holding: int) -> set[str]:
        """Return those names of such an image that deny rules match."""
        return {
            key[0]
            for key, denials in self._deny.items()
            if denials & holding and not self._spare.get(key, 0) & holding
        }


class _Comparison:
    def __init__(self, old: CompiledPolicy, new: CompiledPolicy, *, grants: bool = True) -> None:
        self._policies = (old, new)
        # Equal entries of the two policies are one: they match the same images.
        self._sides: dict[PolicyEntry, list[bool]] = {}
        overridden = grants and any("deny" in g.overrides for p in (old, new) for g in p.grants)
        for side, policy in enumerate((old, new)):
            rules = entries_of(policy, overridden=overridden)
            for entry in chain(rules, entries_of_grants(policy) if grants else ()):
                self._sides.setdefault(entry, [False, False])[side] = True
        self._entries = tuple(self._sides)
        self._modes = tuple(
            (policy.policy.mode, tuple((o.names, o.mode) for o in policy.overrides)) for policy in (old, new)
        )
        self._budget = MAX_COMBINATIONS
        self._effort = Effort()
        self._found: dict[tuple[str, ...], Witness] = {}
        self._changes: set[Change] = set()
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
            widens="approved" in self._changes,
            narrows="rejected" in self._changes,
            rewrites="rewritten" in self._changes,
            witnesses=tuple(sorted(shown, key=lambda w: w.change)),
            grants=self._grants(),
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

    def _may_differ(self, entries: Sequence[PolicyEntry]) -> bool:
        """Return whether entries of the policies differ, or their modes do and an image can be rewritten."""
        if any(self._sides[entry] != [True, True] for entry in entries):
            return True
        return self._modes[0] != self._modes[1] and any(entry.role == "source" for entry in entries)

    def _settled(self, entries: Sequence[PolicyEntry], always: Callable[[PolicyEntry], bool]) -> bool:
        """Return whether both policies treat every image that only these entries match in the same way.

        This means the same verdict, the same name after a rewrite, and that exceptions can approve the same
        images of those that both policies reject. ``always`` returns whether an entry
        matches all of these images.
        """
        roles = {entry.role for entry in entries}
        if ("signature" in roles and "allow" in roles) or ("override" in roles and "deny" in roles):
            return False
        decided: dict[str, list[bool]] = {role: [False, False] for role in ("allow", "deny", "grant")}
        allows = rewriting = grants = False
        same_denials = same_grants = same_overrides = True
        for entry in entries:
            sides = self._sides[entry]
            allows |= entry.role == "allow"
            rewriting |= entry.role == "source"
            same_denials &= entry.role != "deny" or all(sides)
            same_grants &= entry.role not in {"grant", "override"} or all(sides)
            same_overrides &= entry.role != "override" or all(sides)
            grants |= entry.role in {"grant", "override"}
            # A deny rule with an ``except`` (a group) does not deny every image that it matches.
            if entry.role in decided and not entry.group and always(entry):
                decided[entry.role] = [a or b for a, b in zip(decided[entry.role], sides, strict=True)]
        if all(decided["deny"]):
            return True
        if rewriting:
            return False
        if not allows:
            same = same_grants or (same_overrides and all(decided["grant"]))
            return not grants or (same and same_denials)
        # If every image matches an allow rule, only a deny rule can reject it.
        return same_denials and all(decided["allow"])

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise TooComplex("hosts, paths, tags and namespaces")

    def _hosts(self) -> Iterator[_HostClass]:
        """Yield every class of hosts."""
        everywhere = [entry for entry in self._entries if entry.images.host == ANY]
        by_host: dict[str, list[PolicyEntry]] = {}
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

            def entries(matched: GlobSet, texts: Sequence[str] = texts) -> Iterator[PolicyEntry]:
                return (entry for index in sorted(matched) for entry in by_host.get(texts[index], ()))

            for matched, host in hosts.items():
                common = self._common(matched, host, hosts, texts)
                if common is None:
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

    def _paths(self, host: str, entries: list[PolicyEntry], own: Iterable[PolicyEntry] | None = None) -> None:
        """Examine every class of repositories in one class of hosts, or only those that ``own`` matches."""
        items = list(dict.fromkeys(entry.item for entry in entries))
        by_item: dict[Item, list[PolicyEntry]] = {}
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

    def _qualified(self, host: str, repository: str, entries: list[PolicyEntry]) -> None:
        """Examine every class of tags, digests and namespaces for one repository."""
        rewriting = any(entry.role == "source" for entry in entries)
        # The mode of a namespace matters only if an image can be rewritten.
        names = {name for _, overrides in self._modes for names, _ in overrides for name in names}
        in_namespaces = namespaces(entries, names if rewriting else (), self._effort)
        for_qualifiers = qualifiers(entries, self._effort)
        signatures = _override_signatures(entries)
        work = SIGNATURE_WORK if signatures else 1
        self._spend(len(in_namespaces) * len(for_qualifiers) * (len(entries) // 4096 + work))
        rules = self._rules(entries)
        name = _written(host, repository)
        modes = {
            namespace: tuple(rewriting and policy.mode(namespace).rewrites for policy in self._policies)
            for namespace, _ in in_namespaces
        }
        # If the same entries hold under the same modes, the answers are the same. So the first combination is
        # enough; it is the shortest.
        seen: set[tuple[int, tuple[bool, ...], int]] = set()
        for suffix, holding in for_qualifiers:
            for namespace, there in in_namespaces:
                # Rules for digests (@*) also protect tags, but their entries hold only for digests.
                key = (holding & there, modes[namespace], there if signatures else 0)
                if key not in seen:
                    seen.add(key)
                    before, after = (rule.approve(key[0]) for rule in rules)
                    self._judge(f"{name}{suffix}", namespace, (before, after), rewriting=rewriting)
                    if not before and not after:
                        could = [rule.grant(key[0]) for rule in rules]
                        if could[0] != could[1]:
                            self._record_grant(f"{name}{suffix}", namespace, could)
                    if signatures:
                        self._record_unsigned(f"{name}{suffix}", namespace)

    def _rules(self, entries: Sequence[PolicyEntry]) -> list[_Rules]:
        """Return for each policy which entries are its allow rules, its deny rules and their ``except``."""
        found = [_Rules(), _Rules()]
        for index, entry in enumerate(entries):
            for side in (0, 1):
                if self._sides[entry][side]:
                    found[side].add(entry, 1 << index)
        return found

    def _judge(
        self, image: str, namespace: str | None, approved: tuple[bool, bool], *, rewriting: bool
    ) -> None:
        """Compare the two policies on one image, given whether each of them approves it."""
        before, after = approved
        if before != after:
            self._record(image, namespace, "approved" if after else "rejected", approved)
        elif rewriting:
            old, new = (self._rewritten(policy, namespace, image) for policy in self._policies)
            if (old and old.image) != (new and new.image):
                # This change is caused by a mirror, not by a rule.
                sources = tuple("" if found is None else found.mirror.source.text for found in (old, new))
                self._record(image, namespace, "rewritten", approved, sources)

    @staticmethod
    def _rewritten(policy: CompiledPolicy, namespace: str | None, image: str) -> Rewrite | None:
        return policy.plan(namespace, image) if policy.mode(namespace).rewrites else None

    def _record(
        self,
        image: str,
        namespace: str | None,
        change: Change,
        expected: tuple[bool, bool],
        sources: tuple[str, ...] = (),
    ) -> None:
        old, new = (policy.decide_by_rules(namespace, image) for policy in self._policies)
        if (old.approved, new.approved) != expected:
            raise Contradiction(f"{image} in namespace {namespace}: computed {expected}")
        self._changes.add(change)
        witness = Witness(
            image=image,
            namespace=namespace,
            before="approved" if old.approved else "rejected",
            after="approved" if new.approved else "rejected",
            change=change,
            old=old.rule,
            new=new.rule,
        )
        key = (change, str(old.rule), str(new.rule), *sources)
        known = self._found.get(key)
        if known is None or len(image) < len(known.image):
            self._found[key] = witness

    def _record_grant(self, image: str, namespace: str | None, expected: list[bool]) -> None:
        old, new = (_grant_for(policy, namespace, image) for policy in self._policies)
        if [old is not None, new is not None] != expected:
            raise Contradiction(f"exceptions for {image} in namespace {namespace}: computed {expected}")
        self._record_grants(image, namespace, old, new)

    def _record_unsigned(self, image: str, namespace: str | None) -> None:
        """Compare what exceptions can approve if the image has no signature and both policies reject it."""
        found = []
        for policy in self._policies:
            needed = _needed(policy, namespace, image, signed=False)
            if needed is None:
                return
            found.append(_first_grant(policy, namespace, image, needed))
        old, new = found
        if (old is None) != (new is None):
            self._record_grants(image, namespace, old, new)

    def _record_grants(self, image: str, namespace: str | None, old: Grant | None, new: Grant | None) -> None:
        change: Literal["granted", "withdrawn"] = "withdrawn" if new is None else "granted"
        witness = GrantWitness(image, namespace, change, old, new)
        key = (change, str(old), str(new))
        known = self._granted.get(key)
        if known is None or len(image) < len(known.image):
            self._granted[key] = witness


def _needed(
    policy: CompiledPolicy, namespace: str | None, image: str, *, signed: bool
) -> frozenset[Override] | None:
    """Return what a grant must override to approve an image; ``None`` if none can or must.

    ``signed`` is whether the image has every signature that the policy requires.
    """
    decision = policy.decide_by_rules(namespace, image)
    if decision.reference is None:
        return None
    needed: set[Override] = {"deny"} if decision.reason == "denied" else set()
    if not signed and signing_rule(policy.allow, decision.reference, namespace) is not None:
        needed.add("signature")
    return None if decision.approved and not needed else frozenset(needed)


def _grant_for(policy: CompiledPolicy, namespace: str | None, image: str) -> Grant | None:
    """Return the first grant with which an exception could approve an image with all signatures."""
    needed = _needed(policy, namespace, image, signed=True)
    return None if needed is None else _first_grant(policy, namespace, image, needed)


def _first_grant(
    policy: CompiledPolicy, namespace: str | None, image: str, needed: frozenset[Override]
) -> Grant | None:
    """Return the first grant for an image; ``None`` if one of its names has no grant with these overrides."""
    reference = parse_reference(image)
    qualifiers_of_image = qualifiers_of(effective_tag(reference), reference.digest)
    names = names_to_except(reference, policy.allow, policy.denied_origins, namespace, needed)
    found = [
        min(
            (
                grant
                for source, each in SOURCES.items()
                if each.scope == "installation" or namespace is not None
                for grant in policy.grants.matching(source, name, qualifiers_of_image, namespace)
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
