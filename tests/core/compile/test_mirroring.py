"""Sets of images on a mirror agree with the mirroring of single images."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.mirroring import on_mirror
from gatekeeper_py.core.images.pattern import parse_pattern, parse_prefix
from gatekeeper_py.core.images.reference import Location
from gatekeeper_py.core.policy.mirror import Mirror, Mirrors
from property.strategies import patterns, prefixes

SEGMENTS: Final = ("a", "ab", "b", "library", "nginx", "docker.io", "x-y")


def mirrored(pattern: str, source: str, to: str) -> list[str]:
    origin = ImageSet.of(parse_pattern(pattern))
    return sorted(str(each.images) for each in on_mirror(origin, parse_prefix(source), parse_prefix(to)))


@pytest.mark.parametrize(
    ("pattern", "source", "to", "expected"),
    [
        pytest.param("b.io/x", "b.io", "a.io/b", ["a.io/b/x"], id="repository"),
        pytest.param("b.io/x/**", "b.io", "a.io/b", ["a.io/b/x/**"], id="subtree"),
        pytest.param("b.io", "b.io", "a.io/b", ["a.io/b/**"], id="registry"),
        pytest.param("b.io", "b.io/x", "a.io/b", ["a.io/b", "a.io/b/**"], id="wider-than-the-mirror"),
        pytest.param("b.io/x", "b.io/x", "a.io/b", ["a.io/b"], id="the-source-itself"),
        pytest.param("b.io/x/y/z", "b.io/x", "a.io", ["a.io/y/z"], id="below-the-source"),
        pytest.param("b.io/y/**", "b.io/x", "a.io/b", [], id="beside-the-source"),
        pytest.param("b.io/x", "b.io/x/y", "a.io/b", [], id="above-the-source"),
        pytest.param("c.io", "b.io", "a.io/b", [], id="another-registry"),
        pytest.param("*.io/*/x", "b.io/y", "a.io", ["a.io/x"], id="wildcards"),
        pytest.param("*/**:latest", "b.io", "a.io", ["a.io/**:latest"], id="tags-anywhere"),
        pytest.param("b.io/x@*", "b.io", "a.io", ["a.io/x@*"], id="digests"),
        pytest.param(
            "docker.io/nginx", "docker.io", "a.io/h", ["a.io/h/library/nginx", "a.io/h/nginx"], id="official"
        ),
        pytest.param(
            "docker.io/library/**",
            "docker.io",
            "a.io/h",
            ["a.io/h", "a.io/h/*", "a.io/h/library/**"],
            id="officials",
        ),
        pytest.param("docker.io", "docker.io", "a.io", ["a.io/*", "a.io/*/**"], id="all-of-hub"),
        pytest.param("docker.io/x/y", "docker.io", "a.io/h", ["a.io/h/x/y"], id="user-on-hub"),
        pytest.param("*/x", "docker.io", "a.io/h", [], id="no-image-of-hub-is-a-single-part"),
        pytest.param(
            "docker.io/docker.io",
            "docker.io",
            "a.io/h",
            ["a.io/h", "a.io/h/docker.io", "a.io/h/library/docker.io"],
            id="read-as-an-image",
        ),
        pytest.param("docker.io/library/foo", "docker.io/foo", "a.io/h", ["a.io/h"], id="official-by-itself"),
        pytest.param("*/x", "[::1]:5000", "a.io/b", ["a.io/b/x"], id="a-source-that-is-not-an-image"),
    ],
)
def test_sets_on_a_mirror(pattern: str, source: str, to: str, expected: list[str]) -> None:
    assert mirrored(pattern, source, to) == expected


@given(patterns, prefixes, prefixes, st.lists(st.sampled_from(SEGMENTS), max_size=3), st.booleans())
def test_an_image_is_in_one_exactly_when_its_origin_is_in_the_set(
    pattern: str,
    source: str,
    to: str,
    rest: list[str],
    official: bool,  # noqa: FBT001
) -> None:
    origin = ImageSet.of(parse_pattern(pattern))
    mirror = Mirror(index=0, source=parse_prefix(source), targets=(parse_prefix(to),))
    segments = (*mirror.to.segments, *(["library"] if official else []), *rest)
    # A folded location on Docker Hub has at least two parts, and every image has at least one.
    assume(len(segments) > (mirror.to.host == "docker.io"))
    location = Location(mirror.to.host, segments)
    found = any(each.images.has_location(location) for each in on_mirror(origin, mirror.source, mirror.to))
    event(f"found: {found}")
    assert found is any(map(origin.has_location, Mirrors([mirror]).origins(location)))


LONG: Final = "/".join(["x" * 60] * 3)


@pytest.mark.parametrize(
    ("pattern", "source", "to"),
    [
        pytest.param(f"b.io/{LONG}", f"b.io/{LONG}", "a.io/m", id="longer-source"),
        pytest.param("b.io", f"b.io/{LONG}", "a.io", id="all-of-the-source"),
        pytest.param("b.io", "b.io", f"a.io/{LONG}", id="longer-mirror"),
        pytest.param("docker.io", "docker.io", "a.io/m", id="official"),
        pytest.param("docker.io", "registry-1.docker.io", "a.io", id="official-by-another-name"),
    ],
)
@pytest.mark.parametrize("length", [1, 60, 72, 73, 74, 75, 245, 246, 247, 248, 249, 253, 254, 255])
def test_an_image_on_a_mirror_has_an_origin_up_to_a_length(
    pattern: str, source: str, to: str, length: int
) -> None:
    """A longer image has no origin, because the origin's name would be too long."""
    origin = ImageSet.of(parse_pattern(pattern))
    mirror = Mirror(index=0, source=parse_prefix(source), targets=(parse_prefix(to),))
    below = length - sum(len(segment) + 1 for segment in mirror.to.segments)
    if below < 1:
        return
    location = Location(mirror.to.host, (*mirror.to.segments, "y" * below))
    found = any(
        each.images.has_location(location) and len("/".join(location.segments)) <= each.longest
        for each in on_mirror(origin, mirror.source, mirror.to)
    )
    assert found is any(map(origin.has_location, Mirrors([mirror]).origins(location)))
