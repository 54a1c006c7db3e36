"""Limits of a document (docs/policy.md, "Limits"): the largest allowed is accepted, one more is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import pytest

from gatekeeper_py.core import Finding, PolicyError, parse_policy
from gatekeeper_py.core.policy.limits import MAX_RULES
from support.builders import PUBLIC_KEYS, policy_text


def findings(text: str) -> tuple[Finding, ...]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    return caught.value.findings


def names(number: int) -> str:
    return "[" + ", ".join(f"n{i}" for i in range(number)) + "]"


def mirrors(number: int) -> str:
    return "mirrors:\n" + "".join(f"- {{from: s{i}.io, to: t.io}}\n" for i in range(number))


COUNTS: Final = [
    pytest.param(make, 1_000, path, f"more than 1,000 {noun}, the limit", id=path)
    for make, path, noun in (
        (mirrors, "mirrors", "mirrors"),
        (lambda n: "namespaces:\n" + "- {names: [a], mode: warn}\n" * n, "namespaces", "namespaces"),
        (
            lambda n: "require:\n" + "".join(f"- {{images: [a{i}.io], digest: true}}\n" for i in range(n)),
            "require",
            "requirements",
        ),
        (lambda n: "resources:\n" + "- {group: g, kind: k, images: [a]}\n" * n, "resources", "resources"),
        *(
            (lambda n, before=before: f"{before}: {names(n)}}}]\n", path, "entries in one list")
            for before, path in (
                ("namespaces: [{mode: warn, names", "namespaces[0].names"),
                ("deny: [{image: b.io, namespaces", "deny[0].namespaces"),
                ("require: [{images: [a.io], digest: true, namespaces", "require[0].namespaces"),
                ("resources: [{group: g, kind: k, images", "resources[0].images"),
            )
        ),
        (
            lambda n: "mirrors: [{from: a.io, to: b.io, except: [" + "c.io, " * n + "]}]\n",
            "mirrors[0].except",
            "entries in one list",
        ),
    )
]

LENGTHS: Final = [
    *(
        pytest.param(
            lambda n, text=text: text.replace("X", "x" * n),
            200,
            path,
            "at most 200 characters, here 201",
            id=f"{path}-{index}",
        )
        for index, (text, path) in enumerate(
            (
                ("message: X\n", "message"),
                ("message: |\n  X\n", "message"),
                ("deny: [{image: a.io, owner: X}]\n", "deny[0].owner"),
                ("deny: [{image: a.io, reason: X}]\n", "deny[0].reason"),
                ("require: [{images: [a.io], digest: true, reason: X}]\n", "require[0].reason"),
                ("namespaces: [{names: [a], mode: warn, reason: X}]\n", "namespaces[0].reason"),
                ("resources: [{group: X, kind: k, images: [a]}]\n", "resources[0].group"),
                ("resources: [{group: g, kind: X, images: [a]}]\n", "resources[0].kind"),
            )
        )
    ),
    pytest.param(
        lambda n: "deny: [aa.io/" + "*a" * ((n - 6) // 2) + "]\n",
        512,
        "deny[0]",
        "a pattern has at most 512 characters, and this one has 514",
        id="pattern",
    ),
    pytest.param(
        lambda n: f"resources: [{{group: g, kind: k, images: [{'a' * n}]}}]\n",
        512,
        "resources[0].images[0]",
        "a path has at most 512 characters, and this one has 513",
        id="path-of-a-resource",
    ),
    pytest.param(
        lambda n: f"deny: ['{'a' * n}.io']\n",
        63,
        "deny[0]",
        f"a part of a host has at most 63 characters: {'a' * 64}",
        id="label-of-a-host",
    ),
    pytest.param(
        lambda n: f"mirrors: [{{from: a.io, to: {'a' * n}.io}}]\n",
        63,
        "mirrors[0].to",
        f"a part of a host has at most 63 characters: {'a' * 64}",
        id="label-of-a-mirror's-host",
    ),
    pytest.param(
        lambda n: f"mirrors: [{{from: {'a.' * ((n - 2) // 2)}aio, to: b.io}}]\n",
        511,
        "mirrors[0].from",
        "one end of a mirror has at most 512 characters, and this one has 513",
        id="end-of-a-mirror",
    ),
]


@pytest.mark.parametrize(("more", "limit", "path", "message"), [*COUNTS, *LENGTHS])
def test_a_value_at_the_limit_is_accepted_and_one_more_is_refused(
    more: Callable[[int], str], limit: int, path: str, message: str
) -> None:
    parse_policy(policy_text(more(limit)))
    step = 1 if len(more(limit + 1)) > len(more(limit)) else 2
    (finding,) = findings(policy_text(more(limit + step)))
    assert (finding.path, finding.message) == (path, message)


@pytest.mark.long
def test_allow_and_deny_together_have_a_limit() -> None:
    def text(allow: int, deny: int) -> str:
        rules = "\n- a.io"
        return policy_text(f"deny:{rules * deny}\n", allow=rules * allow)

    policy = parse_policy(text(MAX_RULES - 1, 1))
    assert len(policy.allow) + len(policy.deny) == MAX_RULES
    (finding,) = findings(text(1, MAX_RULES))
    assert (finding.code, finding.path) == ("too-many", "deny")
    assert finding.message == "more than 200,000 rules in allow and deny together, the limit"


@pytest.mark.long
def test_the_patterns_of_all_requirements_together_have_a_limit() -> None:
    """Patterns beyond it are not parsed."""

    def text(images: int, spared: int, more: str = "") -> str:
        listed = ", ".join(f"a.io/x{number}" for number in range(images))
        others = ", ".join(f"a.io/x/y{number}" for number in range(spared))
        first = f"{{images: [a.io], except: [{others}], digest: true}}"
        return policy_text(f"require:\n- {first}\n- {{images: [{listed}{more}], digest: true}}\n")

    assert parse_policy(text(11_999, 8_000))
    (finding,) = findings(text(11_999, 8_000, ", nginx" * 5))
    assert (finding.code, finding.path, finding.line) == ("too-many", "require[1].images", 7)
    assert finding.message == "more than 20,000 patterns in require, the limit"


@pytest.mark.parametrize(
    ("section", "entry"),
    [("registries", {"host": "r%d.io"}), ("keys", {"name": "k%d", "key": PUBLIC_KEYS["ci-2026"]})],
)
def test_100_registries_and_keys_are_the_limit(section: str, entry: dict[str, str]) -> None:
    def text(count: int) -> str:
        entry_text = json.dumps(entry)
        return policy_text(f"{section}: [{', '.join(entry_text % number for number in range(count))}]")

    assert len(getattr(parse_policy(text(100)).document, section)) == 100
    (finding,) = findings(text(101))
    assert finding.message == f"more than 100 {section}, the limit"


@pytest.mark.bulk
def test_items_beyond_a_limit_are_neither_read_nor_reported() -> None:
    text = policy_text(mirrors(1_000) + "- {from: nginx, colour: red}\n" * 1_000)
    assert [finding.code for finding in findings(text)] == ["too-many"]
    text = policy_text(
        "require:\n" + "- {images: [a.io], digest: true}\n" * 1_000 + "- {images: [nginx]}\n" * 9_000
    )
    assert [(each.code, each.line) for each in findings(text)] == [("too-many", 6)]
    text = policy_text(f"deny: [{{image: b.io, namespaces: {names(1_000)[:-1]}{', UPPER' * 1_000}]}}]\n")
    assert [finding.code for finding in findings(text)] == ["too-many"]


def test_a_limit_is_reported_beside_other_problems() -> None:
    text = policy_text(mirrors(1_001) + "colour: red\n")
    assert [finding.code for finding in findings(text)] == ["too-many", "unknown-field"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(policy_text(allow="[" + "nginx, " * 1_500 + "]"), id="rules"),
        pytest.param(policy_text("".join(f"f{i}: 1\n" for i in range(1_500))), id="unknown-fields"),
        pytest.param(policy_text("mode: warn\n" * 1_500), id="duplicate-keys"),
        pytest.param(
            policy_text("deny: [{image: a.io, " + ", ".join(f"f{i}: 1" for i in range(1_500)) + "}]\n"),
            id="unknown-fields-of-a-rule",
        ),
        pytest.param(policy_text("deny: [" + "{}, " * 1_500 + "]\n"), id="empty-rules"),
        pytest.param(policy_text("deny: [" + "{image: 5}, " * 1_500 + "]\n"), id="wrong-types"),
        pytest.param(policy_text("deny: [" + "&x a.io, " * 1_500 + "]\n"), id="anchors"),
        pytest.param(
            policy_text("resources: [" + "{images: [''], kind: a}, " * 750 + "]\n"), id="two-in-each"
        ),
    ],
)
def test_every_problem_is_counted_but_at_most_a_hundred_are_listed(text: str) -> None:
    found = findings(text)
    assert len(found) == 101
    assert (found[-1].code, found[-1].message) == ("more-findings", "1,400 more findings are not listed")
    assert all(finding.severity == "error" for finding in found)
