"""Read the runtime dependencies from a ``uv.lock``, direct and indirect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Lock = Mapping[str, Any]


class LockError(ValueError):
    """The lock does not contain a package that is needed."""


def runtime_packages(lock: Lock, project: str) -> dict[str, set[str]]:
    """Return the names and locked versions of everything that ``project`` needs, on any platform.

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
            raise LockError(f"{name} is needed but not locked")
        for package in packages[name]:
            if name != project:
                found.setdefault(name, set()).add(package["version"])
            left += _needs(package)
    return found


def _needs(package: Mapping[str, Any]) -> Iterator[str]:
    for dependency in package.get("dependencies", ()):
        yield dependency["name"]
    # The lock holds the dependencies of an extra only if something requires the extra.
    for dependencies in package.get("optional-dependencies", {}).values():
        for dependency in dependencies:
            yield dependency["name"]
