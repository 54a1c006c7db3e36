"""The check for linear growth finds quadratic work in Python and in C, in time and in memory."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from support.budget import is_long
from support.growth import check_linear

Work = Callable[[str], object]
Make = Callable[[int], str]

LIMIT = 1 << 14
ONLY_IN_A_LONG_RUN = pytest.mark.skipif(not is_long(), reason="CPU time is compared by make test-long")


def spaces(size: int) -> str:
    return " " * size


def count_one_by_one(text: str) -> int:
    count = 0
    for character in text:
        count += character == " "
    return count


def sort_with_a_key(text: str) -> list[str]:
    return sorted(text, key=lambda character: character)


def compare_every_pair(text: str) -> int:
    return sum(1 for first in text for second in text if first == second)


def cut_off_one_by_one(text: str) -> str:
    while text:
        text = text[1:].lower()  # takes more time than the coverage measurement of this line
    return text


def keep_every_prefix(text: str) -> list[str]:
    return [text[:end] for end in range(0, len(text), 16)]


@pytest.mark.parametrize(
    ("work", "make"),
    [
        pytest.param(str.upper, spaces, id="in-c"),
        pytest.param(len, spaces, id="constant"),
        pytest.param(count_one_by_one, spaces, id="in-python"),
        pytest.param(sort_with_a_key, lambda size: "xyz" * (size // 3), id="a-sort"),
        pytest.param(re.compile(r" +y").match, spaces, id="a-match-at-one-place"),
        pytest.param(re.compile(r" +y").search, lambda size: "x " * (size // 2), id="a-search-of-short-runs"),
    ],
)
def test_linear_work_passes(work: Work, make: Make) -> None:
    check_linear(work, make, limit=LIMIT)


@pytest.mark.parametrize(
    ("work", "what", "limit"),
    [
        pytest.param(compare_every_pair, "instructions", LIMIT, id="two-loops"),
        pytest.param(
            re.compile(r" +y").search,
            "CPU time",
            LIMIT,
            id="a-search-of-one-long-run",
            marks=ONLY_IN_A_LONG_RUN,
        ),
        # Fast work needs more sizes: a busy moment can hide the growth between the last two.
        pytest.param(
            cut_off_one_by_one, "CPU time", 2 * LIMIT, id="a-copy-in-each-round", marks=ONLY_IN_A_LONG_RUN
        ),
        pytest.param(keep_every_prefix, "bytes of memory", LIMIT, id="prefixes-kept"),
    ],
)
def test_quadratic_work_fails(work: Work, what: str, limit: int) -> None:
    with pytest.raises(AssertionError, match=what):
        check_linear(work, spaces, limit=limit)


def test_a_limit_too_small_to_compare_sizes_is_an_error() -> None:
    with pytest.raises(ValueError, match="limit=100"):
        check_linear(str.upper, spaces, start=64, limit=100)
