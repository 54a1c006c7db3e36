"""What a verdict shows, and the digests of running images."""

from __future__ import annotations

import json

import pytest
import yaml

from gatekeeper_py.core.admission import BY_NAME, Answers, Judge, Subject, Verdict, certainly_approved, judge
from gatekeeper_py.core.admission.judge import Checked, Signature
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import NOT_LOOKED_UP, NOTHING_SIGNED
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import MISSING, Lookup, Resolution, found
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.core.policy.policy import parse_policy
from support.builders import INSTANT, exceptions_text, keys_text, pod, policy, policy_text, review

DIGEST = f"sha256:{'a' * 64}"
SIGN = "require: [{images: [r.io], signedBy: [ci-2025]}]\n"
SIGNED = policy(keys_text() + SIGN, allow="[r.io]")


def judged(image: object, running: str = "", problem: str = "") -> Verdict:
    slot = Slot(("spec", "image"), "image", image, problem=problem, running=running)
    return judge(SIGNED, Subject("shop", SIGNED.mode("shop")), slot, BY_NAME)


@pytest.mark.parametrize(
    ("running", "reason"),
    [pytest.param(DIGEST, "allowed", id="a-digest-runs"), pytest.param("", "unpinned", id="none-is-known")],
)
def test_an_image_needs_a_digest_unless_one_is_known_to_run(running: str, reason: str) -> None:
    assert judged("r.io/app:1", running).decision.reason == reason


@pytest.mark.parametrize("image", ["nginx", f"nginx@{DIGEST}"])
@pytest.mark.parametrize("until", ["", "until: 2020-01-01"])
def test_a_template_is_judged_by_the_name_that_its_pods_will_have(image: str, until: str) -> None:
    """Even if nobody can sign the images on the mirror any more."""
    key = {**yaml.safe_load(keys_text())["keys"][0], **yaml.safe_load(until or "{}")}
    mirrored = policy(
        f"keys: [{json.dumps(key, default=str)}]\nmirrors: [{{from: docker.io, to: r.io/hub}}]\n{SIGN}",
        allow="[docker.io, r.io]",
        mode="mutate",
    )
    subject = Subject("shop", mirrored.mode("shop"), "template")
    verdict = judge(mirrored, subject, Slot((), "image", image), BY_NAME)
    assert (verdict.approved, verdict.decision.reason == "unsigned") == (not until, bool(until))
    assert verdict.rewritten == image.replace("nginx", "r.io/hub/library/nginx")


def test_the_json_of_a_verdict_has_the_fields_that_a_report_asks_for() -> None:
    verdict = judged("a.io/app")
    names = ("path", "image", "canonical", "verdict", "reason", "rewritten", "exception", "requirements")
    assert verdict.as_json(*names) == {
        "path": "spec.image",
        "image": "a.io/app",
        "canonical": "a.io/app",
        "verdict": "rejected",
        "reason": "unlisted",
        "rewritten": None,
        "requirements": [],
    }


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(judged(7, problem="the image is a number, not text"), id="no-text"),
        pytest.param(judged("A b"), id="no-reference"),
        pytest.param(
            Verdict(
                Slot((), "image", "A b"),
                Decision(image="A b", approved=True, reason="allowed", detail="by an earlier version"),
            ),
            id="saved-by-a-version-that-accepted-it",
        ),
    ],
)
def test_an_invalid_image_has_no_canonical_name(verdict: Verdict) -> None:
    assert verdict.canonical is None


def test_no_image_is_signed_in_a_world_without_signatures() -> None:
    slot = Slot((), "image", f"r.io/app@{DIGEST}")
    subject = Subject("shop", SIGNED.mode("shop"))
    assert judge(SIGNED, subject, slot, NOTHING_SIGNED).decision.reason == "unsigned"
    assert judge(SIGNED, subject, slot, BY_NAME).signatures == ()


def test_answers_without_notes_collect_no_look_ups() -> None:
    lookup = Lookup(())
    last = Answers(lambda _lookup: None, notes=False)
    assert (last.answer(lookup), last.missing) == (NOT_LOOKED_UP, [])


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        pytest.param("r.io", "allowed", id="one-target-needs-no-signature"),
        pytest.param("r.io, dr.io", "unsigned", id="no-key-is-live"),
    ],
)
def test_a_template_is_approved_if_its_pods_would_be_on_some_target(signed: str, reason: str) -> None:
    compiled = policy(
        "mirrors: [{from: docker.io, to: [r.io/hub, dr.io/hub], verify: true}]\n"
        f"{keys_text(until='2020-01-01')}require: [{{images: [{signed}], signedBy: [ci-2026]}}]\n",
        allow="[r.io, dr.io]",
        mode="mutate",
    )
    subject = Subject("shop", compiled.mode("shop"), "template")
    verdict = judge(compiled, subject, Slot((), "image", f"nginx@{DIGEST}"), BY_NAME)
    assert verdict.decision.reason == reason


HELD = f"r.io/app@{DIGEST}"


@pytest.mark.parametrize(
    ("more", "image", "pulled", "met"),
    [
        pytest.param("exists: true", HELD, True, [True], id="looked-up"),
        pytest.param("exists: true", HELD, False, [None], id="not-pulled"),
        pytest.param("digest: true", HELD, False, [True], id="a-digest-needs-no-look-up"),
    ],
)
def test_what_is_not_looked_up_is_not_known(more: str, image: str, pulled: bool, met: list[object]) -> None:  # noqa: FBT001
    compiled = policy(f"require: [{{images: [r.io], {more}}}]\n", allow="[r.io]")
    world = Answers(lambda _lookup: Resolution(found(DIGEST), 0))
    slot = Slot((), "image", image, pulled=pulled)
    verdict = judge(compiled, Subject("shop", compiled.mode("shop")), slot, world)
    assert [each.met for each in verdict.requirements] == met


