"""Find the globs that match a text without comparing it with every glob.

A glob matches only texts that contain each of its literal pieces. So a ``GlobMap`` files each glob under its
longest piece, and looks up every part of a text that is as long as one of these pieces. A policy may hold
tens of thousands of wildcards, and a Pod a thousand images: comparing each with each would take minutes.

Globs may share their longest piece (``*-service-*ab1*``). Only a few globs are filed under one piece. Any
further glob goes under the longest of its other pieces that has room. If no piece has room, the globs under
one piece are filed again by their other pieces. So a text is compared with a few globs for each piece that it
contains. It is compared with more globs only if it contains all their pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from heapq import nlargest
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from gatekeeper_py.core.images.glob import Glob, is_glob

MAX_COMPARED: Final = 256
"""Maximum number of globs that one search for covering rules compares in one map, if there is a search for
each rule. Without a bound, the cost of thousands of similar wildcards would be their number squared."""

MAX_COMPARISONS: Final = 500_000
"""Maximum number of globs that all searches of one kind compare together: about half a second. Maps hold
maps, so a bound on each map alone would still allow millions."""

MAX_SIDE_BY_SIDE: Final = 8
"""Maximum number of globs under one piece. If there are more, they are filed again by their other pieces."""

_LOOK_UPS: Final = 8
"""Number of look-ups of a piece that take as long as one comparison with a glob: about a microsecond."""

_PIECES: Final = 4
_LENGTH: Final = 4096
"""Every ``_PIECES`` pieces of a glob, or ``_LENGTH`` characters of a text, cost one more comparison."""

V = TypeVar("V")


_NOTHING: Final[dict[Any, Any]] = {}
"""A shared empty mapping for maps that do not need one of their own. There may be maps for 200,000 rules."""


class Scan:
    """A bound on the work of searches for covering rules, shared by all searches of one kind.

    ``each`` is the maximum number of globs that are compared in one map. ``cut`` is true if a search left
    something out. Then it is not certain that there is no covering rule.
    """

    __slots__ = ("cut", "each", "left")

    def __init__(self, *, each: int | None = MAX_COMPARED, total: int = MAX_COMPARISONS) -> None:
        self.each = each
        self.left = total
        self.cut = False

    def spend(self, work: int) -> bool:
        """Count an amount of work, and return whether the total is still within the bound."""
        self.left -= work
        self.cut = self.cut or self.left < 0
        return self.left >= 0

    def some(self, entries: Iterator[V]) -> Iterator[V]:
        """Yield entries until a bound is reached."""
        for number, entry in enumerate(entries):
            if number == self.each:
                self.cut = True
                return
            if not self.spend(1):
                return
            yield entry


class _Place(Enum):
    """The place where a text must contain a piece of a glob."""

    START = 0
    END = 1
    INSIDE = 2


_Piece = tuple[_Place, str]
_Entries = list[tuple[Glob, V]]


class _Filed(Generic[V]):
    """Globs with stars, each under one of its pieces.

    ``size`` is their number. All of them have the pieces ``_known``, which are not looked up again.
    """

    __slots__ = ("_endings", "_inner", "_known", "_starts", "size")

    def __init__(self, known: tuple[_Piece, ...] = ()) -> None:
        self.size = 0
        self._known = known
        # Length of a piece -> the piece -> the globs that are filed under it.
        self._starts: _ByLength[V] = _NOTHING
        self._endings: _ByLength[V] = _NOTHING
        self._inner: _ByLength[V] = _NOTHING

    def file(self, glob: Glob, value: V, pieces: list[_Piece] | None = None) -> None:
        """Add a new glob. ``pieces`` are its pieces, if the caller has them."""
        self.size += 1
        pieces = _pieces(glob.text) if pieces is None else pieces
        place, piece = chosen = self._choose(pieces)
        groups = self._at(place).setdefault(len(piece), {})
        group = groups.get(piece)
        if group is None:
            groups[piece] = [(glob, value)]
        elif isinstance(group, _Filed):
            group.file(glob, value, pieces)
        else:
            group.append((glob, value))
            if len(group) > MAX_SIDE_BY_SIDE and piece:
                again: _Filed[V] = _Filed((*self._known, chosen))
                groups[piece] = again
                for each in group:
                    again.file(*each)

    def candidates(self, text: str, scan: Scan | None = None) -> Iterator[tuple[Glob, V]]:
        """Yield all globs that match a text, and some that do not. ``scan`` bounds the look-ups."""
        waiting: list[_Filed[V]] = [self]
        while waiting:
            filed = waiting.pop()
            if scan is not None and not scan.spend(filed.look_ups(len(text))):
                return
            for group in filed.groups(text):
                if isinstance(group, _Filed):
                    waiting.append(group)
                else:
                    yield from group

    def groups(self, text: str) -> Iterator[_Group[V]]:
        """Yield the groups of globs that are filed under the pieces of a text."""
        for length, groups in self._starts.items():
            group = groups.get(text[:length])
            if group is not None:
                yield group
        for length, groups in self._endings.items():
            group = groups.get(text[-length:])
            if group is not None:
                yield group
        yield from self._inner_groups(text)

    def _inner_groups(self, text: str) -> Iterator[_Group[V]]:
        for length, groups in self._inner.items():
            if len(groups) < len(text):
                yield from (group for piece, group in groups.items() if piece in text)
                continue
            for piece in {text[start : start + length] for start in range(len(text) - length + 1)}:
                group = groups.get(piece)
                if group is not None:
                    yield group

    def look_ups(self, length: int) -> int:
        """Return the largest number of look-ups that ``groups`` makes for a text of this length."""
        inner = sum(min(len(groups), length) for groups in self._inner.values())
        return len(self._starts) + len(self._endings) + inner

    def scanned(self, length: int, of: Callable[[V], int]) -> int:
        """Return how many globs a search scans at most (``GlobMap.scanned``)."""
        total = self.look_ups(length) // _LOOK_UPS
        for by_length, step, places in (
            (self._starts, 1, 1),
            (self._endings, -1, 1),
            (self._inner, 1, length),
        ):
            total += _together(
                {
                    piece[::step]: _scanned(group, length, of)
                    for groups in by_length.values()
                    for piece, group in groups.items()
                },
                places,
            )
        return total

    def _choose(self, pieces: list[_Piece]) -> _Piece:
        """Return the longest piece with room, or else the one under which the fewest globs are filed."""
        fewest: int | None = None
        chosen = (_Place.START, "")  # every text starts with the empty piece
        for place, piece in pieces:
            if (place, piece) in self._known:
                continue
            group = self._at(place, make=False).get(len(piece), _NOTHING).get(piece)
            size = 0 if group is None else group.size if isinstance(group, _Filed) else len(group)
            if size < MAX_SIDE_BY_SIDE:
                return place, piece
            if fewest is None or size < fewest:
                fewest, chosen = size, (place, piece)
        return chosen

    def _at(self, place: _Place, *, make: bool = True) -> _ByLength[V]:
        if place is _Place.START:
            if make and not self._starts:
                self._starts = {}
            return self._starts
        if place is _Place.END:
            if make and not self._endings:
                self._endings = {}
            return self._endings
        if make and not self._inner:
            self._inner = {}
        return self._inner


_Group = _Entries[V] | _Filed[V]
_ByLength = dict[int, dict[str, _Group[V]]]


def _scanned(group: _Group[V], length: int, of: Callable[[V], int]) -> int:
    if isinstance(group, _Filed):
        return group.scanned(length, of)
    each = 1 + length // _LENGTH
    return sum(each + glob.pieces // _PIECES + of(value) for glob, value in group)


def _together(counts: Mapping[str, int], places: int) -> int:
    """Return the largest sum of the counts of pieces that can begin at this many places of one text.

    If two pieces begin at one place, the shorter is a prefix of the other.
    """
    sums, shorter = [], list[tuple[str, int]]()
    for piece in sorted(counts):
        while shorter and not piece.startswith(shorter[-1][0]):
            shorter.pop()
        sums.append(counts[piece] + (shorter[-1][1] if shorter else 0))
        shorter.append((piece, sums[-1]))
    return min(sum(nlargest(places, sums)), sum(counts.values()))


def _pieces(text: str) -> list[_Piece]:
    """Return the literal pieces of a glob, the longest first."""
    first, *middle, last = text.split("*")
    pieces = [(_Place.START, first), (_Place.END, last)]
    pieces += [(_Place.INSIDE, piece) for piece in dict.fromkeys(middle)]
    return sorted((each for each in pieces if each[1]), key=lambda each: -len(each[1]))


class GlobMap(Generic[V]):
    """Values by globs, which may be plain texts.

    If it is queried with the text of another glob, it finds the globs that cover everything that the other
    glob matches (``Glob.matches``).
    """

    __slots__ = ("_filed", "_texts", "_values")

    def __init__(self) -> None:
        self._texts: dict[str, V] = _NOTHING
        self._values: dict[str, V] = _NOTHING
        self._filed: _Filed[V] | None = None

    def get(self, text: str) -> V | None:
        """Return the value of exactly this glob, or ``None`` if the map does not contain it."""
        return (self._values if is_glob(text) else self._texts).get(text)

    def setdefault(self, text: str, value: V) -> V:
        """Return the value of a glob. If the glob is new, add it with ``value``."""
        known = self.get(text)
        if known is not None:
            return known
        if is_glob(text):
            if self._filed is None:
                self._filed, self._values = _Filed(), {}
            self._values[text] = value
            self._filed.file(Glob(text), value)
        else:
            self._texts = self._texts or {}
            self._texts[text] = value
        return value

    def matching(self, text: str, *, scan: Scan | None = None) -> Iterator[V]:
        """Yield the values of the globs that match ``text``. ``scan`` bounds the work."""
        candidates = self.candidates(text, scan=scan)
        for glob, value in candidates if scan is None else scan.some(candidates):
            if glob is None or glob.matches(text):
                yield value

    def candidates(self, text: str, *, scan: Scan | None = None) -> Iterator[tuple[Glob | None, V]]:
        """Yield all globs that match a text, and some that do not, with their values.

        The glob is ``None`` if it has no star and equals ``text``. ``scan`` bounds the look-ups.
        """
        value = self._texts.get(text)
        if value is not None:
            yield None, value
        if self._filed is not None:
            yield from self._filed.candidates(text, scan)

    def values(self) -> Iterator[V]:
        """Yield the values of all globs and plain texts."""
        yield from self._texts.values()
        yield from self._values.values()

    def scanned(self, length: int, of: Callable[[V], int]) -> int:
        """Return the maximum cost of a search for a text of at most ``length`` characters, in comparisons.

        ``of`` returns the further cost of the value of a glob that matches. Eight look-ups count as a glob,
        and a glob with many stars counts more than once. Globs count together if a text can have the pieces
        under which they are filed, even if they do not match. The time is linear in the number of globs.
        """
        most = 1 + max(map(of, self._texts.values()), default=0)
        return most if self._filed is None else most + self._filed.scanned(length, of)


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
        """Return the value of a sequence. If the sequence is new, make its value."""
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
                if not nodes:
                    return

    def around(self, parts: Sequence[str]) -> Iterator[V]:
        """Yield the values of all sequences of which ``parts`` match the beginning, or that match theirs."""
        nodes = [self._root]
        for part in parts:
            yield from (node.value for node in nodes if node.value is not None)
            children = [node.children for node in nodes if node.children is not None]
            nodes = [node for each in children for node in each.matching(part)]
        while nodes:
            node = nodes.pop()
            if node.value is not None:
                yield node.value
            nodes.extend(() if node.children is None else node.children.values())

    def scanned(self, length: int, of: Callable[[V], int]) -> int:
        """Return how many globs a search scans at most (``GlobMap.scanned``)."""
        nodes = [self._root]
        for node in nodes:
            nodes.extend(() if node.children is None else node.children.values())
        most: dict[_Node[V], int] = {}
        for node in reversed(nodes):  # children come before their parents
            most[node] = 0 if node.value is None else of(node.value)
            if node.children is not None:
                most[node] += node.children.scanned(length, most.__getitem__)
        return most[self._root]
