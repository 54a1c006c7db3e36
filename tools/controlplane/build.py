"""Build the binaries of the control plane, once per user and version.

``python3 -m tools.controlplane build`` writes the directory with the six :data:`BINARIES` to standard output
and its progress to standard error. The first run compiles for about ten minutes; later runs find the result
in the cache, see ``tools/gobuild.py``. With ``--oldest`` it builds the oldest Kubernetes that the product
supports; etcd, kwok and kubectl are those of the newest.

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
    "OLDEST",
    "OLDEST_PRODUCTS",
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
    """Return the linker variables with the version that clients and ``kubectl version`` compare."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return {f"k8s.io/component-base/version.{name}": value for name, value in values.items()}


def _kubernetes(folder: str, *binaries: str) -> Product:
    return Product(
        folder=folder,
        packages={name: f"k8s.io/kubernetes/cmd/{name}" for name in binaries},
        released="k8s.io/kubernetes",
        variables=_kubernetes_variables,
    )


_SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

# Each product has its own module, because the products need different versions of the same dependencies.
_OTHERS = (
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
)
PRODUCTS = (*_OTHERS, _kubernetes("kubernetes", *_SERVERS, "kubectl"))
BINARIES = tuple(name for product in PRODUCTS for name in product.packages)

# The controller manager and the scheduler must not be newer than the API server: they wait for resources that
# it does not serve. kubectl is only a client here, so the newest version works too.
OLDEST_PRODUCTS = (*_OTHERS, _kubernetes("kubernetes", "kubectl"), _kubernetes("oldest", *_SERVERS))


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


def _newest_binaries() -> dict[str, Path]:
    directory = PROGRAMS.cached()
    return {name: directory / name for name in BINARIES if name not in _SERVERS}


OLDEST = Programs(
    name="controlplane",
    root=HERE,
    products=OLDEST_PRODUCTS,
    title="the oldest control plane",
    target="make controlplane-oldest",
    assets=_newest_binaries,
)


def cached(*, oldest: bool = False) -> Path:
    """Return the directory with all binaries. Raises BuildError if one is missing."""
    return (OLDEST if oldest else PROGRAMS).cached()


def build(*, oldest: bool = False) -> Path:
    """Return the directory with all binaries, after building them if one is missing.

    The oldest control plane needs the newest one, which must have been built.
    """
    return (OLDEST if oldest else PROGRAMS).build()
