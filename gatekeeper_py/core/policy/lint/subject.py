"""The policy as the checks see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatekeeper_py.core.policy.finding import Path, Remark
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule, RuleSet

_MAX_SHOWN: Final = 80
"""Characters of a pattern in a message, so that the rest of the message is not cut."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The policy as of an instant, as the checks read it.

    ``live_allow`` and ``live_deny`` contain the rules that have not expired, and find those that cover a
    pattern. ``comparisons`` is the maximum number of comparisons that a check may make.
    """

    policy: Policy
    instant: datetime
    comparisons: int
    live_allow: RuleSet
    live_deny: RuleSet

    @classmethod
    def of(cls, policy: Policy, instant: datetime, comparisons: int) -> Subject:
        live = (_longest_living_first(rules, instant) for rules in (policy.allow, policy.deny))
        return cls(policy, instant, comparisons, *live)

    def is_live(self, rule: Rule) -> bool:
        return rule.lives_at(self.instant)

    def approving(self) -> Iterator[Rule]:
        """Yield the live allow rules in the order of the document."""
        return filter(self.is_live, self.policy.allow)

    def approving_unsigned(self) -> Iterator[Rule]:
        """Yield the live allow rules that approve whatever content somebody pushes."""
        return (rule for rule in self.approving() if not rule.signed_by)

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
