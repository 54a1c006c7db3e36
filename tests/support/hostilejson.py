"""JSON texts that are costly to parse: one row for each way to make a parser work or allocate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final


def repeated(item: str, ends: str = "[]") -> Callable[[int], str]:
    """Return a function that repeats one item in a list, or between other ends, up to a size."""
    return lambda size: ends[0] + ",".join([item] * max(size // (len(item) + 1), 1)) + ends[1]


def numbered(form: str, ends: str = "[]") -> Callable[[int], str]:
    """Return a function like ``repeated``, with a different number for ``@`` in each item."""

    def make(size: int) -> str:
        count = max(size // (len(form) + 6), 1)
        return ends[0] + ",".join(form.replace("@", f"{n:06}") for n in range(count)) + ends[1]

    return make


def text(character: str) -> Callable[[int], str]:
    """Make one string."""
    return lambda size: '"' + character * (size // len(character.encode())) + '"'


VALUES: Final[dict[str, Callable[[int], str]]] = {
    "numbers": repeated("1"),
    "fractions": repeated("1.5"),
    "exponents": repeated("1e1"),
    "long-fractions": repeated("0." + "1" * 100),
    "one-long-number": lambda size: "0." + "1" * size,
    "small-numbers": repeated("1.2345678901234567e-300"),
    "nulls": repeated("null"),
    "booleans": repeated("true"),
    "empty-texts": repeated('""'),
    "short-texts": repeated('"a"'),
    "short-unicode-texts": repeated('"\u20ac"'),
    "different-texts": numbered('"@"'),
    "different-long-texts": numbered('"' + "a" * 60 + '@"'),
    "escaped-texts": repeated(r'"\n"'),
    "one-text": text("a"),
    "one-escaped-text": text(r"\u00e9"),
    "one-text-of-quotes": text(r"\""),
    "one-text-of-emoji": text("\U0001f600"),
    "one-text-of-colons": text(":"),
    "one-text-of-hexadecimal": text("ae000"),
    "same-keys": repeated('"a":1', "{}"),
    "different-keys": numbered('"@":1', "{}"),
    "different-keys-and-spaces": numbered('"@" :1', "{}"),
    "long-keys": numbered('"' + "a" * 64 + '@":1', "{}"),
    "different-keys-and-texts": numbered('"@":"@"', "{}"),
    "managed-fields": numbered('"f:@":{}', "{}"),
    "lists": repeated("[]"),
    "lists-of-one": repeated("[1]"),
    "lists-of-lists": repeated("[[[]]]"),
    "mappings": repeated("{}"),
    "mappings-of-one": repeated('{"a":1}'),
    "different-mappings": numbered('{"@":1}'),
    "mappings-of-two": numbered('{"a@":1,"b@":1}'),
    "mappings-of-two-texts": repeated('{"a":"b","c":"d"}'),
    "containers-of-one": repeated('{"image":"a"}'),
    "containers": numbered('{"name":"@","image":"@"}'),
    "spaces": lambda size: " " * size + "1",
    "newlines": lambda size: "\n" * size + "1",
}
"""Builders of a JSON value of about a given number of bytes, by name."""
