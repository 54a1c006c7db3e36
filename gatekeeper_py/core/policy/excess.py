"""The limits on what a policy as a whole needs: copies of rules, and patterns to scan for one image.

No index helps if many patterns with wildcards match one image, or have the same texts in another order
(``*a*b*`` and ``*b*a*``). So such a policy is refused when it is loaded. All rules count, even expired ones,
because the answer must not depend on the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from gatekeeper_py.core.exceptions.grants import Grants
from gatekeeper_py.core.policy.approvers import impossible
from gatekeeper_py.core.policy.copies import Copies
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.keys import NO_KEYS
from gatekeeper_py.core.policy.limits import MAX_COPIES, MAX_REQUIRED_NAMES, MAX_SCANNED
from gatekeeper_py.core.policy.mirror import Mirrors
from gatekeeper_py.core.policy.overrides import Overrides
from gatekeeper_py.core.policy.required import Requirements
from gatekeeper_py.core.policy.rules import Rule, RuleSet


def excess(document: PolicyDocument, mirrors: Mirrors) -> Remark | None:
    """Return the problem of a document that needs too many copies, or too many patterns for one image.

    Also return the problem of a requirement that no image can meet.
    """
    overrides = Overrides()
    for entry in document.namespaces:
        overrides.add(entry)
    # Allow rules that expired lately have an index of their own (``CompiledPolicy.expired``).
    dated = tuple(rule for rule in document.allow if rule.until is not None)
    names = [each.namespaces for each in document.require]
    names += [entry.namespaces for each in document.require for entry in each.excepts]
    if sum(map(len, filter(None, names))) > MAX_REQUIRED_NAMES:
        message = f"more than {MAX_REQUIRED_NAMES:,} names of namespaces in require, the limit"
        proposal = "write wildcards instead of names, or fewer requirements"
        return Remark(code="too-many", path=("require",), message=message, proposal=proposal)
    required = Requirements(document.require, mirrors, None, NO_KEYS)
    for _ in required.adding():
        pass
    scanned = {
        "allow": _scanned(document.allow).scanned() + _scanned(dated).scanned(),
        "deny": _scanned(document.deny).scanned(),
        "require": required.scanned(),
        "namespaces": overrides.scanned(),
        "mirrors": mirrors.scanned(),
        # ``Exceptions.judge`` looks the grants of a namespace up twice.
        "exceptions": 2 * Grants(document.exceptions).scanned(),
    }
    # The time to find the copies depends on what is scanned for one image. So it is limited first.
    problem = too_many_wildcards(scanned)
    if problem is None and mirrors:
        denied = Copies(mirrors, document.deny, None)
        problem = _too_many_copies((denied, required.copies))
        scanned["mirrors"] += denied.scanned() + required.scanned_on_mirrors()
    # The search compares what the limits above bound.
    return problem or too_many_wildcards(scanned) or impossible(document, mirrors)


def too_many_wildcards(scanned: dict[str, int]) -> Remark | None:
    """Return the problem of a document whose sections have more than ``MAX_SCANNED`` patterns for one image.

    ``scanned`` is the cost of each section for one image, in comparisons with patterns.
    """
    total = sum(scanned.values())
    if total <= MAX_SCANNED:
        return None
    section = max(scanned, key=scanned.__getitem__)
    cause = "many requirements match it" if section == "require" else "many wildcards overlap"
    return Remark(
        code="too-many-wildcards",
        path=(section,),
        message=(
            f"one image could need {total:,} comparisons with patterns, and the limit is {MAX_SCANNED:,},"
            f" because {cause}; {section} needs the most"
        ),
        proposal=_PROPOSALS.get(section, _PROPOSALS[""]),
    )


_PROPOSALS: Final = {
    "": "write the names out, or put different texts before the first or after the last *, as in team-a-*",
    "require": "write one requirement for what several ask of the same images, and fewer wildcards",
    "mirrors": "give fewer mirrors the same target, or write deny and except with fewer wildcards",
}


def _scanned(rules: tuple[Rule, ...]) -> RuleSet:
    """Return the rules of which one image can match several, or be compared with several."""
    return RuleSet(
        rule
        for rule in rules
        if "*" in rule.pattern.text or rule.pattern.subtree or rule.namespaces is not None or rule.excepts
    )


def _too_many_copies(restricting: Iterable[Copies]) -> Remark | None:
    """Make the copies; return the problem if there are more than ``MAX_COPIES``."""
    copied: Counter[tuple[str, int]] = Counter()
    left = MAX_COPIES
    for rule, number in (each for copies in restricting for each in copies.adding()):
        copied[rule.list, rule.index] += number
        left -= number
        if left < 0:
            break
    else:
        return None
    ((section, index), count), *_ = copied.most_common(1)
    return Remark(
        code="too-many-copies",
        path=(section, index),
        message=(
            f"applying deny rules and requirements to mirrors takes more than {MAX_COPIES:,} copies, of which"
            f" {section}[{index}] has at least {count:,}"
        ),
        proposal="write fewer patterns that match images of many mirrors, or fewer mirrors and targets",
    )
