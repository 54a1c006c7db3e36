"""Build Go programs from pinned modules, once per user and version.

A :class:`Programs` value names the modules and the binaries that their packages become. The binaries are
cached in ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/<name>/<hash>``. The hash covers everything that decides
what is built (required versions, sources, build flags, Go version, platform), so several clones share one
build, and a changed version never finds an old binary.

Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

import fcntl
import functools
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
from dataclasses import dataclass, field
from pathlib import Path

# The user's own flags or workspace must not change the result: the hash promises the versions of go.mod,
# verified by go.sum.
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
GO_BUILD = ("build", "-trimpath", "-buildvcs=false")


class BuildError(RuntimeError):
    """Something cannot be built. The message states what to do, or contains the output of a tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One Go module, and the binaries that its packages become.

    ``folder`` holds go.mod, go.sum and any sources of our own, ``packages`` maps each binary to its package,
    ``released`` is the module whose version is the product's. ``variables`` returns what the linker sets,
    given that version. ``files`` are sources outside of the module, from which its only binary is built.
    """

    folder: Path
    packages: Mapping[str, str]
    released: str = ""
    variables: Callable[[str], Mapping[str, str]] = lambda _version: {}
    files: tuple[Path, ...] = ()

    @property
    def version(self) -> str:
        """The released version, which only go.mod states; empty without ``released``."""
        return required_version(self.folder / "go.mod", self.released) if self.released else ""

    def sources(self) -> list[Path]:
        """Return the Go files that are built; empty if all packages are in other modules."""
        own = sorted(path for path in self.folder.glob("*.go") if not path.name.endswith("_test.go"))
        return [*own, *self.files]

    def linker_flags(self) -> str:
        """Return the flags that leave out debugging symbols and set the variables."""
        set_variables = (f"-X {name}={value}" for name, value in self.variables(self.version).items())
        return " ".join(("-s", "-w", *set_variables))


def required_version(module_file: Path, module: str) -> str:
    """Return the version of a module that a go.mod requires. Raises BuildError if it requires none."""
    text = module_file.read_text(encoding="utf-8")
    found = re.search(rf"^(?:require)?\s+{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{module_file} does not require {module}")
    return found[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Products that are built into one directory.

    ``name`` is the directory's name in the cache. ``title`` and ``target`` name the programs and the make
    target in error messages. ``assets`` returns binaries that exist already, which are linked to instead of
    built.
    """

    name: str
    products: tuple[Product, ...]
    title: str
    target: str
    assets: Callable[[], Mapping[str, Path]] = field(default=dict)

    @property
    def binaries(self) -> tuple[str, ...]:
        return tuple(name for product in self.products for name in product.packages)

    def cached(self) -> Path:
        """Return the directory with all binaries.

        Raises BuildError, which says how to build them, if one is missing.
        """
        directory = self._directory(self.assets())
        if not self._complete(directory):
            raise BuildError(f"{self.title} is not built; run: {self.target}")
        return directory

    def build(self) -> Path:
        """Return the directory with all binaries, after building them if one is missing.

        The directory appears only when it is complete. A second build at the same time waits for the first.
        """
        go, assets = find_go(), self.assets()
        directory = self._directory(assets)
        if self._complete(directory):
            return directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Other programs may be built in the same parent at the same time.
        with locked(directory.parent / f".lock-{directory.name}"):
            if self._complete(directory):
                return directory
            building = f".building-{directory.name}-"
            for leftover in directory.parent.glob(f"{building}*"):
                # Only the holder of the lock builds, so the process that made this was killed.
                shutil.rmtree(leftover)
            unfinished = Path(tempfile.mkdtemp(prefix=building, dir=directory.parent))
            try:
                self._fill(unfinished, go, assets)
                unfinished.chmod(0o755)
                if directory.exists():  # incomplete: a file was removed from it
                    shutil.rmtree(directory)
                unfinished.rename(directory)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        return directory

    def _fill(self, directory: Path, go: str, assets: Mapping[str, Path]) -> None:
        for name, path in assets.items():
            _say(f"{name}: taken from {path}")
            (directory / name).symlink_to(path)
        for product in self.products:
            missing = {name: package for name, package in product.packages.items() if name not in assets}
            if not missing:
                continue
            _say(f"building {' '.join([', '.join(missing), product.version]).strip()} …")
            began = time.monotonic()
            # A single package gets a name for its output file, because Go would name etcd's binary "server".
            output = f"{directory}/{next(iter(missing))}" if len(missing) == 1 else f"{directory}/"
            flags = product.linker_flags()
            built = product.files or missing.values()
            command = [go, *GO_BUILD, "-ldflags", flags, "-o", output, *map(str, built)]
            status = subprocess.run(
                command,
                cwd=product.folder,
                env=os.environ | GO_ENVIRONMENT,
                stdout=sys.stderr,
                check=False,
            ).returncode
            if status != 0:
                names = ", ".join(missing)
                raise BuildError(f"building {names} failed with status {status}; its output is above")
            _say(f"built {', '.join(missing)} in {time.monotonic() - began:.0f} s")

    def _directory(self, assets: Mapping[str, Path]) -> Path:
        """Return the directory in which the binaries of these sources are, or will be."""
        digest = hashlib.sha256()
        for product in self.products:
            for path in (product.folder / "go.mod", product.folder / "go.sum"):
                if path.exists():  # a module without dependencies has no go.sum
                    digest.update(_without_module_name(path.read_bytes()))
            for path in product.sources():
                digest.update(path.read_bytes())
            # Run in the module's directory, because its go directive may select another toolchain.
            digest.update(run_go(product.folder, "env", "GOVERSION", "GOOS", "GOARCH").encode())
            flags = product.linker_flags()
            digest.update(repr((GO_ENVIRONMENT, GO_BUILD, flags, dict(product.packages))).encode())
        digest.update(repr(sorted((name, str(path)) for name, path in assets.items())).encode())
        return cache() / self.name / digest.hexdigest()[:16]

    def _complete(self, directory: Path) -> bool:
        return all(os.access(directory / name, os.X_OK) for name in self.binaries)


