"""The catalogue of hostile policy documents: each is the most expensive of its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from support.builders import policy_text

CONFIGMAP_BYTES: Final = 2**20
FILE_BYTES: Final = 2 * 2**20
"""This size is below the limit of a file, because a larger file takes long on two cores. Its writer is
trusted."""


@dataclass(frozen=True)
class Row:
    """A document. ``message`` is part of the finding that refuses it; empty when it is accepted.

    ``make`` returns a text of at most the given size. ``growth`` is the allowed growth of memory, in MiB: a
    good document is kept, and for a moment together with the one that it replaces.
    """

    name: str
    make: Callable[[int], str]
    message: str = ""
    growth: int = 100


HEAD: Final = policy_text()
"""A good document, which ends with a line break."""


def _more(part: str, head: str = HEAD, tail: str = "") -> Callable[[int], str]:
    """Return a document that repeats a part; ``{n}`` in the part is replaced by its number."""
    width = len(part.format(n=1_000_000).encode())

    def make(size: int) -> str:
        count = (size - len(head) - len(tail)) // width
        return head + "".join(part.format(n=number) for number in range(count)) + tail

    return make


def _filled(before: str, filling: str, after: str = "\n", head: str = HEAD) -> Callable[[int], str]:
    """Return a document with one value of the maximum length."""

    def make(size: int) -> str:
        count = (size - len(head + before + after)) // len(filling.encode())
        return head + before + filling * count + after

    return make


def _list(field: str, entry: str, count: int) -> Callable[[int], str]:
    """Return a document with this many entries in a list."""
    return lambda _size: HEAD + f"{field}:\n" + "".join(f"  - {entry.format(n=n)}\n" for n in range(count))


def _nested_lines(size: int) -> str:
    """Return nested mappings, each indented by one more space."""
    return HEAD + "".join(" " * depth + "a:\n" for depth in range(int((2 * size) ** 0.5) - 99))


BARE: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow:\n"
FLOW: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow: ["
CORP: Final = BARE + "  - registry.corp.io\n"
IN_A_RULE: Final = HEAD + "deny: [{image: a.io, namespaces: ["
IN_A_MIRROR: Final = HEAD + "mirrors: [{from: b.io, to: a.io, except: ["
MIRROR: Final = "{{from: h{n}.io/a, to: registry.corp.io/m/{n}}}"

TEXTS: Final = (
    Row("a-message-of-spaces-and-a-line-break", _filled('message: "x', " ", '\\n"\n'), ""),
    Row("a-message", _filled("message: ", "x"), "message"),
    Row("a-message-of-escapes", _filled('message: "', r"\u00e9", '"\n'), "message"),
    Row("a-message-of-folded-lines", _filled("message: >\n", "  x\n\n", "  y\n"), "message"),
    Row("a-message-of-empty-lines", _filled("message: |\n  x\n", "\n", "  y\n"), ""),
    Row("a-message-over-many-lines", _filled('message: "x', "\n\n ", '"\n'), ""),
    Row("a-message-of-quotes", _filled("message: '", "''", "'\n"), "message"),
    Row("a-pattern", _filled("deny: [a.io/", "x", "]\n"), "512"),
    Row("a-pattern-of-stars", _filled("deny: [a.io/", "*a", "]\n"), "512"),
    Row("a-pattern-of-labels", _filled("deny: [", "a.", "io]\n"), "512"),
    Row("a-pattern-of-segments", _filled("deny: [a.io", "/a", "]\n"), "512"),
    Row("a-pattern-of-colons", _filled("deny: ['a.io/x", ":", "']\n"), "512"),
    Row("a-pattern-of-digits", _filled("deny: ['a.io:", "1", "/x']\n"), "512"),
    Row("an-owner", _filled("deny: [{image: a.io, owner: '", " x", "'}]\n"), "owner"),
    Row("a-reason", _filled("deny: [{image: a.io, reason: '", "x ", "'}]\n"), "reason"),
    Row("an-instant-of-digits", _filled("deny: [{image: a.io, until: '", "2", "'}]\n"), "until"),
    Row("an-instant-of-spaces", _filled("deny: [{image: a.io, until: '2026-01-01", " ", "x'}]\n"), "until"),
    Row("a-number", _filled("message: ", "1"), "message"),
    Row("a-floating-number", _filled("message: 1.", "1"), "message"),
    Row("a-mode", _filled("mode: ", "e", head=HEAD.replace("mode: enforce\n", "")), "mode"),
    Row("a-kind", _filled("kind: ", "e", head=HEAD.replace("kind: ImagePolicy\n", "")), "kind"),
    Row("a-field", _filled("", "f", ": 1\n"), "without a colon"),
    Row("a-name", _filled("namespaces: [{mode: warn, names: ['", "*a", "']}]\n"), "names"),
    Row("a-mirror", _filled("mirrors: [{to: a.io, from: 'b.io", "/b", "'}]\n"), "512"),
    Row("a-resource-path", _filled("resources: [{group: g, kind: K, images: ['a", "[*]", "']}]\n"), "512"),
)
"""Documents with one value that is too long."""

LISTS: Final = (
    Row("bad-rules", _more("  - {{a: 1}}\n", BARE), "more"),
    Row("bad-patterns", _more("  - nginx\n", BARE), "the host is missing"),
    Row("bad-patterns-of-different-kinds", _more("  - 'A {n}'\n", BARE), "more"),
    Row("rules-of-null", _more("~,", FLOW, "~]\n"), "more"),
    Row("empty-rules", _more("{{}},", FLOW, "a.io]\n"), "more"),
    Row("rules-of-lists", _more("[],", FLOW, "a.io]\n"), "must be a pattern"),
    Row("unknown-fields", _more("f{n}: 1\n"), "unknown"),
    Row("unknown-fields-of-a-rule", _more("f{n}: 1,", HEAD + "deny: [{image: a.io,", "}]\n"), "unknown"),
    Row("a-key-again-and-again", _more("k: 1\n"), "more"),
    Row("keys-that-are-numbers", _more("{n}: 1\n"), "more"),
    Row("keys-that-are-lists", _more("? [a]\n: 1\n"), "more"),
    Row("too-many-mirrors", _list("mirrors", MIRROR, 5_000), "1,000"),
    Row("too-many-overrides", _list("namespaces", "{{mode: warn, names: [n{n}]}}", 5_000), "1,000"),
    Row("too-many-resources", _list("resources", "{{group: g{n}, kind: K, images: [a]}}", 5_000), "1,000"),
    Row("too-many-names", _more("n{n},", HEAD + "namespaces: [{mode: warn, names: [", "a]}]\n"), "1,000"),
    Row("too-many-names-of-a-rule", _more("n{n},", IN_A_RULE, "a]}]\n"), "1,000"),
    Row("too-many-exceptions", _more("a.io/{n},", IN_A_MIRROR, "a.io]}]\n"), "1,000"),
    Row("mirrors-in-a-circle", _list("mirrors", "{{from: a.io/{n}, to: a.io/{n}/b}}", 1_000), "mirrors[0]"),
    Row("mirrors-of-one-place", _list("mirrors", "{{from: a.io, to: b.io/{n}}}", 1_000), "more"),
)  # fmt: skip
"""Documents with too many entries, or many bad ones."""

SYNTAX: Final = (
    Row("brackets", _filled("message: ", "["), "64"),
    Row("braces", _filled("message: ", "{a: "), "64"),
    Row("dashes", _filled("message:\n ", "- "), "64"),
    Row("questions", _filled("message:\n ", "? "), "64"),
    Row("nested-lines", _nested_lines, "64"),
    Row("anchors", _more("k{n}: &a 1\n"), "more"),
    Row("aliases", _more("k{n}: *a\n"), "alias"),
    Row("tags", _more("k{n}: !a 1\n"), "more"),
    Row("billion-laughs", lambda _size: "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)), "anchor"),
    Row("tag-directives", _more("%TAG !t{n}! tag:x\n", "", "---\na: 1\n"), "TAG"),
    Row("yaml-directives", _more("%X {n}\n", "", "---\na: 1\n"), "begins with %"),
    Row("documents", _more("---\na: 1\n"), "second document"),
    Row("comments", _filled("#", "x"), ""),
    Row("comment-lines", _more("#\n"), ""),
    Row("empty-lines", _more("\n"), ""),
    Row("spaces", _filled("message: x", " "), ""),
    Row("tabs", _filled("message: x", "\t"), ""),
    Row("carriage-returns", _filled("#", "\r"), "carriage return"),
    Row("line-separators", _filled("#", "\u2028"), "U+2028"),
    Row("bidirectional-controls", _filled("#", "\u202e"), "U+202E"),
    Row("control-characters", _filled("#", "\x07"), "U+0007"),
    Row("an-open-quote", _filled('message: "', "x"), "never closed"),
    Row("open-quotes", _filled("message: ", '"a" '), "line 5"),
    Row("colons", _filled("message: ", "a:"), "line 5"),
    Row("colons-and-spaces", _filled("message: ", "a: "), "line 5"),
    Row("long-lines-of-keys", _filled("message: {", "a: 1, ", "}\n"), "must be text"),
    Row("a-text-that-is-too-long", lambda size: HEAD + "#" * size, "longer than"),
    Row("nothing", lambda _size: "", "empty"),
)  # fmt: skip
"""Text that is expensive to parse as YAML."""

KEPT: Final = 256
GOOD: Final = (
    Row("rules", _more("  - r{n}.io\n", CORP), growth=KEPT),
    Row("one-repository-each", _more("  - a.io/r{n}\n", CORP), growth=KEPT),
    Row("subtrees-of-subtrees", _more("  - a.io/b/c/d/e/f/g/{n}/**\n", CORP), growth=KEPT),
    Row("wildcards-in-the-host", _more("  - '*{n}.a.io'\n", CORP), growth=KEPT),
    Row("wildcards-in-the-path", _more("  - a.io/x{n}*\n", CORP), growth=KEPT),
    Row("dead-rules", _more("  - registry.corp.io/{n}\n", CORP), growth=KEPT),
    Row("dated-rules", _more("  - {{image: a.io/{n}, until: 2020-01-01}}\n", CORP), growth=KEPT),
    Row("rules-for-namespaces", _more("  - {{image: a.io, namespaces: [n{n}]}}\n", CORP), growth=KEPT),
    Row("mirrors", _list("mirrors", MIRROR, 1_000), growth=KEPT),
)  # fmt: skip
"""Documents that are accepted, with many findings of lint or none."""

FILES: Final = (
    Row("bad-rules", _more("  - {{a: 1}}\n", BARE), "more"),
    Row("a-message-of-spaces", _filled('message: "x', " ", '\\n"\n'), ""),
    Row("brackets", _filled("message: ", "["), "64"),
    Row("mirrors", _list("mirrors", MIRROR, 5_000), "1,000"),
    Row("a-text-that-is-too-long", lambda _size: HEAD + "#" * (16 * 2**20), "16 MiB"),
)
"""Documents of each kind that are delivered as a file."""

ROWS: Final[dict[str, Row]] = {
    f"{group}:{row.name}": row
    for group, rows in (("text", TEXTS), ("list", LISTS), ("syntax", SYNTAX), ("good", GOOD), ("file", FILES))
    for row in rows
}
