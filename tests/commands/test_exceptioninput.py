"""Commands read exceptions from manifests of ConfigMaps, lists of them, and documents of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import exceptions_text, named, pod, policy_text
from gatekeeper_py.cli import run

GRANTS = """
exceptions:
  - {source: namespace, images: [ghcr.io/**], longest: 400d, namespaces: [team-*]}
  - {source: installation, images: [quay.io/**], longest: 400d}
  - {source: break-glass, images: [b.io], longest: 400d, overrides: deny}
deny: [b.io]
"""
AT = "2026-03-01"
ENTRY = "until: 2026-04-01, reason: r"
Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file and returns its path."""

    def written(name: str, text: str) -> str:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return str(file)

    return written


def configmap(text: str, namespace: str | None = "team-a", name: str = "gatekeeper-py-exceptions") -> str:
    """Return a manifest in which the document is a block."""
    block = text.replace("\n", "\n    ")
    where = "" if namespace is None else f", namespace: {namespace}"
    metadata = f"metadata: {{name: {name}{where}}}"
    return f"apiVersion: v1\nkind: ConfigMap\n{metadata}\ndata:\n  exceptions.yaml: |\n    {block}\n"


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


@pytest.mark.parametrize(
    ("file", "options", "image", "code"),
    [
        pytest.param(configmap(GHCR), [], "ghcr.io/x", 0, id="a-configmap"),
        pytest.param(configmap(GHCR, "team-b"), [], "ghcr.io/x", 1, id="of-another-namespace"),
        pytest.param(configmap(GHCR, None), [], "ghcr.io/x", 0, id="without-a-namespace"),
        pytest.param(GHCR, [], "ghcr.io/x", 0, id="a-bare-document"),
        pytest.param(f"---\n{configmap(GHCR)}---\nkind: Other\n", [], "ghcr.io/x", 0, id="a-stream"),
        pytest.param(listed(("team-b", GHCR), ("team-a", GHCR)), [], "ghcr.io/x", 0, id="a-list"),
        pytest.param(configmap(QUAY, "gatekeeper-py"), [], "quay.io/x", 0, id="of-the-installation"),
        pytest.param(configmap(QUAY, "gk"), [], "quay.io/x", 1, id="of-no-installation"),
        pytest.param(
            configmap(QUAY, "gk"), ["--installation", "gk"], "quay.io/x", 0, id="of-another-installation"
        ),
        pytest.param(
            configmap(B, "gatekeeper-py", "gatekeeper-py-break-glass"), [], "b.io/x", 0, id="break-glass"
        ),
        pytest.param(
            configmap(GHCR) + "---\n" + configmap(B, "team-a", "gatekeeper-py-break-glass"),
            [],
            "b.io/x",
            1,
            id="break-glass-of-a-tenant",
        ),
    ],
)
def test_a_document_applies_to_the_namespaces_of_its_configmap(
    write: Write, file: str, options: list[str], image: str, code: int
) -> None:
    policy, path = write("policy.yaml", policy_text(GRANTS)), write("exceptions.yaml", file)
    arguments = ["explain", policy, image, "-n", "team-a", "--at", AT, "--exceptions", path, *options]
    assert run(arguments) == code


def test_a_directory_is_read_with_all_its_files(write: Write) -> None:
    policy = write("policy.yaml", policy_text(GRANTS))
    folder = Path(write("folder/a.yaml", configmap(GHCR))).parent
    write("folder/b.yaml", configmap(QUAY, "gatekeeper-py"))
    arguments = ["explain", policy, "ghcr.io/x", "quay.io/x", "-n", "team-a", "--at", AT]
    assert run(arguments) == 1
    assert run([*arguments, "--exceptions", str(folder)]) == 0


@pytest.mark.parametrize(
    ("files", "options", "problem"),
    [
        ([configmap(GHCR), configmap(GHCR)], [], "the exceptions of team-a are given twice"),
        ([GHCR], ["no-namespace"], "add -n NAMESPACE"),
        (["kind: Other\n"], [], "there are no exceptions"),
        (["kind: List\nitems: [{a: }\n"], [], "not valid YAML or JSON"),
        ([configmap(BAD)], [], "0.yaml:9:17 exceptions[0].image"),
        ([listed(("team-a", BAD))], [], "(line 4 of the text)"),
        ([configmap(GHCR) + "  mode: warn\n"], [], "the only key is exceptions.yaml"),
    ],
)
def test_bad_files_are_an_error_with_their_findings(
    write: Write, files: list[str], options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [] if options else ["-n", "team-a"]
    paths = [write(f"{number}.yaml", text) for number, text in enumerate(files)]
    arguments = [argument for path in paths for argument in ("--exceptions", path)]
    assert run(["explain", write("policy.yaml", policy_text(GRANTS)), "a.io/x", *named, *arguments]) == 2
    assert problem in capsys.readouterr().err


def explained(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    run([*arguments, "--format", "json"])
    (found,) = json.loads(capsys.readouterr().out)
    return found


def test_explain_shows_the_exception_that_decides(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    text = exceptions_text(f"image: ghcr.io/x, {ENTRY}, owner: me")
    policy, path = write("policy.yaml", policy_text(GRANTS)), write("exceptions.yaml", configmap(text))
    arguments = ["explain", policy, "ghcr.io/x:1", "-n", "team-a", "--exceptions", path, "--at"]
    found = explained(capsys, [*arguments, AT])
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
    assert explained(capsys, [*arguments, "2026-05-02"])["exception"] is None
    assert run([*arguments, AT]) == 0
    assert "  owner      me\n  reason     r\n" in capsys.readouterr().out
    assert run([*arguments, "2026-04-02"]) == 1
    assert "  exception  ended 2026-04-01T00:00Z (me: r)\n" in capsys.readouterr().out


def test_explain_names_the_nearest_exceptions_of_a_deny_rule(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = policy_text("deny: [{image: b.io, except: ['b.io/x:1']}]\nmirrors: [{from: b.io, to: m.io/b}]\n")
    for image in ("b.io/x:2", "m.io/b/x:2"):
        found = explained(capsys, ["explain", write("policy.yaml", policy), image])
        assert found["reason"] == "denied"
        assert [miss["missed"] for miss in found["nearest"]] == ["the tag is 2, the rule requires 1"]


def test_review_shows_the_exception_that_approves_an_image(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    text = configmap(exceptions_text(f"image: ghcr.io/x, until: {until}, reason: r"))
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        **named(pod("ghcr.io/x:1", "registry.corp.io/a"), "web", "team-a"),
    }
    manifest = json.dumps(obj, indent=1)
    arguments = ["review", write("policy.yaml", policy_text(GRANTS)), write("pod.json", manifest)]
    arguments += ["--exceptions", write("exceptions.yaml", text), "--format"]
    line = f"spec.containers[0].image: ghcr.io/x:1 is approved until {until}T00:00Z by an exception"
    shown = {}
    for style in ("text", "junit", "sarif"):
        assert run([*arguments, style]) == 0
        shown[style] = capsys.readouterr().out
    assert f"  {line}\n" in shown["text"]
    assert f"<system-out>{line}</system-out>" in shown["junit"]
    (result,) = json.loads(shown["sarif"])["runs"][0]["results"]
    assert (result["ruleId"], result["level"], result["message"]["text"]) == ("image-exception", "note", line)
    start = result["locations"][0]["physicalLocation"]["region"]["startLine"]
    assert "ghcr.io/x:1" in manifest.splitlines()[start - 1]
    assert run([*arguments, "json"]) == 0
    ((excepted, approved),) = (each["images"] for each in json.loads(capsys.readouterr().out))
    explanation = explained(capsys, ["explain", arguments[1], "ghcr.io/x:1", "-n", "team-a", *arguments[3:5]])
    assert excepted["exception"] == explanation["exception"] is not None
    assert "exception" not in approved


@pytest.mark.parametrize(
    ("file", "options", "codes"),
    [
        pytest.param(configmap(QUAY), [], [], id="form-only"),
        pytest.param(configmap(QUAY), ["by-policy"], ["exception-outside"], id="by-a-policy"),
        pytest.param(configmap(GHCR), ["by-policy"], ["expired"], id="of-the-past"),
        pytest.param(BAD, [], ["bad-pattern", "missing-field"], id="bad"),
        pytest.param(
            f"{policy_text(GRANTS)}---\n{configmap(QUAY)}",
            [],
            ["exception-outside", "floating-latest"],
            id="by-the-policy-of-the-stream",
        ),
        pytest.param(QUAY, ["by-policy"], ["namespace-unknown"], id="without-a-namespace"),
        pytest.param(QUAY, ["by-policy", "-n", "team-a"], ["exception-outside"], id="with-a-namespace"),
    ],
)
def test_check_judges_exceptions(
    write: Write, file: str, options: list[str], codes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--policy", write("policy.yaml", policy_text(GRANTS))] if "by-policy" in options else []
    more += [each for each in options if each != "by-policy"]
    run(["check", write("exceptions.yaml", file), *more, "--format", "json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert sorted(finding["code"] for finding in found) == codes


def test_check_shows_the_line_in_the_file(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write("policy.yaml", policy_text(GRANTS))
    path = write("exceptions.yaml", f"kind: Other\n---\n{configmap(QUAY)}")
    assert run(["check", path, "--policy", policy]) == 1
    assert "exceptions.yaml:11:5 exceptions[0]\n  11 |       - {image: quay.io/x" in capsys.readouterr().out


TESTS = f"""apiVersion: gatekeeper-py/v1
kind: ImagePolicyTest
policy: policy.yaml
cases:
  - {{image: ghcr.io/x, namespace: team-a, at: {AT}, expect: approved, reason: exception}}
  - {{image: ghcr.io/x, namespace: team-a, at: 2026-04-01, expect: rejected, reason: unlisted}}
  - {{image: ghcr.io/x, namespace: team-b, at: {AT}, expect: rejected}}
"""


def test_a_policy_test_can_expect_an_exception(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("policy.yaml", policy_text(GRANTS))
    without = write("without.yaml", TESTS)
    path = write("exceptions/a.yaml", configmap(GHCR))
    with_them = [
        write("file.yaml", f"{TESTS}exceptions: [exceptions/a.yaml]\n"),
        write("folder.yaml", f"{TESTS}exceptions: [exceptions]\n"),
    ]
    assert run(["test", without]) == 1
    assert run(["test", without, "--exceptions", path]) == 0
    assert run(["test", *with_them]) == 0
    assert "6 cases: 6 passed" in capsys.readouterr().out
    assert run(["test", *with_them, without]) == 1
    assert "9 cases: 8 passed" in capsys.readouterr().out
    pod_of_team = {"apiVersion": "v1", "kind": "Pod", **named(pod("ghcr.io/x:1"), "web", "team-a")}
    write("pod.json", json.dumps(pod_of_team))
    case = f"  - {{manifest: pod.json, at: {AT}, expect: admitted}}\n"
    assert run(["test", write("file.yaml", f"{TESTS}{case}exceptions: [exceptions/a.yaml]\n")]) == 0


def test_exceptions_of_a_policy_test_are_added_to_those_of_the_command(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("policy.yaml", policy_text(GRANTS))
    write("a.yaml", configmap(GHCR))
    case = f"  - {{image: quay.io/x, at: {AT}, expect: approved, reason: exception}}\n"
    tests = write("tests.yaml", f"{TESTS}{case}exceptions: [a.yaml]\n")
    other = write("other.yaml", configmap(QUAY, "gatekeeper-py"))
    assert run(["test", tests]) == 1
    assert run(["test", tests, "--exceptions", other]) == 0
    assert run(["test", tests, "--exceptions", write("again.yaml", configmap(GHCR))]) == 2
    assert "a.yaml: the exceptions of team-a are given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (configmap(BAD), "a.yaml:9:17 exceptions[0].image"),
        (GHCR, "a.yaml: the document names no namespace: give its ConfigMap"),
        ("kind: Other\n", "a.yaml: there are no exceptions"),
    ],
)
def test_bad_exceptions_of_a_policy_test_are_an_error(
    write: Write, content: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("policy.yaml", policy_text(GRANTS))
    write("a.yaml", content)
    assert run(["test", write("tests.yaml", f"{TESTS}exceptions: [a.yaml]\n")]) == 2
    assert problem in capsys.readouterr().err


def test_diff_judges_by_both_policies_with_the_same_exceptions(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = write("old.yaml", policy_text()), write("new.yaml", policy_text(GRANTS))
    images = write("images.txt", "ghcr.io/x\n")
    path = write("exceptions.yaml", configmap(GHCR))
    arguments = ["diff", old, new, "--images", images, "-n", "team-a", "--at", AT, "--fail-on", "approved"]
    assert run(arguments) == 0
    assert run([*arguments, "--exceptions", path]) == 1
    capsys.readouterr()
    assert run(["diff", old, new, "--all-images", "--exceptions", path]) == 2
    assert "it takes no --exceptions" in capsys.readouterr().err
