"""Show the measurements of each attack at the end of a run."""

from __future__ import annotations

from typing import Final

import pytest

from exhaustion.memory import MIB
from exhaustion.target import KINDS, Attempt

ATTEMPTS: Final = pytest.StashKey[dict[str, Attempt]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ATTEMPTS] = {}


@pytest.fixture(scope="session")
def attempts(pytestconfig: pytest.Config) -> dict[str, Attempt]:
    """Return the list of attempts, which is shown at the end of the run."""
    return pytestconfig.stash[ATTEMPTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    attempts = config.stash[ATTEMPTS]
    if not attempts:
        return
    terminalreporter.section("attacks")
    terminalreporter.line(f"{'':50} established      new  look-up   memory     own reviews others")
    for name, attempt in attempts.items():
        established, new, looked_up = (attempt.worst(kind, forgiving=attempt.is_busy) for kind in KINDS)
        terminalreporter.line(
            f"{name:50} {established * 1000:8.0f} ms {new * 1000:5.0f} ms {looked_up * 1000:5.0f} ms"
            f" {attempt.growth / MIB:4.0f} MiB {attempt.own / MIB:3.0f} MiB {len(attempt.samples):7}"
            f" {attempt.foreign_cores:6.2f}"
        )
