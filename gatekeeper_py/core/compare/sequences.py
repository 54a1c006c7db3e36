"""Sort all sequences of parts (hosts by label, paths by segment) by which patterns match them.

As for single parts, there are finitely many classes. They are found level by level: a state is the set of
patterns that match so far, and a part class of the next segment leads to the next state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gatekeeper_py.core.compare.parts import (
    Effort,
    GlobSet,
    Grammar,
    check_states,
    classes_by_length,
    part_classes,
)
from gatekeeper_py.core.images.glob import Glob


class Item(NamedTuple):
    """A pattern over sequences: a glob for each part. A subtree matches what lies below, but not itself."""

    parts: tuple[str, ...]
    subtree: bool = False


class _State(NamedTuple):
    """The patterns that can still match a sequence of parts.

    ``alive`` match all parts so far. ``below`` are subtrees that match whatever follows.
    """

    alive: GlobSet
    below: GlobSet


class _Lengths:
    """The lengths of the texts that reach a state, as a set of bits, and the states that they come from."""

    __slots__ = ("mask", "origins")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.origins: list[tuple[_State, dict[int, str]]] = []

    def extended(self, sizes: Iterable[int]) -> int:
        """Return the lengths after one more part of any of these sizes, with the separator before it."""
        mask = 0
        for size in sizes:
            mask |= self.mask << (size + 1)
        return mask


class Sequences:
    """The classes of a list of patterns.

    ``longest`` is the maximum length of a text, with one separator between parts. ``fewest`` is the minimum
    number of parts.
    """

    def __init__(
        self,
        items: Sequence[Item],
        grammar: Grammar,
        *,
        longest: int,
        fewest: int = 1,
        effort: Effort | None = None,
    ) -> None:
        self._effort = effort or Effort()
        self._items = tuple(items)
        self._grammar = grammar
        self._longest = longest
        self._fewest = fewest
        self._sized: dict[tuple[str, ...], dict[GlobSet, dict[int, str]]] = {}

    def classes(self, touching: GlobSet | None = None) -> dict[GlobSet, tuple[str, ...]]:
        """Return every class that is not empty, with a shortest member.

        With ``touching``, return only the classes in which one of these patterns matches. Raises
        ``TooComplex``.
        """
        found: dict[GlobSet, tuple[int, tuple[str, ...]]] = {}
        level: dict[_State, tuple[int, tuple[str, ...]]] = {self._start: (-1, ())}
        depth = total = 0
        while level:
            following: dict[_State, tuple[int, tuple[str, ...]]] = {}
            for state, (length, parts) in level.items():
                if depth and not state.alive and depth >= self._fewest:
                    continue
                for target, text in self._successors(state, depth, touching):
                    longer = length + 1 + len(text)
                    if longer <= self._longest and (target not in following or longer < following[target][0]):
                        following[target] = (longer, (*parts, text))
            depth += 1
            total += len(following)
            check_states(total)
            if depth >= self._fewest:
                for state, (length, parts) in following.items():
                    matched = self._matched(state, depth)
                    if matched not in found or length < found[matched][0]:
                        found[matched] = (length, parts)
            level = following
        return {
            matched: parts for matched, (_, parts) in found.items() if touching is None or matched & touching
        }

    def longer_than(self, minimum: int) -> dict[GlobSet, tuple[str, ...]]:
        """Return, for every class with members longer than ``minimum``, a shortest such member.

        Raises ``TooComplex``.
        """
        # Lengths are sets of bits: bit n + 1 stands for a text of n characters, bit 0 for no part yet.
        levels: list[dict[_State, _Lengths]] = [{self._start: _Lengths(1)}]
        deepest = max((len(item.parts) for item in self._items), default=0) + 1
        found: dict[GlobSet, tuple[int, int, _State]] = {}
        limit = (1 << (self._longest + 2)) - 1
        total = 0
        # Below the deepest pattern, one longer segment has the same effect as one more segment.
        for depth in range(1, max(deepest, self._fewest) + 1):
            following: dict[_State, _Lengths] = {}
            for state, lengths in levels[-1].items():
                for target, texts in self._sized_successors(state, depth - 1):
                    reached = lengths.extended(texts) & limit
                    if reached:
                        entry = following.setdefault(target, _Lengths(0))
                        entry.mask |= reached
                        entry.origins.append((state, texts))
            total += len(following)
            check_states(total)
            levels.append(following)
            if depth < self._fewest:
                continue
            for state, lengths in following.items():
                longer = lengths.mask >> (minimum + 2)
                if longer:
                    length = minimum + 2 + ((longer & -longer).bit_length() - 1)
                    matched = self._matched(state, depth)
                    if matched not in found or length < found[matched][0]:
                        found[matched] = (length, depth, state)
        return {matched: _traced(levels, *where) for matched, where in found.items()}

    def below(self, start: tuple[str, ...], longer_than: int | None = None) -> dict[GlobSet, tuple[str, ...]]:
        """Return, for every class with a member that is ``start`` and one more part, a shortest such member.

        With ``longer_than``, this part has more than ``longer_than`` characters. ``longest`` does not bound
        the members. Raises ``TooComplex``.
        """
        state = self._start
        for depth, part in enumerate(start):
            by_glob, below = self._split(state, depth)
            alive = (index for glob, found in by_glob.items() if Glob(glob).matches(part) for index in found)
            state = _State(frozenset(alive), below)
        depth = len(start)
        if longer_than is None:
            members = tuple(self._successors(state, depth))
        else:
            members = tuple(
                (target, texts[min(longer)])
                for target, texts in self._sized_successors(state, depth)
                if (longer := [length for length in texts if length > longer_than])
            )
        found: dict[GlobSet, tuple[str, ...]] = {}
        for target, text in sorted(members, key=lambda member: len(member[1])):
            found.setdefault(self._matched(target, depth + 1), (*start, text))
        return found

    @property
    def _start(self) -> _State:
        return _State(frozenset(range(len(self._items))), frozenset())

    def _matched(self, state: _State, depth: int) -> GlobSet:
        exact = (i for i in state.alive if len(self._items[i].parts) == depth and not self._items[i].subtree)
        return state.below | frozenset(exact)

    def _split(self, state: _State, depth: int) -> tuple[dict[str, list[int]], GlobSet]:
        """Return the globs of the next part with their patterns, and the subtrees that match from here."""
        by_glob: dict[str, list[int]] = {}
        begun: list[int] = []
        for index in state.alive:
            item = self._items[index]
            if len(item.parts) > depth:
                by_glob.setdefault(item.parts[depth], []).append(index)
            elif item.subtree:
                begun.append(index)
        return by_glob, state.below | frozenset(begun)

    def _successors(
        self, state: _State, depth: int, touching: GlobSet | None = None
    ) -> Iterator[tuple[_State, str]]:
        by_glob, below = self._split(state, depth)
        globs = sorted(by_glob)
        needed = None
        if touching is not None and not below & touching:
            # Leave out the parts after which no pattern in ``touching`` can match.
            needed = frozenset(
                position for position, glob in enumerate(globs) if not touching.isdisjoint(by_glob[glob])
            )
        for matched, text in part_classes(globs, self._grammar, self._effort, needed):
            yield _State(_union(by_glob, globs, matched), below), text

    def _sized_successors(self, state: _State, depth: int) -> Iterator[tuple[_State, dict[int, str]]]:
        by_glob, below = self._split(state, depth)
        globs = tuple(sorted(by_glob))
        classes = self._sized.get(globs)
        if classes is None:
            classes = self._sized[globs] = classes_by_length(
                globs, self._grammar, self._longest, self._effort
            )
        for matched, texts in classes.items():
            yield _State(_union(by_glob, globs, matched), below), texts


def _union(by_glob: dict[str, list[int]], globs: Sequence[str], matched: GlobSet) -> GlobSet:
    return frozenset(index for position in matched for index in by_glob[globs[position]])


def _traced(levels: list[dict[_State, _Lengths]], length: int, depth: int, state: _State) -> tuple[str, ...]:
    """Return a sequence of this length that reaches a state. It is found backwards from the state."""
    parts: list[str] = []
    while depth:
        state, size, text = next(
            (origin, size, text)
            for origin, texts in levels[depth][state].origins
            for size, text in texts.items()
            if length > size and levels[depth - 1][origin].mask >> (length - size - 1) & 1
        )
        parts.append(text)
        length -= size + 1
        depth -= 1
    return tuple(reversed(parts))
