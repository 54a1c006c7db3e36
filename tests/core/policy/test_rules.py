"""Rules: when they expire, where they apply, and which one is the first to match."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.index import qualifiers_of
from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.core.images.reference import Location
from gatekeeper_py.core.policy.rules import Rule, RuleSet

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
    found = rules.find(Location("a.io", ("x",)), qualifiers_of("v1", None), None)
    assert found is not None
    assert found.index == 1
    assert rules.find(Location("c.io", ("x",)), qualifiers_of("v1", None), None) is None


def test_a_set_returns_the_rules_that_cover_a_pattern() -> None:
    rules = RuleSet([rule("b.io"), rule("a.io", 1)])
    cover = rules.cover(parse_pattern("a.io/x"), Scan())
    assert cover
    assert [r.index for r in rules.covering(cover, (None,), None)] == [1]
    assert not rules.cover(parse_pattern("c.io/x"), Scan())
