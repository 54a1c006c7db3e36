"""What a verdict shows, and the digests of running images."""

from __future__ import annotations

import json

import pytest
import yaml

from builders import keys_text, policy
from gatekeeper_py.core.admission import BY_NAME, Answers, Subject, Verdict, judge
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import NOT_LOOKED_UP, NOTHING_SIGNED
from gatekeeper_py.core.images.manifest import Lookup
from gatekeeper_py.core.policy.decision import Decision

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
