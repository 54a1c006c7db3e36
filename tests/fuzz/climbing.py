"""Search for the most expensive input: hill climbing over recipes for inputs.

A recipe is a tree of nested repetitions. Every input is written to the same size, so that only its shape
matters. A change that makes an input more expensive is kept.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

POPULATION: Final = 8
"""Number of kept recipes, the most expensive ones."""

MOST_LEVELS: Final = 5


@dataclass(frozen=True)
class Recipe:
    """``before``, then the repeated parts, then ``after``. Without parts, a token is repeated."""

    before: str = ""
    token: str = ""
    between: str = ""
    after: str = ""
    parts: tuple[Recipe, ...] = ()
    times: int = 0
    """Maximum number of repetitions; 0 means as many as fit, or one when there are parts."""

    def write(self, size: int) -> str:
        """Return the text, of about ``size`` characters."""
        if not self.parts:
            unit = self.token + self.between
            room = max(size - len(self.before) - len(self.after), 0)
            count = min(self.times or size, room // max(len(unit), 1))
            body = unit * count
            return self.before + body.removesuffix(self.between) + self.after
        times = self.times or 1
        share = size // (len(self.parts) * times)
        text = self.between.join(part.write(share) for part in self.parts)
        times = max(min(times, size // max(len(text), 1)), 1)
        return self.before + self.between.join([text] * times) + self.after

    @property
    def levels(self) -> int:
        return 1 + max((part.levels for part in self.parts), default=0)


@dataclass(frozen=True)
class Grammar:
    """``tokens`` are repeated, and ``frames`` are placed around and between them.

    ``glue`` is placed between two tokens.
    """

    tokens: Sequence[str]
    frames: Sequence[tuple[str, str, str]]
    """Each frame has a text before the tokens, one between them, and one after them."""
    glue: str = ""

    def any(self, chance: random.Random, levels: int = MOST_LEVELS) -> Recipe:
        before, between, after = chance.choice(self.frames)
        times = chance.choice((0, 0, 0, 1, 2, 30, 1000))
        if levels > 1 and chance.random() < 0.5:
            count = chance.choice((1, 1, 2, 3))
            parts = tuple(self.any(chance, levels - 1) for _ in range(count))
            return Recipe(before, "", between, after, parts, times)
        token = self.glue.join(chance.choice(self.tokens) for _ in range(chance.choice((1, 1, 2, 3))))
        return Recipe(before, token, between, after, (), times)

    def changed(self, recipe: Recipe, chance: random.Random) -> Recipe:
        """Return a recipe with one random change."""
        if recipe.parts and chance.random() < 0.6:
            place = chance.randrange(len(recipe.parts))
            part = self.changed(recipe.parts[place], chance)
            return replace(recipe, parts=(*recipe.parts[:place], part, *recipe.parts[place + 1 :]))
        before, between, after = chance.choice(self.frames)
        match chance.choice(("frame", "times", "token", "wrap", "new", "add")):
            case "frame":
                return replace(recipe, before=before, between=between, after=after)
            case "times":
                return replace(recipe, times=chance.choice((0, 1, 2, 10, 100, 1000, 10_000)))
            case "token" if not recipe.parts:
                return replace(recipe, token=recipe.token + self.glue + chance.choice(self.tokens))
            case "wrap" if recipe.levels < MOST_LEVELS:
                return Recipe(before, "", between, after, (recipe,), chance.choice((0, 1, 2, 30)))
            case "add" if recipe.parts:
                return replace(recipe, parts=(*recipe.parts, self.any(chance, 2)))
            case _:
                return self.any(chance)


R = TypeVar("R")


class Source(Protocol[R]):
    """Makes random recipes, such as a ``Grammar``."""

    def any(self, chance: random.Random) -> R: ...

    def changed(self, recipe: R, chance: random.Random) -> R: ...


def climb(
    source: Source[R],
    cost: Callable[[R], float],
    *,
    seconds: float,
    least_calls: int,
    seed: int | None = None,
) -> tuple[float, R]:
    """Return the most expensive recipe that was found in ``seconds``, and its cost."""
    chance = random.Random(seed)
    found: list[tuple[float, R]] = []
    end = time.monotonic() + seconds
    calls = 0
    while calls < least_calls or time.monotonic() < end:
        if len(found) < POPULATION or chance.random() < 0.2:
            recipe = source.any(chance)
        else:
            recipe = source.changed(chance.choice(found)[1], chance)
        calls += 1
        found.append((cost(recipe), recipe))
        found.sort(key=lambda each: each[0], reverse=True)
        del found[POPULATION:]
    return found[0]
