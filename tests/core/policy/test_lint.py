"""Lint (docs/policy.md, "Lint"): likely mistakes in an accepted policy."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from gatekeeper_py.core import Finding, Policy, PolicyError, parse_policy
from gatekeeper_py.core.policy.lint import CHECKS
from gatekeeper_py.core.policy.lint import lint as lint_policy
from gatekeeper_py.core.policy.lint.modes import next_finding
from support.builders import PUBLIC_KEYS, keys_text, policy_text
from support.growth import check_linear

ED25519: Final = """\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""
NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA256: Final = "sha256:" + "7c" * 32


def lint(more: str = "", allow: str = "[a.io@*]") -> tuple[Finding, ...]:
    return lint_policy(parse_policy(policy_text(more, allow=allow)), NOON)


def many(item: str) -> str:
    """Return three hundred list items, each with its number."""
    return ", ".join(item.format(number) for number in range(300))


def alike(item: str) -> str:
    """Return 120 items of a list, each with another glob that needs more letters than "hubhub"."""
    letters = itertools.islice(itertools.product("hub", repeat=7), 120)
    return ", ".join(item.format("*".join(each)) for each in letters)


def paths(code: str, more: str = "", allow: str = "[a.io@*]") -> list[str]:
    """Return the paths of the findings with a code."""
    return [finding.path for finding in lint(more, allow) if finding.code == code]


RECALL: Final = f"r.io/team/app@{SHA256}"
RECALLS: Final = [
    pytest.param("[r.io]", "[r.io/team/app:v1.2]", ["deny-by-tag"], id="tag"),
    pytest.param("[r.io]", "[r.io/team/*:v1.2, r.io/**:v2]", ["deny-by-tag"] * 2, id="tag-of-several"),
    pytest.param("['r.io/team/app:*']", "[r.io/team/app:v1.2]", [], id="only-tags-approved"),
    pytest.param("[r.io@*]", "[r.io/team/app:v1.2]", ["deny-by-tag"], id="only-digests-approved"),
    pytest.param("[s.io]", "[r.io/team/app:v1.2]", [], id="not-approved"),
    pytest.param("[r.io]", "['*/**:latest', '*/**:dev']", [], id="a-tag-in-every-registry"),
    pytest.param("[r.io]", "['r.io/**:latest']", [], id="floating-latest"),
    pytest.param("[r.io]", "['r.io/team/app:v1*']", [], id="not-literal"),
    pytest.param("[r.io]", "['r.io/team/app:v1', 'r.io/team/app@*']", [], id="digests-denied-as-well"),
    pytest.param("[r.io@*]", f"[r.io/team/app:v1.2, '{RECALL}']", [], id="its-digest-denied-as-well"),
    pytest.param(
        "[{image: r.io, namespaces: [dev]}]", "[{image: r.io/app:v1, namespaces: [prod]}]", [], id="elsewhere"
    ),
    pytest.param("[r.io]", "[{image: r.io/app:v1, until: 2026-01-01}]", [], id="expired"),
    pytest.param("[r.io]", f"['{RECALL}']", ["deny-by-digest"], id="digest"),
    pytest.param("['*.io/**:v*']", f"['{RECALL}']", ["deny-by-digest"], id="digest-of-some-tags"),
    pytest.param("['r.io/**@*']", f"['{RECALL}']", [], id="no-tags-approved"),
    pytest.param("[r.io]", "['r.io/team/app@*']", [], id="any-digest"),
    pytest.param("[r.io]", f"[r.io/team, r.io/team/app, '{RECALL}']", [], id="tags-denied-as-well"),
    pytest.param(
        "[r.io]",
        f"['{RECALL}', {{image: r.io/team/app, namespaces: [dev]}}]",
        ["deny-by-digest"],
        id="tags-denied-elsewhere",
    ),
    pytest.param(
        "[r.io]",
        f"['r.io/team/*@{SHA256}', r.io/team/other]",
        ["deny-by-digest"],
        id="tags-of-another-image-denied",
    ),
    pytest.param(
        "[r.io]",
        "['r.io/team/app:v1', {image: 'r.io/team/app@*', namespaces: [dev]}]",
        ["deny-by-tag"],
        id="digests-denied-elsewhere",
    ),
    pytest.param("[m.io]", f"['{RECALL}']", ["deny-by-digest"], id="copies-on-a-mirror"),
    pytest.param("[m.io]", f"[r.io/team/app, '{RECALL}']", [], id="copies-denied-as-well"),
]


@pytest.mark.parametrize(("allow", "deny", "codes"), RECALLS)
def test_deny_rules_that_the_same_image_passes_by_another_reference(
    allow: str, deny: str, codes: list[str]
) -> None:
    more = f"deny: {deny}\nmirrors: [{{from: r.io, to: m.io/r}}]\n"
    found = [each for each in lint(more, allow) if each.code in {"deny-by-tag", "deny-by-digest"}]
    assert [each.code for each in found] == codes
    assert all(each.path.startswith("deny[") and each.line and each.proposal for each in found)


@pytest.mark.parametrize(
    ("requirement", "mode", "found"),
    [
        pytest.param("images: [r.io/team/app], exists: true", "enforce", False, id="looked-up"),
        pytest.param("images: [r.io/team/app], exists: true, mode: warn", "enforce", False, id="only-warns"),
        pytest.param("images: [r.io], exists: true, except: [r.io/x]", "enforce", False, id="except-another"),
        pytest.param("images: ['r.io/team/app:v1'], exists: true", "enforce", True, id="one-tag"),
        pytest.param("images: [r.io], exists: true, namespaces: [a]", "enforce", True, id="elsewhere"),
        pytest.param("images: [m.io], exists: true", "enforce", True, id="only-the-copies"),
        pytest.param("images: ['*/**'], digest: true", "enforce", False, id="tags-refused"),
        pytest.param("images: ['*/**'], digest: true, mode: warn", "enforce", True, id="tags-warned-of"),
        pytest.param("images: [r.io], digest: true, mode: warn", "mutate", False, id="tags-pinned"),
        pytest.param("images: ['*/**'], digest: true, mode: warn", "mutate", True, id="nobody-may-be-asked"),
    ],
)
def test_a_digest_is_denied_where_a_requirement_looks_tags_up(
    requirement: str, mode: str, *, found: bool
) -> None:
    more = f"deny: ['{RECALL}']\nmirrors: [{{from: r.io, to: m.io/r}}]\nrequire: [{{{requirement}}}]\n"
    policy = parse_policy(policy_text(more, allow="[r.io, m.io]", mode=mode))
    assert ("deny-by-digest" in {each.code for each in lint_policy(policy, NOON)}) is found


@pytest.mark.parametrize(
    ("deny", "proposal"),
    [
        (RECALL, "deny the tags as well, or write a requirement with exists: true for r.io/team/app"),
        (f"*.io/app@{SHA256}", "deny the tags as well"),
    ],
)
def test_what_deny_by_digest_proposes_is_no_error(deny: str, proposal: str) -> None:
    found = [each for each in lint(f"deny: ['{deny}']", "[r.io]") if each.code == "deny-by-digest"]
    assert [each.proposal for each in found] == [proposal]
    image = proposal.partition(" for ")[2]
    fixed = f"deny: ['{deny}']\nrequire: [{{images: [{image}], exists: true}}]" if image else ""
    assert {each.code for each in lint(fixed, "[r.io]")} <= {"floating-latest"}


def test_a_policy_can_be_without_findings() -> None:
    assert lint() == ()


