"""``compile``: match conditions as JSON and as patches, and a native policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from gatekeeper_py.core import parse_policy
from support.builders import policy_text
from support.commanding import Command, Done, Write

TEXT = policy_text(
    "mirrors: [{from: gcr.io, to: registry.corp.io/gcr}]\n",
    allow="[registry.corp.io, {image: b.io, until: 2999-01-01}, 'foo:443/', gcr.io]",
)


Compiled = Callable[..., Done]
CONDITIONS: Final = "match-conditions"
NATIVE: Final = "validating-admission-policy"


@pytest.fixture
def compiled(command: Command, write: Write) -> Compiled:
    """Return a function that compiles a policy to a target."""
    return lambda text, target, *options: command("compile", write(text), "--to", target, *options)


def test_match_conditions(compiled: Compiled) -> None:
    done = compiled(TEXT, CONDITIONS, "--format", "json")
    answer = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert list(answer) == ["validating", "mutating", "validUntil", "rules"]
    assert answer["validating"].startswith("!(type(object) == map")
    assert "gcr[.]io" not in answer["mutating"]
    assert answer["validUntil"] == "2999-01-01T00:00:00Z"
    why = "no image of it can be written in full"
    shown = [(each["index"], each["image"], each["validating"], each["mutating"]) for each in answer["rules"]]
    assert shown == [
        (0, "registry.corp.io", "", ""),
        (1, "b.io", "", ""),
        (2, "foo:443/", why, why),
        (3, "gcr.io", "", "mirrors[0] rewrites all of it"),
    ]
    patches = compiled(TEXT, CONDITIONS).out
    assert "# Replace them before 2999-01-01T00:00:00Z" in patches
    assert "# allow[0] registry.corp.io: validating: skipped\n" in patches
    documents = {each["kind"]: each for each in yaml.safe_load_all(patches)}
    assert list(documents) == ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"]
    for document, expression in zip(
        documents.values(), (answer["validating"], answer["mutating"]), strict=True
    ):
        revision = parse_policy(TEXT).revision
        assert document["metadata"]["annotations"] == {"gatekeeper-py/fast-path-revision": revision}
        (webhook,) = document["webhooks"]
        assert webhook["name"] == f"pods.{document['metadata']['name']}.gatekeeper-py"
        assert webhook["matchConditions"] == [{"name": "not-pre-approved", "expression": expression}]


def test_a_policy_that_pre_approves_nothing_has_no_condition(compiled: Compiled) -> None:
    text = policy_text(allow="['foo:443/']")
    answer = json.loads(compiled(text, CONDITIONS, "--format", "json").out)
    assert (answer["validating"], answer["mutating"], answer["validUntil"]) == (None, None, None)
    assert "Nothing is pre-approved" in compiled(text, CONDITIONS).out


def test_native_policies_have_bindings_and_are_the_same_in_json(compiled: Compiled) -> None:
    text = policy_text("namespaces: [{names: [dev], mode: warn}]\n")
    done = compiled(text, NATIVE)
    assert (done.code, done.err) == (0, "")
    documents = list(yaml.safe_load_all(done.out))
    assert [(each["kind"], each["metadata"]["name"]) for each in documents] == [
        (f"ValidatingAdmissionPolicy{suffix}", name)
        for name in ("gatekeeper-py-images", "gatekeeper-py-images-warn")
        for suffix in ("", "Binding")
    ]
    (selector,) = documents[0]["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert selector["values"][:2] == ["gatekeeper-py", "kube-system"]
    listed = json.loads(compiled(text, NATIVE, "--format", "json").out)
    assert listed == {"apiVersion": "v1", "kind": "List", "items": documents}


def test_exempt_namespaces_replace_the_default_and_stay_text(compiled: Compiled) -> None:
    options = ("--exempt-namespace", "12e5", "--exempt-namespace", "infra", "--static")
    done = compiled(policy_text(), NATIVE, *options)
    policy, binding = yaml.safe_load_all(done.out)
    (selector,) = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert selector["values"][:2] == ["12e5", "infra"]
    assert "- '12e5'\n" in done.out  # kubectl would read it as a number without the quotes
    assert policy["metadata"]["name"] == "gatekeeper-py-images.static.k8s.io"
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_a_rule_that_cannot_be_expressed_exits_with_1(compiled: Compiled, tmp_path: Path) -> None:
    more = "require: [{images: [c.io/x], exists: true}]\n"
    text = policy_text(more, allow="[a.io, {image: b.io, until: 2999-01-01}, c.io/x]")
    done = compiled(text, NATIVE)
    assert (done.code, done.out) == (1, "")
    assert done.err.replace(f"{tmp_path}/", "").splitlines() == [
        "policy.yaml: allow[1] b.io: it will expire, and a native policy has no clock",
        "policy.yaml: require[0]: it needs a look-up in a registry, which a native policy cannot do",
        "A wider policy can be compiled with --backstop.",
    ]
    backstop = compiled(text, NATIVE, "--backstop")
    assert (backstop.code, backstop.err) == (0, "")
    assert len(list(yaml.safe_load_all(backstop.out))) == 2


def test_a_backstop_without_room_does_not_propose_itself(compiled: Compiled) -> None:
    rules = ", ".join(f"'*r{number}.io'" for number in range(2000))
    done = compiled(policy_text(allow=f"[{rules}]"), NATIVE, "--backstop")
    assert (done.code, done.out) == (1, "")
    assert "the expression would become too long or too expensive" in done.err
    assert "--backstop" not in done.err


@pytest.mark.parametrize("options", [(), ("--backstop",)])
def test_a_native_policy_of_a_policy_with_grants_is_noted_to_know_no_exceptions(
    compiled: Compiled, options: tuple[str, ...]
) -> None:
    grants = "exceptions: [{source: namespace, images: ['ghcr.io/**'], longest: 14d}]\n"
    done = compiled(policy_text(grants), NATIVE, *options)
    assert done.code == 0
    assert "rejects what only an exception approves" in done.err
