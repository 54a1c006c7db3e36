"""Render the chart with Helm 3 and 4, and the kustomize overlays with kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tools.installation.product import OVERLAYS as INSTALLED
from tools.programs import CONTROL_PLANE, HELM

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts/gatekeeper-py"

POLICY: Final = (
    "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow: [registry.corp.example]\n"
)

Objects = dict[tuple[str, str, str], dict[str, Any]]
"""Kubernetes objects by kind, namespace and name."""


@dataclass(frozen=True, slots=True)
class Helm:
    """One version of Helm, without the user's configuration."""

    program: Path

    def run(
        self, *arguments: str, values: Mapping[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Helm. If ``values`` are given, Helm reads them from a values file."""
        with tempfile.TemporaryDirectory() as home:
            file = Path(home) / "values.json"
            file.write_text(json.dumps(values), encoding="utf-8")
            options = [] if values is None else [f"--values={file}"]
            return subprocess.run(
                [self.program, *arguments, *options],
                env={"HOME": home, "PATH": os.environ["PATH"], "KUBECONFIG": os.devnull},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )

    def template(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Return the rendered chart; the release and its namespace are ``gatekeeper-py`` by default."""
        release = arguments or ("gatekeeper-py", "--namespace=gatekeeper-py")
        done = self.run("template", release[0], str(CHART), *release[1:], values=values)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, values: Mapping[str, Any], *arguments: str) -> str:
        """Return the error of a rendering that must fail."""
        release = arguments or ("gatekeeper-py", "--namespace=gatekeeper-py")
        done = self.run("template", release[0], str(CHART), *release[1:], values=values)
        assert done.returncode != 0, done.stdout
        assert done.stdout == ""
        return done.stderr

    def objects(self, *arguments: str, values: Mapping[str, Any] | None = None) -> Objects:
        return by_name(self.template(*arguments, values=values))


def helm(version: int) -> Helm:
    return Helm(HELM.cached() / f"helm{version}")


def kustomize(folder: Path) -> Objects:
    """Return the objects of a kustomization."""
    kubectl = CONTROL_PLANE.cached() / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return by_name(done.stdout)


def kustomized(folder: Path, overlay: str, *components: str) -> Objects:
    """Return the objects of an overlay with a policy and some components, as an administrator adds them."""
    fields = {
        "resources": [os.path.relpath(INSTALLED / overlay, folder.resolve())],
        "components": [
            os.path.relpath(ROOT / "k8s/components" / each, folder.resolve()) for each in components
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(fields), encoding="utf-8")  # JSON is YAML
    return kustomize(folder)


class _Loader(yaml.SafeLoader):
    """A loader that refuses a mapping with a duplicate key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep=deep)


def by_name(text: str) -> Objects:
    """Return the objects of a stream of documents. Raises AssertionError for a duplicate name."""
    found: Objects = {}
    for each in yaml.load_all(text, _Loader):
        if each is None:
            continue
        metadata = each["metadata"]
        key = (each["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found, key
        found[key] = each
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return values in which only one path is set."""
    for key in reversed(path.split(".")):
        value = {key: value}
    result: dict[str, Any] = value
    return result


def merged(*several: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values as Helm merges values files: the last one wins."""
    result: dict[str, Any] = {}
    for each in several:
        for key, value in each.items():
            known = result.get(key)
            both = isinstance(known, dict) and isinstance(value, dict)
            result[key] = merged(known, value) if both else value  # type: ignore[arg-type]
    return result
