"""A review requests only the look-ups that it needs, and their answers change the decisions."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import INSTANT, exceptions_text, pod, policy_text, review, workload
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import Outcome, certainly_approved, mutate, validate
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.admission.world import Answers, answers_so_far
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    SIGNATURE,
    Answer,
    Kind,
    Lookup,
    Manifest,
    Resolution,
    failed,
    found,
    resolve,
)
from gatekeeper_py.core.policy import decision
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FOUND, DOWN = found(DIGEST), failed("connection refused")
MIRROR = "mirrors: [{from: docker.io, to: [r.io/hub, dr.io/hub], verify: true, %s}]"


def policy(more: str = "", *, allow: str = "[r.io, dr.io]", mode: str = "mutate") -> CompiledPolicy:
    return parse_policy(policy_text(more, mode=mode, allow=allow)).at(INSTANT)


def request(*images: str, kind: str = "Pod", operation: str = "CREATE", **spec: Any) -> wire.AdmissionRequest:
    spec = {"containers": [{"name": "c", "image": image} for image in images], **spec}
    obj = pod(**spec) if kind == "Pod" else workload(kind, **spec)
    return wire.parse(review(obj, operation=operation, old=obj if operation == "UPDATE" else None))


def facts(answers: Mapping[str, Answer]) -> Answers:
    """Return facts about ``host/repository:tag`` or ``host/repository@digest``."""

    def known(lookup: Lookup) -> Resolution | None:
        given = [answers.get(str(manifest)) for manifest in lookup.candidates]
        return resolve(tuple(answer for answer in given if answer is not None)) if all(given) else None

    return Answers(known)


def lookups(
    review_request: wire.AdmissionRequest, compiled: CompiledPolicy, endpoint: Callable[..., Outcome]
) -> tuple[Lookup, ...]:
    """Return the look-ups that an endpoint needs to answer a request."""
    known = Answers(lambda _lookup: None)
    endpoint(review_request, compiled, known)
    return tuple(dict.fromkeys(known.missing))


def patched(outcome: Outcome, review_request: wire.AdmissionRequest) -> Any:
    document = outcome.response.document()["response"]
    patch = json.loads(base64.b64decode(document["patch"])) if "patch" in document else []
    return jsonpatch.apply_patch(review_request.object, patch)


def image_after(outcome: Outcome, review_request: wire.AdmissionRequest) -> str:
    image: str = patched(outcome, review_request)["spec"]["containers"][0]["image"]
    return image


class TestVerify:
    """``verify`` on an ``allow`` rule."""

    allow = (
        "[{image: r.io/team/**, verify: true}, {image: r.io/strict/**, verify: true, onError: deny}, r.io]"
    )

    def test_the_messages(self) -> None:
        compiled = policy(allow=self.allow)
        review_request = request("r.io/team/x:1", "r.io/strict/y:2")
        answers = {"r.io/team/x:1": MISSING, "r.io/strict/y:2": DOWN}
        message = validate(review_request, compiled, facts(answers)).response.message
        assert (
            'container "c" (spec.containers[0].image): r.io/team/x:1 does not exist in r.io (absent)'
            in message
        )
        assert "r.io/strict/y:2 could not be verified: connection refused (unverified)" in message

    def test_in_warn_mode_they_are_warnings(self) -> None:
        compiled = policy(allow=self.allow, mode="warn")
        outcome = validate(request("r.io/team/x:1"), compiled, facts({"r.io/team/x:1": MISSING}))
        assert outcome.verdict == "warned"
        (warning,) = outcome.response.warnings
        assert warning == "spec.containers[0].image: r.io/team/x:1 does not exist in r.io (absent)"

    def test_an_image_kept_after_an_error_is_in_the_audit_annotations(self) -> None:
        outcome = validate(request("r.io/team/x:1"), policy(allow=self.allow), facts({"r.io/team/x:1": DOWN}))
        annotations = outcome.response.document()["response"]["auditAnnotations"]
        assert annotations["unverified"] == "r.io/team/x:1 (connection refused)"

    def test_the_first_rule_that_matches_decides_whether_to_look_up(self) -> None:
        assert lookups(request("r.io/other/x:1"), policy(allow=self.allow), validate) == ()
        first = policy(allow="[r.io, {image: r.io/team/**, verify: true}]")
        assert lookups(request("r.io/team/x:1"), first, validate) == ()

    def test_a_digest_is_looked_up_and_not_the_tag_beside_it(self) -> None:
        review_request = request(f"r.io/team/x:1@{DIGEST}")
        assert lookups(review_request, policy(allow=self.allow), validate) == (
            Lookup((Manifest("r.io", "team/x", DIGEST),)),
        )

    @pytest.mark.parametrize(
        "review_request",
        [
            pytest.param(request("evil.io/x:1"), id="unlisted"),
            pytest.param(request("r.io/team/evil:1"), id="denied"),
            pytest.param(request("A b"), id="invalid"),
            pytest.param(request("r.io/team/x:1", kind="Deployment"), id="template"),
            pytest.param(request("r.io/team/x:1", operation="UPDATE"), id="unchanged"),
            pytest.param(request("r.io/team/x:1", operation="DELETE"), id="delete"),
            pytest.param(
                request(containers=[{"image": "r.io/team/x:1", "imagePullPolicy": "Never"}]),
                id="never-pulled",
            ),
            pytest.param(
                request(
                    "r.io/x",
                    volumes=[{"name": "v", "image": {"reference": "r.io/team/x:1", "pullPolicy": "Never"}}],
                ),
                id="volume-never-pulled",
            ),
        ],
    )
    def test_exempt_images_are_not_looked_up(self, review_request: wire.AdmissionRequest) -> None:
        compiled = policy("deny: [r.io/team/evil]", allow=self.allow)
        assert lookups(review_request, compiled, validate) == ()

    def test_without_facts_names_alone_decide(self) -> None:
        compiled = policy(allow=self.allow)
        for image in ("r.io/strict/x:1", "r.io/team/x:1"):
            outcome = validate(request(image), compiled)
            assert (outcome.verdict, outcome.images[0].unverified) == ("allowed", "")

    def test_with_facts_that_know_nothing_it_could_not_be_verified(self) -> None:
        compiled = policy(allow=self.allow)
        assert validate(request("r.io/strict/x:1"), compiled, facts({})).verdict == "denied"
        assert validate(request("r.io/team/x:1"), compiled, facts({})).verdict == "allowed"

    @pytest.mark.parametrize("answer", [FOUND, MISSING, DOWN])
    def test_the_hot_path_takes_found_images_only(self, answer: Answer) -> None:
        compiled, review_request = policy(allow=self.allow), request("r.io/team/x:1")
        assert certainly_approved(review_request, compiled) is None
        images = certainly_approved(review_request, compiled, lambda _manifest: answer is FOUND)
        assert (images is not None) is (answer is FOUND)


class TestMirrors:
    """``verify`` on a mirror, in mutate mode."""

    hub, dr = "r.io/hub/library/nginx:1", "dr.io/hub/library/nginx:1"

    def test_deny_applies_even_if_the_original_name_is_approved(self) -> None:
        compiled = policy(MIRROR % "onMissing: deny", allow="[r.io, dr.io, docker.io]")
        known = facts({self.hub: MISSING, self.dr: MISSING})
        message = validate(request("nginx:1"), compiled, known).response.message
        assert "nginx:1 does not exist in r.io, dr.io (absent)" in message

    @pytest.mark.parametrize("answer", [MISSING, DOWN])
    def test_an_image_that_a_mirror_refuses_is_not_admitted_by_an_exception(self, answer: Answer) -> None:
        """So no message, metric or audit annotation says that one admits it, or that one would help."""
        grant = "exceptions: [{source: namespace, images: [docker.io], longest: 2h}]\n"
        compiled = policy(f"{MIRROR % 'onMissing: deny, onError: deny'}\n{grant}")
        entry = "image: docker.io, until: 2026-03-01T13:00:00Z, reason: r"
        document = parse_exceptions(exceptions_text(entry), "namespace")
        asked = request("nginx:1")
        for exceptions in ({}, {DocumentKey("namespace", str(asked.namespace)): document}):
            excepting = compiled.policy.at(INSTANT, Exceptions(exceptions))
            outcome = validate(asked, excepting, facts({self.hub: answer, self.dr: answer}))
            assert not outcome.response.allowed
            assert "exception" not in outcome.response.message
            assert "exceptions" not in outcome.response.audit_annotations
            assert outcome.excepted == ()

    @pytest.mark.parametrize("option", ["onMissing: deny", "onError: deny"])
    def test_the_short_cut_leaves_an_image_that_a_mirror_may_refuse_to_validate(self, option: str) -> None:
        compiled = policy(MIRROR % option, allow="[r.io, dr.io, docker.io]")
        assert certainly_approved(request("nginx:1"), compiled) is None
        assert certainly_approved(request("r.io/app:1"), compiled) == ["r.io/app:1"]
        enforced = policy(MIRROR % option, allow="[r.io, dr.io, docker.io]", mode="enforce")
        assert certainly_approved(request("nginx:1"), enforced) == ["nginx:1"]

    def test_a_candidate_that_names_reject_is_passed_over(self) -> None:
        compiled = policy(MIRROR % "", allow="[dr.io]")
        assert lookups(request("nginx:1"), compiled, mutate) == (
            Lookup((Manifest("dr.io", "hub/library/nginx", "1"),)),
        )
        none_left = policy(MIRROR % "onMissing: deny", allow="[other.io]")
        review_request = request("nginx:1")
        assert (
            lookups(review_request, none_left, mutate) == lookups(review_request, none_left, validate) == ()
        )
        outcome = mutate(review_request, none_left)
        assert image_after(outcome, review_request) == "nginx:1"
        assert not outcome.response.warnings

    def test_an_image_that_is_never_pulled_is_left_alone(self) -> None:
        review_request = request(containers=[{"name": "c", "image": "nginx:1", "imagePullPolicy": "Never"}])
        assert lookups(review_request, policy(MIRROR % ""), mutate) == ()
        assert image_after(mutate(review_request, policy(MIRROR % "")), review_request) == "nginx:1"

    def test_an_image_whose_name_is_too_long_on_the_mirror_is_left_with_a_warning(self) -> None:
        image = "a/" + "b" * 250
        review_request = request(image)
        assert lookups(review_request, policy(MIRROR % ""), mutate) == ()
        outcome = mutate(review_request, policy(MIRROR % ""))
        assert image_after(outcome, review_request) == image
        assert "would be longer than" in outcome.response.warnings[0]

    def test_the_short_cut_declines_a_pod_with_a_rejected_image(self) -> None:
        looks_up = policy(allow="[{image: r.io, verify: true}, dr.io]", mode="enforce")
        assert certainly_approved(request("dr.io/a:1"), looks_up) == ["dr.io/a:1"]
        assert certainly_approved(request("dr.io/a:1", "x.io/a:1"), looks_up) is None

    def test_an_image_kept_after_an_error_is_in_the_audit_annotations_of_mutate(self) -> None:
        known = facts({self.hub: DOWN, self.dr: MISSING})
        outcome = mutate(request("nginx:1", "r.io/x:1"), policy(MIRROR % ""), known)
        assert outcome.response.audit_annotations["unverified"] == "nginx:1 (connection refused)"

    @pytest.mark.parametrize(
        ("answers", "cause"),
        [
            pytest.param((MISSING, MISSING, FOUND), "no mirror has it", id="missing"),
            pytest.param(
                (DOWN, MISSING, FOUND), "no mirror could be queried: connection refused", id="error"
            ),
        ],
    )
    def test_an_image_that_no_mirror_has_is_pinned_by_its_own_rule(
        self, answers: tuple[Answer, Answer, Answer], cause: str
    ) -> None:
        allow = "[{image: docker.io/library/**, pin: true}, r.io, dr.io]"
        review_request, own = request("nginx:1"), "docker.io/library/nginx:1"
        known = facts(dict(zip((self.hub, self.dr, own), answers, strict=True)))
        outcome = mutate(review_request, policy(MIRROR % "", allow=allow), known)
        assert image_after(outcome, review_request) == f"nginx:1@{DIGEST}"
        (warning,) = outcome.response.warnings
        assert warning == f"spec.containers[0].image: nginx:1 is pinned, but not on a mirror: {cause}"
        assert [verdict.mirror for verdict in outcome.images] == [None]

    def test_an_image_whose_mirror_has_it_is_not_looked_up_in_its_own_registry(self) -> None:
        allow = "[{image: docker.io/library/**, pin: true}, r.io, dr.io]"
        known = facts({self.hub: FOUND, self.dr: MISSING})
        mutate(request("nginx:1"), policy(MIRROR % "", allow=allow), known)
        assert not known.missing

    def test_the_pull_secret_is_added_where_an_image_was_rewritten(self) -> None:
        compiled = policy("mirrors: [{from: docker.io, to: r.io/hub, imagePullSecret: hub}]")
        cases: list[tuple[dict[str, Any], list[Any]]] = [
            ({}, [{"name": "hub"}]),
            ({"imagePullSecrets": []}, [{"name": "hub"}]),
            ({"imagePullSecrets": [{"name": "own"}]}, [{"name": "own"}, {"name": "hub"}]),
            ({"imagePullSecrets": [{"name": "hub"}]}, [{"name": "hub"}]),
        ]
        for present, expected in cases:
            review_request = request("nginx:1", "redis:1", **present)
            assert (
                patched(mutate(review_request, compiled), review_request)["spec"]["imagePullSecrets"]
                == expected
            )
        untouched = request("r.io/x:1")
        assert "imagePullSecrets" not in patched(mutate(untouched, compiled), untouched)["spec"]

    def test_an_update_adds_no_pull_secret_because_an_api_server_would_refuse_it(self) -> None:
        compiled = policy("mirrors: [{from: docker.io, to: r.io/hub, imagePullSecret: hub}]")
        review_request = request("nginx:2")._replace(operation="UPDATE", old_object=request("nginx:1").object)
        stored = patched(mutate(review_request, compiled), review_request)["spec"]
        assert stored == {"containers": [{"name": "c", "image": "r.io/hub/library/nginx:2"}]}

    def test_pull_secrets_of_the_wrong_type_are_left_to_the_api_server(self) -> None:
        compiled = policy("mirrors: [{from: docker.io, to: r.io/hub, imagePullSecret: hub}]")
        review_request = request("nginx:1", imagePullSecrets="x")
        assert patched(mutate(review_request, compiled), review_request)["spec"]["imagePullSecrets"] == "x"


class TestPin:
    """``pin`` on mirrors and on ``allow`` rules, in mutate mode."""

    def test_a_mirror_pins_what_was_verified(self) -> None:
        compiled = policy("mirrors: [{from: docker.io, to: r.io/hub, pin: true}]")
        review_request = request("nginx:1")
        outcome = mutate(review_request, compiled, facts({"r.io/hub/library/nginx:1": FOUND}))
        assert image_after(outcome, review_request) == f"r.io/hub/library/nginx:1@{DIGEST}"
        originals = json.loads(
            patched(outcome, review_request)["metadata"]["annotations"]["gatekeeper-py/original-images"]
        )
        assert originals == {"spec.containers[0].image": "nginx:1"}

    def test_an_image_with_a_digest_is_not_pinned_to_another(self) -> None:
        review_request = request(f"r.io/x:1@{OTHER}")
        outcome = mutate(
            review_request, policy(allow="[{image: r.io, pin: true}]"), facts({f"r.io/x@{OTHER}": FOUND})
        )
        assert outcome.verdict == "allowed"

    def test_outside_mutate_mode_nothing_is_pinned_but_pin_verifies(self) -> None:
        compiled = policy(allow="[{image: r.io, pin: true}]", mode="enforce")
        review_request = request("r.io/x:1")
        assert (
            image_after(mutate(review_request, compiled, facts({"r.io/x:1": FOUND})), review_request)
            == "r.io/x:1"
        )
        assert validate(review_request, compiled, facts({"r.io/x:1": MISSING})).verdict == "denied"

    def test_a_pinned_image_is_not_counted_for_a_mirror(self) -> None:
        review_request = request("r.io/x:1")
        outcome = mutate(
            review_request, policy(allow="[{image: r.io, pin: true}]"), facts({"r.io/x:1": FOUND})
        )
        assert [verdict.mirror for verdict in outcome.images] == [None]


class TestDeniedDigests:
    """A deny rule for a digest also denies tags, wherever a look-up finds the digest."""

    app = "r.io/team/app:1"
    denied = f"{app} is not approved: {app}@{DIGEST} is denied by deny[0] r.io/team/app@{DIGEST} (recalled)"

    def policy(
        self, mode: str, field: str = "pin", more: str = "", exceptions: Exceptions = NO_EXCEPTIONS
    ) -> CompiledPolicy:
        deny = f"deny: [{{image: 'r.io/team/app@{DIGEST}', reason: recalled}}]\n{more}"
        compiled = policy(deny, allow=f"[{{image: r.io, {field}: true}}]", mode=mode)
        return compiled.policy.at(INSTANT, exceptions)

    @pytest.mark.parametrize("field", ["verify", "pin"])
    @pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
    def test_in_every_mode_the_tag_is_denied_and_not_patched(self, mode: str, field: str) -> None:
        compiled, known = self.policy(mode, field), {self.app: FOUND}
        outcome = validate(request(self.app), compiled, facts(known))
        assert outcome.images[0].decision.reason == "denied"
        assert outcome.images[0].decision.canonical == self.app
        if mode == "warn":
            assert outcome.response.warnings == (f"spec.containers[0].image: {self.app} is denied",)
        else:
            assert self.denied in outcome.response.message
        mutated = mutate(request(self.app), compiled, facts(known))
        assert mutated.response.patch == ()
        if (mode, field) == ("mutate", "pin"):
            assert mutated.response.warnings[0].endswith("is left as written: its digest is denied")
        assert validate(request(self.app), compiled, facts({self.app: found(OTHER)})).response.allowed

    @pytest.mark.parametrize("mode", ["enforce", "mutate"])
    def test_the_short_cut_leaves_tags_to_validate(self, mode: str) -> None:
        compiled = self.policy(mode)
        assert certainly_approved(request(self.app), compiled, lambda _manifest: True) is None
        mirrors = "mirrors: [{from: docker.io, to: r.io, verify: true}]"
        deny = f"deny: [r.io/library/nginx@{DIGEST}]\n"
        mirrored = policy(deny + mirrors, allow="[docker.io, r.io]", mode=mode)
        expected = None if mode == "mutate" else ["nginx:1"]
        assert certainly_approved(request("nginx:1"), mirrored, lambda _manifest: True) == expected
        assert certainly_approved(request("r.io/app:1"), mirrored) == ["r.io/app:1"]

    def test_the_longest_names_are_judged_at_their_digest_too(self) -> None:
        image = f"r.io:{'0' * 4070}443/team/app:1"
        known = Answers(lambda _lookup: Resolution(FOUND, 0))
        outcome = validate(request(image), self.policy("enforce"), known)
        assert outcome.images[0].decision.reason == "denied"

    @pytest.mark.parametrize(
        ("pattern", "approved"),
        [
            pytest.param(f"r.io/team/app@{DIGEST}", True, id="the-digest"),
            pytest.param("r.io/team/**", True, id="all-tags-and-digests"),
            pytest.param("r.io/team/app:1", False, id="the-tag-which-the-rule-does-not-match"),
        ],
    )
    def test_an_exception_for_the_digest_overrides_the_rule(self, pattern: str, *, approved: bool) -> None:
        entry = f"image: '{pattern}', until: 2026-03-01T13:00:00Z, reason: r"
        document = parse_exceptions(exceptions_text(entry), "break-glass")
        exceptions = Exceptions({DocumentKey("break-glass", "gatekeeper"): document})
        grant = "exceptions: [{source: break-glass, images: [r.io], longest: 2h, overrides: deny}]\n"
        for mode in ("enforce", "mutate"):
            compiled = self.policy(mode, more=grant, exceptions=exceptions)
            for judge in (compiled, compiled.serving(16, CacheCounts())):
                outcome = validate(request(self.app), judge, facts({self.app: FOUND}))
                assert outcome.response.allowed is approved
                assert bool(outcome.excepted) is approved
                stored = mutate(request(self.app), judge, facts({self.app: FOUND}))
                assert bool(stored.response.patch) is (approved and mode == "mutate")

    def test_explain_names_the_digest(self) -> None:
        compiled = self.policy("mutate")
        found_of = explain(compiled, None, self.app, facts({self.app: FOUND}))
        assert (found_of.verdict.decision.reason, found_of.rewritten) == ("denied", None)
        assert DIGEST in found_of.verdict.decision.detail
        assert found_of.rewrite_problem == "its digest is denied"


image_lists = st.lists(
    st.sampled_from(["r.io/a:1", "dr.io/b", "nginx:1", "evil.io/x", "r.io/denied:1", "?"]),
    min_size=1,
    max_size=4,
)
answers = st.sampled_from([FOUND, MISSING, DOWN, found(OTHER)])


@pytest.mark.parametrize("kind", [EXISTENCE, SIGNATURE, Kind("new")], ids=lambda kind: kind.name)
@given(
    st.lists(st.sampled_from(["r.io/a:1", "dr.io/b", "nginx:1"]), min_size=1, max_size=2),
    st.sampled_from(["enforce", "mutate"]),
    st.sampled_from(["", "onMissing: deny", "onError: deny"]),
    st.sampled_from(["r.io", "{image: r.io, verify: true}"]),
    st.sampled_from(["", f"r.io/a@{DIGEST}", f"docker.io/**@{OTHER}"]),
    st.data(),
)
def test_validate_allows_what_the_short_cut_approves_with_the_same_answers(
    kind: Kind, images: list[str], mode: str, options: str, rule: str, denied: str, data: st.DataObject
) -> None:
    """This holds for look-ups of every kind, even one that the product does not know yet."""
    deny = f"deny: ['{denied}']\n" if denied else ""
    compiled = policy(deny + MIRROR % options, allow=f"[{rule}, dr.io, docker.io]", mode=mode)
    review_request = request(*images)
    truth: dict[Manifest, Answer] = {}

    def answer(lookup: Lookup) -> Resolution:
        return resolve(tuple(truth.setdefault(each, data.draw(answers)) for each in lookup.candidates))

    def of_kind(*given: Any) -> Manifest:
        return looked_up(*given)._replace(kind=kind)

    looked_up = decision._looked_up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision, "_looked_up", of_kind)
        outcome = validate(review_request, compiled, Answers(answer))
        approved = certainly_approved(
            review_request, compiled, lambda each: answer(Lookup((each,))).answer.status == "found"
        )
    if approved is not None:
        assert outcome.verdict == "allowed"
        assert not {"unverified", "signed"} & outcome.response.audit_annotations.keys()


@given(
    image_lists,
    st.sampled_from([mutate, validate]),
    st.sampled_from(["keep", "rewrite", "deny"]),
    st.sampled_from(["keep", "rewrite", "deny"]),
    st.booleans(),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.data(),
)
def test_the_final_facts_answer_every_look_up(
    images: list[str],
    endpoint: Any,
    on_missing: str,
    on_error: str,
    pin: bool,  # noqa: FBT001
    flags: list[bool],
    data: st.DataObject,
) -> None:
    """This holds for any number and content of the first facts, and for any new answers."""
    mirror = MIRROR % f"onMissing: {on_missing}, onError: {on_error}, pin: {str(pin).lower()}"
    rules = [
        f"{{image: {host}, verify: {str(verify).lower()}, pin: {str(pinned).lower()}}}"
        for host, verify, pinned in (("r.io", *flags[:2]), ("dr.io", *flags[2:]))
    ]
    compiled = policy(f"{mirror}\ndeny: [r.io/denied]", allow=f"[{', '.join(rules)}]")
    truth: dict[Manifest, Answer] = {}

    def answer(lookup: Lookup) -> Resolution:
        for manifest in lookup.candidates:
            truth.setdefault(manifest, data.draw(answers))
        return resolve(tuple(truth[manifest] for manifest in lookup.candidates))

    first = Answers(lambda lookup: answer(lookup) if data.draw(st.booleans()) else None)
    endpoint(request(*images), compiled, first)
    known = answers_so_far(first.used | {lookup: answer(lookup) for lookup in first.missing})
    outcome = endpoint(request(*images), compiled, known)
    assert not known.missing
    assert outcome == endpoint(request(*images), compiled, Answers(answer))
