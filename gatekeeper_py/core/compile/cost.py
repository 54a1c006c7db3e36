"""The maximum cost of an expression on an API server.

A ``Part`` is text together with its cost, so that neither can change without the other. The rates are
those of cel-go (interpreter/runtimecost.go) and of Kubernetes' own functions (apiserver,
pkg/cel/library/cost.go). Single steps that are charged one unit each are rounded up generously. A test
compares the calculation with the API server's own evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

MAX_EXPRESSION_LENGTH: Final = 64 * 1024
"""Maximum length in characters. An API server accepts 100,000, but reads the whole expression again at each
change of a webhook configuration."""

MAX_COST: Final = 800_000
"""Maximum cost of an expression. An API server stops at 1,000,000 for one expression, and at 2,500,000 for
all conditions of a webhook (apiserver, pkg/apis/cel/config.go)."""

_READ: Final = 4
"""Cost of reading a field or an element, and of one operation on it that does not depend on its length."""

_LITERAL_LIST: Final = 12


class Part(NamedTuple):
    """A CEL expression and its maximum cost. ``closed`` is whether the expression is in parentheses."""

    text: str
    cost: int
    closed: bool = False


class Text(NamedTuple):
    """A CEL expression whose value is a text of at most ``longest`` characters, and its reading cost."""

    text: str
    longest: int
    cost: int = _READ

    def equals(self, value: str) -> Part:
        return Part(f"{self.text} == {quoted(value)}", self.cost + _traversal(len(value)))

    def starts_with(self, value: str) -> Part:
        return Part(f"{self.text}.startsWith({quoted(value)})", self.cost + _traversal(len(value)))

    def ends_with(self, value: str) -> Part:
        return Part(f"{self.text}.endsWith({quoted(value)})", self.cost + _traversal(len(value)))

    def contains(self, value: str) -> Part:
        cost = self.cost + _traversal(self.longest) * _traversal(len(value))
        return Part(f"{self.text}.contains({quoted(value)})", cost)

    def matches(self, regex: str) -> Part:
        return Part(f"{self.text}.matches({quoted(regex)})", self.cost + _regex(regex, self.longest))

    def is_one_of(self, values: Iterable[str]) -> Part:
        """Return whether the text is in a list. An API server compiles a literal list to a set."""
        listed = [quoted(value) for value in values]
        return Part(f"{self.text} in [{', '.join(listed)}]", self.cost + _LITERAL_LIST + len(listed))

    def find(self, regex: str) -> Text:
        """Return the first match of a regular expression, an empty text if nothing matches."""
        cost = self.cost + _regex(regex, self.longest)
        return Text(f"{self.text}.find({quoted(regex)})", self.longest, cost)

    def followed_by(self, other: Text) -> Text:
        """Return this text followed by another."""
        longest = self.longest + other.longest
        return Text(f"({self.text} + {other.text})", longest, self.cost + other.cost + _traversal(longest))


def fits(part: Part, share: int = 1) -> bool:
    """Return whether an API server accepts an expression, and can evaluate it at its maximum cost.

    With ``share``, return whether it is within this fraction of both limits: 2 means a half.
    """
    return part.cost <= MAX_COST // share and len(part.text) <= MAX_EXPRESSION_LENGTH // share


def any_of(parts: Iterable[Part]) -> Part:
    """Return the disjunction, in parentheses unless there is only one part."""
    return _joined(list(parts), " || ")


def all_of(parts: Iterable[Part]) -> Part:
    """Return the conjunction, in parentheses unless there is only one part."""
    return _joined(list(parts), " && ")


def negated(part: Part) -> Part:
    """Return the negation."""
    return Part(f"!{part.text}" if part.closed else f"!({part.text})", part.cost + 1)


def quoted(text: str) -> str:
    """Return a CEL string literal of printable text."""
    if not text.isprintable():
        raise ValueError(f"cannot be written in an expression: {text!r}")
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _joined(parts: list[Part], separator: str) -> Part:
    if len(parts) == 1:
        return parts[0]
    text = separator.join(part.text for part in parts)
    return Part(f"({text})", sum(part.cost for part in parts) + len(parts), closed=True)


def _traversal(length: int) -> int:
    return math.ceil(length * 0.1)


def _regex(regex: str, longest: int) -> int:
    return _traversal(longest + 1) * math.ceil(len(regex) * 0.25)
