"""Laws of the judge in every world: whatever registries answer, names decide first."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

from hypothesis import event, given, settings
from hypothesis import strategies as st
from yaml import safe_load

from budget import budget
from builders import INSTANT, exceptions_text, keys_text, pod, policy_document, review, workload
from gatekeeper_py.core.admission import (
    BY_NAME,
    Answers,
    Judge,
    Subject,
    certainly_approved,
    judge,
    validate,
)
from gatekeeper_py.core.admission.outcome import role_of
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import NOTHING_SIGNED
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    Answer,
    Lookup,
    Manifest,
    failed,
    resolve,
)
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.core.policy.policy import CompiledPolicy, parse_policy

DIGESTS: Final = tuple(f"sha256:{letter * 64}" for letter in "ab")
NAMES: Final = ("r.io/app", "r.io/hub/library/nginx", "docker.io/library/nginx", "docker.io/library/bad")
IMAGES: Final = st.builds(
    "{}{}".format,
    st.sampled_from((*NAMES, *NAMES, "evil.io/x")),
    st.sampled_from(("", ":1", f"@{DIGESTS[0]}")),
)
PATTERNS: Final = (
    "r.io/**",
    "r.io/app",
    "r.io/app:1",
    "r.io/hub/**",
    "docker.io",
    "docker.io/library/nginx@*",
)
KEYS: Final = safe_load(keys_text())["keys"]

lookups = st.fixed_dictionaries(
    {},
    optional={
        "verify": st.just(True),
        "pin": st.just(True),
        "signedBy": st.sampled_from([["ci-2025"], ["ci-2026"], ["ci-2025", "ci-2026"]]),
        "onError": st.sampled_from(["keep", "deny"]),
        "namespaces": st.just(["shop"]),
    },
).filter(lambda each: "onError" not in each or len(each.keys() - {"onError", "namespaces"}) > 0)
allow = st.lists(
    st.builds(lambda image, more: {"image": image, **more}, st.sampled_from(PATTERNS), lookups),
    min_size=1,
    max_size=3,
)
deny = st.lists(
    st.sampled_from(
        [
            "docker.io/library/bad",
            f"r.io/**@{DIGESTS[0]}",
            {"image": f"docker.io/**@{DIGESTS[1]}", "except": ["docker.io/library/nginx:1"]},
            {"image": "r.io/app:1", "namespaces": ["shop"]},
        ]
    ),
    max_size=2,
)
mirrors = st.lists(
    st.fixed_dictionaries(
        {"from": st.just("docker.io"), "to": st.just("r.io/hub")},
        optional={
            "verify": st.just(True),
            "pin": st.just(True),
        },
    ),
    max_size=1,
)
overrides: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"overrides": "deny"}, {"overrides": ["deny", "signature"]}]
)


@st.composite
def policies(draw: st.DrawFn) -> CompiledPolicy:
    """Draw a policy with keys of which one may have expired, and exceptions for all of ``r.io``."""
    keys = [dict(each) for each in KEYS]
    if draw(st.booleans()):
        keys[0]["until"] = "2020-01-01"
    grant = {"source": "break-glass", "images": ["r.io/**"], "longest": "400d", **draw(overrides)}
    document = {
        **policy_document(draw(allow), draw(deny), draw(mirrors), mode=draw(st.sampled_from(MODES))),
        "keys": keys,
        "exceptions": draw(st.sampled_from([[], [grant]])),
    }
    written = parse_exceptions(
        exceptions_text("image: r.io/app, until: 2026-03-20, reason: r"), "break-glass"
    )
    exceptions = Exceptions({DocumentKey("break-glass", "platform"): written} if draw(st.booleans()) else {})
    return parse_policy(json.dumps(document)).at(INSTANT, exceptions)


MODES: Final = ("enforce", "warn", "mutate")
OPERATIONS: Final = ("CREATE", "UPDATE")


def answer(policy: CompiledPolicy, seed: int, manifest: Manifest) -> Answer:
    """Return what a world holds about a manifest. Each seed is another world."""
    number = hash((seed, manifest)) % 5
    if manifest.kind is EXISTENCE:
        digest = manifest.reference if manifest.by_digest else DIGESTS[number % 2]
        return (Answer("found", digest), Answer("found", digest), Answer("found", digest), MISSING, DOWN)[
            number
        ]
    fingerprints = [key.fingerprint for key in policy.policy.document.keys]
    signed = Answer("found", manifest.reference, key=fingerprints[number % 2], form="bundle")
    return (signed, signed, MISSING, Answer("missing", cause="other_key"), DOWN)[number]


DOWN: Final = failed("connection refused")


def world(policy: CompiledPolicy, seed: int) -> Answers:
    def resolved(lookup: Lookup) -> Any:
        return resolve(tuple(map(partial(answer, policy, seed), lookup.candidates)))

    return Answers(resolved)


seeds = st.integers(0, 2**16)
kinds = st.sampled_from([("", "Pod"), ("apps", "Deployment")])
many = settings(max_examples=budget(800))


@many
@given(policies(), IMAGES, kinds, seeds)
def test_no_world_approves_what_the_judge_rejects_by_name(
    policy: CompiledPolicy, image: str, kind: tuple[str, str], seed: int
) -> None:
    subject = Subject("shop", policy.mode("shop"), role_of(kind))
    verdict = judge(policy, subject, Slot((), "image", image), world(policy, seed))
    if verdict.approved and verdict.rewritten is None:
        event("approved")
        assert judge(policy, subject, Slot((), "image", image), BY_NAME).approved


@many
@given(policies(), IMAGES)
def test_without_signatures_only_exceptions_approve_an_image_that_needs_one(
    policy: CompiledPolicy, image: str
) -> None:
    verdict = judge(policy, Subject("shop", policy.mode("shop")), Slot((), "image", image), NOTHING_SIGNED)
    rule = policy.decide_by_rules("shop", image).rule
    if rule is not None and rule.signed_by and verdict.approved:
        event("excepted")
        assert verdict.decision.exception is not None


@many
@given(policies(), st.lists(IMAGES, min_size=1, max_size=3), kinds, seeds, st.sampled_from(OPERATIONS))
def test_what_the_hot_path_approves_the_judge_approves_without_a_warning(
    policy: CompiledPolicy, images: list[str], kind: tuple[str, str], seed: int, operation: str
) -> None:
    """In the same world, without warnings, and with no annotation but those of every review."""

    def made(names: list[str]) -> Any:
        return pod(*names) if kind[1] == "Pod" else workload("Deployment", *names)

    old = made(images[:1]) if operation == "UPDATE" else None
    request = parse(review(made(images), old=old, kind=kind, namespace="shop", operation=operation))

    def is_found(manifest: Manifest) -> bool:
        return answer(policy, seed, manifest).status == "found"

    approved = certainly_approved(request, policy, is_found)
    if approved is None:
        return
    event("taken")
    outcome = validate(request, policy, world(policy, seed))
    assert (outcome.verdict, outcome.response.warnings) == ("allowed", ())
    assert outcome.response.audit_annotations.keys() == {"mode", "policy"}
    assert [each.slot.value for each in outcome.images] == approved


@many
@given(policies(), IMAGES, seeds)
def test_mutation_writes_only_digests_that_names_approve(
    policy: CompiledPolicy, image: str, seed: int
) -> None:
    subject = Subject("shop", policy.mode("shop"))
    new = Judge(policy, subject, world(policy, seed)).rewrite(Slot((), "image", image))
    if new is not None and new.rewritten is not None and "@" in new.rewritten and "@" not in image:
        event("pinned")
        assert policy.decide("shop", new.rewritten).approved
