"""The policy as the checks see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.image import Qualifiers
from gatekeeper_py.core.images.index import qualifiers_of_all
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.finding import Path, Remark
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule, RuleSet

_MAX_SHOWN: Final = 80
"""Characters of a pattern in a message, so that the rest of the message is not cut."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The policy as of an instant, as the checks read it.

    ``live_allow`` and ``live_deny`` contain the rules that have not expired, and find those that cover a
    pattern. ``signed`` finds what requirements with ``signedBy`` cover. ``comparisons`` is the maximum number
    of comparisons that a check may make.
    """

    policy: Policy
    instant: datetime
    comparisons: int
    live_allow: RuleSet
    live_deny: RuleSet
    signed: RuleSet

    @classmethod
    def of(cls, policy: Policy, instant: datetime, comparisons: int) -> Subject:
        allow, deny = (_longest_living_first(rules, instant) for rules in (policy.allow, policy.deny))
        require = policy.document.require
        signing = (rule for each in require if each.signed_by and not each.warns for rule in each.rules)
        return cls(policy, instant, comparisons, allow, deny, RuleSet(signing, instant))

    def is_live(self, rule: Rule) -> bool:
        return rule.lives_at(self.instant)

    def approving(self) -> Iterator[Rule]:
        """Yield the live allow rules in the order of the document."""
        return filter(self.is_live, self.policy.allow)

    def approving_unsigned(self) -> Iterator[Rule]:
        """Yield the live allow rules that approve whatever content somebody pushes."""
        scan = Scan(total=self.comparisons)
        for rule in self.approving():
            if not self.signed or (covering(self.signed, rule, scan) is None and not scan.cut):
                yield rule

    def live(self) -> Iterator[Rule]:
        """Yield all live rules, those of ``allow`` first."""
        yield from self.approving()
        yield from filter(self.is_live, self.policy.deny)


def _longest_living_first(rules: tuple[Rule, ...], instant: datetime) -> RuleSet:
    """Return the live rules, longest-living first, because the set's index keeps the first of equal ones."""
    live = [rule for rule in rules if rule.lives_at(instant)]
    if any(rule.until is not None for rule in live):
        forever = datetime.max.replace(tzinfo=UTC)
        live.sort(key=lambda rule: rule.until or forever, reverse=True)
    return RuleSet(live, instant)


def covering(
    rules: RuleSet,
    rule: Rule,
    scan: Scan,
    qualifiers: Qualifiers | None = None,
    fits: Callable[[Rule], bool] = lambda _: True,
) -> Rule | None:
    """Return a rule of a set that fits and matches all that ``rule`` matches, or all with these qualifiers.

    If different rules do so in the rule's namespaces, return the one for the last namespace. ``None`` if no
    rule does so in one of them, as far as ``scan`` allows.
    """
    cover = rules.cover(rule.pattern, scan)
    qualifiers = qualifiers or qualifiers_of_all(rule.pattern)
    found: Rule | None = None
    for namespace in rule.namespaces if rule.namespaces is not None else (None,):
        found = next(filter(fits, rules.covering(cover, qualifiers, namespace)), None)
        if found is None:
            return None
    return found


def scope_of(rule: Rule) -> Scope:
    """Return the images of a rule without its ``except``. ``because`` is the index of the rule."""
    return Scope(images=rule.pattern, namespaces=rule.namespaces, because=str(rule.index))


def warning(code: str, path: Path, message: str, proposal: str = "") -> Remark:
    return Remark(severity="warning", code=code, path=path, message=message, proposal=proposal)


def path_of(rule: Rule) -> Path:
    return (rule.list, rule.index)


def image_path(rule: Rule) -> Path:
    """Return the path of a rule's pattern. If the rule is only a pattern, a finding names the rule itself."""
    return (*path_of(rule), "image")


def shown(rule: Rule) -> str:
    """Name a rule in a message."""
    return f"{rule.list}[{rule.index}] {short(rule.pattern.text)}"


def short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
