"""The source of a release: one commit, its version, its time, and the public address of its repository."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = "charts/gatekeeper-py"

SCHEMES: Final = frozenset({"https", "http", "ssh", "git"})

_SCP: Final = re.compile(r"(?:[^@/]*@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>(?!//).+)", re.DOTALL)
"""The short form of an SSH address: ``git@host:path``."""

_HOST: Final = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")


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


def public_address(text: str) -> str:
    """Return the URL of a repository without user name and password, which may be a token.

    ``git@host:path`` becomes ``ssh://host/path``. Raises ``ReleaseError`` for everything else that is not a
    plain URL of a repository on a host. The message does not quote the text, because logs are public.
    """
    short = _SCP.fullmatch(text)
    if short is not None and short["host"].lower() not in SCHEMES and len(short["host"]) > 1:
        text = f"ssh://{short['host']}/{short['path'].removeprefix('/')}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused() from None
    plain = parts.scheme in SCHEMES and _HOST.fullmatch(host) and _PATH.fullmatch(parts.path)
    # urlsplit drops line breaks and tabs, and an empty query leaves only its "?" in the text.
    if not plain or not text.isprintable() or "?" in text or "#" in text:
        raise _refused()
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{parts.path}"


def _refused() -> ReleaseError:
    return ReleaseError(
        "the address of the repository is not a URL such as https://git.example/gatekeeper-py, without query"
        " and fragment (it is not shown here, because it may contain a secret)"
    )


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
