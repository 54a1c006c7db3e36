"""Some answers of an API server prove enforcement, and a probe uses an image that the policy must reject."""

from __future__ import annotations

import json

import pytest

from builders import INSTANT, NAMESPACE, policy_text
from gatekeeper_py.control.enforcement.evidence import (
    Proof,
    probe_image,
    read_answer,
    rejects_valid_probes,
)
from gatekeeper_py.control.probe_pod import Answer, pod
from gatekeeper_py.control.webhooks.templates import POD_MUTATION, POD_VALIDATION, WORKLOAD_VALIDATION
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.policy.policy import Policy, parse_policy

TOKEN = "0123456789abcdef"
OTHER_TOKEN = "fedcba9876543210"
PROBES_TOO = "['*.invalid']"
ENFORCED = Proof(outcome="enforced")


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


def answer(code: int, message: str = "", *warnings: str) -> Answer:
    return Answer(status=code, body=status(message), warnings=tuple(f'299 - "{each}"' for each in warnings))


def judged(policy: Policy, image: str) -> Answer:
    """Return the answer of an API server to the probe Pod if a replica with this policy reviews it."""
    raw = {"uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE"}
    document = {**raw, "namespace": NAMESPACE, "object": pod(image)}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": document}
    response = admission.validate(parse(review), policy.at(INSTANT)).response
    if not response.allowed:
        text = f'admission webhook "{POD_VALIDATION}" denied the request: {response.message}'
        return answer(403, text, *response.warnings)
    return answer(403, "exceeded quota: no-pods", *response.warnings)


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_the_refusals_and_warnings_that_users_get_are_proof(mode: str, *, valid: bool) -> None:
    mirrors = "mirrors: [{from: docker.io, to: registry.corp.io/hub}]"
    policy = parse_policy(policy_text(mirrors, mode=mode))
    assert read_answer(judged(policy, probe_image(TOKEN, valid=valid)), TOKEN) == ENFORCED


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_an_image_that_is_not_valid_proves_enforcement_of_a_policy_that_approves_probes(
    mode: str,
) -> None:
    policy = parse_policy(policy_text(mode=mode, allow=PROBES_TOO))
    assert not rejects_valid_probes(policy, NAMESPACE, INSTANT)
    assert read_answer(judged(policy, probe_image(TOKEN, valid=True)), TOKEN).outcome == "not_enforced"
    assert read_answer(judged(policy, probe_image(TOKEN, valid=False)), TOKEN) == ENFORCED


@pytest.mark.parametrize(
    ("more", "allow", "rejects"),
    [
        pytest.param("", "[registry.corp.io]", True, id="one-registry"),
        pytest.param("", PROBES_TOO, False, id="glob"),
        pytest.param("", "[gatekeeper-py-probe.invalid]", False, id="by-name"),
        pytest.param("deny: ['*.invalid/**']", PROBES_TOO, True, id="and-denied"),
        pytest.param(
            "mirrors: [{from: gatekeeper-py-probe.invalid, to: registry.corp.io/x}]",
            "[registry.corp.io]",
            False,
            id="rewritten",
        ),
        pytest.param("", "[{image: '*.invalid', namespaces: [other]}]", True, id="approved-elsewhere"),
        pytest.param("", f"[{{image: '*.invalid', namespaces: [{NAMESPACE}]}}]", False, id="approved-there"),
    ],
)
def test_whether_a_policy_rejects_valid_probes(more: str, allow: str, *, rejects: bool) -> None:
    policy = parse_policy(policy_text(more, mode="mutate", allow=allow))
    assert rejects_valid_probes(policy, NAMESPACE, INSTANT) is rejects


@pytest.mark.parametrize("allow", ["[registry.corp.io]", PROBES_TOO])
def test_the_fast_path_never_skips_a_rejected_probe(allow: str) -> None:
    policy = parse_policy(policy_text(allow=allow))
    fast_path = compile_fastpath(policy, INSTANT)
    valid = rejects_valid_probes(policy, NAMESPACE, INSTANT)
    assert not fast_path.approves(NAMESPACE, probe_image(TOKEN, valid=valid), "validating")


IMAGE = probe_image(TOKEN, valid=True)
OURS = f'admission webhook "{POD_VALIDATION}" denied the request: '
NAMED = f'container "probe" (spec.containers[0].image): {IMAGE} is not approved'


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        pytest.param(answer(201), "the API server admitted an image", id="admitted"),
        pytest.param(
            answer(201, "", f"spec.containers[0].image: {IMAGE} was rewritten to a.io/x"),
            "the API server admitted an image",
            id="rewritten-only",
        ),
        pytest.param(
            answer(201, "", f"spec.containers[0].image: {IMAGE} is left as written: no target"),
            "the API server admitted an image",
            id="left-as-written-only",
        ),
        pytest.param(
            answer(201, "", f"spec.volumes[0].image: {IMAGE} is not approved"),
            "the API server admitted an image",
            id="a-warning-about-another-field",
        ),
        pytest.param(
            answer(403, f"{OURS}{NAMED}".replace(TOKEN, OTHER_TOKEN)),
            "the webhook did not refuse the Pod",
            id="another-attempt",
        ),
        pytest.param(
            answer(403, f'admission webhook "policy.kyverno.svc" denied the request: {NAMED}'),
            "the webhook did not refuse the Pod",
            id="another-webhook",
        ),
        pytest.param(
            answer(403, f"{OURS}{NAMED}".replace(POD_VALIDATION, WORKLOAD_VALIDATION)),
            "the webhook did not refuse the Pod",
            id="another-webhook-of-the-product",
        ),
        pytest.param(
            answer(403, f"{OURS}{NAMED}".replace(POD_VALIDATION, POD_MUTATION)),
            "the webhook did not refuse the Pod",
            id="the-mutating-webhook",
        ),
        pytest.param(
            answer(403, 'pods "x" is forbidden: exceeded quota: no-pods'),
            "the webhook did not refuse the Pod; the API server answered 403",
            id="a-quota",
        ),
        pytest.param(
            answer(403, f'pods is forbidden: User "system:serviceaccount" cannot create {IMAGE}'),
            "the webhook did not refuse the Pod",
            id="rbac",
        ),
        pytest.param(answer(404, 'namespaces "x" not found'), "answered 404", id="no-namespace"),
        pytest.param(answer(401, "Unauthorized"), "answered 401", id="unauthorized"),
        pytest.param(
            answer(500, f'Internal error: failed calling webhook "{POD_VALIDATION}": refused {TOKEN}'),
            "the API server got no answer from the webhook",
            id="not-reached",
        ),
        pytest.param(Answer(status=502, body=b"<html>"), "answered 502", id="not-json"),
        pytest.param(Answer(status=500, body=b'{"message": 1}'), "answered 500", id="no-text"),
    ],
)
def test_everything_else_proves_nothing(found: Answer, problem: str) -> None:
    proof = read_answer(found, TOKEN)
    assert proof.outcome == "not_enforced"
    assert problem in proof.problem
    assert len(proof.problem) <= 300


def test_an_api_server_that_does_not_answer_proves_nothing_either_way() -> None:
    assert read_answer(Answer(problem="cannot connect"), TOKEN) == Proof(
        outcome="unreachable", problem="cannot connect"
    )
