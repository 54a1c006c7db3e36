"""The rules of ``allow`` or ``deny``, and the set of those that are live at an instant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gatekeeper_py.core.images.glob import names_match
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.index import Cover, PatternIndex, PatternMap, Qualifiers, qualifiers_of_all
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.reference import Location
from gatekeeper_py.core.policy.keys import NO_KEYS, Key

OnError = Literal["keep", "deny"]
"""What happens to an approved image that could not be verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of ``allow`` or ``deny``, or of ``except`` in an entry of ``deny``.

    If ``namespaces`` is ``None``, the rule applies to all namespaces and to requests without a namespace.
    ``until`` is in UTC. Only entries of ``allow`` set the fields from ``verify`` to ``signatures``. An image
    that a rule with ``verify`` approves must exist in its registry; ``on_error`` applies if that is not
    known. With ``pin``, which implies ``verify``, mutate mode adds the digest that was verified. With
    ``signed_by``, which implies both, one of the keys with these names must have signed the image.
    ``signatures`` is the repository that holds the signatures, empty for the image's own. ``excepts``
    has the entries of ``except``: a rule of ``deny`` does not match what a live one of them matches.
    """

    list: Literal["allow", "deny", "except"]
    index: int
    pattern: Pattern
    namespaces: tuple[str, ...] | None = None
    until: datetime | None = None
    owner: str | None = None
    reason: str | None = None
    verify: bool = False
    on_error: OnError = "keep"
    pin: bool = False
    signed_by: tuple[str, ...] = ()
    signatures: str = ""
    excepts: tuple[Rule, ...] = ()

    def __str__(self) -> str:
        return f"{self.list}[{self.index}] {self.pattern.text}"

    @property
    def lookup(self) -> tuple[bool, OnError, bool, tuple[str, ...], str]:
        """The fields that decide whether and how the images of this rule are looked up."""
        return self.verify, self.on_error, self.pin, self.signed_by, self.signatures

    @property
    def hosts(self) -> tuple[str, ...]:
        """The registries that are queried about the images of this rule."""
        host = self.pattern.host
        return (host, self.signatures.partition("/")[0]) if self.signatures else (host,)

    @property
    def recalls(self) -> bool:
        """Whether this deny rule may match an image with its digest, but not the same image with its tag."""
        return self.pattern.digest is not None or any(each.pattern.tag for each in self.excepts)

    def lives_at(self, instant: datetime) -> bool:
        return self.until is None or instant < self.until

    def excepts_at(self, instant: datetime | None) -> tuple[Rule, ...]:
        """Return the entries of ``except`` that are live at an instant, or all of them if it is ``None``."""
        if instant is None or not self.excepts:
            return self.excepts
        return tuple(rule for rule in self.excepts if rule.lives_at(instant))

    def applies_to(self, namespace: str | None) -> bool:
        return names_match(self.namespaces, namespace)


class _Sparing:
    """The rules with a live ``except``. ``excepts`` has the entries, each with the order of its rule."""

    __slots__ = ("excepts", "rules")

    def __init__(self) -> None:
        self.rules: PatternMap[int] = PatternMap()
        self.excepts: PatternMap[int] = PatternMap()

    def first(
        self, location: Location, qualifiers: Qualifiers, namespace: str | None, other: int | None
    ) -> int | None:
        """Return the lowest of ``other`` and the orders of rules that match and whose ``except`` does not."""
        found = set(self.rules.matching(location, qualifiers, namespace))
        if found:
            found.difference_update(self.excepts.matching(location, qualifiers, namespace))
        if other is not None:
            found.add(other)
        return min(found, default=None)

    def scanned(self) -> int:
        return self.rules.scanned() + self.excepts.scanned()


class RuleSet:
    """The live rules of one list, in document order, with their index.

    Entries of ``except`` that have ended at ``instant`` do not count. If it is ``None``, all count. ``keys``
    are the live keys by name.
    """

    __slots__ = ("_index", "_rules", "_sparing", "by_namespace", "instant", "keys", "recalls", "verified")

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        instant: datetime | None = None,
        keys: Mapping[str, Key] = NO_KEYS,
    ) -> None:
        self.instant = instant
        self.keys = keys
        self.by_namespace = False
        """Whether some rule is for certain namespaces only."""
        self.recalls = False
        """Whether some rule may match an image with its digest, but not the same image with its tag."""
        self.verified: list[Rule] = []
        """The rules that need a look-up in a registry."""
        self._rules: list[Rule] = []
        self._index = PatternIndex()
        self._sparing: _Sparing | None = None
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> None:
        """Append a rule. Only the code that creates the set may call it."""
        for _ in self.adding(rule):
            pass

    def adding(self, rule: Rule) -> Iterator[Rule]:
        """Append a rule in steps. Yields the live entries of its ``except``, each after its step."""
        order = len(self._rules)
        live = rule.excepts_at(self.instant)
        self._rules.append(rule)
        if rule.namespaces is not None:
            self.by_namespace = True
        self.recalls = self.recalls or rule.recalls
        if rule.verify:
            self.verified.append(rule)
        if not live:
            self._index.add(order, rule.pattern, rule.namespaces)
            return
        sparing = self._sparing = self._sparing or _Sparing()
        sparing.rules.add(rule.pattern, rule.namespaces, order)
        for each in live:
            sparing.excepts.add(each.pattern, each.namespaces, order)
            self.by_namespace = self.by_namespace or each.namespaces is not None
            yield each

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def signers(self, rule: Rule) -> tuple[Key, ...]:
        """Return the live keys of which one must have signed the images of a rule."""
        return tuple(self.keys[name] for name in rule.signed_by if name in self.keys)

    def find(self, location: Location, qualifiers: Qualifiers, namespace: str | None) -> Rule | None:
        """Return the first live rule that matches, or ``None``."""
        order = self._index.find(location, qualifiers, namespace)
        if self._sparing is not None:
            order = self._sparing.first(location, qualifiers, namespace, order)
        return None if order is None else self._rules[order]

    def scanned(self) -> int:
        """Return how many rules one image is compared with at most (``PatternIndex.scanned``)."""
        return self._index.scanned() + (0 if self._sparing is None else self._sparing.scanned())

    def cover(self, pattern: Pattern, scan: Scan) -> Cover:
        """Return leaves of the index whose paths match everything that ``pattern`` can match.

        Rules with a live ``except`` are not among them.
        """
        return self._index.cover(pattern, scan)

    def covering_all(self, pattern: Pattern, namespace: str | None, scan: Scan) -> Iterator[Rule]:
        """Yield the rules that match every image of a pattern in a namespace, as far as ``scan`` allows."""
        return self.covering(self.cover(pattern, scan), qualifiers_of_all(pattern), namespace)

    def covering(self, cover: Cover, qualifiers: Qualifiers, namespace: str | None) -> Iterator[Rule]:
        """Yield the rules in these leaves that match every image with these qualifiers."""
        return (self._rules[order] for order in cover.orders(qualifiers, namespace))
