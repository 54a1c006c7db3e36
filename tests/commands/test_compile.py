"""``compile``: the match conditions of a policy, as JSON and as patches."""

from __future__ import annotations

import json

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
    assert "# Replace them before 2999-01-01T00:00:00+00:00" in done.out
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


def test_an_unusable_policy_exits_with_2(command: Command, write: Write) -> None:
    done = command("compile", write(policy_text(allow="[nginx]")), "--to", "match-conditions")
    assert (done.code, done.out) == (2, "")
    assert "error[" in done.err
