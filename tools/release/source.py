"""The source of a release: one commit, its version and its time."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = "charts/gatekeeper-py"


class ReleaseError(RuntimeError):
    """The release cannot be built; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkout at ``root``. ``timestamp`` is the time of the commit in seconds since the epoch."""

    root: Path
    version: str
    commit: str
    timestamp: int

    @classmethod
    def of(cls, root: Path, *, allow_changes: bool = False) -> Source:
        """Read a checkout. Raises ``ReleaseError`` if it has changes, or if its versions differ."""
        changes = _git(root, "status", "--porcelain")
        if changes and not allow_changes:
            raise ReleaseError(f"commit or remove these changes first:\n{changes}")
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        version: str = project["version"]
        chart = yaml.safe_load((root / CHART / "Chart.yaml").read_text(encoding="utf-8"))
        for field in ("version", "appVersion"):
            if chart[field] != version:
                raise ReleaseError(
                    f"{CHART}/Chart.yaml has {field} {chart[field]}, but pyproject.toml has version {version}"
                )
        return cls(
            root=root,
            version=version,
            commit=_git(root, "rev-parse", "HEAD"),
            timestamp=int(_git(root, "log", "-1", "--format=%ct")),
        )

    def tracked(self, folder: str) -> list[str]:
        """Return the committed files below a folder, relative to it."""
        listed = _git(self.root, "ls-files", "-z", "--", folder).split("\0")
        return [name.removeprefix(f"{folder}/") for name in listed if name]


def origin(root: Path) -> str:
    """Return the address of the remote ``origin`` as configured, which may contain a password.

    Raises ``ReleaseError`` if there is no such remote.
    """
    return _git(root, "remote", "get-url", "origin")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
