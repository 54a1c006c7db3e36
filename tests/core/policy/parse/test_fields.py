"""Typed fields of a document: values, and all problems at once, with the schema that agrees."""

from __future__ import annotations

from typing import Any, Final

import jsonschema
import pytest
import yaml

from gatekeeper_py.core.policy.finding import Finding, Remarks
from gatekeeper_py.core.policy.parse.fields import (
    Boolean,
    Integer,
    Invalid,
    Items,
    OneOf,
    Pairs,
    Record,
    Scalar,
    read_document,
)
from gatekeeper_py.core.policy.parse.positions import as_findings

MAX_BYTES: Final = 1000


def lower(text: str) -> str:
    if not text.islower():
        raise Invalid("must be lower-case", "write it small")
    return text


NAME: Final = Scalar(parse=lower, code="bad-name", json={"type": "string", "pattern": "^[^A-Z]+$"})
DOCUMENT: Final = Record(
    dict,
    {
        "name": NAME,
        "colour": OneOf(("red", "blue")),
        "onOff": Boolean(),
        "count": Integer(1, 3),
        "names": Items(item=NAME, at_most=2, at_least=1),
        "labels": Pairs(name=NAME, value=Integer(0, 9), at_most=2),
        "anything": Items(item=NAME),
    },
    required=("name",),
    names={"name": "called"},
)


def read(text: str) -> tuple[Any, tuple[Finding, ...]]:
    remarks = Remarks()
    return read_document(text, DOCUMENT, MAX_BYTES, remarks), as_findings(text, remarks)


def test_values_have_the_names_of_their_parameters() -> None:
    text = "{name: a, colour: red, onOff: true, count: 3, names: [a, b], labels: {b: 1, a: 2}, anything: []}"
    value = {"called": "a", "colour": "red", "on_off": True, "count": 3, "names": ("a", "b")}
    assert read(text) == (value | {"labels": (("a", 2), ("b", 1)), "anything": ()}, ())


@pytest.mark.parametrize("text", ["", "# nothing", "~"])
def test_a_text_without_content_has_no_value(text: str) -> None:
    assert read(text) == (None, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a]", ["wrong-type : must be a mapping, not a list ()"]),
        ("name: A", ["bad-name name: must be lower-case (write it small)"]),
        ("name: 5", ["wrong-type name: must be text, not a number (quote it)"]),
        ("name: &a b", ["yaml-anchor name: an anchor (&a), and anchors are refused (leave it out)"]),
        ("name: a\ncolour: rde", ["bad-value colour: must be red or blue, not 'rde' (did you mean red?)"]),
        ("name: a\ncolour: [red]", ["bad-value colour: must be red or blue, not a list ()"]),
        ("name: a\nonOff: 1", ["wrong-type onOff: must be true or false, not a number ()"]),
        ("name: a\ncount: 4", ["bad-value count: must be from 1 to 3, not 4 ()"]),
        ("name: a\ncount: true", ["wrong-type count: must be a whole number, not true or false ()"]),
        ("name: a\nnames: []", ["empty-list names: needs at least one entry ()"]),
        ("name: a\nnames: [a, b, C]", ["too-many names: at most 2 entries, here 3 ()"]),
        ("name: a\nlabels: [a]", ["wrong-type labels: must be a mapping, not a list ()"]),
        ("name: a\nlabels:", ["wrong-type labels: must be a mapping, not null (leave the field out)"]),
        ("name: a\nlabels: {A: 1}", ["bad-name labels.A: must be lower-case (write it small)"]),
        ("name: a\nlabels: {a: 1, b: 2, C: 3}", ["too-many labels: at most 2 entries, here 3 ()"]),
        ("{}\n---\n", ["missing-field name: name is required ()",
                       "second-document : a second document (keep one document in the file)"]),
        ("name: A\ncount: [", ["yaml-syntax : a value is missing ()"]),
        ("name: " + "a" * MAX_BYTES, ["too-long : the text is longer than 1,000 bytes, the limit ()"]),
    ],
)  # fmt: skip
def test_a_document_with_problems_has_no_value(text: str, expected: list[str]) -> None:
    value, findings = read(text)
    assert value is None
    assert [f"{f.code} {f.path}: {f.message} ({f.proposal})" for f in findings] == expected
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        return
    if len(documents) == 1 and not expected[0].startswith(("too-long", "yaml-")):
        assert not jsonschema.Draft202012Validator(DOCUMENT.schema()).is_valid(documents[0])
