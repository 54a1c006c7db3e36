"""Explain libyaml's errors for text that is not YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from yaml.error import MarkedYAMLError

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import Mark
from gatekeeper_py.core.policy.limits import MAX_LEVELS

TOO_DEEP: Final = f"more than {MAX_LEVELS} levels deep, the limit"

_MAX_WORD: Final = 200
_WORD: Final = re.compile(r"[^\s,\[\]{}\"']+")

_MEANINGS: Final = MappingProxyType(
    {
        "mapping values are not allowed in this context": (
            "a key cannot stand here",
            "check the indentation, and quote text that holds a colon and a space",
        ),
        "mapping keys are not allowed in this context": ("a key cannot stand here", "check the indentation"),
        "block sequence entries are not allowed in this context": (
            "an item of a list cannot stand here",
            "begin each item on its own line",
        ),
        "could not find expected ':'": ("a key without a colon", "write key: value"),
        "did not find expected key": (
            "this is neither the next key of the mapping above nor part of its last value",
            "check the indentation",
        ),
        "did not find expected '-' indicator": (
            "this is neither the next item of the list above nor part of its last item",
            "check the indentation",
        ),
        "did not find expected ',' or ']'": ("a list that begins with [ lacks a comma or its ]", ""),
        "did not find expected ',' or '}'": ("a mapping that begins with { lacks a comma or its }", ""),
        "did not find expected node content": ("a value is missing", ""),
        "found unexpected end of stream": ("a quotation mark that is never closed", ""),
        "found unexpected document indicator": ("a quotation mark that is never closed", ""),
        "found unknown escape character": (
            "double quotes hold an escape that YAML does not know",
            "use single quotes, in which a backslash is a backslash",
        ),
        "did not find expected hexdecimal number": ("an escape without its hexadecimal digits", ""),
        "found invalid Unicode character escape code": ("an escape for a character that does not exist", ""),
        "did not find expected comment or line break": (
            "text after | or > in the same line",
            "begin the text in the next line, or quote it",
        ),
        "found a tab character where an indentation space is expected": (
            "a tab in the indentation",
            "indent with spaces",
        ),
        "found a tab character that violates indentation": ("a tab in the indentation", "indent with spaces"),
        "did not find expected <document start>": (
            "more text after the end of the document",
            "keep one policy a file",
        ),
        "exceeded maximum nesting depth": (TOO_DEEP, ""),
    }
)

_INDICATORS: Final = MappingProxyType({"*": "an alias", "&": "an anchor", "!": "a tag", "%": "a directive"})
"""Characters that mean something else than text at the beginning of a value."""


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    mark: Mark
    message: str
    proposal: str


def syntax_problem(problem: MarkedYAMLError, text: str) -> SyntaxProblem:
    """Return why ``text`` is not YAML, and the position of the mistake."""
    problem_text, context = problem.problem or "", problem.context or ""
    begins = problem.context_mark or problem.problem_mark
    mark = problem.problem_mark or begins
    if begins is None or mark is None:
        return SyntaxProblem(Mark(1, 1), f"not YAML: {escape(problem_text or context)}", "")
    first = text[begins.index : begins.index + 1]
    scanned = context.startswith(("while scanning", "while parsing a tag", "while parsing a node"))
    if first in _INDICATORS and scanned:
        return SyntaxProblem(_mark(begins), *_quote(first, text, begins.index))
    if problem_text == "found character that cannot start any token":
        if first == "\t":
            return SyntaxProblem(_mark(begins), "a tab in the indentation", "indent with spaces")
        return SyntaxProblem(_mark(begins), *_quote(first, text, begins.index))
    meaning = _MEANINGS.get(problem_text)
    if meaning is not None:
        # Report text that is never closed where it begins, and every other mistake where libyaml noticed it.
        open_ended = "never closed" in meaning[0] or "lacks" in meaning[0]
        return SyntaxProblem(_mark(begins if open_ended else mark), *meaning)
    shown = ": ".join(part for part in (context, problem_text) if part)
    return SyntaxProblem(_mark(mark), f"not YAML: {escape(shown)}", "")


def _quote(first: str, text: str, index: int) -> tuple[str, str]:
    """Message and proposal for a value that begins with a character that must be quoted."""
    word = _WORD.match(text[index : index + _MAX_WORD])
    shown = "" if word is None or len(word[0]) == _MAX_WORD else word[0].removesuffix(":")
    example = f': "{escape(shown)}"' if len(shown) > 1 else ""
    what = f", because YAML reads it as {_INDICATORS[first]}" if first in _INDICATORS else ""
    name = "patterns" if first == "*" else "text"
    return (
        f"a value that begins with {escape(first)} must be quoted{what}",
        f"quote {name} that begin{'' if first == '*' else 's'} with {escape(first)}{example}",
    )


def _mark(mark: object) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)  # type: ignore[attr-defined]
