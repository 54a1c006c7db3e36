"""Requirements: what an image with an approved name must also be (docs/policy.md, "Requirements").

The laws are in ``tests/property``. Each row here is a case that a page names, or a message that users read.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import pytest

from builders import INSTANT, exceptions_text, keys_text, pod, policy_text, review, workload
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import Outcome, certainly_approved, mutate, validate
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, SIGNATURE, Answer, Manifest, found
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from worlds import (
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


def warning(requirement: str) -> str:
    """Return the requirement with ``mode: warn``."""
    return requirement.removesuffix("}") + ", mode: warn}"


UNPINNED, ADD = "is unpinned: it needs a digest", f"is unpinned: add @{DIGEST}"
ABSENT, UNVERIFIED = (
    "does not exist in r.io (absent)",
    "could not be verified: connection refused (unverified)",
)
UNSIGNED: Final = "is not signed by ci-2025 or ci-2026 (unsigned)"


@pytest.mark.parametrize("mode", ["enforce", "warn"])
@pytest.mark.parametrize(
    ("require", "image", "world", "reason", "said"),
    [
        pytest.param([EXISTS], TAG, truth(), "allowed", "", id="exists"),
        pytest.param([EXISTS], TAG, truth(MISSING), "absent", ABSENT, id="absent"),
        pytest.param([EXISTS], TAG, truth(DOWN), "allowed", "", id="error-is-kept"),
        pytest.param([STRICT], TAG, truth(DOWN), "unverified", UNVERIFIED, id="error-is-denied"),
        pytest.param([PINNED], TAG, truth(), "unpinned", UNPINNED, id="tag"),
        pytest.param([PINNED], AT_DIGEST, truth(MISSING), "allowed", "", id="digest-that-nobody-looks-up"),
        pytest.param([FOUND_AND_PINNED], TAG, truth(), "unpinned", ADD, id="found-tag"),
        pytest.param([FOUND_AND_PINNED], TAG, truth(MISSING), "unpinned", UNPINNED, id="missing-tag"),
        pytest.param([EVERYWHERE], "free.io/x:1", truth(), "unpinned", UNPINNED, id="in-every-registry"),
        pytest.param([SIGNED], TAG, truth(), "unpinned", ADD, id="tag-with-a-signature"),
        pytest.param([SIGNED], TAG, truth(DOWN), "unpinned", UNPINNED, id="tag-after-an-error"),
        pytest.param([SIGNED], AT_DIGEST, truth(), "allowed", "", id="signed"),
        pytest.param([SIGNED], AT_DIGEST, truth(MISSING), "allowed", "", id="signed-so-it-exists"),
        pytest.param([SIGNED], AT_DIGEST, truth(signature=MISSING), "unsigned", UNSIGNED, id="unsigned"),
        pytest.param(
            [SIGNED],
            AT_DIGEST,
            truth(signature=Answer("missing", cause=OTHER_KEY)),
            "unsigned",
            "is signed, but by another key (unsigned)",
            id="another-key",
        ),
        pytest.param(
            [SIGNED],
            AT_DIGEST,
            truth(signature=Answer("missing", cause="a blob is too long")),
            "unsigned",
            "is not signed by ci-2025 or ci-2026; a blob is too long (unsigned)",
            id="skipped-signature",
        ),
        pytest.param([SIGNED], AT_DIGEST, truth(signature=DOWN), "unverified", UNVERIFIED, id="no-answer"),
        pytest.param(
            [SIGNED.replace("]}", "], onError: keep}")],
            AT_DIGEST,
            truth(signature=DOWN),
            "allowed",
            "",
            id="no-answer-is-kept",
        ),
        pytest.param(
            [BY_FIRST, EXISTS, BY_SECOND],
            AT_DIGEST,
            truth(signature="ci-2026"),
            "unsigned",
            "is not signed by ci-2025 (unsigned)",
            id="one-of-two-lists-of-keys",
        ),
        pytest.param(
            [EXISTS, BY_SECOND, PINNED, BY_FIRST],
            TAG,
            truth(MISSING),
            "absent",
            f"{ABSENT}; 3 more of its requirements are not met",
            id="the-first-in-the-document-and-how-many-more",
        ),
        pytest.param([EXISTS, PINNED], "free.io/x:1", truth(MISSING), "allowed", "", id="another-registry"),
        pytest.param([EXISTS, PINNED], "evil.io/x:1", truth(), "unlisted", "", id="names-decide-first"),
        pytest.param(
            ["{images: [r.io], digest: true, except: ['r.io/app:1']}"],
            TAG,
            truth(),
            "allowed",
            "",
            id="spared",
        ),
        pytest.param(
            ["{images: [r.io], digest: true, namespaces: [prod-*]}"],
            TAG,
            truth(),
            "allowed",
            "",
            id="another-namespace",
        ),
        pytest.param(
            ["{images: [r.io], digest: true, namespaces: [sh*]}"],
            TAG,
            truth(),
            "unpinned",
            UNPINNED,
            id="this-namespace",
        ),
    ],
)
def test_an_image_must_meet_every_requirement(
    mode: str, require: list[str], image: str, world: Truth, reason: str, said: str
) -> None:
    compiled, asked = policy(*require, mode=mode), request(image)
    for judging in (compiled, compiled.serving(16, CacheCounts())):
        outcome = outcome_of(validate, asked, judging, world)
        assert outcome.images[0].decision.reason == reason
        response = response_of(outcome, asked)
        assert response.allowed is (mode == "warn" or reason == "allowed")
        if said and mode == "enforce":
            assert f'container "c0" (spec.containers[0].image): {image} {said}\n' in response.message
        assert len(response.warnings) == (mode == "warn" and reason != "allowed")


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
@pytest.mark.parametrize(
    ("require", "image", "world", "said"),
    [
        pytest.param([EXISTS], TAG, truth(MISSING), ABSENT, id="absent"),
        pytest.param([EXISTS], TAG, truth(DOWN), UNVERIFIED, id="an-error-counts-as-not-met"),
        pytest.param([SIGNED], AT_DIGEST, truth(signature=MISSING), UNSIGNED, id="unsigned"),
        pytest.param(
            [EXISTS, SIGNED],
            AT_DIGEST,
            truth(MISSING, MISSING),
            f"{ABSENT}; 1 more of its requirements are not met",
            id="two",
        ),
        pytest.param([SIGNED], AT_DIGEST, truth(), "", id="met"),
    ],
)
def test_a_requirement_that_warns_never_rejects(
    mode: str, require: list[str], image: str, world: Truth, said: str
) -> None:
    """Law: "not met or not verifiable is a warning and a word in the audit annotation unmet"."""
    asked, compiled = request(image), policy(*map(warning, require), mode=mode)
    outcome = outcome_of(validate, asked, compiled, world)
    response = response_of(outcome, asked)
    assert response.allowed
    assert [each.split(" ", 1)[0] for each in response.warnings] == ["spec.containers[0].image:"] * bool(said)
    assert all(said[:30] in each for each in response.warnings)
    assert response.audit.get("unmet") == (f"{image} {said}" if said else None)
    assert outcome.verdict == ("warned" if said else "allowed")


def test_of_an_image_that_is_rejected_a_requirement_that_warns_is_only_in_the_audit_annotation() -> None:
    compiled = policy(warning(EXISTS), PINNED)
    outcome = outcome_of(validate, request(TAG, "r.io/b:1"), compiled, truth(MISSING))
    assert [each.decision.detail for each in outcome.images] == [UNPINNED] * 2
    assert outcome.response.warnings == ()
    assert outcome.response.audit_annotations["unmet"] == f"{TAG} {ABSENT}, r.io/b:1 {ABSENT}"


@pytest.mark.parametrize(
    ("image", "more", "reason"),
    [
        pytest.param("nginx:1", "", "unpinned", id="as-written"),
        pytest.param("r.io/hub/library/nginx:1", HUB, "unpinned", id="on-a-mirror"),
        pytest.param("r.io/hub/library/nginx:1", "", "allowed", id="without-the-mirror"),
        pytest.param("r.io/hub/library/spared:1", HUB, "allowed", id="except-matches-the-origin"),
        pytest.param("r.io/hub/library/own:1", HUB, "unpinned", id="except-matches-another-name"),
        pytest.param(f"r.io/hub/library/nginx@{DIGEST}", HUB, "allowed", id="with-a-digest"),
    ],
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
ON_HUB: Final = "r.io/hub/library/nginx:1"


@pytest.mark.parametrize(
    ("require", "more", "image", "world", "becomes", "said", "reason"),
    [
        pytest.param([EXISTS], "", TAG, truth(), TAG, "", "allowed", id="exists-pins-nothing"),
        pytest.param([PINNED], "", TAG, truth(), AT_DIGEST, "", "allowed", id="digest"),
        pytest.param([warning(PINNED)], "", TAG, truth(), AT_DIGEST, "", "allowed", id="digest-that-warns"),
        pytest.param(
            [PINNED],
            "",
            f"r.io/app:1@{OTHER}",
            truth(),
            f"r.io/app:1@{OTHER}",
            "",
            "allowed",
            id="own-digest",
        ),
        pytest.param(
            [PINNED],
            "",
            TAG,
            truth(MISSING),
            TAG,
            f"{STAYS}its digest is not known, as r.io does not have it",
            "unpinned",
            id="digest-of-a-missing-image",
        ),
        pytest.param(
            [PINNED],
            "",
            TAG,
            truth(DOWN),
            TAG,
            f"{STAYS}its digest is not known: connection refused",
            "allowed",
            id="digest-after-an-error",
        ),
        pytest.param(
            ["{images: [r.io], digest: true, onError: deny}"],
            "",
            TAG,
            truth(DOWN),
            TAG,
            f"{STAYS}its digest is not known: connection refused",
            "unverified",
            id="digest-after-an-error-that-is-denied",
        ),
        pytest.param([SIGNED], "", TAG, truth(), AT_DIGEST, "", "allowed", id="signed"),
        pytest.param(
            [SIGNED],
            "",
            TAG,
            truth(signature=MISSING),
            TAG,
            f"{STAYS}it {UNSIGNED}",
            "unpinned",
            id="unsigned",
        ),
        pytest.param(
            [PINNED, SIGNED],
            "",
            TAG,
            truth(signature=DOWN),
            TAG,
            f"{STAYS}it {UNVERIFIED}",
            "unpinned",
            id="signature-after-an-error",
        ),
        pytest.param(
            [BY_FIRST, BY_SECOND],
            "",
            TAG,
            truth(),
            TAG,
            f"{STAYS}it is not signed by ci-2025 (unsigned)",
            "unpinned",
            id="one-of-two-signatures",
        ),
        pytest.param(
            ["{images: ['r.io/**@*'], signedBy: [ci-2025]}", PINNED],
            "",
            TAG,
            truth(),
            TAG,
            f"{STAYS}it is not signed by ci-2025 (unsigned)",
            "unpinned",
            id="signature-that-only-the-digest-needs",
        ),
        pytest.param(
            [PINNED], HUB, "nginx:1", truth(), f"{ON_HUB}@{DIGEST}", "", "allowed", id="on-a-mirror"
        ),
        pytest.param(
            ["{images: [docker.io], digest: true}"],
            HUB,
            "nginx:1",
            truth(),
            f"{ON_HUB}@{DIGEST}",
            "",
            "allowed",
            id="by-its-origin",
        ),
        pytest.param(
            [SIGNED],
            HUB,
            "nginx:1",
            truth(signature=MISSING),
            ON_HUB,
            f"{MOVED}it {UNSIGNED}",
            "unpinned",
            id="unsigned-on-a-mirror",
        ),
        pytest.param(
            [EVERYWHERE],
            "registries: [{host: free.io}]\n",
            "free.io/x:1",
            truth(),
            f"free.io/x:1@{DIGEST}",
            "",
            "allowed",
            id="everywhere-at-a-host-that-registries-list",
        ),
        pytest.param(
            [EVERYWHERE], "", "free.io/x:1", truth(), "free.io/x:1", "", "unpinned", id="everywhere-elsewhere"
        ),
    ],
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


def test_an_image_whose_host_may_not_be_contacted_is_refused_with_what_to_add() -> None:
    message = validate(request("free.io/x:1"), policy(EVERYWHERE, mode="mutate")).response.message
    assert "is unpinned: it needs a digest, and registries does not list free.io" in message


@pytest.mark.parametrize(
    ("allow", "reason"),
    [("['r.io/**:1']", "unpinned"), ("['r.io/**:1', 'r.io/**@*']", "allowed")],
)
def test_offline_a_digest_will_be_written_where_a_rule_approves_it(allow: str, reason: str) -> None:
    compiled = policy(PINNED, allow=allow, mode="mutate")
    (verdict,) = validate(request(TAG), compiled).images
    assert verdict.decision.reason == reason
    assert verdict.requirements[0].met is (None if reason == "allowed" else False)


@pytest.mark.parametrize(
    ("require", "mode", "image", "approved"),
    [
        pytest.param(PINNED, "enforce", TAG, False, id="tag"),
        pytest.param(PINNED, "warn", TAG, False, id="tag-in-warn"),
        pytest.param(PINNED, "mutate", TAG, True, id="tag-that-will-be-pinned"),
        pytest.param(EVERYWHERE, "mutate", TAG, False, id="tag-that-nobody-can-pin"),
        pytest.param(SIGNED, "enforce", TAG, False, id="tag-without-a-signature"),
        pytest.param(SIGNED, "enforce", AT_DIGEST, True, id="digest-is-not-looked-up"),
        pytest.param(STRICT, "enforce", TAG, True, id="existence-is-not-looked-up"),
    ],
)
def test_templates_are_judged_by_names(require: str, mode: str, image: str, *, approved: bool) -> None:
    asked, compiled = request(image, kind="Deployment"), policy(require, mode=mode)
    assert needed(validate, asked, compiled) == ()
    outcome = outcome_of(validate, asked, compiled, truth(DOWN, DOWN))
    assert outcome.images[0].approved is approved


NEVER: Final[dict[str, Any]] = {"imagePullPolicy": "Never"}


@pytest.mark.parametrize(
    ("require", "asked", "approved"),
    [
        pytest.param(STRICT, request(containers=[{"image": TAG, **NEVER}]), True, id="exists"),
        pytest.param(PINNED, request(containers=[{"image": TAG, **NEVER}]), False, id="digest"),
        pytest.param(SIGNED, request(containers=[{"image": TAG, **NEVER}]), False, id="signature-of-a-tag"),
        pytest.param(SIGNED, request(containers=[{"image": AT_DIGEST, **NEVER}]), True, id="signature"),
        pytest.param(
            STRICT,
            request(
                "free.io/x",
                volumes=[{"name": "v", "image": {"reference": TAG, "pullPolicy": "Never"}}],
            ),
            True,
            id="volume",
        ),
        pytest.param(SIGNED, request(TAG, operation="UPDATE"), True, id="unchanged"),
        pytest.param(SIGNED, request(TAG, operation="DELETE"), True, id="delete"),
        pytest.param(
            SIGNED,
            wire.parse(
                review(
                    pod(TAG, metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
                    groups=("system:nodes",),
                )
            ),
            True,
            id="static-pod",
        ),
        pytest.param(STRICT, request("evil.io/x:1"), False, id="unlisted"),
        pytest.param(STRICT, request("r.io/denied:1"), False, id="denied"),
        pytest.param(STRICT, request("A b"), False, id="invalid"),
    ],
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


@pytest.mark.parametrize(
    ("require", "more", "image", "asked"),
    [
        pytest.param(EXISTS, "", AT_DIGEST, [Manifest("r.io", "app", DIGEST)], id="not-the-tag-beside-it"),
        pytest.param(PINNED, "", AT_DIGEST, [], id="only-a-digest-is-required"),
        pytest.param(SIGNED, "", "r.io/a/b", [Manifest("r.io", "a/b", DIGEST, SIGNATURE)], id="signature"),
        pytest.param(
            SIGNED.replace("]}", "], signatures: s.io/signatures}"),
            "",
            "r.io/a",
            [Manifest("s.io", "signatures", DIGEST, SIGNATURE)],
            id="signatures-elsewhere",
        ),
        pytest.param(
            SIGNED.replace("]}", "], signatures: r.io/a}"),
            "",
            "r.io/a",
            [Manifest("r.io", "a", DIGEST, SIGNATURE)],
            id="signatures-written-out",
        ),
        pytest.param(
            SIGNED,
            HUB,
            "nginx",
            [Manifest("r.io", "hub/library/nginx", DIGEST, SIGNATURE)],
            id="where-the-mirror-holds-it",
        ),
    ],
)
def test_what_is_looked_up_of_a_digest(require: str, more: str, image: str, asked: list[Manifest]) -> None:
    """Law: "The signature is looked for where the image will be pulled from, or in signatures"."""
    compiled = policy(require, more=more, mode="mutate")
    queried = set[Manifest]()

    def answer(manifest: Manifest) -> Answer:
        queried.add(manifest)
        return truth()(manifest)

    name = image.partition("@")[0]
    outcome_of(mutate, request(f"{name}@{DIGEST}"), compiled, answer)
    written = stored(request(f"{name}@{DIGEST}"), compiled, truth())[0]
    outcome_of(validate, request(written), compiled, answer)
    keys = tuple(sorted(FINGERPRINTS.values()))
    assert queried == {each._replace(keys=keys if each.kind == SIGNATURE else ()) for each in asked}
    assert {each.host for each in asked} <= compiled.looked_up_hosts


@pytest.mark.parametrize(
    ("overrides", "denied", "signature", "approved"),
    [
        pytest.param("", False, MISSING, False, id="unsigned"),
        pytest.param("overrides: deny", False, MISSING, False, id="unsigned-and-only-deny-is-overridden"),
        pytest.param("overrides: require", False, MISSING, True, id="unsigned-and-overridden"),
        pytest.param("overrides: require", False, DOWN, True, id="unverified-and-overridden"),
        pytest.param("overrides: [deny, require]", False, MISSING, True, id="unsigned-and-both"),
        pytest.param("overrides: require", True, MISSING, False, id="denied-and-only-require"),
        pytest.param("overrides: deny", True, MISSING, False, id="denied-and-unsigned-and-only-deny"),
        pytest.param("overrides: deny", True, "ci-2026", True, id="denied-and-signed"),
        pytest.param("overrides: [deny, require]", True, MISSING, True, id="denied-and-unsigned-and-both"),
    ],
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


@pytest.mark.parametrize(
    ("deny", "image", "split", "joined"),
    [
        pytest.param("r.io/app", AT_DIGEST, False, True, id="denied-name"),
        pytest.param(f"r.io/app@{DIGEST}", TAG, False, True, id="denied-digest-that-a-look-up-found"),
        pytest.param(f"r.io/app@{OTHER}", TAG, True, True, id="another-digest"),
        pytest.param("", AT_DIGEST, True, True, id="not-denied"),
    ],
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
    said = "is not signed by a key that is live, and ci-2026 expired (unsigned)"
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


@pytest.mark.parametrize(
    ("require", "image", "found", "taken"),
    [
        pytest.param(EXISTS, TAG, True, True, id="exists"),
        pytest.param(EXISTS, TAG, False, False, id="not-known-to-exist"),
        pytest.param(warning(EXISTS), TAG, False, False, id="not-known-and-warns"),
        pytest.param(PINNED, TAG, True, False, id="tag-without-a-digest"),
        pytest.param(warning(PINNED), TAG, True, False, id="tag-that-needs-a-warning"),
        pytest.param(PINNED, AT_DIGEST, False, True, id="digest"),
        pytest.param(EVERYWHERE, AT_DIGEST, False, True, id="digest-in-every-registry"),
        pytest.param(FOUND_AND_PINNED, AT_DIGEST, False, False, id="digest-not-known-to-exist"),
        pytest.param(SIGNED, AT_DIGEST, True, False, id="signature-for-the-audit-annotation"),
        pytest.param(SIGNED, "free.io/a:1", False, True, id="nothing-required"),
    ],
)
@pytest.mark.parametrize("mode", ["enforce", "mutate"])
def test_the_hot_path_takes_only_images_that_certainly_meet_all_requirements(
    require: str, image: str, mode: str, *, found: bool, taken: bool
) -> None:
    images = certainly_approved(request(image), policy(require, mode=mode), lambda _manifest: found)
    assert images == ([image] if taken else None)
    assert certainly_approved(request(image, "x.io/a:1"), policy(require, mode=mode), lambda _m: True) is None


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        pytest.param(TAG, {}, f"{TAG} is not approved; new Pods will be refused", id="no-digest"),
        pytest.param(TAG, {"mode": "warn"}, UNPINNED, id="in-warn"),
        pytest.param(TAG, {"mode": "mutate"}, "", id="mutate-writes-the-digest"),
        pytest.param(AT_DIGEST, {}, "", id="digest"),
        pytest.param(AT_DIGEST, {"until": "2020-01-01"}, "; new Pods will be refused", id="no-live-key"),
    ],
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


@pytest.mark.parametrize(
    ("require", "mode", "image", "world", "reason", "effect", "requirement"),
    [
        pytest.param(EXISTS, "enforce", TAG, truth(), "allowed", "admitted", {"met": True}, id="met"),
        pytest.param(EXISTS, "enforce", TAG, None, "allowed", "admitted", {"met": None}, id="offline"),
        pytest.param(PINNED, "enforce", AT_DIGEST, None, "allowed", "admitted", {"met": True}, id="by-name"),
        pytest.param(
            EXISTS,
            "enforce",
            TAG,
            truth(MISSING),
            "absent",
            "refused",
            {"met": False, "reason": "absent", "detail": ABSENT},
            id="absent",
        ),
        pytest.param(
            EXISTS,
            "warn",
            TAG,
            truth(MISSING),
            "absent",
            "warned",
            {"met": False, "reason": "absent", "detail": ABSENT},
            id="absent-in-warn-mode",
        ),
        pytest.param(
            warning(EXISTS),
            "enforce",
            TAG,
            truth(MISSING),
            "allowed",
            "warned",
            {"met": False, "reason": "absent", "detail": ABSENT, "warns": True},
            id="absent-and-warned",
        ),
        pytest.param(
            EXISTS,
            "enforce",
            TAG,
            truth(DOWN),
            "allowed",
            "admitted",
            {"met": None, "reason": "unverified", "detail": "connection refused"},
            id="kept-after-an-error",
        ),
        pytest.param(
            SIGNED,
            "mutate",
            TAG,
            truth(),
            "allowed",
            "admitted",
            {"met": True, "signature": {"by": "ci-2026", "form": "bundle", "subject": None, "issuer": None}},
            id="signed-as-mutate-writes-it",
        ),
        pytest.param(
            SIGNED,
            "mutate",
            TAG,
            truth(signature=MISSING),
            "unpinned",
            "refused",
            {"met": False, "reason": "unpinned", "detail": ADD},
            id="unsigned",
        ),
    ],
)
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


def outcome_without_look_ups(image: str, require: str) -> Outcome:
    return validate(request(image), policy(require))


@pytest.mark.parametrize("require", [STRICT, SIGNED])
def test_without_a_registry_the_names_alone_decide(require: str) -> None:
    outcome = outcome_without_look_ups(AT_DIGEST, require)
    assert (outcome.verdict, outcome.images[0].requirements[0].met) == ("allowed", None)
