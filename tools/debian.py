"""Make small root file systems of Debian, once per user. Standard library only."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

from tools import gobuild
from tools.gobuild import BuildError

# The index of a mirror may be older than the date in it.
MMDEBSTRAP = ("mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"')


def root_file_system(release: str, packages: tuple[str, ...]) -> Path:
    """Return a tar of a release's smallest root file system with these packages.

    It is kept in ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/debian``, named by a hash of its inputs. Raises
    ``BuildError``.
    """
    decides = "\n".join((release, platform.machine(), *packages))
    name = f"{release}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}.tar"
    tar = cache("debian") / name
    with gobuild.locked(tar.with_suffix(".lock")):
        if not tar.exists():
            # Without the ending .tar, mmdebstrap would make a directory.
            unfinished = tar.with_name(f"unfinished-{name}")
            run(*MMDEBSTRAP, f"--include={','.join(packages)}", release, str(unfinished))
            unfinished.rename(tar)
    return tar


def cache(kind: str) -> Path:
    """Return the directory in which results of this kind are kept, after making it."""
    folder = gobuild.cache() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(*command: str, **environment: str) -> str:
    """Run a tool; return its output. Raises ``BuildError`` with the output of a failed tool."""
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
