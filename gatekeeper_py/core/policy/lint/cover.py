"""Rules and overrides that never decide anything, because others cover all that they match."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from gatekeeper_py.core.images.entry import Entry
from gatekeeper_py.core.images.glob import Glob, globs_overlap, is_glob
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.index import qualifiers_of_all
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.policy.document import OverrideEntry
from gatekeeper_py.core.policy.finding import NOTHING_APPROVED, Remark
from gatekeeper_py.core.policy.lint.subject import Subject, path_of, shown, warning
from gatekeeper_py.core.policy.rules import Rule, RuleSet

MAX_CANDIDATES: Final = 64
"""Maximum number of earlier overrides with the same name, and of those with wildcards, that an override is
compared with."""


def nothing_approved(subject: Subject) -> Iterator[Remark]:
    """Yield one remark when, at this instant, deny rules refuse all that every allow rule approves."""
    scan = Scan(total=subject.comparisons)
    denial: Rule | None = None
    for rule in subject.approving():
        denial = _denial(subject.live_deny, rule, scan)
        if denial is None:
            return
    if denial is not None:
        yield warning(
            NOTHING_APPROVED,
            path_of(denial),
            f"no image is approved: {shown(denial)} refuses all that the allow rules approve",
            "remove the deny rule, or narrow it, unless all images are to be refused",
        )


def _denial(denials: RuleSet, rule: Rule, scan: Scan) -> Rule | None:
    """Return a deny rule that refuses all of an allow rule, ``None`` if some of it is not refused.

    If different deny rules do so in the rule's namespaces, return the one for the last namespace.
    """
    cover = denials.cover(rule.pattern, scan)
    qualifiers = qualifiers_of_all(rule.pattern)
    found: Rule | None = None
    for namespace in rule.namespaces if rule.namespaces is not None else (None,):
        found = next(denials.covering(cover, qualifiers, namespace), None)
        if found is None:
            return None
    return found


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
            wider = _wider(same, rule, subject, dead, scan)
            if wider is None and rule.list == "allow":
                wider = _wider(subject.live_deny, rule, subject, dead, scan)
            if wider is not None:
                dead.add(id(rule))
                why = "denies all of it" if wider.list != rule.list else "covers all of it"
                message = f"the rule has no effect: {shown(wider)} {why}"
                yield warning("dead-rule", path_of(rule), message, "remove one of the two")


def _wider(rules: RuleSet, rule: Rule, subject: Subject, dead: AbstractSet[int], scan: Scan) -> Rule | None:
    """Return another rule that matches all that this rule matches, for as long as this rule lives.

    If different rules do so in the rule's namespaces, return the one for the last namespace. ``None`` if no
    rule does so in one of them.
    """
    cover = rules.cover(rule.pattern, scan)
    qualifiers = qualifiers_of_all(rule.pattern)
    found: Rule | None = None
    for namespace in rule.namespaces if rule.namespaces is not None else (None,):
        found = next(
            (
                other
                for other in rules.covering(cover, qualifiers, namespace)
                if other is not rule
                and id(other) not in dead
                and _outlives(other, rule)
                and _decides_alike(other, rule, subject, scan)
            ),
            None,
        )
        if found is None:
            return None
    return found


def _decides_alike(one: Rule, other: Rule, subject: Subject, scan: Scan) -> bool:
    """Return whether nothing changes when ``one`` decides instead of ``other``; only ``True`` is certain.

    The first rule that matches decides what is looked up, so nothing changes if ``one`` comes first.
    """
    if one.list != other.list or one.index < other.index:
        return True
    if one.lookup != other.lookup:
        return False
    verified = subject.live_allow.verified
    if other.list != "allow" or not verified:
        return True
    # Without ``other``, a rule between the two could decide before ``one`` does.
    between = subject.policy.allow[other.index + 1 : one.index] if other.verify else verified
    return scan.spend(len(between)) and not any(
        other.index < each.index < one.index
        and each.lookup != other.lookup
        and subject.is_live(each)
        and _may_share(each.pattern, other.pattern)
        for each in between
    )


def _may_share(one: Pattern, other: Pattern) -> bool:
    """Return whether some image may match both patterns; only ``False`` is certain."""
    return globs_overlap(one.host, other.host) and all(map(globs_overlap, one.segments, other.segments))


def _outlives(one: Rule | OverrideEntry, other: Rule | OverrideEntry) -> bool:
    return one.until is None or (other.until is not None and other.until <= one.until)


def unused_excepts(subject: Subject) -> Iterator[Remark]:
    """Yield each entry of ``except`` in a deny rule that matches nothing that the rule matches."""
    left = subject.comparisons
    for rule in subject.policy.deny:
        denied = Entry(images=rule.pattern, namespaces=rule.namespaces)
        for each in rule.excepts:
            left -= len(rule.namespaces or ("",)) * len(each.namespaces or ("",))
            if left < 0:
                return
            if not denied.overlaps(Entry(images=each.pattern, namespaces=each.namespaces)):
                yield warning(
                    "except-unused",
                    (*path_of(rule), *path_of(each)),
                    f"the exception has no effect: {shown(rule)} matches none of its images",
                    "remove it",
                )


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
