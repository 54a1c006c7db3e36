"""Build the binaries of the control plane, once per user and version.

``python3 -m tools.controlplane build`` writes the directory with the six :data:`BINARIES` to standard output
and its progress to standard error. The first run compiles for about ten minutes; later runs find the result
in the cache, see ``tools/gobuild.py``.

Binaries in ``$KUBEBUILDER_ASSETS`` (envtest's convention: etcd, kube-apiserver, kubectl) are linked to
instead of built.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tools.gobuild import GO_BUILD, GO_ENVIRONMENT, BuildError, Product, Programs, find_go, main

__all__ = [
    "BINARIES",
    "GO_BUILD",
    "GO_ENVIRONMENT",
    "PRODUCTS",
    "PROGRAMS",
    "BuildError",
    "build",
    "cached",
    "find_go",
    "main",
]

HERE = Path(__file__).resolve().parent


def _kubernetes_variables(version: str) -> Mapping[str, str]:
    """Return the version that clients and ``kubectl version`` compare."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return {f"k8s.io/component-base/version.{name}": value for name, value in values.items()}


# One module each, because they need different versions of the same dependencies.
PRODUCTS = (
    Product(
        folder="etcd",
        packages={"etcd": "go.etcd.io/etcd/server/v3"},
        released="go.etcd.io/etcd/server/v3",
    ),
    Product(
        folder="kwok",
        packages={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        released="sigs.k8s.io/kwok",
    ),
    Product(
        folder="kubernetes",
        packages={
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        },
        released="k8s.io/kubernetes",
        variables=_kubernetes_variables,
    ),
)
BINARIES = tuple(name for product in PRODUCTS for name in product.packages)


def _assets() -> dict[str, Path]:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise BuildError(f"KUBEBUILDER_ASSETS is {folder}, which is not a directory")
    paths = {name: Path(folder).resolve() / name for name in BINARIES}
    return {name: path for name, path in paths.items() if os.access(path, os.X_OK)}


PROGRAMS = Programs(
    name="controlplane",
    root=HERE,
    products=PRODUCTS,
    title="the control plane",
    target="make controlplane",
    assets=_assets,
)


def cached() -> Path:
    """Return the directory with all binaries. Raises BuildError if one is missing."""
    return PROGRAMS.cached()


def build() -> Path:
    """Return the directory with all binaries, after building them if one is missing."""
    return PROGRAMS.build()
