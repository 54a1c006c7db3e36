"""Every string belongs to one of the computed classes, and every class contains its witness."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core.compare import parts
from gatekeeper_py.core.compare.parts import (
    LABEL,
    NAMESPACE,
    SEGMENT,
    TAG,
    Grammar,
    TooComplex,
    classes_by_length,
    part_classes,
)
from gatekeeper_py.core.images.glob import Glob
from support.budget import budget

examples = settings(max_examples=budget(50))
globs = st.lists(st.text("ab*-", min_size=1, max_size=5), max_size=4, unique=True)


def matching(texts: list[str], text: str) -> frozenset[int]:
    return frozenset(index for index, glob in enumerate(texts) if Glob(glob).matches(text))


def is_valid(grammar: Grammar, text: str) -> bool:
    state = 0
    for character in text:
        target = grammar.steps.get((state, grammar.class_of.get(character, -1)))
        if target is None:
            return False
        state = target
    return state in grammar.accepting and len(text) <= grammar.longest


@examples
@given(globs)
def test_each_witness_is_valid_and_matched_by_exactly_its_globs(texts: list[str]) -> None:
    for matched, witness in part_classes(texts, SEGMENT):
        assert is_valid(SEGMENT, witness)
        assert matching(texts, witness) == matched


@examples
@given(globs, st.sets(st.integers(0, 3)))
@example(["ab", "a*"], {0})
def test_the_needed_classes_are_those_in_which_a_needed_glob_matches(
    texts: list[str], needed: set[int]
) -> None:
    expected = [each for each in part_classes(texts, SEGMENT) if each.matched & needed]
    found = part_classes(texts, SEGMENT, needed=frozenset(needed))
    assert {each.matched: len(each.witness) for each in found} == {
        each.matched: len(each.witness) for each in expected
    }


def test_a_glob_that_no_valid_string_matches_has_no_class() -> None:
    assert {matched for matched, _ in part_classes(["-a"], SEGMENT)} == {frozenset()}


@examples
@given(globs, st.text("ab-x", min_size=1, max_size=7))
def test_every_valid_string_is_in_a_class_whose_witness_is_not_longer(texts: list[str], text: str) -> None:
    if is_valid(SEGMENT, text):
        found = dict(part_classes(texts, SEGMENT))
        assert len(found[matching(texts, text)]) <= len(text)


@examples
@given(globs, st.integers(1, 12))
def test_each_length_has_a_member_of_that_length(texts: list[str], longest: int) -> None:
    for matched, members in classes_by_length(texts, LABEL, longest).items():
        for length, text in members.items():
            assert length == len(text) <= longest
            assert is_valid(LABEL, text)
            assert matching(texts, text) == matched


@examples
@given(globs, st.text("ab-x", min_size=1, max_size=7))
def test_every_valid_string_has_a_member_of_its_class_and_length(texts: list[str], text: str) -> None:
    if is_valid(LABEL, text):
        assert len(text) in classes_by_length(texts, LABEL, 7)[matching(texts, text)]


@pytest.mark.parametrize(
    ("grammar", "valid", "invalid"),
    [
        pytest.param(
            SEGMENT,
            ["a", "a.b", "a_b", "a__b", "a---b"],
            ["", "-a", "a-", "a..b", "a___b", "A", "a.-b"],
            id="segment",
        ),
        pytest.param(LABEL, ["a", "a-b", "a--b", "0"], ["", "-a", "a-", "a_b", "a.b", "A"], id="label"),
        pytest.param(TAG, ["v1", "_", "A.b-c_", "a" * 128], ["", ".a", "-a", "a" * 129, "a/b"], id="tag"),
        pytest.param(NAMESPACE, ["a", "a-b", "a" * 63], ["", "a" * 64, "-a", "a-"], id="namespace"),
    ],
)
def test_the_grammars_are_those_of_references(grammar: Grammar, valid: list[str], invalid: list[str]) -> None:
    assert all(is_valid(grammar, text) for text in valid)
    assert not any(is_valid(grammar, text) for text in invalid)


def test_a_class_whose_shortest_member_is_too_long_is_empty() -> None:
    assert {matched for matched, _ in part_classes(["a" * 64], NAMESPACE)} == {frozenset()}


def test_too_many_combinations_are_an_error_not_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_STATES", 10)
    texts = [f"*{letter}*" for letter in "abcdef"]
    with pytest.raises(TooComplex):
        part_classes(texts, SEGMENT)
    with pytest.raises(TooComplex):
        classes_by_length(texts, SEGMENT, 20)
