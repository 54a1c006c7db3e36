"""Properties of policies and of their decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, Finding, Policy, PolicyError, parse_policy, parse_reference
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import Prefix, parse_prefix
from gatekeeper_py.core.images.reference import locate
from gatekeeper_py.core.policy.document import ENFORCE
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.parse.document import parse_document
from gatekeeper_py.core.policy.rules import Rule, RuleSet
from property.strategies import (
    DIGESTS,
    Document,
    allow_rules,
    deny_rules,
    documents,
    images,
    mirrors,
    name_lists,
    namespaces,
    patterns,
    plain_documents,
    text_of,
)
from support.budget import budget
from support.builders import policy_document

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTANTS: Final = (NOON, datetime(2026, 3, 20, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
CONTRADICTIONS: Final = {"mirror-loop", "mirror-duplicate"}
WIDE: Final = (
    "a.io", "*.io", "*.corp.io", "docker.io", "a.io/a*", "a.io/**:v*", "docker.io/library/**", "*.io@*",
)  # fmt: skip
QUICK: Final = settings(max_examples=budget(60))
some_images = st.lists(images, min_size=1, max_size=6)


def parsed(text: str, mode: str | None = None) -> tuple[Policy | None, tuple[Finding, ...]]:
    """Return the policy of a text, or the findings of the refusal."""
    try:
        return parse_policy(text, mode), ()
    except PolicyError as error:
        return None, error.findings


def accepted(a_document: Document) -> Policy:
    """Return the policy of a document; reject the example if its mirrors contradict each other."""
    policy, findings = parsed(text_of(a_document))
    assert {finding.code for finding in findings} <= CONTRADICTIONS
    assume(policy is not None)
    assert policy is not None
    return policy


def with_more(a_document: Document, kind: str, rule: Any, place: int) -> Document:
    """Return the document with one more rule in one of its lists."""
    rules = list(a_document[kind])
    rules.insert(place, rule)
    return {**a_document, kind: rules}


@settings(max_examples=budget(120))
@given(documents, allow_rules, deny_rules, st.integers(0, 6), namespaces, some_images)
def test_one_more_allow_rule_rejects_nothing_and_one_more_deny_rule_approves_nothing(
    a_document: Document, allow: Any, deny: Any, place: int, namespace: str | None, judged: list[str]
) -> None:
    before, wider, narrower = (
        accepted(each).at(NOON)
        for each in (
            a_document,
            with_more(a_document, "allow", allow, place),
            with_more(a_document, "deny", deny, place),
        )
    )
    for image in judged:
        approved = before.decide(namespace, image).approved
        assert wider.decide(namespace, image).approved >= approved
        assert narrower.decide(namespace, image).approved <= approved


@QUICK
@given(documents, namespaces, some_images)
def test_a_rewrite_is_idempotent(a_document: Document, namespace: str | None, judged: list[str]) -> None:
    """A rewritten image lies on the mirror, and is not rewritten again."""
    compiled = accepted(a_document).at(NOON)
    for image in judged:
        rewritten = compiled.rewrite(namespace, image)
        if rewritten is not None:
            assert compiled.rewrite(namespace, rewritten) is None
            plan = compiled.plan(namespace, image)
            assert plan is not None
            assert plan.mirror.to.holds(locate(parse_reference(rewritten)))


@settings(max_examples=budget(120))
@given(documents, namespaces, some_images)
def test_denials_follow_mirrors(a_document: Document, namespace: str | None, judged: list[str]) -> None:
    """A denied image can't come back through the mirror."""
    compiled = accepted(a_document).at(NOON)
    for image in judged:
        decision = compiled.decide(namespace, image)
        if decision.reason == "denied" and decision.parsed is not None:
            plan = compiled.mirrors.rewrite(decision.parsed)
            if plan is not None and plan.image is not None and decision.origin is None:
                assert compiled.decide(namespace, plan.image).reason == "denied"


@settings(max_examples=budget(240))
@given(documents, namespaces, some_images)
def test_deny_rules_match_each_origin_of_an_image(
    a_document: Document, namespace: str | None, judged: list[str]
) -> None:
    """Copies of rules on mirrors give the same names and rules as a look-up of each origin."""
    compiled = accepted(a_document).at(NOON)
    for image in judged:
        parsed = parse_image(image)
        names = (parsed.location, *compiled.mirrors.origins(parsed.location))
        expected = [(compiled.deny.find(parsed.at(name), namespace), name) for name in names]
        found = list(compiled.denied_origins.matching(parsed, namespace))
        assert found == [(rule, name) for rule, name in expected if rule is not None]


def without(compiled: CompiledPolicy, dead: set[str]) -> CompiledPolicy:
    """Return the policy without the rules at these paths."""

    def left(rules: RuleSet) -> RuleSet:
        return RuleSet(rule for rule in rules if place(rule) not in dead)

    return replace(compiled, allow=left(compiled.allow), deny=left(compiled.deny))


