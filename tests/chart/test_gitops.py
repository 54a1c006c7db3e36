"""The examples of the installation page that put the policy into Git work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from chart.rendering import CHART, POLICY, ROOT, Helm, by_name, kustomize

POLICY_KEY = ("ConfigMap", "gatekeeper-py", "gatekeeper-py-policy")

FLOW: Final = POLICY + 'deny: [{image: "*/**:latest", reason: "moves, always"}]\n'
"""A policy with the commas, brackets and quotes that have a meaning in ``helm --set``."""


def example(page: str, start: str) -> Any:
    """Return the YAML block of a page of docs/ that starts with this text."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = [block for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
             if block.startswith(start)]  # fmt: skip
    assert len(found) == 1, start
    return yaml.safe_load(found[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a policy, webhook settings and a checkout of the repository."""
    (tmp_path / "policy.yaml").write_text(FLOW, encoding="utf-8")
    (tmp_path / "webhooks.yaml").write_text("exemptNamespaces: [calico-system]\n", encoding="utf-8")
    (tmp_path / "gatekeeper-py").symlink_to(ROOT)
    return tmp_path


def write(folder: Path, document: Any, name: str = "kustomization.yaml") -> None:
    (folder / name).write_text(yaml.safe_dump(document), encoding="utf-8")


def test_the_kustomization_installs_your_policy(folder: Path) -> None:
    document = example("install.md", "# kustomization.yaml\napiVersion")
    write(folder, document)
    found = kustomize(folder)
    assert found[POLICY_KEY]["data"] == {"policy.yaml": FLOW, "mode": "warn"}
    server = found["Deployment", "gatekeeper-py", "gatekeeper-py"]["spec"]["template"]["spec"]
    assert server["containers"][0]["image"] == "registry.corp.example/gatekeeper-py:0.1.0"


@pytest.mark.parametrize(
    ("page", "start", "overlay", "added"),
    [
        pytest.param(
            "reports.md", "# add to your kustomization.yaml", "enforce",
            ("Deployment", "gatekeeper-py", "gatekeeper-py-reports"), id="reports",
        ),
        pytest.param(
            "install.md", "components:", "cert-manager",
            ("ValidatingWebhookConfiguration", "", "image-validation-webhook"), id="cert-manager",
        ),
    ],
)  # fmt: skip
def test_a_component_is_added_as_documented(
    folder: Path, page: str, start: str, overlay: str, added: tuple[str, str, str]
) -> None:
    document = {"resources": [f"gatekeeper-py/k8s/overlays/{overlay}"]}
    write(folder, document)
    assert added not in kustomize(folder)
    write(folder, {**document, **example(page, start)})
    assert added in kustomize(folder)


def test_argo_cd_passes_the_file_of_the_policy_to_the_chart(helm: Helm, folder: Path) -> None:
    chart, config = example("install.md", "apiVersion: argoproj.io")["spec"]["sources"]
    assert (ROOT / chart["path"]) == CHART
    (parameter,) = chart["helm"]["fileParameters"]
    assert parameter["path"].startswith(f"${config['ref']}/")
    text = helm.template(
        "gatekeeper-py", "--namespace=gatekeeper-py", f"--set-file={parameter['name']}={folder}/policy.yaml",
        values=chart["helm"]["valuesObject"],
    )  # fmt: skip
    assert by_name(text)[POLICY_KEY]["data"] == {"policy.yaml": FLOW}


def test_flux_passes_the_policy_in_a_config_map_to_the_chart(helm: Helm, folder: Path) -> None:
    release = example("install.md", "# release.yaml")
    write(folder, example("install.md", "# kustomization.yaml, beside"))
    write(folder, release, "release.yaml")
    (source,) = release["spec"]["valuesFrom"]
    found = kustomize(folder)[source["kind"], "gatekeeper-py", source["name"]]
    literal = f"--set-literal={source['targetPath']}={found['data'][source['valuesKey']]}"
    assert source["literal"] is True
    text = helm.template(
        "gatekeeper-py", "--namespace=gatekeeper-py", literal, values=release["spec"]["values"]
    )
    assert by_name(text)[POLICY_KEY]["data"] == {"policy.yaml": FLOW}
