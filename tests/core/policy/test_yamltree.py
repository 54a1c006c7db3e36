"""YAML as policies use it: values, their lines, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gatekeeper_py.core.policy.yamltree import MAX_DEPTH, Mark, Path, Tree, parse_yaml, path_text


def problems(text: str) -> list[tuple[str, str, int]]:
    """Code, path and line of each finding."""
    return [(f.code, f.path, f.line) for f in parse_yaml(text).findings]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("on", "on", id="on-is-text"),
        pytest.param("yes", "yes", id="yes-is-text"),
        pytest.param("no", "no", id="no-is-text"),
        pytest.param("y", "y", id="y-is-text"),
        pytest.param("true", True, id="true"),
        pytest.param("FALSE", False, id="false"),
        pytest.param("tRue", "tRue", id="odd-case-is-text"),
        pytest.param("", None, id="nothing-is-null"),
        pytest.param("~", None, id="tilde-is-null"),
        pytest.param("null", None, id="null"),
        pytest.param('""', "", id="empty-text"),
        pytest.param("'null'", "null", id="quoted-null"),
        pytest.param("12", 12, id="integer"),
        pytest.param("-012", -12, id="leading-zero-is-decimal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0b1", "0b1", id="no-binary"),
        pytest.param("1_000", "1_000", id="no-underscores"),
        pytest.param("5:30", "5:30", id="no-sexagesimal"),
        pytest.param("9" * 5000, math.inf, id="5000-digits-are-no-integer"),
        pytest.param("1.5", 1.5, id="float"),
        pytest.param("1e3", 1000.0, id="exponent"),
        pytest.param("-.INF", -math.inf, id="infinity"),
        pytest.param("1.25.3", "1.25.3", id="version-is-text"),
        pytest.param("2026-03-01", "2026-03-01", id="date-is-text"),
        pytest.param("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z", id="time-is-text"),
        pytest.param("<<", "<<", id="merge-is-text"),
        pytest.param("=", "=", id="equals-is-text"),
        pytest.param("a:b", "a:b", id="colon-without-space"),
        pytest.param("[a:b, c@d]", ["a:b", "c@d"], id="colon-in-a-flow-list"),
        pytest.param("|\n  a\n  b\n", "a\nb\n", id="block"),
    ],
)
def test_values(text: str, value: Any) -> None:
    tree = parse_yaml(f"key: {text}\n")
    assert not tree.findings
    assert tree.root == {"key": value}
    assert type(tree.root["key"]) is type(value) or isinstance(value, list)


def test_not_a_number() -> None:
    assert math.isnan(parse_yaml(".nan").root)


TEXT = """\
allow:
  - a.io
  - image: b.io
    until: '2026-03-01'
mode: |
  enforce
