"""A policy is refused if it needs too many copies of rules, or too many patterns to scan for one image."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from string import ascii_lowercase
from typing import Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import PolicyError, parse_policy
from gatekeeper_py.core.policy import excess as limits_in_use
from gatekeeper_py.core.policy.document import ENFORCE
from gatekeeper_py.core.policy.excess import excess
from gatekeeper_py.core.policy.limits import MAX_COPIES, MAX_SCANNED
from gatekeeper_py.core.policy.parse.document import parse_document
from gatekeeper_py.core.policy.policy import Policy
from support.budget import budget
from support.builders import policy_document
from support.growth import check_linear, instructions

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)

INSTRUCTIONS_EACH: Final = 40
"""Maximum bytecode instructions for one pattern."""

LEAST_INSTRUCTIONS: Final = 4_000
"""Instructions without patterns: parsing an image and building the decision."""

WORDS: Final = random.Random(24)


def document(
    allow: Iterable[Any] = ("z.io",),
    deny: Iterable[Any] = (),
    mirrors: Iterable[Any] = (),
    namespaces: Iterable[Any] = (),
    exceptions: Iterable[Any] = (),
    require: Iterable[dict[str, Any]] = (),
) -> str:
    lists = map(list, (allow, deny, mirrors))
    more = {"namespaces": list(namespaces), "exceptions": list(exceptions)}
    more["require"] = [{"digest": True, **each} for each in require]
    return json.dumps(policy_document(*lists, mode="enforce", **more))


def same_pieces(number: int, form: str) -> list[str]:
    """Return globs with the same literal pieces in another order."""
    orders = itertools.islice(itertools.permutations("abcdefg"), number)
    return [form.format("*".join(order)) for order in orders]


def words(number: int) -> list[str]:
    return ["".join(WORDS.choices(ascii_lowercase, k=WORDS.randint(4, 10))) for _ in range(number)]


def nested(number: int) -> list[dict[str, str]]:
    """Return mirrors whose targets lie below each other."""
    return [{"from": f"m{i}.io", "to": "r.io" + "/t" * i} for i in range(number)]


def refusal(text: str) -> tuple[str, str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    (finding,) = caught.value.findings
    assert finding.severity == "error"
    assert finding.proposal
    assert f"{MAX_SCANNED:,}" in finding.message
    return finding.code, finding.path


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("make", "section"),
    [
        pytest.param(lambda: document(same_pieces(3_000, "a.io/*{}*")), "allow", id="segments"),
        pytest.param(lambda: document(same_pieces(3_000, "*{}*.io")), "allow", id="hosts"),
        pytest.param(lambda: document(same_pieces(3_000, "a.io/x:*{}*")), "allow", id="tags"),
        pytest.param(lambda: document(deny=same_pieces(3_000, "*/*{}*")), "deny", id="deny"),
        pytest.param(
            lambda: document([{"image": "a.io", "namespaces": [n]} for n in same_pieces(3_000, "*{}*")]),
            "allow",
            id="namespaces-of-rules",
        ),
        pytest.param(
            lambda: document(
                namespaces=(
                    {"mode": "warn", "names": same_pieces(1_000 * i, "*{}*")[-1_000:]} for i in (1, 2, 3)
                )
            ),
            "namespaces",
            id="namespaces-of-overrides",
        ),
        pytest.param(
            lambda: document(
                mirrors=[{"from": "m.io", "to": "r.io", "except": same_pieces(1_000, "m.io/*{}*")}]
            ),
            "mirrors",
            id="except-of-a-mirror",
        ),
        pytest.param(
            lambda: document(
                deny=[{"image": f"a{i}.io", "except": same_pieces(1_000, "a.io/*{}*")} for i in range(3)]
            ),
            "deny",
            id="except-of-deny-rules",
        ),
        pytest.param(
            lambda: document(
                deny=[{"image": "a.io", "except": ["a.io/x"], "owner": str(i)} for i in range(3_000)]
            ),
            "deny",
            id="equal-deny-rules-with-except",
        ),
        pytest.param(
            lambda: document(require=[{"images": same_pieces(3_000, "a.io/*{}*")}]), "require", id="required"
        ),
        pytest.param(
            lambda: document(require=[{"images": ["a.io"], "except": same_pieces(3_000, "a.io/*{}*")}]),
            "require",
            id="except-of-a-requirement",
        ),
        pytest.param(
            lambda: document(require=[{"images": ["*/**"] * 20} for _ in range(1_000)]),
            "require",
            id="equal-requirements",
        ),
        pytest.param(lambda: document(require=[{"images": ["a.io"]}] * 300), "require", id="of-one-image"),
        pytest.param(
            lambda: document(require=[{"images": ["a.io"], "namespaces": [f"n{i}"]} for i in range(1_000)]),
            None,
            id="a-thousand-requirements-of-one-image-in-different-namespaces-are-accepted",
        ),
        pytest.param(
            lambda: document(
                require=[{"images": [f"a{i}.io"], "namespaces": ["a*", "aa"]} for i in range(1_000)]
            ),
            None,
            id="a-thousand-requirements-with-the-same-names-are-accepted",
        ),
        pytest.param(
            lambda: document(
                require=[{"images": ["a.io"], "namespaces": same_pieces(1_000, "*{}*")} for _ in range(9)]
            ),
            "require",
            id="namespaces-of-requirements",
        ),
        pytest.param(
            lambda: document(
                require=[{"images": ["*/**"]} for _ in range(4)],
                mirrors=[{"from": f"m{i}.io", "to": "r.io"} for i in range(1_000)],
            ),
            "mirrors",
            id="many-copies-of-requirements-with-one-target",
        ),
        pytest.param(
            lambda: document(
                exceptions=(
                    {"source": "namespace", "images": same_pieces(1_000, "a.io/*{}*"), "longest": "1h"}
                    for _ in range(3)
                )
            ),
            "exceptions",
            id="images-of-grants",
        ),
        pytest.param(
            lambda: document(
                deny=[{"image": "*/**:latest", "except": ["*/x"]}],
                mirrors=[{"from": f"m{i}.io", "to": "r.io"} for i in range(1_000)],
            ),
            None,
            id="many-mirrors-with-one-target-whose-originals-may-be-spared-are-accepted",
        ),
        pytest.param(
            lambda: document(
                deny=[{"image": "*/**:latest", "except": ["*/x"]}],
                mirrors=[{"from": f"m{i}.io", "to": f"r.io/{i}"} for i in range(1_000)],
            ),
            None,
            id="many-mirrors-with-targets-of-their-own-are-accepted",
        ),
        pytest.param(
            lambda: document(
                deny=[{"image": f"{host}/**", "except": ["*/x"]} for host in ("*", "*.io", "m*.io", "m*.*")],
                mirrors=[{"from": f"m{i}.io", "to": "r.io"} for i in range(1_000)],
            ),
            "mirrors",
            id="many-copies-of-several-rules-with-one-target",
        ),
        pytest.param(
            lambda: document(deny=same_pieces(100, "*/*{}*"), mirrors=nested(8)),
            "mirrors",
            id="nested-mirrors",
        ),
        pytest.param(
            lambda: document(
                deny=["m.io/" + "a/" * 120 + "b"], mirrors=[*nested(90), {"from": "m.io", "to": "s.io"}]
            ),
            None,
            id="a-deep-rule-below-other-mirrors-is-accepted",
        ),
        pytest.param(
            lambda: document(
                deny=[
                    *(f"m{i}.io/z" for i in range(120)),
                    *(f"m.io/{'a/' * i}**{end}" for i in range(1, 120) for end in ("", ":v1", "@*")),
                ],
                mirrors=[*nested(120), {"from": "m.io", "to": "s.io"}],
            ),
            None,
            id="nested-mirrors-and-many-deep-rules-without-wildcards-are-accepted",
        ),
        pytest.param(
            lambda: document(
                deny=[*(f"m{i}.io/z" for i in range(90)), *same_pieces(100, "m.io/*{}*")],
                mirrors=[*nested(90), {"from": "m.io", "to": "s.io"}],
            ),
            None,
            id="nested-mirrors-of-rules-without-wildcards-beside-wildcards-are-accepted",
        ),
        pytest.param(
            lambda: document(f"a.io/{'a' * i}*{'b' * j}" for i in range(60) for j in range(60)),
            "allow",
            id="beginnings-and-endings",
        ),
        pytest.param(
            lambda: document(f"a.io/*{x}*/*{y}*" for x, y in itertools.product(words(60), repeat=2)),
            "allow",
            id="two-segments",
        ),
    ],
)
def test_a_policy_of_many_similar_wildcards_is_refused(make: Callable[[], str], section: str | None) -> None:
    if section is None:
        assert parse_policy(make())
    else:
        assert refusal(make()) == ("too-many-wildcards", section)


MIRRORED: Final = [{"from": f"m{i}.io", "to": ["r.io/h", "s.io"]} for i in range(100)]


def test_the_rule_with_the_most_copies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_in_use, "MAX_COPIES", 5)
    mirrors = [{"from": f"m{i}.io", "to": f"r{i}.io/hub"} for i in range(4)]
    assert parse_policy(document(deny=["m0.io/x", "*.io/y"], mirrors=mirrors))
    with pytest.raises(PolicyError) as caught:
        parse_policy(document(deny=["m0.io/x", "*.io/y", "m1.io/z"], mirrors=mirrors))
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("too-many-copies", "deny[1]")


def test_a_rule_counts_for_a_mirror_with_which_it_shares_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding that out takes as long as a copy. On Docker Hub, one segment is an official image."""
    monkeypatch.setattr(limits_in_use, "MAX_COPIES", 5)
    mirrors = [{"from": f"docker.io/x{i}", "to": f"r.io/y{i}"} for i in range(6)]
    assert parse_policy(document(deny=["*/*:v0"], mirrors=mirrors[:5]))
    with pytest.raises(PolicyError, match="takes more than 5 copies"):
        parse_policy(document(deny=["*/*:v0"], mirrors=mirrors))


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("rule", "each"),
    [
        pytest.param({}, 200, id="targets"),
        pytest.param({"namespaces": ["a", "b", "c"]}, 600, id="namespaces"),
        pytest.param({"except": ["*/x", "z.io/x"]}, 600, id="except"),
        pytest.param({"except": [{"image": "z.io/x", "namespaces": ["a", "b"]}]}, 600, id="its-namespaces"),
    ],
)
def test_a_policy_may_need_20_000_copies(rule: dict[str, Any], each: int) -> None:
    """A rule and each entry of its ``except`` count once for each namespace and target."""

    def written(number: int) -> str:
        others = [{"image": f"z.io/{i}", "except": ["*/x"]} for i in range(3)]
        rules = [{"image": f"*.io/a{i}", **rule} for i in range(number)]
        return document(deny=[*others, {"image": "m7.io/x", "until": "2020-01-01"}, *rules], mirrors=MIRRORED)

    most = (MAX_COPIES - 2) // each
    assert parse_policy(written(most))
    with pytest.raises(PolicyError) as caught:
        parse_policy(written(most + 1))
    (finding,) = caught.value.findings
    assert (finding.severity, finding.code, finding.path[:5]) == ("error", "too-many-copies", "deny[")
    assert f"{MAX_COPIES:,}" in finding.message
    assert finding.proposal


