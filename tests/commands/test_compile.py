"""``compile``: match conditions as JSON and as patches, and native policies."""

from __future__ import annotations

import json

import pytest
import yaml

from builders import policy_text
from commanding import Command, Write
from gatekeeper_py.core import parse_policy

TEXT = policy_text(
    "mirrors: [{from: gcr.io, to: registry.corp.io/gcr}]\n",
    allow="[registry.corp.io, {image: b.io, until: 2999-01-01}, 'foo:443/', gcr.io]",
)


def test_match_conditions_as_json(command: Command, write: Write) -> None:
    done = command("compile", write(TEXT), "--to", "match-conditions", "--format", "json")
    answer = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert list(answer) == ["validating", "mutating", "validUntil", "rules"]
    assert answer["validating"].startswith("!(type(object) == map")
    assert "gcr[.]io" not in answer["mutating"]
    assert answer["validUntil"] == "2999-01-01T00:00:00Z"
    assert [row["index"] for row in answer["rules"]] == [0, 1, 2, 3]
    assert answer["rules"][2] == {
        "list": "allow",
        "index": 2,
        "image": "foo:443/",
        "validating": "no image of it can be written in full",
        "mutating": "no image of it can be written in full",
    }
    assert answer["rules"][3]["validating"] == ""
    assert answer["rules"][3]["mutating"] == "mirrors[0] rewrites all of it"


def test_match_conditions_as_patches(command: Command, write: Write) -> None:
    done = command("compile", write(TEXT), "--to", "match-conditions")
    assert done.code == 0
    assert "# Replace them before 2999-01-01T00:00:00Z" in done.out
    assert "# allow[0] registry.corp.io: validating: skipped\n" in done.out
    documents = list(yaml.safe_load_all(done.out))
    assert [document["kind"] for document in documents] == [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ]
    revisions = {each["metadata"]["annotations"]["gatekeeper-py/fast-path-revision"] for each in documents}
    assert revisions == {parse_policy(TEXT).revision}
    (condition,) = documents[0]["webhooks"][0]["matchConditions"]
    as_json = command("compile", write(TEXT), "--to", "match-conditions", "--format", "json")
    assert condition == {"name": "not-pre-approved", "expression": json.loads(as_json.out)["validating"]}


def test_a_policy_that_pre_approves_nothing_has_no_condition(command: Command, write: Write) -> None:
    path = write(policy_text(allow="['foo:443/']"))
    answer = json.loads(command("compile", path, "--to", "match-conditions", "--format", "json").out)
    assert (answer["validating"], answer["mutating"], answer["validUntil"]) == (None, None, None)
    done = command("compile", path, "--to", "match-conditions")
    assert done.code == 0
    assert "Nothing is pre-approved" in done.out


NATIVE = ("--to", "validating-admission-policy")


def test_a_native_policy_as_yaml(command: Command, write: Write) -> None:
    path = write(policy_text("namespaces: [{names: [dev], mode: warn}]\n"))
    done = command("compile", path, *NATIVE)
    assert (done.code, done.err) == (0, "")
    documents = list(yaml.safe_load_all(done.out))
    assert [(each["kind"], each["metadata"]["name"]) for each in documents] == [
        ("ValidatingAdmissionPolicy", "gatekeeper-py-images"),
        ("ValidatingAdmissionPolicyBinding", "gatekeeper-py-images"),
        ("ValidatingAdmissionPolicy", "gatekeeper-py-images-warn"),
        ("ValidatingAdmissionPolicyBinding", "gatekeeper-py-images-warn"),
    ]
    (selector,) = documents[0]["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert selector["values"] == ["gatekeeper-py", "kube-system"]


def test_a_native_policy_as_json_is_one_list(command: Command, write: Write) -> None:
    path = write(policy_text())
    done = command("compile", path, *NATIVE, "--format", "json")
    answer = json.loads(done.out)
    assert (answer["apiVersion"], answer["kind"]) == ("v1", "List")
    assert answer["items"] == list(yaml.safe_load_all(command("compile", path, *NATIVE).out))


def test_exempt_namespaces_replace_the_default_and_stay_text(command: Command, write: Write) -> None:
    path = write(policy_text())
    options = ("--exempt-namespace", "12e5", "--exempt-namespace", "infra", "--static")
    done = command("compile", path, *NATIVE, *options)
    policy, binding = yaml.safe_load_all(done.out)
    (selector,) = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert selector["values"] == ["12e5", "infra"]
    assert "- '12e5'\n" in done.out  # kubectl would read it as a number without the quotes
    assert policy["metadata"]["name"] == binding["spec"]["policyName"] == "gatekeeper-py-images.static.k8s.io"


def test_a_rule_that_cannot_be_expressed_exits_with_1(command: Command, write: Write) -> None:
    text = policy_text(allow="[a.io, {image: b.io, until: 2999-01-01}, {image: c.io/x, verify: true}]")
    path = write(text)
    done = command("compile", path, *NATIVE)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        f"{path}: allow[1] b.io: it will expire, and a native policy has no clock",
        f"{path}: allow[2] c.io/x: it needs a look-up in a registry, which a native policy cannot do",
        "A wider policy can be compiled with --backstop.",
    ]
    backstop = command("compile", path, *NATIVE, "--backstop")
    assert (backstop.code, backstop.err) == (0, "")
    assert len(list(yaml.safe_load_all(backstop.out))) == 2


def test_a_backstop_without_room_does_not_propose_itself(command: Command, write: Write) -> None:
    rules = ", ".join(f"'*r{number}.io'" for number in range(2000))
    done = command("compile", write(policy_text(allow=f"[{rules}]")), *NATIVE, "--backstop")
    assert (done.code, done.out) == (1, "")
    assert "the expression would become too long or too expensive" in done.err
    assert "--backstop" not in done.err


MUTATING = ("--to", "mutating-admission-policy")


def test_mirrors_as_a_native_policy(command: Command, write: Write) -> None:
    path = write(policy_text("mirrors: [{from: docker.io, to: registry.corp.io/hub}]\n", mode="mutate"))
    done = command("compile", path, *MUTATING, "--static", "--exempt-namespace", "infra")
    assert (done.code, done.err) == (0, "")
    policy, binding = yaml.safe_load_all(done.out)
    assert (policy["kind"], binding["kind"]) == ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
    assert binding["spec"] == {"policyName": "gatekeeper-py-mirrors.static.k8s.io"}


def test_a_policy_that_rewrites_nothing_has_no_mutating_policy(command: Command, write: Write) -> None:
    path = write(policy_text("mirrors: [{from: docker.io, to: registry.corp.io/hub}]\n"))
    done = command("compile", path, *MUTATING)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# The policy rewrites nothing")
    assert json.loads(command("compile", path, *MUTATING, "--format", "json").out)["items"] == []


@pytest.mark.parametrize("options", [(), ("--backstop",)])
def test_a_native_policy_of_a_policy_with_grants_is_noted_to_know_no_exceptions(
    command: Command, write: Write, options: tuple[str, ...]
) -> None:
    grants = "exceptions: [{source: namespace, images: ['ghcr.io/**'], longest: 14d}]\n"
    to = ("--to", "validating-admission-policy", *options)
    done = command("compile", write(policy_text(grants)), *to)
    assert done.code == 0
    assert "rejects what only an exception approves" in done.err
    assert command("compile", write(policy_text()), *to).err == ""
