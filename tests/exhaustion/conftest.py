"""Select the attacks of a run, and show the measurements of each attack at its end."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

from exhaustion import sampling
from exhaustion.memory import MIB
from exhaustion.target import KINDS, Attempt

ATTEMPTS: Final = pytest.StashKey[dict[str, Attempt]]()
SAMPLE: Final = pytest.StashKey[str]()
"""How many attacks were selected, and the command that selects them again."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sample",
        metavar="SEED",
        help=f"run one attack in {sampling.ONE_IN} of each kind, chosen by this text, and all those that "
        "belong to changed files",
    )
    parser.addoption(
        "--since",
        metavar="COMMIT",
        help="the files that differ from this commit count as changed; default: where the change left "
        f"{sampling.MAIN}, or else the parent commit",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ATTEMPTS] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select a sample. A second run of failed attacks needs no new selection."""
    seed = config.getoption("--sample", None)
    if seed is None or config.getoption("lf", False):
        return
    try:
        since = sampling.base(config.getoption("--since"))
        modules = sampling.touched(sampling.changed_since(since))
    except (OSError, subprocess.CalledProcessError) as problem:
        why = getattr(problem, "stderr", None) or problem
        raise pytest.UsageError(f"--since is needed, because Git shows no changes: {why}") from problem
    rows = [item.nodeid for item in items if item.path.parent == sampling.HERE]
    left_out = set(rows) - sampling.chosen(rows, seed, modules)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]
    config.stash[SAMPLE] = (
        f"{len(rows) - len(left_out)} of {len(rows)} attacks were selected, all of them in: "
        f"{', '.join(sorted(modules)) or 'no module'}. The same ones again:\n"
        f"make exhaustion ARGS='--sample {seed} --since {since}'"
    )


@pytest.fixture(scope="session")
def attempts(pytestconfig: pytest.Config) -> dict[str, Attempt]:
    """Return the list of attempts, which is shown at the end of the run."""
    return pytestconfig.stash[ATTEMPTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    attempts = config.stash[ATTEMPTS]
    if not attempts:
        return
    terminalreporter.section("attacks")
    if SAMPLE in config.stash:
        terminalreporter.line(config.stash[SAMPLE])
    terminalreporter.line(f"{'':50} established      new  look-up   memory     own reviews others")
    for name, attempt in attempts.items():
        established, new, looked_up = (attempt.worst(kind, forgiving=attempt.is_busy) for kind in KINDS)
        terminalreporter.line(
            f"{name:50} {established * 1000:8.0f} ms {new * 1000:5.0f} ms {looked_up * 1000:5.0f} ms"
            f" {attempt.growth / MIB:4.0f} MiB {attempt.own / MIB:3.0f} MiB {len(attempt.samples):7}"
            f" {attempt.foreign_cores:6.2f}"
        )
