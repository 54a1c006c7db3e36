"""Deny rules follow mirrors: their copies give the same answer as one look-up for each origin."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.reference import Location
from gatekeeper_py.core.policy.copies import MirroredRules
from gatekeeper_py.core.policy.rules import Rule
from support.budget import budget
from support.builders import policy_document

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA256: Final = "sha256:" + "7c" * 32
LONG: Final = "y" * 120


def compiled(deny: list[Any], mirrors: list[Any]) -> CompiledPolicy:
    document = policy_document(["r.io", "docker.io"], deny, mirrors, mode="enforce")
    return parse_policy(json.dumps(document)).at(NOON)


def expected(policy: CompiledPolicy, namespace: str | None, image: str) -> list[tuple[Rule, Location]]:
    """Return the denials by definition: compare each name of the image with each rule in order."""
    parsed = parse_image(image)

    def matches(rule: Rule, name: Location) -> bool:
        spared = any(matches(each, name) for each in rule.excepts_at(policy.instant))
        here = rule.applies_to(namespace) and rule.pattern.matches(parsed.at(name))
        return here and not spared

    names = (parsed.location, *policy.mirrors.origins(parsed.location))
    found = ((next((rule for rule in policy.deny if matches(rule, name)), None), name) for name in names)
    return [(rule, name) for rule, name in found if rule is not None]


def denials(policy: CompiledPolicy, namespace: str | None, image: str) -> list[tuple[Rule, Location]]:
    found = list(policy.denied_origins.matching(parse_image(image), namespace))
    assert found == expected(policy, namespace, image)
    return found


def denial(policy: CompiledPolicy, namespace: str | None, image: str) -> tuple[Rule, str | None] | None:
    """Return the rule and the origin of the decision, after a check that it has the first denial."""
    decision = policy.decide(namespace, image)
    found = denials(policy, namespace, image)
    if decision.reason != "denied":
        assert not found
        return None
    assert decision.rule is found[0][0]
    assert decision.origin in {None, found[0][1].name}
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
conditions: Final = {
    "namespaces": st.lists(st.sampled_from(["shop", "team-*", "*-a", "team-a"]), min_size=1),
    "until": st.sampled_from(["2026-02-01", "2026-04-01"]),
}
spared: Final = patterns | st.fixed_dictionaries({"image": patterns}, optional=conditions)
rules: Final = patterns | st.fixed_dictionaries(
    {"image": patterns}, optional={**conditions, "except": st.lists(spared, max_size=3)}
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
        denial(policy, namespace, image)


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


@pytest.mark.parametrize(
    ("spared", "image", "namespace", "origins"),
    [
        pytest.param("m.io/a", "r.io/hub/a:1", None, ["n.io/a"], id="one-of-two-origins"),
        pytest.param("*/a", "r.io/hub/a:1", None, [], id="both-origins"),
        pytest.param("r.io/hub/a", "r.io/hub/a:1", None, ["m.io/a", "n.io/a"], id="the-name-on-the-mirror"),
        pytest.param("m.io/a:1", "r.io/hub/a:2", None, ["m.io/a", "n.io/a"], id="another-tag"),
        pytest.param("m.io/a@*", f"r.io/hub/a@{SHA256}", None, ["n.io/a"], id="digest"),
        pytest.param("m.io/a/*", "r.io/hub/a/b", None, ["n.io/a/b"], id="wildcard"),
        pytest.param(
            {"image": "m.io", "namespaces": ["shop"]}, "r.io/hub/a", "shop", ["n.io/a"], id="namespace"
        ),
        pytest.param(
            {"image": "m.io", "namespaces": ["shop"]},
            "r.io/hub/a",
            "other",
            ["m.io/a", "n.io/a"],
            id="another-namespace",
        ),
        pytest.param(
            {"image": "m.io", "until": "2026-02-01"}, "r.io/hub/a", None, ["m.io/a", "n.io/a"], id="expired"
        ),
        pytest.param("m.io/x", "s.io/a", None, ["m.io/a"], id="second-target"),
    ],
)
def test_an_entry_of_except_must_match_the_name_that_the_rule_matched(
    spared: Any, image: str, namespace: str | None, origins: list[str]
) -> None:
    deny = [{"image": host, "except": [spared]} for host in ("m.io", "n.io")]
    mirrored = [{"from": "m.io", "to": ["r.io/hub", "s.io"]}, {"from": "n.io", "to": "r.io/hub"}]
    found = denials(compiled(deny, mirrored), namespace, image)
    assert [name.name for _, name in found] == origins


@pytest.mark.parametrize(
    ("image", "origins"),
    [
        pytest.param("r.io/x", ["docker.io/library/x", "m.io/a/x"], id="below-one"),
        pytest.param(
            "r.io/t/x",
            ["docker.io/t/x", "m.io/a/t/x", "docker.io/library/x", "m.io/a/x"],
            id="below-two",
        ),
        pytest.param(
            "r.io/t/u",
            [
                *("docker.io/t/u", "m.io/a/t/u"),
                *("docker.io/library/u", "m.io/a/u"),
                *("docker.io/library/docker.io", "m.io/a"),
            ],
            id="below-two-and-a-target-itself",
        ),
    ],
)
def test_each_nested_target_has_origins_of_its_own(image: str, origins: list[str]) -> None:
    to = ["r.io", "r.io/t", "r.io/t/u", "s.io"]
    mirrored = [{"from": "docker.io", "to": to}, {"from": "m.io/a", "to": to}]
    found = denials(compiled(["*.io/**", "m.io/*"], mirrored), None, f"{image}:1")
    assert [name.name for _, name in found] == [image, *origins]


def test_the_shortest_target_counts_before_the_first_mirror() -> None:
    policy = compiled(["m.io", "n.io"], [{"from": "m.io", "to": "r.io/a"}, {"from": "n.io", "to": "r.io"}])
    assert denial(policy, None, "r.io/a/b") == (tuple(policy.deny)[1], "n.io/a/b")


def test_the_image_itself_counts_before_its_origins() -> None:
    policy = compiled(["*/b", "*/a/b"], [{"from": "m.io", "to": "r.io/a"}])
    assert denial(policy, None, "r.io/a/b") == (tuple(policy.deny)[1], None)


@pytest.mark.bulk
def test_compiling_is_done_in_small_steps() -> None:
    """The number of steps grows with the work, so a large policy does not block reviews."""
    few = steps(10)
    assert steps(1000) > 20 * few


def steps(number: int) -> int:
    policy = compiled([f"*/x{i}" for i in range(number)], [{"from": "m.io", "to": "r.io/hub"}])
    return sum(1 for _ in MirroredRules.compiling(policy.mirrors, policy.deny))
