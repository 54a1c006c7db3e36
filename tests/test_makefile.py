"""The Makefile runs programs in an environment in which the tests are fast."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def test_programs_of_the_tests_may_write_bytecode() -> None:
    """Container images often forbid it. Then each of thousands of processes compiles all modules."""
    shown = subprocess.run(
        ["make", "--silent", "--file=Makefile", "--file=-", "show"],
        input="show: ; @env\n",
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "KEPT": "1"},
        capture_output=True,
        check=True,
        text=True,
    ).stdout.splitlines()
    assert "KEPT=1" in shown
    assert [line for line in shown if line.startswith("PYTHONDONTWRITEBYTECODE=")] == []
