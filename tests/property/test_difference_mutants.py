"""The laws of the exact difference detect each of many small mistakes in its computation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random
from typing import Any, Final

import pytest

from gatekeeper_py.core.compare import conditions, difference, entries, parts
from gatekeeper_py.core.compare.difference import Change, Contradiction, compare
from gatekeeper_py.core.compare.parts import SEGMENT, TAG, Grammar
from gatekeeper_py.core.compare.sequences import Sequences
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.policy import mirror
from property.difference_laws import Example, Pair, compiled, documents_of, observe, violations
from property.edges import Edges

IMAGES, NAMESPACES = 400, 3

Mutation = Callable[[pytest.MonkeyPatch], None]


def policy(
    allow: Sequence[Any], deny: Sequence[Any] = (), mirrors: Sequence[Any] = (), **fields: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "gatekeeper-py/v1",
        "kind": "ImagePolicy",
        "mode": "mutate",
        "allow": allow,
        "deny": deny,
        "mirrors": mirrors,
        **fields,
    }


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


@cache
def observed(name: str) -> tuple[Pair, dict[Change, Example]]:
    """Return a pair of policies and the changes of some thousand images."""
    old, new = PAIRS[name]
    pair = (compiled(old), compiled(new))
    return pair, observe(pair, Edges(Random(name), *documents_of(pair)).draw(IMAGES, NAMESPACES))


def reports(names: Sequence[str] = tuple(PAIRS)) -> Iterator[str]:
    """Yield the violations of the laws by the comparisons of the pairs."""
    for name in names:
        pair, seen = observed(name)
        try:
            found = compare(*pair)
        except Contradiction as problem:
            yield f"{name}: {problem}"
        else:
            yield from (f"{name}: {problem}" for problem in violations(pair, found, seen))


def replace(place: object, name: str, value: object) -> Mutation:
    return lambda patch: patch.setattr(place, name, value)


def wrap(place: Any, name: str, wrapper: Callable[..., Any]) -> Mutation:
    """Return the mutation that replaces a function's result by ``wrapper(result, *arguments)``."""
    original = getattr(place, name)
    return lambda patch: patch.setattr(
        place, name, lambda *args, **options: wrapper(original(*args, **options), *args)
    )


def without_characters(grammar: Grammar, unwanted: str) -> Grammar:
    classes = tuple("".join(char for char in text if char not in unwanted) for text in grammar.classes)
    return Grammar(classes, grammar.steps, grammar.accepting, grammar.longest)


def everything(found: list[Any], entries_: Sequence[Any], *_: Any) -> list[Any]:
    return [each._replace(holding=(1 << len(entries_)) - 1) for each in found]


