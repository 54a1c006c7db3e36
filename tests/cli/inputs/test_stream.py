"""Commands report each document of a stream that may be a policy or exceptions and cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from support.builders import exceptions_text, in_configmap, pod, policy_text
from support.commanding import Command, Write

POLICY: Final = policy_text("exceptions: [{source: namespace, images: [ghcr.io], longest: 400d}]\n")
ENTRY: Final = "image: ghcr.io/x, until: 2026-04-01, reason: r"
EXCEPTIONS: Final = {
    "exceptions": exceptions_text(ENTRY),
    "configmap-of-exceptions": in_configmap(exceptions_text(ENTRY)),
}
DOCUMENTS: Final = {
    "policy": POLICY,
    "configmap-of-a-policy": in_configmap(POLICY, "gatekeeper-py", "gatekeeper-py-policy").replace(
        "exceptions.yaml", "policy.yaml"
    ),
    **EXCEPTIONS,
}


def kind_of(document: str) -> str:
    return next(line for line in document.splitlines() if line.startswith("kind: "))


def spelt(value: str, before: str = "") -> Callable[[str], str]:
    """Return a function that writes the kind in another way that YAML allows."""
    return lambda text: (
        before.replace("KIND", kind_of(text)[6:])
        + text.replace(kind_of(text), value.replace("KIND", kind_of(text)[6:]), 1)
    )


def commented(character: str) -> Callable[[str], str]:
    return lambda text: f"# {character}\n{text}"


def ended_by(character: str) -> Callable[[str], str]:
    """Return a function that writes a document on the line of a comment, after a line break of libyaml."""
    return lambda text: f"# c{character}{json.dumps(yaml.safe_load(text), default=str)}\n"


HOSTILE: Final[dict[str, Callable[[str], str]]] = {
    **{
        f"U+{ord(character):04X}-in-a-comment": commented(character)
        for character in "\u202e\u2066\u200f\x85\u2028\x7f\x01\ufffe"
    },
    **{
        f"a-comment-that-U+{ord(character):04X}-ends": ended_by(character)
        for character in "\r\x85\u2028\u2029"
    },
    "a-comment-after-a-field-that-U+2028-ends": lambda text: f"x: 1 # c\u2028{text}",
    "a-bare-carriage-return": lambda text: f"# a\rb\n{text}",
    "U+202E-in-a-value": lambda text: f"note: a\u202eb\n{text}",
    "nested-too-deep": lambda text: f"x: {'[' * 80}{']' * 80}\n{text}",
    "a-tag": spelt("kind: !!str KIND"),
    "an-alias": spelt("kind: *k", "x: &k KIND\n"),
    "a-merge-key": spelt("<<: *k", "x: &k {kind: KIND}\n"),
    "a-merge-key-after-the-field": spelt("kind: Secret\n<<: *k", "x: &k {kind: KIND}\n"),
    "a-key-given-twice": lambda text: f"kind: Deployment\n{text}",
    "not-yaml": lambda text: f"{text}\n - [",
}
OTHER: Final = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_check_reports_a_document_that_it_cannot_read(
    command: Command, write: Write, kind: str, hostile: Callable[[str], str]
) -> None:
    first = POLICY if kind in EXCEPTIONS else EXCEPTIONS["configmap-of-exceptions"]
    good = f"{first}\n---\n{OTHER}\n---\n"
    assert command("check", write(good + DOCUMENTS[kind])).code == 0
    done = command("check", write(good + hostile(DOCUMENTS[kind])), "-o", "json")
    assert done.code == 1
    errors = [each for each in json.loads(done.out)["findings"] if each["severity"] == "error"]
    assert errors
    assert all(each["line"] > good.count("\n") for each in errors)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_commands_refuse_exceptions_that_they_cannot_read(
    command: Command, write: Write, kind: str, hostile: Callable[[str], str]
) -> None:
    policy = write(POLICY, "policy.yaml")
    bad = write(f"{OTHER}---\n{hostile(DOCUMENTS[kind])}", "exceptions.yaml")
    done = command("explain", policy, "ghcr.io/x", "-n", "team-a", "--at", "2026-03-01", "--exceptions", bad)
    assert done.code == 2
    assert "there are no exceptions" not in done.err
    assert "exceptions.yaml" in done.err
    assert re.search(r"exceptions\.yaml:\d+:\d+|line \d+", done.err)


def test_check_reports_a_policy_in_a_list_of_configmaps(command: Command, write: Write) -> None:
    item = {"metadata": {"name": "gatekeeper-py-policy"}, "data": {"policy.yaml": POLICY}}
    listed = json.dumps({"apiVersion": "v1", "kind": "ConfigMapList", "items": [item]})
    done = command("check", write(f"{POLICY}---\n{listed}\n"), "-o", "concise")
    assert done.code == 1
    assert "policy-in-list" in done.out


@pytest.mark.parametrize("kind", ["List", "Service", "ConfigMap", "ImageExceptions"])
@pytest.mark.parametrize(
    "item",
    [
        pytest.param({"data": {"policy.yaml": POLICY}}, id="policy"),
        pytest.param({"metadata": {"name": "gatekeeper-py-policy"}, "data": {"mode": "warn"}}, id="mode"),
        pytest.param({"binaryData": {"webhooks.yaml": ""}}, id="settings"),
        pytest.param(
            {"metadata": {"name": "gatekeeper-py-exceptions"}, "data": {"exceptions.yaml": "x"}},
            id="exceptions",
        ),
    ],
)
def test_check_reports_what_is_ours_in_what_kubectl_takes_for_a_list(
    command: Command, write: Write, kind: str, item: dict[str, object]
) -> None:
    """For kubectl, any object with items is a list (apimachinery, ``unstructuredJSONScheme.decode``)."""
    items = [{"apiVersion": "v1", "kind": "ConfigMap", **item}]
    listed = json.dumps({"apiVersion": "v1", "kind": kind, "items": items}).replace("yaml", "\\u0079aml")
    done = command("check", write(f"{POLICY}---\n{listed}\n"))
    assert (done.code, "error[" in done.out) == (1, True)
    assert command("check", write(f"{POLICY}---\n{listed.replace('ConfigMap', 'Secret')}\n")).code == (
        1 if kind == "ImageExceptions" else 0
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("kind: !!binary Q29uZmlnTWFw\ndata: {mode: warn}", id="base64"),
        pytest.param("kind: !<tag:yaml.org,2002:bin%61ry> Q29uZmlnTWFw\ndata: {}", id="base64-escaped"),
        pytest.param('kind: Secret\nkind: ConfigMap\ndata: {"policy\\x2eyaml": x}', id="escapes"),
        pytest.param(
            "kind: Secret\nkind: ConfigMap\nmetadata: {name: gatekeeper-py-policy}\ndata: {mode: warn}",
            id="name",
        ),
    ],
)
def test_check_reports_what_kubectl_reads_as_ours_in_another_spelling(
    command: Command, write: Write, text: str
) -> None:
    done = command("check", write(f"{POLICY}---\napiVersion: v1\n{text}\n"))
    assert (done.code, "error[yaml-syntax]" in done.out) == (1, True)


def test_check_reports_the_items_of_a_configmap_with_a_policy(command: Command, write: Write) -> None:
    item = {"metadata": {"name": "gatekeeper-py-policy"}, "data": {"mode": "warn"}}
    text = json.dumps({**yaml.safe_load(DOCUMENTS["configmap-of-a-policy"]), "items": [item]})
    done = command("check", write(text), "-o", "concise")
    assert (done.code, "policy-in-list" in done.out) == (1, True)


def test_every_command_with_exceptions_refuses_them(command: Command, write: Write, tmp_path: Path) -> None:
    policy = write(POLICY, "policy.yaml")
    bad = write(f"{OTHER}---\n# \u202e\n{DOCUMENTS['configmap-of-exceptions']}", "exceptions.yaml")
    manifest = write(json.dumps(pod("ghcr.io/x")), "pod.json")
    cases = {
        "apiVersion": "gatekeeper-py/v1",
        "kind": "ImagePolicyTest",
        "policy": "policy.yaml",
        "cases": [],
    }
    tests = write(json.dumps({**cases, "cases": [{"image": "ghcr.io/x", "expect": "rejected"}]}), "t.yaml")
    images = write("ghcr.io/x\n", "images")
    for arguments in (
        ("review", policy, manifest),
        ("test", tests),
        ("diff", policy, policy, "--images", images),
        ("audit", "--policy", policy, "--kubeconfig", tmp_path / "none"),
    ):
        done = command(*map(str, arguments), "--exceptions", str(bad))
        assert (done.code, "U+202E" in done.err) == (2, True), done.err
