"""Floors for dependencies: a version that is too old and a dependency that is not listed are refused."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tools.advisories import MAX_DAYS, LockError, problems, runtime_packages, stale

ROOT: Final = Path(__file__).parents[2]

TABLE: Final = {
    "floors": {"web": {"least": "3.14.5", "advisory": "CVE-1"}},
    "none-known": {"plain": "2026-01-01"},
}


def locked(**versions: str) -> dict[str, set[str]]:
    return {"web": {"3.14.5"}, "plain": {"1.0"}} | {name: {each} for name, each in versions.items()}


@pytest.mark.parametrize(
    ("version", "passes"),
    [
        ("3.14.5", True),
        ("3.14.5.0", True),
        ("3.14.5.post1", True),
        ("3.14.10", True),
        ("3.15", True),
        ("4", True),
        ("3.14.4", False),
        ("3.14", False),
        ("3.9.99", False),
        ("2026.1", True),
        ("3.14.5rc1", False),
        ("3.14.5.dev3", False),
        ("3.14.5b2", False),
    ],
)
def test_a_version_below_a_floor_fails_and_the_advisory_is_named(version: str, *, passes: bool) -> None:
    found = list(problems(locked(web=version), TABLE))
    assert (not found) is passes
    assert passes or "CVE-1" in found[0]


def test_every_version_of_a_package_must_pass() -> None:
    (found,) = problems({**locked(), "web": {"3.14.5", "3.14.1"}}, TABLE)
    assert "web 3.14.1" in found


def test_an_unreviewed_dependency_fails() -> None:
    (found,) = problems(locked(fresh="1.0"), TABLE)
    assert "fresh 1.0" in found


def test_an_entry_for_a_package_that_is_not_locked_fails() -> None:
    (found,) = problems({"web": {"3.14.5"}}, TABLE)
    assert "plain" in found


def test_a_package_is_in_one_table_only() -> None:
    table: dict[str, Any] = {**TABLE, "none-known": {"plain": "2026-01-01", "web": "2026-01-01"}}
    (found,) = problems(locked(), table)
    assert "both" in found


def test_an_invalid_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="Invalid version"):
        list(problems(locked(web="latest"), TABLE))


LOCK: Final[dict[str, Any]] = {
    "package": [
        {
            "name": "ours",
            "version": "1",
            "dependencies": [{"name": "web"}],
            "optional-dependencies": {"extra": [{"name": "more"}]},
            "dev-dependencies": {"dev": [{"name": "tests"}]},
        },
        {"name": "web", "version": "1", "dependencies": [{"name": "deep"}, {"name": "web"}]},
        {"name": "deep", "version": "1"},
        {"name": "deep", "version": "2"},
        {"name": "more", "version": "1"},
        {"name": "tests", "version": "1"},
    ]
}


def test_runtime_packages_are_all_that_is_reached_and_none_of_the_tools() -> None:
    assert runtime_packages(LOCK, "ours") == {"web": {"1"}, "deep": {"1", "2"}, "more": {"1"}}


@pytest.mark.parametrize("missing", ["ours", "deep"])
def test_a_lock_with_a_hole_is_an_error(missing: str) -> None:
    lock = {"package": [package for package in LOCK["package"] if package["name"] != missing]}
    with pytest.raises(LockError, match=missing):
        runtime_packages(lock, "ours")


def test_this_projects_lock_passes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.advisories"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_floors_that_the_project_states_are_no_lower_than_these() -> None:
    """The resolver of a user may choose the lower bound in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = (re.split(">=|,|;", requirement) for requirement in project["dependencies"])
    stated = {name: least for name, least, *_ in ranges}
    table = tomllib.loads((ROOT / "tools" / "advisories.toml").read_text(encoding="utf-8"))
    listed = {name: {stated[name]} for name in table["floors"] if name in stated}
    found = problems(listed, {"floors": table["floors"], "none-known": {}})
    assert [line for line in found if "older" in line] == []


def test_a_package_not_reviewed_for_long_is_reported() -> None:
    looked = date(2026, 1, 1)
    table = {"none-known": {"old": looked, "new": looked + timedelta(days=1)}}
    (line,) = stale(table, looked + timedelta(days=MAX_DAYS + 1))
    assert line.startswith(f"old: nobody has looked for advisories for {MAX_DAYS + 1} days")
    assert list(stale(table, looked + timedelta(days=MAX_DAYS))) == []
