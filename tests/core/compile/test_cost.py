"""Expressions with their cost. Whether the cost is enough is tested with the API server's evaluator."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.compile.cost import Part, Text, all_of, any_of, negated, quoted

IMAGE = Text("i", longest=100)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (IMAGE.equals("a"), "i == 'a'"),
        (IMAGE.starts_with("a"), "i.startsWith('a')"),
        (IMAGE.ends_with("a"), "i.endsWith('a')"),
        (IMAGE.contains("a"), "i.contains('a')"),
        (IMAGE.matches("^a$"), "i.matches('^a$')"),
        (IMAGE.is_one_of(["a", "b"]), "i in ['a', 'b']"),
        (IMAGE.find("a").equals("a"), "i.find('a') == 'a'"),
        (IMAGE.find("a").followed_by(IMAGE).is_one_of(["a"]), "(i.find('a') + i) in ['a']"),
        (any_of([Part("a", 1), Part("b", 1)]), "(a || b)"),
        (all_of([Part("a", 1), Part("b", 1)]), "(a && b)"),
        (any_of([Part("a", 1)]), "a"),
        (negated(any_of([Part("a", 1), Part("b", 1)])), "!(a || b)"),
        (negated(IMAGE.is_one_of(["a"])), "!(i in ['a'])"),
    ],
)
def test_the_text_of_an_expression(part: Part, text: str) -> None:
    assert part.text == text
    assert part.cost > 0


def test_larger_expressions_cost_more() -> None:
    """A regular expression costs its length times that of the text; a list costs its length."""
    assert IMAGE.matches("a" * 40).cost > 9 * IMAGE.matches("a" * 4).cost - 100
    assert Text("i", longest=1000).matches("a" * 40).cost > 8 * IMAGE.matches("a" * 40).cost
    assert IMAGE.is_one_of(["a"] * 1000).cost > 1000
    both = any_of([IMAGE.equals("a"), IMAGE.matches("a")])
    assert both.cost > IMAGE.equals("a").cost + IMAGE.matches("a").cost


@pytest.mark.parametrize(
    ("text", "literal"),
    [("a", "'a'"), ("it's", "'it\\'s'"), ("back\\slash", "'back\\\\slash'"), ("é", "'é'")],
)
def test_a_string_of_an_expression(text: str, literal: str) -> None:
    assert quoted(text) == literal


@pytest.mark.parametrize("text", ["line\nbreak", "nul\0"])
def test_characters_that_an_expression_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        quoted(text)
