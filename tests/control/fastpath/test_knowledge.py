"""What is known of a policy: its conditions, by webhook."""

from __future__ import annotations

from control.fastpath.keeping import BAD, HEAD, MUTATE, VALIDATE, WIDE
from gatekeeper_py.control.fastpath.knowledge import WEBHOOKS, know, misses
from gatekeeper_py.control.webhooks import ASK_ALWAYS
from gatekeeper_py.core.compile.preapproved import compile_fastpath
from gatekeeper_py.core.policy.policy import parse_policy


def test_the_expressions_are_the_compilers() -> None:
    found = know(WIDE, None)
    compiled = compile_fastpath(parse_policy(WIDE))
    assert found.conditions.expressions == {
        WEBHOOKS["validating"]: compiled.validating,
        WEBHOOKS["mutating"]: compiled.mutating,
    }


def test_a_mode_changes_no_condition() -> None:
    found = know(WIDE, "warn")
    assert found.conditions == know(WIDE, None).conditions
    assert found.conditions.revision == parse_policy(WIDE).revision
    assert found.policy is not None
    assert found.policy.revision == parse_policy(WIDE, "warn").revision


def test_a_mirrored_registry_is_asked_about_by_one_webhook_only() -> None:
    both = know(HEAD + "allow: [a.io, b.io]\nmirrors: [{from: a.io, to: b.io}]\n", None)
    assert "a[.]io/" in both.conditions.expressions[WEBHOOKS["validating"]]
    assert "a[.]io/" not in both.conditions.expressions[WEBHOOKS["mutating"]]
    only = know(HEAD + "allow: [a.io]\nmirrors: [{from: a.io, to: b.io}]\n", None)
    assert set(only.conditions.expressions) == {WEBHOOKS["validating"]}
    assert only.conditions.annotations(MUTATE.webhooks) == {}


def test_rules_are_counted_by_whose_images_are_not_asked_about() -> None:
    allow = "allow: [a.io, 'a.io:443', b.io, {image: c.io, until: 2999-01-01}]\n"
    mirrored = know(HEAD + allow + "mirrors: [{from: b.io, to: a.io}]\n", None)
    assert mirrored.rules == {"validating": 3, "mutating": 2}
    assert know(HEAD + allow, None).rules == {"validating": 3, "mutating": 4}
    assert know(BAD, None).rules == {"validating": 0, "mutating": 0}


def test_where_nothing_is_plain_there_is_no_condition() -> None:
    found = know(HEAD + "allow: ['*.a.io']\n", None)
    assert found.policy is not None
    assert found.conditions == ASK_ALWAYS


def test_a_document_that_is_refused_is_not_known() -> None:
    found = know(BAD, None)
    assert found.policy is None
    assert found.conditions == ASK_ALWAYS
    assert found.problem.startswith("the document is refused: line 4, allow[0]: ")


def test_manifests_without_our_webhooks_are_noticed() -> None:
    assert misses((VALIDATE, MUTATE)) == []
    assert misses((VALIDATE,)) == [WEBHOOKS["mutating"]]
