"""Properties of references and globs."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import InvalidReference, parse_reference
from gatekeeper_py.core.images.glob import Glob
from gatekeeper_py.core.images.reference import escape, locate
from property.strategies import any_text, images, varied_images
from support.budget import budget

QUICK: Final = settings(max_examples=budget(200))
any_image = images | varied_images


@QUICK
@given(any_image)
def test_normalisation_is_idempotent(image: str) -> None:
    """The exception is ``foo:443``: without its port, ``foo`` is not a registry but part of another name."""
    with suppress(InvalidReference):
        location = locate(parse_reference(image))
        is_registry = location.host == "localhost" or bool({".", ":"} & set(location.host))
        assert (locate(parse_reference(location.name)) == location) is is_registry


@QUICK
@given(any_text)
def test_escaped_text_is_one_printable_line(text: str) -> None:
    shown = escape(text)
    assert len(shown) <= 200
    assert shown.isascii()
    assert shown.isprintable()


@settings(max_examples=budget(500))
@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_a_glob_is_the_obvious_regular_expression(glob: str, text: str) -> None:
    expression = ".*".join(map(re.escape, glob.split("*")))
    assert Glob(glob).matches(text) == bool(re.fullmatch(expression, text, re.DOTALL))


@settings(max_examples=budget(300))
@given(
    st.text("ab*", max_size=5), st.text("ab*", max_size=6), st.lists(st.text("ab", max_size=3), min_size=6)
)
def test_a_glob_that_matches_a_glob_covers_it(wide: str, narrow: str, fillings: list[str]) -> None:
    """As ``Glob.matches`` states, this glob then covers everything that the other one matches."""
    if Glob(wide).matches(narrow):
        filler = iter(fillings)
        text = "".join(next(filler) if character == "*" else character for character in narrow)
        assert Glob(wide).matches(text)