@pytest.mark.bulk
def test_requirements_count_once_for_each_pattern_and_entry_of_except_on_a_mirror() -> None:
    """Deny rules count, too. The names of namespaces do not."""
    entry = {"images": ["*.io/a", "*.io/b"], "except": ["*/x"], "namespaces": ["x", "y"]}

    def written(number: int) -> str:
        deny = [f"*.io/d{i}" for i in range(10)]
        mirrors = [{"from": f"m{i}.io", "to": [f"r.io/{i}", f"s.io/{i}"]} for i in range(100)]
        return document(deny=deny, require=[entry] * number, mirrors=mirrors)

    most = (MAX_COPIES - 10 * 200) // 600
    assert parse_policy(written(most))
    with pytest.raises(PolicyError) as caught:
        parse_policy(written(most + 1))
    (finding,) = caught.value.findings
    assert finding.code == "too-many-copies"
    assert finding.path.startswith("require[")


@pytest.mark.bulk
@pytest.mark.parametrize("part", ["namespaces", "except"])
def test_the_names_of_namespaces_in_requirements_have_a_limit(part: str) -> None:
    names = [f"n{i}" for i in range(1_000)]
    more = (
        {"namespaces": names}
        if part == "namespaces"
        else {"except": [{"image": "b.io", "namespaces": names}]}
    )
    assert parse_policy(document(require=[{"images": ["a.io"], **more}] * 50))
    with pytest.raises(PolicyError, match="more than 50,000 names of namespaces in require") as caught:
        parse_policy(document(require=[{"images": ["a.io"], **more}] * 51))
    assert [(each.code, each.path) for each in caught.value.findings] == [("too-many", "require")]


