"""``compile``: match conditions as JSON and as patches, and a native policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import pytest
import yaml

from support.builders import policy_text
from support.commanding import Command, Done, Write

Compiled = Callable[..., Done]
NATIVE: Final = "validating-admission-policy"


@pytest.fixture
def compiled(command: Command, write: Write) -> Compiled:
    """Return a function that compiles a policy to a target."""
    return lambda text, target, *options: command("compile", write(text), "--to", target, *options)


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
