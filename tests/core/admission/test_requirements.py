"""Requirements: what an image with an approved name must also be (docs/policy.md, "Requirements").

The laws are in ``tests/property``. Each row here is a case that a page names, or a message that users read.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import pytest

from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import BY_NAME, certainly_approved, mutate, validate
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.admission.world import NOTHING_KNOWN
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, SIGNATURE, Answer, Manifest, found
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from support.builders import INSTANT, exceptions_text, keys_text, pod, policy_text, review, workload
from support.worlds import (
    DIGEST,
    DOWN,
    FINGERPRINTS,
    OTHER,
    Truth,
    known,
    needed,
    outcome_of,
    request,
    response_of,
    stored,
    truth,
)

EXISTS: Final = "{images: [r.io], exists: true}"
STRICT: Final = "{images: [r.io], exists: true, onError: deny}"
PINNED: Final = "{images: [r.io], digest: true}"
FOUND_AND_PINNED: Final = "{images: [r.io], digest: true, exists: true}"
EVERYWHERE: Final = "{images: ['*/**'], digest: true}"
SIGNED: Final = "{images: [r.io], signedBy: [ci-2025, ci-2026]}"
BY_FIRST, BY_SECOND = "{images: [r.io], signedBy: [ci-2025]}", "{images: [r.io], signedBy: [ci-2026]}"
TAG, AT_DIGEST = "r.io/app:1", f"r.io/app:1@{DIGEST}"
HUB: Final = "mirrors: [{from: docker.io, to: r.io/hub}]\n"


@cache
def policy(
    *require: str,
    more: str = "",
    mode: str = "enforce",
    allow: str = "[r.io, docker.io, free.io]",
    **key: str,
) -> CompiledPolicy:
    """Return a policy with requirements. ``key`` has other fields of the key ci-2026."""
    text = f"{keys_text(**key)}require: [{', '.join(require)}]\n{more}"
    return parse_policy(policy_text(text, mode=mode, allow=allow)).at(INSTANT)


UNPINNED, ADD = "is unpinned: it needs a digest", f"is unpinned: add @{DIGEST}"
ABSENT, UNVERIFIED = (
    "does not exist in r.io (absent)",
    "could not be verified: connection refused (unverified)",
)
UNSIGNED: Final = "is not signed by ci-2025 or ci-2026 (unsigned)"
OTHER_SIGNED: Final = "is signed, but by another key (unsigned)"
SKIPPED: Final = "is not signed by ci-2025 or ci-2026; a blob is too long (unsigned)"
MORE: Final = " more unmet requirement"
GOOD, GONE, ERROR = truth(), truth(MISSING), truth(DOWN)
"""Worlds in which ci-2026 signed all images, no image exists, and no image can be looked up."""

NO_KEY, NO_ANSWER = truth(signature=MISSING), truth(signature=DOWN)
BY_OTHER = truth(signature=Answer("missing", cause=OTHER_KEY))
OTHER_DIGEST = truth(signature=Answer("found", OTHER, key=FINGERPRINTS["ci-2026"], form="bundle"))
UNKNOWN_KEY = truth(signature=Answer("found", DIGEST, key="x", form="bundle"))
TOO_LONG = truth(signature=Answer("missing", cause="a blob is too long"))


def but(requirement: str, more: str) -> str:
    """Return the requirement with one more field."""
    return f"{requirement.removesuffix('}')}, {more}}}"


def cases(columns: str, rows: dict[str, tuple[Any, ...]]) -> pytest.MarkDecorator:
    """Return the parameters of a test as a table of rows by name."""
    return pytest.mark.parametrize(
        columns.split(), [pytest.param(*row, id=name) for name, row in rows.items()]
    )


def reason_of(said: str) -> str:
    """Return the reason of a verdict that users read these words about."""
    return "unpinned" if "is unpinned" in said else said.partition("(")[2].partition(")")[0] or "allowed"


@pytest.mark.parametrize("mode", ["enforce", "warn"])
@cases(
    "require image world said",
    {
        "exists": ([EXISTS], TAG, GOOD, ""),
        "absent": ([EXISTS], TAG, GONE, ABSENT),
        "error-is-kept": ([EXISTS], TAG, ERROR, ""),
        "error-is-denied": ([STRICT], TAG, ERROR, UNVERIFIED),
        "tag": ([PINNED], TAG, GOOD, UNPINNED),
        "digest-that-nobody-looks-up": ([PINNED], AT_DIGEST, GONE, ""),
        "found-tag": ([FOUND_AND_PINNED], TAG, GOOD, ADD),
        "missing-tag": ([FOUND_AND_PINNED], TAG, GONE, UNPINNED),
        "in-every-registry": ([EVERYWHERE], "free.io/x:1", GOOD, UNPINNED),
        "tag-with-a-signature": ([SIGNED], TAG, GOOD, ADD),
        "tag-after-an-error": ([SIGNED], TAG, ERROR, UNPINNED),
        "signed": ([SIGNED], AT_DIGEST, GOOD, ""),
        "signed-so-it-exists": ([SIGNED], AT_DIGEST, GONE, ""),
        "unsigned": ([SIGNED], AT_DIGEST, NO_KEY, UNSIGNED),
        "another-key": ([SIGNED], AT_DIGEST, BY_OTHER, OTHER_SIGNED),
        "answer-about-another-digest": ([SIGNED], AT_DIGEST, OTHER_DIGEST, OTHER_SIGNED),
        "answer-about-no-key-of-the-policy": ([SIGNED], AT_DIGEST, UNKNOWN_KEY, OTHER_SIGNED),
        "skipped-signature": ([SIGNED], AT_DIGEST, TOO_LONG, SKIPPED),
        "no-answer": ([SIGNED], AT_DIGEST, NO_ANSWER, UNVERIFIED),
        "no-answer-is-kept": ([but(SIGNED, "onError: keep")], AT_DIGEST, NO_ANSWER, ""),
        "one-of-two-lists-of-keys": (
            [BY_FIRST, EXISTS, BY_SECOND],
            AT_DIGEST,
            GOOD,
            "is not signed by ci-2025 (unsigned)",
        ),
        "the-first-in-the-document": (
            [EXISTS, BY_SECOND, PINNED, BY_FIRST],
            TAG,
            GONE,
            f"{ABSENT}; 3{MORE}s",
        ),
        "another-registry": ([EXISTS, PINNED], "free.io/x:1", GONE, ""),
        "spared": ([but(PINNED, "except: ['r.io/app:1']")], TAG, GOOD, ""),
        "another-namespace": ([but(PINNED, "namespaces: [prod-*]")], TAG, GOOD, ""),
        "this-namespace": ([but(PINNED, "namespaces: [sh*]")], TAG, GOOD, UNPINNED),
    },
)
def test_an_image_must_meet_every_requirement(
    mode: str, require: list[str], image: str, world: Truth, said: str
) -> None:
    compiled, asked = policy(*require, mode=mode), request(image)
    for judging in (compiled, compiled.serving(16, CacheCounts())):
        outcome = outcome_of(validate, asked, judging, world)
        assert outcome.images[0].decision.reason == reason_of(said)
        response = response_of(outcome, asked)
        assert response.allowed is (mode == "warn" or not said)
        if said and mode == "enforce":
            assert f'container "c0" (spec.containers[0].image): {image} {said}\n' in response.message
        assert len(response.warnings) == (mode == "warn" and bool(said))


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
@cases(
    "require image world said",
    {
        "absent": ([EXISTS], TAG, GONE, ABSENT),
        "an-error-counts-as-not-met": ([EXISTS], TAG, ERROR, UNVERIFIED),
        "unsigned": ([SIGNED], AT_DIGEST, NO_KEY, UNSIGNED),
        "two": ([EXISTS, SIGNED], AT_DIGEST, truth(MISSING, MISSING), f"{ABSENT}; 1{MORE}"),
        "met": ([SIGNED], AT_DIGEST, GOOD, ""),
    },
)
def test_a_requirement_that_warns_never_rejects(
    mode: str, require: list[str], image: str, world: Truth, said: str
) -> None:
    """Law: "not met or not verifiable is a warning and a word in the audit annotation unmet"."""
    asked, compiled = request(image), policy(*(but(each, "mode: warn") for each in require), mode=mode)
    outcome = outcome_of(validate, asked, compiled, world)
    response = response_of(outcome, asked)
    assert response.allowed
    assert [each.split(" ", 1)[0] for each in response.warnings] == ["spec.containers[0].image:"] * bool(said)
    assert all(said[:30] in each for each in response.warnings)
    assert response.audit.get("unmet") == (f"{image} {said}" if said else None)
    assert outcome.verdict == ("warned" if said else "allowed")


def test_of_an_image_that_is_rejected_a_requirement_that_warns_is_only_in_the_audit_annotation() -> None:
    compiled = policy(but(EXISTS, "mode: warn"), PINNED)
    outcome = outcome_of(validate, request(TAG, "r.io/b:1"), compiled, truth(MISSING))
    assert [each.decision.detail for each in outcome.images] == [UNPINNED] * 2
    assert outcome.response.warnings == ()
    assert outcome.response.audit_annotations["unmet"] == f"{TAG} {ABSENT}, r.io/b:1 {ABSENT}"


@cases(
    "image more reason",
    {
        "as-written": ("nginx:1", "", "unpinned"),
        "on-a-mirror": ("r.io/hub/library/nginx:1", HUB, "unpinned"),
        "without-the-mirror": ("r.io/hub/library/nginx:1", "", "allowed"),
        "except-matches-the-origin": ("r.io/hub/library/spared:1", HUB, "allowed"),
        "except-matches-another-name": ("r.io/hub/library/own:1", HUB, "unpinned"),
        "with-a-digest": (f"r.io/hub/library/nginx@{DIGEST}", HUB, "allowed"),
    },
)
def test_requirements_follow_mirrors(image: str, more: str, reason: str) -> None:
    excepts = "except: [docker.io/library/spared, r.io/hub/library/own]"
    compiled = policy(f"{{images: [docker.io], digest: true, {excepts}}}", more=more)
    assert validate(request(image), compiled).images[0].decision.reason == reason


@pytest.mark.parametrize("require", ["exists: true", "signedBy: [ci-2025]"])
def test_of_an_image_that_is_required_by_its_origin_the_mirror_is_asked(require: str) -> None:
    compiled, image = (
        policy(f"{{images: [docker.io], {require}}}", more=HUB),
        f"r.io/hub/library/nginx@{DIGEST}",
    )
    assert needed(validate, request(image), compiled) == (image,)
    assert compiled.looked_up_hosts == {"docker.io", "r.io"}


STAYS, MOVED = "is left as written: ", "was moved to its mirror, but not pinned: "
UNKNOWN: Final = f"{STAYS}its digest is unknown"
ON_HUB, ON_HUB_AT_DIGEST = "r.io/hub/library/nginx:1", f"r.io/hub/library/nginx:1@{DIGEST}"
FREE, FREE_AT_DIGEST = "free.io/x:1", f"free.io/x:1@{DIGEST}"
LISTED: Final = "registries: [{host: free.io}]\n"
BY_DIGEST: Final = "{images: ['r.io/**@*'], signedBy: [ci-2025]}"
NOT_BY_FIRST: Final = f"{STAYS}it is not signed by ci-2025 (unsigned)"
HUB_PINNED: Final = "{images: [docker.io], digest: true}"


@cases(
    "require more image world becomes said reason",
    {
        "exists-pins-nothing": ([EXISTS], "", TAG, GOOD, TAG, "", "allowed"),
        "digest": ([PINNED], "", TAG, GOOD, AT_DIGEST, "", "allowed"),
        "digest-that-warns": ([but(PINNED, "mode: warn")], "", TAG, GOOD, AT_DIGEST, "", "allowed"),
        "own-digest": ([PINNED], "", f"r.io/b@{OTHER}", GOOD, f"r.io/b@{OTHER}", "", "allowed"),
        "missing": ([PINNED], "", TAG, GONE, TAG, f"{UNKNOWN}: r.io does not have it", "unpinned"),
        "error-is-kept": ([PINNED], "", TAG, ERROR, TAG, f"{UNKNOWN}: connection", "allowed"),
        "error-is-denied": ([but(PINNED, "onError: deny")], "", TAG, ERROR, TAG, UNKNOWN, "unverified"),
        "signed": ([SIGNED], "", TAG, GOOD, AT_DIGEST, "", "allowed"),
        "signed-but-error": ([but(SIGNED, "onError: keep")], "", TAG, ERROR, TAG, UNKNOWN, "unpinned"),
        "unsigned": ([SIGNED], "", TAG, NO_KEY, TAG, f"{STAYS}it {UNSIGNED}", "unpinned"),
        "no-answer": ([PINNED, SIGNED], "", TAG, NO_ANSWER, TAG, f"{STAYS}it {UNVERIFIED}", "unpinned"),
        "one-of-two-signatures": ([BY_FIRST, BY_SECOND], "", TAG, GOOD, TAG, NOT_BY_FIRST, "unpinned"),
        "only-the-digest-needs-it": ([BY_DIGEST, PINNED], "", TAG, GOOD, TAG, NOT_BY_FIRST, "unpinned"),
        "on-a-mirror": ([PINNED], HUB, "nginx:1", GOOD, ON_HUB_AT_DIGEST, "", "allowed"),
        "by-its-origin": ([HUB_PINNED], HUB, "nginx:1", GOOD, ON_HUB_AT_DIGEST, "", "allowed"),
        "unsigned-on-a-mirror": ([SIGNED], HUB, "nginx:1", NO_KEY, ON_HUB, f"{MOVED}it is not", "unpinned"),
        "listed-host": ([EVERYWHERE], LISTED, FREE, GOOD, FREE_AT_DIGEST, "", "allowed"),
        "another-host": ([EVERYWHERE], "", FREE, GOOD, FREE, "", "unpinned"),
    },
)
def test_mutate_mode_writes_the_digest_that_requirements_ask_for(
    require: list[str], more: str, image: str, world: Truth, becomes: str, said: str, reason: str
) -> None:
    """It writes exactly the digest that was verified. What it cannot write, the validating webhook judges."""
    compiled, asked = policy(*require, more=more, mode="mutate"), request(image)
    outcome = outcome_of(mutate, asked, compiled, world)
    assert stored(asked, compiled, world) == (becomes,)
    warnings = [each for each in outcome.response.warnings if " was rewritten to " not in each]
    assert [said[:40] in each for each in warnings] == [True] * bool(said)
    after = outcome_of(validate, request(becomes), compiled, world)
    assert after.images[0].decision.reason == reason


def test_a_denial_names_the_reason_and_the_owner_of_a_requirement() -> None:
    text = "{images: [r.io], digest: true, reason: fixed builds, owner: platform}"
    message = validate(request("r.io/x:1"), policy(text)).response.message
    assert "is unpinned: it needs a digest (fixed builds, owner platform)" in message


def test_an_image_whose_host_may_not_be_contacted_is_refused_with_what_to_add() -> None:
    message = validate(request("free.io/x:1"), policy(EVERYWHERE, mode="mutate")).response.message
    assert "is unpinned: it needs a digest, and free.io is not listed under registries" in message


@pytest.mark.parametrize(
    ("allow", "reason"),
    [("['r.io/**:1', r.io/other]", "unpinned"), ("['r.io/**:1', 'r.io/**@*']", "allowed")],
)
def test_offline_a_digest_will_be_written_where_a_rule_approves_it(allow: str, reason: str) -> None:
    compiled = policy(PINNED, allow=allow, mode="mutate")
    (verdict,) = validate(request(TAG), compiled).images
    assert verdict.decision.reason == reason
    assert verdict.requirements[0].met is (None if reason == "allowed" else False)


@cases(
    "require mode image approved",
    {
        "tag": (PINNED, "enforce", TAG, False),
        "tag-in-warn": (PINNED, "warn", TAG, False),
        "tag-that-will-be-pinned": (PINNED, "mutate", TAG, True),
        "tag-that-nobody-can-pin": (EVERYWHERE, "mutate", FREE, False),
        "tag-without-a-signature": (SIGNED, "enforce", TAG, False),
        "digest-is-not-looked-up": (SIGNED, "enforce", AT_DIGEST, True),
        "existence-is-not-looked-up": (STRICT, "enforce", TAG, True),
    },
)
def test_templates_are_judged_by_names(require: str, mode: str, image: str, *, approved: bool) -> None:
    asked, compiled = request(image, kind="Deployment"), policy(require, mode=mode)
    assert needed(validate, asked, compiled) == ()
    outcome = outcome_of(validate, asked, compiled, truth(DOWN, DOWN))
    assert outcome.images[0].approved is approved


NEVER: Final[dict[str, Any]] = {"imagePullPolicy": "Never"}
NEVER_TAG, NEVER_DIGEST = (request(containers=[{"image": each, **NEVER}]) for each in (TAG, AT_DIGEST))
NEVER_VOLUME = request(FREE, volumes=[{"name": "v", "image": {"reference": TAG, "pullPolicy": "Never"}}])
STATIC: Final = wire.parse(
    review(pod(TAG, metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), groups=("system:nodes",))
)


@cases(
    "require asked approved",
    {
        "exists": (STRICT, NEVER_TAG, True),
        "digest": (PINNED, NEVER_TAG, False),
        "signature-of-a-tag": (SIGNED, NEVER_TAG, False),
        "signature": (SIGNED, NEVER_DIGEST, True),
        "volume": (STRICT, NEVER_VOLUME, True),
        "unchanged": (SIGNED, request(TAG, operation="UPDATE"), True),
        "delete": (SIGNED, request(TAG, operation="DELETE"), True),
        "static-pod": (SIGNED, STATIC, True),
        "unlisted": (STRICT, request("evil.io/x:1"), False),
        "denied": (STRICT, request("r.io/denied:1"), False),
        "invalid": (STRICT, request("A b"), False),
    },
)
@pytest.mark.parametrize("mode", ["enforce", "mutate"])
def test_exempt_images_are_not_looked_up(
    require: str, asked: wire.AdmissionRequest, mode: str, *, approved: bool
) -> None:
    """Law: "What is not pulled is not looked up; a digest is required of it all the same"."""
    compiled = policy(require, more="deny: [r.io/denied]\n", mode=mode)
    for endpoint in (mutate, validate):
        assert needed(endpoint, asked, compiled) == ()
    assert validate(asked, compiled).response.allowed is approved


def test_an_annotation_that_looks_like_a_pull_policy_excuses_no_image_at_a_declared_path() -> None:
    declared = "resources: [{group: '', kind: Pod, images: [metadata.annotations.proxy]}]\n"
    annotations = {"proxy": AT_DIGEST, "imagePullPolicy": "Never", "pullPolicy": "Never"}
    asked = request("free.io/app:1", metadata={"annotations": annotations})
    compiled = policy(SIGNED, more=declared)
    assert not outcome_of(validate, asked, compiled, truth(signature=MISSING)).response.allowed


@pytest.mark.parametrize(
    ("new", "approved"),
    [
        pytest.param({"containers": [{"name": "a"}]}, False, id="another-container"),
        pytest.param({"ephemeralContainers": [{"name": "e"}]}, False, id="ephemeral-container"),
        pytest.param({"containers": [{"name": "a", **NEVER}]}, True, id="never-pulled"),
    ],
)
def test_an_update_cannot_pull_an_image_that_was_not_looked_up(
    new: dict[str, list[dict[str, Any]]], *, approved: bool
) -> None:
    never = {"name": "c", "image": AT_DIGEST, **NEVER}
    added = {field: [{**each, "image": AT_DIGEST} for each in entries] for field, entries in new.items()}
    old = pod(containers=[{"name": "a", "image": "free.io/app:1"}, never])
    spec = added | {"containers": [*added.get("containers", old["spec"]["containers"][:1]), never]}
    asked = request(operation="UPDATE", old=old, **spec)
    outcome = outcome_of(validate, asked, policy(SIGNED), truth(signature=MISSING))
    assert outcome.response.allowed is approved


R_IO, S_IO = Manifest("r.io", "a", DIGEST, SIGNATURE), Manifest("s.io", "s", DIGEST, SIGNATURE)


@cases(
    "require more image asked",
    {
        "not-the-tag-beside-it": (EXISTS, "", TAG, [Manifest("r.io", "app", DIGEST)]),
        "only-a-digest-is-required": (PINNED, "", TAG, []),
        "signature": (SIGNED, "", "r.io/a/b", [Manifest("r.io", "a/b", DIGEST, SIGNATURE)]),
        "elsewhere": (
            but(SIGNED, "signatures: s.io/s"),
            "",
            "r.io/a",
            [S_IO],
        ),
        "written-out": (
            but(SIGNED, "signatures: r.io/a"),
            "",
            "r.io/a",
            [R_IO],
        ),
        "on-the-mirror": (SIGNED, HUB, "nginx", [Manifest("r.io", "hub/library/nginx", DIGEST, SIGNATURE)]),
    },
)
def test_what_is_looked_up_of_a_digest(require: str, more: str, image: str, asked: list[Manifest]) -> None:
    """Law: "The signature is looked for where the image will be pulled from, or in signatures"."""
    compiled = policy(require, more=more, mode="mutate")
    queried = set[Manifest]()

    def answer(manifest: Manifest) -> Answer:
        queried.add(manifest)
        return truth()(manifest)

    outcome_of(mutate, request(f"{image}@{DIGEST}"), compiled, answer)
    written = stored(request(f"{image}@{DIGEST}"), compiled, GOOD)[0]
    outcome_of(validate, request(written), compiled, answer)
    keys = tuple(sorted(FINGERPRINTS.values()))
    assert queried == {each._replace(keys=keys if each.kind == SIGNATURE else ()) for each in asked}
    assert {each.host for each in asked} <= compiled.looked_up_hosts


@cases(
    "overrides denied signature approved",
    {
        "unsigned": ("", False, MISSING, False),
        "unsigned-and-only-deny-is-overridden": ("overrides: deny", False, MISSING, False),
        "unsigned-and-overridden": ("overrides: require", False, MISSING, True),
        "unverified-and-overridden": ("overrides: require", False, DOWN, True),
        "unsigned-and-both": ("overrides: [deny, require]", False, MISSING, True),
        "denied-and-only-require": ("overrides: require", True, MISSING, False),
        "denied-and-unsigned-and-only-deny": ("overrides: deny", True, MISSING, False),
        "denied-and-signed": ("overrides: deny", True, "ci-2026", True),
        "denied-and-unsigned-and-both": ("overrides: [deny, require]", True, MISSING, True),
    },
)
@pytest.mark.parametrize("image", [AT_DIGEST, TAG])
@pytest.mark.parametrize("pattern", ["r.io", "r.io/**@*"])
def test_an_exception_replaces_a_requirement_only_if_its_grant_overrides_requirements(
    overrides: str, *, denied: bool, signature: Answer | str, approved: bool, image: str, pattern: str
) -> None:
    """Law: "Requirements hold for an excepted image as for any other, unless its grant overrides require"."""
    grant = f"exceptions: [{{source: break-glass, images: [r.io], longest: 2h, {overrides}}}]\n"
    deny = "deny: [r.io/app]\n" if denied else ""
    plain = policy(SIGNED, more=grant + deny, allow=f"['{pattern}']")
    compiled = excepting(plain, "r.io")
    for judging in (compiled, compiled.serving(16, CacheCounts())):
        outcome = outcome_of(validate, request(image), judging, truth(signature=signature))
        expected = approved and (
            "@" in image or signature != "ci-2026"
        )  # without a digest, nothing is signed
        assert outcome.response.allowed is expected
        assert ("exceptions" in outcome.response.audit_annotations) is expected
    assert not outcome_of(validate, request(image), plain, truth(signature=MISSING)).response.allowed


def excepting(compiled: CompiledPolicy, pattern: str) -> CompiledPolicy:
    """Return the policy with an exception of the source break-glass."""
    entry = f"image: '{pattern}', until: 2026-03-01T13:00:00Z, reason: r"
    document = parse_exceptions(exceptions_text(entry), "break-glass")
    return compiled.policy.at(INSTANT, Exceptions({DocumentKey("break-glass", "gatekeeper"): document}))


@cases(
    "deny image split joined",
    {
        "denied-name": ("r.io/app", AT_DIGEST, False, True),
        "denied-digest-that-a-look-up-found": (f"r.io/app@{DIGEST}", TAG, False, True),
        "another-digest": (f"r.io/app@{OTHER}", TAG, True, True),
        "not-denied": ("", AT_DIGEST, True, True),
    },
)
def test_one_grant_must_override_both_the_denial_and_the_requirement(
    deny: str, image: str, *, split: bool, joined: bool
) -> None:
    more = f"deny: ['{deny}']\n" if deny else ""
    for grants, approved in ((["deny", "require"], split), (["[deny, require]"], joined)):
        listed = ", ".join(
            f"{{source: break-glass, images: [r.io/*], longest: 2h, overrides: {each}}}" for each in grants
        )
        plain = policy(SIGNED, more=f"{more}exceptions: [{listed}]\n")
        compiled = excepting(plain, "r.io/app")
        outcome = outcome_of(validate, request(image), compiled, truth(signature=MISSING))
        assert outcome.response.allowed is approved


def test_an_exception_for_a_name_does_not_replace_what_is_required_of_it() -> None:
    grant = "exceptions: [{source: break-glass, images: [x.io], longest: 2h}]\n"
    compiled = excepting(policy("{images: ['*/**'], digest: true}", more=grant), "x.io")
    assert validate(request("x.io/a:1"), compiled).images[0].decision.reason == "unpinned"
    assert validate(request(f"x.io/a@{DIGEST}"), compiled).images[0].decision.reason == "exception"


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
@pytest.mark.parametrize("require", [EXISTS, SIGNED, FOUND_AND_PINNED])
def test_an_image_whose_digest_is_denied_is_denied_and_not_pinned(mode: str, require: str) -> None:
    """Rule: "as denied, if a look-up found a digest that a deny rule names"."""
    deny = f"deny: [{{image: 'r.io/app@{DIGEST}', reason: recalled}}]\n"
    compiled = policy(require, more=deny, mode=mode)
    outcome = outcome_of(validate, request(TAG), compiled, truth())
    assert outcome.images[0].decision.reason == "denied"
    assert outcome.images[0].decision.canonical == TAG
    if mode == "warn":
        assert outcome.response.warnings == (f"spec.containers[0].image: {TAG} is denied",)
    else:
        said = f"{TAG} is not approved: {TAG}@{DIGEST} is denied by deny[0] r.io/app@{DIGEST} (recalled)"
        assert said in outcome.response.message
    mutated = outcome_of(mutate, request(TAG), compiled, truth())
    assert mutated.response.patch == ()
    if mode == "mutate" and require != EXISTS:
        assert mutated.response.warnings[0].endswith("is left as written: its digest is denied")
    other = outcome_of(validate, request(f"r.io/app@{OTHER}"), compiled, truth(found(OTHER)))
    assert other.response.allowed


def test_a_key_past_its_end_does_not_count() -> None:
    compiled = policy(BY_SECOND, until="2026-04-01")
    end = compiled.next_change
    assert end is not None
    assert f"{end:%Y-%m-%d}" == "2026-04-01"
    assert outcome_of(validate, request(AT_DIGEST), compiled, truth()).response.allowed
    later = compiled.policy.at(end)
    assert needed(validate, request(AT_DIGEST), later) == ()
    said = "is not signed by an unexpired key: ci-2026 expired (unsigned)"
    assert said in validate(request(AT_DIGEST), later).response.message


def test_the_audit_annotations_name_the_keys_and_the_images_that_are_kept() -> None:
    compiled = policy(BY_FIRST, BY_SECOND, "{images: [free.io], exists: true}")
    asked = request(AT_DIGEST, "free.io/b:1")

    def answer(manifest: Manifest) -> Answer:
        if manifest.host == "free.io":
            return DOWN
        return truth(signature="ci-2025" if FINGERPRINTS["ci-2025"] in manifest.keys else "ci-2026")(manifest)

    outcome = outcome_of(validate, asked, compiled, answer)
    assert list(map(str, outcome.images[0].signatures)) == [
        "signed by ci-2025 (bundle)",
        "signed by ci-2026 (bundle)",
    ]
    assert outcome.response.audit_annotations["signed"] == f"{AT_DIGEST} by ci-2025 and ci-2026"
    assert outcome.response.audit_annotations["unverified"] == "free.io/b:1 (connection refused)"


@cases(
    "require image found taken",
    {
        "exists": (EXISTS, TAG, True, True),
        "not-known-to-exist": (EXISTS, TAG, False, False),
        "not-known-and-warns": (but(EXISTS, "mode: warn"), TAG, False, False),
        "tag-without-a-digest": (PINNED, TAG, True, False),
        "tag-that-needs-a-warning": (but(PINNED, "mode: warn"), TAG, True, False),
        "digest": (PINNED, AT_DIGEST, False, True),
        "digest-in-every-registry": (EVERYWHERE, AT_DIGEST, False, True),
        "digest-not-known-to-exist": (FOUND_AND_PINNED, AT_DIGEST, False, False),
        "signature-for-the-audit-annotation": (SIGNED, AT_DIGEST, True, False),
        "nothing-required": (SIGNED, FREE, False, True),
    },
)
@pytest.mark.parametrize("mode", ["enforce", "mutate"])
def test_the_hot_path_takes_only_images_that_certainly_meet_all_requirements(
    require: str, image: str, mode: str, *, found: bool, taken: bool
) -> None:
    images = certainly_approved(
        request(image), policy(require, mode=mode), BY_NAME if found else NOTHING_KNOWN
    )
    assert images == ([image] if taken else None)
    assert certainly_approved(request(image, "x.io/a:1"), policy(require, mode=mode), BY_NAME) is None


def test_a_digest_that_the_policy_rejects_is_not_proposed() -> None:
    compiled = policy("{images: [r.io], digest: true, exists: true}", allow="['r.io/app:1', r.io/b]")
    details = [
        each.decision.detail for each in validate(request(TAG, "r.io/b:1"), compiled, known(GOOD)).images
    ]
    assert details == ["is unpinned: no rule approves it with a digest", ADD]


def test_an_expired_key_is_named_if_only_other_keys_signed() -> None:
    compiled = policy(SIGNED, until="2026-02-01")
    (verdict,) = validate(request(AT_DIGEST), compiled, known(BY_OTHER)).images
    assert verdict.decision.detail == "is signed, but by another key; ci-2026 expired (unsigned)"


@cases(
    "image options said",
    {
        "no-digest": (TAG, {}, f"{TAG} is not approved; new Pods will be refused"),
        "in-warn": (TAG, {"mode": "warn"}, UNPINNED),
        "mutate-writes-the-digest": (TAG, {"mode": "mutate"}, ""),
        "digest": (AT_DIGEST, {}, ""),
        "no-live-key": (AT_DIGEST, {"until": "2020-01-01"}, "; new Pods will be refused"),
    },
)
def test_an_update_warns_about_kept_images_that_new_pods_may_not_have(
    image: str, options: dict[str, str], said: str
) -> None:
    old, new = workload("Deployment", image), workload("Deployment", image)
    new["spec"]["template"]["metadata"] = {"annotations": {"restartedAt": "now"}}
    asked = wire.parse(review(new, operation="UPDATE", old=old))
    outcome = outcome_of(validate, asked, policy(BY_SECOND, **options), truth())
    assert outcome.response.allowed
    assert [said in each for each in outcome.response.warnings] == [True] * bool(said)


IS_ABSENT: Final = {"met": False, "reason": "absent", "detail": ABSENT}
KEPT: Final = {"met": None, "reason": "unverified", "detail": "connection refused"}
SIGNATURE_OF: Final = {"by": "ci-2026", "form": "bundle", "subject": None, "issuer": None}


@cases(
    "require mode image world reason effect requirement",
    {
        "met": (EXISTS, "enforce", TAG, GOOD, "allowed", "admitted", {"met": True}),
        "offline": (EXISTS, "enforce", TAG, None, "allowed", "admitted", {"met": None}),
        "signature-offline": (SIGNED, "enforce", AT_DIGEST, None, "allowed", "admitted", {"met": None}),
        "by-name": (PINNED, "enforce", AT_DIGEST, None, "allowed", "admitted", {"met": True}),
        "absent": (EXISTS, "enforce", TAG, GONE, "absent", "refused", IS_ABSENT),
        "absent-in-warn-mode": (EXISTS, "warn", TAG, GONE, "absent", "warned", IS_ABSENT),
        "absent-and-warned": (
            but(EXISTS, "mode: warn"), "enforce", TAG, GONE, "allowed", "warned", IS_ABSENT | {"warns": True},
        ),
        "kept-after-an-error": (EXISTS, "enforce", TAG, ERROR, "allowed", "admitted", KEPT),
        "signed-as-mutate-writes-it": (
            SIGNED, "mutate", TAG, GOOD, "allowed", "admitted", {"met": True, "signature": SIGNATURE_OF},
        ),
        "unsigned": (
            SIGNED, "mutate", TAG, NO_KEY, "unpinned", "refused",
            {"met": False, "reason": "unpinned", "detail": ADD},
        ),
    },
)  # fmt: skip
def test_explain_shows_each_requirement_and_the_effect(
    require: str,
    mode: Any,
    image: str,
    world: Truth | None,
    reason: str,
    effect: str,
    requirement: dict[str, Any],
) -> None:
    compiled = policy(require, mode=mode)
    shown = explain(compiled, "shop", image, *([known(world)] if world else []))
    assert (shown.verdict.decision.reason, shown.effect, shown.mode.name) == (reason, effect, mode)
    empty = {"index": 0, "reason": None, "detail": None, "signature": None, "warns": False}
    assert json.loads(json.dumps(shown.verdict.as_json("requirements"))) == {
        "requirements": [empty | requirement]
    }