def in_sections(number: int, sections: Iterable[str]) -> str:
    """Return a document with this many similar wildcards in each of these sections."""
    segments, names = same_pieces(number, "a.io/*{}*"), same_pieces(number, "*{}*")
    parts: dict[str, list[Any]] = {
        "allow": segments,
        "deny": segments,
        "mirrors": [{"from": "a.io", "to": "r.io", "except": segments}],
        "namespaces": [{"mode": "warn", "names": names}],
        "exceptions": [{"source": "namespace", "images": segments, "longest": "1h"}],
        "require": [{"images": segments}],
    }
    return document(**{section: parts[section] for section in sections})


@pytest.mark.bulk
def test_all_sections_count_together() -> None:
    sections = {"allow", "mirrors", "namespaces", "exceptions"}
    assert parse_policy(in_sections(60, ["allow", "require"]))
    assert refusal(in_sections(60, [*sections - {"mirrors"}, "require"]))[0] == "too-many-wildcards"
    assert parse_policy(in_sections(50, sections))
    assert refusal(in_sections(60, sections))[0] == "too-many-wildcards"
    for left_out in sections:
        assert parse_policy(in_sections(60, sections - {left_out}))


def test_copies_of_rules_count() -> None:
    """The mirror of each document spares its 90 wildcards, which count as well."""
    assert parse_policy(in_sections(90, ["mirrors", "allow"]))
    assert refusal(in_sections(90, ["mirrors", "deny"])) == ("too-many-wildcards", "mirrors")