SHORT: Final = Grammar(TAG.classes, TAG.steps, TAG.accepting, 3)
MUTATIONS: Final = {
    "denials-do-not-follow-mirrors": replace(entries, "copies", lambda *_: iter(())),
    "official-images-have-no-origin": wrap(
        Pattern, "after", lambda found, _, start: None if start == ("library",) else found
    ),
    "an-origin-may-be-of-any-length": replace(mirror, "MAX_REPOSITORY_LENGTH", 10_000),
    "every-name-of-Hub-adds-library": replace(mirror, "_official_length", lambda _: len("library/")),
    "no-name-of-Hub-adds-library": replace(mirror, "_official_length", lambda _: 0),
    "official-images-have-short-names": replace(difference, "_official_longer", lambda *_: iter(())),
    "long-names-of-official-images-follow-no-limit": wrap(
        difference, "_official_longer", lambda found, *_: list(found)[:-1]
    ),
    "entries-of-several-hosts-are-forgotten-in-one-of-them": replace(
        difference._Shared, "beside", lambda *_: ()
    ),
    "a-host-is-like-any-that-fewer-patterns-match": replace(
        difference._HostClass, "own", property(lambda found: () if found.shared else found[1])
    ),
    "a-rule-with-conditions-settles-the-verdict": replace(
        entries.Entry, "unconditional", property(lambda _: True)
    ),
    "a-rule-for-a-path-settles-the-verdict": replace(difference, "_matches_all", lambda _: True),
    "another-denial-does-not-matter-where-all-is-allowed": wrap(
        difference._Comparison,
        "_settled",
        lambda found, self, entries_, always: (
            found or any(e.role == "allow" and always(e) and all(self._sides[e]) for e in entries_)
        ),
    ),
    "exceptions-are-ignored": wrap(
        entries, "_of_source", lambda found, _: (entry for entry in found if entry.role != "except")
    ),
    "exceptions-ignore-tags": wrap(Pattern, "unwritten", lambda found, _: found.unqualified()),
    "rules-ignore-namespaces": wrap(
        entries, "_of_rule", lambda found, _: dataclasses.replace(found, namespaces=None)
    ),
    "other-names-of-Hub-are-hosts": replace(difference, "HUB_ALIASES", frozenset()),
    "Hub-has-repositories-of-one-segment": replace(difference, "DOCKER_HUB", ""),
    "hosts-have-no-ports": wrap(
        difference._Comparison, "_hosts", lambda found, _: (each for each in found if ":" not in each[0])
    ),
    "IPv6-hosts-are-skipped": wrap(
        difference._Comparison, "_hosts", lambda found, _: (each for each in found if each[0][0] != "[")
    ),
    "a-host-without-a-dot-is-a-user": replace(difference, "_written", "{}/{}".format),
    "modes-are-ignored": wrap(
        difference._Comparison,
        "_may_differ",
        lambda _, self, found: any(self._sides[entry] != [True, True] for entry in found),
    ),
    "names-of-overrides-are-ignored": replace(
        difference, "namespaces", lambda found, _, effort: conditions.namespaces(found, (), effort)
    ),
    "no-request-is-without-a-namespace": wrap(
        difference, "namespaces", lambda found, *_: found[:-1] or found
    ),
    "rules-hold-in-all-namespaces": wrap(difference, "namespaces", everything),
    "tags-and-digests-always-match": wrap(difference, "qualifiers", everything),
    "images-have-no-digests": wrap(
        difference, "qualifiers", lambda found, *_: [each for each in found if each.suffix[:1] != "@"]
    ),
    "digests-are-those-that-rules-name": wrap(
        difference, "qualifiers", lambda found, *_: found[:-1] or found
    ),
    "images-always-have-a-digest": wrap(
        difference, "qualifiers", lambda found, *_: [each for each in found if each.suffix[:1] != ":"]
    ),
    "tags-are-short": replace(conditions, "TAG", SHORT),
    "tags-have-no-dots": replace(conditions, "TAG", without_characters(TAG, ".")),
    "segments-have-no-underscores": replace(difference, "SEGMENT", without_characters(SEGMENT, "_")),
    "a-star-needs-a-character": replace(parts.Construction, "_closed", lambda _, found: frozenset(found)),
    "only-rules-name-strings": wrap(conditions, "part_classes", lambda found, *_: [f for f in found if f[0]]),
    "a-subtree-holds-its-own-name": wrap(
        Sequences,
        "_signature",
        lambda found, self, state, depth: (
            found | {i for i in state.alive if len(self._items[i].parts) == depth}
        ),
    ),
    "subtrees-hold-nothing": wrap(Sequences, "_split", lambda found, *_: (found[0], frozenset())),
    "only-short-names-are-looked-at": replace(Sequences, "longer_than", lambda *_: {}),
    "denials-do-not-win": wrap(
        difference._Comparison, "_rules", lambda found, *_: [(allow, 0) for allow, _ in found]
    ),
    "only-the-new-policy-is-read": wrap(difference._Comparison, "_rules", lambda found, *_: [found[1]] * 2),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_laws_hold_without_a_mutation(name: str) -> None:
    assert list(reports([name])) == []


@pytest.mark.parametrize("mutate", [pytest.param(each, id=name) for name, each in MUTATIONS.items()])
def test_the_laws_report_a_mutation(mutate: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    assert next(reports(), None) is not None
