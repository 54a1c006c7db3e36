"""The laws of exceptions (docs/exceptions.md), each as a property that quotes its sentence."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final, Never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, Policy, admission, parse_policy
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.admission.judge import exception_as_json
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.validating import validating_policy
from gatekeeper_py.core.exceptions import exceptions as module
from gatekeeper_py.core.exceptions.document import ExceptionDocument
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, DocumentKey, Exceptions
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.process.slices import run_slice
from support import naive
from support.budget import budget
from support.builders import INSTANT, exceptions_of, exceptions_text, pod, policy_text, review
from support.growth import instructions

IMAGES: Final = [
    f"{host}/{path}{suffix}"
    for host, path, suffix in product(("a.io", "b.io"), ("x", "y"), ("", ":1", f"@sha256:{'7c' * 32}"))
]
PATTERNS: Final = ("a.io", "*.io", "a.io/x", "*.io/**:1", "b.io/y:1", "b.io/**", "a.io@*")
NAMESPACES: Final = (None, "team-a", "team-b", "other")
POSSIBLE: Final = list(product(IMAGES, NAMESPACES))
HOURS: Final = (-800, -2, 0, 1, 1, 1, 2, 2, 12, 13, 24, 25, 700)
INSTALLATION: Final = "gatekeeper"

names = st.lists(st.sampled_from(["team-*", "team-a", "other", "*"]), min_size=1, max_size=2)
untils = st.sampled_from(HOURS).map(lambda hours: INSTANT + timedelta(hours=hours))
some_patterns = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3)
grants = st.lists(
    st.one_of(
        *[
            st.fixed_dictionaries(
                {
                    "source": st.just(source),
                    "images": some_patterns,
                    "longest": st.sampled_from(["1h", "12h", "1d", "1d"]),
                },
                optional={"namespaces": names, "most": st.integers(1, 3), **more},
            )
            for source, more in (
                ("namespace", {}),
                ("installation", {}),
                ("break-glass", {"overrides": st.just("deny")}),
            )
        ]
    ),
    min_size=2,
    max_size=6,
)
policies = st.builds(
    lambda deny, granted, mirrors: {
        "apiVersion": "gatekeeper-py/v1",
        "kind": "ImagePolicy",
        "mode": "enforce",
        "allow": ["a.io/y"],
        "deny": deny,
        "exceptions": granted,
        "mirrors": mirrors,
    },
    st.sampled_from(
        [
            [],
            [],
            ["b.io/y"],
            ["*.io/**:1"],
            ["b.io", "a.io/x"],
            ["c.io/y"],
        ]
    ),
    grants,
    st.sampled_from([[], [{"from": "c.io", "to": "a.io"}], [{"from": "b.io", "to": "a.io"}]]),
)


def entries(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    fields = {
        "image": st.sampled_from(PATTERNS),
        "until": untils.map(datetime.isoformat),
        "reason": st.just("r"),
    }
    return st.lists(st.fixed_dictionaries(fields, optional=more), min_size=1, max_size=5)


documents = st.fixed_dictionaries(
    {("namespace", "team-a"): entries()},
    optional={
        ("namespace", "team-b"): entries(),
        ("installation", INSTALLATION): entries(namespaces=names),
        ("break-glass", INSTALLATION): entries(namespaces=names),
    },
)
places = st.sampled_from([*NAMESPACES, "team-a"])
images = st.sampled_from(IMAGES)
usual = settings(max_examples=budget(600))


def policy_of(written: dict[str, Any]) -> Policy:
    return parse_policy(json.dumps(written))


def compiled(
    more: str, *entries: str, source: Source = "namespace", now: datetime = INSTANT
) -> CompiledPolicy:
    """Return a policy with one document: that of ``team-a``, or of the installation."""
    where = "team-a" if source == "namespace" else INSTALLATION
    document = parse_exceptions(exceptions_text(*entries), source)
    return parse_policy(policy_text(more)).at(now, Exceptions({DocumentKey(source, where): document}))


def granting(grant: str = "source: namespace, images: [ghcr.io/**], longest: 2h", *, deny: str = "[]") -> str:
    return f"deny: {deny}\nexceptions: [{{{grant}}}]\n"


@settings(max_examples=budget(1800))
@given(policies, documents, images, places)
def test_an_exception_approves_an_image_as_the_laws_say(
    written: dict[str, Any], others: naive.Documents, image: str, namespace: str | None
) -> None:
    """Law: an exception approves what its entry and a grant match, while the clock is inside.

    "An exception approves an image ⇔ its document's entry matches it in that namespace and a grant of that
    source matches it in that namespace and the clock is inside." "A document in a namespace reaches that
    namespace only." "A request without a namespace is reached by the documents in the installation's
    namespace whose entry names none." "`deny` wins, unless the grant has `overrides: deny`." "Of a document,
    the first `most` live entries count (of several grants that cover the namespace, the largest `most`)."
    """
    policy = policy_of(written).at(INSTANT, exceptions_of(others))
    found = policy.decide(namespace, image)
    by_rules = naive.approved(written, image, namespace, INSTANT)
    assert (found.reason == "allowed") is by_rules
    excepted = naive.excepted(written, others, image, namespace, INSTANT, POSSIBLE)
    assert (found.reason == "exception") is (excepted and not by_rules)
    assert found.approved is (found.reason in {"allowed", "exception"})
    assert (found.exception is not None) is (found.reason == "exception")
    if found.exception is not None:
        states = policy.exceptions.states(policy.grants, INSTANT)
        shown = {(key, entry.index): state for key, entry, state in states}
        assert (
            shown[DocumentKey(found.exception.source, found.exception.namespace), found.exception.index]
            == "live"
        )


@pytest.mark.parametrize(
    ("allow", "deny", "entries", "approved"),
    [
        pytest.param("[m.io]", "[docker.io/library/evil]", ["m.io"], False, id="origin-denied-own-named"),
        pytest.param("[m.io]", "[docker.io/library/evil]", ["docker.io/**"], True, id="origin-named"),
        pytest.param("[n.io]", "[docker.io/library/evil]", ["docker.io"], False, id="not-allowed"),
        pytest.param("[n.io]", "[docker.io/library/evil]", ["docker.io", "m.io"], True, id="both-named"),
        pytest.param("[m.io]", "['*/**']", ["m.io"], False, id="one-of-two-names-by-one-rule"),
        pytest.param("[m.io]", "['*/**']", ["m.io", "docker.io"], True, id="both-names-by-one-rule"),
        pytest.param("[m.io]", "[docker.io, m.io/hub/**]", ["docker.io"], False, id="one-of-two-rules"),
        pytest.param("[m.io]", "[m.io/hub/**]", ["m.io"], True, id="own-name"),
        pytest.param("[m.io]", "[m.io/hub/**]", ["docker.io"], False, id="origin-not-denied"),
        pytest.param("[m.io]", "[docker.io, m.io/hub/**]", ["*.io"], True, id="one-entry-for-both"),
    ],
)
@pytest.mark.parametrize("narrowed", ["entries", "grant"])
def test_an_exception_must_match_the_names_that_deny_rules_match(
    allow: str, deny: str, entries: list[str], *, approved: bool, narrowed: str
) -> None:
    """The entry and the grant must match each denied name, and the own name if no allow rule matches it."""
    granted, listed = (["*.io"], entries) if narrowed == "entries" else (entries, ["*.io"])
    until = "2026-03-01T13:00:00Z"
    document = parse_exceptions(
        exceptions_text(*(f"image: '{each}', until: {until}, reason: r" for each in listed)), "break-glass"
    )
    grant = f"{{source: break-glass, images: {granted}, longest: 2h, overrides: deny}}"
    more = f"deny: {deny}\nmirrors: [{{from: docker.io, to: m.io/hub}}]\nexceptions: [{grant}]\n"
    exceptions = Exceptions({DocumentKey("break-glass", INSTALLATION): document})
    policy = parse_policy(policy_text(more, allow=allow)).at(INSTANT, exceptions)
    for judge in (policy, policy.serving(16, CacheCounts())):
        found = judge.decide("team-a", "m.io/hub/library/evil:1")
        assert found.approved is approved
        if found.exception is not None and len(listed) > 1:
            assert {found.exception.index, *(each.index for each in found.exception.also)} == {0, 1}


def test_of_the_exceptions_for_two_names_the_one_that_ends_first_is_shown() -> None:
    grant = "source: break-glass, images: ['*.io'], longest: 1d, overrides: deny"
    mirrors = "mirrors: [{from: docker.io, to: m.io/hub}]\n"
    untils = {"m.io/**": 14, "docker.io/**": 13, "docker.io/library/**": 15}
    listed = [f"image: {image}, until: 2026-03-01T{end}:00:00Z, reason: r" for image, end in untils.items()]
    policy = compiled(mirrors + granting(grant, deny="['*/**']"), *listed, source="break-glass")
    found = policy.decide("team-a", "m.io/hub/library/evil:1").exception
    assert found is not None
    assert (found.index, [each.index for each in found.also]) == (0, [2])
    shown: dict[str, Any] | None = exception_as_json(found)
    assert shown is not None
    assert [each["index"] for each in shown["also"]] == [2]


def test_no_exception_approves_what_is_not_an_image() -> None:
    """Invalid and never-approved references stay rejected."""
    grant = "source: break-glass, images: ['*.io'], longest: 2h, overrides: deny"
    policy = compiled(
        granting(grant), "image: '*.io', until: 2026-03-01T13:00:00Z, reason: r", source="break-glass"
    )
    assert policy.decide("team-a", "a.io/x").reason == "exception"
    for invalid in ("", "A.io/X", "foo_bar.com/x", f"sha256:{'7c' * 32}", "a.io:99999/x"):
        assert policy.decide("team-a", invalid).reason == "invalid"


class Unasked(Exceptions):
    """Documents that must not be consulted."""

    def judge(self, *_: object, **__: object) -> Never:
        raise AssertionError("an approved image needs no exception")


def test_exceptions_are_consulted_only_for_rejected_images() -> None:
    """Law: an image that the policy approves costs nothing more."""
    policy = parse_policy(policy_text(granting())).at(INSTANT, Unasked())
    assert policy.decide("team-a", "registry.corp.io/x").reason == "allowed"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (timedelta(hours=2, microseconds=1), "unlisted"),
        (timedelta(hours=2), "exception"),
        (timedelta(microseconds=1), "exception"),
        (timedelta(), "unlisted"),
    ],
)
def test_the_clock_is_inside_for_the_longest_duration_before_the_end(before: timedelta, reason: str) -> None:
    """The clock is inside while `until - longest <= now < until`."""
    until = datetime(2026, 3, 1, 18, tzinfo=UTC)
    found = compiled(
        granting(), "image: ghcr.io/x, until: 2026-03-01T18:00:00Z, reason: r", now=until - before
    )
    assert found.decide("team-a", "ghcr.io/x").reason == reason


@usual
@given(policies, documents, images, places)
def test_entries_that_do_not_act_change_nothing(
    written: dict[str, Any], others: naive.Documents, image: str, namespace: str | None
) -> None:
    """Law: an entry that does not act is no fault of its document.

    "An entry that is too long, superfluous or outside every grant is no fault of its document: the other
    entries act. Expired entries do not count."
    """
    policy, every = policy_of(written).at(INSTANT), exceptions_of(others)
    states = {(key, entry.index): state for key, entry, state in every.states(policy.grants, INSTANT)}
    acting = {
        (source, where): [
            entry
            for index, entry in enumerate(listed)
            if states[DocumentKey(source, where), index] in {"live", "too-many"}
        ]
        for (source, where), listed in others.items()
    }
    found, left = (policy.policy.at(INSTANT, each) for each in (every, exceptions_of(acting)))
    assert found.decide(namespace, image).approved is left.decide(namespace, image).approved


def test_the_first_live_entries_of_a_document_count() -> None:
    """Law: the largest `most` counts.

    "Of a document, the first `most` live entries count (of several grants that cover the namespace, the
    largest `most`); the others are the finding `too-many`."
    """
    listed = [
        "image: ghcr.io/ended, until: 2026-03-01T11:00:00Z, reason: r",
        "image: quay.io/outside, until: 2026-03-01T13:00:00Z, reason: r",
        "image: ghcr.io/early, until: 2026-03-01T15:00:00Z, reason: r",
        *(f"image: ghcr.io/live{n}, until: 2026-03-01T13:00:00Z, reason: r" for n in range(4)),
    ]
    grant = "source: namespace, longest: 2h, images: [ghcr.io/**]"
    for most, further in ((1, ""), (3, f", {{{grant}, most: 1, namespaces: [team-*]}}")):
        more = f"exceptions: [{{{grant}, most: {most}}}{further}]\n"
        policy = compiled(more, *listed)
        acting = [n for n in range(4) if policy.decide("team-a", f"ghcr.io/live{n}").approved]
        assert acting == list(range(most))
        states = [state for _, _, state in policy.exceptions.states(policy.grants, INSTANT)]
        expected = ["expired", "outside", "early", *["live"] * most, *["too-many"] * (4 - most)]
        assert states == expected


def test_a_grant_for_other_images_counts_only_in_its_namespaces() -> None:
    listed = [f"image: ghcr.io/x{n}, until: 2026-03-01T13:00:00Z, reason: r" for n in range(2)]
    for names, state in (("team-*", "live"), ("shop", "too-many")):
        more = (
            "exceptions: [{source: namespace, longest: 2h, images: [ghcr.io], most: 1},"
            f" {{source: namespace, longest: 2h, images: [quay.io], most: 5, namespaces: [{names}]}}]\n"
        )
        policy = compiled(more, *listed)
        assert [found for *_, found in policy.exceptions.states(policy.grants, INSTANT)] == ["live", state]
        assert policy.decide("team-a", "ghcr.io/x1").approved is (state == "live")


def test_an_exception_approves_an_image_and_not_its_pod() -> None:
    """It approves an image, never a Pod: the other images of the Pod are judged as usual."""
    policy = compiled(granting(), "image: ghcr.io/x, until: 2026-03-01T13:00:00Z, reason: r")
    request = admission.review.parse(review(pod("ghcr.io/x", "ghcr.io/other"), namespace="team-a"))
    outcome = admission.validate(request, policy)
    assert outcome.verdict == "denied"
    assert [verdict.slot.value for verdict in outcome.rejected] == ["ghcr.io/other"]
    assert [found.image for found in outcome.excepted] == ["ghcr.io/x"]


def test_an_excepted_image_is_rewritten_as_without_exceptions_and_not_looked_up() -> None:
    """An excepted image is not looked up, not pinned, and is rewritten only as the mirrors say."""
    more = granting(
        "source: break-glass, images: [ghcr.io], longest: 2h, overrides: deny", deny="[ghcr.io/evil]"
    )
    more += "mirrors: [{from: ghcr.io, to: m.io/ghcr}]\n"
    policy = compiled(more, "image: ghcr.io/**, until: 2026-03-01T13:00:00Z, reason: r", source="break-glass")
    for image in ("ghcr.io/x", "ghcr.io/evil"):
        found = policy.decide("team-a", image)
        assert (found.reason, found.requirements, found.rule) == ("exception", (), None)
    assert policy.rewrite("team-a", "ghcr.io/x") == "m.io/ghcr/x"
    assert policy.rewrite("team-a", "ghcr.io/evil") is None


@usual
@given(policies, documents, images, places)
def test_every_part_gives_the_same_answer(
    written: dict[str, Any], others: naive.Documents, image: str, namespace: str | None
) -> None:
    """One evaluator: the webhook, `explain`, `review`, `audit`, `diff`, `test`, reports."""
    policy = policy_of(written).at(INSTANT, exceptions_of(others))
    decision = policy.decide(namespace, image)
    assert explain(policy, namespace, image).verdict.decision == decision
    request = admission.review.parse(review(pod(image), namespace=namespace))
    outcome = admission.validate(request, policy)
    assert [verdict.decision for verdict in outcome.images] == [decision]
    # The hot path leaves images with exceptions to the path that warns about them.
    approved = admission.certainly_approved(request, policy)
    assert approved == ([image] if decision.reason == "allowed" else None)


@usual
@given(policies, images, places)
def test_exceptions_never_enter_the_fast_path_or_a_native_policy(
    written: dict[str, Any], image: str, namespace: str | None
) -> None:
    """Exceptions never enter the fast path or a native policy."""
    policy, plain = policy_of(written), policy_of({**written, "exceptions": []})
    found, without = (compile_fastpath(each, INSTANT) for each in (policy, plain))
    assert (found.validating, found.mutating) == (without.validating, without.mutating)
    for each in (
        found.approves(namespace, image, "validating"),
        policy.at(INSTANT).decide(namespace, image).approved,
    ):
        assert not each or naive.approved(written, image, namespace, INSTANT)
    native, other = (validating_policy(each, INSTANT, Options(exempt=())) for each in (policy, plain))
    assert [each["spec"] for each in native] == [each["spec"] for each in other]


@usual
@given(policies, documents, images, places)
def test_the_exception_with_the_latest_end_is_shown(
    written: dict[str, Any], others: naive.Documents, image: str, namespace: str | None
) -> None:
    """Several entries match: the one with the latest `until` is the one that is shown."""
    every = exceptions_of(others)
    policy = policy_of(written)
    shown = policy.at(INSTANT, every).decide(namespace, image).exception
    for key, document in every.documents():
        for entry in document.entries:
            alone = Exceptions({key: ExceptionDocument(entries=(entry,))})
            found = policy.at(INSTANT, alone).decide(namespace, image).exception
            counts = (key, entry, "live") in every.states(policy.at(INSTANT).grants, INSTANT)
            most = policy.at(INSTANT).grants.most(key.source, namespace)
            if found is not None and counts and most >= len(document.entries):
                assert shown is not None
                assert shown.until >= found.until


@usual
@given(policies, documents, images, places)
def test_no_decision_changes_before_the_next_change(
    written: dict[str, Any], others: naive.Documents, image: str, namespace: str | None
) -> None:
    """``next_change`` names the next instant at which an exception begins or ends."""
    policy, every = policy_of(written), exceptions_of(others)
    now = policy.at(INSTANT, every)
    then = INSTANT + timedelta(days=60) if now.next_change is None else now.next_change
    before = policy.at(then - timedelta(microseconds=1), every)
    assert now.decide(namespace, image).exception == before.decide(namespace, image).exception


@pytest.mark.parametrize(
    ("hours", "shown"),
    [
        pytest.param((-1, 1, -2), 1, id="one-lives"),
        pytest.param((1, 2, 3), 2, id="the-third-is-one-too-many"),
        pytest.param((-1, -2, -3), None, id="none-lives"),
    ],
)
def test_the_live_entry_that_expires_last_is_shown(hours: tuple[int, ...], shown: int | None) -> None:
    ends = [INSTANT + timedelta(hours=each) for each in hours]
    more = granting("source: namespace, images: [ghcr.io], longest: 12h, most: 2")
    policy = compiled(more, *(f"image: ghcr.io/x, until: '{end.isoformat()}', reason: r" for end in ends))
    found = policy.decide("team-a", "ghcr.io/x").exception
    assert (found and found.until) == (shown and INSTANT + timedelta(hours=shown))


def test_an_exception_that_begins_later_in_some_namespaces_is_a_later_change() -> None:
    granted = [
        {"source": "installation", "images": ["a.io"], "longest": "1h"},
        {"source": "installation", "images": ["a.io"], "longest": "12h", "namespaces": ["team-*"]},
    ]
    until = (INSTANT + timedelta(hours=2)).isoformat()
    every = exceptions_of(
        {("installation", INSTALLATION): [{"image": "a.io", "until": until, "reason": "r"}]}
    )
    policy = policy_of({"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicy", "mode": "enforce",
                        "allow": ["b.io"], "exceptions": granted})  # fmt: skip
    now = policy.at(INSTANT, every)
    assert now.decide("team-a", "a.io/x").approved
    assert not now.decide("other", "a.io/x").approved
    assert now.next_change == INSTANT + timedelta(hours=1)
    assert policy.at(now.next_change, every).decide("other", "a.io/x").approved


@pytest.mark.parametrize(("before", "since"), [(timedelta(hours=2), [1]), (timedelta(0), [])])
def test_entries_that_end_soon_or_ended_are_noted(before: timedelta, since: list[int]) -> None:
    ends = (INSTANT + timedelta(hours=1), INSTANT - timedelta(hours=1), INSTANT + timedelta(days=80))
    listed = [f"image: ghcr.io/{n}, until: {end:%Y-%m-%dT%H:%M:%SZ}, reason: r" for n, end in enumerate(ends)]
    policy = compiled(granting("source: namespace, images: [ghcr.io/**], longest: 90d"), *listed)
    counted = run_slice(policy.exceptions.counting(policy.grants, INSTANT, INSTANT - before), math.inf)
    assert counted.counts == {("namespace", "live"): 2, ("namespace", "expired"): 1}
    assert counted.next_end == ends[0]
    for noted, expected in ((counted.ending, [0]), (counted.ended, [1]), (counted.ended_since, since)):
        assert [each.entry().pattern.text for each in noted.values()] == [f"ghcr.io/{n}" for n in expected]
    nothing = run_slice(NO_EXCEPTIONS.counting(policy.grants, INSTANT, INSTANT), math.inf)
    assert (nothing.counts, nothing.next_end) == ({}, None)


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        ("2026-01-30T11:59:59Z", None),
        ("2026-01-30T12:00:00Z", True),
        ("2026-03-01T12:00:00Z", True),
        ("2026-03-31T14:00:00Z", False),
        ("2026-03-31T14:00:01Z", None),
        ("0001-01-01", None),
    ],
)
def test_an_exception_that_ended_or_begins_within_30_days_is_shown(until: str, shown: bool | None) -> None:  # noqa: FBT001
    """Refused, with an expired or not-yet-live exception of the last or next 30 days."""
    decision = compiled(granting(), f"image: ghcr.io/x, until: {until}, reason: r").decide(
        "team-a", "ghcr.io/x"
    )
    assert decision.reason == "unlisted"
    assert decision.ruling is not None
    missed = decision.ruling.missed
    assert (None if missed is None else missed.ended) is shown
    assert decision.ruling.longest == timedelta(hours=2)


def test_of_two_missed_exceptions_the_nearest_is_shown() -> None:
    decision = compiled(
        granting(),
        "image: ghcr.io/x, until: 2026-02-28, reason: long ago",
        "image: ghcr.io/x, until: 2026-03-01T11:00:00Z, reason: lately",
        "image: ghcr.io/x, until: 2026-03-05, reason: later",
    ).decide("team-a", "ghcr.io/x")
    assert decision.ruling is not None
    assert decision.ruling.missed is not None
    assert decision.ruling.missed.reason == "lately"


def test_documents_can_be_replaced_added_and_removed() -> None:
    listed = ["image: ghcr.io/x, until: 2026-03-01T13:00:00Z, reason: r"]
    document = parse_exceptions(exceptions_text(*listed))
    keys = [DocumentKey("namespace", "team-a"), DocumentKey("break-glass", INSTALLATION)]
    whole = NO_EXCEPTIONS.updated(dict.fromkeys(keys, document))
    assert [key for key, _ in whole.documents()] == keys
    assert len(NO_EXCEPTIONS) == 0
    assert len(whole.updated({DocumentKey("break-glass", "elsewhere"): None})) == 2
    assert [key for key, _ in whole.updated({keys[1]: None}).documents()] == keys[:1]
    assert [key for key, _ in whole.updated({keys[0]: None, keys[1]: document}).documents()] == keys[1:]
    with pytest.raises(ValueError, match="two documents with the source break-glass"):
        whole.updated({DocumentKey("break-glass", "elsewhere"): document})


def test_many_documents_take_little_memory() -> None:
    """100,000 entries stay below 100 MiB, and a garbage collection does not visit each of them."""
    documents = {
        DocumentKey("namespace", f"team-{n}"): parse_exceptions(
            exceptions_text(
                *(
                    f"image: ghcr.io/acme-{n}/tool:{i}.*, until: 2026-03-02, reason: INC-{i}"
                    for i in range(10)
                )
            )
        )
        for n in range(100)
    }
    policy = parse_policy(policy_text(granting())).at(INSTANT)
    gc.collect()
    before = len(gc.get_objects())
    tracemalloc.start()
    try:
        held = Exceptions(documents)
        run_slice(held.counting(policy.grants, INSTANT, INSTANT), until=float("inf"))
        assert tracemalloc.get_traced_memory()[0] < 1_000 * 500
    finally:
        tracemalloc.stop()
    gc.collect()
    assert len(gc.get_objects()) - before < 5 * len(documents)


def test_without_a_grant_exceptions_have_no_effect() -> None:
    policy = compiled("", "image: ghcr.io/x, until: 2026-03-01T13:00:00Z, reason: r")
    assert policy.decide("team-a", "ghcr.io/x").ruling is None
    assert policy.next_change is None


def test_the_cost_of_a_rejected_image_does_not_grow_with_the_number_of_documents() -> None:
    """A decision reads at most three documents. Keys may collide in the table: that costs one comparison."""
    document = parse_exceptions(exceptions_text("image: ghcr.io/x, until: 2026-03-01T13:00:00Z, reason: r"))

    def cost(number: int) -> float:
        documents = {DocumentKey("namespace", f"team-{n}"): document for n in range(number)}
        policy = parse_policy(policy_text(granting())).at(INSTANT, Exceptions(documents))
        policy.decide("team-0", "ghcr.io/x")  # builds the index of the document
        return instructions(lambda image: policy.decide("team-0", image), "ghcr.io/x")

    assert cost(1_000) < 1.1 * cost(1)


def test_a_document_with_the_most_entries_costs_little() -> None:
    """1,000 entries for one image: the work of a decision stays linear in their number."""
    same = ["image: ghcr.io/x, until: 2026-03-01T13:00:00Z, reason: r"] * 1_000
    policy = compiled(granting(), *same)
    policy.decide("team-a", "ghcr.io/x")
    assert instructions(lambda image: policy.decide("team-a", image), "ghcr.io/x") < 200_000


@pytest.mark.parametrize(("until", "approved"), [("2026-03-01T13:00:00Z", True), ("2026-03-05", False)])
def test_a_thousand_entries_that_match_an_image_make_few_objects(
    monkeypatch: pytest.MonkeyPatch, until: str, *, approved: bool
) -> None:
    """A Pod may have a thousand such images, and each of them is judged by all of the entries."""
    policy = compiled(granting(), *[f"image: ghcr.io/**, until: {until}, reason: r"] * 1000)
    make, made = module._Found, []

    def counted(*values: Any) -> module._Found:
        made.append(values)
        return make(*values)

    monkeypatch.setattr(module, "_Found", counted)
    assert policy.decide("team-a", "ghcr.io/x").approved is approved
    assert len(made) == 1