def test_findings_have_everything_and_stand_in_the_order_of_the_text() -> None:
    text = "deny: [b.io/x:1@*]\nmirrors:\n  - from: docker.io\n    to: r.io\n"
    findings = lint(text, allow="['*.io']")
    assert [(f.code, f.path, f.line, f.column) for f in findings] == [
        ("broad-host", "allow[0]", 4, 9),
        ("floating-latest", "allow[0]", 4, 9),
        ("tag-ignored", "deny[0]", 5, 8),
    ]
    assert all(f.severity == "warning" and f.message and f.proposal for f in findings)


DEAD: Final = [
    pytest.param("[a.io, a.io/x]", "[]", ["allow[1]"], id="wider-before"),
    pytest.param("[a.io/x, a.io]", "[]", ["allow[0]"], id="wider-after"),
    pytest.param("[a.io/x, a.io/x/**]", "[]", [], id="a-subtree-does-not-hold-its-root"),
    pytest.param("[a.io, 'a.io:443/**']", "[]", ["allow[1]"], id="of-equals-the-later"),
    pytest.param("[docker.io/nginx, docker.io/library/nginx]", "[]", ["allow[1]"], id="equal-after-folding"),
    pytest.param("[a.io/*, a.io/x*, a.io/x1]", "[]", ["allow[1]", "allow[2]"], id="globs"),
    pytest.param("['a.io/x:v1*', 'a.io/x:v*']", "[]", ["allow[0]"], id="tag-globs"),
    pytest.param("['a.io/x:v*', 'a.io/x:v*']", "[]", ["allow[1]"], id="equal-tag-globs"),
    pytest.param("[a.io/x, 'a.io/x:v1']", "[]", ["allow[1]"], id="tag"),
    pytest.param(f"[a.io@*, 'a.io/x@{SHA256}']", "[]", ["allow[1]"], id="digest"),
    pytest.param("[a.io@*, a.io/x]", "[]", [], id="pinned-is-narrower"),
    pytest.param("['a.io/**:*', a.io@*, a.io]", "[]", ["allow[0]", "allow[1]"], id="each-alone"),
    pytest.param("['*.corp.io', eu.corp.io]", "[]", ["allow[1]"], id="host-glob"),
    pytest.param("[a.io/x]", "[a.io]", ["allow[0]"], id="denied"),
    pytest.param("[a.io]", "[a.io]", ["allow[0]"], id="denied-exactly"),
    pytest.param("[a.io/x]", "['*']", ["allow[0]"], id="denied-by-any-host"),
    pytest.param("[a.io]", "[a.io/x]", [], id="denied-in-part"),
    pytest.param("[a.io]", "['*', b.io]", ["allow[0]", "deny[1]"], id="deny-covers-deny"),
    pytest.param("[b.io]", "[a.io/x, a.io]", ["deny[0]"], id="wider-deny-after"),
    pytest.param("[a.io]", "[{image: a.io, namespaces: [shop]}]", [], id="denied-in-one-namespace"),
    pytest.param("[a.io, {image: a.io, namespaces: [shop]}]", "[]", ["allow[1]"], id="namespace"),
    pytest.param("[{image: a.io, namespaces: [shop]}, a.io]", "[]", ["allow[0]"], id="namespace-first"),
    pytest.param(
        "[{image: a.io, namespaces: [shop]}, {image: a.io, namespaces: ['sh*']}]",
        "[]",
        ["allow[0]"],
        id="namespace-glob-covers-name",
    ),
    pytest.param(
        "[{image: a.io, namespaces: ['sh*']}, {image: a.io, namespaces: ['s*']}]",
        "[]",
        ["allow[0]"],
        id="namespace-glob-covers-glob",
    ),
    pytest.param(
        "[{image: a.io, namespaces: [a, b]}, {image: a.io, namespaces: [a]}, {image: a.io, namespaces: [b]}]",
        "[]",
        ["allow[1]", "allow[2]"],
        id="names-of-one-rule",
    ),
    pytest.param(
        "[{image: a.io, namespaces: [a]}, {image: a.io, namespaces: [b]}, "
        "{image: a.io/x, namespaces: [a, b]}]",
        "[]",
        ["allow[2]"],
        id="names-of-several-rules-together",
    ),
    pytest.param(
        "[{image: a.io, namespaces: [a]}, {image: a.io/x, namespaces: [a, b]}]",
        "[]",
        [],
        id="one-name-is-left",
    ),
    pytest.param("[{image: a.io, namespaces: [a]}, a.io/x]", "[]", [], id="a-namespace-is-narrower"),
    pytest.param(
        "[{image: a.io, namespaces: ['a*', 'b*']}, {image: a.io, namespaces: ['b*', 'a*']}]",
        "[]",
        ["allow[1]"],
        id="of-mutual-covers-the-later",
    ),
    pytest.param(
        "[{image: a.io, namespaces: ['a*', 'b*']}, {image: a.io, namespaces: ['a*', 'c*']}, "
        "{image: a.io, namespaces: ['b*', 'c*']}]",
        "[]",
        ["allow[2]"],
        id="of-a-ring-of-covers-one",
    ),
    pytest.param("[a.io/x, {image: a.io, until: 2027-01-01}]", "[]", [], id="wider-but-expires-first"),
    pytest.param("[{image: a.io/x, until: 2027-01-01}, a.io]", "[]", ["allow[0]"], id="wider-lives-for-ever"),
    pytest.param(
        "[{image: a.io/x, until: 2027-01-01}, {image: a.io, until: 2027-01-01}]",
        "[]",
        ["allow[0]"],
        id="same-until",
    ),
    pytest.param("[{image: a.io, until: 2027-01-01}, a.io]", "[]", ["allow[0]"], id="equal-expires-first"),
    pytest.param("[{image: a.io, until: 2026-01-01}, a.io/x]", "[]", [], id="expired-covers-nothing"),
    pytest.param("[a.io, {image: a.io/x, until: 2026-01-01}]", "[]", [], id="expired-is-not-dead"),
]


@pytest.mark.parametrize(("allow", "deny", "expected"), DEAD)
def test_dead_rules(allow: str, deny: str, expected: list[str]) -> None:
    assert paths("dead-rule", f"deny: {deny}", allow) == expected


@pytest.mark.parametrize(
    ("allow", "deny", "message"),
    [
        ("[a.io, a.io/x]", "[]", "the rule has no effect: allow[0] a.io covers all of it"),
        ("[a.io]", "['*']", "the rule has no effect: deny[0] * denies all of it"),
    ],
)
def test_a_dead_rule_is_reported_with_the_covering_rule(allow: str, deny: str, message: str) -> None:
    assert [f.message for f in lint(f"deny: {deny}", allow) if f.code == "dead-rule"] == [message]


@pytest.mark.parametrize(
    ("until", "code"),
    [
        pytest.param("2026-03-01T11:59:59Z", "expired", id="past"),
        pytest.param("2026-03-01T12:00:00Z", "expired", id="now"),
        pytest.param("2026-03-01T12:00:01Z", "expires-soon", id="in-a-second"),
        pytest.param("2026-03-15T12:00:00Z", "expires-soon", id="in-14-days"),
        pytest.param("2026-03-15T12:00:01Z", None, id="in-more-than-14-days"),
    ],
)
def test_expiry(until: str, code: str | None) -> None:
    more = f"""\
deny:
  - image: b.io
    until: {until}
namespaces:
  - names: [shop]
    until: {until}
    mode: warn
"""
    findings = lint(more, f"[a.io@*, {{image: c.io@*, until: '{until}'}}]")
    assert {f.code for f in findings} == ({code} if code else set())
    expected = [("allow[1].until", 4), ("deny[0].until", 7), ("namespaces[0].until", 10)]
    assert [(f.path, f.line) for f in findings] == (expected if code else [])


