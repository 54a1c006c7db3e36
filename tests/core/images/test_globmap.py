"""The index of globs by their literal pieces finds the same as a comparison with every glob, but faster."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.images.glob import Glob
from gatekeeper_py.core.images.globmap import MAX_SIDE_BY_SIDE, GlobMap, GlobTree, Scan
from support.growth import check_linear, instructions

globs = st.text("ab*-", max_size=6)
texts = st.text("ab*-", max_size=8)
shared = st.builds("*-*{}*{}".format, st.sampled_from(["a", "b", "ab", ""]), globs)
"""Globs that often share their pieces."""


def mapped(entries: Iterable[str]) -> GlobMap[str]:
    found: GlobMap[str] = GlobMap()
    for text in entries:
        found.setdefault(text, text)
    return found


@given(st.lists(globs, unique=True, max_size=12) | st.lists(shared, unique=True, min_size=12), texts)
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


def test_comparisons_stop_at_the_limit_of_the_scan() -> None:
    tree: GlobTree[int] = GlobTree()
    for number in range(100):
        tree.setdefault((f"long*-{number}-*",), lambda number=number: number)  # type: ignore[misc]
    text = f"long-{'-'.join(map(str, range(100)))}-"
    assert len(list(tree.matching([text], scan=Scan(each=50)))) == 50
    assert sorted(found for _, found in tree.matching([text])) == list(range(100))


def test_look_ups_are_counted() -> None:
    found = mapped(f"*-service-*{number:03}*" for number in range(100))
    scan = Scan(each=None, total=5)
    assert list(found.matching("x-service-042", scan=scan)) == []
    assert scan.cut


@pytest.mark.parametrize("glob", ["{:06}*", "*{:06}", "*{:06}*", "a*{:06}*b"])
def test_the_number_of_compared_globs_does_not_grow(glob: str) -> None:
    found = mapped(glob.format(number) for number in range(2_000))
    assert len(list(found.candidates("xxx000042xxx"))) <= 1
    assert len(list(found.candidates("000042"))) <= 1


def combined(glob: str, number: int | None = None) -> list[str]:
    """Return this many of 4,096 globs. They share all pieces; only the combination of pieces is unique."""
    letters = itertools.product("abcdefghijklmxyz", repeat=3)
    return [glob.format("*".join(each)) for each in itertools.islice(letters, number)]


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("glob", "text"),
    [
        pytest.param("*-service-*{:05}*", "x-service-00042-x", id="inside"),
        pytest.param("service-*{:05}*", "service-00042-x", id="at-the-start"),
        pytest.param("*{:05}*-service", "x-00042-service", id="at-the-end"),
        pytest.param("service-*{:05}", "service-x-00042", id="at-both-ends"),
        pytest.param("*-service-*-team-*{:05}*", "x-service-x-team-00042", id="two-pieces"),
    ],
)
def test_the_number_of_compared_globs_does_not_grow_when_they_share_a_piece(glob: str, text: str) -> None:
    found = mapped(glob.format(number) for number in range(10_000))
    assert list(found.matching(text)) == [glob.format(42)]
    assert len(list(found.candidates(text))) <= 2 * MAX_SIDE_BY_SIDE + 1


@pytest.mark.bulk
@pytest.mark.parametrize("glob", ["*0000-1111*{}*", "*{}*0000-1111*", "0000-1111*{}*", "*{}*0000-1111"])
def test_globs_are_found_by_several_pieces_together(glob: str) -> None:
    """Each single piece is in hundreds of the globs, and a text has three of them."""
    entries = combined(glob)
    found = mapped(entries)
    assert len(list(found.candidates("0000-1111-xyz-0000-1111"))) <= 20 * MAX_SIDE_BY_SIDE
    assert list(found.candidates("1111-abc-0000")) != []
    text = glob.format("x-y-z").replace("*", "")
    expected = [each for each in entries if Glob(each).matches(text)]
    assert expected
    assert sorted(found.matching(text)) == sorted(expected)


@pytest.mark.parametrize("text", ["aaaab", "abaaa", "aabab", "babab"])
def test_the_bound_on_work_covers_every_text_of_its_length(text: str) -> None:
    """The pieces overlap, and a text of five characters has room for two of them."""
    found = mapped(["*aaaa*", "*aaab*", "*abaa*", "*aaba*", "*abab*", "*baba*", "*aabb*", "*bbaa*", "*bbbb*"])
    bound = found.scanned(len(text), lambda _: 0)
    assert bound < found.scanned(9, lambda _: 0)
    assert bound >= len(list(found.candidates(text)))


@given(
    st.lists(globs, unique=True, max_size=12) | st.lists(shared, unique=True, min_size=12),
    st.text("ab*-", max_size=24),
)
def test_no_text_is_compared_with_more_globs_than_the_bound(entries: list[str], text: str) -> None:
    found = mapped(entries)
    assert len(list(found.candidates(text))) <= found.scanned(len(text), lambda _: 0)


def test_globs_count_together_only_if_a_text_can_have_the_pieces_of_all() -> None:
    """At each place of a text begins one piece, and the shorter pieces with which it begins."""
    assert mapped(f"team-{i}-*" for i in range(1_000)).scanned(255, lambda _: 0) == 2
    assert mapped("a" * i + "*" for i in range(1, 9)).scanned(255, lambda _: 0) == 1 + 1 + 8
    assert (
        mapped(f"*{x}{y}{z}*" for x, y, z in itertools.product("abcde", repeat=3)).scanned(20, lambda _: 0)
        == 1 + 20 // 8 + 20
    )


def test_a_bound_counts_each_glob_once() -> None:
    found = mapped(["*aaaa*", "*aaab*", "*abaa*"])
    assert found.scanned(5, lambda _: 1_000) // 1_000 == 3


def test_globs_with_the_same_pieces_are_all_found() -> None:
    orders = ["*" + "*".join(order) + "*" for order in itertools.permutations("abcde")]
    found = mapped(orders)
    assert sorted(found.matching("abcdeabcdeabcdeabcdeabcde")) == sorted(orders)
    assert list(found.matching("a-b-c-d-e")) == ["*a*b*c*d*e*"]


@pytest.mark.parametrize("glob", ["*0000-1111*{}*", "{}*0000-1111"])
def test_filing_takes_time_in_proportion_to_the_globs(glob: str) -> None:
    """Globs are filed again at most once for each of their pieces, so the work for one has a limit."""
    few, many = (instructions(mapped, combined(glob, number)) / number for number in (512, 4_096))
    assert many < 2 * few


def test_a_long_text_is_compared_with_every_glob_instead_of_each_of_its_parts() -> None:
    found = mapped(f"*{'x' * number}{number}*" for number in range(1, 60))
    check_linear(lambda text: list(found.matching(text)), lambda size: "y" * size, limit=1 << 16)
