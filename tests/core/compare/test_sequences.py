"""Every sequence of segments belongs to one of the computed classes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core.compare import parts
from gatekeeper_py.core.compare.parts import SEGMENT, TooComplex
from gatekeeper_py.core.compare.sequences import Item, Sequences
from gatekeeper_py.core.images.pattern import path_matches
from support.budget import budget

examples = settings(max_examples=budget(50))
part_globs = st.sampled_from(["a", "b", "ab", "*", "a*", "*b"])
items = st.lists(
    st.builds(Item, st.lists(part_globs, max_size=3).map(tuple), st.booleans()).filter(
        lambda item: bool(item.parts) or item.subtree
    ),
    max_size=4,
    unique=True,
)
paths = st.lists(st.sampled_from(["a", "b", "ab", "x", "axb"]), min_size=1, max_size=5).map(tuple)


def matching(patterns: list[Item], path: tuple[str, ...]) -> frozenset[int]:
    return frozenset(
        index for index, item in enumerate(patterns) if path_matches(item.parts, path, subtree=item.subtree)
    )


@examples
@given(items)
def test_each_member_is_matched_by_exactly_its_patterns(patterns: list[Item]) -> None:
    for matched, path in Sequences(patterns, SEGMENT, longest=255).classes().items():
        assert matching(patterns, path) == matched


@examples
@given(items, paths)
def test_every_path_is_in_a_class_whose_member_is_not_longer(
    patterns: list[Item], path: tuple[str, ...]
) -> None:
    found = Sequences(patterns, SEGMENT, longest=255).classes()
    assert len("/".join(found[matching(patterns, path)])) <= len("/".join(path))


@examples
@given(items, st.integers(0, 20))
def test_longer_members_are_longer_and_of_their_class(patterns: list[Item], minimum: int) -> None:
    for matched, path in Sequences(patterns, SEGMENT, longest=25).longer_than(minimum).items():
        assert minimum < len("/".join(path)) <= 25
        assert matching(patterns, path) == matched


@examples
@given(items, paths)
def test_every_longer_path_has_a_longer_member_of_its_class(
    patterns: list[Item], path: tuple[str, ...]
) -> None:
    length = len("/".join(path))
    found = Sequences(patterns, SEGMENT, longest=25).longer_than(length - 1)
    assert len("/".join(found[matching(patterns, path)])) <= length


@examples
@given(items, paths.filter(lambda path: len(path) >= 2))
def test_with_a_fewest_number_of_segments_shorter_paths_have_no_class(
    patterns: list[Item], path: tuple[str, ...]
) -> None:
    two = Sequences(patterns, SEGMENT, longest=25, fewest=2)
    assert all(len(member) >= 2 for member in two.classes().values())
    assert matching(patterns, path) in two.classes()
    assert all(len(member) >= 2 for member in two.longer_than(3).values())


starts = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=2).map(tuple)


@examples
@given(items, starts, st.sampled_from(["a", "b", "ab", "x", "axb"]))
def test_every_part_below_a_start_has_a_member_of_its_class(
    patterns: list[Item], start: tuple[str, ...], part: str
) -> None:
    found = Sequences(patterns, SEGMENT, longest=1).below(start)
    for matched, path in found.items():
        assert path[:-1] == start
        assert matching(patterns, path) == matched
    assert len(found[matching(patterns, (*start, part))][-1]) <= len(part)


@examples
@given(items, starts, st.sampled_from(["a", "b", "ab", "x", "axb", "a" * 9]))
def test_every_longer_part_below_a_start_has_a_longer_member_of_its_class(
    patterns: list[Item], start: tuple[str, ...], part: str
) -> None:
    found = Sequences(patterns, SEGMENT, longest=25).below(start, len(part) - 1)
    for matched, path in found.items():
        assert path[:-1] == start
        assert matching(patterns, path) == matched
        assert len(path[-1]) >= len(part)
    assert len(found[matching(patterns, (*start, part))][-1]) == len(part)


@examples
@given(items, st.data())
def test_the_classes_that_touch_some_patterns_are_those_of_all_classes(
    patterns: list[Item], data: st.DataObject
) -> None:
    touching = data.draw(st.frozensets(st.sampled_from(range(len(patterns) or 1))))
    expected = Sequences(patterns, SEGMENT, longest=255).classes()
    assert Sequences(patterns, SEGMENT, longest=255).classes(touching) == {
        matched: path for matched, path in expected.items() if matched & touching
    }


def test_a_class_that_needs_a_longer_text_than_allowed_is_empty() -> None:
    assert set(Sequences([Item(("a" * 9, "b" * 9))], SEGMENT, longest=18).classes()) == {frozenset()}


def test_too_many_combinations_are_an_error_not_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_STATES", 3)
    patterns = [Item((f"*{letter}", "*")) for letter in "abcd"]
    with pytest.raises(TooComplex):
        Sequences(patterns, SEGMENT, longest=255).classes()
    with pytest.raises(TooComplex):
        Sequences(patterns, SEGMENT, longest=255).longer_than(3)


def test_a_longer_member_is_at_most_as_long_as_allowed() -> None:
    found = Sequences([Item(("a" * 9, "b" * 9))], SEGMENT, longest=18).longer_than(9)
    assert set(found) == {frozenset()}