@pytest.mark.parametrize(
    ("allow", "deny", "expected"),
    [
        pytest.param("[a.io]", "[]", ["allow[0]"], id="anything"),
        pytest.param("[b.io@*, {image: a.io}]", "[]", ["allow[1].image"], id="path-of-a-mapping"),
        pytest.param("[a.io, b.io]", "[]", ["allow[0]"], id="reported-once"),
        pytest.param("['a.io/x:latest']", "[]", ["allow[0]"], id="by-name"),
        pytest.param("['a.io/x:l*']", "[]", ["allow[0]"], id="by-glob"),
        pytest.param("['a.io/x:v*']", "[]", [], id="another-tag"),
        pytest.param("[a.io@*]", "[]", [], id="pinned"),
        pytest.param("[a.io]", "['*/**:latest']", [], id="denied"),
        pytest.param("[a.io]", "['a.io/**:lat*']", [], id="denied-by-glob"),
        pytest.param("[a.io, b.io]", "['a.io/**:latest']", ["allow[1]"], id="denied-elsewhere"),
        pytest.param("[a.io]", "['a.io/x:latest']", ["allow[0]"], id="denied-in-part"),
        pytest.param(
            "[a.io]",
            "[{image: '*/**:latest', namespaces: [shop]}]",
            ["allow[0]"],
            id="denied-in-one-namespace",
        ),
        pytest.param(
            "[a.io]", "[{image: '*/**:latest', until: 2026-01-01}]", ["allow[0]"], id="no-longer-denied"
        ),
        pytest.param("[b.io@*, {image: a.io, until: 2026-01-01}]", "[]", [], id="no-longer-allowed"),
        pytest.param(
            "[{image: a.io, namespaces: [shop]}]",
            "[{image: '*/**:latest', namespaces: [shop]}]",
            [],
            id="denied-wherever-it-is-approved",
        ),
    ],
)
def test_floating_latest(allow: str, deny: str, expected: list[str]) -> None:
    assert paths("floating-latest", f"deny: {deny}", allow) == expected


@pytest.mark.parametrize(
    ("requirement", "found"),
    [
        pytest.param("images: ['*/**'], digest: true", False, id="everywhere"),
        pytest.param("images: ['a.io/**:latest'], digest: true", False, id="only-latest"),
        pytest.param("images: [a.io], digest: true, except: [a.io/x]", False, id="with-except"),
        pytest.param("images: [a.io/x], digest: true", True, id="one-image"),
        pytest.param("images: [a.io], exists: true", True, id="no-digest"),
        pytest.param("images: [a.io], digest: true, namespaces: [prod]", True, id="in-one-namespace"),
        pytest.param("images: [a.io], digest: true, mode: warn", True, id="only-warned-of"),
    ],
)
def test_a_requirement_of_a_digest_refuses_latest(requirement: str, *, found: bool) -> None:
    assert bool(paths("floating-latest", f"require: [{{{requirement}}}]", "[a.io]")) is found


@pytest.mark.parametrize(
    ("host", "found"),
    [
        pytest.param("*.azurecr.io", True, id="azure"),
        pytest.param("team-*.azurecr.io", True, id="part-of-a-label"),
        pytest.param("*.dkr.ecr.eu-west-1.amazonaws.com", True, id="amazon"),
        pytest.param("123.dkr.ecr.*.amazonaws.com", True, id="star-in-the-middle"),
        pytest.param("*.azurecr.io:5000", True, id="port"),
        pytest.param("123456789012.dkr.ecr.*.amazonaws.com", False, id="fixed-account-in-any-region"),
        pytest.param("123456789012.dkr.ecr-fips.*.amazonaws.com", False, id="fips"),
        pytest.param("123456789012.dkr.ecr.cn-*.amazonaws.com.cn", False, id="china"),
        pytest.param("12345678901*.dkr.ecr.eu-west-1.amazonaws.com", True, id="part-of-an-account"),
        pytest.param("123456789012.*.ecr.eu-west-1.amazonaws.com", True, id="not-ecr"),
        pytest.param("*.dkr.ecr.cn-north-1.amazonaws.com.cn", True, id="china-any-account"),
        pytest.param("*.ecr.aws", True, id="ecr-public"),
        pytest.param("*-docker.pkg.dev/project/**", False, id="account-in-the-path"),
        pytest.param("*-docker.pkg.dev/project-*/**", True, id="part-of-an-account-in-the-path"),
        pytest.param("*-docker.pkg.dev", True, id="no-account-in-the-path"),
        pytest.param("*.azurecr.io/team/**", True, id="the-host-is-the-account"),
        pytest.param("corp.azurecr.io", False, id="one-account"),
        pytest.param("*.myazurecr.io", False, id="another-domain"),
        pytest.param("*.corp.io", False, id="own-domain"),
    ],
)
def test_mutable_hosts(host: str, *, found: bool) -> None:
    assert paths("mutable-host", allow=f"['{host}']") == (["allow[0]"] if found else [])


def test_a_denied_wildcard_host_is_not_dangerous() -> None:
    assert paths("mutable-host", "deny: ['*.azurecr.io', '*']") == []
    assert paths("broad-host", "deny: ['*.io', '*']") == []


@pytest.mark.parametrize(
    ("host", "found"),
    [
        pytest.param("*.io", True, id="one-label"),
        pytest.param("*.*.io", True, id="two-stars-before-one-label"),
        pytest.param("*corp.io", True, id="part-of-a-label"),
        pytest.param("corp.*", True, id="no-label-after"),
        pytest.param("*.io:5000", True, id="port"),
        pytest.param("*.corp.io", False, id="two-labels"),
        pytest.param("corp.io", False, id="literal"),
    ],
)
def test_broad_hosts(host: str, *, found: bool) -> None:
    assert paths("broad-host", allow=f"['{host}@*']") == (["allow[0]"] if found else [])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        pytest.param("docker.io/**", True, id="double-star"),
        pytest.param("docker.io", True, id="path-less"),
        pytest.param("index.docker.io:443/", True, id="alias"),
        pytest.param("docker.io@*", True, id="pinned-by-anybody"),
        pytest.param("docker.io/**:v1", True, id="tag"),
        pytest.param("docker.io/*/app", True, id="any-user"),
        pytest.param("docker.io/*/**", True, id="any-user-subtree"),
        pytest.param("docker.io/**@" + SHA256, False, id="one-digest"),
        pytest.param("docker.io/*", False, id="star-is-the-official-images"),
        pytest.param("docker.io/library/**", False, id="official"),
        pytest.param("docker.io/team/**", False, id="one-user"),
        pytest.param("docker.io:5000/**", False, id="not-hub"),
        pytest.param("a.io/**", False, id="another-registry"),
    ],
)
def test_hub_user_namespace(pattern: str, *, found: bool) -> None:
    assert paths("hub-user-namespace", allow=f"['{pattern}']") == (["allow[0]"] if found else [])


