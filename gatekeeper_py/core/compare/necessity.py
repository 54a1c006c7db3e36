"""Determine whether a rule decides anything: find images whose answer depends on this rule alone."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from gatekeeper_py.core.compare.difference import Witness, compare
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule


def shortest_by(policy: Policy, rule: Rule, instant: datetime) -> Witness | None:
    """Return the shortest image that an allow rule alone approves, or a deny rule alone refuses.

    ``old`` and ``before`` of the result are the answer without the rule. A deny rule is needed only for
    images that would be approved without it. If the result is ``None``, this proves that there is no such
    image: the rule decides nothing. Raises ``TooComplex``.
    """
    document = policy.document
    if rule.list == "allow":
        others = dataclasses.replace(document, allow=_without(document.allow, rule.index))
    else:
        others = dataclasses.replace(document, deny=_without(document.deny, rule.index))
    without = dataclasses.replace(policy, document=others)
    change = "approved" if rule.list == "allow" else "rejected"
    found = compare(without.at(instant), policy.at(instant)).witnesses
    return next((witness for witness in found if witness.change == change), None)


def _without(rules: tuple[Rule, ...], index: int) -> tuple[Rule, ...]:
    after = (dataclasses.replace(rule, index=rule.index - 1) for rule in rules[index + 1 :])
    return (*rules[:index], *after)
