"""Globs: ``*`` stands for any number of characters, including none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.images.glob import Glob, globs_overlap


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        pytest.param("abc", "abc", True, id="literal"),
        pytest.param("abc", "abcd", False, id="literal-is-the-whole"),
        pytest.param("", "", True, id="empty"),
        pytest.param("*", "", True, id="star-is-also-nothing"),
        pytest.param("*", "a/b", True, id="star-is-anything"),
        pytest.param("v*", "v", True, id="suffix-may-be-empty"),
        pytest.param("v*", "w", False, id="prefix-differs"),
        pytest.param("*v", "rv", True, id="ends"),
        pytest.param("*v", "vr", False, id="suffix-differs"),
        pytest.param("a*a", "a", False, id="ends-do-not-overlap"),
        pytest.param("a*a", "aa", True, id="ends-may-touch"),
        pytest.param("a*b*c", "abbc", True, id="middle"),
        pytest.param("a*b*c", "acb", False, id="middle-in-order"),
        pytest.param("a*bc*c", "abc", False, id="middle-does-not-overlap-the-end"),
        pytest.param("*a*a*", "a", False, id="each-piece-wants-its-place"),
        pytest.param("a.c", "abc", False, id="dot-is-a-dot"),
        pytest.param("[a]", "a", False, id="no-classes"),
        pytest.param("?", "a", False, id="no-question-mark"),
        pytest.param("a*", "a*b", True, id="covers-a-narrower-glob"),
        pytest.param("a*b", "a*", False, id="does-not-cover-a-wider-glob"),
    ],
)
def test_matches(glob: str, text: str, *, expected: bool) -> None:
    assert Glob(glob).matches(text) is expected


def test_many_stars_end() -> None:
    assert not Glob("*a" * 200 + "b").matches("a" * 100_000)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        pytest.param("abc", "abc", True, id="the-same-text"),
        pytest.param("abc", "abd", False, id="two-texts"),
        pytest.param("a*", "abc", True, id="glob-and-text"),
        pytest.param("b*", "abc", False, id="glob-and-another-text"),
        pytest.param("a*", "*b", True, id="beginning-and-ending"),
        pytest.param("a*", "ab*", True, id="longer-beginning"),
        pytest.param("a*", "b*", False, id="beginnings-differ"),
        pytest.param("*a", "*ba", True, id="longer-ending"),
        pytest.param("*a", "*b", False, id="endings-differ"),
        pytest.param("a*x*b", "a*y*b", True, id="pieces-one-after-the-other"),
    ],
)
def test_whether_two_globs_overlap(one: str, other: str, overlap: bool) -> None:  # noqa: FBT001
    assert globs_overlap(one, other) is overlap
    assert globs_overlap(other, one) is overlap


@given(st.text("ab*", max_size=6), st.text("ab*", max_size=6), st.text("ab", max_size=6))
def test_a_text_that_matches_both_globs_shows_that_they_overlap(one: str, other: str, text: str) -> None:
    if Glob(one).matches(text) and Glob(other).matches(text):
        assert globs_overlap(one, other)
