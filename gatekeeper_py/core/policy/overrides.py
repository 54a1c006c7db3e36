"""The mode overrides that are valid at an instant, found by the name of a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatekeeper_py.core.images.globmap import GlobMap
from gatekeeper_py.core.names import MAX_NAMESPACE_LENGTH
from gatekeeper_py.core.policy.document import Mode, OverrideEntry

EVERY_NAMESPACE: Final = "*"
"""The only name that matches a request without a namespace."""


class Overrides:
    """The live overrides, in document order."""

    __slots__ = ("_entries", "_first")

    def __init__(self) -> None:
        self._entries: list[OverrideEntry] = []
        # A document can have a million names, too many to compare with each review's namespace.
        self._first: GlobMap[int] = GlobMap()

    def add(self, entry: OverrideEntry) -> None:
        """Append an override. Only the code that creates the object may call it."""
        for name in entry.names:
            self._first.setdefault(name, len(self._entries))
        self._entries.append(entry)

    def __iter__(self) -> Iterator[OverrideEntry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def mode(self, namespace: str | None) -> Mode | None:
        """Return the mode of the first override that matches the namespace, ``None`` without one."""
        if not self._entries:
            return None
        if namespace is None:
            first = self._first.get(EVERY_NAMESPACE)
        else:
            first = min(self._first.matching(namespace), default=None)
        return None if first is None else self._entries[first].mode

    def scanned(self) -> int:
        """Return how many names one namespace is compared with at most (``GlobMap.scanned``)."""
        return self._first.scanned(MAX_NAMESPACE_LENGTH, lambda _order: 0)
