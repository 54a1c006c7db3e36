"""Build the programs that tests and benchmarks need from pinned Go modules, once per user and version.

``python3 -m tools.programs controlplane helm registry`` writes a line with a directory for each name to
standard output, and the progress to standard error. The first build of the control plane takes ten minutes;
later runs find it in the cache (see ``gobuild.py``). ``--oldest`` also builds the oldest Kubernetes that the
product supports, and uses the etcd, kwok and kubectl of the newest with it.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.gobuild import BuildError, Product, Programs, required_version

HERE = Path(__file__).resolve().parent


def _kubernetes_variables(version: str) -> Mapping[str, str]:
    """Return the linker variables with the version that clients and ``kubectl version`` compare."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return {f"k8s.io/component-base/version.{name}": value for name, value in values.items()}


def _kubernetes(folder: str, *binaries: str) -> Product:
    return Product(
        folder=HERE / "controlplane" / folder,
        packages={name: f"k8s.io/kubernetes/cmd/{name}" for name in binaries},
        released="k8s.io/kubernetes",
        variables=_kubernetes_variables,
    )


_SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

# Each product has its own module, because the products need different versions of the same dependencies.
_OTHERS = (
    Product(
        folder=HERE / "controlplane/etcd",
        packages={"etcd": "go.etcd.io/etcd/server/v3"},
        released="go.etcd.io/etcd/server/v3",
    ),
    Product(
        folder=HERE / "controlplane/kwok",
        packages={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        released="sigs.k8s.io/kwok",
    ),
)
PRODUCTS = (*_OTHERS, _kubernetes("kubernetes", *_SERVERS, "kubectl"))
BINARIES = tuple(name for product in PRODUCTS for name in product.packages)

# The controller manager and the scheduler must not be newer than the API server: they wait for resources that
# it does not serve. kubectl is only a client here, so the newest version works too.
OLDEST_PRODUCTS = (*_OTHERS, _kubernetes("kubernetes", "kubectl"), _kubernetes("oldest", *_SERVERS))


def _newest_binaries() -> dict[str, Path]:
    directory = CONTROL_PLANE.cached()
    return {name: directory / name for name in BINARIES if name not in _SERVERS}


CONTROL_PLANE = Programs(
    name="controlplane",
    products=PRODUCTS,
    title="the control plane",
    target="python3 -m tools.programs controlplane",
)

OLDEST = Programs(
    name="controlplane",
    products=OLDEST_PRODUCTS,
    title="the oldest control plane",
    target="python3 -m tools.programs controlplane --oldest",
    assets=_newest_binaries,
)


def _helm3_variables(version: str) -> Mapping[str, str]:
    """Return linker variables with Helm's version and the Kubernetes version for which it renders offline."""
    # The default of Helm 3 is Kubernetes 1.20. Its releases set the version of client-go: v0.36 means 1.36.
    minor = required_version(HERE / "helm/v3/go.mod", "k8s.io/client-go").split(".")[1]
    variables = {"helm.sh/helm/v3/internal/version.version": version}
    for package in ("pkg/lint/rules", "pkg/chartutil"):
        variables[f"helm.sh/helm/v3/{package}.k8sVersionMajor"] = "1"
        variables[f"helm.sh/helm/v3/{package}.k8sVersionMinor"] = minor
    return variables


HELM = Programs(
    name="helm",
    products=(
        Product(
            folder=HERE / "helm/v3",
            packages={"helm3": "helm.sh/helm/v3/cmd/helm"},
            released="helm.sh/helm/v3",
            variables=_helm3_variables,
        ),
        Product(
            folder=HERE / "helm/v4",
            packages={"helm4": "helm.sh/helm/v4/cmd/helm"},
            released="helm.sh/helm/v4",
            # Helm 4 finds the version of Kubernetes itself.
            variables=lambda version: {"helm.sh/helm/v4/internal/version.version": version},
        ),
    ),
    title="Helm",
    target="make chart-test",
)

_DISTRIBUTION = "github.com/distribution/distribution/v3"

REGISTRY = Programs(
    name="registry",
    products=(
        # The command of the project itself includes the drivers of every cloud storage. server/main.go
        # includes only what the tests use. It takes half of the build time and a third of the space.
        Product(
            folder=HERE / "distribution/server",
            packages={"registry3": "."},
            released=_DISTRIBUTION,
            variables=lambda version: {f"{_DISTRIBUTION}/version.version": version},
        ),
    ),
    title="the registry",
    target="make registry-test",
)

_CONTAINER_REGISTRY = "github.com/google/go-containerregistry"


def _cosign(major: str) -> Product:
    module = f"github.com/sigstore/cosign/{major}"
    return Product(
        folder=HERE / "cosign" / major,
        packages={major.replace("v", "cosign"): f"{module}/cmd/cosign"},
        released=module,
    )


COSIGN = Programs(
    name="cosign",
    products=(
        _cosign("v2"),
        _cosign("v3"),
        Product(folder=HERE / "cosign/registry", packages={"referrers": "."}, released=_CONTAINER_REGISTRY),
    ),
    title="cosign",
    target="make registry-test",
)

PROGRAMS = {"controlplane": CONTROL_PLANE, "helm": HELM, "registry": REGISTRY, "cosign": COSIGN}


def main() -> int:
    """Build the programs, print their directories, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.programs", description=__doc__)
    parser.add_argument("names", nargs="+", choices=PROGRAMS, help="what to build")
    parser.add_argument("--oldest", action="store_true", help="build the oldest control plane, too")
    arguments = parser.parse_args()
    try:
        for programs in [
            *map(PROGRAMS.__getitem__, arguments.names),
            *([OLDEST] if arguments.oldest else []),
        ]:
            sys.stdout.write(f"{programs.build()}\n")
    except BuildError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
