"""No image contradicts the exact difference of two policies, and every witness of it is true.

The images and namespaces are derived from the text of the policies. The product's decision about each of
them is compared with a second implementation of the decision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.compare.difference import Change, Difference, GrantDifference, compare
from property.edges import Edges
from property.policy_pairs import hub_pairs, pairs
from property.strategies import allow_patterns, name_lists
from support import naive
from support.budget import budget
from support.builders import policy_document as policy

Pair = tuple[CompiledPolicy, CompiledPolicy]
Example = tuple[str, str | None]
"""An image and a namespace."""

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "policies"
OPPOSITE: Final[dict[Change, Change]] = {
    "approved": "rejected",
    "rejected": "approved",
    "rewritten": "rewritten",
}


def compiled(document: dict[str, Any]) -> CompiledPolicy:
    return parse_policy(json.dumps(document)).at(NOW)


def check(pair: Pair, random: Random, images: int, namespaces: int) -> set[Change]:
    """Check the laws in both directions on the same images; return the changes of these images."""
    documents = [json.loads(policy.policy.text) for policy in pair]
    seen: dict[Change, Example] = {}
    for image, namespace in Edges(random, *documents).draw(images, namespaces):
        approved = tuple(policy.decide(namespace, image).approved for policy in pair)
        assert approved == tuple(naive.approved(each, image, namespace, NOW) for each in documents), image
        if (change := changed(pair, image, namespace, approved)) is not None:
            seen.setdefault(change, (image, namespace))
    check_difference(pair, compare(*pair), seen)
    mirrored = {OPPOSITE[change]: example for change, example in seen.items()}
    check_difference(pair[::-1], compare(*pair[::-1]), mirrored)
    return set(seen)


def check_difference(pair: Pair, found: Difference, seen: dict[Change, Example]) -> None:
    """Check that each observed change was found, each found one has a witness, and each witness is true."""
    assert seen.keys() <= found.changes, {change: seen[change] for change in seen.keys() - found.changes}
    assert {witness.change for witness in found.witnesses} == found.changes
    for witness in found.witnesses:
        decisions = [policy.decide(witness.namespace, witness.image) for policy in pair]
        approved = (decisions[0].approved, decisions[1].approved)
        assert changed(pair, witness.image, witness.namespace, approved) == witness.change, witness
        claimed = [(witness.before == "approved", witness.old), (witness.after == "approved", witness.new)]
        assert [(each.approved, each.rule) for each in decisions] == claimed, witness


def changed(pair: Pair, image: str, namespace: str | None, approved: tuple[bool, ...]) -> Change | None:
    """Return the change of an image that each policy of the pair approves or not."""
    if approved[0] != approved[1]:
        return "approved" if approved[1] else "rejected"
    old, new = (
        policy.rewrite(namespace, image) if policy.mode(namespace).rewrites else None for policy in pair
    )
    return "rewritten" if old != new else None


@settings(max_examples=budget(80))
@given(st.one_of(pairs(), hub_pairs()))
def test_no_image_contradicts_the_difference(pair: Pair) -> None:
    check(pair, Random(pair[0].revision + pair[1].revision), 40, 2)
    same = compare(pair[0], pair[0])
    assert (same.changes, same.witnesses) == (frozenset(), ())


def _grants(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    named = {"namespaces": name_lists}
    images = {"images": st.lists(texts, min_size=1, max_size=3), "longest": st.just("1d")}
    sources = {"source": st.sampled_from(["namespace", "installation", "break-glass"])}
    overriding = {"source": st.just("break-glass"), "overrides": st.just("deny")}
    return st.lists(
        st.fixed_dictionaries({**sources, **images}, optional=named)
        | st.fixed_dictionaries({**overriding, **images}, optional=named),
        max_size=2,
    )


@settings(max_examples=budget(80))
@given(st.one_of(pairs(), hub_pairs()), *[_grants(allow_patterns)] * 3, st.integers(0, 1))
def test_no_image_contradicts_what_exceptions_could_approve(
    pair: Pair, common: list[Any], old: list[Any], new: list[Any], second: int
) -> None:
    """This is what some exception could approve under one policy only, of the images that both reject."""
    documents: list[dict[str, Any]] = [json.loads(pair[index].policy.text) for index in (0, second)]
    documents = [
        {**document, "exceptions": [*common, *more]}
        for document, more in zip(documents, (old, new), strict=True)
    ]
    granted = [grant for document in documents for grant in document["exceptions"]]
    images = [
        {"image": text} | ({"namespaces": grant["namespaces"]} if "namespaces" in grant else {})
        for grant in granted
        for text in grant["images"]
    ]
    edges = Edges(Random(json.dumps(documents)), *documents, {"allow": images})
    check_grants(documents, edges.draw(40, 2))


def check_grants(documents: Sequence[dict[str, Any]], examples: Iterable[Example]) -> None:
    """Check the laws about what exceptions could approve, in both directions."""
    seen = {
        change: (image, namespace)
        for image, namespace in examples
        for change in exceptions_changed(documents, image, namespace)
    }
    policies = [compiled(document) for document in documents]
    plain = [compiled({**document, "exceptions": []}) for document in documents]
    found, rules = compare(policies[0], policies[1]), compare(plain[0], plain[1])
    assert found.changes == rules.changes  # grants change no answer about the rules
    assert rules.grants == GrantDifference(widens=False, narrows=False, witnesses=(), exist=False)
    for change, holds in (("granted", found.grants.widens), ("withdrawn", found.grants.narrows)):
        assert holds or change not in seen, seen
        assert holds == any(witness.change == change for witness in found.grants.witnesses)
    for witness in found.grants.witnesses:
        assert witness.change in exceptions_changed(documents, witness.image, witness.namespace), witness
    back = compare(policies[1], policies[0]).grants
    assert (back.widens, back.narrows) == (found.grants.narrows, found.grants.widens)


def exceptions_changed(
    documents: Sequence[dict[str, Any]], image: str, namespace: str | None
) -> Iterator[str]:
    """Yield what changes for an image that both policies reject."""
    if None not in [naive.needed(each, image, namespace, NOW) for each in documents]:
        old, new = (naive.exceptable(each, image, namespace, NOW) for each in documents)
        if old != new:
            yield "granted" if new else "withdrawn"


HUB: Final = {"from": "docker.io", "to": "a.io/hub"}
QUAY: Final = {"from": "quay.io", "to": "a.io/q"}
LONG: Final = {"from": "b.io/" + "b" * 60, "to": "a.io/q"}
DIGEST: Final = "sha256:" + "ab" * 32
PAIRS: Final = {
    "a-registry-with-a-port": (policy(["a.io"]), policy(["a.io", "a.io:5000"])),
    "an-IPv6-registry": (policy(["a.io"]), policy(["a.io", "[::1]:5000"])),
    "a-host-without-a-dot": (policy(["a.io"]), policy(["a.io", "foo:443/"])),
    "a-wildcard-in-a-host": (policy(["x.a.io"]), policy(["*.a.io"])),
    "a-denial-in-one-of-many-hosts": (policy(["*.a.io"]), policy(["*.a.io"], ["x.a.io/t"])),
    "hosts-that-begin-like-Hub": (policy(["a.io"]), policy(["a.io", "docker*.io/x"])),
    "all-of-Hub": (policy(["*.io/a"]), policy(["*.io/a", "docker.io"])),
    "hosts-like-the-names-of-Hub": (policy(["*.docker.io"]), policy(["*.docker.io/x"])),
    "a-host-whose-shortest-name-is-one-of-Hub": (policy(["a.io"]), policy(["a.io", "inde*x.docker.io"])),
    "two-segments-on-Hub": (policy(["docker.io"]), policy(["docker.io/*/**"])),
    "below-a-repository": (policy(["a.io/x"]), policy(["a.io/x", "a.io/x/"])),
    "a-repository-and-all-below": (policy(["a.io/x/"]), policy(["a.io/x", "a.io/x/"])),
    "a-segment-with-an-underscore": (policy(["a.io/x"]), policy(["a.io/x", "a.io/*_*"])),
    "nothing-for-a-star": (policy(["a.io/ab"]), policy(["a.io/a*b"], ["a.io/a*x*b", "a.io/a*y*b"])),
    "a-star-that-stands-for-nothing": (policy(["a.io/x"]), policy(["a.io/x"], ["a.io/x*"])),
    "any-other-tag": (policy(["a.io/x:v1"]), policy(["a.io/x:*"])),
    "a-tag-with-a-dot": (policy(["a.io/x:v1"]), policy(["a.io/x:v1", "a.io/x:*.*"])),
    "a-long-tag": (policy(["a.io/x:v1"]), policy(["a.io/x:v1", "a.io/x:v12345678"])),
    "only-tags": (policy(["a.io/x"]), policy(["a.io/x:*"])),
    "all-tags-but-one": (policy(["a.io/x"]), policy(["a.io/x:v1", "a.io/x@*"])),
    "any-digest": (policy([f"a.io/x@{DIGEST}"]), policy(["a.io/x@*"])),
    "one-digest": (policy(["a.io/x:*"]), policy(["a.io/x:*", f"a.io/x@{DIGEST}"])),
    "a-denied-tag": (policy(["a.io"]), policy(["a.io"], ["*/**:latest"])),
    "in-some-namespaces": (
        policy([{"image": "a.io", "namespaces": ["ci-*"]}]),
        policy([{"image": "a.io", "namespaces": ["ci-*", "shop"]}]),
    ),
    "without-a-namespace": (policy([{"image": "a.io", "namespaces": ["**"]}]), policy(["a.io"])),
    "denied-in-all-namespaces": (
        policy(["a.io"], [{"image": "a.io/x", "namespaces": ["**"]}]),
        policy(["a.io"], [{"image": "a.io/x", "namespaces": ["a*", "**"]}]),
    ),
    "a-denied-origin": (policy(["a.io"], [], [QUAY]), policy(["a.io"], ["quay.io/x"], [QUAY])),
    "a-denied-official-image": (policy(["a.io"], [], [HUB]), policy(["a.io"], ["docker.io/nginx"], [HUB])),
    "the-short-name-of-a-denied-official-image": (
        policy(["a.io"], ["a.io/hub/library/nginx"], [HUB]),
        policy(["a.io"], ["a.io/hub/library/nginx", "docker.io/nginx"], [HUB]),
    ),
    "an-origin-that-is-too-long": (
        policy(["a.io"], ["a.io/q/**"], [LONG]),
        policy(["a.io"], [f"{LONG['from']}/**"], [LONG]),
    ),
    "another-target": (
        policy(["a.io"], [], [QUAY]),
        policy(["a.io"], [], [{"from": "quay.io", "to": "a.io/r"}]),
    ),
    "an-official-image-with-a-long-name": (policy(["a.io"]), policy(["a.io", f"docker.io/{'x' * 248}*"])),
    "an-official-image-with-a-long-name-below-a-mirror": (
        policy(
            ["docker.io"],
            ["docker.io/abcde/**"],
            [{"from": "registry-1.docker.io/abcde", "to": "docker.io/library"}],
        ),
        policy(
            ["docker.io"],
            ["docker.io/*"],
            [{"from": "registry-1.docker.io/abcde", "to": "docker.io/library"}],
        ),
    ),
    "another-spelling-of-Hub-as-a-source": (
        policy(["a.io"], ["docker.io/library/**"], [{"from": "registry-1.docker.io", "to": "a.io"}]),
        policy(["a.io"], ["docker.io/library/**"], [{"from": "docker.io", "to": "a.io"}]),
    ),
    "an-exception": (
        policy(["a.io"], [], [QUAY]),
        policy(["a.io"], [], [{**QUAY, "except": ["quay.io/x:v*"]}]),
    ),
    "another-mode": (policy(["a.io"], [], [QUAY], mode="enforce"), policy(["a.io"], [], [QUAY])),
    "another-mode-in-a-namespace": (
        policy(["a.io"], [], [QUAY], namespaces=[{"names": ["shop"], "mode": "enforce"}]),
        policy(["a.io"], [], [QUAY]),
    ),
}
"""Policies that differ in one way each. A small mistake in any part of the comparison contradicts one."""


@pytest.mark.parametrize("name", PAIRS)
def test_no_image_contradicts_the_difference_of_one_field(name: str) -> None:
    old, new = PAIRS[name]
    pair = (compiled(old), compiled(new))
    assert check(pair, Random(name), 400, 3) == compare(*pair).changes


def in_place_of(field: str, old: str, *new: Any) -> Callable[[dict[str, Any]], None]:
    """Return the edit that replaces the rule with an image by other rules."""

    def edit(document: dict[str, Any]) -> None:
        rules = document[field]
        images = [rule if isinstance(rule, str) else rule["image"] for rule in rules]
        index = images.index(old)
        rules[index : index + 1] = new

    return edit


def added(field: str, *new: Any) -> Callable[[dict[str, Any]], None]:
    """Return the edit that appends entries."""

    def edit(document: dict[str, Any]) -> None:
        document.setdefault(field, []).extend(new)

    return edit


def second_target(document: dict[str, Any]) -> None:
    document["mirrors"][0]["to"] = [document["mirrors"][0]["to"], "registry.corp.example/dr"]


CORP: Final = "registry.corp.example"
EDITS: Final = [
    pytest.param(
        "no-latest",
        in_place_of("deny", "*/**:latest", f"{CORP}/**:latest"),
        (False, False, False),
        id="deny-latest-only-where-something-is-allowed",
    ),
    pytest.param(
        "mirrors", added("deny", "docker.io/nginx"), (False, True, True), id="deny-an-origin-of-a-mirror"
    ),
    pytest.param("mirrors", second_target, (False, True, False), id="add-a-second-target-to-a-mirror"),
    pytest.param(
        "official-hub-images",
        in_place_of("allow", "docker.io/library/**", "docker.io/*", "docker.io/library/*/**"),
        (False, False, False),
        id="split-the-official-images",
    ),
    pytest.param(
        "per-namespace",
        in_place_of("allow", f"{CORP}/shop/**", {"image": f"{CORP}/shop/**", "namespaces": ["shop*"]}),
        (True, False, False),
        id="name-more-namespaces",
    ),
    pytest.param(
        "several-registries",
        in_place_of("deny", f"{CORP}/legacy/**", f"{CORP}/legacy/*"),
        (True, False, False),
        id="deny-one-segment-only",
    ),
    pytest.param(
        "tags",
        in_place_of("allow", f"{CORP}/**:v*", f"{CORP}/**:v1*"),
        (False, True, False),
        id="approve-one-major-version",
    ),
    pytest.param(
        "digests-only",
        added("allow", f"ghcr.io/corp-example/tools/x@sha256:{'ab' * 32}", f"{CORP}/x@*"),
        (False, False, False),
        id="pin-what-is-already-approved",
    ),
]


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("example", "edit", "expected"), EDITS)
def test_no_image_of_100_000_contradicts_the_difference_of_an_edit(
    example: str, edit: Callable[[dict[str, Any]], None], expected: tuple[bool, bool, bool]
) -> None:
    text = (EXAMPLES / f"{example}.yaml").read_text()
    old, new = (yaml.load(text, yaml.BaseLoader) for _ in range(2))
    edit(new)
    pair = (compiled(old), compiled(new))
    found = compare(*pair)
    assert (found.widens, found.narrows, found.rewrites) == expected
    # So the images include those that the edit affects.
    assert check(pair, Random(example), 25_000, 4) == found.changes
