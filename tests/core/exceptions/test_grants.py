"""Grants are found by source, image and namespace."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gatekeeper_py.core.exceptions.grants import Grant, Grants, Source
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.copies import at_once


def grant(index: int, *images: str, source: Source = "namespace", **more: object) -> Grant:
    patterns = tuple(map(parse_pattern, images))
    longest = timedelta(hours=1)
    return Grant(index=index, source=source, images=patterns, longest=longest, **more)  # type: ignore[arg-type]


def test_grants_are_listed_by_source_and_named_as_in_the_policy() -> None:
    one, two = grant(0, "a.io", source="break-glass"), grant(1, "b.io")
    found = at_once(Grants.compiling([one, two]))
    assert found
    assert not Grants()
    assert [str(each) for each in found.of("namespace")] == ["exceptions[1]"]
    assert found.of("break-glass") == (one,)
    assert found.of("installation") == ()


def test_the_largest_number_of_entries_in_a_namespace_counts() -> None:
    found = Grants([grant(0, "a.io", most=3), grant(1, "a.io", most=5, namespaces=("team-*",))])
    assert [found.most("namespace", name) for name in ("team-a", "other", None)] == [5, 3, 3]
    assert found.most("installation", None) == 0


def test_the_largest_number_of_entries_in_some_namespace_of_a_list_counts() -> None:
    found = Grants([grant(0, "a.io", most=3), grant(1, "b.io", most=5, namespaces=("team-*",))])
    reached = [None, ("team-a",), ("*-a",), ("other",), ("other", "team-b"), ("other",)]
    assert list(found.most_overlapping("namespace", reached)) == [5, 5, 5, 3, 5, 3]
    assert list(found.most_overlapping("installation", [None, ("team-a",)])) == [0, 0]


def test_after_too_many_comparisons_the_largest_number_counts() -> None:
    names = tuple(f"n{number}" for number in range(100))
    found = Grants([grant(0, "a.io", most=5, namespaces=names), grant(1, "b.io", most=3)])
    others = tuple(f"m{number}" for number in range(60))
    assert list(found.most_overlapping("namespace", [("m",), others, ("m",), ("k",)])) == [3, 5, 3, 5]


def test_an_entry_overlaps_grants_with_an_image_in_common() -> None:
    found = Grants([grant(0, "a.io/x"), grant(1, "a.io", namespaces=("team-*",)), grant(2, "b.io")])
    entries = [Scope(images=parse_pattern(text)) for text in ("a.io/x:1", "b.io/y", "c.io")]
    indices = [[each.index for each in over] for over in found.overlapping("namespace", entries)]
    assert indices == [[0, 1], [2], []]


def test_after_too_many_comparisons_every_grant_counts() -> None:
    images = [f"a.io/x/{number}" for number in range(1_000)]
    found = Grants([grant(0, *images), grant(1, "b.io")])
    entries = [Scope(images=parse_pattern("a.io/x/other"))] * 20
    indices = [[each.index for each in over] for over in found.overlapping("namespace", entries)]
    assert indices[0] == []
    assert indices[-1] == [0, 1]


@pytest.mark.parametrize("names", [None, ("*",), ("team-b", "*")])
def test_a_grant_for_every_namespace_includes_requests_without_a_namespace(
    names: tuple[str, ...] | None,
) -> None:
    given = grant(0, "a.io", namespaces=names, most=7)
    found = Grants([given])
    image = parse_image("a.io/x")
    for namespace in (None, "team-a"):
        assert given.applies_to(namespace)
        assert found.matching("namespace", image, namespace) == (given,)
        assert found.most("namespace", namespace) == 7


def test_another_name_does_not_include_requests_without_a_namespace() -> None:
    given = grant(0, "a.io", namespaces=("team-*",))
    image = parse_image("a.io/x")
    assert not given.applies_to(None)
    assert not Grants([given]).matching("namespace", image, None)
