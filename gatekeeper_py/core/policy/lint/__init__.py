"""Findings about an accepted policy: likely mistakes of its author.

Source: docs/policy.md, "Lint". A check is a function from the policy to remarks. An index finds the rules
that cover another rule. The work of these searches is bounded, so that the time for 200,000 rules grows only
with their number; beyond the bound, a check finds less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from gatekeeper_py.core.images.globmap import MAX_COMPARISONS
from gatekeeper_py.core.policy.finding import (
    MODE_OVERRIDDEN,
    NOTHING_APPROVED,
    NOTHING_TO_REWRITE,
    Finding,
    Remark,
    Remarks,
)
from gatekeeper_py.core.policy.lint.cover import (
    dead_overrides,
    dead_rules,
    nothing_approved,
    unmatched_requirements,
    unused_excepts,
)
from gatekeeper_py.core.policy.lint.mirrors import denied_mirrors, unapproved_mirrors, unapproved_pins
from gatekeeper_py.core.policy.lint.modes import (
    expiry,
    keys,
    overridden_mode,
    rewriting_without_mirrors,
    unenforced,
)
from gatekeeper_py.core.policy.lint.patterns import (
    broad_hosts,
    exact_repositories,
    floating_latest,
    hub_users,
    ignored_tags,
    mutable_hosts,
    one_segment,
    open_registries,
)
from gatekeeper_py.core.policy.lint.recalls import evaded, recalls
from gatekeeper_py.core.policy.lint.subject import Subject
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.policy import Policy

Check = Callable[[Subject], Iterator[Remark]]

CHECKS: Final[Mapping[Check, tuple[str, ...]]] = MappingProxyType(
    {
        nothing_approved: (NOTHING_APPROVED,),
        dead_rules: ("dead-rule",),
        dead_overrides: ("dead-rule",),
        unused_excepts: ("except-unused",),
        unmatched_requirements: ("require-unmatched",),
        expiry: ("expired", "expires-soon", "key-expires-soon"),
        keys: ("key-unused", "key-repeated", "key-prehashed"),
        floating_latest: ("floating-latest",),
        mutable_hosts: ("mutable-host",),
        hub_users: ("hub-user-namespace",),
        open_registries: ("open-registry",),
        exact_repositories: ("exact-repository",),
        ignored_tags: ("tag-ignored",),
        unapproved_mirrors: ("mirror-unapproved",),
        unapproved_pins: ("pin-unapproved",),
        denied_mirrors: ("deny-covers-mirror",),
        recalls: ("deny-by-tag", "deny-by-digest"),
        evaded: ("require-in-part",),
        broad_hosts: ("broad-host",),
        one_segment: ("one-segment",),
        overridden_mode: (MODE_OVERRIDDEN,),
        unenforced: ("enforces-nothing",),
        rewriting_without_mirrors: (NOTHING_TO_REWRITE,),
    }
)
"""Each check with the codes of its findings."""


def lint(policy: Policy, instant: datetime, *, comparisons: int = MAX_COMPARISONS) -> tuple[Finding, ...]:
    """Return the warnings about a policy as of an instant, in the order of the text.

    At most 100 are listed, and one more counts the rest. The checks take turns, so that thousands of findings
    of one kind do not hide the only one of another. ``comparisons`` bounds the work of each check that
    compares entries.
    """
    subject = Subject.of(policy, instant, comparisons)
    found = [_bounded(check(subject)) for check in CHECKS]
    turns = sorted(
        (
            (turn, number, remark)
            for number, remarks in enumerate(found)
            for turn, remark in enumerate(remarks)
        ),
        key=lambda each: each[:2],
    )
    chosen = Remarks()
    chosen.extend(remark for _, _, remark in turns)
    chosen.more += sum(remarks.more for remarks in found)
    return as_findings(policy.text, chosen)


def _bounded(remarks: Iterator[Remark]) -> Remarks:
    bounded = Remarks()
    bounded.extend(remarks)
    return bounded
