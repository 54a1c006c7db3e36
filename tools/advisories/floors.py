"""Compare locked versions with the oldest allowed ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Any, Final

MAX_DAYS: Final = 90
"""Days after which advisories must be looked up again for a dependency without a known one."""

_VERSION: Final = re.compile(r"(?:\d+!)?(\d+(?:\.\d+)*)(.*)")


def problems(locked: Mapping[str, AbstractSet[str]], table: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each package that is too old, not listed, listed twice, or listed but not locked.

    ``table`` is the content of ``floors.toml``. Raises ``ValueError`` for a text that is not a version.
    """
    floors: Mapping[str, Mapping[str, str]] = table["floors"]
    none_known = table["none-known"]
    for name in sorted(locked):
        if name in floors:
            least = floors[name]["least"]
            for version in sorted(locked[name]):
                if _is_older(version, least):
                    yield f"{name} {version} is older than {least} ({floors[name]['advisory']})"
        elif name not in none_known:
            versions = ", ".join(sorted(locked[name]))
            yield f"{name} {versions} is not in floors.toml: look for advisories against it and add it"
    for name in sorted({*floors, *none_known} - set(locked)):
        yield f"{name} is in floors.toml but not in the lock"
    for name in sorted(set(floors) & set(none_known)):
        yield f"{name} is in both tables of floors.toml"


def stale(table: Mapping[str, Any], today: date) -> Iterator[str]:
    """Yield a line for each package whose advisories were last looked up too long ago."""
    for name, looked in sorted(table["none-known"].items()):
        if (days := (today - looked).days) > MAX_DAYS:
            yield f"{name}: nobody has looked for advisories for {days} days; run `.uv/bin/uv audit`"


def _is_older(version: str, least: str) -> bool:
    """Compare release numbers. A pre-release of the floor is older than the floor; a post-release is not."""
    release, rest = _split(version)
    floor, _ = _split(least)
    length = max(len(release), len(floor))
    left, right = _padded(release, length), _padded(floor, length)
    return left < right or (left == right and rest.lstrip(".-_").startswith(("a", "b", "c", "rc", "dev")))


def _split(version: str) -> tuple[tuple[int, ...], str]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version")
    return tuple(map(int, match[1].split("."))), match[2]


def _padded(release: tuple[int, ...], length: int) -> tuple[int, ...]:
    return release + (0,) * (length - len(release))
