"""The size and the characters of a document's text (docs/policy.md, "Limits")."""

from __future__ import annotations

import sys
import unicodedata
from typing import Final

import pytest

from gatekeeper_py.core import Finding, PolicyError, parse_policy
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES, MAX_FILE_BYTES
from support.builders import policy_text

BIDI_CONTROLS: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The property Bidi_Control, from PropList.txt of Unicode 15."""


def findings(text: str, max_bytes: int = MAX_FILE_BYTES) -> tuple[Finding, ...]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, max_bytes=max_bytes)
    return caught.value.findings


def padded(size: int, character: str = "x") -> str:
    """Return a good document of this many bytes of UTF-8."""
    text = policy_text() + "# "
    return text + character * ((size - len(text)) // len(character.encode()))


@pytest.mark.parametrize("character", ["x", "\xe9", "\U0001f600"], ids=["ascii", "two-bytes", "four-bytes"])
@pytest.mark.parametrize(
    ("limit", "name"), [(MAX_CONFIGMAP_BYTES, "1 MiB"), (MAX_FILE_BYTES, "16 MiB"), (500, "500 bytes")]
)
def test_a_text_has_a_largest_size_in_bytes(limit: int, name: str, character: str) -> None:
    parse_policy(padded(limit, character), max_bytes=limit)
    (finding,) = findings(padded(limit, character) + "\U0001f600", limit)
    assert (finding.code, finding.line) == ("too-long", 1)
    assert finding.message == f"the text is longer than {name}, the limit"


@pytest.mark.parametrize(
    "character",
    [
        *"\x00\x01\x08\x0b\x0c\x0e\x1b\x1f\x7f\x80\x84\x85\x86\x9f\u2028\u2029\ud800\udfff\ufffe\uffff",
        *BIDI_CONTROLS,
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    ("before", "column"),
    [("# ", 3), ("message: 'a", 12), ("message: |\n  a", 4)],
    ids=["comment", "quoted", "block"],
)
def test_characters_that_no_text_may_hold(character: str, before: str, column: int) -> None:
    text = policy_text(f"{before}{character} b\n")
    (finding,) = findings(text)
    line = text.count("\n", 0, text.index(character)) + 1
    assert (finding.code, finding.line, finding.column) == ("yaml-syntax", line, column)
    assert f"U+{ord(character):04X}" in finding.message


def test_every_character_with_the_property_bidi_control_is_refused() -> None:
    """Python's Unicode data has the classes of bidirectional controls, but not this property."""
    classes = {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    controls = [chr(n) for n in range(sys.maxunicode + 1) if unicodedata.bidirectional(chr(n)) in classes]
    assert set(controls) <= set(BIDI_CONTROLS)
    for character in controls:
        assert findings(f"# {character}\n{policy_text()}")[0].line == 1


@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param("\ra: 1", [(1, 1)], id="first"),
        pytest.param("a: 1\r", [(1, 5)], id="last"),
        pytest.param("a: 1\n# b\rc: 2\n", [(2, 4)], id="in-a-comment"),
        pytest.param("a: 1\r\n\r\r\n", [(2, 1)], id="before-a-line-break"),
        pytest.param("a\r\u2028b\n\u2028\nc\n\x07", [(1, 2), (1, 3), (2, 1), (4, 1)], id="several"),
    ],
)
def test_a_carriage_return_needs_its_line_feed(text: str, places: list[tuple[int, int]]) -> None:
    assert [(finding.line, finding.column) for finding in findings(text)] == places


def test_windows_line_breaks_are_accepted() -> None:
    parse_policy(policy_text("# caf\xe9\n").replace("\n", "\r\n"))
    (finding,) = findings(policy_text("colour: red\n").replace("\n", "\r\n"))
    assert (finding.path, finding.line) == ("colour", 5)


def test_tabs_and_other_scripts_are_accepted() -> None:
    parse_policy(
        policy_text(
            "message: 'a\tb'\n# \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \U0001f600\n"
        ).replace("\tb", "b")
    )
    parse_policy(policy_text("# a\tb\n"))


def test_a_text_full_of_such_characters_has_a_hundred_findings_and_a_count() -> None:
    found = findings("\x07\n" * 5_000)
    assert [finding.line for finding in found[:100]] == list(range(1, 101))
    assert (len(found), found[-1].code) == (101, "more-findings")
    assert found[-1].message == "4,900 more findings are not listed"
