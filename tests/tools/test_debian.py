"""Root file systems of Debian are made once for the same release, packages and architecture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALL = (
    "import sys; from tools import debian; print(debian.root_file_system(sys.argv[1], tuple(sys.argv[2:])))"
)
MMDEBSTRAP = """#!/bin/sh
echo "$@" >>"$XDG_CACHE_HOME/calls"
for last; do :; done
echo made >"$last"
[ "$RESULT" = good ] || { echo "no such release"; exit 25; }
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a cache beside a mmdebstrap that records its calls."""
    (tmp_path / "mmdebstrap").write_text(MMDEBSTRAP)
    (tmp_path / "mmdebstrap").chmod(0o755)
    return tmp_path


def made(machine: Path, *arguments: str, result: str = "good") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        cwd=ROOT,
        env={"PATH": f"{machine}:/usr/bin:/bin", "XDG_CACHE_HOME": str(machine), "RESULT": result},
        capture_output=True,
        text=True,
        check=False,
    )


def calls(machine: Path) -> list[str]:
    return (machine / "calls").read_text().splitlines()


def test_the_same_root_file_system_is_made_once(machine: Path) -> None:
    first = Path(made(machine, "sid", "make").stdout.strip())
    assert first.read_text() == "made\n"
    assert made(machine, "sid", "make").stdout.strip() == str(first)
    assert len(calls(machine)) == 1


def test_other_packages_are_another_root_file_system(machine: Path) -> None:
    assert made(machine, "sid", "make").stdout != made(machine, "sid", "git").stdout
    assert [call.split()[-3:-1] for call in calls(machine)] == [
        ["--include=make", "sid"],
        ["--include=git", "sid"],
    ]


def test_an_old_index_of_the_mirror_is_accepted(machine: Path) -> None:
    made(machine, "sid", "make")
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in calls(machine)[0]


def test_a_failure_shows_the_output_and_is_not_kept(machine: Path) -> None:
    failed = made(machine, "sid", "make", result="bad")
    assert failed.returncode == 1
    assert "no such release" in failed.stderr
    assert Path(made(machine, "sid", "make").stdout.strip()).exists()
    assert len(calls(machine)) == 2
