"""The runtime dependencies of a ``uv.lock``: what the project needs, and what that needs in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Lock = Mapping[str, Any]


class LockError(ValueError):
    """The lock does not hold what it must."""


def runtime_packages(lock: Lock, project: str) -> dict[str, set[str]]:
    """Names and locked versions of all that ``project`` runs with, on any platform; not the project.

    A package can be locked in several versions, for different platforms. Raises ``LockError``.
    """
    packages: dict[str, list[Mapping[str, Any]]] = {}
    for package in lock.get("package", ()):
        packages.setdefault(package["name"], []).append(package)
    if project not in packages:
        raise LockError(f"{project} is not in the lock")
    found: dict[str, set[str]] = {}
    left = [project]
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in packages:
            raise LockError(f"{name} is needed and not locked")
        for package in packages[name]:
            if name != project:
                found.setdefault(name, set()).add(package["version"])
            left += _needs(package)
    return found


def _needs(package: Mapping[str, Any]) -> Iterator[str]:
    for dependency in package.get("dependencies", ()):
        yield dependency["name"]
    # What extras need is only in a lock when somebody asked for the extra.
    for dependencies in package.get("optional-dependencies", {}).values():
        for dependency in dependencies:
            yield dependency["name"]