"""


@pytest.mark.parametrize(
    ("path", "mark"),
    [
        pytest.param((), Mark(1, 1), id="document"),
        pytest.param(("allow",), Mark(2, 3), id="list"),
        pytest.param(("allow", 0), Mark(2, 5), id="item"),
        pytest.param(("allow", 1, "until"), Mark(4, 12), id="value"),
        pytest.param(("allow", 1, "colour"), Mark(3, 5), id="missing-key-is-where-its-mapping-is"),
        pytest.param(("allow", 7), Mark(2, 3), id="missing-item-is-where-its-list-is"),
        pytest.param(("deny", 0), Mark(1, 1), id="missing-field-is-where-the-document-is"),
        pytest.param(("allow", 0, "image"), Mark(2, 5), id="below-text"),
        pytest.param(("mode",), Mark(5, 7, literal=True), id="block"),
    ],
)
def test_marks(path: Path, mark: Mark) -> None:
    assert parse_yaml(TEXT).mark_of(path) == mark


def test_marks_of_keys() -> None:
    tree = parse_yaml(TEXT)
    assert tree.mark_of(("allow", 1, "until"), key=True) == Mark(4, 5)
    assert tree.mark_of(("allow", 1), key=True) == Mark(3, 5), "an item has no key"


def test_lines_end_as_windows_writes_them() -> None:
    assert parse_yaml("a: 1\r\nb: 2\r\n").mark_of(("b",)) == Mark(2, 4)


def test_values_by_path() -> None:
    tree = parse_yaml(TEXT)
    assert tree.value_at(()) is tree.root
    assert tree.value_at(("allow", 1, "image")) == "b.io"
    assert tree.value_at(("allow", 7)) is None
    assert tree.value_at(("allow", 0, "image")) is None
    assert tree.value_at(("deny",)) is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param((), "", id="document"),
        pytest.param(("allow", 2, "image"), "allow[2].image", id="image"),
        pytest.param(("a\nb", "\xe9"), "a\\nb.\\xe9", id="one-printable-line"),
        pytest.param(("k" * 1000,), "k" * 197 + "...", id="bounded"),
    ],
)
def test_paths_as_people_write_them(path: Path, text: str) -> None:
    assert path_text(path) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [("empty-document", "", 1)], id="empty"),
        pytest.param("\n# nothing\n", [("empty-document", "", 1)], id="only-a-comment"),
        pytest.param("---\n", [("empty-document", "", 1)], id="only-a-marker"),
        pytest.param("~", [("empty-document", "", 1)], id="null"),
        pytest.param("a: 1\n---\nb: 2\n", [("second-document", "", 2)], id="second-document"),
        pytest.param("a: 1\n---\n", [("second-document", "", 2)], id="second-document-is-empty"),
        pytest.param("---\n---\na: 1\n", [("second-document", "", 2)], id="first-document-is-empty"),
        pytest.param("a: &x 1\n", [("yaml-anchor", "a", 1)], id="anchor"),
        pytest.param("&x a: 1\n", [("yaml-anchor", "a", 1)], id="anchor-of-a-key"),
        pytest.param("&x\na: 1\n", [("yaml-anchor", "", 1)], id="anchor-of-the-document"),
        pytest.param("&x text", [("yaml-anchor", "", 1)], id="anchor-of-a-scalar-document"),
        pytest.param("- *x\n", [("yaml-alias", "[0]", 1)], id="alias"),
        pytest.param("*x : 1\n", [("yaml-alias", "*x", 1)], id="alias-as-a-key"),
        pytest.param("<<: *x\n", [("yaml-alias", "<<", 1)], id="merge"),
        pytest.param("a: !!str 1\n", [("yaml-tag", "a", 1)], id="tag"),
        pytest.param("a: ! 1\n", [("yaml-tag", "a", 1)], id="non-specific-tag"),
        pytest.param("a: !!python/object:os.x {}\n", [("yaml-tag", "a", 1)], id="tag-of-a-mapping"),
        pytest.param("!!str a: 1\n", [("yaml-tag", "a", 1)], id="tag-of-a-key"),
        pytest.param("a: !<%0A> 1\n", [("yaml-tag", "a", 1)], id="tag-of-odd-characters"),
        pytest.param("%TAG !a! b\n---\na: 1\n", [("yaml-tag", "", 1)], id="tag-directive"),
        pytest.param("a: 1\n...\n%TAG !a! b\n---\n", [("yaml-tag", "", 3)], id="late-tag-directive"),
        pytest.param("a: 1\nb: 2\na: 3\n", [("duplicate-key", "a", 3)], id="duplicate"),
        pytest.param("a: {b: 1, 'b': 2}\n", [("duplicate-key", "a.b", 1)], id="duplicate-in-flow"),
        pytest.param(
            "a: 1\na: 2\na: 3\n", [("duplicate-key", "a", 2), ("duplicate-key", "a", 3)], id="thrice"
        ),
        pytest.param(
            "a: 1\na:\n  - &x 1\n  - {&y b: [&z 2]}\n", [("duplicate-key", "a", 2)], id="below-a-duplicate"
        ),
        pytest.param("1: a\n", [("wrong-type", "1", 1)], id="number-as-a-key"),
        pytest.param("a: {true: b}\n", [("wrong-type", "a.true", 1)], id="boolean-as-a-key"),
        pytest.param("~: a\n", [("wrong-type", "~", 1)], id="null-as-a-key"),
        pytest.param("a:\n  ? [b, &x c]\n  : d\n", [("wrong-type", "a", 2)], id="list-as-a-key"),
        pytest.param("? {b: c, b: &x d}\n: e\n", [("wrong-type", "", 1)], id="duplicate-in-a-key"),
        pytest.param("? {b: c}\n: {d: e}\n", [("wrong-type", "", 1)], id="mapping-as-a-key"),
        pytest.param("? {? [b] : c}\n: {? [d] : e}\n", [("wrong-type", "", 1)], id="mapping-in-a-key"),
        pytest.param(
            "a: &x 1\nb: *x\na: 2\n",
            [("yaml-anchor", "a", 1), ("yaml-alias", "b", 2), ("duplicate-key", "a", 3)],
            id="all-at-once",
        ),
        pytest.param("a: [\n", [("yaml-syntax", "", 2)], id="open-bracket"),
        pytest.param("a: b: c\n", [("yaml-syntax", "", 1)], id="two-colons"),
        pytest.param("\ta: 1\n", [("yaml-syntax", "", 1)], id="tab"),
        pytest.param("a: 1\n\n@\n", [("yaml-syntax", "", 3)], id="reserved-character"),
        pytest.param('a: "\\ud800"\n', [("yaml-syntax", "", 1)], id="escaped-surrogate"),
        pytest.param("%FOO\n---\na: 1\n", [("yaml-syntax", "", 1)], id="unknown-directive"),
        pytest.param("a: 1\n# \x07\n", [("yaml-syntax", "", 2)], id="control-character"),
        pytest.param("a: 1\n# \x9b\n", [("yaml-syntax", "", 2)], id="c1-control-character"),
        pytest.param("a: 1\n# \ud800\n", [("yaml-syntax", "", 2)], id="lone-surrogate"),
        pytest.param("a: 1\n# \uffff\n", [("yaml-syntax", "", 2)], id="non-character"),
    ],
)
def test_what_is_refused(text: str, expected: list[tuple[str, str, int]]) -> None:
    assert problems(text) == expected


def test_what_people_name_is_escaped() -> None:
    messages = [f.message for f in parse_yaml('"\\n": 1\n"\\n": 2\na: !<%0A> 1\n').findings]
    assert messages == ["\\n is given twice", "a tag (\\n)"]


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "? "], ids=["list", "mapping", "block-list", "key"])
def test_nesting_is_bounded_while_reading(text: str) -> None:
    finding = parse_yaml(text * 500).findings[-1]
    assert (finding.code, finding.message) == ("yaml-syntax", f"more than {MAX_DEPTH} levels deep")
    assert parse_yaml(text * 100_000).findings[-1].code == "yaml-syntax"


def test_the_deepest_nesting_is_read() -> None:
    assert not parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH).findings
    assert parse_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).findings


def test_a_version_directive_is_no_tag() -> None:
    assert parse_yaml("%YAML 1.2\n---\na: '%TAG'\n").root == {"a": "%TAG"}


@pytest.mark.parametrize(
    ("text", "path", "hidden"),
    [
        pytest.param("a: *x", ("a", 0), True, id="below-an-alias"),
        pytest.param("a: *x", ("b",), False, id="beside-an-alias"),
        pytest.param("a: !!int x", ("a",), True, id="tagged-scalar"),
        pytest.param("a: !!seq [b]", ("a", 0), False, id="below-a-tagged-list"),
        pytest.param("a: &x b", ("a",), False, id="anchored"),
        pytest.param("a: b\na: c", ("a",), False, id="duplicate"),
        pytest.param("1: b", ("a",), False, id="beside-a-key-that-is-no-text"),
        pytest.param("a: b\n---\nc", ("a",), False, id="second-document"),
        pytest.param("a: b\nc: [", ("a",), True, id="syntax-error"),
        pytest.param("", (), True, id="empty"),
    ],
)
def test_only_what_was_not_read_is_hidden(text: str, path: Path, *, hidden: bool) -> None:
    assert parse_yaml(text).hides(path) is hidden


def test_a_tree_without_a_document() -> None:
    assert Tree().mark_of(("a",)) == Mark(1, 1)
