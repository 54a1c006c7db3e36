"""Find the interpreters that the package supports: on PATH, and where pyenv keeps them.

``python3 -m tools.pythons`` prints the version and the path of each, one in a line. With ``--others``, it
leaves out the version that runs it. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")


def find(version: str) -> Path | None:
    """Return an interpreter of this minor version that runs, or ``None``."""
    return next(filter(lambda path: _runs(path, version), _candidates(version)), None)


def _candidates(version: str) -> Iterator[Path]:
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = pyenv.glob(f"versions/{version}.*/bin/python{version}")
    yield from sorted(found, key=_release, reverse=True)


def _release(path: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", path.parts[-3])]


def _runs(path: Path, version: str) -> bool:
    # A shim of pyenv exists for every version, and fails unless the version is selected.
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", question], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def main() -> int:
    """Print the interpreters; fail when one is missing."""
    missing = []
    own = ".".join(map(str, sys.version_info[:2]))
    for version in SUPPORTED:
        if version == own and "--others" in sys.argv[1:]:
            continue
        path = find(version)
        if path is None:
            missing.append(version)
        else:
            sys.stdout.write(f"{version} {path}\n")
    if missing:
        sys.stderr.write(f"error: no interpreter found for Python {', '.join(missing)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
