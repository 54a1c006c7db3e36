"""Laws of the judge in every world: names decide first, and requirements restrict."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any, Final
from zlib import crc32

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from yaml import safe_load

from gatekeeper_py.core.admission import (
    BY_NAME,
    Answers,
    Judge,
    Subject,
    Verdict,
    certainly_approved,
    judge,
    mutate,
    validate,
)
from gatekeeper_py.core.admission.lookahead import images_ahead, lookups_ahead
from gatekeeper_py.core.admission.outcome import role_of
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import MAX_ROUNDS, NOTHING_SIGNED, answers_so_far
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    SIGNATURE,
    Answer,
    Lookup,
    Manifest,
    Resolution,
)
from gatekeeper_py.core.images.reference import parse_reference
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.core.policy.policy import CompiledPolicy, parse_policy
from support.budget import budget
from support.builders import INSTANT, exceptions_text, keys_text, pod, policy_document, review, workload
from support.calling import mutate as mutated
from support.calling import validated
from support.worlds import DIGEST, DOWN, OTHER, known, outcome_of, request, resolved, stored

NAMES: Final = ("r.io/app", "r.io/hub/library/nginx", "docker.io/library/nginx", "docker.io/library/bad")
TAGGED: Final = st.builds(
    "{}{}".format, st.sampled_from((*NAMES, *NAMES, "x.io/x")), st.sampled_from(("", ":1"))
)
IMAGES: Final = TAGGED | st.sampled_from([f"{name}@{DIGEST}" for name in NAMES])
LISTS: Final = st.lists(IMAGES, min_size=1, max_size=3)
PATTERNS: Final = (
    "r.io/**",
    "r.io/app",
    "r.io/app:1",
    "r.io/hub/**",
    "docker.io",
    "docker.io/library/nginx@*",
)
KEYS: Final = safe_load(keys_text())["keys"]
MODES: Final = ("enforce", "warn", "mutate")

requirements = st.fixed_dictionaries(
    {"images": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2, unique=True)},
    optional={
        "exists": st.just(True),
        "digest": st.just(True),
        "signedBy": st.sampled_from([["ci-2025"], ["ci-2026"], ["ci-2025", "ci-2026"]]),
        "onError": st.sampled_from(["keep", "deny"]),
        "namespaces": st.sampled_from([["shop"], ["other"]]),
        "except": st.sampled_from([["r.io/app:1"], ["docker.io/library/nginx"]]),
        "mode": st.just("warn"),
    },
).filter(lambda each: "exists" in each or "signedBy" in each or ("digest" in each and "onError" not in each))
everywhere = st.just({"images": ["*/**"], "digest": True})
allow = st.lists(
    st.sampled_from([*PATTERNS, {"image": "r.io/**", "namespaces": ["shop"]}]), min_size=1, max_size=3
)
deny = st.lists(
    st.sampled_from(
        [
            "docker.io/library/bad",
            f"r.io/**@{DIGEST}",
            {"image": f"docker.io/**@{OTHER}", "except": ["docker.io/library/nginx:1"]},
            {"image": "r.io/app:1", "namespaces": ["shop"]},
        ]
    ),
    max_size=2,
)
choices = st.sampled_from(["keep", "deny", "rewrite"])
options: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.fixed_dictionaries(
    {"verify": st.just(True)}, optional={"pin": st.just(True), "onMissing": choices, "onError": choices}
)
mirrors = st.lists(
    st.builds(
        lambda to, more: {"from": "docker.io", "to": to, **more},
        st.sampled_from(["r.io/hub", ["r.io/hub", "r.io/nginx"]]),
        options,
    ),
    max_size=1,
)
overrides: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"overrides": "deny"}, {"overrides": "require"}, {"overrides": ["deny", "require"]}]
)


@st.composite
def policies(draw: st.DrawFn, *modes: str) -> CompiledPolicy:
    """Draw a policy with keys of which one may have expired, and exceptions for all of ``r.io``."""
    keys = [dict(each) for each in KEYS]
    if draw(st.booleans()):
        keys[0]["until"] = "2020-01-01"
    grant = {"source": "break-glass", "images": ["r.io/**"], "longest": "400d", **draw(overrides)}
    document = {
        **policy_document(draw(allow), draw(deny), draw(mirrors), mode=draw(st.sampled_from(modes or MODES))),
        "keys": keys,
        "require": draw(st.lists(requirements | everywhere, max_size=3)),
        "registries": draw(st.sampled_from([[], [{"host": "docker.io"}]])),
        "exceptions": draw(st.sampled_from([[], [grant]])),
    }
    written = parse_exceptions(
        exceptions_text("image: r.io/app, until: 2026-03-20, reason: r"), "break-glass"
    )
    exceptions = Exceptions({DocumentKey("break-glass", "platform"): written} if draw(st.booleans()) else {})
    try:
        return parse_policy(json.dumps(document)).at(INSTANT, exceptions)
    except PolicyError as error:
        assume([finding.code for finding in error.findings] != ["require-impossible"])
        raise


def answer(policy: CompiledPolicy, seed: int, manifest: Manifest) -> Answer:
    """Return what a world holds about a manifest. Each seed is another world."""
    number = crc32(repr((seed, manifest)).encode()) % 5  # `hash` differs from process to process
    if manifest.kind is EXISTENCE:
        digest = manifest.reference if manifest.by_digest else (DIGEST, OTHER)[number % 2]
        there = Answer("found", digest)
        return (there, there, there, MISSING, DOWN)[number]
    fingerprints = [key.fingerprint for key in policy.policy.document.keys]
    signed = Answer("found", manifest.reference, key=fingerprints[number % 2], form="bundle")
    return (signed, signed, MISSING, Answer("missing", cause="other_key"), DOWN)[number]


def judged(policy: CompiledPolicy, image: str, seed: int) -> Verdict:
    """Return the verdict on a Pod's image in a world."""
    subject = Subject("shop", policy.mode("shop"))
    return judge(policy, subject, Slot((), "image", image), known(partial(answer, policy, seed)))


