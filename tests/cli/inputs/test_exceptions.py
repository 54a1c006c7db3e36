"""Commands read exceptions from manifests of ConfigMaps, lists of them, and documents of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.builders import exceptions_text, in_configmap, pod, policy_text
from support.commanding import Command, Done, Write

GRANTS = """
exceptions:
  - {source: namespace, images: [ghcr.io/**], longest: 400d, namespaces: [team-*]}
  - {source: installation, images: [quay.io/**], longest: 400d}
  - {source: break-glass, images: [b.io], longest: 400d, overrides: [deny]}
deny: [b.io]
"""
AT = "2026-03-01"
ENTRY = "until: 2026-04-01, reason: r"


@pytest.fixture
def policy(write: Write) -> Path:
    return write(policy_text(GRANTS))


def listed(*manifests: tuple[str, str]) -> str:
    """Return what ``kubectl get configmaps -o json`` prints."""
    items = [
        {
            "metadata": {"name": "gatekeeper-py-exceptions", "namespace": where},
            "data": {"exceptions.yaml": text},
        }
        for where, text in manifests
    ]
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMapList", "items": items})


GHCR = exceptions_text(f"image: ghcr.io/x, {ENTRY}")
QUAY = exceptions_text(f"image: quay.io/x, {ENTRY}")
B = exceptions_text(f"image: b.io/x, {ENTRY}")
BAD = exceptions_text("image: nginx, reason: r")


BREAK_GLASS = "gatekeeper-py-break-glass"
OF_SECRETS = listed(("team-a", GHCR)).replace('"metadata"', '"kind": "Secret", "metadata"')
OF_A_TENANT = f"{in_configmap(GHCR)}---\n{in_configmap(B, 'team-a', BREAK_GLASS)}"


@pytest.mark.parametrize(
    ("file", "options", "image", "code"),
    [
        pytest.param(in_configmap(GHCR), [], "ghcr.io/x", 0, id="a-configmap"),
        pytest.param(in_configmap(GHCR, "team-b"), [], "ghcr.io/x", 1, id="of-another-namespace"),
        pytest.param(in_configmap(GHCR, None), [], "ghcr.io/x", 0, id="without-a-namespace"),
        pytest.param(GHCR, [], "ghcr.io/x", 0, id="a-bare-document"),
        pytest.param(f"---\n{in_configmap(GHCR)}---\nkind: Other\n", [], "ghcr.io/x", 0, id="a-stream"),
        pytest.param(listed(("team-b", GHCR), ("team-a", GHCR)), [], "ghcr.io/x", 0, id="a-list"),
        pytest.param(
            f"{OF_SECRETS}\n---\n{in_configmap(GHCR, 'team-b')}", [], "ghcr.io/x", 1, id="of-secrets"
        ),
        pytest.param(in_configmap(QUAY, "gatekeeper-py"), [], "quay.io/x", 0, id="of-the-installation"),
        pytest.param(in_configmap(QUAY, "gk"), [], "quay.io/x", 1, id="of-no-installation"),
        pytest.param(in_configmap(QUAY, "gk"), ["--installation", "gk"], "quay.io/x", 0, id="of-another"),
        pytest.param(in_configmap(B, "gatekeeper-py", BREAK_GLASS), [], "b.io/x", 0, id="break-glass"),
        pytest.param(OF_A_TENANT, [], "b.io/x", 1, id="break-glass-of-a-tenant"),
    ],
)
def test_a_document_applies_to_the_namespaces_of_its_configmap(
    command: Command, write: Write, policy: Path, file: str, options: list[str], image: str, code: int
) -> None:
    path = write(file, "exceptions.yaml")
    arguments = ["explain", policy, image, "-n", "team-a", "--at", AT, "--exceptions", path, *options]
    assert command(*arguments).code == code


def test_a_directory_is_read_with_all_its_files(command: Command, write: Write, policy: Path) -> None:
    folder = write(in_configmap(GHCR), "folder/a.yaml").parent
    write(in_configmap(QUAY, "gatekeeper-py"), "folder/b.yaml")
    arguments = ["explain", policy, "ghcr.io/x", "quay.io/x", "-n", "team-a", "--at", AT]
    assert command(*arguments).code == 1
    assert command(*arguments, "--exceptions", folder).code == 0


TEAM_A = ["-n", "team-a"]


@pytest.mark.parametrize(
    ("files", "options", "problem"),
    [
        (
            [in_configmap(GHCR), in_configmap(GHCR)],
            TEAM_A,
            "the exceptions of team-a are given twice",
        ),
        ([GHCR], [], "add -n NAMESPACE"),
        (["kind: Other\n"], TEAM_A, "there are no exceptions"),
        (["kind: List\nitems: [{a: }\n"], TEAM_A, "not valid YAML or JSON"),
        ([in_configmap(GHCR) + "---\na: [\n"], TEAM_A, "0.yaml: not valid YAML or JSON at line"),
        ([in_configmap(BAD)], TEAM_A, "0.yaml:9:17 exceptions[0].image"),
        ([listed(("team-a", BAD))], TEAM_A, "(line 4 of the text)"),
        ([in_configmap(GHCR) + "  mode: warn\n"], TEAM_A, "the only key is exceptions.yaml"),
    ],
)
def test_bad_files_are_an_error_with_their_findings(
    command: Command, write: Write, policy: Path, files: list[str], options: list[str], problem: str
) -> None:
    paths = [write(text, f"{number}.yaml") for number, text in enumerate(files)]
    arguments = [argument for path in paths for argument in ("--exceptions", path)]
    done = command("explain", policy, "a.io/x", *options, *arguments)
    assert done.code == 2
    assert problem in done.err


def explained(command: Command, *arguments: object) -> Any:
    (found,) = json.loads(command("explain", *arguments, "--format", "json").out)
    return found


def test_explain_shows_the_exception_that_decides(command: Command, write: Write, policy: Path) -> None:
    path = write(in_configmap(exceptions_text(f"image: ghcr.io/x, {ENTRY}, owner: me")), "e.yaml")
    arguments = [policy, "ghcr.io/x:1", "-n", "team-a", "--exceptions", path, "--at"]
    found = explained(command, *arguments, AT)
    assert (found["verdict"], found["reason"], found["rule"]) == ("approved", "exception", None)
    assert found["exception"] == {
        "source": "namespace",
        "namespace": "team-a",
        "index": 0,
        "image": "ghcr.io/x",
        "until": "2026-04-01T00:00:00Z",
        "reason": "r",
        "owner": "me",
        "grant": 0,
    }
    assert explained(command, *arguments, "2026-05-02")["exception"] is None
    done = command("explain", *arguments, AT)
    assert (done.code, "  owner      me\n  reason     r\n" in done.out) == (0, True)
    done = command("explain", *arguments, "2026-04-02")
    assert (done.code, "  exception  ended 2026-04-01T00:00Z (me: r)\n" in done.out) == (1, True)


@pytest.mark.parametrize("image", ["b.io/x:2", "m.io/b/x:2"])
def test_explain_names_the_nearest_exceptions_of_a_deny_rule(
    command: Command, write: Write, image: str
) -> None:
    more = "deny: [{image: b.io, except: ['b.io/x:1']}]\nmirrors: [{from: b.io, to: m.io/b}]\n"
    found = explained(command, write(policy_text(more)), image)
    assert found["reason"] == "denied"
    assert [miss["missed"] for miss in found["nearest"]] == ["the tag is 2, the rule requires 1"]


def test_review_shows_the_exception_that_approves_an_image(
    command: Command, write: Write, policy: Path
) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    text = in_configmap(exceptions_text(f"image: ghcr.io/x, until: {until}, reason: r"))
    obj = pod("ghcr.io/x:1", "registry.corp.io/a", metadata={"name": "web", "namespace": "team-a"})
    manifest = json.dumps(obj, indent=1)
    exceptions = ("--exceptions", write(text, "exceptions.yaml"))
    arguments = ["review", policy, write(manifest, "pod.json"), *exceptions, "--format"]
    shown = {style: command(*arguments, style) for style in ("text", "junit", "sarif", "json")}
    assert {done.code for done in shown.values()} == {0}
    line = f"spec.containers[0].image: ghcr.io/x:1 is approved until {until}T00:00Z by an exception"
    assert f"  {line}\n" in shown["text"].out
    assert f"<system-out>{line}</system-out>" in shown["junit"].out
    (result,) = json.loads(shown["sarif"].out)["runs"][0]["results"]
    assert (result["ruleId"], result["level"], result["message"]["text"]) == ("image-exception", "note", line)
    start = result["locations"][0]["physicalLocation"]["region"]["startLine"]
    assert "ghcr.io/x:1" in manifest.splitlines()[start - 1]
    ((excepted, approved),) = (each["images"] for each in json.loads(shown["json"].out))
    explanation = explained(command, policy, "ghcr.io/x:1", "-n", "team-a", *exceptions)
    assert excepted["exception"] == explanation["exception"] is not None
    assert "exception" not in approved


@pytest.mark.parametrize(
    ("file", "options", "codes"),
    [
        pytest.param(in_configmap(QUAY), [], [], id="form-only"),
        pytest.param(in_configmap(QUAY), ["--policy", "POLICY"], ["exception-outside"], id="by-a-policy"),
        pytest.param(in_configmap(GHCR), ["--policy", "POLICY"], ["expired"], id="of-the-past"),
        pytest.param(BAD, [], ["bad-pattern", "missing-field"], id="bad"),
        pytest.param(
            f"{policy_text(GRANTS)}---\n{in_configmap(QUAY)}",
            [],
            ["exception-outside", "floating-latest"],
            id="by-the-policy-of-the-stream",
        ),
        pytest.param(QUAY, ["--policy", "POLICY"], ["namespace-unknown"], id="without-a-namespace"),
        pytest.param(
            QUAY, ["--policy", "POLICY", "-n", "team-a"], ["exception-outside"], id="with-a-namespace"
        ),
    ],
)
def test_check_judges_exceptions(
    command: Command, write: Write, policy: Path, file: str, options: list[str], codes: list[str]
) -> None:
    more = [policy if each == "POLICY" else each for each in options]
    done = command("check", write(file, "exceptions.yaml"), *more, "--format", "json")
    assert sorted(finding["code"] for finding in json.loads(done.out)["findings"]) == codes


def test_check_shows_the_line_in_the_file(command: Command, write: Write, policy: Path) -> None:
    path = write(f"kind: Other\n---\n{in_configmap(QUAY)}", "exceptions.yaml")
    done = command("check", path, "--policy", policy)
    assert done.code == 1
    assert "exceptions.yaml:11:5 exceptions[0]\n  11 |       - {image: quay.io/x" in done.out


TESTS = f"""apiVersion: gatekeeper-py/v1
kind: ImagePolicyTest
policy: policy.yaml
cases:
  - {{image: ghcr.io/x, namespace: team-a, at: {AT}, expect: approved, reason: exception}}
  - {{image: ghcr.io/x, namespace: team-a, at: 2026-04-01, expect: rejected, reason: unlisted}}
  - {{image: ghcr.io/x, namespace: team-b, at: {AT}, expect: rejected}}
"""


@pytest.fixture
def tested(command: Command, write: Write, policy: Path) -> Callable[..., Done]:
    """Return a function that runs files of tests, given as their fields after those of ``TESTS``."""

    def tested(*files: str, options: Sequence[object] = ()) -> Done:
        paths = [write(f"{TESTS}{text}", f"{number}.yaml") for number, text in enumerate(files)]
        return command("test", *paths, *options)

    return tested


def test_a_policy_test_can_expect_an_exception(tested: Callable[..., Done], write: Write) -> None:
    path = write(in_configmap(GHCR), "exceptions/a.yaml")
    with_them = ["exceptions: [exceptions/a.yaml]\n", "exceptions: [exceptions]\n"]
    assert tested("").code == 1
    assert tested("", options=["--exceptions", path]).code == 0
    assert tested(*with_them).out == "6 cases: 6 passed, 0 failed\n"
    mixed = tested(*with_them, "")
    assert (mixed.code, "9 cases: 8 passed" in mixed.out) == (1, True)
    obj = pod("ghcr.io/x:1", metadata={"name": "web", "namespace": "team-a"})
    write(json.dumps(obj), "pod.json")
    assert tested(f"  - {{manifest: pod.json, at: {AT}, expect: admitted}}\n{with_them[0]}").code == 0


def test_exceptions_of_a_policy_test_are_added_to_those_of_the_command(
    tested: Callable[..., Done], write: Write
) -> None:
    write(in_configmap(GHCR), "a.yaml")
    case = f"  - {{image: quay.io/x, at: {AT}, expect: approved, reason: exception}}\n"
    text = f"{case}exceptions: [a.yaml]\n"
    assert tested(text).code == 1
    other = write(in_configmap(QUAY, "gatekeeper-py"), "other.yaml")
    assert tested(text, options=["--exceptions", other]).code == 0
    again = tested(text, options=["--exceptions", write(in_configmap(GHCR), "again.yaml")])
    assert again.code == 2
    assert "a.yaml: the exceptions of team-a are given twice" in again.err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (in_configmap(BAD), "a.yaml:9:17 exceptions[0].image"),
        (GHCR, "a.yaml: the document names no namespace: give its ConfigMap"),
        ("kind: Other\n", "a.yaml: there are no exceptions"),
    ],
)
def test_bad_exceptions_of_a_policy_test_are_an_error(
    tested: Callable[..., Done], write: Write, content: str, problem: str
) -> None:
    write(content, "a.yaml")
    done = tested("exceptions: [a.yaml]\n")
    assert (done.code, problem in done.err) == (2, True)


def test_diff_judges_by_both_policies_with_the_same_exceptions(
    command: Command, write: Write, policy: Path
) -> None:
    old, images = write(policy_text(), "old.yaml"), write("ghcr.io/x\n", "images.txt")
    exceptions = ("--exceptions", write(in_configmap(GHCR), "exceptions.yaml"))
    judged = ("--images", images, "-n", "team-a", "--at", AT, "--fail-on", "approved")
    assert command("diff", old, policy, *judged).code == 0
    assert command("diff", old, policy, *judged, *exceptions).code == 1
    done = command("diff", old, policy, "--all-images", *exceptions)
    assert (done.code, "cannot be combined with --exceptions" in done.err) == (2, True)