REALISTIC: Final[dict[str, Callable[[], str]]] = {
    "one registry": lambda: document(["registry.corp.io"]),
    "no latest, with four nested mirrors": lambda: document(
        ["registry.corp.io"],
        ["*/**:latest", "*/**:*-SNAPSHOT", "*/**:dev-*", "docker.io/*/**", "*/*/*miner*/**"],
        [
            {"from": "docker.io", "to": "registry.corp.io/hub"},
            {"from": "quay.io", "to": "registry.corp.io/mirrors/quay"},
            {"from": "ghcr.io", "to": "registry.corp.io/mirrors/github/all"},
            {"from": "gcr.io", "to": "registry.corp.io"},
        ],
    ),
    "20,000 team wildcards": lambda: document(f"registry.corp.io/team-{i}-*/**" for i in range(20_000)),
    "20,000 wildcards with a word": lambda: document(f"registry.corp.io/*{w}*/**" for w in words(20_000)),
    "20,000 wildcard services": lambda: document(f"r.io/t/*-service-*{i:05}*" for i in range(20_000)),
    "500 denied words": lambda: document(deny=(f"*/**:*{word}*" for word in words(500))),
    "a thousand mirrors": lambda: document(
        ["r.io"], ["*/**:latest"], [{"from": f"m{i}.io", "to": f"r.io/h{i}"} for i in range(1_000)]
    ),
    "a thousand names in an override": lambda: document(
        namespaces=[{"mode": "warn", "names": [f"team-{i}-*" for i in range(1_000)]}]
    ),
    "accounts of a platform": lambda: document(f"{i:012}.dkr.ecr.*.amazonaws.com" for i in range(5_000)),
}


@pytest.mark.bulk
@pytest.mark.parametrize("name", REALISTIC)
def test_realistic_policies_are_accepted(name: str) -> None:
    assert parse_policy(REALISTIC[name]())


@pytest.mark.bulk
def test_a_rule_that_has_expired_counts() -> None:
    """The verdict about a document does not change with the time."""
    rules = ({"image": image, "until": "2020-01-01"} for image in same_pieces(3_000, "a.io/*{}*"))
    assert refusal(document(rules)) == ("too-many-wildcards", "allow")


def test_a_rule_that_can_expire_counts_twice() -> None:
    """When it has expired lately, it is searched for in addition to the live rules."""
    images = same_pieces(150, "a.io/*{}*")
    assert parse_policy(document(images))
    dated = ({"image": image, "until": "2020-01-01"} for image in images)
    assert refusal(document(dated)) == ("too-many-wildcards", "allow")


