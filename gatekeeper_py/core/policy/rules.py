"""The rules of ``allow`` or ``deny``, and the set of those that are live at an instant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gatekeeper_py.core.images.glob import names_match
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.image import Image, Qualifiers
from gatekeeper_py.core.images.index import Cover, PatternIndex, PatternMap, qualifiers_of_all
from gatekeeper_py.core.images.pattern import Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of ``allow`` or ``deny``, or of ``except`` in an entry of ``deny`` or ``require``.

    If ``namespaces`` is ``None``, the rule applies to all namespaces and to requests without a namespace.
    ``until`` is in UTC. ``excepts`` has the entries of ``except``: a rule of ``deny`` does not match what a
    live one of them matches.
    """

    list: Literal["allow", "deny", "except", "require"]
    index: int
    pattern: Pattern
    namespaces: tuple[str, ...] | None = None
    until: datetime | None = None
    owner: str | None = None
    reason: str | None = None
    excepts: tuple[Rule, ...] = ()

    def __str__(self) -> str:
        return f"{self.list}[{self.index}] {self.pattern.text}"

    @property
    def recalls(self) -> bool:
        """Whether this deny rule may match an image with its digest, but not the same image with its tag."""
        return self.pattern.digest is not None or any(each.pattern.tag for each in self.excepts)

    def lives_at(self, instant: datetime) -> bool:
        return self.until is None or instant < self.until

    def excepts_at(self, instant: datetime | None) -> tuple[Rule, ...]:
        """Return the entries of ``except`` that are live at an instant, or all of them if it is ``None``."""
        return live_at(self.excepts, instant)

    def applies_to(self, namespace: str | None) -> bool:
        return names_match(self.namespaces, namespace)


def live_at(rules: tuple[Rule, ...], instant: datetime | None) -> tuple[Rule, ...]:
    """Return the rules that are live at an instant, or all of them if it is ``None``."""
    if instant is None or not rules:
        return rules
    return tuple(rule for rule in rules if rule.lives_at(instant))


class Sparing:
    """Rules by their patterns, and the entries of ``except`` that spare images, each with its rule.

    Both map to the number of the rule.
    """

    __slots__ = ("excepts", "rules")

    def __init__(self) -> None:
        self.rules: PatternMap[int] = PatternMap()
        self.excepts: PatternMap[int] = PatternMap()

    def first(self, image: Image, namespace: str | None, other: int | None) -> int | None:
        """Return the lowest of ``other`` and what ``found`` returns."""
        found = self.found(image, namespace)
        if other is not None:
            found.add(other)
        return min(found, default=None)

    def found(self, image: Image, namespace: str | None) -> set[int]:
        """Return the numbers of the rules that match and whose ``except`` does not."""
        found = set(self.rules.matching(image, namespace))
        if found:
            found.difference_update(self.excepts.matching(image, namespace))
        return found

    def scanned(self) -> int:
        return self.rules.scanned() + self.excepts.scanned()


class RuleSet:
    """The live rules of one list, in document order, with their index.

    Entries of ``except`` that have ended at ``instant`` do not count. If it is ``None``, all count.
    """

    __slots__ = ("_index", "_rules", "_sparing", "by_namespace", "instant", "recalls")

    def __init__(self, rules: Iterable[Rule] = (), instant: datetime | None = None) -> None:
        self.instant = instant
        self.by_namespace = False
        """Whether some rule is for certain namespaces only."""
        self.recalls = False
        """Whether some rule may match an image with its digest, but not the same image with its tag."""
        self._rules: list[Rule] = []
        self._index = PatternIndex()
        self._sparing: Sparing | None = None
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
        if not live:
            self._index.add(order, rule.pattern, rule.namespaces)
            return
        sparing = self._sparing = self._sparing or Sparing()
        sparing.rules.add(rule.pattern, rule.namespaces, order)
        for each in live:
            sparing.excepts.add(each.pattern, each.namespaces, order)
            self.by_namespace = self.by_namespace or each.namespaces is not None
            yield each

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def find(self, image: Image, namespace: str | None) -> Rule | None:
        """Return the first live rule that matches, or ``None``."""
        order = self._index.find(image, namespace)
        if self._sparing is not None:
            order = self._sparing.first(image, namespace, order)
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
