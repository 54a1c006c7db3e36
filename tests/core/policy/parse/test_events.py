"""YAML as policies use it: values, their lines, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gatekeeper_py.core.policy.finding import Finding, Remarks
from gatekeeper_py.core.policy.limits import MAX_LEVELS
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node, Reader, Unreadable
from gatekeeper_py.core.policy.parse.positions import as_findings


def value_of(reader: Reader, node: Node) -> Any:
    """Return the complete value of a node as Python objects."""
    if node.kind == "mapping":
        return {key: value_of(reader, child) for key, child in reader.entries()}
    return [value_of(reader, child) for child in reader.items()] if node.kind == "list" else node.value


def read(text: str) -> tuple[Any, tuple[Finding, ...]]:
    """Return the value of a text and its problems; the value is ``None`` when the text cannot be read."""
    remarks = Remarks()
    try:
        reader = Reader(text, remarks)
        root = reader.root()
        value = None if root is None else value_of(reader, root)
        reader.finish()
    except Unreadable as problem:
        remarks.add(problem.remark)
        value = None
    return value, as_findings(text, remarks)


def problems(text: str) -> list[tuple[str, str, int]]:
    """Return code, path and line of each finding."""
    return [(f.code, f.path, f.line) for f in read(text)[1]]


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
    found, findings = read(f"key: {text}\n")
    assert not findings
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_nan_is_read_as_a_float() -> None:
    assert math.isnan(read(".nan")[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("\n# nothing\n", [], id="only-a-comment"),
        pytest.param("---\n", [], id="only-a-marker"),
        pytest.param("~", [], id="null"),
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
    ],
)
def test_yaml_features_outside_the_subset_are_refused(
    text: str, expected: list[tuple[str, str, int]]
) -> None:
    assert problems(text) == expected


def test_names_from_the_document_are_escaped() -> None:
    messages = [f.message for f in read('"\\n": 1\n"\\n": 2\na: !<%0A> 1\n')[1]]
    assert messages == ["\\n is given twice; the first one is in line 1", "a tag (\\n), and tags are refused"]


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "? "], ids=["list", "mapping", "block-list", "key"])
def test_nesting_is_bounded_while_reading(text: str) -> None:
    finding = read(text * 500)[1][-1]
    assert (finding.code, finding.message) == (
        "yaml-syntax",
        f"more than {MAX_LEVELS} levels deep, the limit",
    )
    assert "levels deep" in read(text * 100_000)[1][-1].message


def test_the_deepest_nesting_is_read() -> None:
    assert not read("[" * MAX_LEVELS + "]" * MAX_LEVELS)[1]
    assert read("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1))[1]


def test_a_version_directive_is_not_a_tag() -> None:
    assert read("%YAML 1.2\n---\na: '%TAG'\n") == ({"a": "%TAG"}, ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("a: *x", {"a": UNKNOWN}, id="alias"),
        pytest.param("a: !!int x", {"a": UNKNOWN}, id="tagged-scalar"),
        pytest.param("a: !!seq [b]", {"a": ["b"]}, id="tagged-list"),
        pytest.param("a: &x b", {"a": "b"}, id="anchored"),
        pytest.param("a: &x 5", {"a": 5}, id="anchored-number"),
        pytest.param("a: &x '5'", {"a": "5"}, id="anchored-text"),
        pytest.param("a: b\na: c", {"a": "b"}, id="duplicate"),
        pytest.param("1: b\nc: d", {"c": "d"}, id="beside-a-key-that-is-not-text"),
        pytest.param("a: b\n---\nc", {"a": "b"}, id="second-document"),
        pytest.param("a: b\nc: [", None, id="syntax-error"),
    ],
)
def test_the_remaining_values_are_read_when_others_have_problems(text: str, value: Any) -> None:
    assert read(text)[0] == value


def test_the_unknown_value_has_a_name() -> None:
    assert repr(UNKNOWN) == "UNKNOWN"


TEXT = """\
allow:
  - a.io
  - image: b.io
    until: [1, {a: b}]
mode: warn
"""


def test_items_that_a_caller_does_not_read_are_skipped() -> None:
    reader = Reader(TEXT, Remarks())
    root = reader.root()
    assert root is not None
    seen: list[tuple[Any, ...]] = []
    for key, node in reader.entries():
        seen.append((key, node.kind, node.value, list(reader.path)))
        if node.kind == "list":
            seen.extend((item.kind, item.value, list(reader.path)) for item in reader.items())
    reader.finish()
    assert seen == [
        ("allow", "list", None, ["allow"]),
        ("scalar", "a.io", ["allow", 0]),
        ("mapping", None, ["allow", 1]),
        ("mode", "scalar", "warn", ["mode"]),
    ]
    assert reader.path == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [&x b]", [("yaml-anchor", "a", 1)], id="anchor"),
        pytest.param("a: {b: *x}", [("yaml-alias", "a", 1)], id="alias"),
        pytest.param("a: {b: !!str c}", [("yaml-tag", "a", 1)], id="tag"),
        pytest.param("a:\n  b: c\n  b: d", [], id="duplicate"),
    ],
)
def test_anchors_in_skipped_values_are_refused(text: str, expected: list[tuple[str, str, int]]) -> None:
    remarks = Remarks()
    reader = Reader(text, remarks)
    reader.root()
    assert [key for key, _ in reader.entries()] == ["a"]
    reader.finish()
    assert [(f.code, f.path, f.line) for f in as_findings(text, remarks)] == expected


def test_control_characters_in_an_unchecked_text_are_refused() -> None:
    assert [f.code for f in read("a: 1\n# \ud800\n")[1]] == ["yaml-syntax"]
    assert [f.code for f in read("a: 1\n# \x07\n")[1]] == ["yaml-syntax"]