def test_thousands_of_rules_without_wildcards_share_nothing() -> None:
    policy = parse_policy(document(f"a{i % 9}.io/x/y{i}" for i in range(5_000)))
    assert instructions(check, policy) < 200 * 5_000


def check(policy: Policy) -> object:
    return excess(policy.document, policy.mirrors)


@pytest.mark.parametrize("form", ["a.io/*{}*", "*{}*.io", "a.io/x:*{}*", "a.io/*{}*/**"])
def test_the_bound_takes_linear_time(form: str) -> None:
    def unchecked(number: int) -> Policy:
        letters = itertools.islice(itertools.product(ascii_lowercase, repeat=3), number)
        text = document(form.format("*".join(each)) for each in letters)
        return Policy(document=parse_document(text), text=text, mode=ENFORCE)

    check_linear(check, unchecked, start=256, limit=1_024)


def test_globs_of_many_pieces_are_bounded() -> None:
    """The search for globs with shared pieces is nested as deeply as a glob has pieces."""
    pieces = [x + y for x, y in itertools.product(ascii_lowercase, repeat=2)][:110]
    images = [f"a.io/*{'*'.join(pieces[: 110 - i % 9])}*{'x' * (i // 9)}y*" for i in range(200)]
    assert refusal(document(images)) == ("too-many-wildcards", "allow")


parts: Final = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aa"]), min_size=1, max_size=4).map("*".join)
globs: Final = st.builds("{}{}{}".format, st.sampled_from(["", "*"]), parts, st.sampled_from(["", "*"]))
patterns: Final = st.builds(
    lambda host, path, end: f"{host}/{'/'.join(path)}{end}",
    st.sampled_from(["r.io", "m.io", "*.io", "r*.i*"]),
    st.lists(globs, min_size=1, max_size=3),
    st.sampled_from(["", "/**", ":*a*b*", ":a*", ":*b"]),
)
rules: Final = st.lists(
    patterns
    | st.builds(lambda image: {"image": image, "until": f"{NOON - timedelta(days=1):%Y-%m-%d}"}, patterns)
    | st.builds(
        lambda image, names: {"image": image, "namespaces": names},
        patterns,
        st.lists(globs, min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=24,
)
required: Final = st.lists(
    st.fixed_dictionaries(
        {"images": st.lists(patterns, min_size=1, max_size=8)},
        optional={
            "namespaces": st.lists(globs, min_size=1, max_size=8),
            "except": st.lists(patterns, max_size=4),
        },
    ),
    max_size=8,
)
images: Final = st.builds(
    lambda path, tag: f"r.io/{'/'.join(path)}{tag}",
    st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from(["", ":ab", ":aabbab"]),
)


@settings(max_examples=budget(30))
@given(rules, rules, required, st.integers(0, 4), images)
def test_the_bound_holds(
    allow: list[Any], deny: list[Any], require: list[Any], mirrors: int, image: str
) -> None:
    # Every image with requirements is approved, and each requirement can be met.
    allow += ["r.io", "m.io"] if require else []
    try:
        policy = parse_policy(document(allow, deny, nested(mirrors), require=require))
    except PolicyError as error:
        assume([finding.code for finding in error.findings] != ["too-many-wildcards"])
        raise
    compiled = policy.at(NOON)
    parts = compiled.allow, compiled.expired, compiled.deny, compiled.denied_origins.copies
    bound = sum(part.scanned() for part in (*parts, compiled.require, compiled.require.copies))
    executed = instructions(lambda text: compiled.decide("aabab", text), image)
    assert executed <= LEAST_INSTRUCTIONS + INSTRUCTIONS_EACH * bound


def test_the_limit_on_names_of_namespaces_counts_those_of_except(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_in_use, "MAX_REQUIRED_NAMES", 3)
    entry = {"images": ["a.io"], "namespaces": ["a", "b"], "except": [{"image": "b.io", "namespaces": ["c"]}]}
    assert parse_policy(document(require=[entry]))
    with pytest.raises(PolicyError, match="more than 3 names of namespaces in require"):
        parse_policy(document(require=[entry, {"images": ["b.io"], "namespaces": ["d"]}]))
