"""A glob in which ``*`` matches any characters, or none, inside one part of a name.

A regular expression is not needed. ``*`` is the only wildcard, so it is enough to find each literal piece at
the leftmost possible position. So matching is linear in the length of the text, whatever the number of stars.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Glob:
    """One compiled glob. ``text`` is as written."""

    text: str
    _pieces: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pieces", tuple(self.text.split("*")))

    @property
    def pieces(self) -> int:
        """The number of literal pieces, empty ones included."""
        return len(self._pieces)

    def matches(self, text: str) -> bool:
        """Return whether the whole of ``text`` matches.

        ``text`` may be the text of another glob. The stars in it are then ordinary characters that only a
        star of this glob can match. So a match means that this glob covers everything that the other glob
        matches.
        """
        first, *middle, last = self._pieces if len(self._pieces) > 1 else (*self._pieces, "")
        if len(self._pieces) == 1:
            return text == first
        end = len(text) - len(last)
        position = len(first)
        if end < position or not text.startswith(first) or not text.endswith(last):
            return False
        for piece in middle:
            found = text.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True


@lru_cache(maxsize=16384)
def compiled(text: str) -> Glob:
    """Return the glob for a text. It is cached, because patterns use the same few globs again and again."""
    return Glob(text)


def is_glob(text: str) -> bool:
    return "*" in text


def any_matches(globs: Iterable[Glob], text: str) -> bool:
    return any(glob.matches(text) for glob in globs)


def names_match(names: tuple[str, ...] | None, namespace: str | None) -> bool:
    """Return whether ``namespaces`` of a rule, grant or exception include a namespace.

    ``None`` and ``*`` include all namespaces, and requests without a namespace.
    """
    if names is None or "*" in names:
        return True
    return namespace is not None and any_matches(map(compiled, names), namespace)


def globs_overlap(one: str, other: str) -> bool:
    """Return whether some text matches both globs, either of which may be a literal text."""
    if not is_glob(one):
        return compiled(other).matches(one)
    if not is_glob(other):
        return compiled(one).matches(other)
    # Both globs have a star. If their beginnings and their endings agree, this text matches both: the longer
    # beginning, all pieces of the first glob, all pieces of the second glob, and the longer ending.
    start, other_start = one.partition("*")[0], other.partition("*")[0]
    end, other_end = one.rpartition("*")[2], other.rpartition("*")[2]
    return (start.startswith(other_start) or other_start.startswith(start)) and (
        end.endswith(other_end) or other_end.endswith(end)
    )
