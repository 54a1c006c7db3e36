"""Find the globs that match a text without comparing it with every glob.

A glob matches only texts that contain each of its literal pieces, so a ``GlobMap`` files each glob under
its longest piece, and looks up the parts of a text that have the length of some piece. A policy may hold
tens of thousands of wildcards, and a Pod a thousand images: comparing each with each would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from gatekeeper_py.core.images.glob import Glob, is_glob

MAX_COMPARED: Final = 256
"""Globs that a question about cover compares in one map when it is asked for each rule: without a bound,
thousands of similar wildcards would cost their number squared."""

MAX_COMPARISONS: Final = 500_000
"""Globs that all questions of one kind compare, about half a second. Maps hold maps, so that a bound on each
would still allow millions."""

V = TypeVar("V")


_NOTHING: Final[dict[Any, Any]] = {}
"""In place of the mappings that most maps do not need: there may be a map for each of 200,000 rules."""


class Scan:
    """A bound on the work of questions about cover, shared by all questions of one kind.

    ``each`` bounds what is compared in one map. ``cut`` is set when something was left out, so that
    "nothing covers it" is not certain.
    """

    __slots__ = ("cut", "each", "left")

    def __init__(self, *, each: int | None = MAX_COMPARED, total: int = MAX_COMPARISONS) -> None:
        self.each = each
        self.left = total
        self.cut = False

    def spend(self, work: int) -> bool:
        """Whether there is room for so much work, which then counts."""
        self.left -= work
        self.cut = self.cut or self.left < 0
        return self.left >= 0

    def some(self, entries: Iterator[V]) -> Iterator[V]:
        """Yield the entries that may be looked at."""
        for number, entry in enumerate(entries):
            if number == self.each:
                self.cut = True
                return
            if not self.spend(1):
                return
            yield entry


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
        self._texts: dict[str, V] = _NOTHING
        self._values: dict[str, V] = _NOTHING
        self._starts: _Filed[V] = _NOTHING
        self._endings: _Filed[V] = _NOTHING
        self._inner: _Filed[V] = _NOTHING
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
            self._values = self._values or {}
            self._values[text] = value
            self._file(text, value)
        else:
            self._texts = self._texts or {}
            self._texts[text] = value
        return value

    def matching(self, text: str, *, scan: Scan | None = None) -> Iterator[V]:
        """Yield the values of the globs that match ``text``. ``scan`` bounds the work."""
        candidates = self.candidates(text)
        if scan is not None:
            if not scan.spend(self._look_ups(text)):
                return
            candidates = scan.some(candidates)
        for glob, value in candidates:
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

    def _look_ups(self, text: str) -> int:
        """How many times ``candidates`` looks something up."""
        inner = min(len(text) * len(self._inner), self._inner_size)
        return len(self._starts) + len(self._endings) + inner

    def _file(self, text: str, value: V) -> None:
        first, *middle, last = text.split("*")
        inner = max(middle, key=len, default="")
        longest = max(len(first), len(last), len(inner))
        if len(first) == longest:  # also a glob without a literal piece: every text starts with nothing
            filed = self._starts = self._starts or {}
            piece = first
        elif len(last) == longest:
            filed = self._endings = self._endings or {}
            piece = last
        else:
            filed = self._inner = self._inner or {}
            piece = inner
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

    def matching(self, parts: Sequence[str], *, scan: Scan | None = None) -> Iterator[tuple[int, V]]:
        """Yield the values of all sequences that match the beginning of ``parts``, each with its length.

        ``scan`` bounds the work.
        """
        nodes = [self._root]
        for length in range(len(parts) + 1):
            for node in nodes:
                if node.value is not None:
                    yield length, node.value
            if length < len(parts):
                steps = chain.from_iterable(
                    node.children.matching(parts[length], scan=scan)
                    for node in nodes
                    if node.children is not None
                )
                nodes = list(steps if scan is None else scan.some(steps))
