"""An error in YAML is explained at the position that must be changed."""

from __future__ import annotations

import pytest
from yaml.error import MarkedYAMLError

from builders import policy_text
from gatekeeper_py.core import Finding, PolicyError, parse_policy
from gatekeeper_py.core.policy.finding import Mark
from gatekeeper_py.core.policy.parse.syntax import explain


def problem(text: str) -> Finding:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    (finding,) = caught.value.findings
    return finding


@pytest.mark.parametrize(
    ("text", "place", "proposal"),
    [
        pytest.param("allow:\n  - *.corp.io\n", (2, 5), '"*.corp.io"', id="list"),
        pytest.param("allow: [*.corp.io, a.io]\n", (1, 9), '"*.corp.io"', id="brackets"),
        pytest.param("deny: [*/**:latest]\n", (1, 8), '"*/**:latest"', id="any-host"),
        pytest.param("deny: *b*\n", (1, 7), '"*b*"', id="value"),
        pytest.param("deny: [*]\n", (1, 8), "begin with *", id="star-alone"),
        pytest.param("*.io: x\n", (1, 1), '"*.io"', id="key"),
        pytest.param("- *." + "a" * 300 + "\n", (1, 3), "begin with *", id="a-long-word-is-no-example"),
    ],
)
def test_a_pattern_that_begins_with_a_star_must_be_quoted(
    text: str, place: tuple[int, int], proposal: str
) -> None:
    finding = problem(text)
    assert (finding.code, finding.line, finding.column) == ("yaml-syntax", *place)
    assert finding.message == "a value that begins with * must be quoted, because YAML reads it as an alias"
    assert finding.proposal.startswith("quote patterns that begin with *")
    assert finding.proposal.endswith(proposal)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("a: b: c", 1, "a key cannot stand here", id="two-colons"),
        pytest.param("a: b\n  c: d", 2, "a key cannot stand here", id="key-below-text"),
        pytest.param("[? a : ? b]", 1, "a value is missing", id="two-explicit-keys"),
        pytest.param("a: - b", 1, "an item of a list cannot stand here", id="item-beside-a-key"),
        pytest.param("? a\n:b", 3, "a key without a colon", id="no-colon"),
        pytest.param("a:\n  b: 1\n c: 2", 3, "neither the next key of the mapping above", id="indentation"),
        pytest.param("a: b\n- c", 2, "neither the next key of the mapping above", id="item-below-a-mapping"),
        pytest.param("a:\n - b\n  - c\n c: d", 4, "neither the next item of the list above", id="item"),
        pytest.param("a: 1\nb: [c\nd: e\n", 2, "lacks a comma or its ]", id="open-list"),
        pytest.param("a: 1\nb: {c: d\n", 2, "lacks a comma or its }", id="open-mapping"),
        pytest.param("a: [\n", 2, "a value is missing", id="empty-open-list"),
        pytest.param("a: 1\nb: 'c\nd: e\n", 2, "a quotation mark that is never closed", id="single-quote"),
        pytest.param('a: 1\nb: "c\n', 2, "a quotation mark that is never closed", id="double-quote"),
        pytest.param("a: 'x\n---\n", 1, "a quotation mark that is never closed", id="quote-before-a-marker"),
        pytest.param('a: "\\q"', 1, "an escape that YAML does not know", id="escape"),
        pytest.param('a: "\\x1"', 1, "an escape without its hexadecimal digits", id="short-escape"),
        pytest.param('a: "\\ud800"', 1, "a character that does not exist", id="escaped-surrogate"),
        pytest.param("a: |x\n", 1, "text after | or >", id="text-beside-a-block"),
        pytest.param("a: |\n\tx", 2, "a tab in the indentation", id="tab-in-a-block"),
        pytest.param("\ta: 1", 1, "a tab in the indentation", id="tab"),
        pytest.param("a:\n\t- b", 2, "a tab in the indentation", id="tab-before-an-item"),
        pytest.param("a: @x", 1, "a value that begins with @ must be quoted", id="at-sign"),
        pytest.param("a: `x`", 1, "a value that begins with ` must be quoted", id="backquote"),
        pytest.param("a: %x", 1, "a value that begins with % must be quoted", id="percent"),
        pytest.param("a: & b", 1, "a value that begins with & must be quoted", id="ampersand"),
        pytest.param("a: !<", 1, "a value that begins with ! must be quoted", id="exclamation-mark"),
        pytest.param("!a!b c", 1, "a value that begins with ! must be quoted", id="tag-handle"),
        pytest.param("%FOO\n---\na: 1\n", 1, "a value that begins with % must be quoted", id="directive"),
        pytest.param("a: 1\n...\nb", 3, "more text after the end of the document", id="after-the-end"),
        pytest.param("%YAML 2.0\n---\na", 1, "not YAML: found incompatible YAML document", id="another"),
        pytest.param("[" * 2000, 1, "more than 64 levels deep", id="deep"),
    ],
)
def test_a_yaml_error_is_explained(text: str, line: int, message: str) -> None:
    finding = problem(text)
    assert (finding.code, finding.path, finding.line) == ("yaml-syntax", "", line)
    assert message in finding.message


def test_an_alias_may_be_a_pattern() -> None:
    finding = problem(policy_text("deny: *team\n"))
    assert (finding.code, finding.message) == ("yaml-alias", "an alias (*team), and aliases are refused")
    assert "quote a pattern that begins with *" in finding.proposal


def test_an_error_without_a_position_is_at_the_beginning() -> None:
    found = explain(MarkedYAMLError(context="while reading", problem="it broke"), "")
    assert (found.mark, found.message) == (Mark(1, 1), "not YAML: it broke")
