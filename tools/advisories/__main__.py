"""Check the lock of this project; exit 1 with a line for each problem."""

from __future__ import annotations

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tools.advisories.floors import problems, stale
from tools.advisories.locked import runtime_packages

ROOT: Final = Path(__file__).resolve().parents[2]


def main() -> int:
    """Print the problems and return the exit code."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    table = tomllib.loads((Path(__file__).with_name("floors.toml")).read_text(encoding="utf-8"))
    found = list(problems(runtime_packages(lock, project), table))
    # This is only a warning, because a commit that passed before must not fail only after some time.
    for line in stale(table, datetime.now(UTC).date()):
        sys.stderr.write(f"warning: {line}\n")
    for line in found:
        sys.stderr.write(f"{line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
