"""What the README and the docs say is true: their examples are run."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from gatekeeper_py.cli import COMMANDS, run
from gatekeeper_py.commands.manifests import read_manifests
from gatekeeper_py.core import admission, parse_policy, parse_reference
from gatekeeper_py.core.lint import _CHECKS
from gatekeeper_py.core.pattern import InvalidPattern, parse_pattern
from gatekeeper_py.core.reference import effective_tag, locate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
POLICY_PAGE = (ROOT / "docs/policy.md").read_text(encoding="utf-8")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Every `$ gatekeeper-py …` of the console blocks."""
    return [
        line.removeprefix("$ gatekeeper-py ")
        for block in blocks(text, "console")
        for line in block.splitlines()
        if line.startswith("$ gatekeeper-py ")
    ]


@pytest.mark.parametrize("policy", [*blocks(README, "yaml"), *blocks(POLICY_PAGE, "yaml")])
def test_every_policy_shown_is_accepted(policy: str) -> None:
    if "kind: ImagePolicy" in policy:
        parse_policy(policy)
    else:
        head = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow: [a.example]\n"
        parse_policy(head + policy)


@pytest.mark.parametrize("command", [line for line in commands(README) if not line.startswith("serve")])
def test_every_command_of_the_readme_runs(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # 1 is an answer, too: the examples show a refused image.
    assert run(shlex.split(command)) in {0, 1}
    assert capsys.readouterr().out


def test_the_denial_of_the_readme_is_the_one_users_get() -> None:
    policy = parse_policy((ROOT / "examples/policy.yaml").read_text(encoding="utf-8")).at(NOW)
    (manifest,) = read_manifests(str(ROOT / "examples/manifests/dockerhub.yaml"))
    message = admission.validate(manifest.request, policy).response.message
    configuration = yaml.safe_load((ROOT / "k8s/base/webhooks/validating.yaml").read_text(encoding="utf-8"))
    webhook = next(hook["name"] for hook in configuration["webhooks"] if hook["name"].startswith("pods."))
    said = (
        "$ kubectl apply -f dockerhub.yaml Error from server (Forbidden): error when creating "
        f'"dockerhub.yaml": admission webhook "{webhook}" denied the request: {message}'
    )
    assert said.split() == blocks(README, "console")[0].split()


def test_the_demo_names_the_webhooks_as_they_are_registered() -> None:
    configuration = yaml.safe_load((ROOT / "k8s/base/webhooks/validating.yaml").read_text(encoding="utf-8"))
    demo = (ROOT / "examples/demo.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(\w+\.image-validation-webhook\.gatekeeper-py)"', demo))
    assert named
    assert named <= {hook["name"] for hook in configuration["webhooks"]}


def test_every_command_of_the_readme_exists_and_every_command_is_documented() -> None:
    named = set(re.findall(r"`(?:gatekeeper-py )?([a-z]+)[ `]", README)) | {
        c.split()[0] for c in commands(README)
    }
    assert set(COMMANDS) <= named


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        row
        for row in re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\|$", POLICY_PAGE, re.MULTILINE)
        if row[0].startswith("`") and row[2].startswith("`")
    ],
)
def test_the_table_of_patterns_is_true(pattern: str, matching: str, other: str) -> None:
    images = {
        image.replace("sha256:…", f"sha256:{'a' * 64}"): cell == "matching"
        for cell, text in (("matching", matching), ("other", other))
        for image in re.findall(r"`([^`]+)`", text)
    }
    assert images
    for text in re.findall(r"`([^`]+)`", pattern):
        for image, expected in images.items():
            reference = parse_reference(image)
            place, tag = locate(reference), effective_tag(reference)
            assert parse_pattern(text).matches(place, tag, reference.digest) is expected, (text, image)


def test_a_pattern_without_a_host_is_refused_with_the_proposal_that_the_page_names() -> None:
    with pytest.raises(InvalidPattern) as refusal:
        parse_pattern("nginx")
    assert refusal.value.proposal == "docker.io/library/nginx"


def test_the_page_lists_every_lint_code() -> None:
    source = (ROOT / "gatekeeper_py/core/lint.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'warning\(\s*"([a-z-]+)"', source))
    assert len(codes) >= len(_CHECKS)
    assert codes <= set(re.findall(r"`([a-z-]+)`", POLICY_PAGE))


def test_the_example_policy_has_no_errors_and_says_what_the_readme_shows() -> None:
    policy = parse_policy((ROOT / "examples/policy.yaml").read_text(encoding="utf-8"))
    compiled = policy.at(NOW)
    assert compiled.decide("default", "registry.corp.example/shop/web:1").approved
    assert not compiled.decide("default", "registry.corp.example.evil.io/x:1").approved


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(re.findall(r"`(?:[a-z0-9_/]+\.py::)?(test_[a-z0-9_]+)`", page))
    assert len(functions) > 40
    defined = {name for text in sources.values() for name in re.findall(r"def (test_[a-z0-9_]+)\(", text)}
    assert functions <= defined, functions - defined
    for path, function in re.findall(r"`([a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`", page):
        assert f"def {function}" in sources[ROOT / "tests" / path], path
