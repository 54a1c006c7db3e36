"""Look-ups on mirrors, and the look-ups that a review needs (docs/registries.md)."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import pytest

from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import BY_NAME, certainly_approved, mutate, validate
from gatekeeper_py.core.admission.lookahead import images_ahead, lookups_ahead
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import MISSING, Answer, Resolution
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from support.builders import INSTANT, exceptions_text, keys_text, policy_text
from support.worlds import DIGEST, DOWN, FOUND, known, needed, outcome_of, request, response_of, stored, truth

MIRROR = "mirrors: [{from: docker.io, to: [r.io/hub, dr.io/hub], verify: true, %s}]\n"
PLAIN = "mirrors: [{from: docker.io, to: r.io/hub%s}]\n"
HUB, DR, OWN = "r.io/hub/library/nginx:1", "dr.io/hub/library/nginx:1", "docker.io/library/nginx:1"
PINNED_HERE = "require: [{images: [docker.io/library/**], digest: true}]\n"
NEVER = [{"name": "c", "image": "nginx:1", "imagePullPolicy": "Never"}]


@cache
def policy(more: str = "", *, allow: str = "[r.io, dr.io]", mode: str = "mutate") -> CompiledPolicy:
    return parse_policy(policy_text(more, mode=mode, allow=allow)).at(INSTANT)


def on_mirrors(first: Answer, second: Answer, own: Answer = MISSING) -> Any:
    return truth(answers={HUB: first, DR: second, OWN: own})


@pytest.mark.parametrize(
    ("on_missing", "on_error"), list(itertools.product(["keep", "deny", "rewrite"], repeat=2))
)
@pytest.mark.parametrize("pin", ["", ", pin: true"])
@pytest.mark.parametrize("answers", list(itertools.product([FOUND, MISSING, DOWN], repeat=2)))
def test_the_first_mirror_that_has_the_image_wins_and_else_the_options_decide(
    on_missing: str, on_error: str, pin: str, answers: tuple[Answer, Answer]
) -> None:
    compiled = policy(
        MIRROR % f"onMissing: {on_missing}, onError: {on_error}{pin}", allow="[r.io, dr.io, docker.io]"
    )
    world, statuses = on_mirrors(*answers), [each.status for each in answers]
    if "found" in statuses:
        becomes = (HUB, DR)[statuses.index("found")] + (f"@{DIGEST}" if pin else "")
        choice, reason = "", "allowed"
    else:
        failed = "error" in statuses
        choice = on_error if failed else on_missing
        becomes = HUB if choice == "rewrite" else "nginx:1"
        reason = {"deny": "unverified" if failed else "absent"}.get(choice, "allowed")
    assert stored(request("nginx:1"), compiled, world) == (becomes,)
    outcome = outcome_of(mutate, request("nginx:1"), compiled, world)
    kept = choice == "keep" and "error" in statuses
    unverified = "nginx:1 (connection refused)" if kept else None
    assert outcome.response.audit_annotations.get("unverified") == unverified
    after = outcome_of(validate, request(becomes), compiled, world)
    assert after.images[0].decision.reason == reason
    if reason == "absent":
        assert "nginx:1 does not exist in r.io, dr.io (absent)" in after.response.message


@pytest.mark.parametrize("answer", [MISSING, DOWN])
def test_an_image_that_a_mirror_refuses_is_not_admitted_by_an_exception(answer: Answer) -> None:
    """So no message, metric or audit annotation says that one admits it, or that one would help."""
    grant = "exceptions: [{source: namespace, images: [docker.io], longest: 2h}]\n"
    compiled = policy(MIRROR % "onMissing: deny, onError: deny" + grant)
    entry = "image: docker.io, until: 2026-03-01T13:00:00Z, reason: r"
    document = parse_exceptions(exceptions_text(entry), "namespace")
    asked = request("nginx:1")
    for exceptions in ({}, {DocumentKey("namespace", str(asked.namespace)): document}):
        excepting = compiled.policy.at(INSTANT, Exceptions(exceptions))
        outcome = outcome_of(validate, asked, excepting, on_mirrors(answer, answer))
        assert not outcome.response.allowed
        assert "exception" not in outcome.response.message
        assert "exceptions" not in outcome.response.audit_annotations
        assert outcome.excepted == ()


@pytest.mark.parametrize("option", ["onMissing: deny", "onError: deny"])
def test_the_hot_path_leaves_an_image_that_a_mirror_may_refuse_to_validate(option: str) -> None:
    compiled = policy(MIRROR % option, allow="[r.io, dr.io, docker.io]")
    assert certainly_approved(request("nginx:1"), compiled) is None
    assert certainly_approved(request("r.io/app:1"), compiled) == ["r.io/app:1"]
    enforced = policy(MIRROR % option, allow="[r.io, dr.io, docker.io]", mode="enforce")
    assert certainly_approved(request("nginx:1"), enforced) == ["nginx:1"]


@pytest.mark.parametrize("mode", ["enforce", "mutate"])
def test_the_hot_path_leaves_an_image_whose_digest_on_a_mirror_may_be_denied_to_validate(mode: str) -> None:
    mirrors = "mirrors: [{from: docker.io, to: r.io, verify: true}]\n"
    compiled = policy(
        f"deny: ['r.io/library/nginx@{DIGEST}']\n{mirrors}", allow="[docker.io, r.io]", mode=mode
    )
    expected = None if mode == "mutate" else ["nginx:1"]
    assert certainly_approved(request("nginx:1"), compiled, BY_NAME) == expected
    assert certainly_approved(request("r.io/app:1"), compiled) == ["r.io/app:1"]


LONG = "a/" + "b" * 250


@pytest.mark.parametrize(
    ("asked", "allow", "options", "first", "warning"),
    [
        pytest.param(request("nginx:1"), "[r.io, dr.io]", "", (HUB,), "no mirror has it", id="all-targets"),
        pytest.param(
            request("nginx:1"), "[dr.io]", "", (DR,), "no mirror has it", id="without-unlisted-ones"
        ),
        pytest.param(request("nginx:1"), "[x.io]", "onMissing: deny", (), "", id="no-target-is-approved"),
        pytest.param(request(containers=NEVER), "[r.io]", "", (), "", id="never-pulled"),
        pytest.param(request(LONG), "[r.io]", "", (), "would be longer than", id="too-long-on-the-mirror"),
    ],
)
def test_an_image_stays_as_written_if_no_mirror_has_it(
    asked: Any, allow: str, options: str, first: tuple[str, ...], warning: str
) -> None:
    compiled = policy(MIRROR % options, allow=allow)
    assert needed(mutate, asked, compiled) == first
    outcome = outcome_of(mutate, asked, compiled, truth(MISSING))
    assert outcome.response.patch == ()
    assert [warning in each for each in outcome.response.warnings] == [True] * bool(warning)


@pytest.mark.parametrize(
    ("first", "cause"),
    [(MISSING, "no mirror has it"), (DOWN, "no mirror could be queried: connection refused")],
)
def test_an_image_that_no_mirror_has_is_pinned_in_its_own_registry(first: Answer, cause: str) -> None:
    compiled = policy(MIRROR % "" + PINNED_HERE, allow="[docker.io, r.io, dr.io]")
    world = on_mirrors(first, MISSING, FOUND)
    outcome = outcome_of(mutate, request("nginx:1"), compiled, world)
    assert stored(request("nginx:1"), compiled, world) == (f"nginx:1@{DIGEST}",)
    (warning,) = outcome.response.warnings
    assert warning == f"spec.containers[0].image: nginx:1 was pinned, but not moved to a mirror: {cause}"
    assert [verdict.mirror for verdict in outcome.images] == [None]


def test_an_image_whose_mirror_has_it_is_not_looked_up_in_its_own_registry() -> None:
    compiled = policy(MIRROR % "" + PINNED_HERE, allow="[docker.io, r.io, dr.io]")
    answers = truth(answers={HUB: FOUND})
    some = Answers(
        lambda lookup: known(answers).answer(lookup) if HUB in map(str, lookup.candidates) else None
    )
    mutate(request("nginx:1"), compiled, some)
    assert not some.missing


def test_the_original_of_a_pinned_image_is_recorded_as_written() -> None:
    compiled, asked = policy(PLAIN % ", pin: true"), request("nginx:1")
    response = response_of(outcome_of(mutate, asked, compiled, truth()), asked)
    assert response.originals == {"spec.containers[0].image": "nginx:1"}


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({}, [{"name": "hub"}]),
        ({"imagePullSecrets": []}, [{"name": "hub"}]),
        ({"imagePullSecrets": [{"name": "own"}]}, [{"name": "own"}, {"name": "hub"}]),
        ({"imagePullSecrets": [{"name": "hub"}]}, [{"name": "hub"}]),
        ({"imagePullSecrets": "x"}, "x"),  # the API server refuses it
    ],
)
def test_the_pull_secret_is_added_where_an_image_was_rewritten(
    present: dict[str, Any], expected: Any
) -> None:
    compiled = policy(PLAIN % ", imagePullSecret: hub")
    asked = request("nginx:1", "redis:1", **present)
    assert response_of(mutate(asked, compiled), asked).object["spec"]["imagePullSecrets"] == expected


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request("r.io/x:1"), id="nothing-was-rewritten"),
        # An API server would refuse an update that adds one.
        pytest.param(request("nginx:2", operation="UPDATE", old=request("nginx:1").object), id="update"),
    ],
)
def test_otherwise_no_pull_secret_is_added(asked: Any) -> None:
    compiled = policy(PLAIN % ", imagePullSecret: hub")
    assert "imagePullSecrets" not in response_of(mutate(asked, compiled), asked).object["spec"]


APP = "r.io/team/app:1"


def recalling(mode: str, more: str = "", require: str = "digest: true, exists: true") -> CompiledPolicy:
    """Return a policy with a requirement, and a deny rule for the digest of ``APP``."""
    deny = f"deny: [{{image: 'r.io/team/app@{DIGEST}', reason: recalled}}]\n"
    return policy(f"{deny}require: [{{images: [r.io], {require}}}]\n{more}", allow="[r.io]", mode=mode)


@pytest.mark.parametrize("mode", ["enforce", "mutate"])
def test_the_hot_path_leaves_tags_whose_digest_may_be_denied_to_validate(mode: str) -> None:
    compiled = recalling(mode, require="exists: true")
    assert certainly_approved(request(APP), compiled, BY_NAME) is None


def test_the_longest_names_are_judged_at_their_digest_too() -> None:
    image = f"r.io:{'0' * 4070}443/team/app:1"
    world = Answers(lambda _lookup: Resolution(FOUND, 0))
    assert validate(request(image), recalling("enforce"), world).images[0].decision.reason == "denied"


@pytest.mark.parametrize(
    ("pattern", "approved"),
    [
        pytest.param(f"r.io/team/app@{DIGEST}", True, id="the-digest"),
        pytest.param("r.io/team/**", True, id="all-tags-and-digests"),
        pytest.param("r.io/team/app:1", False, id="the-tag-which-the-rule-does-not-match"),
    ],
)
@pytest.mark.parametrize(("mode", "require"), [("enforce", "exists: true"), ("mutate", "digest: true")])
def test_an_exception_for_the_digest_overrides_the_deny_rule(
    pattern: str, mode: str, require: str, *, approved: bool
) -> None:
    entry = f"image: '{pattern}', until: 2026-03-01T13:00:00Z, reason: r"
    document = parse_exceptions(exceptions_text(entry), "break-glass")
    exceptions = Exceptions({DocumentKey("break-glass", "gatekeeper"): document})
    grant = "exceptions: [{source: break-glass, images: [r.io], longest: 2h, overrides: deny}]\n"
    compiled = recalling(mode, grant, require).policy.at(INSTANT, exceptions)
    for judging in (compiled, compiled.serving(16, CacheCounts())):
        outcome = outcome_of(mutate, request(APP), judging, truth())
        assert bool(outcome.response.patch) is (approved and mode == "mutate")
        outcome = outcome_of(validate, request(APP), judging, truth())
        if mode == "enforce":
            assert outcome.response.allowed is approved
            assert bool(outcome.excepted) is approved
        elif not approved:
            assert outcome.images[0].decision.reason == "denied"


@pytest.mark.parametrize(
    ("mirrors", "image", "first"),
    [
        pytest.param("", "r.io/app:1", "r.io/app:1", id="tag"),
        pytest.param("", f"r.io/app:1@{DIGEST}", f"r.io/app@{DIGEST}", id="digest"),
        pytest.param(PLAIN % "", "nginx:1", HUB, id="on-a-mirror"),
        pytest.param(MIRROR % "", "nginx:1", HUB, id="on-the-first-of-two-mirrors"),
        pytest.param(MIRROR % "", "free.io/x:1", "", id="no-signature-required"),
        pytest.param("", "evil.io/x:1", "", id="unlisted"),
        pytest.param("", "", "", id="no-image"),
        pytest.param("", 5, "", id="wrong-type"),
    ],
)
def test_the_first_look_up_that_runs_ahead_of_the_pods_of_a_workload(
    mirrors: str, image: Any, first: str
) -> None:
    require = "require: [{images: [r.io], signedBy: [ci-2025, ci-2026]}]\n"
    mode = "mutate" if mirrors else "enforce"
    compiled = policy(keys_text() + require + mirrors, allow="[r.io, dr.io, free.io]", mode=mode)

    def ahead(**options: str) -> list[str]:
        images = images_ahead(request(image, **options), compiled)
        lookups = lookups_ahead(images, compiled, "shop", Answers(lambda _lookup: None))
        return [str(lookup.candidates[0]) for lookup in lookups]

    assert ahead(kind="Job") == ([first] if first else [])
    assert ahead(kind="Job", operation="DELETE") == ahead(kind="Pod") == []


def test_a_workload_never_waits_for_a_registry() -> None:
    compiled = policy(MIRROR % "onMissing: deny" + PINNED_HERE, allow="[docker.io, r.io, dr.io]")
    for kind in ("Deployment", "Job"):
        assert needed(validate, request("nginx:1", kind=kind), compiled) == ()
