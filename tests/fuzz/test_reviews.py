"""For any body, each endpoint refuses it with a reason or answers as the API server expects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fuzz.mutations import ODD_TEXTS, anything, mutated
from gatekeeper_py.core import admission, parse_policy
from gatekeeper_py.core.admission import Outcome, guard
from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview, parse
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.webhook.body import parse_json
from gatekeeper_py.webhook.decode import parse_pod_review, updates_template
from support.budget import budget
from support.builders import INSTANT, WORKLOADS, container, pod, policy, review, workload
from support.contract import Answer, check_response

DATA: Final = Path(__file__).parent.parent / "data"

RECORDED: Final = [
    json.loads(file.read_bytes()) for file in sorted((DATA / "reviews").glob("*/request.json"))
]
POLICY_TEXT: Final = (DATA / "policies" / "mutate.yaml").read_text()
BUILT: Final = [
    *(review(workload(kind, "nginx", "registry.corp.io/web:1")) for kind in WORKLOADS),
    *(
        review(workload(kind, "nginx:2"), old=workload(kind, "nginx:1"), operation="UPDATE")
        for kind in WORKLOADS
    ),
    review(
        pod(
            "registry.corp.io/web:1",
            initContainers=[container("quay.io/x")],
            ephemeralContainers=[container("evil.io/x")],
            volumes=[{"name": "v", "image": {"reference": "docker.io/x/y"}}],
        )
    ),
    review(
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gatekeeper-py-policy"},
            "data": {"policy.yaml": POLICY_TEXT, "mode": "warn"},
        }
    ),
]  # fmt: skip
REVIEWS: Final = [*RECORDED, *BUILT]

MORE: Final = """
deny: [docker.io/evil/**, "*/**:bad"]
mirrors: [{from: docker.io, to: registry.corp.io/hub}, {from: quay.io, to: other.io/q}]
resources: [{group: example.com, kind: Widget, images: ['spec.image', 'spec{*}.image']}]
namespaces: [{names: [dev], mode: warn}]
"""
POLICIES: Final = [
    *(parse_policy(file.read_text()).at(INSTANT) for file in sorted((DATA / "policies").glob("*.yaml"))),
    policy(MORE, mode="mutate"),
    policy(MORE, mode="warn", allow="[{image: registry.corp.io, namespaces: [shop]}]"),
    policy("resources: [{group: '', kind: Pod, images: ['spec.extra{*}', 'metadata.labels{*}']}]\n"),
]
JUDGES: Final = ((admission.validate, "validate"), (admission.mutate, "mutate"))

encoders: Final = st.sampled_from(
    (
        lambda value: json.dumps(value).encode(),
        lambda value: json.dumps(value, indent=1, sort_keys=True).encode(),
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    )
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a review as bytes, usually a nearly good and complete one."""
    value = draw(st.one_of(mutated(REVIEWS), mutated(REVIEWS), mutated(REVIEWS), anything))
    body: bytes = draw(encoders)(value)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.binary(max_size=4)) + body[place + draw(st.integers(0, 4)) :]
    return body


def decoded(body: bytes) -> tuple[Any, AdmissionRequest] | Refusal | InvalidReview:
    """Return the document and its request; raise the documented exception when it is refused."""
    try:
        document = parse_json(body)
        return document, parse(document)
    except (Refusal, InvalidReview) as problem:
        return problem


def check_body(body: bytes) -> bool:
    """Check all laws for one body; return whether it was a review."""
    found = decoded(body)
    if not isinstance(found, tuple):
        assert str(found)
        assert isinstance(found, InvalidReview) or found.status in {400, 413}
        assert parse_pod_review(body) is None or isinstance(found, InvalidReview)
        return False
    document, request = found
    for compiled in POLICIES:
        cached = compiled.serving(64, CacheCounts())
        small = compiled.serving(1, CacheCounts())
        answers = {}
        for judge, endpoint in JUDGES:
            outcome = judge(request, compiled)
            for again in (
                judge(request, compiled),
                *(judge(request, each) for each in (cached, cached, small)),
            ):
                assert again == outcome
            answers[endpoint] = answered(outcome, document, endpoint)
        check_mode(request, compiled.mode(request.namespace).name, answers)
        if POD not in compiled.resources:
            check_typed(body, compiled)
    check_guard(request)
    return True


def answered(outcome: Outcome, document: Any, endpoint: Any) -> Answer:
    return check_response(orjson.dumps(outcome.response.document()), document, endpoint)


def check_mode(request: AdmissionRequest, mode: str, answers: dict[str, Answer]) -> None:
    """Check the rules of each mode for any request."""
    validated, mutated_ = answers["validate"], answers["mutate"]
    assert mutated_.allowed
    if mode == "warn":
        assert validated.allowed
        assert validated.warnings or "rejected" not in validated.audit
    else:
        assert validated.allowed == ("rejected" not in validated.audit)
    if mode != "mutate":
        assert not mutated_.patch
    if request.operation in {"DELETE", "CONNECT"}:
        assert validated.allowed
        assert not mutated_.patch


def check_typed(body: bytes, compiled: Any) -> None:
    """Check that the typed decoder returns the same as orjson."""
    typed = parse_pod_review(body)
    if typed is None or updates_template(typed):
        return
    for judge, _ in JUDGES:
        assert judge(parse(typed), compiled) == judge(parse(orjson.loads(body)), compiled)


def check_guard(request: AdmissionRequest) -> None:
    """Check that the endpoint for policies answers a review of any ConfigMap."""
    policy = guard.guarded(request, request.namespace or "", request.name)
    outcome = guard.untouched(request)
    if policy is not None:
        assert policy.text is not None or policy.findings
        answer = guard.refused if policy.findings else guard.accepted
        outcome = answer(request, policy.findings)
    response = orjson.loads(orjson.dumps(outcome.response.document()))["response"]
    assert response["uid"] == request.uid
    assert response["allowed"] == (outcome.verdict == "allowed")
    if not response["allowed"]:
        assert len(response["status"]["message"].encode()) <= 1024
        assert all(line.isprintable() for line in response["status"]["message"].split("\n"))


@settings(max_examples=budget(150), suppress_health_check=[HealthCheck.too_slow])
@given(bodies())
@example(b"")
@example(b"null")
def any_body(body: bytes) -> None:
    check_body(body)


@pytest.mark.hypothesis
def test_any_body_is_refused_by_name_or_answered_as_expected(rounds: Iterator[int]) -> None:
    for _ in rounds:
        any_body()


@pytest.mark.parametrize("document", REVIEWS)
def test_the_seeds_of_mutations_are_accepted(document: Any) -> None:
    assert check_body(json.dumps(document).encode())


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_every_unusual_text_is_judged_as_an_image(text: str) -> None:
    check_body(json.dumps(review(pod(text, "nginx"))).encode())
