"""``check``: findings with their positions, and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper_py.core import parse_policy
from support.builders import policy_text
from support.commanding import Command, Done, Write

Check = Callable[..., Done]
Findings = Callable[..., list[tuple[str, int]]]

CLEAN = policy_text("deny: ['*/**:latest']\n")
BAD = policy_text("colour: red\ndeny:\n", mode="audit", allow="[nginx, registry.corp.io]")


@pytest.fixture
def check(command: Command) -> Check:
    """Return a function that checks a text."""
    return lambda text, *options: command("check", "-", *options, stdin=text)


@pytest.fixture
def findings(check: Check) -> Findings:
    """Return a function that returns the code and the line of each finding about a text."""

    def findings(text: str, *options: object) -> list[tuple[str, int]]:
        found = json.loads(check(text, *options, "--format", "json").out)["findings"]
        return [(each["code"], each["line"]) for each in found]

    return findings


@pytest.mark.parametrize("style", ["text", "json"])
def test_deep_nesting_is_a_finding(command: Command, write: Write, check: Check, style: str) -> None:
    deep = "[" * 100_000
    for done in (command("check", write(deep), "--format", style), check(deep, "--format", style)):
        assert (done.code, done.err) == (1, "")
        assert "yaml-syntax" in done.out


def stream(*documents: str) -> str:
    return "---\n".join(documents)


@pytest.fixture(params=["match-conditions", "validating-admission-policy"])
def compiled(command: Command, write: Write, request: pytest.FixtureRequest) -> str:
    """Return what was compiled from the policy ``CLEAN``."""
    return command("compile", write(CLEAN), "--to", request.param).out


def test_objects_compiled_from_another_policy_cause_a_warning(
    check: Check, findings: Findings, compiled: str
) -> None:
    assert findings(stream(CLEAN, compiled)) == []
    changed = stream(CLEAN.replace("registry.corp.io", "other.example"), compiled)
    (older, *_) = findings(changed)
    assert older[0] == "compiled-from-another"
    done = check(changed)
    assert done.code == 0
    assert f"was compiled from the revision {parse_policy(CLEAN).revision}" in done.out.replace("\n  ", " ")
    assert check(changed, "--strict").code == 1
    assert "compiled-from-another" not in {code for code, _ in findings(stream(BAD, compiled))}


def test_a_warning_about_a_compiled_object_shows_its_line(check: Check, compiled: str) -> None:
    changed = json.dumps(CLEAN.replace("registry.corp.io", "other.example"))
    quoted = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: policy}}\ndata: {{policy.yaml: {changed}}}\n"
    )
    shown = check(stream(quoted, compiled.partition("---\n")[2])).out
    assert re.search(r"^  6 \| \w", shown, re.MULTILINE)


def test_a_deep_document_of_a_stream_is_a_finding_that_quotes_nothing(
    check: Check, findings: Findings
) -> None:
    deep = "[" * 20_000
    for documents, line in (((deep, CLEAN), 1), ((CLEAN, deep), CLEAN.count("\n") + 2)):
        text = stream(*documents)
        assert findings(text) == [("yaml-syntax", line)]
        done = check(text)
        assert (done.code, " | " in done.out) == (1, False)


def test_a_stream_with_too_many_broken_documents_is_exit_2(check: Check) -> None:
    assert check(stream(CLEAN, *["a: [\n"] * 100)).out.count("error[") == 100
    done = check(stream(CLEAN, *["a: [\n"] * 101))
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: <stdin>: more than 100 of its documents cannot be read\n"


PRIVATE: Final = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    .decode()
)
BODY: Final = "".join(PRIVATE.splitlines()[1:-1])


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([{"name": "ci", "key": PRIVATE}], id="key"),
        pytest.param([{"name": PRIVATE, "key": "x"}], id="name"),
        pytest.param([{"name": "ci", "key": [PRIVATE]}], id="list"),
        pytest.param([PRIVATE], id="entry"),
        pytest.param([{"name": "ci", "key": BODY}], id="key-without-its-first-line"),
        pytest.param([{"name": "ci", "key": [BODY]}], id="list-without-its-first-line"),
        pytest.param([BODY], id="entry-without-its-first-line"),
    ],
)
def test_a_private_key_on_the_line_of_a_finding_is_not_shown(
    command: Command, write: Write, keys: list[Any]
) -> None:
    given = write(policy_text(f"keys: {json.dumps(keys)}\n"))
    for arguments in (("check", given), ("explain", given, "nginx")):
        done = command(*arguments)
        assert "keys[0]" in done.out + done.err
        assert not any(line[:20] in done.out + done.err for line in PRIVATE.splitlines()[1:-1])
