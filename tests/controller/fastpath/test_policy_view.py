"""The match conditions that follow from a policy, for each webhook."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.fastpath.stepping import BAD, HEAD, MUTATE, WIDE, view_of
from controller.world import START
from gatekeeper_py.controller.fastpath.policy_view import EXPIRY_MARGIN, WEBHOOKS, renewed
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.policy.policy import parse_policy


def test_the_expressions_come_from_the_compiler() -> None:
    found = view_of(WIDE)
    compiled = compile_fastpath(parse_policy(WIDE), START)
    assert found.conditions.expressions == {
        WEBHOOKS["validating"]: compiled.validating,
        WEBHOOKS["mutating"]: compiled.mutating,
    }


def test_the_mutating_webhook_is_called_for_a_mirrored_registry() -> None:
    both = view_of(HEAD + "allow: [a.io, b.io]\nmirrors: [{from: a.io, to: b.io}]\n")
    assert "a[.]io/" in both.conditions.expressions[WEBHOOKS["validating"]]
    assert "a[.]io/" not in both.conditions.expressions[WEBHOOKS["mutating"]]
    only = view_of(HEAD + "allow: [a.io]\nmirrors: [{from: a.io, to: b.io}]\n")
    assert set(only.conditions.expressions) == {WEBHOOKS["validating"]}
    assert only.conditions.annotations(MUTATE.names) == {}


def test_counts_the_rules_handled_without_calling_each_webhook() -> None:
    allow = "allow: [a.io, 'a.io:443', b.io, {image: c.io, until: 2000-01-01}]\n"
    mirrored = view_of(HEAD + allow + "mirrors: [{from: b.io, to: a.io}]\n")
    assert mirrored.rules == {"validating": 3, "mutating": 2}
    assert view_of(HEAD + allow).rules == {"validating": 3, "mutating": 4}
    assert view_of(BAD).rules == {"validating": 0, "mutating": 0}


DATED = HEAD + "allow: [a.io, {image: b.io, until: 2026-01-02}]\ndeny: [{image: a.io/x, until: 2026-01-05}]\n"


def test_a_rule_leaves_the_fast_path_before_it_expires() -> None:
    end = datetime(2026, 1, 2, tzinfo=UTC)
    found = view_of(DATED)
    assert found.rules["validating"] == 2
    assert found.compile_again == end - EXPIRY_MARGIN
    assert found.fast_path.valid_until == end
    assert renewed(found, end - EXPIRY_MARGIN - timedelta(seconds=1)).conditions == found.conditions
    later = renewed(found, end - EXPIRY_MARGIN)
    assert later.rules["validating"] == 1
    assert (later.text, later.mode, later.policy) == (found.text, found.mode, found.policy)
    assert "b[.]io" not in later.conditions.expressions[WEBHOOKS["validating"]]
    assert later.fast_path.tightens(found.fast_path)


def test_a_denial_that_expires_widens_the_fast_path() -> None:
    end = datetime(2026, 1, 5, tzinfo=UTC)
    found = renewed(view_of(DATED), datetime(2026, 1, 3, tzinfo=UTC))
    assert found.compile_again == end
    later = renewed(found, end)
    assert later.compile_again is None
    assert "a.io/x" not in later.conditions.expressions[WEBHOOKS["validating"]]
    assert not later.fast_path.tightens(found.fast_path)


def test_a_view_without_a_policy_is_not_compiled_again() -> None:
    nothing = view_of(BAD)
    assert renewed(nothing, START) is nothing
