"""A cache of decisions by rules and of rewrites, by image as written.

Nothing invalidates it, because it is discarded together with its policy. What exceptions approve is never
cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cachetools import LRUCache

MAX_CACHED_LENGTH: Final = 512
"""Longest image or namespace in a cache key. Longer text is decided each time, so that 16,384 hostile images
cannot make the cache larger than 40 MiB, three times its size with real images. The longest name that a
container runtime pulls has some 450 characters, with tag and digest."""

Key = str | tuple[str | None, str]
ABSENT: Final = object()


def key_with(namespace: str | None, image: str) -> Key | None:
    """Return the cache key for a namespace, or ``None`` if the namespace is too long to be kept."""
    return None if namespace is not None and len(namespace) > MAX_CACHED_LENGTH else (namespace, image)


@dataclass(slots=True)
class CacheCounts:
    """Cache hits and misses of all policies in a process."""

    hits: int = 0
    misses: int = 0


class DecisionCache:
    """Keeps ``size`` decisions and as many rewrites."""

    __slots__ = ("counts", "decisions", "plans")

    def __init__(self, size: int, counts: CacheCounts) -> None:
        self.counts = counts
        self.decisions: LRUCache[Key, Any] = LRUCache(size)
        self.plans: LRUCache[Key, Any] = LRUCache(size)
