"""The peers in ``peers.yaml``: their requirements, and how to build and start them."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import yaml

from benchmarks.contestant import Contestant, Launch
from tools import gobuild
from tools.gobuild import BuildError

HERE: Final = Path(__file__).resolve().parent
APPROVED: Final = HERE / "approved.txt"
REQUIREMENTS: Final = HERE / "requirements.txt"
OWN_UV: Final = HERE.parents[1] / ".uv" / "bin" / "uv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another server that makes the same decision; ``peers.yaml`` describes the fields."""

    name: str
    arguments: Sequence[str]
    go: str = ""
    package: str = "."
    python: str = ""
    version: str = ""
    path: str = "/validate-image"

    def lacking(self) -> str | None:
        """Return why it cannot be built on this machine, or ``None``."""
        if self.go:
            try:
                gobuild.find_go()
            except BuildError as problem:
                return str(problem)
        elif _find_uv() is None and find_spec("ensurepip") is None:
            return "its environment needs uv (`make setup` installs it) or Python's own venv with ensurepip"
        return None

    def build(self) -> Path:
        """Return the path of its program, built if necessary. Raises ``BuildError``."""
        if self.go:
            return gobuild.program(self.go, HERE / self.go, self.package)
        return python_environment() / self.python

    def pinned(self) -> str:
        """Return its exact version."""
        if self.python:
            return ", ".join(f"{package} {pins()[package]}" for package in self.version.split())
        if self.version:
            return gobuild.required_version(HERE / self.go / "go.mod", self.version).removeprefix("v")
        return gobuild.run_go(HERE / self.go, "env", "GOVERSION").strip()

    def contestant(self, program: Path) -> Contestant:
        """Return the peer in the form that benchmarks start."""

        def argv(launch: Launch) -> list[str]:
            files = {"certificate": launch.certificate.resolve(), "key": launch.key.resolve(), "here": HERE}
            return [str(program), *(each.format(port=launch.port, **files) for each in self.arguments)]

        environment = {"GOMAXPROCS": "1"} if self.go else {}
        return Contestant(self.name, self.pinned(), argv, environment, self.path)


PEERS: Final = tuple(Peer(**row) for row in yaml.safe_load((HERE / "peers.yaml").read_text(encoding="utf-8")))


def python_environment() -> Path:
    """Return the ``bin`` directory of an environment of the running Python with exactly ``requirements.txt``.

    The environment is kept below ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/peers``. Its name is a hash of
    the Python version, the platform and ``requirements.txt``. It is used only if it contains the file
    ``complete``, which is written last, under a lock. Raises ``BuildError``.
    """
    python = (sys.version, platform.machine(), sys.platform)
    digest = hashlib.sha256(repr(python).encode() + REQUIREMENTS.read_bytes()).hexdigest()[:16]
    environment = gobuild.cache() / "peers" / digest
    environment.parent.mkdir(parents=True, exist_ok=True)
    with gobuild.locked(environment.with_suffix(".lock")):
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)  # left by a build that was interrupted
            _install(environment)
            (environment / "complete").touch()
    return environment / "bin"


def _install(environment: Path) -> None:
    uv, inside = _find_uv(), str(environment / "bin" / "python")
    if uv is not None:
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
        install: tuple[str, ...] = (uv, "pip", "install", "--quiet", "--python", inside)
    else:
        _run(sys.executable, "-m", "venv", str(environment))
        install = (inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # Only pinned packages are installed; if a dependency is not pinned, the peer fails to start.
    _run(*install, "--no-deps", "--only-binary", ":all:", "-r", str(REQUIREMENTS))


def _run(*command: str) -> None:
    """Run a command, with its output on standard error."""
    done = subprocess.run(command, cwd=HERE, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        shown = f"{Path(command[0]).name} {' '.join(command[1:3])}"
        raise BuildError(f"`{shown} …` ended with status {done.returncode}; its output is above")


def _find_uv() -> str | None:
    return str(OWN_UV) if os.access(OWN_UV, os.X_OK) else shutil.which("uv")


def pins() -> dict[str, str]:
    """Return the versions that ``requirements.txt`` pins, by package."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    requirements = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(line.split("==") for line in requirements)


def missing(peers: Sequence[Peer] = PEERS) -> dict[str, str]:
    """Return the peers that cannot be built on this machine: name -> missing tool."""
    reasons = {peer.name: peer.lacking() for peer in peers}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def contestants(peers: Sequence[Peer] = PEERS) -> list[Contestant]:
    """Build all peers that can be built, and return them. Names those left out on standard error.

    Raises ``BuildError``, naming the peer, when a build fails.
    """
    left_out = missing(peers)
    for name, reason in left_out.items():
        sys.stderr.write(f"{name} is left out: {reason}\n")
    built = []
    for peer in peers:
        if peer.name in left_out:
            continue
        try:
            built.append(peer.contestant(peer.build()))
        except BuildError as error:
            raise BuildError(f"{peer.name} cannot be built: {error}") from error
    return built
