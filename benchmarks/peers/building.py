"""Build the peers, once per user and version: Go programs, and one environment for the Python ones.

Both are kept below ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/peers/<hash>``; everything that decides what
comes out (sources, pinned versions, flags, Go or Python version, platform) is in the hash. A build writes
its progress to standard error, and nothing half-built is ever used: a directory counts once it holds the
file ``complete``, written last under a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
APPROVED: Final = HERE / "approved.txt"
REQUIREMENTS: Final = HERE / "requirements.txt"
OWN_UV: Final = HERE.parents[1] / ".uv" / "bin" / "uv"

GO_ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
"""A user's own flags or workspace must not change what the hash promises."""
GO_BUILD: Final = ("build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w")


class BuildError(RuntimeError):
    """A peer cannot be built although its tools are there; the message says which and why."""


def lacking_go() -> str | None:
    """Why no Go program can be built here, if so."""
    if _find_go() is None:
        return "it is compiled from source and there is no `go` on PATH (https://go.dev/doc/install)"
    return None


def lacking_python() -> str | None:
    """Why no environment can be made here, if so."""
    if _find_uv() is None and find_spec("ensurepip") is None:
        return "its environment needs uv (`make setup` installs it) or Python's own venv with ensurepip"
    return None


def go_program(folder: str, package: str = ".") -> Path:
    """The program of the Go module in ``folder``, or of a package that it requires.

    Raises ``BuildError``.
    """
    source = HERE / folder
    digest = hashlib.sha256(repr((GO_ENVIRONMENT, GO_BUILD, package)).encode())
    for path in sorted([*source.glob("*.go"), *source.glob("go.*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(_go("env", "GOVERSION", "GOOS", "GOARCH", source=source).encode())
    directory = _cache() / digest.hexdigest()[:16]
    program = directory / folder

    def compile_it() -> None:
        _go(*GO_BUILD, "-o", str(program), package, source=source)

    _once(directory, folder, compile_it)
    return program


def go_version(folder: str) -> str:
    """The Go that compiles a module, as ``go1.26.8``."""
    return _go("env", "GOVERSION", source=HERE / folder).strip()


def required(folder: str, module: str) -> str:
    """The version of a module as ``folder``'s go.mod pins it, without the ``v``."""
    text = (HERE / folder / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"^(?:require)?\s+{re.escape(module)} v(\S+)", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{folder}/go.mod does not require {module}")
    return found[1]


def pins() -> dict[str, str]:
    """What ``requirements.txt`` pins: package -> version."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    wanted = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(line.split("==") for line in wanted)


def python_environment() -> Path:
    """The ``bin`` directory of an environment with exactly ``requirements.txt``, of the running Python.

    Raises ``BuildError``.
    """
    python = (sys.version, platform.machine(), sys.platform)
    digest = hashlib.sha256(repr(python).encode() + REQUIREMENTS.read_bytes())
    directory = _cache() / digest.hexdigest()[:16]
    environment = directory / "venv"
    inside = str(environment / "bin" / "python")

    def install() -> None:
        uv = _find_uv()
        if uv is not None:
            _run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
            # No dependency but the pinned ones: a package that wants more fails when it is started.
            install = (uv, "pip", "install", "--quiet", "--python", inside)
        else:
            _run(sys.executable, "-m", "venv", str(environment))
            install = (inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*install, "--no-deps", "--only-binary", ":all:", "-r", str(REQUIREMENTS))

    _once(directory, "the Python environment", install)
    return environment / "bin"


def approved_data() -> Path:
    """The approved hosts as the JSON data of an OPA policy, beside what is built."""
    hosts = dict.fromkeys(APPROVED.read_text(encoding="utf-8").split(), True)
    text = json.dumps({"approved": {"hosts": hosts}})
    directory = _cache() / hashlib.sha256(text.encode()).hexdigest()[:16]
    path = directory / "approved.json"
    _once(directory, None, lambda: path.write_text(text, encoding="utf-8"))
    return path


def _once(directory: Path, what: str | None, make: Callable[[], object]) -> None:
    """Fill a directory unless it is complete; whoever comes at the same time waits."""
    complete = directory / "complete"
    if complete.exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return
        shutil.rmtree(directory, ignore_errors=True)  # whoever made this was ended
        directory.mkdir()
        began = time.monotonic()
        if what is not None:
            _say(f"building {what} …")
        make()
        complete.touch()
        if what is not None:
            _say(f"built {what} in {time.monotonic() - began:.0f} s")


def _go(*arguments: str, source: Path) -> str:
    go = _find_go()
    if go is None:
        raise BuildError(lacking_go() or "")
    return _run(go, *arguments, folder=source, environment=GO_ENVIRONMENT)


def _run(*command: str, folder: Path = HERE, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; its other output goes to standard error as it comes."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shown = f"{Path(command[0]).name} {' '.join(command[1:3])}"
        raise BuildError(f"`{shown} …` ended with status {done.returncode}; its output is above")
    return done.stdout


def _find_go(elsewhere: Path = Path("/usr/local/go/bin")) -> str | None:
    return shutil.which("go") or shutil.which("go", path=elsewhere)


def _find_uv() -> str | None:
    return str(OWN_UV) if os.access(OWN_UV, os.X_OK) else shutil.which("uv")


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py" / "peers"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
