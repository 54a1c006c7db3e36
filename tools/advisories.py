"""Fail when a locked dependency is older than an advisory against it allows: ``python -m tools.advisories``.

It works offline, so it is part of every check. ``advisories.toml`` lists the oldest allowed version of each
dependency and the advisory that set it. A runtime dependency that is locked but not listed fails too, so
nobody adds one without looking for advisories. With a network, ``uv audit`` queries the advisory database.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[1]

MAX_DAYS: Final = 90
"""Days after which advisories must be looked up again for a dependency without a known one."""


class LockError(ValueError):
    """The lock does not contain a package that is needed."""


def problems(locked: Mapping[str, AbstractSet[str]], table: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each package that is too old, not listed, listed twice, or listed but not locked.

    ``table`` is the content of ``advisories.toml``. Raises ``ValueError`` for a text that is not a version.
    """
    floors: Mapping[str, Mapping[str, str]] = table["floors"]
    none_known = table["none-known"]
    for name in sorted(locked):
        if name in floors:
            least = floors[name]["least"]
            for version in sorted(locked[name]):
                if Version(version) < Version(least):
                    yield f"{name} {version} is older than {least} ({floors[name]['advisory']})"
        elif name not in none_known:
            versions = ", ".join(sorted(locked[name]))
            yield f"{name} {versions} is not in advisories.toml: look for advisories against it and add it"
    for name in sorted({*floors, *none_known} - set(locked)):
        yield f"{name} is in advisories.toml but not in the lock"
    for name in sorted(set(floors) & set(none_known)):
        yield f"{name} is in both tables of advisories.toml"


def stale(table: Mapping[str, Any], today: date) -> Iterator[str]:
    """Yield a line for each package whose advisories were last looked up too long ago."""
    for name, looked in sorted(table["none-known"].items()):
        if (days := (today - looked).days) > MAX_DAYS:
            yield f"{name}: nobody has looked for advisories for {days} days; run `.uv/bin/uv audit`"


def runtime_packages(lock: Mapping[str, Any], project: str) -> dict[str, set[str]]:
    """Return the names and locked versions of everything that ``project`` needs, on any platform.

    A package can be locked in several versions, for different platforms. Raises ``LockError``.
    """
    packages: dict[str, list[Mapping[str, Any]]] = {}
    for package in lock.get("package", ()):
        packages.setdefault(package["name"], []).append(package)
    found: dict[str, set[str]] = {}
    left = [project]
    while left:
        name = left.pop()
        if name in found:
            continue
        if name not in packages:
            raise LockError(f"{name} is needed but not locked")
        found[name] = {package["version"] for package in packages[name]}
        left += [needed for package in packages[name] for needed in _needs(package)]
    del found[project]
    return found


def _needs(package: Mapping[str, Any]) -> Iterator[str]:
    for dependency in package.get("dependencies", ()):
        yield dependency["name"]
    # The lock holds the dependencies of an extra only if something requires the extra.
    for dependencies in package.get("optional-dependencies", {}).values():
        for dependency in dependencies:
            yield dependency["name"]


def main() -> int:
    """Check the lock of this project; print a line for each problem, and return the exit code."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    found = list(problems(runtime_packages(lock, project), table))
    # This is only a warning, because a commit that passed before must not fail only after some time.
    for line in stale(table, datetime.now(UTC).date()):
        sys.stderr.write(f"warning: {line}\n")
    for line in found:
        sys.stderr.write(f"{line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
