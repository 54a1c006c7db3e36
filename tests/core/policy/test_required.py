"""The requirements of an image are those of a comparison of each of its names with each pattern."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.policy.copies import at_once
from gatekeeper_py.core.policy.keys import NO_KEYS
from gatekeeper_py.core.policy.mirror import Mirrors
from gatekeeper_py.core.policy.parse.document import parse_document
from gatekeeper_py.core.policy.required import Requirements
from support.budget import budget
from support.builders import policy_document

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA256: Final = "sha256:" + "7c" * 32
LONG: Final = "y" * 120


def requirements(require: list[Any], mirrors: list[Any]) -> Requirements:
    fields = {"require": [{"digest": True, **each} for each in require]}
    document = parse_document(json.dumps(policy_document(["r.io"], [], mirrors, **fields)))
    return at_once(Requirements.compiling(document.require, Mirrors(document.mirrors), NOON, NO_KEYS))


def expected(found: Requirements, mirrors: list[Any], namespace: str | None, image: str) -> list[int]:
    """Compare every name of the image with every pattern and every entry of ``except``."""
    parsed = parse_image(image)
    document = parse_document(json.dumps(policy_document(["r.io"], [], mirrors)))
    names = (parsed, *map(parsed.at, Mirrors(document.mirrors).origins(parsed.location)))
    return [
        each.index
        for each in found.all
        if any(rule.applies_to(namespace) for rule in each.rules)
        and any(
            any(pattern.matches(name) for pattern in each.images)
            and not any(
                rule.lives_at(NOON) and rule.applies_to(namespace) and rule.pattern.matches(name)
                for rule in each.excepts
            )
            for name in names
        )
    ]


def matching(found: Requirements, namespace: str | None, image: str) -> list[int]:
    return [each.index for each in found.matching(parse_image(image), namespace)]


paths: Final = st.lists(st.sampled_from(["a", "b", "library", "*", "a*", LONG]), max_size=2)
patterns: Final = st.builds(
    lambda host, path, end: "/".join((host, *path)) + end,
    st.sampled_from(["m.io", "n.io", "r.io", "docker.io", "*", "*.io"]),
    paths,
    st.sampled_from(["/**", "/**", "", "/**:latest", "/**:v*", "@*"]),
)
names: Final = st.lists(st.sampled_from(["shop", "team-*", "*-a", "*"]), min_size=1, max_size=3)
spared: Final = patterns | st.fixed_dictionaries(
    {"image": patterns},
    optional={"namespaces": names, "until": st.sampled_from(["2026-02-01", "2026-04-01"])},
)
required: Final = st.fixed_dictionaries(
    {"images": st.lists(patterns, min_size=1, max_size=4)},
    optional={"namespaces": names, "except": st.lists(spared, max_size=3)},
)
mirrored: Final = st.lists(
    st.fixed_dictionaries(
        {
            "from": st.sampled_from(["m.io", f"m.io/a/{LONG}", "n.io", "docker.io", "docker.io/library"]),
            "to": st.lists(st.sampled_from(["r.io", "r.io/a", "r.io/b/a", "s.io"]), min_size=1, max_size=3),
        }
    ),
    max_size=4,
    unique_by=lambda each: str(each["from"]),
)
images: Final = st.builds(
    lambda host, path, version: "/".join((host, *path)) + version,
    st.sampled_from(["r.io", "s.io", "m.io"]),
    st.lists(st.sampled_from(["a", "b", "ab", LONG]), min_size=1, max_size=3).filter(
        lambda path: len("/".join(path)) <= 255
    ),
    st.sampled_from(["", ":v1", f"@{SHA256}"]),
)


@pytest.mark.bulk
@settings(max_examples=budget(600))
@given(
    st.lists(required, min_size=1, max_size=6),
    mirrored,
    st.lists(images, min_size=1, max_size=8),
    st.sampled_from([None, "shop", "team-a"]),
)
def test_the_requirements_are_those_of_each_name_of_an_image(
    require: list[Any], mirrors: list[Any], judged: list[str], namespace: str | None
) -> None:
    """Every requirement that matches an image or a name that it mirrors, in its namespace, must hold."""
    found = requirements(require, mirrors)
    for image in judged:
        assert matching(found, namespace, image) == expected(found, mirrors, namespace, image)


@pytest.mark.parametrize(
    ("require", "namespace", "image", "indexes"),
    [
        pytest.param([["a.io"], ["a.io"]], None, "a.io/x", [0, 1], id="equal-patterns"),
        pytest.param([["a.io", "a.io/x"], ["b.io"]], None, "a.io/x", [0], id="once-for-two-patterns"),
        pytest.param([["m.io"], ["r.io"]], None, "r.io/m/x", [0, 1], id="an-image-and-its-origin"),
        pytest.param([{"images": ["a.io"], "namespaces": ["x"]}], "x", "a.io/x", [0], id="here"),
        pytest.param([{"images": ["a.io"], "namespaces": ["x"]}], None, "a.io/x", [], id="nowhere"),
        pytest.param([{"images": ["m.io"], "namespaces": ["x"]}], "y", "r.io/m/x", [], id="elsewhere"),
        pytest.param([{"images": ["m.io"], "except": ["r.io/m/x"]}], None, "r.io/m/x", [0], id="origin"),
        pytest.param([{"images": ["a.io", "m.io"], "except": ["m.io/x"]}], None, "s.io/m/x", [], id="spared"),
    ],
)
def test_every_requirement_that_matches_is_found(
    require: list[Any], namespace: str | None, image: str, indexes: list[int]
) -> None:
    entries = [{"images": each} if isinstance(each, list) else each for each in require]
    found = requirements(entries, [{"from": "m.io", "to": ["r.io/m", "s.io/m"]}])
    assert matching(found, namespace, image) == indexes


@pytest.mark.parametrize(
    ("more", "by_namespace"),
    [
        ({}, False),
        ({"namespaces": ["x"]}, True),
        ({"except": [{"image": "b.io", "namespaces": ["x"]}]}, True),
    ],
)
def test_requirements_depend_on_the_namespace_if_one_of_them_does(
    more: dict[str, Any], *, by_namespace: bool
) -> None:
    assert requirements([{"images": ["a.io"], **more}], []).by_namespace is by_namespace


def test_requirements_are_compiled_in_small_steps() -> None:
    entries = [{"images": [f"a.io/x{n}" for n in range(500)], "except": [f"a.io/x/{n}" for n in range(500)]}]
    document = parse_document(json.dumps(policy_document(["a.io"], require=[{**entries[0], "digest": True}])))
    assert sum(1 for _ in Requirements.compiling(document.require, (), NOON, NO_KEYS)) > 40
