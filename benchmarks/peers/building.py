"""Build the parts of peers that are not Go programs: an environment for the Python ones, and OPA's data.

Both are kept below ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/peers/<hash>``; the hash covers everything
that affects the build (pinned versions, Python version, platform, the data). A build writes its progress to
standard error. A directory is used only if it holds the file ``complete``, which is written last, under a
lock.
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
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.goprogram import BuildError

HERE: Final = Path(__file__).resolve().parent
APPROVED: Final = HERE / "approved.txt"
REQUIREMENTS: Final = HERE / "requirements.txt"
OWN_UV: Final = HERE.parents[1] / ".uv" / "bin" / "uv"


def lacking_python() -> str | None:
    """Return why no environment can be created on this machine, or ``None``."""
    if _find_uv() is None and find_spec("ensurepip") is None:
        return "its environment needs uv (`make setup` installs it) or Python's own venv with ensurepip"
    return None


def required(folder: str, module: str) -> str:
    """Return the version of a module that ``folder``'s go.mod pins, without the ``v``."""
    text = (HERE / folder / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"^(?:require)?\s+{re.escape(module)} v(\S+)", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{folder}/go.mod does not require {module}")
    return found[1]


def pins() -> dict[str, str]:
    """Return the versions that ``requirements.txt`` pins, by package."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    requirements = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(line.split("==") for line in requirements)


def python_environment() -> Path:
    """Return the ``bin`` directory of an environment of the running Python with exactly ``requirements.txt``.

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
            # Only pinned packages are installed; if a dependency is not pinned, the peer fails to start.
            install = (uv, "pip", "install", "--quiet", "--python", inside)
        else:
            _run(sys.executable, "-m", "venv", str(environment))
            install = (inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*install, "--no-deps", "--only-binary", ":all:", "-r", str(REQUIREMENTS))

    _once(directory, "the Python environment", install)
    return environment / "bin"


def approved_data() -> Path:
    """Return the path of the approved hosts as JSON data for OPA."""
    hosts = dict.fromkeys(APPROVED.read_text(encoding="utf-8").split(), True)
    text = json.dumps({"approved": {"hosts": hosts}})
    directory = _cache() / hashlib.sha256(text.encode()).hexdigest()[:16]
    path = directory / "approved.json"
    _once(directory, None, lambda: path.write_text(text, encoding="utf-8"))
    return path


def _once(directory: Path, what: str | None, make: Callable[[], object]) -> None:
    """Fill a directory unless it is complete. Other processes that need it wait."""
    complete = directory / "complete"
    if complete.exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return
        shutil.rmtree(directory, ignore_errors=True)  # left by a build that was interrupted
        directory.mkdir()
        began = time.monotonic()
        if what is not None:
            _say(f"building {what} …")
        make()
        complete.touch()
        if what is not None:
            _say(f"built {what} in {time.monotonic() - began:.0f} s")


def _run(*command: str) -> None:
    """Run a command, with its output on standard error."""
    done = subprocess.run(command, cwd=HERE, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        shown = f"{Path(command[0]).name} {' '.join(command[1:3])}"
        raise BuildError(f"`{shown} …` ended with status {done.returncode}; its output is above")


def _find_uv() -> str | None:
    return str(OWN_UV) if os.access(OWN_UV, os.X_OK) else shutil.which("uv")


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gatekeeper-py" / "peers"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
