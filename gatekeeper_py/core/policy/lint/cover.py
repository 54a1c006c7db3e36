"""Rules, requirements and overrides that never decide anything."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from gatekeeper_py.core.exceptions.grants import Grant
from gatekeeper_py.core.images.glob import Glob, is_glob
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.policy.approvers import approvers
from gatekeeper_py.core.policy.document import OverrideEntry
from gatekeeper_py.core.policy.finding import NOTHING_APPROVED, Remark
from gatekeeper_py.core.policy.lint.subject import Subject, covering, path_of, scope_of, shown, warning
from gatekeeper_py.core.policy.rules import Rule, RuleSet

MAX_CANDIDATES: Final = 64
"""Maximum number of earlier overrides with the same name, and of those with wildcards, that an override is
compared with."""


def nothing_approved(subject: Subject) -> Iterator[Remark]:
    """Yield one remark when, at this instant, deny rules refuse all that every allow rule approves."""
    scan = Scan(total=subject.comparisons)
    denial: Rule | None = None
    for rule in subject.approving():
        denial = covering(subject.live_deny, rule, scan)
        if denial is None:
            return
    if denial is not None:
        yield warning(
            NOTHING_APPROVED,
            path_of(denial),
            f"no image is approved: {shown(denial)} refuses all that the allow rules approve",
            "remove the deny rule, or narrow it, unless all images are to be refused",
        )


def dead_rules(subject: Subject) -> Iterator[Remark]:
    """Yield each rule without effect: a wider rule of its list covers it, or a deny rule refuses all of it.

    All reported rules can be removed together. If rules cover each other, only the later ones are reported:
    the rules are checked from the last to the first, and a rule that was found dead does not cover others.
    """
    scan = Scan(total=subject.comparisons)
    dead: set[int] = set()
    for rules in (subject.policy.deny, subject.policy.allow):
        for rule in reversed(rules):
            if not subject.is_live(rule):
                continue
            same = subject.live_allow if rule.list == "allow" else subject.live_deny
            wider = _wider(same, rule, dead, scan)
            if wider is None and rule.list == "allow":
                wider = _wider(subject.live_deny, rule, dead, scan)
            if wider is not None:
                dead.add(id(rule))
                why = "denies all of it" if wider.list != rule.list else "covers all of it"
                message = f"the rule has no effect: {shown(wider)} {why}"
                yield warning("dead-rule", path_of(rule), message, "remove one of the two")


def _wider(rules: RuleSet, rule: Rule, dead: AbstractSet[int], scan: Scan) -> Rule | None:
    """Return another rule that matches all that this rule matches, for as long as this rule lives."""

    def outdoes(other: Rule) -> bool:
        return other is not rule and id(other) not in dead and _outlives(other, rule)

    return covering(rules, rule, scan, fits=outdoes)


def _outlives(one: Rule | OverrideEntry, other: Rule | OverrideEntry) -> bool:
    return one.until is None or (other.until is not None and other.until <= one.until)


def unused_excepts(subject: Subject) -> Iterator[Remark]:
    """Yield each entry of ``except`` that matches nothing that its deny rule or requirement matches."""
    left = subject.comparisons
    document = subject.policy.document
    restricting: list[tuple[str, tuple[Rule, ...]]]
    restricting = [(shown(rule), (rule,)) for rule in document.deny if rule.excepts]
    restricting += [(str(each), tuple(each.rules)) for each in document.require if each.excepts]
    for name, rules in restricting:
        matched = tuple(map(scope_of, rules))
        for each in rules[0].excepts:
            spared = scope_of(each)
            names = len(rules[0].namespaces or ("",)) * len(each.namespaces or ("",))
            left -= len(rules) * names * spared.cost
            if left < 0:
                return
            if not any(entry.overlaps(spared) for entry in matched):
                yield warning(
                    "except-unused",
                    (*path_of(rules[0]), *path_of(each)),
                    f"the entry has no effect: {name} matches none of its images",
                    "remove it",
                )


def unmatched_requirements(subject: Subject) -> Iterator[Remark]:
    """Yield each requirement that matches nothing that a live allow rule or a grant can approve."""
    document = subject.policy.document
    approving: list[Rule | Grant] = [*subject.approving(), *document.exceptions]
    found = approvers(document.require, subject.policy.mirrors, approving, subject.comparisons)
    for index, by in found.items():
        if by is None:
            message = "it has no effect: no live allow rule and no grant approves any of its images"
            yield warning("require-unmatched", ("require", index), message, "correct it, or remove it")


def dead_overrides(subject: Subject) -> Iterator[Remark]:
    """Yield each override for which an earlier one, which lasts at least as long, matches all names."""
    left = subject.comparisons
    by_name: dict[str, list[int]] = {}
    with_globs: list[int] = []
    for index, entry in enumerate(subject.policy.document.namespaces):
        # Compare only overrides that may match the first name, so that thousands of names stay cheap.
        candidates = sorted({*by_name.get(entry.names[0], ()), *with_globs})
        for name in dict.fromkeys(entry.names):
            indices = by_name.setdefault(name, [])
            if len(indices) < MAX_CANDIDATES:
                indices.append(index)
        if any(map(is_glob, entry.names)) and len(with_globs) < MAX_CANDIDATES:
            with_globs.append(index)
        for earlier in candidates:
            wider = subject.policy.document.namespaces[earlier]
            if not _outlives(wider, entry):
                continue
            taken, left = _takes_all(wider, entry, left)
            if taken:
                yield warning(
                    "dead-rule",
                    ("namespaces", index),
                    f"the override has no effect: namespaces[{earlier}] comes first and names all of it",
                    "remove it, or put it first",
                )
                break


def _takes_all(wider: OverrideEntry, entry: OverrideEntry, left: int) -> tuple[bool, int]:
    """Return whether ``wider`` matches all names of ``entry``, and how many comparisons are left."""
    names = frozenset(wider.names)
    globs = [Glob(name) for name in wider.names if is_glob(name)]
    for name in entry.names:
        if name in names:
            continue
        left -= len(globs)
        if left < 0 or not any(glob.matches(name) for glob in globs):
            return False, left
    return True, left
