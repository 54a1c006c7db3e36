"""Build the load generator, once for each state of its sources.

The binary is ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/generator/<hash>/generator``; the hash covers
the sources, the Go version and the platform. Standard library only, so that tests can use it, too.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parent / "generator"

ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
"""A user's own flags or workspace must not change what the hash promises."""


class BuildError(RuntimeError):
    """There is no generator to be had; the message says what to do about it."""


@functools.cache
def build() -> Path:
    """The generator's binary, compiled unless it is there already. Raises ``BuildError``."""
    go = _find_go()
    binary = _folder(go) / "generator"
    if os.access(binary, os.X_OK):
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=binary.parent) as unfinished:
        made = Path(unfinished) / "generator"
        command = [go, "build", "-trimpath", "-buildvcs=false", "-o", str(made), "."]
        compiled = subprocess.run(
            command, cwd=SOURCES, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if compiled.returncode != 0:
            raise BuildError(f"the load generator does not compile:\n{compiled.stderr}")
        made.replace(binary)  # whoever builds at the same time makes the same file
    return binary


def _find_go(elsewhere: Path = Path("/usr/local/go/bin")) -> str:
    go = shutil.which("go") or shutil.which("go", path=elsewhere)
    if go is None:
        raise BuildError(
            "the load generator is compiled from source and there is no `go` on PATH; "
            "install Go 1.24 or later (https://go.dev/doc/install)"
        )
    return go


def _folder(go: str) -> Path:
    digest = hashlib.sha256()
    answer = subprocess.run(
        [go, "env", "GOVERSION", "GOOS", "GOARCH"],
        cwd=SOURCES,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    if answer.returncode != 0:
        raise BuildError(f"`go env` failed: {answer.stderr.decode(errors='replace').strip()}")
    digest.update(answer.stdout)
    for path in sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod"]):
        if not path.name.endswith("_test.go"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py" / "generator" / digest.hexdigest()[:16]
