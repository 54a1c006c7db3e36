"""Whether two patterns could match one image: never missed, and hardly ever seen where it is not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget import budget
from gatekeeper_py.core.images.overlap import MAX_WILDCARDS, Overlaps
from gatekeeper_py.core.images.pattern import Pattern, parse_pattern, path_matches
from gatekeeper_py.core.images.reference import Location
from property.strategies import SEGMENT_GLOBS, SEGMENTS, patterns


def found(wild: str, literal: str) -> bool:
    overlaps: Overlaps[str] = Overlaps()
    pattern, place = parse_pattern(wild), parse_pattern(literal)
    overlaps.add(pattern.host, pattern.segments, "told", subtree=pattern.subtree)
    return overlaps.find(place.host, place.segments, subtree=place.subtree) == "told"


@pytest.mark.parametrize(
    ("wild", "literal", "expected"),
    [
        pytest.param("a.io", "a.io", True, id="same-registry"),
        pytest.param("b.io", "a.io", False, id="other-registry"),
        pytest.param("a.io:5000", "a.io", False, id="other-port"),
        pytest.param("*.io", "a.io", True, id="host-wildcard"),
        pytest.param("*.io:5000", "a.io", False, id="host-wildcard-other-port"),
        pytest.param("*", "a.io:5000/x", True, id="any-host"),
        pytest.param("*/**:latest", "a.io/x", True, id="tag-does-not-matter"),
        pytest.param("*/x", "a.io/x", True, id="any-host-same-path"),
        pytest.param("*/x", "a.io/y", False, id="any-host-other-path"),
        pytest.param("a.io/x", "a.io", True, id="repository-under-registry"),
        pytest.param("a.io", "a.io/x", True, id="registry-over-repository"),
        pytest.param("a.io/x", "a.io/x", True, id="same-repository"),
        pytest.param("a.io/x", "a.io/x/**", False, id="subtree-does-not-hold-its-root"),
        pytest.param("a.io/x/**", "a.io/x", False, id="root-is-not-in-its-subtree"),
        pytest.param("a.io/x/**", "a.io/x/y/**", True, id="subtree-over-subtree"),
        pytest.param("a.io/x/y/**", "a.io/x/**", True, id="subtree-under-subtree"),
        pytest.param("a.io/x/**", "a.io/y/**", False, id="subtrees-apart"),
        pytest.param("a.io/*/y", "a.io/x/**", True, id="segment-wildcard-in-subtree"),
        pytest.param("a.io/*/y", "a.io/x/z", False, id="segment-wildcard-other-end"),
        pytest.param("a.io/t*/**", "a.io/team/x", True, id="wildcard-subtree-over-repository"),
        pytest.param("a.io/t*/**", "a.io/x/**", False, id="wildcard-subtree-apart"),
        pytest.param("a.io/xy", "a.io/x/**", False, id="prefix-of-text-is-not-of-segments"),
    ],
)
def test_what_two_patterns_have_in_common(wild: str, literal: str, expected: bool) -> None:  # noqa: FBT001
    assert found(wild, literal) is expected


@pytest.mark.parametrize("hosts", [True, False])
def test_very_many_wildcards_stand_for_everything(hosts: bool) -> None:  # noqa: FBT001
    overlaps: Overlaps[int] = Overlaps()
    for number in range(MAX_WILDCARDS + 10):
        host, segment = (f"x{number}*.io", "y") if hosts else ("a.io", f"x{number}*")
        overlaps.add(host, (segment, "z"), number, subtree=False)
        full = number >= MAX_WILDCARDS
        place = ("b.io", ("y", "z")) if hosts else ("a.io", ("y", "z"))
        assert overlaps.find(*place, subtree=False) == (MAX_WILDCARDS if full else None)


def test_the_first_that_was_added_is_told() -> None:
    overlaps: Overlaps[str] = Overlaps()
    for told in ("first", "second"):
        overlaps.add("a.io", ("x",), told, subtree=False)
        overlaps.add("b.io", ("x",), told, subtree=True)
    assert overlaps.find("a.io", ("x",), subtree=False) == "first"
    assert overlaps.find("a.io", (), subtree=True) == "first"
    assert overlaps.find("b.io", ("x",), subtree=True) == "first"


literals = st.builds(
    "{}/{}{}".format,
    st.sampled_from(["a.io", "b.io", "a.io:5000", "eu.corp.io"]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "/**"]),
)


@settings(max_examples=budget(300), deadline=None)
@given(st.lists(patterns, min_size=1, max_size=5), literals)
def test_nothing_in_common_is_certain(wild: list[str], literal: str) -> None:
    """No image lies both under the literal place and under one of the patterns when none is found."""
    overlaps: Overlaps[Pattern] = Overlaps()
    for text in wild:
        pattern = parse_pattern(text)
        overlaps.add(pattern.host, pattern.segments, pattern, subtree=pattern.subtree)
    place = parse_pattern(literal)
    told = overlaps.find(place.host, place.segments, subtree=place.subtree)
    below = (
        (*place.segments, *more) for n in (1, 2) for more in itertools.product((*SEGMENTS, "q"), repeat=n)
    )
    images = below if place.subtree else iter([place.segments])
    hit = any(
        pattern.matches(Location(place.host, segments), "v1", None)
        or pattern.missed(Location(place.host, segments), "v1", None) in {"tag", "digest"}
        for segments in images
        for pattern in map(parse_pattern, wild)
    )
    assert told is not None or not hit


def test_the_globs_above_do_match_the_segments() -> None:
    """So that the property is not empty."""
    assert all(any(path_matches((glob,), (s,), subtree=False) for s in SEGMENTS) for glob in SEGMENT_GLOBS)
