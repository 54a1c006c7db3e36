"""Sort all strings of a grammar by which globs match them.

A part is one label of a host, one segment of a path, a tag, or the name of a namespace. Infinitely many
strings are possible, but for a set of globs there are finitely many *classes*: two strings are in one
class when the same globs match both. This module finds every class that is not empty, each with a shortest
member. It is the subset construction for finite automata: a state is the set of positions in all globs,
together with the state of the grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

GlobSet = frozenset[int]
"""Indices of globs; most such sets hold the globs that match a text."""

MAX_STATES: Final = 400_000
"""Maximum number of states in one construction. It bounds time and memory. Policies that people write need a
few thousand."""


MAX_EFFORT: Final = 20_000_000
"""Maximum work of one comparison. It bounds the memory to about 1 GiB. 10,000 rules that share little need a
twentieth of it."""


class TooComplex(Exception):
    """The exact answer would take too long. There is no approximate answer."""

    def __init__(self, of: str = "wildcards") -> None:
        super().__init__(f"too many combinations of {of}")


def check_states(count: int) -> None:
    """Raise ``TooComplex`` if one construction has too many states."""
    if count > MAX_STATES:
        raise TooComplex


class Effort:
    """A bound on the work of one comparison: the number of positions of globs that are examined.

    The number of states alone does not bound the time, because one state of a thousand wildcards holds
    thousands of positions. ``part_classes`` caches the classes that the comparison has found.
    """

    __slots__ = ("_left", "part_classes")

    def __init__(self, limit: int = MAX_EFFORT) -> None:
        self._left = limit
        self.part_classes: dict[tuple[tuple[str, ...], Grammar, GlobSet | None], tuple[PartClass, ...]] = {}

    def spend(self, amount: int) -> None:
        """Count an amount of work. Raises ``TooComplex`` if the total exceeds the bound."""
        self._left -= amount
        if self._left < 0:
            raise TooComplex


@dataclass(frozen=True, eq=False)
class Grammar:
    """A finite automaton for the valid strings of one kind of part.

    ``steps`` maps a state and a character class to the next state; ``classes`` lists the characters of
    each class, preferred ones first. Strings are at most ``longest`` characters long.
    """

    classes: tuple[str, ...]
    steps: dict[tuple[int, int], int]
    accepting: frozenset[int]
    longest: int

    @cached_property
    def class_of(self) -> dict[str, int]:
        return {character: index for index, text in enumerate(self.classes) for character in text}


_ALNUM: Final = "xabcdefghijklmnopqrstuvwyz0123456789"

SEGMENT: Final = Grammar(
    classes=(_ALNUM, "-", "_", "."),
    # 0 start, 1 after a letter or digit, 2 after a dot or two underscores, 3 after one underscore,
    # 4 after dashes (core/images/reference.py: component)
    steps={
        (0, 0): 1, (1, 0): 1, (2, 0): 1, (3, 0): 1, (4, 0): 1,
        (1, 1): 4, (4, 1): 4, (1, 2): 3, (3, 2): 2, (1, 3): 2,
    },
    accepting=frozenset({1}),
    longest=255,
)  # fmt: skip

LABEL: Final = Grammar(
    classes=(_ALNUM, "-"),
    steps={(0, 0): 1, (1, 0): 1, (2, 0): 1, (1, 1): 2, (2, 1): 2},
    accepting=frozenset({1}),
    longest=512,
)

NAMESPACE: Final = Grammar(LABEL.classes, LABEL.steps, LABEL.accepting, 63)

TAG: Final = Grammar(
    classes=("v" + _ALNUM.replace("v", "") + "ABCDEFGHIJKLMNOPQRSTUVWXYZ_", ".-"),
    steps={(0, 0): 1, (1, 0): 1, (1, 1): 1},
    accepting=frozenset({1}),
    longest=128,
)


class PartClass(NamedTuple):
    """The strings that exactly the globs in ``matched`` match. ``witness`` is a shortest such string."""

    matched: GlobSet
    witness: str


_Positions = frozenset[tuple[int, int]]


class Construction:
    """The automaton of a set of globs over a grammar.

    With ``needed``, it has only the states in which one of these globs can still match.
    """

    def __init__(
        self, globs: Sequence[str], grammar: Grammar, effort: Effort, needed: GlobSet | None = None
    ) -> None:
        self._effort = effort
        self._needed = needed
        self._globs = tuple(globs)
        self._grammar = grammar
        self._ends = tuple(len(glob) for glob in globs)
        self._known: dict[tuple[_Positions, int], tuple[tuple[str, tuple[_Positions, int]], ...]] = {}

    @property
    def start(self) -> tuple[_Positions, int]:
        return self._closed((index, 0) for index in range(len(self._globs))), 0

    def matched(self, positions: _Positions) -> GlobSet:
        return frozenset(index for index, position in positions if position == self._ends[index])

    def accepts(self, state: tuple[_Positions, int]) -> bool:
        return state[1] in self._grammar.accepting

    def successors(self, state: tuple[_Positions, int]) -> tuple[tuple[str, tuple[_Positions, int]], ...]:
        """Return every next state with one character that leads there."""
        known = self._known.get(state)
        if known is None:
            # Of several characters that lead to the same state, the first is enough.
            first: dict[tuple[_Positions, int], str] = {}
            for character, target in self._steps(state):
                if self._needed is None or any(index in self._needed for index, _ in target[0]):
                    first.setdefault(target, character)
            known = self._known[state] = tuple((character, target) for target, character in first.items())
        return known

    def _steps(self, state: tuple[_Positions, int]) -> Iterator[tuple[str, tuple[_Positions, int]]]:
        positions, grammar_state = state
        self._effort.spend(len(positions) + 1)
        stars: list[tuple[int, int]] = []
        by_character: dict[str, list[tuple[int, int]]] = {}
        for index, position in positions:
            if position == self._ends[index]:
                continue
            character = self._globs[index][position]
            if character == "*":
                stars.append((index, position))
            else:
                by_character.setdefault(character, []).append((index, position + 1))
        after_any = self._closed(stars)
        for character_class, text in enumerate(self._grammar.classes):
            target = self._grammar.steps.get((grammar_state, character_class))
            if target is None:
                continue
            # One character stands for all characters that no glob names at this point.
            other = next((character for character in text if character not in by_character), None)
            if other is not None:
                self._effort.spend(len(after_any))
                yield other, (after_any, target)
        for character, moved in by_character.items():
            known = self._grammar.class_of.get(character)
            target = None if known is None else self._grammar.steps.get((grammar_state, known))
            if target is not None:
                self._effort.spend(len(after_any) + len(moved))
                yield character, (after_any | self._closed(moved), target)

    def _closed(self, positions: Iterable[tuple[int, int]]) -> _Positions:
        """Return the positions, and also those after stars at these positions: a star may match nothing."""
        closed: set[tuple[int, int]] = set()
        for index, start in positions:
            position = start
            closed.add((index, position))
            while position < self._ends[index] and self._globs[index][position] == "*":
                position += 1
                closed.add((index, position))
        return frozenset(closed)


def part_classes(
    globs: Sequence[str],
    grammar: Grammar,
    effort: Effort | None = None,
    needed: GlobSet | None = None,
) -> tuple[PartClass, ...]:
    """Return every class that is not empty, the shortest witness first.

    With ``needed``, return only the classes in which one of these globs matches. Raises ``TooComplex``.
    """
    effort = effort or Effort()
    key = (tuple(globs), grammar, needed)
    known = effort.part_classes.get(key)
    if known is None:
        known = effort.part_classes[key] = tuple(_part_classes(globs, grammar, effort, needed))
    return known


def _part_classes(
    globs: Sequence[str], grammar: Grammar, effort: Effort, needed: GlobSet | None
) -> Iterator[PartClass]:
    construction = Construction(globs, grammar, effort, needed)
    start = construction.start
    level: dict[tuple[_Positions, int], str] = {start: ""}
    seen = {start}
    found: set[GlobSet] = set()
    length = 0
    while level and length < grammar.longest:
        length += 1
        following: dict[tuple[_Positions, int], str] = {}
        for state, text in level.items():
            for character, target in construction.successors(state):
                if target in seen:
                    continue
                seen.add(target)
                following[target] = text + character
        check_states(len(seen))
        for state, text in following.items():
            if not construction.accepts(state):
                continue
            matched = construction.matched(state[0])
            if matched not in found:
                found.add(matched)
                if needed is None or matched & needed:
                    yield PartClass(matched, text)
        level = following


def classes_by_length(
    globs: Sequence[str], grammar: Grammar, longest: int, effort: Effort | None = None
) -> dict[GlobSet, dict[int, str]]:
    """Return, for every class, one member of each length up to ``longest`` that its members have.

    Raises ``TooComplex``.
    """
    construction = Construction(globs, grammar, effort or Effort())
    level: dict[tuple[_Positions, int], str] = {construction.start: ""}
    found: dict[GlobSet, dict[int, str]] = {}
    steps = 0
    for length in range(1, min(longest, grammar.longest) + 1):
        following: dict[tuple[_Positions, int], str] = {}
        for state, text in level.items():
            for character, target in construction.successors(state):
                following.setdefault(target, text + character)
        steps += len(following)
        check_states(steps)
        for state, text in following.items():
            if construction.accepts(state):
                found.setdefault(construction.matched(state[0]), {}).setdefault(length, text)
        level = following
    return found