def find_go(elsewhere: Path = Path("/usr/local/go/bin")) -> str:
    """Return the ``go`` on PATH, or the one where its installer puts it.

    Raises BuildError, which says what to install, if there is none.
    """
    go = shutil.which("go") or shutil.which("go", path=elsewhere)
    if go is None:
        raise BuildError(
            "the programs are compiled from source and there is no `go` on PATH; install Go 1.26 "
            "(https://go.dev/doc/install), or 1.21 or later, which fetches the release that go.mod requires"
        )
    return go


def run_go(folder: Path, *arguments: str) -> str:
    """Return what ``go`` prints in a module's folder. Raises BuildError."""
    done = subprocess.run(
        [find_go(), *arguments],
        cwd=folder,
        env=os.environ | GO_ENVIRONMENT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        # With -json, the reason is on standard output.
        reason = done.stderr.strip() or done.stdout.strip()
        raise BuildError(f"`go {' '.join(arguments)}` failed: {reason}")
    return done.stdout


@functools.cache
def program(name: str, folder: Path, package: str = ".") -> Path:
    """Build a package of the module in ``folder``, and return the program's path. Raises BuildError."""
    product = Product(folder=folder, packages={name: package})
    return Programs(name="go", products=(product,), title=name, target="make bench").build() / name


def cache() -> Path:
    """Return the directory for everything that is built once per user."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock inside the ``with`` block. If another process holds it, wait."""
    with path.open("w") as file:  # compilers do not inherit the lock: Python opens files close-on-exec
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another build to finish …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _without_module_name(module_file: bytes) -> bytes:
    """Return a go.mod without comments and the module's name, which depends on the folder only."""
    return re.sub(rb"(?m)^(module\s|\s*//).*\n", b"", module_file)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
