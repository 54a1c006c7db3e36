"""Globs found by their literal pieces: the same as by comparing with every glob, and sooner."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.images.glob import Glob
from gatekeeper_py.core.images.globmap import GlobMap, GlobTree, Scan
from growth import check_linear

globs = st.text("ab*-", max_size=6)
texts = st.text("ab*-", max_size=8)


def mapped(entries: Iterable[str]) -> GlobMap[str]:
    found: GlobMap[str] = GlobMap()
    for text in entries:
        found.setdefault(text, text)
    return found


@given(st.lists(globs, unique=True, max_size=12), texts)
def test_exactly_the_globs_that_match_are_found(entries: list[str], text: str) -> None:
    expected = [entry for entry in entries if Glob(entry).matches(text)]
    assert sorted(mapped(entries).matching(text)) == sorted(expected)


@given(
    st.lists(st.lists(globs, max_size=3).map(tuple), unique=True, max_size=12), st.lists(texts, max_size=3)
)
def test_exactly_the_sequences_that_match_a_beginning_are_found(
    entries: list[tuple[str, ...]], parts: list[str]
) -> None:
    tree: GlobTree[tuple[str, ...]] = GlobTree()
    for entry in entries:
        tree.setdefault(entry, lambda entry=entry: entry)  # type: ignore[misc]
    expected = [
        (len(entry), entry)
        for entry in entries
        if len(entry) <= len(parts)
        and all(Glob(want).matches(have) for want, have in zip(entry, parts, strict=False))
    ]
    assert sorted(tree.matching(parts)) == sorted(expected)


def test_a_glob_keeps_its_first_value() -> None:
    found: GlobMap[int] = GlobMap()
    assert [found.setdefault(text, value) for value, text in enumerate(["a*", "a", "a*", "a"])] == [
        0,
        1,
        0,
        1,
    ]
    assert [found.get(text) for text in ("a*", "a", "b*", "b")] == [0, 1, None, None]


def test_a_sequence_keeps_its_first_value() -> None:
    tree: GlobTree[int] = GlobTree()
    assert tree.setdefault(("a", "*"), lambda: 1) == 1
    assert tree.setdefault(("a", "*"), lambda: 2) == 1


def test_no_more_globs_are_compared_than_asked_for() -> None:
    tree: GlobTree[int] = GlobTree()
    for number in range(100):
        tree.setdefault((f"long*{number}*",), lambda number=number: number)  # type: ignore[misc]
    assert [found for _, found in tree.matching(["long-99"], scan=Scan(each=50))] == [9]
    assert sorted(found for _, found in tree.matching(["long-99"])) == [9, 99]


@pytest.mark.parametrize("glob", ["{:06}*", "*{:06}", "*{:06}*", "a*{:06}*b"])
def test_what_is_compared_does_not_grow_with_the_globs(glob: str) -> None:
    found = mapped(glob.format(number) for number in range(10_000))
    assert len(list(found.candidates("xxx000042xxx"))) <= 1
    assert len(list(found.candidates("000042"))) <= 1


def test_a_long_text_is_compared_with_every_glob_instead_of_each_of_its_parts() -> None:
    found = mapped(f"*{'x' * number}{number}*" for number in range(1, 60))
    check_linear(lambda text: list(found.matching(text)), lambda size: "y" * size, limit=1 << 16)
