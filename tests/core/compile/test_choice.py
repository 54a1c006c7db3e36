"""The rules that an expression contains, and those that are left out when not all of them fit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from gatekeeper_py.core.compile import expression
from gatekeeper_py.core.compile.choice import (
    EXCLUSIONS_TOO_LARGE,
    TOO_LARGE,
    TOO_MANY_COMPARISONS,
    Candidate,
    Choice,
    choose,
)
from gatekeeper_py.core.compile.cost import MAX_EXPRESSION_LENGTH, fits
from gatekeeper_py.core.images.scope import Scope
from support.skipping import scope

SOON = datetime(2026, 4, 1, tzinfo=UTC)
LATE = datetime(2026, 5, 1, tzinfo=UTC)


def chosen(
    *included: str | Scope, excluded: Iterable[str | Scope] = (), until: dict[int, datetime] | None = None
) -> Choice:
    def of(each: str | Scope) -> Scope:
        return scope(each) if isinstance(each, str) else each

    candidates = [
        Candidate(index=index, entry=of(each), until=(until or {}).get(index))
        for index, each in enumerate(included)
    ]
    return choose(candidates, map(of, excluded), "covers")


def names(entries: Iterable[Scope]) -> list[str]:
    return [str(each) for each in entries]


def test_every_rule_is_included_when_all_fit() -> None:
    choice = chosen("b.io", "a.io/x", excluded=["a.io/x:v1", "c.io", "b.io/old/**"])
    assert names(choice.approved.included) == ["a.io/x", "b.io/**"]
    assert names(choice.approved.excluded) == ["b.io/old/**", "a.io/x:v1"]
    assert (choice.problems, choice.until) == ({}, None)


def test_the_order_of_rules_does_not_matter() -> None:
    one = chosen("a.io", "b.io", "c.io/x", excluded=["a.io/x", "b.io/x"])
    other = chosen("c.io/x", "b.io", "a.io", "a.io/y", excluded=["b.io/x", "a.io/x"])
    assert one.approved == other.approved


def test_a_covered_rule_is_left_out_without_a_problem() -> None:
    choice = chosen("a.io/x", "a.io", "a.io/x:v1", scope("a.io", "shop"))
    assert names(choice.approved.included) == ["a.io/**"]
    assert choice.problems == {}


def test_a_wholly_excluded_rule_is_named() -> None:
    choice = chosen("a.io/x", "b.io", excluded=["a.io", "*/x/**"])
    assert choice.problems == {0: "a.io covers all of it"}
    assert names(choice.approved.included) == ["b.io/**"]
    assert names(choice.approved.excluded) == ["*/x/**"]


def test_an_exclusion_within_another_is_left_out() -> None:
    choice = chosen("a.io", excluded=["a.io/x/y", "a.io/x/**", "*/x/**", "a.io/z"])
    assert names(choice.approved.excluded) == ["*/x/**", "a.io/z"]


def test_the_expression_is_valid_until_the_first_rule_expires() -> None:
    assert chosen("a.io", "b.io", "c.io", until={1: LATE, 2: SOON}).until == SOON


def test_a_rule_that_expires_under_one_that_does_not_ends_nothing() -> None:
    choice = chosen("a.io", "a.io/x", until={1: SOON})
    assert (names(choice.approved.included), choice.until, choice.problems) == (["a.io/**"], None, {})
    choice = chosen("a.io", "a.io/x", until={0: SOON})
    assert (names(choice.approved.included), choice.until) == (["a.io/**", "a.io/x"], SOON)


def test_the_widest_rules_stay() -> None:
    """Registries come first, then subtrees by depth, then repositories."""
    narrow = [f"registry-{number}.corp.io/team/{'x' * 60}/app" for number in range(1000)]
    middle = [f"other-{number}.corp.io/team/**" for number in range(300)]
    below = "registry-999.corp.io/team/" + "x" * 60 + "/app:v1"
    choice = chosen(*narrow, *middle, "a.io", below)
    assert set(choice.problems.values()) == {TOO_LARGE}
    assert max(index for index in choice.problems if index != 1301) < len(narrow)
    assert 0 < len(choice.problems) < len(narrow)
    assert (1301 in choice.problems) is (999 in choice.problems)
    part = expression.expression(choice.approved)
    assert fits(part)
    assert len(part.text) > MAX_EXPRESSION_LENGTH - 200


def test_rules_that_could_never_fit_are_not_formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper_py.core.compile.choice.MAX_ENTRIES", 3)
    choice = chosen("a.io", "b.io", "c.io", "d.io", "a.io/x")
    assert choice.problems == {3: TOO_LARGE}


def test_many_exclusions_are_widened_until_they_fit() -> None:
    """Many denied digests exclude their repository, many denied repositories their parent path."""
    digests = [f"a.io/x/y@sha256:{number:064x}" for number in range(1000)]
    choice = chosen("a.io", excluded=digests)
    assert names(choice.approved.excluded) == ["a.io/x/y"]
    repositories = [f"a.io/x/{number:060}" for number in range(1000)]
    choice = chosen("a.io", excluded=[*repositories, "a.io/y/**", "*/**:latest"])
    assert names(choice.approved.excluded) == ["*/**:latest", "a.io/x/**", "a.io/y/**", "a.io/x", "a.io/y"]


@pytest.mark.bulk
@pytest.mark.parametrize(
    "excluded",
    [
        pytest.param([f"a.io/{number:060}" for number in range(1000)], id="too-many-folders"),
        pytest.param([f"*/*-{number:060}/x" for number in range(1000)], id="too-many-wildcards"),
        pytest.param([f"*/**:v{number:060}*" for number in range(1000)], id="too-many-tags"),
    ],
)
def test_a_rule_is_left_out_when_its_exclusions_do_not_fit(excluded: list[str]) -> None:
    choice = chosen("a.io", "b.io", excluded=[*excluded, "*.io/x"] if "*/" not in excluded[0] else excluded)
    assert choice.problems[0] == EXCLUSIONS_TOO_LARGE
    if "*/" not in excluded[0]:
        assert names(choice.approved.included) == ["b.io/**"]


def test_a_rule_is_left_out_when_its_widened_exclusions_cover_it() -> None:
    excluded = [f"a.io/x/y:{number:060}" for number in range(1000)]
    choice = chosen("a.io/x/y", excluded=excluded)
    # Without tags the exclusions cover the whole rule; with tags they do not fit.
    assert choice.problems == {0: EXCLUSIONS_TOO_LARGE}


def test_comparisons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper_py.core.images.scope.MAX_COMPARISONS", 3)
    choice = chosen("a.io", "b.io", excluded=["a.io/x", "a.io/y", "b.io/x", "b.io/y"])
    assert choice.problems == {1: TOO_MANY_COMPARISONS}
    assert names(choice.approved.included) == ["a.io/**"]
