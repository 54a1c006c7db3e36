"""The policy: parsed from text, and compiled at an instant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain, islice
from typing import Final, NamedTuple

from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.exceptions.grants import Grants
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.manifest import Manifest
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.policy.cache import ABSENT, MAX_CACHED_LENGTH, CacheCounts, DecisionCache, key_with
from gatekeeper_py.core.policy.copies import STEP_WORK, MirroredRules, at_once, in_steps
from gatekeeper_py.core.policy.decision import Decision, decide, with_exceptions
from gatekeeper_py.core.policy.document import MODES, Mode, OverrideEntry, PolicyDocument, ResourceEntry
from gatekeeper_py.core.policy.excess import excess
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.mirror import Mirrors, Rewrite
from gatekeeper_py.core.policy.overrides import Overrides
from gatekeeper_py.core.policy.registries import Registries
from gatekeeper_py.core.policy.required import Requirements
from gatekeeper_py.core.policy.resources import PathTree
from gatekeeper_py.core.policy.rules import Rule, RuleSet

REVISION_LENGTH: Final = 12

EXPIRED_LATELY: Final = timedelta(days=90) + datetime.resolution
"""How long a denial names an expired rule that would have approved the image: 90 days, the end included."""

_LAST: Final = datetime.max.replace(tzinfo=UTC) - EXPIRED_LATELY


def parse_policy(text: str, mode: str | None = None, *, max_bytes: int = MAX_FILE_BYTES) -> Policy:
    """Parse a policy document; ``mode`` replaces the document's (the ConfigMap key ``mode``).

    ``max_bytes`` bounds the text, in bytes of UTF-8: ``MAX_FILE_BYTES`` for a file, ``MAX_CONFIGMAP_BYTES``
    for a ConfigMap. Raises ``PolicyError`` whose ``findings`` list the problems, at most 100 of them.
    """
    # Imported here, so that a process that only decides does not load the parsers.
    from gatekeeper_py.core.policy.parse.document import parse_document, refused  # noqa: PLC0415

    document = parse_document(text, mode, max_bytes=max_bytes)
    policy = Policy(document=document, text=text, mode=MODES[mode] if mode else document.mode)
    problem = excess(document, policy.mirrors)
    if problem is not None:
        raise refused(text, problem)
    return policy


class Rewriting(NamedTuple):
    """Whether a policy can rewrite images at an instant, and the next instant at which that may change."""

    possible: bool
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """An accepted policy document with its effective top-level mode.

    ``text`` is what the document was parsed from.
    """

    document: PolicyDocument
    text: str
    mode: Mode

    @cached_property
    def revision(self) -> str:
        """The first 12 hex digits of the SHA-256 of the text, a newline and the effective mode."""
        digest = hashlib.sha256(f"{self.text}\n{self.mode}".encode())
        return digest.hexdigest()[:REVISION_LENGTH]

    @property
    def allow(self) -> tuple[Rule, ...]:
        """Every rule of ``allow``, expired ones included."""
        return self.document.allow

    @property
    def deny(self) -> tuple[Rule, ...]:
        return self.document.deny

    @cached_property
    def mirrors(self) -> Mirrors:
        return Mirrors(self.document.mirrors)

    def at(self, instant: datetime, exceptions: Exceptions = NO_EXCEPTIONS) -> CompiledPolicy:
        """Compile the policy as of an instant. Raises ``ValueError`` for an instant without an offset."""
        return at_once(self.compiling(instant, exceptions))

    def compiling(
        self, instant: datetime, exceptions: Exceptions = NO_EXCEPTIONS
    ) -> Generator[None, None, CompiledPolicy]:
        """Compile as ``at`` does, in steps of about 0.1 ms, between which an event loop can do other work.

        Yields after each step and returns the compiled policy.
        """
        if instant.tzinfo is None:
            message = "the instant needs an offset"
            raise ValueError(message)
        keys = {key.name: key for key in self.document.keys if key.until is None or instant < key.until}
        allow, expired, allow_end, forgotten = yield from _rules_at(self.allow, instant)
        deny, _, deny_end, _ = yield from _rules_at(self.deny, instant)
        overrides = Overrides()
        for entry in self.document.namespaces:
            if entry.until is None or instant < entry.until:
                overrides.add(entry)
            yield
        require = yield from Requirements.compiling(self.document.require, self.mirrors, instant, keys)
        spared_end: datetime | None = None
        spared = chain.from_iterable(requirement.excepts for requirement in require.all)
        while entries := tuple(islice(spared, STEP_WORK)):
            spared_end = _next_end(entries, instant, spared_end)
            yield
        named: list[Manifest] = []
        hosts = set(require.signed_hosts)
        yield from in_steps(self._finding_lookups(named, hosts))
        resources = yield from _paths_by_kind(self.document.resources)
        denied = yield from MirroredRules.compiling(self.mirrors, deny)
        grants = yield from Grants.compiling(self.document.exceptions)
        ends = (_next_end(entries, instant) for entries in (self.document.namespaces, self.document.keys))
        next_expiry = _first(allow_end, deny_end, spared_end, *ends)
        change = exceptions.next_change(grants, instant) if grants else None
        return CompiledPolicy(
            policy=self,
            instant=instant,
            next_expiry=next_expiry,
            next_change=_first(next_expiry, change, forgotten),
            allow=allow,
            deny=deny,
            denied_origins=denied,
            expired=expired,
            require=require,
            overrides=overrides,
            named_manifests=tuple(named),
            looked_up_hosts=frozenset(hosts),
            resources=resources,
            grants=grants,
            exceptions=exceptions,
        )

    def _finding_lookups(self, named: list[Manifest], hosts: set[str]) -> Iterator[int]:
        """Add ``named_manifests``, and ``looked_up_hosts`` except those of signatures, in steps.

        Yields the work of each step (``STEP_WORK``).
        """
        document = self.document
        rewrites = self.mode.rewrites or any(entry.mode.rewrites for entry in document.namespaces)
        pins = rewrites and any(requirement.digest for requirement in document.require)
        looks_up = any(requirement.looks_up for requirement in document.require)
        for requirement in document.require:
            asks = requirement.looks_up or (pins and requirement.digest)
            for pattern in requirement.images if asks else ():
                if not is_glob(pattern.host):
                    hosts.add(pattern.host)
                if requirement.looks_up:
                    named += _named_manifests(pattern)
                yield 4
        for mirror in document.mirrors:
            if mirror.verify or pins or looks_up:  # requirements follow mirrors
                hosts.update(to.host for to in mirror.targets)
                yield 2
        if pins:
            hosts.update(registry.host for registry in document.registries)

    @property
    def rewrites(self) -> bool:
        """Whether mirrors, or requirements of a digest, rewrite images in mutate mode.

        If rules or mirrors get a new field that makes them rewrite images, add the field here.
        """
        return len(self.mirrors) > 0 or any(each.digest for each in self.document.require)

    def rewriting(self, now: datetime) -> Rewriting:
        """Return whether a part of the policy rewrites images and some namespace has the mode for it."""
        untils: list[datetime | None] = [None] if self.mode.rewrites else []
        untils += [each.until for each in self.document.namespaces if each.mode.rewrites]
        live = [until for until in untils if until is None or now < until] if self.rewrites else []
        if None in live:
            return Rewriting(possible=True)
        return Rewriting(possible=bool(live), until=max(filter(None, live), default=None))


def _first(*instants: datetime | None) -> datetime | None:
    return min((each for each in instants if each is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class CompiledPolicy:
    """A policy as of an instant, with its exceptions and its cache. It answers every question about names.

    ``next_expiry`` is the next instant at which a rule, an override or a key expires. ``next_change`` is the
    next instant at which an answer may change: one of these expires, an exception begins or ends, or a rule
    is no longer in ``expired``. Each is ``None`` if there is no such instant. ``expired`` are the allow rules
    that expired in the 90 days before ``instant``. ``named_manifests`` are the tags and digests that
    requirements with look-ups name exactly, so that they can be looked up in advance. ``looked_up_hosts`` are
    the registries that may be queried for images (docs/registries.md). If nothing is looked up, it is empty.
    ``resources`` are the declared image paths by (group, kind). Exceptions begin and end by ``clock``, or as
    of ``instant`` without one. Without a cache, every image is decided each time.
    """

    policy: Policy
    instant: datetime
    next_expiry: datetime | None
    next_change: datetime | None
    allow: RuleSet
    deny: RuleSet
    denied_origins: MirroredRules
    expired: RuleSet
    require: Requirements
    overrides: Overrides
    named_manifests: tuple[Manifest, ...]
    looked_up_hosts: frozenset[str]
    resources: dict[tuple[str, str], PathTree]
    grants: Grants
    exceptions: Exceptions
    cache: DecisionCache | None = None
    clock: Callable[[], datetime] | None = None
    revision: str = field(init=False)
    by_namespace: bool = field(init=False)
    """Whether a decision can depend on the namespace."""
    looks_up: bool = field(init=False)
    """Whether some answer depends on a registry."""
    requires: bool = field(init=False)
    """Whether there is a requirement."""
    adds_pull_secrets: bool = field(init=False)
    """Whether some mirror adds a pull secret to Pods."""

    def __post_init__(self) -> None:
        derived = {
            "revision": self.policy.revision,
            "by_namespace": any(
                rules.by_namespace for rules in (self.allow, self.deny, self.expired, self.require)
            ),
            "looks_up": bool(self.looked_up_hosts),
            "requires": bool(self.policy.document.require),
            "adds_pull_secrets": any(mirror.image_pull_secret is not None for mirror in self.mirrors),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def serving(
        self, cache_size: int, counts: CacheCounts, clock: Callable[[], datetime] | None = None
    ) -> CompiledPolicy:
        """Return this policy with a new cache, which keeps ``cache_size`` decisions, and with a clock."""
        return replace(self, cache=DecisionCache(cache_size, counts) if cache_size else None, clock=clock)

    def excepting(self, exceptions: Exceptions) -> CompiledPolicy:
        """Return this policy, its cache included, with these exceptions."""
        return self if self.exceptions is exceptions else replace(self, exceptions=exceptions)

    @property
    def mirrors(self) -> Mirrors:
        return self.policy.mirrors

    @property
    def message(self) -> str:
        return self.policy.document.message

    @property
    def cached(self) -> int:
        """The number of decisions in the cache."""
        return 0 if self.cache is None else len(self.cache.decisions)

    @property
    def registries(self) -> Registries:
        """How the hosts are reached for look-ups."""
        entries = {entry.host: entry for entry in self.policy.document.registries}
        return Registries(entries, self.require.signed_hosts)

    def mode(self, namespace: str | None) -> Mode:
        """Return the mode in a namespace: that of the first live override naming it, else the policy's."""
        return self.overrides.mode(namespace) or self.policy.mode

    def pull_secret(self, mirror: int) -> str | None:
        """Return the name of the Secret that Pods need to pull from a mirror, if it has one."""
        return self.policy.document.mirrors[mirror].image_pull_secret

    def decide(self, namespace: str | None, image: str) -> Decision:
        """Judge one image as written, by the rules and the exceptions."""
        decision = self.decide_by_rules(namespace, image)
        return decision if decision.approved or not self.grants else self.excepted(namespace, decision)

    def excepted(self, namespace: str | None, decision: Decision) -> Decision:
        """Return the decision on a rejected image with the exceptions that are in effect now."""
        if not self.grants:
            return decision
        now = self.instant if self.clock is None else self.clock()
        rules = self.allow, self.denied_origins, self.require
        return with_exceptions(decision, self.exceptions, self.grants, *rules, namespace, now)

    def decide_by_rules(self, namespace: str | None, image: str) -> Decision:
        """Judge one image as written without exceptions. The answer holds until a rule expires."""
        cache = self.cache
        key = key_with(namespace, image) if self.by_namespace else image
        if cache is None or key is None or len(image) > MAX_CACHED_LENGTH:
            return decide(self.allow, self.denied_origins, self.expired, self.require, namespace, image)
        decision: Decision | None = cache.decisions.get(key)
        if decision is not None:
            cache.counts.hits += 1
            return decision
        cache.counts.misses += 1
        decision = decide(self.allow, self.denied_origins, self.expired, self.require, namespace, image)
        cache.decisions[key] = decision
        return decision

    def rewrite(self, namespace: str | None, image: str) -> str | None:
        """Return the image that mutate mode would use instead, whatever the mode is; ``None`` to keep it."""
        plan = self.plan(namespace, image)
        return None if plan is None else plan.image

    def plan(self, namespace: str | None, image: str) -> Rewrite | None:
        """Return the rewrite with its mirror and, when it cannot be done, the problem.

        ``None`` when the image is not below the source of any mirror, or when it is denied or invalid.
        """
        cache = self.cache
        key = key_with(namespace, image) if self.by_namespace else image
        if cache is None or key is None or len(image) > MAX_CACHED_LENGTH:
            return self._planned(namespace, image)
        plan = cache.plans.get(key, ABSENT)
        if plan is ABSENT:
            plan = cache.plans[key] = self._planned(namespace, image)
        return plan  # type: ignore[no-any-return]

    def _planned(self, namespace: str | None, image: str) -> Rewrite | None:
        # Exceptions change no rewrite: an image that a deny rule matches stays as written.
        decision = self.decide_by_rules(namespace, image)
        if decision.parsed is None or decision.reason == "denied":
            return None
        return self.mirrors.rewrite(decision.parsed)


