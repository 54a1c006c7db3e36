"""The policy at an instant: its unexpired rules, the mode of each namespace, and its revision."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest

from gatekeeper_py.core import PolicyError, parse_policy
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.policy import Rewriting
from support.builders import policy_text

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK: Final = timedelta(microseconds=1)
EXPIRING: Final = """\
deny: [{image: a.io/x, until: "2026-03-01T12:00:00Z"}]
namespaces:
  - {names: [shop], mode: warn, until: "2026-03-01T13:00:00Z"}
  - {names: ["sh*"], mode: mutate, until: 2026-03-02}
"""


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_the_revision_is_a_hash_of_the_text_and_the_effective_mode(mode: str) -> None:
    text = policy_text("# caf\xe9")
    expected = hashlib.sha256(f"{text}\n{mode}".encode()).hexdigest()[:12]
    policy = parse_policy(text, mode)
    assert policy.revision == policy.at(NOON).revision == expected


def test_the_configmap_mode_replaces_the_documents_mode() -> None:
    assert parse_policy(policy_text(), "warn").mode.name == "warn"
    assert parse_policy(policy_text()).mode.name == "enforce"
    assert parse_policy(policy_text(), "warn").at(NOON).mode("shop").name == "warn"


def test_namespace_overrides_apply_on_top_of_the_configmap_mode() -> None:
    policy = parse_policy(policy_text("namespaces: [{names: [shop], mode: mutate}]"), "warn").at(NOON)
    assert (policy.mode("shop").name, policy.mode("pay").name) == ("mutate", "warn")


@pytest.mark.parametrize("mode", ["", "Enforce", "audit"])
def test_a_bad_configmap_mode_is_a_problem_of_its_own(mode: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_text(), mode)
    assert [(f.code, f.path) for f in caught.value.findings] == [("bad-value", "mode")]


def test_a_bad_configmap_mode_and_a_bad_document_are_reported_together() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_text("deny: [nginx]"), "audit")
    assert [(f.code, f.path) for f in caught.value.findings] == [
        ("bad-value", "mode"),
        ("bad-pattern", "deny[0]"),
    ]


def test_a_good_configmap_mode_does_not_fix_a_bad_document() -> None:
    with pytest.raises(PolicyError):
        parse_policy(policy_text(mode="audit"), "warn")


@pytest.mark.parametrize(
    ("names", "namespace", "mode"),
    [
        pytest.param("[shop]", "shop", "warn", id="name"),
        pytest.param("[shop]", "shop2", "enforce", id="another-name"),
        pytest.param("['sh*']", "shop", "warn", id="glob"),
        pytest.param("[a, '*op']", "shop", "warn", id="one-of-several"),
        pytest.param("['*']", "shop", "warn", id="star"),
        pytest.param("['*']", None, "warn", id="star-is-also-for-none"),
        pytest.param("['**']", None, "enforce", id="only-the-name-star-is-for-none"),
        pytest.param("['sh*']", None, "enforce", id="a-glob-is-not-for-none"),
        pytest.param("[shop]", None, "enforce", id="a-name-is-not-for-none"),
    ],
)
def test_overrides_match_namespaces(names: str, namespace: str | None, mode: str) -> None:
    policy = parse_policy(policy_text(f"namespaces: [{{names: {names}, mode: warn}}]")).at(NOON)
    assert policy.mode(namespace).name == mode


@pytest.mark.parametrize(
    ("instant", "mode"),
    [
        pytest.param(NOON, "warn", id="the-first-that-matches"),
        pytest.param(NOON + timedelta(hours=1) - TICK, "warn", id="until-its-last-moment"),
        pytest.param(NOON + timedelta(hours=1), "mutate", id="then-the-next"),
        pytest.param(NOON + timedelta(hours=12), "enforce", id="then-the-document's"),
    ],
)
def test_the_first_live_override_wins(instant: datetime, mode: str) -> None:
    assert parse_policy(policy_text(EXPIRING)).at(instant).mode("shop").name == mode


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        pytest.param(NOON - TICK, NOON, id="a-rule"),
        pytest.param(NOON, NOON + timedelta(hours=1), id="an-instant-that-is-now-is-past"),
        pytest.param(
            NOON + timedelta(hours=1), NOON + timedelta(hours=12), id="a-plain-date-is-midnight-utc"
        ),
        pytest.param(NOON + timedelta(hours=12), None, id="nothing-left"),
    ],
)
def test_the_next_change(instant: datetime, expected: datetime | None) -> None:
    compiled = parse_policy(policy_text(EXPIRING)).at(instant)
    assert compiled.next_change == compiled.next_expiry == expected


def test_the_next_change_is_the_end_of_an_except_of_a_requirement() -> None:
    spared = "except: [{image: a.io/x, until: 2026-03-02}, {image: a.io/y, until: 2026-03-03}]"
    policy = parse_policy(policy_text(f"require: [{{images: [a.io], digest: true, {spared}}}]"))
    assert policy.at(NOON).next_change == datetime(2026, 3, 2, tzinfo=UTC)


def test_nothing_changes_without_until() -> None:
    assert parse_policy(policy_text()).at(NOON).next_change is None


def test_a_rule_decides_until_it_expires() -> None:
    policy = parse_policy(policy_text(EXPIRING, allow="[a.io]"))
    assert policy.at(NOON - TICK).decide(None, "a.io/x").reason == "denied"
    assert policy.at(NOON).decide(None, "a.io/x").reason == "allowed"
    assert (len(policy.deny), len(policy.at(NOON).deny)) == (1, 0)


def test_an_instant_of_another_offset_is_the_same_instant() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    policy = parse_policy(policy_text(EXPIRING, allow="[a.io]"))
    assert policy.at(east).decide(None, "a.io/x").reason == "allowed"
    assert policy.at(east - TICK).decide(None, "a.io/x").reason == "denied"
    assert lint(policy, east)


def test_an_instant_needs_an_offset() -> None:
    with pytest.raises(ValueError, match="offset"):
        parse_policy(policy_text()).at(NOON.replace(tzinfo=None))


def test_declared_resources_are_added_up() -> None:
    text = policy_text(
        "resources: [{group: g, kind: K, images: [a]}, {group: g, kind: K, images: [b]}, "
        "{group: h, kind: K, images: [c]}]"
    )
    resources = parse_policy(text).at(NOON).resources
    assert {key: [name for name in "abc" if paths.begins_with(name)] for key, paths in resources.items()} == {
        ("g", "K"): ["a", "b"],
        ("h", "K"): ["c"],
    }


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param("", False, id="no-namespaces"),
        pytest.param("deny: [{image: a.io, namespaces: [shop]}]", True, id="deny"),
        pytest.param("deny: [{image: a.io, namespaces: ['*']}]", False, id="star-is-all"),
        pytest.param("deny: [{image: a.io, namespaces: [shop], until: 2026-01-01}]", False, id="expired"),
        pytest.param("namespaces: [{names: [shop], mode: warn}]", False, id="a-mode-is-no-decision"),
    ],
)
def test_whether_decisions_depend_on_the_namespace(more: str, *, expected: bool) -> None:
    assert parse_policy(policy_text(more)).at(NOON).by_namespace is expected


@pytest.mark.parametrize(("until", "expected"), [("2026-02-01", True), ("2025-02-01", False)])
def test_the_text_of_a_decision_depends_on_the_namespace_of_a_rule_that_expired_lately(
    until: str, *, expected: bool
) -> None:
    allow = f"[{{image: a.io, namespaces: [shop], until: {until}}}]"
    assert parse_policy(policy_text(allow=allow)).at(NOON).by_namespace is expected


def test_the_message_comes_from_the_document() -> None:
    assert parse_policy(policy_text("message: ask us")).at(NOON).message == "ask us"
    assert parse_policy(policy_text()).at(NOON).message == ""


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param("nginx", "r.io/hub/library/nginx", id="unlisted-is-rewritten"),
        pytest.param("team/app:1", None, id="denied-stays"),
        pytest.param("docker.io:0/x", None, id="invalid-stays"),
        pytest.param("a b", None, id="no-reference-stays"),
        pytest.param("quay.io/x", None, id="no-mirror"),
        pytest.param("library/redis", None, id="excepted"),
    ],
)
def test_rewrite(image: str, expected: str | None) -> None:
    policy = parse_policy(
        policy_text(
            "deny: [docker.io/team/**]\nmirrors: [{from: docker.io, to: r.io/hub, except: [docker.io/redis]}]"
        )
    ).at(NOON)
    assert policy.rewrite(None, image) == expected


def test_a_rewrite_depends_on_the_namespace_through_its_denials() -> None:
    policy = parse_policy(
        policy_text(
            "deny: [{image: docker.io, namespaces: [shop]}]\nmirrors: [{from: docker.io, to: r.io/hub}]"
        )
    ).at(NOON)
    assert policy.rewrite("shop", "nginx") is None
    assert policy.rewrite("pay", "nginx") == "r.io/hub/library/nginx"


def test_manifests_are_known_ahead_if_a_requirement_with_look_ups_names_them_exactly() -> None:
    digest = "sha256:" + "7c" * 32
    named = ["a.io/x:1", f"a.io/y@{digest}"]
    others = ["a.io/x:1.*", "a.io/*:1", "a.io/z", "a.io", "a.io/w/**"]
    require = [{"images": [*named, *others], "exists": True}, {"images": ["a.io/v:1"], "digest": True}]
    policy = parse_policy(policy_text(f"require: {json.dumps(require)}\n")).at(NOON)
    assert [str(manifest) for manifest in policy.named_manifests] == named


@pytest.mark.parametrize(
    "require",
    [
        {"images": [f"a{n}.io/x:1" for n in range(500)], "exists": True},
        {"images": [f"*.a{n}.io" for n in range(500)], "digest": True},
    ],
)
def test_the_look_ups_of_requirements_are_found_in_small_steps(require: dict[str, Any]) -> None:
    policies = [{**require, "images": images} for images in (["a.io"], require["images"])]
    texts = (policy_text(f"require: [{json.dumps(each)}]\n", mode="mutate") for each in policies)
    few, many = (sum(1 for _ in parse_policy(text).compiling(NOON)) for text in texts)
    assert many - few > 28, "24 steps index the patterns, and 9 find the look-ups"


def test_registries_are_found_by_host() -> None:
    text = policy_text("registries: [{host: registry.corp.io, rate: 5}, {host: 'mirror.corp.io:5000'}]\n")
    registries = parse_policy(text).at(NOON).registries
    assert list(registries.entries) == ["registry.corp.io", "mirror.corp.io:5000"]
    assert registries.of("registry.corp.io").rate == 5


def test_the_overrides_of_namespaces_can_be_counted_and_listed() -> None:
    text = policy_text("namespaces: [{names: [a, b], mode: warn}, {names: [c], mode: mutate}]\n")
    overrides = parse_policy(text).at(NOON).overrides
    assert len(overrides) == 2
    assert [each.mode.name for each in overrides] == ["warn", "mutate"]


def test_a_policy_lints_itself() -> None:
    assert lint(parse_policy(policy_text(allow="['*.io@*']")), NOON)[0].code == "broad-host"


MIRRORS: Final = "mirrors: [{from: docker.io, to: a.io/hub}]\n"
PINS: Final = "require: [{images: ['*/**'], digest: true, mode: warn}]\n"
LOOKS_UP: Final = "require: [{images: [a.io], exists: true}]\n"
NEVER: Final = Rewriting(possible=False)
ALWAYS: Final = Rewriting(possible=True)
UNTIL_MAY_3: Final = Rewriting(possible=True, until=datetime(2026, 5, 3, tzinfo=UTC))


@pytest.mark.parametrize(
    ("parts", "mode", "overrides", "expected"),
    [
        pytest.param(MIRRORS, "mutate", "", ALWAYS, id="mirrors"),
        pytest.param(MIRRORS, "enforce", "", NEVER, id="not-in-this-mode"),
        pytest.param("", "mutate", "", NEVER, id="no-mirrors"),
        pytest.param(PINS, "mutate", "", ALWAYS, id="pins"),
        pytest.param(PINS, "enforce", "", NEVER, id="pins-not-in-this-mode"),
        pytest.param(LOOKS_UP, "mutate", "", NEVER, id="look-ups-without-a-digest"),
        pytest.param(MIRRORS, "enforce", "mode: mutate", ALWAYS, id="override"),
        pytest.param(MIRRORS, "enforce", "mode: warn", NEVER, id="another-override"),
        pytest.param(MIRRORS, "enforce", "mode: mutate, until: 2026-04-30", NEVER, id="expired-override"),
        pytest.param(
            MIRRORS,
            "enforce",
            "mode: mutate, until: 2026-05-02}, {names: [y], mode: mutate, until: 2026-05-03",
            UNTIL_MAY_3,
            id="overrides-that-expire",
        ),
        pytest.param(
            MIRRORS,
            "enforce",
            "mode: mutate, until: 2026-05-02}, {names: [y], mode: mutate",
            ALWAYS,
            id="one-that-stays",
        ),
    ],
)
def test_a_policy_rewrites_with_mirrors_or_required_digests_and_mutate_mode(
    parts: str, mode: str, overrides: str, expected: Rewriting
) -> None:
    namespaces = f"namespaces: [{{names: [x], {overrides}}}]\n" if overrides else ""
    text = policy_text(parts + namespaces, mode=mode)
    assert parse_policy(text).rewriting(datetime(2026, 5, 1, tzinfo=UTC)) == expected