def place(rule: Rule) -> str:
    return f"{rule.list}[{rule.index}]"


@settings(max_examples=budget(120))
@given(plain_documents, st.lists(st.sampled_from(WIDE), max_size=3), mirrors, namespaces, some_images)
def test_removing_dead_rules_changes_no_decision(
    a_document: Document, wide: list[Any], mirrored: list[Any], namespace: str | None, judged: list[str]
) -> None:
    """This holds for all of them and for some, now and later."""
    mirrored = [] if contradictory(mirrored) else mirrored
    policy = accepted({**a_document, "allow": a_document["allow"] + wide, "mirrors": mirrored})
    dead = sorted(finding.path for finding in lint(policy, NOON) if finding.code == "dead-rule")
    for instant in INSTANTS:
        compiled = policy.at(instant)
        for removed in (set(dead), set(dead[::2]), set(dead[1::2])):
            smaller = without(compiled, removed)
            for image in judged:
                assert smaller.decide(namespace, image).reason == compiled.decide(namespace, image).reason


required = st.one_of(patterns, st.sampled_from(("a.io", "a.io/a*", "docker.io", "b.io/**:v1", "b.io/m/**")))
requirements = st.fixed_dictionaries(
    {"images": st.lists(required, min_size=1, max_size=2), "digest": st.just(True)},
    optional={"namespaces": name_lists, "except": st.lists(patterns, max_size=1)},
)
narrow_documents = st.builds(
    policy_document,
    st.lists(st.sampled_from(("b.io", "b.io/**:v*", "b.io@*", "a.io/a*:*")), min_size=1, max_size=2),
    st.just([]),
    st.sampled_from(([], [{"from": "a.io", "to": "b.io/m"}], [{"from": "docker.io", "to": "b.io"}])),
)


@settings(max_examples=budget(300))
@given(
    st.one_of(documents, narrow_documents),
    st.lists(requirements, min_size=1, max_size=3),
    namespaces,
    st.lists(
        st.one_of(images, st.sampled_from(("a.io/a", f"a.io/ab@{DIGESTS[0]}", "nginx", "a.io/b:v1"))),
        min_size=2,
        max_size=6,
    ),
)
def test_a_requirement_that_is_reported_is_never_met(
    a_document: Document, listed: list[Any], namespace: str | None, judged: list[str]
) -> None:
    """`require-unmatched` matches nothing that is approved, `require-impossible` nothing with a digest."""
    text = text_of({**a_document, "require": listed})
    policy, findings = parsed(text)
    assume(policy is not None or {finding.code for finding in findings} == {"require-impossible"})
    # Without the check of the document as a whole.
    policy = policy or Policy(document=parse_document(text), text=text, mode=ENFORCE)
    impossible = {finding.path.partition(".")[0] for finding in findings}
    unmatched = {each.path for each in lint(policy, NOON) if each.code == "require-unmatched"}
    compiled = policy.at(NOON)
    for image in chain(judged, filter(None, (compiled.rewrite(namespace, image) for image in judged))):
        decision = compiled.decide(namespace, image)
        needed = set(map(str, decision.requirements))
        assert not needed & unmatched
        assert "@" not in image or not needed & impossible


@QUICK
@given(plain_documents, namespaces, some_images)
def test_nothing_changes_before_the_next_change(
    a_document: Document, namespace: str | None, judged: list[str]
) -> None:
    policy = accepted(a_document)
    now = policy.at(NOON)
    later = datetime(9999, 1, 1, tzinfo=UTC) if now.next_change is None else now.next_change
    just_before = policy.at(NOON + (later - NOON) * 0.999)
    for image in judged:
        assert just_before.decide(namespace, image) == now.decide(namespace, image)


def contradictory(listed: list[Any]) -> bool:
    """Check the rule of docs/policy.md, "Modes", for each pair of mirrors."""
    sources = [parse_prefix(mirror["from"]) for mirror in listed]
    targets = [parse_prefix(mirror["to"]) for mirror in listed]

    def under(inner: Prefix, outer: Prefix) -> bool:
        depth = len(outer.segments)
        return inner.host == outer.host and inner.segments[:depth] == outer.segments

    same = len({(s.host, s.segments) for s in sources}) < len(sources)
    return same or any(under(to, s) or under(s, to) for to in targets for s in sources)


@settings(max_examples=budget(120))
@given(mirrors)
def test_mirrors_are_refused_exactly_when_they_contradict_each_other(listed: list[Any]) -> None:
    _, findings = parsed(text_of(policy_document(["a.io"], [], listed)))
    assert {finding.code for finding in findings} <= CONTRADICTIONS
    assert bool(findings) == contradictory(listed)
