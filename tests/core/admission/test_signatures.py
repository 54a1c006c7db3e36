"""Decisions about images whose rules require signatures: each law of docs/signatures.md as a property."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import jsonpatch
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from builders import INSTANT, PUBLIC_KEYS, exceptions_text, keys_text, pod, policy_text, review, workload
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import Outcome, certainly_approved, mutate, validate
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.admission.judge import Signature
from gatekeeper_py.core.admission.lookahead import images_ahead, lookups_ahead
from gatekeeper_py.core.admission.world import Answers, answers_so_far
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    OTHER_KEY,
    SIGNATURE,
    Answer,
    Lookup,
    Manifest,
    Resolution,
    failed,
    found,
    resolve,
)
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.keys import parse_key
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
DOWN: Final = failed("connection refused")
KEYS: Final = {name: parse_key(pem).fingerprint for name, pem in PUBLIC_KEYS.items()}
NAMES: Final = {fingerprint: name for name, fingerprint in KEYS.items()}
RULE: Final = "{image: r.io, signedBy: [ci-2025, ci-2026]%s}"
SIGNATURES: Final = "signatures: s.io/signatures"
REFUSED: Final = " is not approved; new Pods will be refused"
ROUNDS: Final = 3
"""Times that a review waits for look-ups: which mirror has the image, its digest, and the signature."""

Truth = Callable[[Manifest], Answer]


@cache
def policy(
    allow: str = f"[{RULE % ''}]", more: str = "", *, mode: str = "enforce", until: str = ""
) -> CompiledPolicy:
    """Return a policy in which the key ci-2026 expires at ``until``."""
    keys = keys_text(**({"until": until} if until else {}))
    return parse_policy(policy_text(keys + more, mode=mode, allow=allow)).at(INSTANT)


def request(*images: str, kind: str = "Pod", old: Any = None, operation: str = "CREATE", **spec: Any) -> Any:
    obj = pod(*images, **spec) if kind == "Pod" else workload(kind, *images, **spec)
    return wire.parse(review(obj, operation=operation, old=old))


def signed(manifest: Manifest, name: str = "ci-2026") -> Answer:
    return Answer("found", manifest.reference, key=KEYS[name], form="bundle")


def truth(tag: Answer = found(DIGEST), signature: Answer | None = None) -> Truth:  # noqa: B008 - never changes
    """Return the answers of registries: one about tags, one about signatures (by default a valid one)."""

    def answer(manifest: Manifest) -> Answer:
        if manifest.kind == EXISTENCE:
            return tag
        return signed(manifest) if signature is None else signature

    return answer


def known(answer: Truth) -> Answers:
    return Answers(lambda lookup: resolve(tuple(map(answer, lookup.candidates))))


def outcome_of(
    endpoint: Callable[..., Outcome], asked: wire.AdmissionRequest, compiled: Any, answer: Truth
) -> Outcome:
    """Decide as the webhook does: again with more answers, until none is missing."""
    answers: dict[Lookup, Resolution] = {}
    facts = Answers(lambda _lookup: None)
    for _ in range(ROUNDS + 1):
        outcome = endpoint(asked, compiled, facts)
        if not facts.missing:
            assert outcome == endpoint(asked, compiled, known(answer))
            return outcome
        answers |= facts.used | {
            lookup: resolve(tuple(map(answer, lookup.candidates))) for lookup in facts.missing
        }
        facts = answers_so_far(answers)
    raise AssertionError(f"more than {ROUNDS} rounds of look-ups")


def patched(asked: wire.AdmissionRequest, outcome: Outcome) -> Any:
    document = outcome.response.document()["response"]
    patch = json.loads(base64.b64decode(document["patch"])) if "patch" in document else []
    return jsonpatch.apply_patch(asked.object, patch)


signature_answers = st.sampled_from(
    [
        None,
        MISSING,
        Answer("missing", cause=OTHER_KEY),
        Answer("missing", cause="1 skipped"),
        DOWN,
    ]
)
tag_answers = st.sampled_from([found(DIGEST), found(OTHER), MISSING, DOWN])
IMAGES: Final = [
    "r.io/app:1",
    "r.io/app",
    f"r.io/app:1@{DIGEST}",
    f"r.io/tagged@{OTHER}",
    "r.io/tagged:1",
    "free.io/x:1",
    "evil.io/x:1",
    "nginx:1",
    f"nginx@{DIGEST}",
    "?",
]
images = st.lists(st.sampled_from(IMAGES), min_size=1, max_size=3)
more_fields = st.sampled_from(["", ", onError: keep", f", {SIGNATURES}"])
MIRRORS: Final = [
    "",
    "mirrors: [{from: docker.io, to: r.io/hub}]\n",
    "mirrors: [{from: docker.io, to: [dead.io/hub, r.io/hub], verify: true}]\n",
    "mirrors: [{from: docker.io, to: r.io/hub, pin: true, onMissing: deny, onError: rewrite}]\n",
]


@st.composite
def policies(draw: st.DrawFn, *modes: str) -> CompiledPolicy:
    """Policies in which some images need signatures, and other rules compete for the same images."""
    names = draw(st.sampled_from(["ci-2025", "ci-2026", "ci-2025, ci-2026"]))
    rule = f"{{image: r.io, signedBy: [{names}]{draw(more_fields)}}}"
    other = draw(
        st.sampled_from(
            [
                "free.io",
                "{image: 'r.io/tagged:*', pin: true}",
                "r.io/tagged",
                f"{{image: 'r.io/**:1', signedBy: [ci-2025], {SIGNATURES}}}",
            ]
        )
    )
    rules = [*draw(st.permutations([rule, other])), "dead.io", "free.io/**"]
    until = draw(st.sampled_from(["", "2026-03-01"]))
    more, mode = draw(st.sampled_from(MIRRORS)), draw(st.sampled_from(modes))
    return policy(f"[{', '.join(rules)}]", more, until=until, mode=mode)


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    answers: dict[Manifest, Answer] = {}

    def answer(manifest: Manifest) -> Answer:
        if manifest not in answers:
            drawn = draw(tag_answers if manifest.kind == EXISTENCE else signature_answers)
            if drawn is None:
                drawn = signed(manifest, NAMES[draw(st.sampled_from(manifest.keys))])
            elif manifest.by_digest and drawn.digest:
                drawn = found(manifest.reference)
            answers[manifest] = drawn
        return answers[manifest]

    return answer


@given(policies("enforce", "warn", "mutate"), images, truths())
def test_no_image_is_approved_without_a_signature_that_its_first_rule_requires(
    compiled: CompiledPolicy, names: list[str], answer: Truth
) -> None:
    """Law: "No valid signature by any of the named live keys: unsigned. Registry trouble: per onError"."""
    for verdict in outcome_of(validate, request(*names), compiled, answer).images:
        decision, rule = verdict.decision, compiled.decide("shop", verdict.slot.value).rule
        if rule is None or not rule.signed_by:
            assert verdict.signature is None
            continue
        reference = decision.reference
        assert reference is not None
        if reference.digest is None:
            assert decision.reason == "unpinned"
            continue
        host, _, repository = (rule.signatures or reference.name).partition("/")
        live = sorted(KEYS[name] for name in rule.signed_by if name in compiled.allow.keys)
        asked = Manifest(host, repository, reference.digest, SIGNATURE, tuple(live))
        about = answer(asked) if live else MISSING
        event(about.status)
        kept = about.status == "error" and rule.on_error == "keep"
        assert decision.approved is (about.status == "found" or kept)
        assert verdict.unverified == ("connection refused" if kept else "")
        assert (verdict.signature is not None) is (about.status == "found")
        expected = {"found": "allowed", "missing": "unsigned", "error": "allowed" if kept else "unverified"}
        assert decision.reason == expected[about.status]


@given(policies("mutate"), images, truths())
def test_mutate_pins_exactly_the_digest_that_was_verified(
    compiled: CompiledPolicy, names: list[str], answer: Truth
) -> None:
    """Law: "mutate pins: resolve the tag, verify, and write exactly the digest that was verified"."""
    asked = request(*names)
    outcome = outcome_of(mutate, asked, compiled, answer)
    after = asked._replace(object=patched(asked, outcome))
    before = outcome_of(validate, asked, compiled, answer).images
    judged = outcome_of(validate, after, compiled, answer).images
    for name, unpatched, verdict in zip(names, before, judged, strict=True):
        image = verdict.slot.value
        if image.startswith(f"{name}@"):
            assert verdict.approved, "a digest makes no approved image a rejected one"
            if unpatched.decision.reason == "unpinned":
                event("pinned for its own rule")
                digest, own = image.rpartition("@")[2], compiled.decide("shop", name).manifest
                assert own is not None
                assert answer(own.located._replace(reference=digest)).status == "found"
        rule = compiled.decide("shop", image).rule
        if image != name and rule is not None and rule.signed_by:
            event("pinned")
            assert verdict.signature is not None
            tagged = compiled.decide("shop", image.partition("@")[0]).manifest
            if "@" not in name and tagged is not None:
                assert image.endswith(f"@{answer(tagged.pulled).digest}")
            continue
        event("as written" if image == name else "moved")


@given(policies("enforce", "mutate", "warn"), st.sampled_from(IMAGES), tag_answers)
def test_an_image_without_a_digest_is_unpinned(compiled: CompiledPolicy, image: str, tag: Answer) -> None:
    """Law: "An image without a digest is rejected as unpinned, and the message names the digest to write".

    "In enforce (and whatever the mutating webhook did not pin)"; "warn warns of the same".
    """
    decision = compiled.decide("shop", image)
    manifest = decision.manifest
    assume(manifest is not None and not (manifest.kind.found_approves or manifest.by_digest))
    outcome = outcome_of(validate, request(image), compiled, truth(tag))
    (verdict,) = outcome.images
    assert verdict.decision.reason == "unpinned"
    warns = compiled.policy.mode.warns
    assert outcome.verdict == ("warned" if warns else "denied")
    said = outcome.response.warnings[0] if warns else outcome.response.message
    assert (f"is unpinned: add @{tag.digest}" if tag.digest else "is unpinned: it needs a digest") in said


@given(policies("enforce", "mutate", "warn"), images, truths(), st.dictionaries(st.text(), st.text()))
def test_annotations_change_nothing(
    compiled: CompiledPolicy, names: list[str], answer: Truth, annotations: dict[str, str]
) -> None:
    """Law: "The validating endpoint decides by facts that this process looked up, never by an annotation"."""
    annotations["gatekeeper-py/original-images"] = json.dumps({"spec.containers[0].image": names[0]})
    plain, annotated = request(*names), request(*names, metadata={"annotations": annotations})
    assert outcome_of(validate, plain, compiled, answer) == outcome_of(validate, annotated, compiled, answer)


@given(images, st.sampled_from(["bundle", "simple"]), st.text(max_size=64))
def test_an_answer_about_another_key_or_digest_approves_nothing(
    names: list[str], form: Any, fingerprint: str
) -> None:
    """Law: "Removing the key from the policy is what revokes it"; only the keys of the rule count."""
    compiled = policy("[{image: r.io, signedBy: [ci-2025], onError: keep}]")
    for key, digest in ((fingerprint, DIGEST), (KEYS["ci-2026"], DIGEST), (KEYS["ci-2025"], "sha256:c")):
        answer = truth(signature=Answer("found", digest, key=key, form=form))
        for verdict in outcome_of(validate, request(*names), compiled, answer).images:
            assert not verdict.approved
            assert verdict.signature is None


@given(policies("enforce", "warn", "mutate"), images)
def test_workloads_are_approved_by_name_and_their_lookups_run_ahead(
    compiled: CompiledPolicy, names: list[str]
) -> None:
    """Law: "Templates are approved by name; their review starts the look-ups of their images"."""
    asked = request(*names, kind="Deployment")
    facts = Answers(lambda _lookup: None)
    assert validate(asked, compiled, facts) == validate(asked, compiled)
    assert not facts.missing
    answer, answers = truth(), dict[Lookup, Resolution]()
    for _ in range(ROUNDS + 1):
        needed = lookups_ahead(images_ahead(asked, compiled), compiled, "shop", answers_so_far(answers))
        answers |= {lookup: resolve(tuple(map(answer, lookup.candidates))) for lookup in needed}
    assert not needed
    for name in names:  # the Pod waits for no signature
        for endpoint in (mutate, validate):
            left = answers_so_far(answers)
            outcome = endpoint(request(name), compiled, left)
            assert not [each for each in left.missing if each.candidates[0].kind == SIGNATURE]
            event(outcome.verdict)


@pytest.mark.parametrize(
    ("mirrors", "image", "first"),
    [
        pytest.param("", "r.io/app:1", "r.io/app:1", id="tag"),
        pytest.param("", f"r.io/app:1@{DIGEST}", f"r.io/app@{DIGEST}", id="digest"),
        pytest.param(MIRRORS[1], "nginx:1", "r.io/hub/library/nginx:1", id="on-a-mirror"),
        pytest.param(MIRRORS[2], "nginx:1", "r.io/hub/library/nginx:1", id="on-the-first-of-two-mirrors"),
        pytest.param(MIRRORS[2], "free.io/x:1", "", id="no-signature-required"),
    ],
)
def test_the_first_look_up_that_runs_ahead(mirrors: str, image: str, first: str) -> None:
    compiled = policy(f"[{RULE % ''}, free.io]", mirrors, mode="mutate" if mirrors else "enforce")
    ahead = lookups_ahead(
        images_ahead(request(image, kind="Job"), compiled), compiled, "shop", Answers(lambda _lookup: None)
    )
    assert [str(lookup.candidates[0]) for lookup in ahead] == ([first] if first else [])


def test_an_error_that_is_kept_approves_only_an_image_with_a_digest() -> None:
    compiled = policy(f"[{RULE % ', onError: keep'}]", mode="warn")
    outcome = outcome_of(validate, request(f"r.io/app@{DIGEST}"), compiled, truth(signature=DOWN))
    assert outcome.response.audit_annotations["unverified"] == f"r.io/app@{DIGEST} (connection refused)"
    (warning,) = outcome_of(validate, request("r.io/app:1"), compiled, truth()).response.warnings
    assert warning == f"spec.containers[0].image: r... is unpinned: add @{DIGEST}"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request("evil.io/x:1"), id="unlisted"),
        pytest.param(request("free.io/x:1"), id="no-signature-required"),
        pytest.param(request("r.io/app:1"), id="pod"),
        pytest.param(request("r.io/app:1", kind="Deployment", operation="DELETE"), id="delete"),
        pytest.param(request("", kind="Deployment"), id="no-image"),
        pytest.param(request(5, kind="Deployment"), id="wrong-type"),  # type: ignore[arg-type]
    ],
)
def test_nothing_is_looked_up_ahead_without_need(asked: wire.AdmissionRequest) -> None:
    compiled = policy(f"[{RULE % ''}, free.io]", "deny: [r.io/denied]\n")
    ahead = images_ahead(asked, compiled)
    assert lookups_ahead(ahead, compiled, "shop", Answers(lambda _lookup: None)) == ()


UNCHANGED: Final = pod("r.io/app:1")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(
            request(containers=[{"name": "c", "image": "r.io/app:1", "imagePullPolicy": "Never"}]),
            id="never-pulled",
        ),
        pytest.param(request("r.io/app:1", old=UNCHANGED, operation="UPDATE"), id="unchanged"),
        pytest.param(request("r.io/app:1", operation="DELETE"), id="delete"),
        pytest.param(
            wire.parse(
                review(
                    pod("r.io/app:1", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
                    groups=("system:nodes",),
                )
            ),
            id="static-pod",
        ),
    ],
)
@pytest.mark.parametrize("endpoint", [mutate, validate])
def test_exempt_images_need_no_signature(
    asked: wire.AdmissionRequest, endpoint: Callable[..., Outcome]
) -> None:
    """Law: "Static Pods, imagePullPolicy: Never, DELETE and unchanged images: as for verify"."""
    facts = Answers(lambda _lookup: None)
    outcome = endpoint(asked, policy(mode="mutate"), facts)
    assert (outcome.verdict, facts.missing) == ("allowed", [])


def test_an_annotation_that_looks_like_a_pull_policy_excuses_no_image_at_a_declared_path() -> None:
    declared = "resources: [{group: '', kind: Pod, images: [metadata.annotations.proxy]}]\n"
    compiled = policy(f"[{RULE % ''}, free.io]", declared)
    annotations = {"proxy": f"r.io/app@{DIGEST}", "imagePullPolicy": "Never", "pullPolicy": "Never"}
    asked = request("free.io/app:1", metadata={"annotations": annotations})
    assert not outcome_of(validate, asked, compiled, truth(signature=MISSING)).response.allowed


@pytest.mark.parametrize(
    ("new", "approved"),
    [
        pytest.param({"containers": [{"name": "a"}]}, False, id="another-container"),
        pytest.param({"ephemeralContainers": [{"name": "e"}]}, False, id="ephemeral-container"),
        pytest.param({"containers": [{"name": "a", "imagePullPolicy": "Never"}]}, True, id="never-pulled"),
    ],
)
def test_an_update_cannot_pull_an_image_that_was_not_looked_up(
    new: dict[str, list[dict[str, Any]]], *, approved: bool
) -> None:
    image = f"r.io/app@{DIGEST}"
    never = {"name": "c", "image": image, "imagePullPolicy": "Never"}
    added = {field: [{**each, "image": image} for each in entries] for field, entries in new.items()}
    old = pod(containers=[{"name": "a", "image": "free.io/app:1"}, never])
    spec = added | {"containers": [*added.get("containers", old["spec"]["containers"][:1]), never]}
    asked = request(operation="UPDATE", old=old, **spec)
    compiled = policy(f"[{RULE % ''}, free.io]")
    assert outcome_of(validate, asked, compiled, truth(signature=MISSING)).response.allowed == approved


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        pytest.param(MISSING, "is not signed by ci-2025 or ci-2026", id="unsigned"),
        pytest.param(Answer("missing", cause=OTHER_KEY), "is signed, but by another key", id="another-key"),
        pytest.param(
            Answer("missing", cause="a blob is too long"),
            "is not signed by ci-2025 or ci-2026; a blob is too long",
            id="skipped",
        ),
    ],
)
def test_the_messages_about_unsigned_images(signature: Answer, said: str) -> None:
    answer, image = truth(signature=signature), f"r.io/app:1@{DIGEST}"
    for judge in (policy(), policy().serving(16, CacheCounts())):
        message = outcome_of(validate, request(image), judge, answer).response.message
        assert f'container "c0" (spec.containers[0].image): {image} {said} (unsigned)' in message
    (warning,) = outcome_of(mutate, request("r.io/app:1"), policy(mode="mutate"), answer).response.warnings
    assert warning == f"spec.containers[0].image: r.io/app:1 is left as written: it {said}"[:120]


@pytest.mark.parametrize(
    ("tag", "signature", "said"),
    [
        pytest.param(MISSING, None, "its digest is not known, as r.io does not have it", id="no-image"),
        pytest.param(DOWN, None, "its digest is not known: connection refused", id="no-digest"),
        pytest.param(
            found(DIGEST), DOWN, "its signature could not be verified: connection refused", id="no-signature"
        ),
    ],
)
def test_mutate_says_why_it_pins_nothing(tag: Answer, signature: Answer | None, said: str) -> None:
    asked, compiled = request("r.io/app:1"), policy(f"[{RULE % ', onError: keep'}]", mode="mutate")
    outcome = outcome_of(mutate, asked, compiled, truth(tag, signature))
    (warning,) = outcome.response.warnings
    assert warning == f"spec.containers[0].image: r.io/app:1 is left as written: {said}"


@pytest.mark.parametrize(
    ("rules", "mirrors", "image"),
    [
        pytest.param("{image: 'r.io/**:1', signedBy: [ci-2026]}, r.io", "", "r.io/app:1", id="of-the-tag"),
        pytest.param(
            "{image: 'r.io/**:1', pin: true}, {image: r.io, signedBy: [ci-2026]}",
            "",
            "r.io/app:1",
            id="of-the-digest",
        ),
        pytest.param(RULE % "", MIRRORS[1], f"nginx@{DIGEST}", id="of-a-digest-on-a-mirror"),
    ],
)
def test_mutate_writes_nothing_without_the_signatures_that_the_rules_require(
    rules: str, mirrors: str, image: str
) -> None:
    asked, compiled = request(image), policy(f"[{rules}]", mirrors, mode="mutate")
    assert outcome_of(mutate, asked, compiled, truth()).verdict == "mutated"
    assert outcome_of(mutate, asked, compiled, truth(signature=MISSING)).verdict == "allowed"


def test_a_key_past_its_end_does_not_count() -> None:
    policy_ = parse_policy(
        policy_text(keys_text(until="2026-04-01"), allow="[{image: r.io, signedBy: [ci-2026]}]")
    )
    compiled, image = policy_.at(INSTANT), f"r.io/app@{DIGEST}"
    end = compiled.next_change
    assert end is not None
    assert f"{end:%Y-%m-%d}" == "2026-04-01"
    assert outcome_of(validate, request(image), compiled, truth()).response.allowed
    facts = Answers(lambda _lookup: None)
    message = validate(request(image), policy_.at(end), facts).response.message
    assert "is not signed by a key that is live, and ci-2026 expired (unsigned)" in message
    assert not facts.missing


def test_the_audit_annotation_names_the_keys() -> None:
    asked = request(f"r.io/app:1@{DIGEST}", f"r.io/b@{DIGEST}")
    outcome = outcome_of(validate, asked, policy(), truth())
    assert outcome.images[0].signature == Signature("ci-2026", "bundle")
    assert str(outcome.images[0].signature) == "signed by ci-2026 (bundle)"
    signed_images = outcome.response.audit_annotations["signed"]
    assert signed_images == f"r.io/app:1@{DIGEST} by ci-2026, r.io/b@{DIGEST} by ci-2026"
    # So the hot path, which writes no such annotation, leaves these Pods to validate.
    assert certainly_approved(asked, policy(), lambda _manifest: True) is None


@pytest.mark.parametrize(
    ("rule", "image", "asked"),
    [
        pytest.param("", "r.io/a/b", Manifest("r.io", "a/b", DIGEST), id="of-the-image"),
        pytest.param(
            f", {SIGNATURES}",
            "r.io/a",
            Manifest("s.io", "signatures", DIGEST),
            id="elsewhere",
        ),
        pytest.param(", signatures: r.io/a", "r.io/a", Manifest("r.io", "a", DIGEST), id="written-out"),
        pytest.param("", "nginx", Manifest("r.io", "hub/library/nginx", DIGEST), id="of-the-mirror"),
    ],
)
def test_the_signature_is_looked_for_where_the_image_is_pulled_from(
    rule: str, image: str, asked: Manifest
) -> None:
    """Law: "The signature is looked for where the image will be pulled from, or in signatures"."""
    compiled = policy(f"[{RULE % rule}]", MIRRORS[1], mode="mutate")
    needed: dict[Manifest, Answer] = {}
    outcome_of(mutate, request(image), compiled, lambda each: needed.setdefault(each, truth()(each)))
    assert asked._replace(kind=SIGNATURE, keys=tuple(sorted(KEYS.values()))) in needed
    assert asked.host in compiled.looked_up_hosts


def test_an_image_that_its_mirror_refuses_stays_refused() -> None:
    compiled = policy(f"[{RULE % ''}, docker.io]", MIRRORS[3], mode="mutate")
    refusing = policy("[{image: docker.io, signedBy: [ci-2025]}, r.io]", MIRRORS[3], mode="mutate")
    for judge, image in ((compiled, "nginx:1"), (refusing, f"nginx@{DIGEST}")):
        (verdict,) = outcome_of(validate, request(image), judge, truth(MISSING)).images
        assert verdict.decision.reason == "absent"


@pytest.mark.parametrize(
    ("overrides", "denied", "signature", "approved"),
    [
        pytest.param("", False, MISSING, False, id="unsigned"),
        pytest.param("overrides: deny", False, MISSING, False, id="unsigned-and-only-deny-is-overridden"),
        pytest.param("overrides: signature", False, MISSING, True, id="unsigned-and-signature-is-overridden"),
        pytest.param("overrides: signature", False, DOWN, True, id="unverified-and-overridden"),
        pytest.param("overrides: [deny, signature]", False, MISSING, True, id="unsigned-and-both"),
        pytest.param("overrides: signature", True, MISSING, False, id="denied-and-only-signature"),
        pytest.param("overrides: deny", True, MISSING, False, id="denied-and-unsigned-and-only-deny"),
        pytest.param("overrides: deny", True, None, True, id="denied-and-signed"),
        pytest.param("overrides: [deny, signature]", True, MISSING, True, id="denied-and-unsigned-and-both"),
    ],
)
@pytest.mark.parametrize("image", [f"r.io/app@{DIGEST}", "r.io/app:1"])
@pytest.mark.parametrize("pattern", ["r.io", "r.io/**@*"])
def test_an_exception_replaces_a_signature_only_if_its_grant_overrides_signatures(
    overrides: str, *, denied: bool, signature: Answer | None, approved: bool, image: str, pattern: str
) -> None:
    """Law: "An exception approves without a signature only if its grant says overrides: signature".

    A rule for digests also protects the tags, which no rule approves.
    """
    allow = f"[{RULE % ''}]".replace("r.io", pattern)
    grant = f"exceptions: [{{source: break-glass, images: [r.io], longest: 2h, {overrides}}}]\n"
    deny = "deny: [r.io/app]\n" if denied else ""
    entry = "image: r.io, until: 2026-03-01T13:00:00Z, reason: r"
    document = parse_exceptions(exceptions_text(entry), "break-glass")
    exceptions = Exceptions({DocumentKey("break-glass", "gatekeeper"): document})
    compiled = policy(allow, grant + deny).policy.at(INSTANT, exceptions)
    answer = truth(signature=signature)
    for judge in (compiled, compiled.serving(16, CacheCounts())):
        outcome = outcome_of(validate, request(image), judge, answer)
        # Without a digest, nothing can be signed.
        expected = approved and not (signature is None and ":1" in image)
        assert outcome.response.allowed is expected
        assert ("exceptions" in outcome.response.audit_annotations) is expected
        if expected and not denied and (":1" not in image or pattern == "r.io"):
            assert ", although it " in outcome.images[0].decision.detail
    # Without the document, nothing is approved.
    plain = policy(allow, grant)
    assert not outcome_of(validate, request(image), plain, truth(signature=MISSING)).response.allowed


@pytest.mark.parametrize(
    ("image", "options", "warning"),
    [
        pytest.param("r.io/app:1", {}, f"r.io/app:1{REFUSED}", id="no-digest"),
        pytest.param("r.io/app:1", {"mode": "warn"}, "is unpinned: it needs a digest", id="in-warn"),
        pytest.param("r.io/app:1", {"mode": "mutate"}, "", id="mutate-writes-the-digest"),
        pytest.param(f"r.io/app@{DIGEST}", {}, "", id="digest"),
        pytest.param(
            f"r.io/app@{DIGEST}",
            {
                "allow": "[{image: r.io, signedBy: [ci-2026]}]",
                "until": "2020-01-01",
            },
            f": r.io/app@sha256:{'a' * 19}...{REFUSED}",
            id="no-live-key",
        ),
    ],
)
def test_an_update_warns_about_kept_images_that_new_pods_may_not_have_even_if_all_are_signed(
    image: str, options: dict[str, str], warning: str
) -> None:
    old = workload("Deployment", image)
    new = workload("Deployment", image)
    new["spec"]["template"]["metadata"] = {"annotations": {"restartedAt": "now"}}
    parsed = wire.parse(review(new, operation="UPDATE", old=old))
    outcome = outcome_of(validate, parsed, policy(**options), truth())
    assert outcome.response.allowed
    warnings = outcome.response.warnings
    assert [warning in each for each in warnings] == [True] * bool(warning)


def test_an_update_warns_about_kept_images_when_all_keys_have_expired() -> None:
    key = {"name": "ci", "key": PUBLIC_KEYS["ci-2026"], "until": "2020-01-01"}
    text = policy_text(
        f"keys: {json.dumps([key])}\n", mode="enforce", allow="[{image: r.io, signedBy: [ci]}]"
    )
    image = f"r.io/app@{DIGEST}"
    old, new = workload("Deployment", image), workload("Deployment", image)
    new["spec"]["template"]["metadata"] = {"annotations": {"restartedAt": "now"}}
    parsed = wire.parse(review(new, operation="UPDATE", old=old))
    (warning,) = outcome_of(validate, parsed, parse_policy(text).at(INSTANT), truth()).response.warnings
    assert warning.endswith(REFUSED)


def test_two_grants_of_which_each_overrides_one_thing_are_not_one_that_overrides_both() -> None:
    grants = (
        "images: [r.io], longest: 2h, overrides: deny",
        "images: [r.io/*], longest: 2h, overrides: signature",
    )
    listed = ", ".join(f"{{source: break-glass, {each}}}" for each in grants)
    entry = "image: r.io/app, until: 2026-03-01T13:00:00Z, reason: r"
    document = parse_exceptions(exceptions_text(entry), "break-glass")
    exceptions = Exceptions({DocumentKey("break-glass", "gatekeeper"): document})
    at_digest = f"r.io/app@{DIGEST}"
    for deny, image, approved in (
        ("deny: [r.io/app]\n", at_digest, False),
        (f"deny: ['{at_digest}']\n", "r.io/app:1", False),
        (f"deny: ['r.io/app@{OTHER}']\n", "r.io/app:1", True),
        ("", at_digest, True),
    ):
        compiled = policy(more=f"{deny}exceptions: [{listed}]\n").policy.at(INSTANT, exceptions)
        outcome = outcome_of(validate, request(image), compiled, truth(signature=MISSING))
        assert outcome.response.allowed is approved


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_an_image_whose_digest_is_denied_is_denied_and_not_unpinned(mode: str) -> None:
    """Rule: "as denied, if a look-up found a digest that a deny rule names"."""
    compiled = policy(f"[{RULE % ''}]", f"deny: ['r.io/app@{DIGEST}']\n", mode=mode)
    (verdict,) = outcome_of(validate, request("r.io/app:1"), compiled, truth()).images
    assert verdict.decision.reason == "denied"
    assert not outcome_of(mutate, request("r.io/app:1"), compiled, truth()).response.patch


def test_explain_shows_the_signature() -> None:
    compiled, image = policy(mode="mutate"), f"r.io/app@{DIGEST}"
    explanation = explain(compiled, None, image, known(truth()))
    assert explanation.verdict.signature == Signature("ci-2026", "bundle")
    assert explanation.answer is not None
    assert explanation.answer.key == KEYS["ci-2026"]
    explanation = explain(compiled, None, "r.io/app:1", known(truth()))
    assert explanation.verdict.in_words == "approved"  # as written by the mutating webhook
    assert (explanation.rewritten, explanation.verdict.signature) == (
        image.replace("app", "app:1"),
        Signature("ci-2026", "bundle"),
    )
    assert explanation.answer == found(DIGEST)
    unsigned = explain(compiled, None, "r.io/app:1", known(truth(signature=MISSING)))
    assert (unsigned.verdict.decision.reason, unsigned.rewritten) == ("unpinned", None)
