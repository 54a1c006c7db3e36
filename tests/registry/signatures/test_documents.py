"""Documents are read strictly, and within a limited time and memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.registry.signatures.documents import (
    MAX_DEPTH,
    MAX_VALUES,
    Malformed,
    decode_base64,
    parse_object,
)
from support.growth import check_linear
from support.hostilejson import VALUES

TWICE = "a key of a JSON object is given twice"

pytestmark = pytest.mark.growth

texts = st.text('ab:"\\{}[],é', max_size=4)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), texts),
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.lists(st.tuples(texts, children), max_size=3).map(tuple)
    ),
    max_leaves=12,
)
"""JSON values. A tuple of pairs is an object, which can have a key twice."""


def written(value: Any) -> str:
    """Return a value as JSON, with its objects as they are."""
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{json.dumps(key)} : {written(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def has_a_key_twice(value: Any) -> bool:
    if isinstance(value, tuple):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(has_a_key_twice(item) for _, item in value)
    return isinstance(value, list) and any(map(has_a_key_twice, value))


def problem_of(content: bytes) -> str:
    """Return why a document is refused; an empty text if it is not."""
    try:
        parse_object(content)
    except Malformed as problem:
        return str(problem)
    return ""


@given(st.lists(st.tuples(texts, values), max_size=3).map(tuple))
def test_an_object_is_refused_exactly_if_a_key_is_given_twice(value: Any) -> None:
    text = written(value)
    assert problem_of(text.encode()) == (TWICE if has_a_key_twice(value) else "")
    if not has_a_key_twice(value):
        assert parse_object(text.encode()) == json.loads(text)


def test_the_depth_is_limited() -> None:
    for levels, problem in ((MAX_DEPTH, ""), (MAX_DEPTH + 1, f"JSON deeper than {MAX_DEPTH} levels")):
        assert problem_of(b'{"a":' * levels + b"1" + b"}" * levels) == problem


@pytest.mark.parametrize("name", VALUES)
def test_the_work_for_a_document_is_limited(name: str) -> None:
    allowed = {"", TWICE, f"JSON of more than {MAX_VALUES:,} values"}

    def parse(size: int) -> None:
        assert problem_of(f'{{"a":{VALUES[name](size)}}}'.encode()) in allowed

    check_linear(parse, lambda size: size, limit=1 << 16, start=1 << 13)


@given(st.binary(min_size=1, max_size=20))
def test_each_content_has_one_form_in_base64(content: bytes) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    number = f"{int.from_bytes(content):0{8 * len(content)}b}"
    number += "0" * (-len(number) % 6)
    text = "".join(alphabet[int(number[at : at + 6], 2)] for at in range(0, len(number), 6))
    text += "=" * (-len(text) % 4)
    assert decode_base64(text) == content
    for other in (text[:-1], text + "=", text.replace("=", "") + "\n", f" {text}"):
        with pytest.raises(Malformed):
            decode_base64(other)