@pytest.mark.parametrize(
    ("pattern", "platform"),
    [
        pytest.param("quay.io", "Quay", id="bare-host"),
        pytest.param("quay.io:443/**", "Quay", id="everything-below"),
        pytest.param("quay.io@*", "Quay", id="pinned-by-anybody"),
        pytest.param("quay.io/**:v1", "Quay", id="tag"),
        pytest.param(f"quay.io/**@{SHA256}", "Quay", id="one-digest"),
        pytest.param(f"docker.io/**@{SHA256}", "Docker Hub", id="one-digest-on-hub"),
        pytest.param("docker.io@*", None, id="hub-has-a-finding-of-its-own"),
        pytest.param("docker.io/library/*", None, id="official-images"),
        pytest.param("ghcr.io/*/tool", "GitHub", id="any-account"),
        pytest.param("ghcr.io/acme-*/**", "GitHub", id="part-of-an-account"),
        pytest.param("ghcr.io/acme/*", None, id="one-account"),
        pytest.param("eu.gcr.io", "Google Container Registry", id="region"),
        pytest.param("k8s.gcr.io", None, id="the-registry-of-one-project"),
        pytest.param("europe-docker.pkg.dev/**", "Google Artifact Registry", id="artifact-registry"),
        pytest.param("*-docker.pkg.dev/**", "Google Artifact Registry", id="artifact-registry-anywhere"),
        pytest.param("europe-docker.pkg.dev/project/*/**", None, id="one-project"),
        pytest.param("public.ecr.aws/**", "Amazon ECR Public", id="ecr-public"),
        pytest.param("123456789012.dkr.ecr.*.amazonaws.com", None, id="ecr-account"),
        pytest.param("registry.gitlab.com", "GitLab", id="gitlab"),
        pytest.param("registry.cn-hangzhou.aliyuncs.com", "Alibaba Cloud", id="region-in-the-middle"),
        pytest.param("quay.io:5000", None, id="another-port"),
        pytest.param("a.quay.io", None, id="another-host"),
        pytest.param("aspitalia.azurecr.io", None, id="registry-of-one-account"),
        pytest.param("localhost:5000", None, id="localhost"),
    ],
)
def test_open_registry(pattern: str, platform: str | None) -> None:
    found = [f.message for f in lint(allow=f"['{pattern}']") if f.code == "open-registry"]
    assert [message.rpartition(" at ")[2] for message in found] == ([platform] if platform else [])
    assert paths("open-registry", f"deny: ['{pattern}']") == []


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param("{names: ['*'], mode: warn}", ["namespaces[0].mode"], id="every-namespace"),
        pytest.param("{names: [a, '**'], mode: warn}", ["namespaces[0].mode"], id="among-others"),
        pytest.param("{names: ['sandbox-*'], mode: warn}", [], id="some-namespaces"),
        pytest.param("{names: ['*'], mode: mutate}", [], id="another-mode"),
        pytest.param("{names: ['*'], mode: warn, until: 2026-01-01}", [], id="expired"),
        pytest.param(
            "{names: [a], mode: enforce}, {names: ['*'], mode: warn}", [], id="after-an-enforced-one"
        ),
        pytest.param(
            "{names: [a], mode: enforce, until: 2026-01-01}, {names: ['*'], mode: warn}",
            ["namespaces[1].mode"],
            id="after-one-that-expired",
        ),
    ],
)
def test_enforces_nothing(entries: str, expected: list[str]) -> None:
    assert paths("enforces-nothing", f"namespaces: [{entries}]") == expected


@pytest.mark.parametrize(
    ("pattern", "proposal"),
    [
        pytest.param("docker.io/library", "docker.io/library/**", id="library"),
        pytest.param("registry-1.docker.io/library:1", "docker.io/library/**", id="alias-and-tag"),
        pytest.param("ghcr.io/owner", "ghcr.io/owner/**", id="ghcr-owner"),
        pytest.param("docker.io/library/**", None, id="subtree"),
        pytest.param("docker.io/nginx", None, id="official-image"),
        pytest.param("ghcr.io/owner/app", None, id="ghcr-repository"),
        pytest.param("a.io/library", None, id="another-registry"),
    ],
)
def test_exact_repository(pattern: str, proposal: str | None) -> None:
    found = [f for f in lint(f"deny: ['{pattern}']") if f.code == "exact-repository"]
    assert [f.proposal for f in found] == ([f"did you mean {proposal}?"] if proposal else [])
    assert paths("exact-repository", allow=f"['{pattern}']") == (["allow[0]"] if proposal else [])


def test_ignored_tags_wherever_a_pattern_stands() -> None:
    more = "deny: [b.io/x:1@*]\nmirrors: [{from: c.io, to: d.io, except: [c.io/x@*, c.io/y:1@*]}]\n"
    more += "exceptions: [{source: namespace, images: [e.io, e.io/x:1@*], longest: 1d}]\n"
    more += "require: [{images: [e.io, e.io/x:1@*], except: [e.io/x:1@*], digest: true}]"
    expected = ["allow[0].image", "deny[0]", "mirrors[0].except[1]", "exceptions[0].images[1]"]
    expected += ["require[0].images[1]", "require[0].except[0]"]
    assert paths("tag-ignored", more, "[{image: a.io/x:1@*}]") == expected


@pytest.mark.parametrize(
    ("allow", "source", "to", "proposal"),
    [
        pytest.param("[a.io]", "docker.io", "r.io", "allow r.io/**", id="not-allowed"),
        pytest.param("[r.io]", "docker.io", "r.io", None, id="allowed"),
        pytest.param("[r.io]", "docker.io", "r.io/hub", None, id="allowed-above"),
        pytest.param("[r.io/hub/**]", "docker.io", "r.io/hub", None, id="allowed-below"),
        pytest.param("[r.io/hub/x/**]", "docker.io", "r.io/hub", "allow r.io/hub/**", id="allowed-in-part"),
        pytest.param("['*.corp.io']", "docker.io", "r.corp.io/hub", None, id="allowed-by-glob"),
        pytest.param("['r.io/*/**']", "docker.io", "r.io/hub", None, id="allowed-by-segment-glob"),
        pytest.param("['r.io/hub/**@*']", "docker.io", "r.io/hub", None, id="allowed-if-pinned"),
        pytest.param(
            "[{image: r.io, namespaces: [a]}]", "docker.io", "r.io", None, id="allowed-in-a-namespace"
        ),
        pytest.param(
            "[a.io, {image: r.io, until: 2026-01-01}]", "docker.io", "r.io", "allow r.io/**", id="expired"
        ),
        pytest.param(
            "[r.io/hub]",
            "docker.io",
            "r.io/hub",
            "allow r.io/hub/**",
            id="an-exact-rule-covers-nothing-below",
        ),
        pytest.param(
            "[r.io/nginx]", "docker.io/library/nginx", "r.io/nginx", None, id="a-mirror-of-one-image"
        ),
        pytest.param("[r.io]", "docker.io/library/nginx", "r.io/nginx", None, id="one-image-allowed-above"),
        pytest.param("[a.io]", "docker.io/a/b", "r.io/nginx", "allow r.io/nginx", id="one-image-not-allowed"),
        pytest.param(
            "[r.io/hub/x]",
            "ghcr.io/team/x",
            "r.io/hub/x",
            "allow r.io/hub/x/**, unless ghcr.io/team/x is a single repository",
            id="only-the-repository-itself",
        ),
        pytest.param("[r.io/hub/x/**]", "ghcr.io/team/x", "r.io/hub/x", None, id="below-the-repository"),
        pytest.param(
            "[r.io/hub]",
            "ghcr.io/team/x",
            "r.io/hub/x",
            "allow r.io/hub/x/**; also allow r.io/hub/x if ghcr.io/team/x is itself a repository",
            id="neither-the-repository-nor-below",
        ),
        pytest.param(
            "[r.io/team]",
            "ghcr.io/team",
            "r.io/team",
            "allow r.io/team/**",
            id="an-owner-is-not-a-repository",
        ),
        pytest.param(
            "[r.io/hub]", "ghcr.io", "r.io/hub", "allow r.io/hub/**", id="a-registry-is-not-a-repository"
        ),
        pytest.param("[a.io]", "ghcr.io/team/x", "r.io", "allow r.io/**", id="to-a-whole-registry"),
        pytest.param(
            "[a.io]",
            "ghcr.io/team/x",
            "docker.io/hub",
            "allow docker.io/hub/**",
            id="to-an-owner-on-docker-hub",
        ),
    ],
)
def test_mirror_unapproved(allow: str, source: str, to: str, proposal: str | None) -> None:
    found = [
        f for f in lint(f"mirrors: [{{from: {source}, to: {to}}}]", allow) if f.code == "mirror-unapproved"
    ]
    assert [(f.path, f.proposal) for f in found] == ([("mirrors[0].to", proposal)] if proposal else [])