def changed(policy: CompiledPolicy, **fields: Any) -> CompiledPolicy:
    """Return the policy with other fields of its document."""
    document = replace(policy.policy.document, **fields)
    return replace(policy.policy, document=document).at(INSTANT, policy.exceptions)


seeds = st.integers(0, 2**16)
kinds = st.sampled_from([("", "Pod"), ("apps", "Deployment")])
many = settings(max_examples=budget(800))


@many
@given(policies(), IMAGES, kinds, seeds)
def test_no_world_approves_what_the_judge_rejects_by_name(
    policy: CompiledPolicy, image: str, kind: tuple[str, str], seed: int
) -> None:
    subject = Subject("shop", policy.mode("shop"), role_of(kind))
    slot = Slot((), "image", image)
    verdict = judge(policy, subject, slot, known(partial(answer, policy, seed)))
    if verdict.approved and verdict.rewritten is None:
        event("approved")
        assert judge(policy, subject, slot, BY_NAME).approved


@many
@given(policies("enforce", "warn"), IMAGES, seeds)
def test_an_image_is_approved_only_if_it_meets_every_requirement(
    policy: CompiledPolicy, image: str, seed: int
) -> None:
    """Whichever rule or exception approved it, unless the exception overrides requirements."""
    verdict, named = judged(policy, image, seed), policy.decide("shop", image)
    reference = parse_reference(image)
    pulled = reference.digest or reference.tag or "latest"
    found = partial(answer, policy, seed)
    manifest = Manifest(reference.registry, reference.repository, pulled)
    met = list[bool]()
    for each in named.requirements:
        keys = tuple(sorted(key.fingerprint for key in policy.require.signers(each)))
        status = ["found"]
        if each.exists and not each.signed_by:
            status.append(found(manifest).status)
        if each.signed_by:
            about = found(manifest._replace(kind=SIGNATURE, keys=keys)) if keys else MISSING
            of_others = about.status == "found" and about.key not in keys
            status.append("missing" if of_others else about.status)
        kept = {"found", "error"} if each.on_error == "keep" else {"found"}
        is_met = set(status) <= kept and not (each.digest and reference.digest is None)
        met.append(is_met or each.warns)
    if not named.approved or all(met):
        return
    event(verdict.decision.reason)
    if verdict.approved:
        exception = verdict.decision.exception
        assert exception is not None
        assert "require" in policy.policy.document.exceptions[exception.grant].overrides


