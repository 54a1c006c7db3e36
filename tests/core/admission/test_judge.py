"""What a verdict shows, and the digests of running images."""

from __future__ import annotations

import json

import pytest
import yaml

from builders import INSTANT, exceptions_text, keys_text, policy, policy_text
from gatekeeper_py.core.admission import BY_NAME, Answers, Subject, Verdict, judge
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import NOT_LOOKED_UP, NOTHING_SIGNED
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import EXISTENCE, MISSING, Lookup, Resolution, found
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.core.policy.policy import parse_policy

DIGEST = f"sha256:{'a' * 64}"
SIGNED = policy(keys_text(), allow="[{image: r.io, signedBy: [ci-2025]}]")


def judged(image: object, running: str = "", problem: str = "") -> Verdict:
    slot = Slot(("spec", "image"), "image", image, problem=problem, running=running)
    return judge(SIGNED, Subject("shop", SIGNED.mode("shop")), slot, BY_NAME)


@pytest.mark.parametrize(
    ("running", "reason"),
    [pytest.param(DIGEST, "allowed", id="a-digest-runs"), pytest.param("", "unpinned", id="none-is-known")],
)
def test_an_image_needs_a_digest_unless_one_is_known_to_run(running: str, reason: str) -> None:
    assert judged("r.io/app:1", running).decision.reason == reason


@pytest.mark.parametrize("rule", ["r.io/app", "r.io/app:v1"])
@pytest.mark.parametrize(
    ("overrides", "approved"),
    [
        pytest.param(["deny"], False, id="deny"),
        pytest.param(["signature"], False, id="signature"),
        pytest.param(["deny", "signature"], False, id="one-grant-for-each"),
        pytest.param(["[deny, signature]"], True, id="one-grant-for-both"),
    ],
)
def test_one_grant_must_override_both_the_denial_of_a_digest_and_the_signature(
    rule: str,
    overrides: list[str],
    approved: bool,  # noqa: FBT001
) -> None:
    grants = ", ".join(
        f"{{source: break-glass, images: [r.io/app], longest: 40d, overrides: {each}}}" for each in overrides
    )
    text = exceptions_text("image: r.io/app, until: 2026-03-20, reason: r")
    documents = {DocumentKey("break-glass", "platform"): parse_exceptions(text, "break-glass")}
    given = policy_text(
        f"{keys_text()}deny: ['r.io/app@{DIGEST}']\nexceptions: [{grants}]\n",
        allow=f"[{{image: '{rule}', signedBy: [ci-2025]}}]",
    )
    compiled = parse_policy(given).at(INSTANT, Exceptions(documents))

    def resolved(lookup: Lookup) -> Resolution:
        return Resolution(found(DIGEST) if lookup.candidates[0].kind == EXISTENCE else MISSING, 0)

    verdict = judge(
        compiled, Subject("shop", compiled.mode("shop")), Slot((), "image", "r.io/app:v1"), Answers(resolved)
    )
    assert verdict.approved is approved


@pytest.mark.parametrize("image", ["nginx", f"nginx@{DIGEST}"])
@pytest.mark.parametrize("until", ["", "until: 2020-01-01"])
def test_a_template_is_judged_by_the_name_that_its_pods_will_have(image: str, until: str) -> None:
    """A mirror whose images nobody can sign any more replaces no image."""
    key = {**yaml.safe_load(keys_text())["keys"][0], **yaml.safe_load(until or "{}")}
    mirrored = policy(
        f"keys: [{json.dumps(key, default=str)}]\nmirrors: [{{from: docker.io, to: r.io/hub}}]\n",
        allow="[docker.io, {image: r.io, signedBy: [ci-2025]}]",
        mode="mutate",
    )
    subject = Subject("shop", mirrored.mode("shop"), "template")
    verdict = judge(mirrored, subject, Slot((), "image", image), BY_NAME)
    assert (verdict.approved, verdict.rewritten is None) == (True, bool(until))


def test_the_json_of_a_verdict_has_the_fields_that_a_report_asks_for() -> None:
    verdict = judged("a.io/app")
    names = ("path", "image", "canonical", "verdict", "reason", "rewritten", "exception", "signature")
    assert verdict.as_json(*names) == {
        "path": "spec.image",
        "image": "a.io/app",
        "canonical": "a.io/app",
        "verdict": "rejected",
        "reason": "unlisted",
        "rewritten": None,
        "signature": None,
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
    assert judge(SIGNED, subject, slot, BY_NAME).signature is None


def test_answers_without_notes_collect_no_look_ups() -> None:
    lookup = Lookup(())
    last = Answers(lambda _lookup: None, notes=False)
    assert (last.answer(lookup), last.missing) == (NOT_LOOKED_UP, [])
