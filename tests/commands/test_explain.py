"""``explain``: why an image is approved or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import HUB_TO_CORP, policy_text
from commanding import Command, Write

RICH = policy_text(
    """
deny:
  - {image: registry.corp.io/old/**, reason: "it is gone", owner: platform}
mirrors:
  - {from: docker.io, to: registry.corp.io/dockerhub}
""",
    allow="""
  - registry.corp.io/**
  - {image: "quay.io/team/app:v*", namespaces: [team-*], until: 2030-01-01, owner: ana, reason: trial}
""",
)


def explained(command: Command, *arguments: object, code: int) -> list[dict[str, Any]]:
    done = command("explain", *arguments, "--format", "json")
    assert (done.code, done.err) == (code, "")
    answer: list[dict[str, Any]] = json.loads(done.out)
    for each in answer:
        assert list(each) == [
            "image", "namespace", "canonical", "verdict", "reason", "detail", "rule", "origins", "rewritten",
            "nearest",
        ]  # fmt: skip
        assert each["verdict"] in {"approved", "rejected"}
        assert each["reason"] in {"allowed", "denied", "unlisted", "invalid"}
        assert isinstance(each["detail"], str)
        assert isinstance(each["origins"], list)
        assert all(list(miss) == ["rule", "missed"] for miss in each["nearest"])
        if each["rule"] is not None:
            assert list(each["rule"])[:3] == ["list", "index", "image"]
    return answer


def test_an_approved_image(command: Command, write: Write) -> None:
    (answer,) = explained(command, write(RICH), "registry.corp.io/web:1", code=0)
    assert answer == {
        "image": "registry.corp.io/web:1",
        "namespace": None,
        "canonical": "registry.corp.io/web:1",
        "verdict": "approved",
        "reason": "allowed",
        "detail": answer["detail"],
        "rule": {"list": "allow", "index": 0, "image": "registry.corp.io/**"},
        "origins": [],
        "rewritten": None,
        "nearest": [],
    }


def test_a_denied_image_names_the_rule_and_its_reason(command: Command, write: Write) -> None:
    (answer,) = explained(command, write(RICH), "registry.corp.io/old/app", code=1)
    assert (answer["verdict"], answer["reason"]) == ("rejected", "denied")
    assert (answer["rule"]["list"], answer["rule"]["index"]) == ("deny", 0)
    assert (answer["rule"]["owner"], answer["rule"]["reason"]) == ("platform", "it is gone")


def test_an_unlisted_image_shows_what_nearly_matched_and_its_rewrite(command: Command, write: Write) -> None:
    hub, quay = explained(command, write(RICH), "nginx", "quay.io/team/app:v1", code=1)
    assert hub["canonical"] == "docker.io/library/nginx"
    assert hub["rewritten"] == "registry.corp.io/dockerhub/library/nginx"
    assert (quay["reason"], quay["rule"]) == ("unlisted", None)
    assert quay["nearest"][0]["rule"]["image"] == "quay.io/team/app:v*"
    assert "namespace" in quay["nearest"][0]["missed"]


def test_an_image_on_a_mirror_names_its_origin(command: Command, write: Write) -> None:
    (answer,) = explained(command, write(RICH), "registry.corp.io/dockerhub/library/nginx", code=0)
    assert answer["origins"] == ["docker.io/library/nginx"]


@pytest.mark.parametrize("image", ["", "NGINX", "a\nb", "\x1b[31m", "é", "x" * 5000, "\udcff"])
def test_an_invalid_image_stands_in_json_as_written(command: Command, write: Write, image: str) -> None:
    (answer,) = explained(command, write(RICH), image, code=1)
    assert (answer["image"], answer["canonical"], answer["reason"]) == (image, None, "invalid")
    text = command("explain", write(RICH), image)
    assert text.code == 1
    assert all(character.isprintable() or character == "\n" for character in text.out)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param([], 1, id="no-namespace"),
        pytest.param(["-n", "shop"], 1, id="other-namespace"),
        pytest.param(["-n", "team-a"], 0, id="namespace"),
        pytest.param(["--namespace", "team-a"], 0, id="long-option"),
        pytest.param(["-n", "team-a", "--at", "2029-12-31"], 0, id="before-it-expires"),
        pytest.param(["-n", "team-a", "--at", "2030-01-01"], 1, id="when-it-expires"),
        pytest.param(["-n", "team-a", "--at", "2029-12-31T23:59:59Z"], 0, id="a-second-before"),
        pytest.param(["-n", "team-a", "--at", "2030-01-01T00:30:00+01:00"], 0, id="with-an-offset"),
    ],
)
def test_namespace_and_time(command: Command, write: Write, options: list[str], code: int) -> None:
    (answer,) = explained(command, write(RICH), "quay.io/team/app:v1", *options, code=code)
    assert answer["namespace"] == (options[1] if options else None)


def test_text_shows_the_whole_way(command: Command, write: Write) -> None:
    done = command("explain", write(RICH), "nginx:1.25", "-n", "shop")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "rejected nginx:1.25"
    labels = [line[2:13].strip() for line in lines[1:] if line]
    assert labels[:3] == ["namespace", "canonical", "because"]
    assert "near miss" in labels
    assert labels[-1] == "mutate"
    assert "registry.corp.io/dockerhub/library/nginx:1.25 (approved)" in done.out


def test_one_rejected_of_many_exits_with_1(command: Command, write: Write) -> None:
    answers = explained(command, write(RICH), "registry.corp.io/a", "nginx", "registry.corp.io/b", code=1)
    assert [answer["verdict"] for answer in answers] == ["approved", "rejected", "approved"]


@pytest.mark.parametrize("text", ["", "a: [", policy_text(allow="[nginx]"), policy_text("colour: red\n")])
def test_a_bad_policy_exits_with_2_and_its_findings_on_stderr(
    command: Command, write: Write, text: str
) -> None:
    done = command("explain", write(text), "nginx")
    assert (done.code, done.out) == (2, "")
    assert "error[" in done.err


@pytest.mark.parametrize(
    "arguments",
    [["nginx"], ["nginx", "x", "--at", "yesterday"], ["nginx", "x", "--at", "2030-01-01T00:00:00"], []],
)
def test_bad_usage_exits_with_2(command: Command, arguments: list[str]) -> None:
    done = command("explain", *arguments)
    assert (done.code, done.out) == (2, "")


def test_the_policy_can_come_from_stdin(command: Command) -> None:
    done = command("explain", "-", "registry.corp.io/a", stdin=policy_text(HUB_TO_CORP))
    assert done.code == 0


def test_text_names_the_owner_and_how_the_image_was_matched(command: Command, write: Write) -> None:
    done = command("explain", write(RICH), "quay.io:443/team/app:v1", "-n", "team-a")
    assert done.code == 0
    for line in ("matched as quay.io/team/app", "owner      ana", "reason     trial"):
        assert f"  {line}\n" in done.out


def test_text_states_why_an_image_cannot_be_rewritten(command: Command, write: Write) -> None:
    done = command("explain", write(RICH), "docker.io/team/" + "a" * 240)
    assert "mutate     left as written: on its mirror the name would be longer than 255" in done.out


def test_text_names_what_a_mirror_mirrors(command: Command, write: Write) -> None:
    done = command("explain", write(RICH), "registry.corp.io/dockerhub/library/nginx")
    assert "  mirrors    docker.io/library/nginx\n" in done.out


FAST = policy_text(
    """
deny: [ghcr.io/org/old/**]
mirrors: [{from: gcr.io, to: registry.corp.io/gcr}]
""",
    allow="[registry.corp.io, {image: ghcr.io/org/**, namespaces: [shop], until: 2030-01-01}, 'gcr.io@*']",
)
PINNED = "gcr.io/x@sha256:" + "7c" * 32


def test_explain_reports_how_the_fast_path_handles_an_image(command: Command, write: Write) -> None:
    images = ("registry.corp.io/web:1", "nginx", "\x1b[31m", PINNED, "ghcr.io/org/old/x")
    done = command("explain", write(FAST), *images, "--fast-path", "-n", "shop", "--at", "2026-01-01")
    assert (done.code, done.err) == (0, "")
    for lines in (
        "pre-approved registry.corp.io/web:1\n  validating skipped: allow[0] registry.corp.io approves it\n",
        "calls the webhook nginx\n  validating it is not written in full: docker.io/library/nginx, then",
        f"calls the webhook {PINNED}\n  validating skipped: allow[2] gcr.io@* approves it\n  mutating   ",
        "\n  mutating   allow[2] gcr.io@* matches it, but mirrors[0] rewrites all of it\n",
        "calls the webhook ghcr.io/org/old/x\n  validating it is excluded: deny[0] ghcr.io/org/old/**\n",
    ):
        assert lines in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("more", "approved"),
    [
        (["-n", "shop", "--at", "2026-01-01"], True),
        (["-n", "other", "--at", "2026-01-01"], False),
        (["-n", "shop", "--at", "2030-01-01"], False),
    ],
)
def test_the_fast_path_is_that_of_a_namespace_at_an_instant(
    command: Command,
    write: Write,
    more: list[str],
    approved: bool,  # noqa: FBT001
) -> None:
    done = command("explain", write(FAST), "ghcr.io/org/x:1", "--fast-path", "--format", "json", *more)
    (answer,) = json.loads(done.out)
    assert done.code == 0
    assert list(answer) == ["image", "namespace", "validating", "mutating"]
    assert (answer["image"], answer["namespace"]) == ("ghcr.io/org/x:1", more[1])
    assert answer["validating"]["preApproved"] is approved
    assert answer["mutating"]["preApproved"] is (more[3] < "2030")


def test_the_fast_path_option_requires_an_image(command: Command, write: Write) -> None:
    done = command("explain", write(FAST), "--fast-path")
    assert (done.code, done.out) == (2, "")


def test_the_fast_path_of_a_bad_policy_exits_with_2(command: Command, write: Write) -> None:
    done = command("explain", write(policy_text(allow="[nginx]")), "x", "--fast-path")
    assert (done.code, done.out) == (2, "")
    assert "error[" in done.err


RULES = policy_text(
    "deny: [a.io/private]\n",
    allow="[a.io, {image: b.io, namespaces: [shop]}, a.io/team, {image: c.io, until: 2020-01-01}]",
)


@pytest.mark.parametrize(
    ("rule", "code", "message"),
    [
        pytest.param("0", 0, "a.io/x: the shortest image that only this rule approves", id="number"),
        pytest.param("allow[1]", 0, "namespace  shop", id="namespace"),
        pytest.param("2", 1, "no image: other rules approve, or deny, all that it matches", id="dead"),
        pytest.param("3", 1, "it decides nothing any more", id="expired"),
        pytest.param("deny[0]", 0, "a.io/private: the shortest image that only this rule denies", id="deny"),
    ],
)
def test_explain_reports_an_image_that_needs_the_rule(
    command: Command, write: Write, rule: str, code: int, message: str
) -> None:
    done = command("explain", write(RULES), "--rule", rule)
    assert (done.code, done.err) == (code, "")
    assert message in done.out


def test_json_reports_an_image_that_needs_the_rule(command: Command, write: Write) -> None:
    done = command("explain", write(RULES), "--rule", "1", "--format", "json")
    assert json.loads(done.out) == {
        "rule": {"list": "allow", "index": 1, "image": "b.io", "namespaces": ["shop"]},
        "expired": False,
        "image": "b.io/x",
        "namespace": "shop",
    }
    done = command("explain", write(RULES), "--rule", "3", "--at", "2019-01-01", "--format", "json")
    assert (json.loads(done.out)["expired"], json.loads(done.out)["image"]) == (False, "c.io/x")
    done = command("explain", write(RULES), "--rule", "2", "--format", "json")
    assert (done.code, json.loads(done.out)["image"]) == (1, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--rule", "9"), "there is no allow[9]; the policy has 4 such rules", id="too-high"),
        pytest.param(("--rule", "deny[1]"), "there is no deny[1]", id="deny"),
        pytest.param(("--rule", "-1"), "is not a number, allow[N] or deny[N]", id="negative"),
        pytest.param(("--rule", "9" * 5000), "is not a number", id="huge"),
        pytest.param(("nginx", "--rule", "0"), "--rule takes no image", id="image"),
        pytest.param(("--rule", "0", "-n", "shop"), "--rule takes no image", id="and-namespace"),
    ],
)
def test_a_rule_that_does_not_exist_is_bad_usage(
    command: Command, write: Write, arguments: tuple[str, ...], message: str
) -> None:
    done = command("explain", write(RULES), *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@pytest.mark.parametrize("namespace", ["", "a b", "-a"])
def test_a_name_that_no_namespace_can_have_is_refused(command: Command, write: Write, namespace: str) -> None:
    done = command("explain", write(policy_text()), "nginx", "-n", namespace)
    assert (done.code, done.out) == (2, "")
    assert "is not a valid namespace name" in done.err