@pytest.mark.parametrize(
    ("source", "deny", "found"),
    [
        pytest.param("docker.io/team", "docker.io/team/**", True, id="the-origin"),
        pytest.param("docker.io/team", "docker.io", True, id="above-the-origin"),
        pytest.param("docker.io/team", "r.io/hub/**", True, id="the-mirror"),
        pytest.param("docker.io/team", "'*/**'", True, id="everything"),
        pytest.param("docker.io/team", "docker.io/team/app", False, id="one-image"),
        pytest.param("docker.io/team", "docker.io/library/**", False, id="beside-the-origin"),
        pytest.param("docker.io/team", "'docker.io/**:latest'", False, id="one-tag"),
        pytest.param("docker.io/team", "'docker.io@*'", False, id="only-pinned"),
        pytest.param("docker.io/team", "{image: docker.io, namespaces: [shop]}", False, id="one-namespace"),
        pytest.param("docker.io/team", "{image: docker.io, until: 2026-01-01}", False, id="expired"),
        pytest.param("docker.io/team", "r.io/hub", False, id="an-exact-rule-denies-nothing-below"),
        # A source in another registry may also be a repository itself.
        pytest.param("b.io/x", "b.io/x/**", False, id="only-below-the-source"),
        pytest.param("b.io/x", "r.io/hub/**", False, id="only-below-the-target"),
        pytest.param("b.io/x", "b.io", True, id="the-registry-of-the-source"),
        pytest.param("b.io/x", "'b.io/**'", True, id="all-repositories-of-the-source"),
        pytest.param("b.io/x", "'*/**'", True, id="everything-with-the-source"),
        pytest.param("docker.io/library/nginx", "docker.io/nginx", True, id="the-only-image"),
    ],
)
def test_deny_covers_mirror(source: str, deny: str, *, found: bool) -> None:
    more = f"deny: [{deny}]\nmirrors: [{{from: {source}, to: r.io/hub}}]"
    assert paths("deny-covers-mirror", more, "[r.io@*]") == (["mirrors[0]"] if found else [])


@pytest.mark.bulk
def test_thousands_of_wildcards_are_linted() -> None:
    """Pairwise comparisons would take minutes."""
    allow = "[" + ", ".join(f"'a.io/x{i}*@*'" for i in range(3000)) + "]"
    assert lint(allow=allow)[0].code == "dead-rule"


def test_one_kind_of_finding_does_not_hide_another() -> None:
    """A hundred findings are listed, and every check contributes some."""
    allow = "[" + "a.io/x@*, " * 500 + "'*.io@*', docker.io]"
    findings = lint(allow=allow)
    assert {"dead-rule", "broad-host", "hub-user-namespace", "floating-latest"} <= {f.code for f in findings}
    assert len(findings) == 101
    assert findings[-1].message == "403 more findings are not listed"


def test_every_finding_has_a_code_of_the_table() -> None:
    codes = {code for codes in CHECKS.values() for code in codes}
    allow = "['*.azurecr.io', docker.io, '*.io', ghcr.io/a, a.io/x:1@*, {image: b.io, until: 2026-03-02}]"
    more = "deny: [r.io]\nmirrors: [{from: docker.io, to: r.io}]\n"
    assert {finding.code for finding in lint(more, allow)} <= codes


def test_long_patterns_are_cut_in_messages() -> None:
    long = "a.io/" + "x/" * 100 + "y"
    (finding,) = [f for f in lint(allow=f"[{long}, {long}]") if f.code == "dead-rule"]
    assert finding.message.startswith("the rule has no effect: allow[0] a.io/x/")
    assert finding.message.endswith("... covers all of it")


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("more", "allow", "code"),
    [
        pytest.param(
            "deny: [" + ", ".join(f"'b.io/x{i}*:l*'" for i in range(300)) + ", 'a.io/*/**:l*']",
            "[a.io/x/**]",
            "floating-latest",
            id="denied-by-the-last-of-many",
        ),
        pytest.param(
            "mirrors: [{from: docker.io, to: a.io/hub}]",
            "[" + ", ".join(f"'a.io/x{i}*/**@*'" for i in range(300)) + ", 'a.io/h*/**@*']",
            "mirror-unapproved",
            id="approved-by-the-last-of-many",
        ),
    ],
)
def test_the_number_of_other_rules_does_not_affect_cover(more: str, allow: str, code: str) -> None:
    assert paths(code, more, allow) == []


@pytest.mark.parametrize(
    ("more", "allow"),
    [
        pytest.param(
            "mirrors: [{from: docker.io, to: a.io/hubhub}]",
            "[" + alike("'a.io/*{}*/**@*'") + "]",
            id="mirror",
        ),
        pytest.param(
            "mirrors: [{from: docker.io, to: a.io/hubhub, pin: true}]",
            "[" + alike("'a.io/*{}*/**@*'") + ", 'a.io/**:v1']",
            id="pin",
        ),
        pytest.param("deny: [" + alike("'a.io/*{}*'") + "]", "[a.io/hubhub]", id="latest"),
        pytest.param(
            "namespaces: [{names: ['*', 'a*'], mode: enforce}, {names: ["
            + many("n{}")
            + "], mode: enforce}]",
            "[a.io@*]",
            id="override",
        ),
    ],
)
def test_a_finding_that_needs_too_many_comparisons_is_not_reported(more: str, allow: str) -> None:
    """Lint of any policy does a bounded amount of work. Beyond it, a finding would be a guess."""
    policy = parse_policy(policy_text(more, allow=allow))
    assert len(lint_policy(policy, NOON)) == 1
    assert lint_policy(policy, NOON, comparisons=100) == ()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        pytest.param(
            "[{names: ['*'], mode: warn}, {names: [y], mode: enforce}]", ["namespaces[1]"], id="glob-first"
        ),
        pytest.param("[{names: [y], mode: enforce}, {names: ['*'], mode: warn}]", [], id="glob-last"),
        pytest.param(
            "[{names: [a, b], mode: warn}, {names: [b], mode: warn}]", ["namespaces[1]"], id="names"
        ),
        pytest.param("[{names: [a], mode: warn}, {names: [a, b], mode: warn}]", [], id="only-in-part"),
        pytest.param(
            "[{names: [a], mode: warn, until: 2027-01-01}, {names: [a], mode: warn}]", [], id="expires"
        ),
        pytest.param(
            "[{names: ['a*', b], mode: warn}, {names: [ab, b, ac], mode: enforce}]",
            ["namespaces[1]"],
            id="names-and-globs",
        ),
        pytest.param(
            "[" + "{names: [a, a], mode: warn}, " * 3 + "]", ["namespaces[1]", "namespaces[2]"], id="equal"
        ),
    ],
)
def test_an_override_that_never_decides_is_dead(overrides: str, expected: list[str]) -> None:
    assert paths("dead-rule", f"namespaces: {overrides}") == expected


