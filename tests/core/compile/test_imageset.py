"""Sets of images: membership, cover and overlap."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import event, given

from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.written import parse_full
from gatekeeper_py.core.images.pattern import parse_pattern, parse_prefix
from property.strategies import images, patterns

DIGEST: Final = "@sha256:" + "7c" * 32
OTHER: Final = "@sha256:" + "8d" * 32


def of(pattern: str) -> ImageSet:
    return ImageSet.of(parse_pattern(pattern))


@given(patterns, images)
def test_a_set_has_the_images_that_its_pattern_matches(pattern: str, image: str) -> None:
    name = parse_full(image)
    if name is not None:
        assert of(pattern).has(name) is parse_pattern(pattern).matches(*name)
        assert not of(pattern).has(name) or of(pattern).has_location(name.location)


@given(patterns, patterns, images)
def test_one_image_shows_overlap_or_missing_cover_of_two_sets(one: str, other: str, image: str) -> None:
    """An image in both shows that they overlap; one in the second only, that the first does not cover it."""
    name = parse_full(image)
    if name is None or not of(other).has(name):
        return
    if of(one).has(name):
        event("in both")
        assert of(one).overlaps(of(other))
        assert of(other).overlaps(of(one))
    else:
        event("in one")
        assert not of(one).covers(of(other))


@given(patterns)
def test_a_set_covers_itself_and_its_example_is_in_it(pattern: str) -> None:
    assert of(pattern).covers(of(pattern))
    assert of(pattern).unqualified().covers(of(pattern))
    name = parse_full(of(pattern).example())
    if name is not None and "*" not in pattern.partition("/")[0]:
        assert of(pattern).has(name)


@pytest.mark.parametrize(
    ("one", "other", "covers", "overlaps"),
    [
        pytest.param("a.io", "a.io/x/y", True, True, id="below"),
        pytest.param("a.io/x/y", "a.io", False, True, id="above"),
        pytest.param("a.io/x/**", "a.io/x", False, False, id="subtree-wants-one-more"),
        pytest.param("a.io/x", "a.io/x/**", False, False, id="root-of-a-subtree"),
        pytest.param("a.io/x", "a.io/y", False, False, id="beside"),
        pytest.param("a.io/x/**", "a.io/y/**", False, False, id="subtrees-beside-each-other"),
        pytest.param("a.io/x/**", "a.io/x/y/**", True, True, id="subtree-below"),
        pytest.param("a.io/*/app", "a.io/team/*", False, True, id="crossing-wildcards"),
        pytest.param("a.io/team-*/**", "a.io/team-a/x", True, True, id="segment-wildcard"),
        pytest.param("a.io/team-*/**", "a.io/*-team/x", False, True, id="wildcards-at-both-ends"),
        pytest.param("a.io/team-*/**", "a.io/x*/y", False, False, id="wildcards-apart"),
        pytest.param("a.io/*-a", "a.io/*-b", False, False, id="endings-apart"),
        pytest.param("*.corp.io", "eu.corp.io/x", True, True, id="host-wildcard"),
        pytest.param("*.corp.io", "a.b.corp.io/x", False, False, id="more-labels"),
        pytest.param("*.corp.io", "eu.corp.io:5000/x", False, False, id="another-port"),
        pytest.param("*", "eu.corp.io:5000/x", True, True, id="any-host"),
        pytest.param("eu.corp.io", "*", False, True, id="of-any-host"),
        pytest.param("*", "*/x", True, True, id="any-host-twice"),
        pytest.param("a.io/x:v*", "a.io/x:v1", True, True, id="tag-glob"),
        pytest.param("a.io/x:v1", "a.io/x:v2", False, False, id="tags-apart"),
        pytest.param("a.io/x:v1", "a.io/x", False, True, id="one-tag-of-all"),
        pytest.param("a.io/x", "a.io/x:v1", True, True, id="all-tags"),
        pytest.param(f"a.io/x{DIGEST}", "a.io/x:v1", False, False, id="a-digest-has-no-tag"),
        pytest.param("a.io/x@*", f"a.io/x{DIGEST}", True, True, id="any-digest"),
        pytest.param(f"a.io/x{DIGEST}", "a.io/x@*", False, True, id="of-any-digest"),
        pytest.param(f"a.io/x{DIGEST}", f"a.io/x{OTHER}", False, False, id="digests-apart"),
        pytest.param("a.io/x@*", "a.io/x", False, True, id="pinned-of-all"),
        pytest.param("a.io/x:v1", "a.io/x@*", False, False, id="tag-and-pinned"),
    ],
)
def test_two_sets_cover_or_overlap(one: str, other: str, covers: bool, overlaps: bool) -> None:  # noqa: FBT001
    assert of(one).covers(of(other)) is covers
    assert of(one).overlaps(of(other)) is overlaps
    assert of(other).overlaps(of(one)) is overlaps


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        ("a.io", "a.io/app"),
        ("a.io/x", "a.io/x"),
        ("*.corp.io/team-*/**:v*", "x.corp.io/team-x/app:vx"),
        ("a.io@*", f"a.io/app@sha256:{'0' * 64}"),
        (f"a.io/x{DIGEST}", f"a.io/x{DIGEST}"),
    ],
)
def test_an_example(pattern: str, example: str) -> None:
    assert of(pattern).example() == example


@pytest.mark.parametrize("pattern", ["a.io/**", "*/x/**:v1", f"a.io/x{DIGEST}", "*.io/a*/b:v*", "a.io/**@*"])
def test_a_set_is_written_as_its_pattern(pattern: str) -> None:
    assert str(of(pattern)) == pattern


def test_the_sets_at_one_end_of_a_mirror() -> None:
    assert [str(each) for each in ImageSet.below(parse_prefix("a.io/x"))] == ["a.io/x", "a.io/x/**"]


@pytest.mark.parametrize(
    ("pattern", "literal", "qualified", "start"),
    [
        ("a.io", True, False, "a.io/"),
        ("a.io/x:v1", True, True, "a.io/x"),
        ("a.io/x/**@*", True, True, "a.io/x/"),
        ("*.io/x", False, False, "*.io/x"),
        ("a.io/x*", False, False, "a.io/x*"),
    ],
)
def test_a_set_has_the_form_of_its_pattern(pattern: str, literal: bool, qualified: bool, start: str) -> None:  # noqa: FBT001
    assert (of(pattern).literal, of(pattern).qualified, of(pattern).start) == (literal, qualified, start)
