"""Properties of patterns."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import InvalidPattern, Pattern, parse_pattern, parse_prefix
from property.strategies import any_text, images, patterns
from support.budget import budget

QUICK: Final = settings(max_examples=budget(200))


def matches(pattern: Pattern, image: str) -> bool:
    return pattern.matches(parse_image(image))


@QUICK
@given(any_text)
def test_parsing_is_total(text: str) -> None:
    for parse in (parse_pattern, parse_prefix):
        with suppress(InvalidPattern):
            assert parse(text).text in {text, text.removesuffix("/")}


@settings(max_examples=budget(250))
@given(patterns | st.text("ab-._*/:@1", max_size=16).map(lambda text: f"a.io/{text}") | any_text)
def test_every_pattern_has_an_image(text: str) -> None:
    """A pattern with a part that no reference can have is refused."""
    try:
        pattern = parse_pattern(text)
    except InvalidPattern:
        return
    image = pattern.example()
    host, slash, path = image.partition("/")
    if host != "localhost" and not {".", ":"} & set(host):
        image = f"{host}:443{slash}{path}"  # without the port, the image would be on Docker Hub
    assert matches(pattern, image)


def expression_for(text: str) -> str:
    """Return a regular expression for the folded name of an image with its digest or effective tag."""
    pattern = parse_pattern(text)
    host = "[^/]+" if pattern.any_host else re.escape(pattern.host).replace(r"\*", "[a-z0-9-]*")
    path = "".join("/" + re.escape(segment).replace(r"\*", "[^/:@]*") for segment in pattern.segments)
    below = "(?:/[^/:@]+)+" if pattern.subtree else ""
    if pattern.digest is not None:
        qualifier = "@.*" if pattern.digest == "*" else f"@{pattern.digest}"
    elif pattern.tag is not None:
        qualifier = ":" + re.escape(pattern.tag).replace(r"\*", ".*")
    else:
        qualifier = "[:@].*"
    return host + path + below + qualifier


@settings(max_examples=budget(300))
@given(patterns, images)
def test_matching_is_the_obvious_regular_expression(text: str, image: str) -> None:
    parsed = parse_image(image)
    name = parsed.name + (f":{parsed.tag}" if parsed.tag is not None else f"@{parsed.digest}")
    assert matches(parse_pattern(text), image) == bool(re.fullmatch(expression_for(text), name))


@settings(max_examples=budget(300))
@given(patterns, patterns, images)
def test_one_image_shows_overlap_or_missing_cover_of_two_sets(one: str, other: str, image: str) -> None:
    """An image in both shows that they overlap; one in the second only, that the first does not cover it."""
    one_set, other_set = parse_pattern(one), parse_pattern(other)
    assert one_set.unqualified().covers(one_set)
    if not matches(other_set, image):
        return
    if matches(one_set, image):
        event("in both")
        assert one_set.overlaps(other_set)
        assert other_set.overlaps(one_set)
    else:
        event("in one")
        assert not one_set.covers(other_set)
