"""Rules: when they expire, where they apply, and which one is the first to match."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.core.policy.rules import Rule, RuleSet
from support.builders import INSTANT, policy_text

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rule(
    text: str,
    index: int = 0,
    *,
    namespaces: tuple[str, ...] | None = None,
    until: datetime | None = None,
) -> Rule:
    return Rule(list="allow", index=index, pattern=parse_pattern(text), namespaces=namespaces, until=until)


def test_a_rule_is_shown_with_its_path_and_its_pattern() -> None:
    assert str(rule("a.io/x", 3)) == "allow[3] a.io/x"


@pytest.mark.parametrize(
    ("until", "lives"),
    [
        pytest.param(None, True, id="for-ever"),
        pytest.param(NOON + timedelta(microseconds=1), True, id="until-just-after"),
        pytest.param(NOON, False, id="dead-from-then-on"),
        pytest.param(NOON - timedelta(days=1), False, id="expired"),
    ],
)
def test_a_rule_has_expired_from_its_instant_on(until: datetime | None, *, lives: bool) -> None:
    assert rule("a.io", until=until).lives_at(NOON) is lives


@pytest.mark.parametrize(
    ("names", "namespace", "applies"),
    [
        pytest.param(None, "shop", True, id="all"),
        pytest.param(None, None, True, id="all-is-also-none"),
        pytest.param(("shop",), "shop", True, id="name"),
        pytest.param(("a", "sh*"), "shop", True, id="glob"),
        pytest.param(("sh*",), "pay", False, id="another"),
        pytest.param(("sh*",), None, False, id="a-glob-is-not-for-none"),
    ],
)
def test_a_rule_applies_in_its_namespaces(
    names: tuple[str, ...] | None, namespace: str | None, *, applies: bool
) -> None:
    assert rule("a.io", namespaces=names).applies_to(namespace) is applies


def test_a_set_keeps_its_order_and_finds_the_first() -> None:
    rules = RuleSet([rule("b.io"), rule("a.io/x", 1), rule("a.io", 2)])
    assert len(rules) == 3
    assert [r.index for r in rules] == [0, 1, 2]
    found = rules.find(parse_image("a.io/x:v1"), None)
    assert found is not None
    assert found.index == 1
    assert rules.find(parse_image("c.io/x:v1"), None) is None


def test_a_set_returns_the_rules_that_cover_a_pattern() -> None:
    rules = RuleSet([rule("b.io"), rule("a.io", 1)])
    cover = rules.cover(parse_pattern("a.io/x"), Scan())
    assert cover
    assert [r.index for r in rules.covering(cover, (None,), None)] == [1]
    assert not rules.cover(parse_pattern("c.io/x"), Scan())


@pytest.mark.parametrize(
    ("deny", "namespace", "found"),
    [
        pytest.param("[{image: a.io, except: [a.io/x]}, a.io]", None, 1, id="another-rule-matches"),
        pytest.param("[a.io, {image: a.io, except: [a.io/y]}]", None, 0, id="the-first-rule-decides"),
        pytest.param("[{image: a.io, except: [a.io/y]}, a.io]", None, 0, id="not-the-excepted-image"),
        pytest.param("[{image: a.io, except: [a.io/x]}, {image: a.io, except: [b.io]}]", None, 1, id="equal"),
        pytest.param("[{image: a.io, except: [{image: a.io, until: 2026-03-01}]}]", None, 0, id="ended"),
        pytest.param("[{image: a.io, except: [{image: a.io, namespaces: [ci]}]}]", "ci", None, id="here"),
        pytest.param("[{image: a.io, except: [{image: a.io, namespaces: [ci]}]}]", None, 0, id="elsewhere"),
    ],
)
def test_a_deny_rule_does_not_match_what_a_live_except_spares(
    deny: str, namespace: str | None, found: int | None
) -> None:
    """A live deny rule does not match what a live entry of its `except` matches in that namespace."""
    policy = parse_policy(policy_text(f"deny: {deny}\n", allow="[a.io]")).at(INSTANT)
    decision = policy.decide(namespace, "a.io/x")
    assert (decision.rule.index if decision.reason == "denied" and decision.rule else None) == found


def test_the_end_of_an_except_is_the_next_change() -> None:
    text = policy_text("deny: [{image: a.io, except: [{image: a.io, until: 2026-04-01}]}]\n")
    assert parse_policy(text).at(INSTANT).next_change == datetime(2026, 4, 1, tzinfo=UTC)


def test_a_rule_with_a_long_except_is_compiled_in_steps() -> None:
    names = ", ".join(f"a.io/x{number}" for number in range(500))
    policy = parse_policy(policy_text(f"deny: [{{image: a.io, except: [{names}]}}]\n"))
    assert sum(1 for _ in policy.compiling(INSTANT)) > 20


def test_an_except_must_match_the_name_that_its_rule_matched() -> None:
    """For a mirrored image, the entry must match the name that the deny rule matched."""
    more = "deny: [{image: b.io, except: [b.io/x, m.io/b/y]}]\nmirrors: [{from: b.io, to: m.io/b}]\n"
    policy = parse_policy(policy_text(more, allow="[b.io, m.io]")).at(INSTANT)
    approved = [image for image in ("m.io/b/x", "m.io/b/y", "b.io/x") if policy.decide(None, image).approved]
    assert approved == ["m.io/b/x", "b.io/x"]