@pytest.mark.long
def test_overrides_are_compared_within_bounds() -> None:
    """A thousand overrides of many names each, compared pairwise, would take hours."""

    def policy(number: int) -> Policy:
        names = [f"{{names: [a, '*x{i}*', z{i}], mode: warn}}" for i in range(number)]
        return parse_policy(policy_text(f"namespaces: [{', '.join(names)}]"))

    check_linear(lambda policy: lint_policy(policy, NOON), policy, start=150, limit=600)
    many = ", ".join(f"n{i}" for i in range(900))
    overrides = ", ".join(f"{{names: [a, '*x{i}*', '*', {many}], mode: warn}}" for i in range(20))
    assert len(paths("dead-rule", f"namespaces: [{overrides}]")) == 19


@pytest.mark.parametrize(
    ("allow", "source", "proposals"),
    [
        pytest.param("['r.io/hub/**:v*']", "docker.io", ["allow r.io/hub/**@*"], id="only-tags"),
        pytest.param("[r.io]", "docker.io", [], id="everything"),
        pytest.param("[r.io/**@*]", "docker.io", [], id="digests"),
        pytest.param("['r.io/hub:v*']", "docker.io/library/x", ["allow r.io/hub@*"], id="one-image"),
    ],
)
def test_pin_unapproved_mirrors(allow: str, source: str, proposals: list[str]) -> None:
    found = lint(f"mirrors: [{{from: {source}, to: r.io/hub, pin: true}}]", allow)
    assert [f.proposal for f in found if f.code == "pin-unapproved"] == proposals


def test_every_target_of_a_mirror_needs_an_approval() -> None:
    found = lint("mirrors: [{from: docker.io, to: [r.io/hub, dr.io/hub]}]", "[r.io]")
    assert [f.proposal for f in found if f.code == "mirror-unapproved"] == ["allow dr.io/hub/**"]


def test_an_override_is_compared_with_a_bounded_number_of_earlier_ones() -> None:
    """A hundred overrides of one name are all found useless, though only the first 64 are compared."""
    overrides = ", ".join(["{names: [a], mode: warn}"] * 100)
    assert len(paths("dead-rule", f"namespaces: [{overrides}]")) == 99


@pytest.mark.parametrize(
    ("allow", "deny", "found"),
    [
        pytest.param("[a.io, b.io]", "['*']", ["deny[0]"], id="everything-denied"),
        pytest.param("[a.io/x, b.io]", "[a.io, b.io]", ["deny[1]"], id="each-by-a-rule-of-its-own"),
        pytest.param("[a.io, b.io]", "[a.io]", [], id="one-is-left"),
        pytest.param("[a.io]", "[]", [], id="nothing-denied"),
        pytest.param("[a.io]", "[{image: '*', namespaces: [shop]}]", [], id="denied-in-one-namespace"),
        pytest.param(
            "[{image: a.io, namespaces: [shop]}]",
            "[{image: '*', namespaces: [shop]}]",
            ["deny[0]"],
            id="denied-wherever-it-is-approved",
        ),
        pytest.param("[a.io]", "[{image: '*', until: 2026-03-02}]", ["deny[0]"], id="a-freeze-with-an-end"),
        pytest.param("[a.io]", "[{image: '*', until: 2026-02-01}]", [], id="a-freeze-that-is-over"),
        pytest.param(
            "[{image: a.io, until: 2026-02-01}]", "['*']", [], id="the-only-allow-rule-expired-by-itself"
        ),
    ],
)
def test_deny_rules_that_refuse_everything_are_reported(allow: str, deny: str, found: list[str]) -> None:
    assert paths("nothing-approved", f"deny: {deny}", allow) == found


def test_a_policy_that_approves_nothing_is_reported_first() -> None:
    findings = lint("deny: ['*']", allow="['*.io', a.io]")
    assert findings[0].code == "nothing-approved"
    assert findings[0].line > findings[1].line


@pytest.mark.parametrize(
    ("pattern", "proposal"),
    [
        pytest.param("a.io/*", "a.io/**", id="registry"),
        pytest.param("a.io:5000/*:v1", "a.io:5000/**:v1", id="with-a-tag"),
        pytest.param("'*.corp.io/*@*'", "*.corp.io/**@*", id="wildcard-host"),
        pytest.param("a.io/x*", "", id="part-of-a-segment"),
        pytest.param("a.io/team/*", "", id="below-a-path"),
        pytest.param("a.io/**", "", id="subtree"),
        pytest.param("docker.io/*", "", id="official-images-have-one-segment"),
    ],
)
def test_a_rule_for_one_segment_is_reported_with_the_wider_one(pattern: str, proposal: str) -> None:
    for more, allow in (
        ("", f"[{pattern}]"),
        (f"deny: [{pattern}]", "[z.io@*]"),
        (f"require: [{{images: [{pattern}], digest: true}}]", "['*.io@*']"),
    ):
        found = [finding for finding in lint(more, allow) if finding.code == "one-segment"]
        assert [finding.proposal for finding in found] == (
            [f"to match all repositories, which is wider, write {proposal}"] if proposal else []
        )


def test_a_mode_that_the_configmap_replaces_is_reported_at_the_documents_mode() -> None:
    text = policy_text()
    assert "mode-overridden" not in [f.code for f in lint_policy(parse_policy(text, "enforce"), NOON)]
    (finding,) = [f for f in lint_policy(parse_policy(text, "warn"), NOON) if f.code == "mode-overridden"]
    assert finding.path == "mode"
    assert finding.line == text.splitlines().index("mode: enforce") + 1
    assert "warn" in finding.message


@pytest.mark.parametrize(
    ("mode", "more", "found"),
    [
        pytest.param("mutate", "", ["mode"], id="mutate"),
        pytest.param("enforce", "", [], id="enforce"),
        pytest.param(
            "warn", "namespaces: [{names: [a], mode: mutate}]", ["namespaces[0].mode"], id="override"
        ),
        pytest.param("warn", "namespaces: [{names: [a], mode: enforce}]", [], id="another-override"),
        pytest.param("mutate", "mirrors: [{from: b.io, to: a.io}]", [], id="with-a-mirror"),
        pytest.param("mutate", "require: [{images: [a.io], digest: true}]", [], id="with-a-pin"),
        pytest.param("mutate", "require: [{images: [a.io], exists: true}]", ["mode"], id="only-looked-up"),
    ],
)
def test_a_mode_that_rewrites_is_reported_when_nothing_is_rewritten(
    mode: str, more: str, found: list[str]
) -> None:
    findings = lint_policy(parse_policy(policy_text(more, allow="[a.io@*]"), mode), NOON)
    assert [f.path for f in findings if f.code == "mutate-without-mirrors"] == found


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param("2026-01-01", "2026-03-18", id="expires-soon"),
        pytest.param("2026-03-18", "2026-04-01", id="from-then-on-the-expiry"),
        pytest.param("2026-03-31", "2026-04-01", id="expiry"),
        pytest.param("2026-04-01", "2026-04-17", id="the-next-entry-expires-soon"),
        pytest.param("2026-04-20", "2026-05-01", id="the-next-entry-expires"),
        pytest.param("2026-05-01", None, id="everything-expired"),
    ],
)
def test_when_the_clock_changes_the_findings(now: str, expected: str | None) -> None:
    policy = parse_policy(
        policy_text(
            "deny: [{image: b.io, until: 2026-05-01}]\n"
            "namespaces: [{names: [shop], mode: warn, until: 2026-04-01, reason: trial}]\n",
            allow="[a.io@*, {image: c.io@*, until: 0001-01-02}]",
        )
    )
    instant = datetime.fromisoformat(now).replace(tzinfo=UTC)
    found = next_finding(policy.document, instant)
    assert found == (None if expected is None else datetime.fromisoformat(expected).replace(tzinfo=UTC))
    before = lint_policy(policy, instant)
    if found is not None:
        assert lint_policy(policy, found - timedelta(microseconds=1)) == before != lint_policy(policy, found)


