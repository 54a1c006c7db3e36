"""A command that gets the wrong file says what the file is, and what to do. The exit code stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from support.builders import pod, policy_text
from support.commanding import Command, Write

TESTS: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicyTest\npolicy: policy.yaml\ncases: []\n"
FILES: Final[dict[str, str | bytes]] = {
    "policy.yaml": policy_text(),
    "utf-16.yaml": policy_text().encode("utf-16"),
    "pod.yaml": json.dumps(pod("registry.corp.io/web:1")),
    "webhooks.yaml": "exemptNamespaces: [a]\n",
    "tests.yaml": TESTS,
    "exceptions.yaml": "apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions: []\n",
    "template.yaml": "{{ if .a }}\napiVersion: v1\n{{ end }}\n",
    "chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    "kustomization.yaml": "resources: [pod.yaml]\n",
    "kind.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
    "other.yaml": "a: 1\n",
}
BEGIN: Final = "begin a policy with apiVersion: gatekeeper-py/v1 and kind: ImagePolicy"


@pytest.fixture
def files(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Write the files into the working directory, and let no configuration of a cluster be found."""
    for name, content in FILES.items():
        write(content, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        ("review pod.yaml policy.yaml", 2, "this is a Pod, not", "gatekeeper-py review POLICY FILE..."),
        ("explain pod.yaml nginx", 2, "this is a Pod, not", BEGIN),
        ("explain nginx policy.yaml", 2, "the policy comes first", "gatekeeper-py explain POLICY IMAGE..."),
        ("explain policy.yaml pod.yaml", 2, "pod.yaml is a file", "use gatekeeper-py review POLICY FILE..."),
        ("check webhooks.yaml", 1, "this is a webhooks.yaml, not", "--webhooks-config, or check the"),
        ("review webhooks.yaml pod.yaml", 2, "this is a webhooks.yaml, not", "give it as --webhooks-config"),
        ("diff webhooks.yaml policy.yaml", 2, "this is a webhooks.yaml, not", "give it as --webhooks-config"),
        ("check tests.yaml", 1, "this is an ImagePolicyTest, not", "run it: gatekeeper-py test FILE..."),
        ("review exceptions.yaml pod.yaml", 2, "this is an ImageExceptions, not", "give it as --exceptions"),
        ("test exceptions.yaml", 2, "this is an ImageExceptions, not", "give it as --exceptions"),
        ("test policy.yaml", 2, "this is an ImagePolicy, not", "gatekeeper-py test FILE..."),
        ("test pod.yaml", 2, "this is a Pod, not an ImagePolicyTest", "begin with apiVersion"),
        ("check template.yaml", 1, "yaml-syntax", "an unrendered Helm template: use the output of helm"),
        ("check chart.yaml", 1, "this is the description of a Helm chart", "use the output of helm template"),
        ("check kustomization.yaml", 1, "this is a kustomization", "use the output of kustomize build"),
        ("check kind.yaml", 1, "this is a Kustomization", "use the output of kustomize build"),
        ("check other.yaml", 1, "this is not an ImagePolicy", BEGIN),
        ("check utf-16.yaml", 2, "UTF-16, but must be UTF-8", "Out-File -Encoding utf8"),
        ("diff policy.yaml policy.yaml --images utf-16.yaml", 2, "UTF-16, but must", "Out-File -Encoding"),
        ("diff policy.yaml policy.yaml --audit utf-16.yaml", 2, "UTF-16, but must", "Out-File -Encoding"),
        ("check .", 2, ".: a directory, but must be a file or a pipe", "name one of the files in it"),
        ("diff policy.yaml policy.yaml", 2, "no cluster configuration", "give --all-images, --images, --aud"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_to_do_instead(
    command: Command, arguments: str, code: int, message: str, hint: str
) -> None:
    done = command(*arguments.split())
    assert done.code == code
    assert message in done.out + done.err
    assert hint in done.out + done.err
