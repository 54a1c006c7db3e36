"""``explain`` and ``review`` with ``--look-up`` query a real registry with tokens and a private CA."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from registries.distribution import CA_FILE, Registry, config_files
from registries.guarded import with_tokens
from registries.tokenserver import TokenServer
from support.builders import pod
from support.server import CLEAN_ENVIRONMENT


@dataclass(frozen=True)
class Site:
    """A registry that requires tokens, and the files of a user."""

    registry: Registry
    tokens: TokenServer
    folder: Path
    digest: str

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "gatekeeper_py", command, str(self.folder / "policy.yaml")]
        options = ["--look-up", "--registry-config", str(self.folder / "config")]
        return subprocess.run(
            [*program, *arguments, *options],
            capture_output=True,
            text=True,
            check=False,
            env=CLEAN_ENVIRONMENT,
        )

    def review(self, tag: str) -> subprocess.CompletedProcess[str]:
        manifest = self.folder / "pod.json"
        manifest.write_text(json.dumps(pod(f"{self.registry.host}/team/app:{tag}")), encoding="utf-8")
        return self.run("review", str(manifest))


@pytest.fixture
def site(ca: trustme.CA, tmp_path: Path) -> Iterator[Site]:
    with with_tokens(tmp_path, ca) as (registry, tokens):
        tokens.use(users={"alice": {"password": "wonderland", "repositories": ["team/app"]}})
        (tmp_path / "config").mkdir()
        for name, content in config_files(ca, registry.host).items():
            (tmp_path / "config" / name).write_bytes(content)
        (tmp_path / "policy.yaml").write_text(f"""apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow: ["{registry.host}/"]
require:
  - {{images: ["{registry.host}/"], exists: true, onError: keep}}
registries:
  - {{host: "{registry.host}", ca: {CA_FILE}, tokenHosts: ["{tokens.host}"], timeout: 5s}}
""")
        yield Site(registry, tokens, tmp_path, registry.push("team/app", "v1"))


def test_commands_answer_as_the_registry_does(site: Site) -> None:
    explained = site.run("explain", f"{site.registry.host}/team/app:v1")
    assert explained.returncode == 0, explained.stderr
    assert "require[0] met" in explained.stdout

    assert site.review("v1").returncode == 0
    absent = site.review("v2")
    assert absent.returncode == 1
    assert f"does not exist in {site.registry.host} (absent)" in absent.stdout

    # A token server that does not answer does not make an image absent.
    site.tokens.stop()
    kept = site.review("v2")
    assert kept.returncode == 0
    assert "connection refused" in kept.stdout + kept.stderr