@pytest.mark.parametrize(
    ("until", "code"),
    [
        pytest.param("2026-03-01T12:00:00Z", "expired", id="now"),
        pytest.param("2026-03-15T12:00:00Z", "key-expires-soon", id="in-14-days"),
        pytest.param("2026-03-15T12:00:01Z", None, id="in-more-than-14-days"),
    ],
)
def test_a_key_expires_as_rules_do(until: str, code: str | None) -> None:
    text = keys_text(until=until) + "require: [{images: [a.io], signedBy: [ci-2025, ci-2026]}]"
    assert [(f.code, f.path) for f in lint(text)] == ([(code, "keys[1].until")] if code else [])
    later = next_finding(parse_policy(policy_text(text)).document, NOON)
    assert (later is None) is (code == "expired")


@pytest.mark.parametrize(
    ("keys", "signed_by", "expected"),
    [
        pytest.param(PUBLIC_KEYS, "ci-2026", [("key-unused", "keys[0]")], id="unused"),
        pytest.param({"ed": ED25519}, "ed", [("key-prehashed", "keys[0].key")], id="prehashed"),
        pytest.param(
            dict.fromkeys(("first", "second", "third"), PUBLIC_KEYS["ci-2025"]),
            "first, second, third",
            [("key-repeated", "keys[1].key"), ("key-repeated", "keys[2].key")],
            id="one-key-with-several-names",
        ),
    ],
)
def test_keys_that_are_of_no_use(
    keys: dict[str, str], signed_by: str, expected: list[tuple[str, str]]
) -> None:
    listed = json.dumps([{"name": name, "key": key} for name, key in keys.items()])
    findings = lint(f"keys: {listed}\nrequire: [{{images: [a.io], signedBy: [{signed_by}]}}]\n")
    assert [(f.code, f.path) for f in findings] == expected


@pytest.mark.parametrize(
    ("more", "signed"),
    [
        pytest.param("", True, id="everywhere"),
        pytest.param(", mode: warn", False, id="only-warned-of"),
        pytest.param(", namespaces: [prod]", False, id="in-one-namespace"),
        pytest.param(", except: [ghcr.io/x/**]", False, id="not-all"),
    ],
)
def test_a_rule_whose_images_must_be_signed_approves_nobody_elses(more: str, *, signed: bool) -> None:
    images = "images: [docker.io, ghcr.io], signedBy: [ci-2025, ci-2026]"
    found = lint(keys_text() + f"require: [{{{images}{more}}}]\n", "[docker.io@*, ghcr.io@*]")
    assert {each.code for each in found} == (set() if signed else {"hub-user-namespace", "open-registry"})


@pytest.mark.parametrize(
    ("images", "evaded_by"),
    [
        pytest.param("[r.io]", "", id="all"),
        pytest.param("['r.io/app:v1']", "a digest", id="tag"),
        pytest.param("['r.io/**@*']", "a tag", id="digests"),
        pytest.param(f"['r.io/app@sha256:{'a' * 64}']", "a tag or another digest", id="one-digest"),
        pytest.param("['r.io/app:v1', r.io]", "", id="also-required-of-all"),
    ],
)
def test_a_signature_is_required_whether_by_tag_or_by_digest(images: str, evaded_by: str) -> None:
    for condition, counts in (("signedBy: [ci-2025, ci-2026]", True), ("exists: true", False)):
        found = lint(keys_text() + f"require: [{{images: {images}, {condition}}}]\n", "[r.io]")
        expected = [f"the same image with {evaded_by} needs no signature"] * bool(evaded_by and counts)
        assert [each.message for each in found if each.code == "require-in-part"] == expected


@pytest.mark.parametrize(
    ("more", "evaded"),
    [
        pytest.param("require: [{images: ['r.io/app:v1'], BY}, {images: [r.io], BY}]", False, id="elsewhere"),
        pytest.param("require: [{images: ['r.io/app:*', 'r.io/app@*'], BY}]", False, id="both"),
        pytest.param("require: [{images: ['r.io/**@*'], BY}]\ndeny: ['r.io/**:*']", False, id="denied"),
        pytest.param(
            "require: [{images: ['r.io/app:v1'], BY}, {images: [r.io], namespaces: [a], BY}]",
            True,
            id="in-one-namespace",
        ),
        pytest.param(
            "require: [{images: ['r.io/app:v1'], BY}, {images: [r.io], mode: warn, BY}]",
            True,
            id="only-warned-of",
        ),
    ],
)
def test_a_signature_may_be_required_elsewhere(more: str, *, evaded: bool) -> None:
    found = lint(keys_text() + more.replace("BY", "signedBy: [ci-2025, ci-2026]") + "\n", "[r.io]")
    assert ("require-in-part" in {each.code for each in found}) is evaded


UNMATCHED: Final = [
    pytest.param("[a.io]", "images: [a.io/x], digest: true", True, id="approved"),
    pytest.param("['*.corp.io']", "images: [a.corp.io/x], exists: true", True, id="by-a-glob"),
    pytest.param("[a.io/x]", "images: ['*/**'], digest: true", True, id="of-every-registry"),
    pytest.param("[a.io]", "images: [b.io, a.io], exists: true", True, id="one-of-several"),
    pytest.param("[a.io]", "images: [b.io], exists: true", False, id="another-registry"),
    pytest.param("[a.io/x]", "images: [a.io/x/**], exists: true", False, id="below-the-repository"),
    pytest.param("[a.io@*]", "images: ['a.io/x:v1'], exists: true", False, id="only-digests-approved"),
    pytest.param(
        "[{image: a.io, namespaces: ['team-*']}]",
        "images: [a.io], exists: true, namespaces: [ci]",
        False,
        id="elsewhere",
    ),
    pytest.param(
        "[{image: a.io, namespaces: ['team-*']}]",
        "images: [a.io], exists: true, namespaces: ['*-a']",
        True,
        id="in-some-namespaces",
    ),
    pytest.param(
        "[a.io, {image: b.io, until: 2026-02-01}]", "images: [b.io], digest: true", False, id="ended"
    ),
    pytest.param(
        "[a.io, {image: b.io, until: 2026-04-01}]", "images: [b.io], digest: true", True, id="dated"
    ),
    pytest.param("[m.io]", "images: [docker.io/team/**], exists: true", True, id="copies-on-a-mirror"),
    pytest.param(
        "[m.io/hub/other/**]", "images: [docker.io/team/**], exists: true", False, id="other-copies"
    ),
    pytest.param("[a.io]", "images: [g.io/x], exists: true", True, id="by-an-exception"),
    pytest.param(
        "[a.io]", "images: [g.io/x], exists: true, namespaces: [ci]", False, id="no-exception-there"
    ),
]


