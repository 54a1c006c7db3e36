"""The policies of the peers get the approved prefixes as parameters, and check what their libraries check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.cluster.peers import PREFIXES, gatekeeper_policy, kyverno_policies


def write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def test_gatekeeper_also_checks_ephemeral_containers(tmp_path: Path) -> None:
    rego = "package x\nviolation[a] { containers }\nviolation[b] { initContainers }\n"
    folder = tmp_path / "test/gator/bench/both"
    write(folder / "template.yaml", {"spec": {"targets": [{"rego": rego, "code": []}]}})
    write(folder / "constraint.yaml", {"spec": {"parameters": {"repos": ["gcr.io/"]}}})

    template, constraint = gatekeeper_policy(tmp_path)

    added = "violation[b] { ephemeralContainers }\n"
    assert template["spec"]["targets"] == [{"rego": rego + added}]
    assert constraint["spec"]["parameters"]["repos"] == list(PREFIXES)


def test_kyverno_refuses_and_checks_ephemeral_containers(tmp_path: Path) -> None:
    chainsaw = "test/conformance/chainsaw/validate/clusterpolicy/cornercases/ephemeral-containers"
    write(tmp_path / chainsaw / "policy.yaml", {"image": "eu.foo.io/* | bar.io/*"})
    spec = {
        "validationActions": ["Audit"],
        "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]},
        "variables": [{"name": "cm"}, {"name": "cmRegistries", "expression": "variables.cm"}],
    }
    write(tmp_path / "test/cli/test-validating-policy/restrict-image-registries/policy.yaml", {"spec": spec})

    cluster, validating = kyverno_policies(tmp_path)

    assert cluster == {"image": "registry.corp.example/* | docker.io/library/*"}
    assert validating["spec"] == {
        "validationActions": ["Deny"],
        "matchConstraints": {"resourceRules": [{"resources": ["pods", "pods/ephemeralcontainers"]}]},
        "variables": [
            {"name": "cmRegistries", "expression": '["registry.corp.example/", "docker.io/library/"]'}
        ],
    }
