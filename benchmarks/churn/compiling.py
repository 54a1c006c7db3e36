"""Go programs built once per user: the cache's key is a hash of everything that decides what comes out."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane.build import BuildError, find_go

CREATOR = Path(__file__).parent / "creator"
_BUILD = ("build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}


def creator() -> Path:
    """The program that sends Pods; it has no dependencies, so it builds without a network."""
    sources = sorted(path for path in CREATOR.iterdir() if path.suffix in {".go", ".mod"})
    return compiled("creator", CREATOR, sources)


def compiled(name: str, folder: Path, sources: Sequence[Path], *, fixed: str = "") -> Path:
    """The binary of the package in ``folder``, built when these sources (or ``fixed``) are new.

    Raises BuildError without Go or when it does not compile; the compiler's words go to stderr.
    """
    go, environment = find_go(), os.environ | _ENVIRONMENT
    version = subprocess.run(
        [go, "env", "GOVERSION", "GOOS", "GOARCH"],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    if version.returncode != 0:
        raise BuildError(f"`go env` failed: {version.stderr.decode(errors='replace').strip()}")
    digest = hashlib.sha256(version.stdout + repr((_BUILD, sorted(_ENVIRONMENT.items()), fixed)).encode())
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    binary = cache() / f"{name}-{digest.hexdigest()[:16]}" / name
    if os.access(binary, os.X_OK):
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=binary.parent) as unfinished:
        made = Path(unfinished) / name
        status = subprocess.run(
            [go, *_BUILD, "-o", str(made), "."],
            cwd=folder,
            env=environment,
            stdout=sys.stderr,
            check=False,
        ).returncode
        if status != 0:
            raise BuildError(f"building {name} failed with status {status}; its output is above")
        made.replace(binary)  # two builds at once are harmless: the same binary twice
    return binary


def cache() -> Path:
    """Where the programs of this benchmark are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py" / "churn"