@many
@given(policies(), IMAGES, seeds)
def test_the_order_of_requirements_never_matters_for_the_verdict(
    policy: CompiledPolicy, image: str, seed: int
) -> None:
    """Nor do requirements that only warn."""
    document = policy.policy.document
    assume(len(document.require) > 1)
    reversed_ = tuple(replace(each, index=index) for index, each in enumerate(reversed(document.require)))
    enforced = tuple(each for each in document.require if not each.warns)
    expected = judged(policy, image, seed).approved
    assert judged(changed(policy, require=reversed_), image, seed).approved is expected
    if policy.mode("shop").name != "mutate":  # there, the digest that one asks for is written for all
        kept = tuple(replace(each, index=index) for index, each in enumerate(enforced))
        event("warns" if len(kept) < len(document.require) else "all are enforced")
        without = judged(changed(policy, require=kept), image, seed)
        # A look-up, even for a warning, can find a digest that is denied.
        assert without.approved is expected or (without.approved and policy.deny.recalls)


@many
@given(policies(), IMAGES)
def test_without_signatures_only_exceptions_approve_an_image_that_needs_one(
    policy: CompiledPolicy, image: str
) -> None:
    verdict = judge(policy, Subject("shop", policy.mode("shop")), Slot((), "image", image), NOTHING_SIGNED)
    required = policy.decide("shop", image).requirements
    if any(each.signed_by and not each.warns for each in required) and verdict.approved:
        event("excepted")
        assert verdict.decision.exception is not None


@many
@given(policies(), LISTS, kinds, seeds, st.sampled_from(["CREATE", "UPDATE"]))
def test_what_the_hot_path_approves_the_judge_approves_without_a_warning(
    policy: CompiledPolicy, images: list[str], kind: tuple[str, str], seed: int, operation: str
) -> None:
    """In the same world, without warnings, and with no annotation but those of every review."""

    def made(names: list[str]) -> Any:
        return pod(*names) if kind[1] == "Pod" else workload("Deployment", *names)

    old = made(images[:1]) if operation == "UPDATE" else None
    asked = parse(review(made(images), old=old, kind=kind, namespace="shop", operation=operation))
    about = partial(answer, policy, seed)
    approved = certainly_approved(asked, policy, known(about))
    if approved is None:
        return
    event("taken")
    outcome = validate(asked, policy, known(about))
    assert (outcome.verdict, outcome.response.warnings) == ("allowed", ())
    assert outcome.response.audit_annotations.keys() == {"mode", "policy"}
    assert [each.slot.value for each in outcome.images] == approved


@many
@given(policies("mutate"), IMAGES, seeds)
def test_mutation_writes_only_digests_that_were_verified(
    policy: CompiledPolicy, image: str, seed: int
) -> None:
    """Law: "mutate pins: resolve the tag, verify, and write exactly the digest that was verified"."""
    about = partial(answer, policy, seed)
    subject = Subject("shop", policy.mode("shop"))
    new = Judge(policy, subject, known(about)).rewrite(Slot((), "image", image))
    if new is None or new.rewritten is None or "@" not in new.rewritten or "@" in image:
        return
    event("pinned")
    assert policy.decide("shop", new.rewritten).approved
    name, _, digest = new.rewritten.partition("@")
    reference = parse_reference(name)
    looked_up = Manifest(reference.registry, reference.repository, reference.tag or "latest")
    assert about(looked_up).digest == digest
    if not policy.require.signed_hosts:
        return
    verdict = judged(policy, new.rewritten, seed)
    assert verdict.decision.reason not in {"unsigned", "unpinned"}
    # In some worlds, a tag has a digest that does not exist.
    exists = about(looked_up._replace(reference=digest)).status == "found"
    if exists and judged(policy, name, seed).approved:
        assert verdict.approved, "a digest makes no approved image a rejected one"


