"""No state of the registries contradicts the exact difference of the requirements of two policies.

For each image near the requirements, the second implementation of the decision judges each requirement in
every state of the registries: the image exists, is missing, or cannot be queried, and each repository of
signatures holds those of some keys, and perhaps cannot be queried beyond these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, product
from typing import Any, Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, PolicyError, parse_policy
from gatekeeper_py.core.compare.difference import Difference, GrantWitness, Witness, compare
from support import naive
from support.budget import budget
from support.builders import PUBLIC_KEYS, policy_document

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
DIGEST: Final = f"sha256:{'ab' * 32}"
NEAR: Final = (
    "a.io",
    "a.io/x",
    "a.io/x/**",
    "a.io/*:v1",
    "a.io/**@*",
    f"a.io/x@{DIGEST}",
    "c.io",
    "c.io/y:v1",
)
"""Patterns of which most pairs have images in common."""
MIRRORS: Final = st.sampled_from(
    [
        [],
        [{"from": "c.io", "to": "a.io"}],
        [{"from": "c.io", "to": "a.io/x"}],
        [{"from": "c.io/x", "to": ["a.io", "a.io/x"]}, {"from": "c.io/y", "to": "a.io"}],
    ]
)
IMAGES: Final = [
    f"a.io/{path}{qualifier}"
    for path in ("x", "y", "x/z")
    for qualifier in ("", ":v1", f"@{DIGEST}", f"@sha256:{'cd' * 32}")
]
NAMESPACES: Final = ("team", "other", None)
REPOSITORY: Final = "a.io/signatures"

State = tuple[str, frozenset[str], bool]
"""What a look-up of the image finds (``found``, ``missing`` or ``error``), whose keys signed it as far as the
repository of signatures tells, and whether this repository fails beyond that."""

KEYS: Final = tuple(PUBLIC_KEYS.values())
SIGNED: Final = [frozenset(keys) for size in range(3) for keys in combinations(KEYS, size)]
SIGNATURES: Final = list(product(SIGNED, (False, True)))
FOUND: Final = ("found", "missing", "error")


def world(document: dict[str, Any], requirement: dict[str, Any], state: State) -> naive.World:
    """Return the answers of the registries to one requirement of a policy."""
    found, signed, fails = state
    names = [key["name"] for key in document["keys"] if key["key"] in signed]

    def answer(lookup: naive.LookUp) -> Any:
        if lookup.kind == "signed":
            if fails and not set(names) & set(requirement["signedBy"]):
                raise naive.Error
            return names
        if found == "error":
            raise naive.Error
        digest = lookup.image.partition("@")[2] or naive.SOME_DIGEST
        return digest if found == "found" else None

    return answer


def refused(
    document: dict[str, Any], image: str, namespace: str | None
) -> list[tuple[str, frozenset[State]]]:
    """Return the repository of signatures and the refused states for each requirement of an image."""
    found = []
    bare = {**document, "deny": [], "allow": ["a.io", "c.io"], "exceptions": []}
    question = naive.Question(bare, image, NOW, namespace)
    for requirement in document["require"]:
        seen = naive.read(image)
        assert seen is not None
        if requirement.get("mode") == "warn" or not naive.required(question, requirement, seen):
            continue
        alone = {**bare, "require": [requirement]}
        signatures = SIGNATURES if "signedBy" in requirement else SIGNATURES[:1]
        states = frozenset(
            state
            for found_, (signed, fails) in product(FOUND, signatures)
            for state in [(found_, signed, fails)]
            if not naive.validate(
                naive.Question(alone, image, NOW, namespace, world=world(alone, requirement, state))
            ).approved
        )
        if "signedBy" not in requirement:
            states = frozenset((state[0], *each) for state in states for each in SIGNATURES)
        found.append((requirement.get("signatures", ""), states))
    return found


def outcomes(sides: Sequence[list[tuple[str, frozenset[State]]]]) -> set[tuple[bool, bool]]:
    """Return whether each policy refuses an image by requirements, in every state of the registries."""
    outcomes = set()
    for found, own, other in product(FOUND, SIGNATURES, SIGNATURES):
        states = {"": (found, *own), REPOSITORY: (found, *other)}
        old, new = (any(states[where] in refusing for where, refusing in side) for side in sides)
        outcomes.add((old, new))
    return outcomes


def changes(documents: Sequence[dict[str, Any]], image: str, namespace: str | None) -> Iterator[str]:
    """Yield the changes of an image by names and requirements, and of what exceptions could approve."""
    approved = [naive.approved(each, image, namespace, NOW) for each in documents]
    if approved[0] != approved[1]:
        yield "approved" if approved[1] else "rejected"
    for unmet in outcomes([refused(each, image, namespace) for each in documents]):
        fails = [not names or bad for names, bad in zip(approved, unmet, strict=True)]
        if all(approved) and unmet[0] != unmet[1]:
            yield "less-required" if unmet[0] else "more-required"
        if all(fails):
            could = [excepted(*each, image, namespace) for each in zip(documents, unmet, strict=True)]
            if could[0] != could[1]:
                yield "granted" if could[1] else "withdrawn"


def excepted(document: dict[str, Any], unmet: bool, image: str, namespace: str | None) -> bool:  # noqa: FBT001
    """Return whether the largest documents with exceptions approve an image."""
    seen = naive.read(image)
    assert seen is not None
    names = (seen, *naive.origins(document, seen))
    entries = [{"image": each.text(), "until": (NOW + timedelta(hours=1)).isoformat()} for each in names]
    sources = [("break-glass", "guard"), ("installation", "guard")]
    sources += [("namespace", namespace)] if namespace else []
    # A requirement that no image without this digest can meet stands for those that are not met.
    never = {"images": ["*/**"], "digest": True}
    document = {**document, "mode": "enforce", "require": [never] if unmet else []}
    if unmet and seen.digest:
        never |= {"images": [f"{seen.host}/{'/'.join(seen.path)}"], "exists": True}
    question = naive.Question(
        document,
        image,
        NOW,
        namespace,
        documents=dict.fromkeys(sources, entries),
        world=lambda _: None if seen.digest else naive.SOME_DIGEST,
    )
    return naive.validate(question).approved


patterns = st.sampled_from(NEAR)
namespaces = st.sampled_from([["team"], ["team", "shop"]])
excepts = st.lists(patterns, min_size=1, max_size=2)


def rules(texts: st.SearchStrategy[str], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"image": texts}, optional={"namespaces": namespaces, **optional})


conditions = st.one_of(
    st.just({"digest": True}),
    st.fixed_dictionaries(
        {"exists": st.just(True)}, optional={"digest": st.just(True), "onError": st.just("deny")}
    ),
    st.fixed_dictionaries(
        {"signedBy": st.sampled_from([["one"], ["two"], ["one", "two"]])},
        optional={"onError": st.just("keep"), "signatures": st.just(REPOSITORY)},
    ),
)
requirements = st.builds(
    lambda scope, condition, warns: scope | condition | ({"mode": "warn"} if warns else {}),
    st.fixed_dictionaries(
        {"images": st.lists(patterns, min_size=1, max_size=2)},
        optional={"namespaces": namespaces, "except": excepts},
    ),
    conditions,
    st.sampled_from([False, False, False, True]),
)
grants = st.fixed_dictionaries(
    {
        "source": st.just("break-glass"),
        "images": st.lists(patterns, min_size=1, max_size=2),
        "longest": st.just("1d"),
    },
    optional={
        "overrides": st.sampled_from([["deny"], ["require"], ["deny", "require"]]),
        "namespaces": st.just(["team"]),
    },
)
keys = st.sampled_from(
    [
        [{"name": "one", "key": KEYS[0]}, {"name": "two", "key": KEYS[1]}],
        [{"name": "one", "key": KEYS[1]}, {"name": "two", "key": KEYS[0]}],
        [{"name": "one", "key": KEYS[0], "until": "2026-01-01"}, {"name": "two", "key": KEYS[1]}],
    ]
)
parts = st.fixed_dictionaries(
    {
        "allow": st.lists(rules(patterns), min_size=1, max_size=2),
        "deny": st.lists(rules(patterns, **{"except": excepts}), max_size=1),
        "require": st.lists(requirements, max_size=2),
        "exceptions": st.lists(grants, max_size=2),
        "mirrors": MIRRORS,
        "keys": keys,
    }
)


@st.composite
def policies(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw two policies that share most of their fields, and some requirements."""
    old: dict[str, Any] = draw(parts)
    other: dict[str, Any] = draw(parts)
    changed = draw(st.sets(st.sampled_from(["allow", "deny", "exceptions", "mirrors", "keys"]), max_size=1))
    new = {**old, **{key: other[key] for key in changed}}
    common = draw(st.lists(requirements, max_size=1))
    if draw(st.booleans()):
        new["require"] = other["require"]
    for each in (old, new):
        each["require"] = [*common, *each["require"]]
    return policy_document(**old, mode="enforce"), policy_document(**new, mode="enforce")