def _paths_by_kind(
    entries: tuple[ResourceEntry, ...],
) -> Generator[None, None, dict[tuple[str, str], PathTree]]:
    """Return the declared paths of each kind, merged from all entries. Runs in steps."""
    trees: dict[tuple[str, str], PathTree] = {}
    number = work = 0
    for entry in entries:
        tree = trees.setdefault((entry.group, entry.kind), PathTree())
        for path in entry.images:
            tree.add(number, path)
            number += 1
            work += 10 + len(path.steps)
            if work > STEP_WORK:
                work = 0
                yield
    return trees


def _named_manifests(pattern: Pattern) -> Iterator[Manifest]:
    """Yield the manifest that a pattern names exactly, if there is one."""
    exact = not pattern.subtree and not any(map(is_glob, pattern.segments))
    named = pattern.tag if pattern.digest is None else pattern.digest
    if exact and named is not None and not is_glob(named):
        yield Manifest(pattern.host, "/".join(pattern.segments), named)


def _rules_at(
    listed: tuple[Rule, ...], instant: datetime
) -> Generator[None, None, tuple[RuleSet, RuleSet, datetime | None, datetime | None]]:
    """Return the live rules of a list, those that expired lately, and two instants. Runs in steps.

    At the first instant, the next rule expires. At the second one, a rule no longer counts as expired lately.
    """
    rules, expired = RuleSet(instant=instant), RuleSet()
    end, first, work = None, None, 0
    for rule in listed:
        work += 10 + 4 * len(rule.namespaces or ())
        if rule.until is None or instant < rule.until:
            for each in rules.adding(rule):
                work += 10 + 4 * len(each.namespaces or ())
                if work > STEP_WORK:
                    work = 0
                    yield
            end = _next_end((rule, *rule.excepts), instant, end)
        elif instant - rule.until < EXPIRED_LATELY:
            expired.add(rule)
            first = _first(first, rule.until)
        if work > STEP_WORK:
            work = 0
            yield
    # In the last 90 days that a datetime can have, no such instant exists.
    forgotten = None if first is None or first > _LAST else first + EXPIRED_LATELY
    return rules, expired, end, forgotten


def _next_end(
    entries: Iterable[Rule | OverrideEntry | Key], instant: datetime, end: datetime | None = None
) -> datetime | None:
    """Return the instant when the first live entry expires, or ``end`` if no live entry expires earlier."""
    for each in entries:
        until = each.until
        if until is not None and until > instant and (end is None or until < end):
            end = until
    return end
