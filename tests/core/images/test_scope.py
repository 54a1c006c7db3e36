"""scopes by namespace, and the index over many of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.core.images.scope import (
    MAX_SCANNED,
    Scope,
    ScopeIndex,
    TooManyComparisonsError,
)
from property.strategies import NAMESPACE_GLOBS, patterns
from support.skipping import scope

scopes = st.builds(
    lambda pattern, names: Scope(images=parse_pattern(pattern).unwritten(), namespaces=names),
    patterns,
    st.none() | st.lists(st.sampled_from(NAMESPACE_GLOBS), min_size=1, max_size=2).map(tuple),
)


@pytest.mark.parametrize(
    ("one", "other", "covers", "overlaps"),
    [
        pytest.param((), (), True, True, id="everywhere"),
        pytest.param((), ("shop",), True, True, id="one-namespace-of-all"),
        pytest.param(("shop",), (), False, True, id="all-namespaces"),
        pytest.param(("team-*",), ("team-a", "team-b"), True, True, id="glob"),
        pytest.param(("team-*",), ("team-a", "shop"), False, True, id="one-is-elsewhere"),
        pytest.param(("team-*",), ("shop",), False, False, id="elsewhere"),
        pytest.param(("team-*",), ("*-a",), False, True, id="crossing-globs"),
    ],
)
def test_namespaces(one: tuple[str, ...], other: tuple[str, ...], covers: bool, overlaps: bool) -> None:  # noqa: FBT001
    left, right = scope("a.io", *one), scope("a.io/x", *other)
    assert left.covers(right) is covers
    assert left.overlaps(right) is overlaps
    assert not scope("b.io", *one).overlaps(right)
    assert not scope("b.io", *one).covers(right)


def test_a_scope_with_a_length_limit_does_not_cover_longer_names() -> None:
    short = replace(scope("a.io"), longest=100)
    assert scope("a.io").covers(short)
    assert not short.covers(scope("a.io/x"))
    assert short.overlaps(scope("a.io/x"))


@pytest.mark.parametrize(
    ("names", "namespace", "applies"),
    [((), None, True), (("shop",), "shop", True), (("shop",), "shops", False), (("shop",), None, False)],
)
def test_a_scope_applies_in_its_namespaces(
    names: tuple[str, ...], namespace: str | None, *, applies: bool
) -> None:
    assert scope("a.io", *names).applies_to(namespace) is applies


def test_a_scope_names_its_images_and_namespaces() -> None:
    assert str(scope("a.io/x:v1")) == "a.io/x:v1"
    assert str(scope("a.io/x", "shop", "team-*")) == "a.io/x in shop, team-*"
    assert scope("a.io/x:v1", "shop").unqualified() == scope("a.io/x")


@given(st.lists(scopes, max_size=12), scopes)
def test_the_index_finds_what_a_search_finds(given_scopes: list[Scope], candidate: Scope) -> None:
    index = ScopeIndex()
    index.extend(given_scopes)
    overlapping = [each for each in given_scopes if each.overlaps(candidate)]
    assert sorted(map(str, index.overlapping(candidate))) == sorted(map(str, overlapping))
    covering = [each for each in given_scopes if each.covers(candidate)]
    found = index.covering(candidate)
    assert (found in covering) if covering else (found is None)


def test_the_index_looks_through_a_bounded_number_of_entries_side_by_side() -> None:
    index = ScopeIndex()
    index.extend(scope(f"*{number}.io") for number in range(MAX_SCANNED))
    index.add(scope("*x.io"))
    assert index.covering(scope("a1.io")) is not None
    assert index.covering(scope("ax.io")) is None


def test_comparisons_are_bounded() -> None:
    index = ScopeIndex(left=10)
    index.extend(scope(f"a.io/x{number}") for number in range(8))
    assert len(list(index.overlapping(scope("a.io")))) == 8
    assert list(index.overlapping(scope("a.io/x1"))) == [
        scope("a.io/x1")
    ]  # found by the name of its namespace
    with pytest.raises(TooManyComparisonsError):
        list(index.overlapping(scope("a.io")))
