"""Find the interpreters that the package supports: on PATH, and where pyenv keeps them.

``python3 -m tools.pythons 3.12 3.13`` prints the version and the path of each, one in a line.
Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


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


def main(versions: list[str]) -> int:
    """Print the interpreters; fail when one is missing."""
    found = {version: find(version) for version in versions}
    sys.stdout.writelines(f"{version} {path}\n" for version, path in found.items() if path is not None)
    missing = [version for version, path in found.items() if path is None]
    if missing:
        sys.stderr.write(f"error: no interpreter found for Python {', '.join(missing)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
