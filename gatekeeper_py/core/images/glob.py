"""A glob in which ``*`` matches any characters, or none, inside one part of a name.

Not a regular expression: with only ``*``, taking the leftmost place for each literal piece is
enough, so matching is linear in the text however many stars a pattern has.
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

    def matches(self, text: str) -> bool:
        """Whether the whole of ``text`` matches.

        Given the text of another glob, its stars count as ordinary characters that only a star
        can match; then a match means that this glob covers all that the other one matches.
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
    """The glob for a text. Kept, because patterns ask for the same few again and again."""
    return Glob(text)


def is_glob(text: str) -> bool:
    return "*" in text


def any_matches(globs: Iterable[Glob], text: str) -> bool:
    return any(glob.matches(text) for glob in globs)


def globs_overlap(one: str, other: str) -> bool:
    """Return whether some text matches both globs, either of which may be a literal text."""
    if not is_glob(one):
        return compiled(other).matches(one)
    if not is_glob(other):
        return compiled(one).matches(other)
    # Both have a star. The longer beginning, all pieces of the one, all pieces of the other and the
    # longer ending, one after the other, match both as soon as beginnings and endings agree.
    start, other_start = one.partition("*")[0], other.partition("*")[0]
    end, other_end = one.rpartition("*")[2], other.rpartition("*")[2]
    return (start.startswith(other_start) or other_start.startswith(start)) and (
        end.endswith(other_end) or other_end.endswith(end)
    )
