"""Properties of patterns and of the index."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from budget import budget
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.index import PatternIndex, qualifiers_of
from gatekeeper_py.core.images.pattern import InvalidPattern, Pattern, parse_pattern, parse_prefix
from gatekeeper_py.core.images.reference import effective_tag, locate, parse_reference
from gatekeeper_py.core.policy.rules import Rule
from property.strategies import any_text, images, name_lists, namespaces, patterns

QUICK: Final = settings(max_examples=budget(200))


def matches(pattern: Pattern, image: str) -> bool:
    reference = parse_reference(image)
    return pattern.matches(locate(reference), effective_tag(reference), reference.digest)


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
    reference = parse_reference(image)
    tag = effective_tag(reference)
    name = locate(reference).name + (f":{tag}" if tag is not None else f"@{reference.digest}")
    assert matches(parse_pattern(text), image) == bool(re.fullmatch(expression_for(text), name))


rules = st.lists(st.tuples(patterns, st.none() | name_lists), max_size=14)


@settings(max_examples=budget(200))
@given(rules, st.lists(images, min_size=1, max_size=6), namespaces)
def test_the_index_finds_what_a_scan_finds(
    entries: list[tuple[str, list[str] | None]], some_images: list[str], namespace: str | None
) -> None:
    """Both return the first rule in order that matches, for any number of rules."""
    index = PatternIndex()
    listed = []
    for order, (text, names) in enumerate(entries):
        # The name * stands for every namespace and for none, as in a policy.
        scope = None if names is None or "*" in names else tuple(names)
        rule = Rule(list="deny", index=order, pattern=parse_pattern(text), namespaces=scope)
        index.add(order, rule.pattern, scope)
        listed.append(rule)
    for image in some_images:
        reference = parse_reference(image)
        location, tag, digest = locate(reference), effective_tag(reference), reference.digest
        scanned = (
            rule.index
            for rule in listed
            if rule.pattern.matches(location, tag, digest) and rule.applies_to(namespace)
        )
        assert index.find(location, qualifiers_of(tag, digest), namespace) == next(scanned, None)


@settings(max_examples=budget(200))
@given(st.lists(patterns, min_size=1, max_size=6), patterns, st.lists(images, max_size=12))
def test_a_covering_pattern_matches_every_image_of_the_covered_one(
    texts: list[str], narrow_text: str, some_images: list[str]
) -> None:
    index = PatternIndex()
    wide = [parse_pattern(text) for text in texts]
    for order, pattern in enumerate(wide):
        index.add(order, pattern, None)
    narrow = parse_pattern(narrow_text)
    pinned = ("@*", None) if narrow.digest == "*" else qualifiers_of(narrow.tag, narrow.digest)
    for order in index.cover(narrow, Scan()).orders(pinned, None):
        for image in some_images:
            assert matches(wide[order], image) or not matches(narrow, image)


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
