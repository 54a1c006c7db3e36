"""The number of rules that fit into one expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gatekeeper_py.core.compile.cost import MAX_COST, MAX_EXPRESSION_LENGTH, Part, Text
from gatekeeper_py.core.compile.native.decision import (
    MAX_NEW_IMAGES,
    NAME,
    Condition,
    affordable,
    approves,
    denies,
    fitting,
)
from support.skipping import scope


def costing(costs: Sequence[int]) -> Condition:
    """Return a condition with this total cost for all images."""
    return lambda name: Part(str(sum(costs)), sum(costs) if name.longest else 0)


@pytest.mark.parametrize(
    ("costs", "most", "parts", "left"),
    [
        pytest.param([], 3, [], 0, id="nothing"),
        pytest.param([1], 3, [1], 0, id="one"),
        pytest.param([MAX_COST], 3, [MAX_COST], 0, id="as-much-as-fits"),
        pytest.param([MAX_COST + 1, 1], 3, [], 2, id="the-first-is-too-large"),
        pytest.param([1, MAX_COST + 1, 1], 3, [1], 2, id="a-later-one-is-too-large"),
        pytest.param([MAX_COST // 3] * 7, 3, [MAX_COST // 3 * 3] * 2 + [MAX_COST // 3], 0, id="in-threes"),
        pytest.param([MAX_COST // 5] * 16, 3, [MAX_COST] * 3, 1, id="one-too-many"),
        pytest.param([MAX_COST // 6] * 7, 3, [MAX_COST // 6 * 6, MAX_COST // 6], 0, id="in-sixes"),
        pytest.param([1], 0, [], 1, id="no-expression"),
    ],
)
def test_rules_are_spread_over_expressions_in_their_order(
    costs: list[int], most: int, parts: list[int], left: int
) -> None:
    found = fitting(costs, costing, NAME, most)
    assert [int(part.text) for part in found.parts] == parts
    assert len(found.remaining) == left


@pytest.mark.parametrize(
    ("length", "each", "fits"),
    [
        pytest.param(MAX_EXPRESSION_LENGTH, 0, True, id="longest"),
        pytest.param(MAX_EXPRESSION_LENGTH + 1, 0, False, id="too-long"),
        pytest.param(10, MAX_COST // (MAX_NEW_IMAGES + 1), True, id="for-every-image"),
        pytest.param(10, MAX_COST // MAX_NEW_IMAGES, False, id="too-dear-for-every-image"),
    ],
)
def test_an_expression_is_affordable(length: int, each: int, *, fits: bool) -> None:
    assert (affordable(lambda _: Part("x" * length, each)) is not None) is fits


def test_nothing_is_approved_or_denied_without_entries() -> None:
    name = Text("x", longest=1)
    assert approves([])(name).text == "false"
    assert denies([])(name).text == "false"
    assert approves([scope("a.io")])(name).text == "x.startsWith('a.io/')"


def test_an_entry_for_short_names_compares_the_length_too() -> None:
    """A denied image has a name on a mirror only if the name is not too long there."""
    name = Text("x", longest=1)
    assert denies([scope("a.io"), replace(scope("b.io"), longest=195)])(name).text == (
        "(x.startsWith('a.io/') || (size(x.find('^[^/]+/[^:@]+')) <= 200 && x.startsWith('b.io/')))"
    )
