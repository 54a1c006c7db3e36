"""Build Helm 3 and Helm 4, once per user and version; see ``tools/gobuild.py``.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.gobuild import Product, Programs, required_version

HERE = Path(__file__).resolve().parent


def _helm3_variables(version: str) -> Mapping[str, str]:
    """Return linker variables with Helm's version and the Kubernetes version for which it renders offline."""
    # The default of Helm 3 is Kubernetes 1.20. Its releases set the version of client-go: v0.36 means 1.36.
    minor = required_version(HERE / "v3/go.mod", "k8s.io/client-go").split(".")[1]
    variables = {"helm.sh/helm/v3/internal/version.version": version}
    for package in ("pkg/lint/rules", "pkg/chartutil"):
        variables[f"helm.sh/helm/v3/{package}.k8sVersionMajor"] = "1"
        variables[f"helm.sh/helm/v3/{package}.k8sVersionMinor"] = minor
    return variables


def _helm4_variables(version: str) -> Mapping[str, str]:
    """Return the linker variable with Helm's version; Helm 4 finds the version of Kubernetes itself."""
    return {"helm.sh/helm/v4/internal/version.version": version}


PROGRAMS = Programs(
    name="helm",
    root=HERE,
    products=(
        Product(
            folder="v3",
            packages={"helm3": "helm.sh/helm/v3/cmd/helm"},
            released="helm.sh/helm/v3",
            variables=_helm3_variables,
        ),
        Product(
            folder="v4",
            packages={"helm4": "helm.sh/helm/v4/cmd/helm"},
            released="helm.sh/helm/v4",
            variables=_helm4_variables,
        ),
    ),
    title="Helm",
    target="make helm",
)