def compiled(document: dict[str, Any]) -> CompiledPolicy:
    try:
        return parse_policy(json.dumps(document)).at(NOW)
    except PolicyError as error:
        assume([finding.code for finding in error.findings] != ["require-impossible"])
        raise


def happened(found: Difference) -> set[str]:
    grants = {"granted": found.grants.widens, "withdrawn": found.grants.narrows}
    return {*found.changes, *(name for name, holds in grants.items() if holds)}


@settings(max_examples=budget(60))
@given(policies())
def test_no_state_of_the_registries_contradicts_the_difference(
    documents: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    old, new = map(compiled, documents)
    found, back = compare(old, new), compare(new, old)
    seen = {
        change: (image, namespace)
        for image, namespace in product(IMAGES, NAMESPACES)
        for change in changes(documents, image, namespace)
    }
    assert seen.keys() <= happened(found), seen
    witnesses: list[Witness | GrantWitness] = [*found.witnesses, *found.grants.witnesses]
    assert {witness.change for witness in witnesses} == happened(found)
    for witness in witnesses:
        assert witness.change in changes(documents, witness.image, witness.namespace), witness
    swapped = {"approved": "rejected", "less-required": "more-required", "granted": "withdrawn"}
    swapped |= {back: forth for forth, back in swapped.items()}
    assert {swapped[change] for change in happened(back)} == happened(found)
    assert not happened(compare(old, old))
