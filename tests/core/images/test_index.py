"""The index: the first rule in order that matches, and rules that cover others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core.images.globmap import MAX_COMPARED, MAX_COMPARISONS, Scan
from gatekeeper_py.core.images.image import Qualifiers, parse_image, qualifiers_of
from gatekeeper_py.core.images.index import PatternIndex
from gatekeeper_py.core.images.pattern import Pattern, parse_pattern
from gatekeeper_py.core.policy.rules import Rule
from property.strategies import images, name_lists, namespaces, patterns
from support.budget import budget
from support.growth import check_linear

SHA256: Final = "sha256:" + "7c" * 32
ALIKE: Final = ["*".join(each) for each in itertools.product("xy", repeat=10) if len(set(each)) > 1]
"""A thousand globs with the same literal pieces, in another order or number."""
MOST_LOOK_UPS: Final = 50
Entry = str | tuple[str, tuple[str, ...]]


def index_of(entries: Sequence[Entry]) -> PatternIndex:
    """Return an index of patterns, each for all namespaces or with its own."""
    index = PatternIndex()
    for order, entry in enumerate(entries):
        text, namespaces = (entry, None) if isinstance(entry, str) else entry
        index.add(order, parse_pattern(text), namespaces)
    return index


def covering(
    index: PatternIndex, pattern: Pattern, qualifiers: Qualifiers, scan: Scan | None = None
) -> list[int]:
    """Return the orders of the patterns that match everything that ``pattern`` matches."""
    return list(index.cover(pattern, scan or Scan()).orders(qualifiers, None))


def found(entries: Sequence[Entry], image: str, namespace: str | None = "shop") -> int | None:
    return index_of(entries).find(parse_image(image), namespace)


@pytest.mark.parametrize(
    ("entries", "image", "order"),
    [
        pytest.param([], "a.io/x", None, id="no-rules"),
        pytest.param(["b.io", "a.io"], "a.io/x", 1, id="host"),
        pytest.param(["*.a.io"], "[2001:db8::1]/x", None, id="no-glob-matches-an-ipv6-address"),
        pytest.param(["a.io", "a.io/x"], "a.io/x", 0, id="subtree-before-exact"),
        pytest.param(["a.io/*/y", "a.io"], "a.io/x/y", 0, id="segment-glob-before-subtree"),
        pytest.param(["a.io/x/*/z"], "a.io/x/y/z", 0, id="segment-glob-in-the-middle"),
        pytest.param(["*.corp.io", "a.*.io", "*.*.io"], "a.b.io/x", 1, id="host-globs-by-ending"),
        pytest.param(["*.io:5000", "*.io"], "a.io/x", 1, id="host-globs-by-port"),
        pytest.param(["*", "a.io"], "a.io/x", 0, id="any-host-first"),
        pytest.param(["*.io", "a.io", "*"], "a.io/x", 0, id="every-kind-of-host"),
        pytest.param(["a.io/x:v1*", "a.io/x:v*"], "a.io/x:v2", 1, id="tag-globs"),
        pytest.param(["a.io/x:*", "a.io/x@*"], f"a.io/x:v1@{SHA256}", 1, id="a-digest-has-no-tag"),
        pytest.param([f"a.io/x@{SHA256}", "a.io/x@*"], f"a.io/x@{SHA256}", 0, id="exact-digest-first"),
        pytest.param(["a.io/x", "a.io/x"], "a.io/x", 0, id="of-equals-the-first"),
    ],
)
def test_the_first_that_matches(entries: list[Entry], image: str, order: int | None) -> None:
    assert found(entries, image) == order


@pytest.mark.parametrize(
    ("names", "namespace", "matches"),
    [
        pytest.param(("shop",), "shop", True, id="name"),
        pytest.param(("shop",), "shop2", False, id="another-name"),
        pytest.param(("a", "shop"), "shop", True, id="one-of-several"),
        pytest.param(("sh*",), "shop", True, id="glob"),
        pytest.param(("sh*", "pay"), "pay", True, id="name-beside-a-glob"),
        pytest.param(("sh*",), "pay", False, id="another-glob"),
        pytest.param(("shop",), None, False, id="no-namespace-no-name"),
        pytest.param(("sh*",), None, False, id="no-namespace-no-glob"),
    ],
)
def test_namespaces(names: tuple[str, ...], namespace: str | None, *, matches: bool) -> None:
    assert (found([("a.io", names)], "a.io/x", namespace) == 0) is matches


def test_without_namespaces_a_rule_is_for_requests_without_one_too() -> None:
    assert found([("a.io", ("shop",)), "a.io"], "a.io/x", None) == 1


def test_a_namespace_glob_and_a_tag_glob_together() -> None:
    entries: list[Entry] = [("a.io/x:v*", ("sh*",))]
    assert found(entries, "a.io/x:v1", "shop") == 0
    assert found(entries, "a.io/x:w1", "shop") is None
    assert found(entries, "a.io/x:v1", "pay") is None


@settings(max_examples=budget(200))
@given(st.lists(st.tuples(patterns, st.none() | name_lists), max_size=14), images, namespaces)
def test_the_index_finds_what_a_scan_finds(
    entries: list[tuple[str, list[str] | None]], image: str, namespace: str | None
) -> None:
    """Both return the first rule in order that matches, for any number of rules."""
    index, matching = PatternIndex(), []
    parsed = parse_image(image)
    for order, (text, names) in enumerate(entries):
        # The name * stands for every namespace and for none, as in a policy.
        scope = None if names is None or "*" in names else tuple(names)
        rule = Rule(list="deny", index=order, pattern=parse_pattern(text), namespaces=scope)
        index.add(order, rule.pattern, scope)
        if rule.pattern.matches(parsed) and rule.applies_to(namespace):
            matching.append(order)
    assert index.find(parsed, namespace) == next(iter(matching), None)


@settings(max_examples=budget(200))
@given(st.lists(patterns, min_size=1, max_size=6), patterns)
def test_the_index_finds_the_patterns_that_cover_another(texts: list[str], narrow: str) -> None:
    """Of equal patterns it finds the first. A pattern covers itself."""
    listed = [parse_pattern(text) for text in (*texts, narrow)]
    pattern = listed[-1]
    qualifiers = ("@*", None) if pattern.digest == "*" else qualifiers_of(pattern.tag, pattern.digest)
    found = {listed[order].unwritten() for order in covering(index_of([*texts, narrow]), pattern, qualifiers)}
    assert found == {each.unwritten() for each in listed if each.covers(pattern)}


def test_covering_finds_every_rule_with_the_same_path() -> None:
    index = index_of(["a.io/x:v*", "a.io/x:*"])
    assert covering(index, parse_pattern("a.io/x:v*"), (":v*", None)) == [0, 1]


@pytest.mark.bulk
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("a.io/x:long*{}*", id="tags"),
        pytest.param("a.io/long*{}*", id="segments"),
        pytest.param("long*{}*.io", id="hosts"),
    ],
)
@pytest.mark.parametrize(
    ("each", "total", "cut"),
    [
        pytest.param(MAX_COMPARED, 1_000_000, True, id="in-one-map"),
        pytest.param(None, MAX_COMPARED, True, id="in-all"),
        pytest.param(None, 1_000_000, False, id="enough"),
    ],
)
def test_covering_compares_a_bounded_number(entry: str, each: int | None, total: int, *, cut: bool) -> None:
    """Cover is computed for every rule, so n similar wildcards must not cost n squared."""
    index = index_of([*map(entry.format, ALIKE), entry.format("x*y")])
    pattern = parse_pattern(entry.format("wxyz"))
    scan = Scan(each=each, total=total)
    orders = covering(index, pattern, qualifiers_of(pattern.tag, None), scan)
    assert scan.cut is cut
    if cut:
        assert total - scan.left < MAX_COMPARED + MOST_LOOK_UPS
    else:
        assert orders == [len(ALIKE)]


def test_covering_compares_a_bounded_number_of_namespaces() -> None:
    index = index_of([("a.io", (f"long*{each}*",)) for each in (*ALIKE, "x*y")])
    scan = Scan()
    list(index.cover(parse_pattern("a.io"), scan).orders((None,), "long*wxyz*"))
    assert scan.cut
    assert MAX_COMPARISONS - scan.left < MAX_COMPARED + MOST_LOOK_UPS


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        pytest.param("a.io/x/**", "a.io/" + "x/" * 100 + "y", id="long-path"),
        pytest.param("a.io/*b*c*/**", "a.io/" + "b" * 100 + "c/x", id="long-segment"),
    ],
)
def test_look_ups_count_as_comparisons(wide: str, narrow: str) -> None:
    index = index_of(
        [wide, *(f"a.io/{'x/' * n}z/**" for n in range(100)), *(f"a.io/*{'b' * n}*/y" for n in range(1, 60))]
    )
    scan = Scan()
    assert index.cover(parse_pattern(narrow), scan)
    assert scan.left < MAX_COMPARISONS - 100
    scan = Scan(total=50)
    index.cover(parse_pattern(narrow), scan)
    assert scan.cut


def test_finding_compares_all() -> None:
    entries = [f"a.io/long*{i}*:long*{i}*" for i in range(MAX_COMPARED)]
    assert found([*entries, "a.io/long*y*:long*z*"], "a.io/longy:longz") == MAX_COMPARED


@pytest.mark.long
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(("a.io/team/*-service-*ab{:04}*", ()), id="segment"),
        pytest.param(("*-service-*ab{:04}*.a.io", ()), id="host"),
        pytest.param(("a.io/**:*-service-*ab{:04}*", ()), id="tag"),
        pytest.param(("a.io/team/*", ("*-service-*ab{:04}*",)), id="namespace"),
    ],
)
def test_the_work_for_an_image_does_not_grow_with_wildcards_that_share_a_piece(
    entry: tuple[str, tuple[str, ...]],
) -> None:
    """Images and wildcards grow together, and the work grows as the images alone."""

    def made(number: int) -> tuple[PatternIndex, int]:
        pattern, namespaces = entry
        entries: list[Entry] = [
            (pattern.format(i), tuple(each.format(i) for each in namespaces))
            if namespaces
            else pattern.format(i)
            for i in range(number)
        ]
        return index_of(entries), number

    def judge(index_and_images: tuple[PatternIndex, int]) -> None:
        index, images = index_and_images
        for number in range(images):
            for host in ("a.io", "x-service-x.a.io"):
                image = parse_image(f"{host}/team/x-service-q{number}:x-service-x")
                assert index.find(image, "x-service-x") is None

    check_linear(judge, made, limit=1024)
