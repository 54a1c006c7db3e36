"""Make small root file systems of Debian, once per user, release and choice of packages. Standard library only."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
from pathlib import Path

# The index of a mirror may be older than the date in it.
MMDEBSTRAP = ("mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"')


def root_file_system(release: str, packages: tuple[str, ...]) -> Path:
    """Return a tar of a release's smallest root file system with these packages.

    It is kept in ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/debian``, named by a hash of its inputs. Raises
    ``CalledProcessError``.
    """
    decides = "\n".join((release, platform.machine(), *packages))
    name = f"{release}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}.tar"
    tar = cache("debian") / name
    with tar.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            # Without the ending .tar, mmdebstrap would make a directory.
            unfinished = tar.with_name(f"unfinished-{name}")
            subprocess.run(
                [*MMDEBSTRAP, f"--include={','.join(packages)}", release, unfinished],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            unfinished.rename(tar)
    return tar


def cache(kind: str) -> Path:
    """Return the directory in which results of this kind are kept, after making it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "gatekeeper-py" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
