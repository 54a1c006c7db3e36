"""Build the binaries of the control plane, once per user and version.

``python3 -m tools.controlplane build`` writes the directory with the six :data:`BINARIES` to standard output
and its progress to standard error. The first run compiles for about ten minutes; later runs find the result.

The binaries are cached in ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/controlplane/<hash>``. The hash covers
everything that decides what is built (required versions, build flags, Go version, platform), so several
clones share one build, and a changed version never finds an old binary.

Binaries in ``$KUBEBUILDER_ASSETS`` (envtest's convention: etcd, kube-apiserver, kubectl) are linked to
instead of built.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


class BuildError(RuntimeError):
    """The binaries cannot be built; the message says what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One Go module below this directory, and the binaries that its packages become."""

    folder: str
    packages: Mapping[str, str]  # binary -> Go package
    released: str  # the module whose version is the product's
    version_variable: str | None = None  # the package whose version variables the linker sets

    @property
    def module_files(self) -> tuple[Path, Path]:
        return HERE / self.folder / "go.mod", HERE / self.folder / "go.sum"

    @property
    def version(self) -> str:
        """The released version, read from go.mod, the only place where it is written."""
        text = self.module_files[0].read_text(encoding="utf-8")
        found = re.search(rf"^(?:require)?\s+{re.escape(self.released)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.module_files[0]} does not require {self.released}")
        return found[1]

    @property
    def linker_flags(self) -> str:
        """Leave out debugging symbols; set the version that clients and ``kubectl version`` compare."""
        flags = ["-s", "-w"]
        if self.version_variable is not None:
            major, minor = self.version.removeprefix("v").split(".")[:2]
            values = {
                "gitVersion": self.version,
                "gitMajor": major,
                "gitMinor": minor,
                "gitTreeState": "clean",
            }
            flags += [f"-X {self.version_variable}.{name}={value}" for name, value in values.items()]
        return " ".join(flags)


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
        version_variable="k8s.io/component-base/version",
    ),
)
BINARIES = tuple(name for product in PRODUCTS for name in product.packages)

# The user's own flags or workspace must not change the result: the hash promises the versions of go.mod,
# verified by go.sum.
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
GO_BUILD = ("build", "-trimpath", "-buildvcs=false")


def cached() -> Path:
    """Return the directory with all binaries.

    Raises BuildError, which says how to build them, if one is missing.
    """
    directory = _directory(find_go(), _assets())
    if not _complete(directory):
        raise BuildError("the control plane is not built; run: make controlplane")
    return directory


def build() -> Path:
    """Return the directory with all binaries, after building them if one is missing.

    Nobody sees a half-built directory, and a second build at the same time waits for the first.
    """
    go, assets = find_go(), _assets()
    directory = _directory(go, assets)
    if _complete(directory):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent / ".lock"):
        if _complete(directory):
            return directory
        for leftover in directory.parent.glob(".building-*"):
            # Only the holder of the lock builds, so the process that made this was killed.
            shutil.rmtree(leftover)
        unfinished = Path(tempfile.mkdtemp(prefix=".building-", dir=directory.parent))
        try:
            _fill(unfinished, go, assets)
            unfinished.chmod(0o755)
            if directory.exists():  # incomplete: a file was removed from it
                shutil.rmtree(directory)
            unfinished.rename(directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def _fill(directory: Path, go: str, assets: Mapping[str, Path]) -> None:
    for name, path in assets.items():
        _say(f"{name}: taken from {path}")
        (directory / name).symlink_to(path)
    for product in PRODUCTS:
        wanted = {name: package for name, package in product.packages.items() if name not in assets}
        if not wanted:
            continue
        _say(f"building {', '.join(wanted)} {product.version} …")
        began = time.monotonic()
        # For one package, name the output file: Go would call etcd's binary "server".
        output = f"{directory}/{next(iter(wanted))}" if len(wanted) == 1 else f"{directory}/"
        command = [go, *GO_BUILD, "-ldflags", product.linker_flags, "-o", output, *wanted.values()]
        status = subprocess.run(
            command,
            cwd=HERE / product.folder,
            env=os.environ | GO_ENVIRONMENT,
            stdout=sys.stderr,
            check=False,
        ).returncode
        if status != 0:
            raise BuildError(f"building {', '.join(wanted)} failed with status {status}; its output is above")
        _say(f"built {', '.join(wanted)} in {time.monotonic() - began:.0f} s")


def find_go(elsewhere: Path = Path("/usr/local/go/bin")) -> str:
    """Return the ``go`` on PATH, or the one where its installer puts it.

    Raises BuildError, which says what to install, if there is none.
    """
    go = shutil.which("go") or shutil.which("go", path=elsewhere)
    if go is None:
        raise BuildError(
            "the control plane is compiled from source and there is no `go` on PATH; install Go 1.26 "
            "(https://go.dev/doc/install), or 1.21 or later, which fetches the release that go.mod requires"
        )
    return go


def _assets() -> dict[str, Path]:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise BuildError(f"KUBEBUILDER_ASSETS is {folder}, which is not a directory")
    paths = {name: Path(folder).resolve() / name for name in BINARIES}
    return {name: path for name, path in paths.items() if os.access(path, os.X_OK)}


def _directory(go: str, assets: Mapping[str, Path]) -> Path:
    """Return the directory in which the binaries of these sources are, or will be."""
    digest = hashlib.sha256()
    for product in PRODUCTS:
        for path in product.module_files:
            digest.update(_without_module_name(path.read_bytes()))
        # Run in the module's directory, because its go directive may select another toolchain.
        answer = subprocess.run(
            [go, "env", "GOVERSION", "GOOS", "GOARCH"],
            cwd=HERE / product.folder,
            env=os.environ | GO_ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        if answer.returncode != 0:
            raise BuildError(f"`go env` failed: {answer.stderr.decode(errors='replace').strip()}")
        digest.update(answer.stdout)
        digest.update(repr((GO_ENVIRONMENT, GO_BUILD, product.linker_flags, dict(product.packages))).encode())
    digest.update(repr(sorted((name, str(path)) for name, path in assets.items())).encode())
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py" / "controlplane" / digest.hexdigest()[:16]


def _complete(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in BINARIES)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:  # compilers do not inherit the lock: Python opens files close-on-exec
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another build to finish …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _without_module_name(module_file: bytes) -> bytes:
    """Drop comments and the module's name: it follows the folder's path and no binary holds it."""
    return re.sub(rb"(?m)^(module\s|\s*//).*\n", b"", module_file)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(find: Callable[[], Path]) -> int:
    """Print the directory that :func:`build` or :func:`cached` returns, and return the exit status."""
    try:
        directory = find()
    except BuildError as error:
        _say(f"error: {error}")
        return 1
    sys.stdout.write(f"{directory}\n")
    return 0
