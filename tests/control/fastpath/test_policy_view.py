"""The conditions that follow from a policy, by webhook."""

from __future__ import annotations

from control.fastpath.stepping import BAD, HEAD, MUTATE, WIDE
from gatekeeper_py.control.fastpath.policy_view import WEBHOOKS, view
from gatekeeper_py.control.webhooks import NO_CONDITIONS
from gatekeeper_py.core.compile.preapproved import compile_fastpath
from gatekeeper_py.core.policy.policy import parse_policy


def test_the_expressions_come_from_the_compiler() -> None:
    found = view(WIDE, None)
    compiled = compile_fastpath(parse_policy(WIDE))
    assert found.conditions.expressions == {
        WEBHOOKS["validating"]: compiled.validating,
        WEBHOOKS["mutating"]: compiled.mutating,
    }


def test_a_mode_does_not_change_the_conditions() -> None:
    found = view(WIDE, "warn")
    assert found.conditions == view(WIDE, None).conditions
    assert found.conditions.revision == parse_policy(WIDE).revision
    assert found.policy is not None
    assert found.policy.revision == parse_policy(WIDE, "warn").revision


def test_the_mutating_webhook_is_called_for_a_mirrored_registry() -> None:
    both = view(HEAD + "allow: [a.io, b.io]\nmirrors: [{from: a.io, to: b.io}]\n", None)
    assert "a[.]io/" in both.conditions.expressions[WEBHOOKS["validating"]]
    assert "a[.]io/" not in both.conditions.expressions[WEBHOOKS["mutating"]]
    only = view(HEAD + "allow: [a.io]\nmirrors: [{from: a.io, to: b.io}]\n", None)
    assert set(only.conditions.expressions) == {WEBHOOKS["validating"]}
    assert only.conditions.annotations(MUTATE.webhooks) == {}


def test_counts_the_rules_handled_without_calling_each_webhook() -> None:
    allow = "allow: [a.io, 'a.io:443', b.io, {image: c.io, until: 2999-01-01}]\n"
    mirrored = view(HEAD + allow + "mirrors: [{from: b.io, to: a.io}]\n", None)
    assert mirrored.rules == {"validating": 3, "mutating": 2}
    assert view(HEAD + allow, None).rules == {"validating": 3, "mutating": 4}
    assert view(BAD, None).rules == {"validating": 0, "mutating": 0}


def test_a_policy_that_pre_approves_nothing_has_no_conditions() -> None:
    found = view(HEAD + "allow: ['*.a.io']\n", None)
    assert found.policy is not None
    assert found.conditions == NO_CONDITIONS


def test_a_refused_document_has_no_conditions() -> None:
    found = view(BAD, None)
    assert found.policy is None
    assert found.conditions == NO_CONDITIONS
    assert found.problem.startswith("the document is refused: line 4, allow[0]: ")
