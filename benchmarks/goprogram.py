"""Compile Go programs once per user: the generator, the creator of Pods, peers.

A binary is ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/go/<name>-<hash>/<name>``; the
hash covers everything that affects the build (sources, flags, Go version, platform).
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

BUILD: Final = ("build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
"""Without these, the user's own flags or workspace could change the build without changing the hash."""


class BuildError(RuntimeError):
    """A program cannot be built; the message says what to do about it."""


@functools.cache
def compiled(name: str, folder: Path, *, package: str = ".", released: str = "") -> Path:
    """Return the path of the compiled Go module in ``folder``, or of a package that it requires.

    ``released`` names a version whose sources never change, so that only its module files are read.
    Raises ``BuildError``. The compiler's output goes to standard error.
    """
    binary = cache() / f"{name}-{_hash(folder, package, released)}" / name
    if os.access(binary, os.X_OK):
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    sys.stderr.write(f"building {name} …\n")
    with tempfile.TemporaryDirectory(prefix=".building-", dir=binary.parent) as unfinished:
        made = Path(unfinished) / name
        run_go(folder, *BUILD, "-o", str(made), package)
        made.replace(binary)  # a concurrent build makes the same file
    sys.stderr.write(f"built {name} in {time.monotonic() - began:.0f} s\n")
    return binary


def lacking() -> str | None:
    """Return why no Go program can be built on this machine, or ``None``."""
    if _find() is None:
        return (
            "it is compiled from source and there is no `go` on PATH; "
            "install Go 1.24 or later (https://go.dev/doc/install)"
        )
    return None


def version(folder: Path) -> str:
    """Return the version of Go that compiles a module, as ``go1.26.8``. Raises ``BuildError``."""
    return run_go(folder, "env", "GOVERSION").strip()


def run_go(folder: Path, *arguments: str) -> str:
    """Return what ``go`` prints to stdout in a module's folder. Raises ``BuildError``."""
    go = _find()
    if go is None:
        raise BuildError(lacking() or "")
    done = subprocess.run(
        [go, *arguments],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(
            f"`go {arguments[0]} …` in {folder.name} ended with status {done.returncode}; its output is above"
        )
    return done.stdout


def cache() -> Path:
    """Return the folder of the compiled programs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py" / "go"


def _find(elsewhere: Path = Path("/usr/local/go/bin")) -> str | None:
    return shutil.which("go") or shutil.which("go", path=elsewhere)


def _hash(folder: Path, package: str, released: str) -> str:
    digest = hashlib.sha256(repr((BUILD, sorted(ENVIRONMENT.items()), package, released)).encode())
    digest.update(run_go(folder, "env", "GOVERSION", "GOOS", "GOARCH").encode())
    sources = [] if released else folder.glob("*.go")
    for path in sorted([*sources, *folder.glob("go.*")]):
        if not path.name.endswith("_test.go"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