@pytest.mark.parametrize(("allow", "requirement", "matched"), UNMATCHED)
def test_a_requirement_that_matches_nothing_that_can_be_approved(
    allow: str, requirement: str, *, matched: bool
) -> None:
    """`require-unmatched` (a requirement that matches nothing that `allow` can approve)."""
    more = f"""\
require: [{{images: ['*/**'], digest: true}}, {{{requirement}}}]
mirrors: [{{from: docker.io, to: m.io/hub}}]
exceptions: [{{source: namespace, namespaces: ['team-*'], images: [g.io], longest: 1d}}]
"""
    assert paths("require-unmatched", more, allow) == ([] if matched else ["require[1]"])


IMPOSSIBLE: Final = [
    pytest.param("['a.io/**:v*']", "images: [a.io], digest: true", "a.io/**:v*", id="only-tags"),
    pytest.param("['a.io/**:v*']", "images: ['*.io'], digest: true", "a.io/**:v*", id="a-wildcard"),
    pytest.param("['a.io/**:v*']", "images: ['a.io/x:v1'], digest: true", "a.io/**:v*", id="for-a-tag"),
    pytest.param("['a.io/**:v*']", "images: [a.io], digest: true, mode: warn", "a.io/**:v*", id="warns"),
    pytest.param("['m.io/**:v*']", "images: [docker.io/team/**], digest: true", "m.io/**:v*", id="copies"),
    pytest.param(
        "['a.io/**:v*', {image: a.io, namespaces: [dev]}]",
        "images: [a.io], digest: true, namespaces: [prod]",
        "a.io/**:v*",
        id="digests-elsewhere",
    ),
    pytest.param("['a.io/**:v*']", "images: [a.io], exists: true", None, id="no-digest"),
    pytest.param("['a.io/**:v*']", "images: [b.io], digest: true", None, id="nothing-approved"),
    pytest.param("['a.io/**:v*', a.io@*]", "images: [a.io], digest: true", None, id="digests-as-well"),
    pytest.param("['a.io/**:v*', a.io]", "images: [a.io], digest: true", None, id="everything"),
    pytest.param("['a.io/**:v*', a.io@*]", "images: ['a.io/x:v1'], digest: true", None, id="a-tag-by-digest"),
    pytest.param("['a.io/**:v*', b.io]", "images: ['*/**'], digest: true", None, id="some-by-digest"),
    pytest.param(
        "['g.example/**:v*']", "images: [g.example], digest: true", None, id="digests-by-an-exception"
    ),
    pytest.param(
        "['a.io/**:v*']", "images: [a.io], digest: true, except: [a.io]", None, id="for-what-is-spared"
    ),
    pytest.param(
        "['a.io/**:v*', {image: a.io@*, until: 2020-01-01}]", "images: [a.io], digest: true", None, id="ended"
    ),
]


@pytest.mark.parametrize(("allow", "requirement", "rule"), IMPOSSIBLE)
def test_a_requirement_of_a_digest_whose_images_only_rules_for_tags_approve_is_refused(
    allow: str, requirement: str, rule: str | None
) -> None:
    more = f"""\
require: [{{{requirement}}}]
mirrors: [{{from: docker.io, to: m.io/hub}}]
exceptions: [{{source: namespace, images: [g.example], longest: 1d}}]
"""
    text = policy_text(more, allow=allow)
    if rule is None:
        parse_policy(text)
        return
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    proposed = rule.replace(":v*", "@*")
    assert [(f.code, f.path, f.severity, f.proposal) for f in caught.value.findings] == [
        ("require-impossible", "require[0].digest", "error", f"allow {proposed} as well")
    ]
    assert caught.value.findings[0].message.endswith(f"with a digest: allow[0] {rule}")
    parse_policy(policy_text(more, allow=f"{allow[:-1]}, '{proposed}']"))


def test_a_requirement_of_a_signature_is_one_of_a_digest() -> None:
    more = keys_text() + "require: [{images: [a.io], signedBy: [ci-2025, ci-2026]}]\n"
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_text(more, allow="['a.io/**:v*']"))
    assert [f.path for f in caught.value.findings] == ["require[0].signedBy"]


def test_an_except_expires_too() -> None:
    excepts = "except: [{image: a.io/x, until: 2026-03-02}, a.io/y]"
    more = f"deny: [{{image: a.io, {excepts}}}]\nrequire: [{{images: [a.io], digest: true, {excepts}}}]"
    assert paths("expires-soon", more) == ["deny[0].except[0].until", "require[0].except[0].until"]


def test_findings_about_expiry_name_the_owner_and_the_reason() -> None:
    dated = "{image: b.io@*, until: 2026-03-02, owner: me, reason: trial}"
    more = "namespaces: [{names: [shop], mode: warn, until: 2026-03-02, reason: trial}]"
    messages = [finding.message for finding in lint(more, allow=f"[a.io@*, {dated}]")]
    assert messages == [
        "it expires at 2026-03-02T00:00:00Z (owner: me; reason: trial)",
        "it expires at 2026-03-02T00:00:00Z (reason: trial)",
    ]


@pytest.mark.parametrize(
    ("deny", "expected"),
    [
        pytest.param("{image: b.io, except: [b.io/x, '*/**:v1', '*.io/y']}", [], id="each-shares-images"),
        pytest.param("{image: b.io/x, except: [b.io/y, c.io, b.io/x]}", [0, 1], id="other-images"),
        pytest.param("{image: 'b.io/x:v*', except: ['b.io/x:1', 'b.io/x@*']}", [0, 1], id="other-versions"),
        pytest.param(
            "{image: b.io, namespaces: [team-*], except: [{image: b.io, namespaces: [ci]}]}",
            [0],
            id="elsewhere",
        ),
    ],
)
def test_an_except_that_matches_none_of_the_images(deny: str, expected: list[int]) -> None:
    """An entry that can never match what its rule matches is the warning `except-unused`."""
    required = re.sub(r"image: ([^,]+)", r"digest: true, images: [z.io, \1]", deny, count=1)
    found = paths("except-unused", f"deny: [{deny}]\nrequire: [{required}]\n")
    assert found == [f"{name}[0].except[{index}]" for name in ("deny", "require") for index in expected]


def test_the_search_for_unused_excepts_is_bounded() -> None:
    names = ", ".join(f"n{number}" for number in range(1_000))
    rule = f"{{image: b.io, namespaces: [{names}], except: [{{image: c.io, namespaces: [{names}]}}]}}"
    assert paths("except-unused", f"deny: [{rule}]\n") == []


def test_a_rule_with_except_denies_latest() -> None:
    assert paths("floating-latest", "deny: [{image: '*/**:latest', except: [a.io/x]}]\n", "[a.io]") == []


def test_rules_with_except_neither_shadow_nor_freeze() -> None:
    deny = "deny: [{image: a.io, except: [a.io/x]}, a.io/y]\n"
    assert [finding.code for finding in lint(deny)] == []
    assert paths("dead-rule", "deny: [{image: a.io/x, except: ['a.io/x:1']}, a.io]\n") == [
        "allow[0]",
        "deny[0]",
    ]