@pytest.mark.parametrize(
    ("excepts", "written"),
    [
        pytest.param("[docker.io]", f"nginx:1@{DIGEST}", id="spared-by-the-mirror"),
        pytest.param("[docker.io/a/b]", f"r.io/hub/library/nginx:1@{DIGEST}", id="mirrored"),
    ],
)
def test_a_digest_is_written_whether_or_not_a_mirror_takes_the_image(excepts: str, written: str) -> None:
    compiled = policy(
        f"mirrors: [{{from: docker.io, to: r.io/hub, except: {excepts}}}]\n"
        "require: [{images: [docker.io, r.io], digest: true}]\n",
        allow="[docker.io, r.io]",
        mode="mutate",
    )
    world = Answers(lambda _lookup: Resolution(found(DIGEST), 0))
    new = Judge(compiled, Subject("shop", compiled.mode("shop")), world).rewrite(Slot((), "image", "nginx:1"))
    assert new is not None
    assert new.rewritten == written


@pytest.mark.parametrize("other", ["[]", f"['a.io/**@{DIGEST}']"])
@pytest.mark.parametrize(
    ("entry", "reason"),
    [pytest.param("r.io/app", "exception", id="name"), pytest.param("'r.io/app:1'", "denied", id="tag")],
)
def test_an_exception_for_a_tag_does_not_reach_its_digest(entry: str, reason: str, other: str) -> None:
    """Whether another rule denies digests does not matter."""
    deny = json.loads(other.replace("'", '"'))
    text = exceptions_text(f"image: {entry}, until: 2026-03-20, reason: r")
    documents = {DocumentKey("break-glass", "platform"): parse_exceptions(text, "break-glass")}
    given = policy_text(
        f"deny: {json.dumps(['r.io/app', *deny])}\nrequire: [{{images: [r.io], exists: true}}]\n"
        "exceptions: [{source: break-glass, images: [r.io/app], longest: 40d, overrides: [deny]}]\n",
        allow="[r.io]",
    )
    compiled = parse_policy(given).at(INSTANT, Exceptions(documents))
    world = Answers(lambda _lookup: Resolution(found(DIGEST), 0))
    verdict = judge(compiled, Subject("shop", compiled.mode("shop")), Slot((), "image", "r.io/app:1"), world)
    assert verdict.decision.reason == reason


@pytest.mark.parametrize(
    ("checked", "result", "words"),
    [
        pytest.param(Checked(0, met=True), "met", "require[0] met", id="met"),
        pytest.param(
            Checked(1, met=True, signature=Signature("ci", "bundle")),
            "met",
            "require[1] met, signed by ci (bundle)",
            id="signed",
        ),
        pytest.param(Checked(0, met=None), "met", "require[0] not looked up", id="offline"),
        pytest.param(
            Checked(0, None, "unverified", "timeout"), "error", "require[0] unknown: timeout", id="kept"
        ),
        pytest.param(
            Checked(0, met=False, reason="absent", detail="gone"),
            "unmet",
            "require[0] unmet: gone",
            id="unmet",
        ),
        pytest.param(
            Checked(0, met=False, reason="unverified", detail="timeout", warns=True),
            "error",
            "require[0] unmet (warning): timeout",
            id="warned",
        ),
    ],
)
def test_a_requirement_is_counted_and_shown_by_whether_it_is_met(
    checked: Checked, result: str, words: str
) -> None:
    assert (checked.result, checked.in_words) == (result, words)


@pytest.mark.parametrize("more", ["digest: true", "digest: true, exists: true"])
def test_a_tag_to_pin_that_does_not_exist_is_absent_where_existence_is_required(more: str) -> None:
    compiled = policy(f"require: [{{images: [r.io], {more}}}]\n", allow="[r.io]", mode="mutate")
    world = Answers(lambda _lookup: Resolution(MISSING))
    verdict = judge(compiled, Subject("shop", compiled.mode("shop")), Slot((), "image", "r.io/app:1"), world)
    assert verdict.decision.reason == ("absent" if "exists" in more else "unpinned")


def test_a_mirror_refuses_an_image_whatever_its_requirements_say() -> None:
    compiled = policy(
        "mirrors: [{from: docker.io, to: r.io/hub, verify: true, onMissing: deny}]\n"
        "require: [{images: [docker.io], digest: true}]\n",
        allow="[docker.io, r.io]",
        mode="mutate",
    )
    world = Answers(lambda _lookup: Resolution(MISSING))
    subject = Subject("shop", compiled.mode("shop"))
    verdict = judge(compiled, subject, Slot((), "image", f"docker.io/library/nginx@{DIGEST}"), world)
    assert (verdict.decision.reason, [each.met for each in verdict.requirements]) == ("absent", [True])


def test_nothing_is_certain_about_an_image_that_must_exist() -> None:
    compiled = policy("require: [{images: [r.io], exists: true}]\n", allow="[r.io]")
    assert certainly_approved(parse(review(pod(f"r.io/app@{DIGEST}"))), compiled) is None
