"""Deny rules by way of mirrors: the same answer as one look-up for each origin, and sooner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget import budget
from builders import policy_document
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.images.reference import Location, effective_tag, locate, parse_reference
from gatekeeper_py.core.policy import origins
from gatekeeper_py.core.policy.rules import Rule
from growth import check_linear

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA256: Final = "sha256:" + "7c" * 32
LONG: Final = "y" * 120


def compiled(deny: list[Any], mirrors: list[Any]) -> CompiledPolicy:
    document = policy_document(["r.io", "docker.io"], deny, mirrors, mode="enforce")
    return parse_policy(json.dumps(document)).at(NOON)


def names(policy: CompiledPolicy, location: Location) -> Iterator[tuple[str | None, Location]]:
    yield None, location
    for origin in policy.mirrors.origins(location):
        yield origin.name, origin


def denied_by(policy: CompiledPolicy, namespace: str | None, image: str) -> tuple[Rule, str | None] | None:
    """Return the denial by definition: compare each name of the image with each rule in order."""
    reference = parse_reference(image)
    tag = effective_tag(reference)
    for name, place in names(policy, locate(reference)):
        for rule in policy.deny:
            if rule.applies_to(namespace) and rule.pattern.matches(place, tag, reference.digest):
                return rule, name
    return None


def denial(policy: CompiledPolicy, namespace: str | None, image: str) -> tuple[Rule, str | None] | None:
    decision = policy.decide(namespace, image)
    if decision.reason != "denied":
        return None
    assert decision.rule is not None
    return decision.rule, decision.origin


parts: Final = st.sampled_from(["a", "b", "library", "ab", LONG])
some_parts: Final = st.lists(parts, max_size=3)
sources: Final = st.builds(
    lambda host, path: "/".join((host, *path)),
    st.sampled_from(["m.io", "n.io", "n.io:5000", "docker.io", "index.docker.io", "x.corp.io", "[::1]:5000"]),
    some_parts.filter(lambda path: path.count(LONG) < 3),
)
targets: Final = st.lists(
    st.sampled_from(["r.io", "r.io/a", "r.io/a/b", "r.io/a/a", "s.io", "s.io/library", "s.io/b/b"]),
    min_size=1,
    max_size=4,
    unique=True,
)
patterns: Final = st.builds(
    lambda host, path, end: "/".join((host, *path)) + end,
    st.sampled_from(["m.io", "n.io", "n.io:5000", "docker.io", "*", "*.io", "*.io:5000", "*.corp.*"]),
    st.lists(st.sampled_from(["a", "b", "library", "*", "a*", "*b", "lib*"]), max_size=3),
    st.sampled_from(["/**", "/**", "/", "", "/**:latest", "/**:v*", "@*", f"@{SHA256}"]),
)
rules: Final = st.one_of(
    patterns,
    st.fixed_dictionaries(
        {
            "image": patterns,
            "namespaces": st.lists(st.sampled_from(["shop", "team-*", "*-a", "team-a"]), min_size=1),
        },
    ),
)
mirrors: Final = st.lists(
    st.fixed_dictionaries({"from": sources, "to": targets}),
    min_size=1,
    max_size=6,
    unique_by=lambda each: str(each["from"]).replace("index.", ""),
)
images: Final = st.builds(
    lambda host, path, version: "/".join((host, *path)) + version,
    st.sampled_from(["r.io", "s.io"]),
    st.lists(parts, min_size=1, max_size=4).filter(lambda path: len("/".join(path)) <= 255),
    st.sampled_from(["", ":v1", ":latest", f"@{SHA256}", f":v1@{SHA256}"]),
)


@pytest.mark.bulk
@settings(max_examples=budget(600))
@given(
    st.lists(rules, min_size=1, max_size=6),
    mirrors,
    st.lists(images, min_size=1, max_size=8),
    st.sampled_from([None, "shop", "team-a"]),
)
def test_the_answer_is_that_of_one_look_up_for_each_origin(
    deny: list[Any], mirrored: list[Any], judged: list[str], namespace: str | None
) -> None:
    """An image is rejected "when a deny rule matches the original image": the same rule, the same origin."""
    policy = compiled(deny, mirrored)
    for image in judged:
        assert denial(policy, namespace, image) == denied_by(policy, namespace, image)


@pytest.mark.parametrize(
    ("deny", "mirror", "image", "origin"),
    [
        pytest.param("m.io/a/b", "m.io", "r.io/hub/a/b:1", "m.io/a/b", id="below-the-source"),
        pytest.param("m.io/a/b", "m.io/a", "r.io/hub/b:1", "m.io/a/b", id="below-its-path"),
        pytest.param("m.io", "m.io/a", "r.io/hub:1", "m.io/a", id="above-the-source"),
        pytest.param("m.io/a/**", "m.io/a", "r.io/hub:1", None, id="a-subtree-is-not-its-top"),
        pytest.param("m.io/a", "m.io/a", "r.io/hub:1", "m.io/a", id="the-source-itself"),
        pytest.param("*/library/**", "docker.io", "r.io/hub/x", "docker.io/library/x", id="official"),
        pytest.param("docker.io/x", "docker.io", "r.io/hub/x", "docker.io/library/x", id="official-by-name"),
        pytest.param("docker.io/*", "docker.io", "r.io/hub", "docker.io/library/docker.io", id="bare-hub"),
        pytest.param("m.io/**", "m.io", "r.io/hub", None, id="a-bare-registry-is-no-image"),
        pytest.param(f"m.io/{LONG}/**", f"m.io/{LONG}", f"r.io/hub/{'b' * 135}", None, id="too-long"),
        pytest.param(
            f"m.io/{LONG}/**",
            f"m.io/{LONG}",
            f"r.io/hub/{'b' * 134}",
            f"m.io/{LONG}/{'b' * 134}",
            id="just-short-enough",
        ),
    ],
)
def test_a_denied_image_is_denied_on_its_mirror_too(
    deny: str, mirror: str, image: str, origin: str | None
) -> None:
    policy = compiled([deny], [{"from": mirror, "to": "r.io/hub"}])
    found = denial(policy, None, image)
    assert (None if found is None else found[1]) == origin
    assert found == denied_by(policy, None, image)


@pytest.mark.parametrize(
    ("version", "namespace", "denied"),
    [
        pytest.param(":v1", None, 1, id="tag"),
        pytest.param(":v2", None, None, id="another-tag"),
        pytest.param(f"@{SHA256}", None, 0, id="digest"),
        pytest.param(":v2", "shop", 2, id="name"),
        pytest.param(":v2", "team-a", 3, id="a-second-list-of-names"),
        pytest.param(":v2", "team-b", 3, id="glob"),
    ],
)
def test_rules_for_one_repository_differ_in_the_rest(
    version: str, namespace: str | None, denied: int | None
) -> None:
    deny = [
        "m.io/a@*",
        "m.io/a:v1",
        {"image": "m.io/a", "namespaces": ["shop", "team-x"]},
        {"image": "m.io/a", "namespaces": ["shop", "team-*"]},
    ]
    policy = compiled(deny, [{"from": "m.io", "to": "r.io/hub"}])
    found = denial(policy, namespace, f"r.io/hub/a{version}")
    assert (None if found is None else found[0].index) == denied
    assert found == denied_by(policy, namespace, f"r.io/hub/a{version}")


def test_the_shortest_target_counts_before_the_first_mirror() -> None:
    policy = compiled(["m.io", "n.io"], [{"from": "m.io", "to": "r.io/a"}, {"from": "n.io", "to": "r.io"}])
    assert denial(policy, None, "r.io/a/b") == (tuple(policy.deny)[1], "n.io/a/b")


def test_the_image_itself_counts_before_its_origins() -> None:
    policy = compiled(["*/b", "*/a/b"], [{"from": "m.io", "to": "r.io/a"}])
    assert denial(policy, None, "r.io/a/b") == (tuple(policy.deny)[1], None)


def many(number: int, source: str, deny: str, to: list[str]) -> tuple[CompiledPolicy, list[str]]:
    """Return a policy with ``number`` mirrors and at least 100 deny rules, and ``number`` images.

    Some of the rules apply to each mirror.
    """
    rules = [deny.format(i) for i in range(max(number, 100))]
    mirrored = [{"from": source.format(i), "to": [each.format(i) for each in to]} for i in range(number)]
    policy = compiled(list(dict.fromkeys(rules)), mirrored)
    below = to[-1].format(0)
    return policy, [f"{below}/x{i}:1" for i in range(number)]


def judge(made: tuple[CompiledPolicy, list[str]]) -> None:
    policy, judged = made
    for image in judged:
        assert policy.decide(None, image).approved


SHARED: Final = ["r.io/hub", "r.io", "r.io/hub/b", "r.io/hub/b/b"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "deny", "to"),
    [
        pytest.param("m{}.io", "*/**:latest", ["r.io/hub"], id="no-latest"),
        pytest.param("m{}.io", "*/**:latest", SHARED, id="nested-targets"),
        pytest.param("m{}.io", "z.io", SHARED, id="another-registry"),
        pytest.param("m{}.io", "m{}.io/team/secret", SHARED, id="a-rule-for-each-source"),
        pytest.param("m{}.io", "*/team{}/**", SHARED, id="any-registry"),
        pytest.param("m{}.io", "*.io/team{}/**", SHARED, id="a-wildcard-in-the-host"),
        pytest.param("m{}.io", "m{}*.io/team/**", SHARED, id="many-wildcards-in-the-host"),
        pytest.param("m.io/p{}", "m.io/**:v{}", SHARED, id="paths-of-one-registry"),
        pytest.param("m.io/p{}", "m.io/*/team{}/**", SHARED, id="a-wildcard-in-the-path"),
        pytest.param("m.io/p{}", "*/p{}*/team/**", SHARED, id="many-wildcards-in-the-path"),
        pytest.param("m{}.io", "*/team/**", ["r.io/h{}"], id="targets-side-by-side"),
    ],
)
def test_the_work_for_an_image_does_not_grow_with_the_mirrors(source: str, deny: str, to: list[str]) -> None:
    """Mirrors, rules and images grow together, and the work grows as the images alone."""
    check_linear(judge, lambda number: many(number, source, deny, to), start=16, limit=256)


def test_long_names_cost_no_more() -> None:
    """Their origins are too long with most mirrors, which differ in the length of ``from``."""

    def long(number: int) -> tuple[CompiledPolicy, list[str]]:
        mirrored = [{"from": f"m.io/{'p' * (20 + i % 90)}q{i}", "to": "r.io/hub"} for i in range(number)]
        policy = compiled(["m.io/*/a/**"], mirrored)
        return policy, [f"r.io/hub/a/{'x' * 240}{i:03}" for i in range(number)]

    check_linear(judge, long, start=16, limit=256)


def test_wildcards_beyond_the_bound_of_comparisons_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    deny = [f"*m*{i}*.io/x" for i in range(5, 10)]
    mirrored = [{"from": f"m{i}.io", "to": "r.io/hub"} for i in range(10)]
    monkeypatch.setattr(origins, "MAX_COMPARED", 3)
    policy = compiled(deny, mirrored)
    assert denial(policy, None, "r.io/hub/x") == (next(iter(policy.deny)), "m5.io/x")
    assert denial(policy, None, "r.io/hub/y") is None


def test_compiling_is_done_in_small_steps() -> None:
    """The number of steps grows with the work, so a large policy does not block reviews."""
    few = steps(10)
    assert steps(1000) > 20 * few


def steps(number: int) -> int:
    policy = compiled([f"*/x{i}" for i in range(number)], [{"from": "m.io", "to": "r.io/hub"}])
    return sum(1 for _ in origins.DeniedOrigins.compiling(policy.mirrors, policy.deny))
