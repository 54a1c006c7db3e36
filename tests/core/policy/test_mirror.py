"""Mirrors (docs/policy.md, "Modes"): the rewrite of an image, and its origin."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import parse_pattern, parse_prefix
from gatekeeper_py.core.images.reference import Location, locate, parse_reference
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.copies import copies
from gatekeeper_py.core.policy.mirror import MAX_NAME_LENGTH, Mirror, Mirrors, Rewrite
from property.strategies import patterns, prefixes

SHA256: Final = "sha256:" + "7c" * 32


def mirror(source: str, to: str, *excepts: str, index: int = 0) -> Mirror:
    return Mirror(
        index=index,
        source=parse_prefix(source),
        targets=(parse_prefix(to),),
        excepts=tuple(map(parse_pattern, excepts)),
    )


def rewrite(image: str, *mirrors: Mirror) -> Rewrite | None:
    return Mirrors(mirrors).rewrite(parse_image(image))


def rewritten(image: str, *mirrors: Mirror) -> str | None:
    """Return the image on its mirror, ``None`` if no mirror has it; check that there is no problem."""
    plan = rewrite(image, *mirrors)
    assert plan is None or not plan.problem
    return None if plan is None else plan.image


def origins(image: str, *mirrors: Mirror) -> list[str]:
    return [origin.name for origin in Mirrors(mirrors).origins(locate(parse_reference(image)))]


@pytest.mark.parametrize(
    ("source", "to", "image", "expected"),
    [
        pytest.param("docker.io", "r.io/hub", "nginx", "r.io/hub/library/nginx", id="short-name"),
        pytest.param("docker.io", "r.io/hub", "nginx:1", "r.io/hub/library/nginx:1", id="tag-stays"),
        pytest.param("docker.io", "r.io", f"a/b@{SHA256}", f"r.io/a/b@{SHA256}", id="digest-stays"),
        pytest.param(
            "docker.io", "r.io", f"a/b:1@{SHA256}", f"r.io/a/b:1@{SHA256}", id="tag-and-digest-stay"
        ),
        pytest.param("docker.io", "r.io", "index.docker.io/nginx", "r.io/library/nginx", id="alias"),
        pytest.param("registry-1.docker.io", "r.io", "nginx", "r.io/library/nginx", id="alias-as-from"),
        pytest.param("docker.io", "r.io", "Docker.io:443/nginx", "r.io/library/nginx", id="443-and-case"),
        pytest.param("docker.io/library", "r.io/x", "nginx", "r.io/x/nginx", id="library-is-a-segment"),
        pytest.param("docker.io/library/nginx", "r.io/x", "nginx:1", "r.io/x:1", id="equality-is-a-prefix"),
        pytest.param("docker.io/nginx", "r.io/x", "nginx", None, id="a-hub-user-is-no-official-image"),
        pytest.param("docker.io/nginx", "r.io/x", "nginx/app", "r.io/x/app", id="a-hub-user"),
        pytest.param("quay.io/org", "r.io/x", "quay.io/org/a/b", "r.io/x/a/b", id="the-rest-of-the-path"),
        pytest.param("quay.io/org", "r.io/x", "quay.io/organic/a", None, id="segment-boundary"),
        pytest.param("quay.io", "r.io", "quay.io:5000/a", None, id="another-port"),
        pytest.param("quay.io:05000", "r.io:0080/x", "quay.io:5000/a", "r.io:0080/x/a", id="to-as-written"),
        pytest.param("quay.io/", "r.io/x/", "quay.io/a", "r.io/x/a", id="trailing-slashes"),
        pytest.param("quay.io", "docker.io", "quay.io/a/b", "docker.io/a/b", id="to-docker-hub"),
        pytest.param("quay.io", "localhost:5000", "quay.io/a", "localhost:5000/a", id="to-localhost"),
        pytest.param("quay.io", "[::1]:5000", "quay.io/a", "[::1]:5000/a", id="to-ipv6"),
        pytest.param("docker.io", "r.io", "quay.io/a", None, id="another-registry"),
    ],
)
def test_rewrite(source: str, to: str, image: str, expected: str | None) -> None:
    assert rewritten(image, mirror(source, to)) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param("quay.io/a/b/c", "r.io/2/c", id="the-longest"),
        pytest.param("quay.io/a/b", "r.io/2", id="the-longest-by-equality"),
        pytest.param("quay.io/a/bc", "r.io/1/bc", id="the-second-longest"),
        pytest.param("quay.io/z", "r.io/0/z", id="the-shortest"),
    ],
)
def test_the_longest_from_wins(image: str, expected: str) -> None:
    mirrors = (
        mirror("quay.io/a", "r.io/1"),
        mirror("quay.io", "r.io/0"),
        mirror("quay.io/a/b", "r.io/2"),
    )
    assert rewritten(image, *mirrors) == expected
    assert rewritten(image, *reversed(mirrors)) == expected


@pytest.mark.parametrize(
    ("spared", "image", "kept"),
    [
        pytest.param("docker.io/team/**", "team/app", True, id="path"),
        pytest.param("docker.io/nginx", "nginx", True, id="folded"),
        pytest.param("*/**:latest", "nginx", True, id="no-tag-is-latest"),
        pytest.param("*/**:latest", "nginx:1", False, id="another-tag"),
        pytest.param("*@*", f"nginx@{SHA256}", True, id="pinned"),
        pytest.param("docker.io/nginx:1", f"nginx:1@{SHA256}", False, id="pinned-has-no-tag"),
    ],
)
def test_what_except_spares_is_never_rewritten(spared: str, image: str, *, kept: bool) -> None:
    plan = rewrite(image, mirror("docker.io", "r.io", spared))
    assert plan is not None
    assert (plan.image is None) is kept
    assert not plan.problem


def test_the_except_of_the_longest_mirror_ends_the_search() -> None:
    plan = rewrite(
        "quay.io/a/b", mirror("quay.io", "r.io"), mirror("quay.io/a", "s.io", "quay.io/a/b", index=1)
    )
    assert plan is not None
    assert (plan.image, plan.mirror.index) == (None, 1)


@pytest.mark.parametrize(
    ("source", "to", "image", "problem"),
    [
        pytest.param("docker.io/library/nginx", "r.io", "nginx", "r.io of Docker Hub", id="bare-registry"),
        pytest.param(
            "docker.io/library/nginx", "r.io", "nginx:1", "r.io of Docker Hub", id="bare-registry-tag"
        ),
        pytest.param("quay.io/a", "localhost:5000", "quay.io/a:1", "of Docker Hub", id="bare-registry-port"),
        pytest.param("quay.io/a", "docker.io", "quay.io/a", "docker.io of Docker Hub", id="bare-docker-hub"),
        pytest.param(
            "quay.io/nginx",
            "docker.io/nginx",
            "quay.io/nginx",
            "docker.io/library/nginx",
            id="a-user-is-no-image",
        ),
        pytest.param("quay.io", "docker.io", "quay.io/a:1", "docker.io/library/a", id="an-official-image"),
        pytest.param("quay.io/a", "docker.io/library", "quay.io/a", "docker.io/library", id="one-segment"),
        pytest.param("quay.io", f"r.io/{'x' * 200}", f"quay.io/{'y' * 50}", "longer than 255", id="too-long"),
    ],
)
def test_an_image_that_cannot_be_rewritten_is_left_with_a_reason(
    source: str, to: str, image: str, problem: str
) -> None:
    plan = rewrite(image, mirror(source, to))
    assert plan is not None
    assert plan.image is None
    assert problem in plan.problem


def test_255_characters_with_the_host_are_enough() -> None:
    room = MAX_NAME_LENGTH - len("r.io/")
    assert rewritten(f"quay.io/{'y' * room}", mirror("quay.io", "r.io")) == f"r.io/{'y' * room}"
    plan = rewrite(f"quay.io/{'y' * (room + 1)}", mirror("quay.io", "r.io"))
    assert plan is not None
    assert plan.problem


@pytest.mark.parametrize(
    ("source", "to", "image", "expected"),
    [
        pytest.param(
            "docker.io", "r.io/hub", "r.io/hub/library/nginx", ["docker.io/library/nginx"], id="hub"
        ),
        pytest.param(
            "docker.io", "r.io/hub", "r.io/hub/nginx", ["docker.io/library/nginx"], id="normalised-again"
        ),
        pytest.param("index.docker.io", "r.io", "r.io/a/b", ["docker.io/a/b"], id="alias"),
        pytest.param("quay.io", "r.io/x", "r.io/xy/a", [], id="segment-boundary"),
        pytest.param("quay.io", "r.io/x/y", "r.io/x", [], id="above-the-mirror"),
        pytest.param("quay.io/a", "r.io/x", "r.io/x", ["quay.io/a"], id="equality"),
        pytest.param("quay.io", "r.io/x", "r.io/x", [], id="a-bare-registry-is-no-image"),
        pytest.param("quay.io", "docker.io/u", "u/a", ["quay.io/a"], id="mirror-on-hub"),
        pytest.param("quay.io", "r.io:443", "R.io/a", ["quay.io/a"], id="compared-after-folding"),
        pytest.param("quay.io/" + "a" * 200, "r.io", "r.io/" + "b" * 200, [], id="too-long-to-be-an-image"),
    ],
)
def test_origins(source: str, to: str, image: str, expected: list[str]) -> None:
    assert origins(image, mirror(source, to)) == expected


def test_every_mirror_below_which_an_image_lies_gives_an_origin() -> None:
    mirrors = [
        mirror("a.io", "r.io"),
        mirror("b.io", "r.io/x"),
        mirror("c.io", "r.io/x"),
        mirror("d.io", "s.io"),
    ]
    assert origins("r.io/x/y", *mirrors) == ["a.io/x/y", "b.io/y", "c.io/y"]


def test_without_mirrors_nothing_is_mirrored() -> None:
    assert origins("a.io/x") == []
    assert rewrite("a.io/x") is None
    assert len(Mirrors([])) == 0


def test_mirrors_are_counted_and_listed() -> None:
    mirrors = Mirrors([mirror("a.io", "r.io"), mirror("b.io", "r.io")])
    assert len(mirrors) == 2
    assert [m.source.text for m in mirrors] == ["a.io", "b.io"]


SEGMENTS: Final = ("a", "ab", "b", "library", "nginx", "docker.io", "x-y")


def copied(pattern: str, source: str, to: str) -> list[str]:
    originals = Scope(images=parse_pattern(pattern).unwritten())
    of = mirror(source, to)
    return sorted(str(each.images) for each in copies(of, of.to, originals))


def has_copy(pattern: str, of: Mirror, location: Location) -> bool:
    """Return whether a repository is among the copies, and check that so is its origin."""
    originals = Scope(images=parse_pattern(pattern))
    found = any(
        each.images.has_repository(location) and len("/".join(location.segments)) <= each.longest
        for each in copies(of, of.to, originals)
    )
    assert found is any(map(originals.images.has_repository, Mirrors([of]).origins(location)))
    return found


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
def test_the_copies_of_a_set_of_images(pattern: str, source: str, to: str, expected: list[str]) -> None:
    assert copied(pattern, source, to) == expected


@given(patterns, prefixes, prefixes, st.lists(st.sampled_from(SEGMENTS), max_size=3), st.booleans())
def test_an_image_is_a_copy_exactly_when_its_origin_is_in_the_set(
    pattern: str,
    source: str,
    to: str,
    rest: list[str],
    official: bool,  # noqa: FBT001
) -> None:
    of = mirror(source, to)
    segments = (*of.to.segments, *(["library"] if official else []), *rest)
    # A folded location on Docker Hub has at least two parts, and every image has at least one.
    assume(len(segments) > (of.to.host == "docker.io"))
    event(f"found: {has_copy(pattern, of, Location(of.to.host, segments))}")


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
    of = mirror(source, to)
    below = length - of.to.path_length
    if below >= 1:
        has_copy(pattern, of, Location(of.to.host, (*of.to.segments, "y" * below)))
