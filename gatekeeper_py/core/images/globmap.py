"""Find the globs that match a text without comparing it with every glob.

A glob matches only texts that contain each of its literal pieces, so a ``GlobMap`` files each glob under
its longest piece, and looks up the parts of a text that have the length of some piece. A policy may hold
tens of thousands of wildcards, and a Pod a thousand images: comparing each with each would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Generic, TypeVar

from gatekeeper_py.core.images.glob import Glob, is_glob

V = TypeVar("V")

_Entries = list[tuple[Glob, V]]
_Filed = dict[int, dict[str, _Entries[V]]]
"""Length of a piece -> the piece -> the globs that are filed under it."""


class GlobMap(Generic[V]):
    """Values by globs, which may be plain texts.

    Given the text of another glob, it finds the globs that cover all that the other one matches
    (``Glob.matches``).
    """

    __slots__ = ("_endings", "_inner", "_inner_size", "_starts", "_texts", "_values")

    def __init__(self) -> None:
        self._texts: dict[str, V] = {}
        self._values: dict[str, V] = {}
        self._starts: _Filed[V] = {}
        self._endings: _Filed[V] = {}
        self._inner: _Filed[V] = {}
        self._inner_size = 0

    def get(self, text: str) -> V | None:
        """The value of this very glob, ``None`` when it is not there."""
        return (self._values if is_glob(text) else self._texts).get(text)

    def setdefault(self, text: str, value: V) -> V:
        """The value of a glob, which is this one when the glob is new."""
        known = self.get(text)
        if known is not None:
            return known
        if is_glob(text):
            self._values[text] = value
            self._file(text, value)
        else:
            self._texts[text] = value
        return value

    def matching(self, text: str, *, most: int | None = None) -> Iterator[V]:
        """The values of the globs that match ``text``.

        With ``most``, only so many globs are compared, and the rest is left out.
        """
        for glob, value in islice(self.candidates(text), most):
            if glob is None or glob.matches(text):
                yield value

    def candidates(self, text: str) -> Iterator[tuple[Glob | None, V]]:
        """Globs with their values, among which are all that match; ``None`` for a text that is equal."""
        value = self._texts.get(text)
        if value is not None:
            yield None, value
        for length, entries in self._starts.items():
            yield from entries.get(text[:length], ())
        for length, entries in self._endings.items():
            yield from entries.get(text[-length:], ())
        if len(text) * len(self._inner) > self._inner_size:
            for entries in self._inner.values():
                for found in entries.values():
                    yield from found
            return
        for length, entries in self._inner.items():
            for piece in {text[start : start + length] for start in range(len(text) - length + 1)}:
                yield from entries.get(piece, ())

    def _file(self, text: str, value: V) -> None:
        first, *middle, last = text.split("*")
        inner = max(middle, key=len, default="")
        longest = max(len(first), len(last), len(inner))
        if len(first) == longest:  # also a glob without a literal piece: every text starts with nothing
            filed, piece = self._starts, first
        elif len(last) == longest:
            filed, piece = self._endings, last
        else:
            filed, piece = self._inner, inner
            self._inner_size += 1
        filed.setdefault(len(piece), {}).setdefault(piece, []).append((Glob(text), value))


class _Node(Generic[V]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.value: V | None = None
        self.children: GlobMap[_Node[V]] | None = None


class GlobTree(Generic[V]):
    """Values by sequences of globs, such as the segments of a path."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()

    def setdefault(self, parts: Sequence[str], make: Callable[[], V]) -> V:
        """The value of a sequence, made when the sequence is new."""
        node = self._root
        for part in parts:
            if node.children is None:
                node.children = GlobMap()
            node = node.children.get(part) or node.children.setdefault(part, _Node())
        if node.value is None:
            node.value = make()
        return node.value

    def matching(self, parts: Sequence[str], *, most: int | None = None) -> Iterator[tuple[int, V]]:
        """The values of all sequences that match the beginning of ``parts``, each with its length.

        ``most`` is as of ``GlobMap.matching``, for each step.
        """
        nodes = [self._root]
        for length in range(len(parts) + 1):
            for node in nodes:
                if node.value is not None:
                    yield length, node.value
            if length < len(parts):
                steps = (
                    node.children.matching(parts[length], most=most)
                    for node in nodes
                    if node.children is not None
                )
                nodes = list(islice(chain.from_iterable(steps), most))