@many
@given(policies(), LISTS, st.sampled_from([mutate, validate]), seeds, st.data())
def test_reviews_in_rounds_of_look_ups_end_as_with_all_answers(
    policy: CompiledPolicy, images: list[str], endpoint: Any, seed: int, data: st.DataObject
) -> None:
    """This holds for any earlier answers that are still known when the review begins."""
    about = partial(answer, policy, seed)

    def cached(lookup: Lookup) -> Resolution | None:
        return resolved(lookup, about) if data.draw(st.booleans()) else None

    outcome_of(endpoint, request(*images), policy, about, Answers(cached))


@given(policies(), LISTS, seeds, st.dictionaries(st.text(), st.text(), max_size=2))
def test_annotations_change_nothing(
    policy: CompiledPolicy, images: list[str], seed: int, annotations: dict[str, str]
) -> None:
    """Law: "The validating endpoint decides by facts that this process looked up, never by an annotation"."""
    annotations["gatekeeper-py/original-images"] = json.dumps({"spec.containers[0].image": images[0]})
    world = known(partial(answer, policy, seed))
    plain, annotated = request(*images), request(*images, metadata={"annotations": annotations})
    assert validate(plain, policy, world) == validate(annotated, policy, world)


@given(policies(), LISTS, seeds)
def test_workloads_are_judged_by_name_and_the_look_ups_of_their_signatures_run_ahead(
    policy: CompiledPolicy, images: list[str], seed: int
) -> None:
    """Law: "Templates are approved by name; their review starts the look-ups of their images"."""
    asked, about = request(*images, kind="Deployment"), partial(answer, policy, seed)
    nothing = Answers(lambda _lookup: None)
    assert validate(asked, policy, nothing) == validate(asked, policy)
    assert not nothing.missing
    answers = dict[Lookup, Resolution]()
    for _ in range(MAX_ROUNDS + 1):
        needed = lookups_ahead(images_ahead(asked, policy), policy, "shop", answers_so_far(answers))
        answers |= {lookup: resolved(lookup, about) for lookup in needed}
    assert not needed
    for image in images:
        becomes = stored(request(image), policy, about)[0]
        for endpoint, name in ((mutate, image), (validate, becomes)):
            left = answers_so_far(answers)
            endpoint(request(name), policy, left)
            signatures = [each for each in left.missing if each.candidates[0].kind == SIGNATURE]
            event(f"looked up ahead: {bool(answers)}")
            assert not signatures, "the Pod waits for a signature"


@many
@given(
    policies("enforce", "mutate"),
    st.lists(st.tuples(IMAGES, st.sampled_from(["Always", "IfNotPresent", "Never"])), min_size=1, max_size=3),
)
def test_without_look_ups_a_template_gets_the_verdict_of_the_pod_it_creates(
    policy: CompiledPolicy, containers: list[tuple[str, str]]
) -> None:
    """``In mutate mode every other object is judged as its pods will be``, even if mirrors look up images."""
    spec = {"containers": [{"name": "c", "image": image, "imagePullPolicy": p} for image, p in containers]}
    new = mutated(review(pod(**spec)), policy).object
    of_template, of_pod = (validated(review(obj), policy) for obj in (workload("Deployment", **spec), new))
    event(f"allowed: {of_pod.response.allowed}, rewritten: {new['spec'] != spec}")
    assert of_template.response.allowed is of_pod.response.allowed
    reasons = [[each.decision.reason for each in outcome.images] for outcome in (of_template, of_pod)]
    assert reasons[0] == reasons[1]
