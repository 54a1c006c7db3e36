"""Reviews of dry runs are answered like others and leave nothing behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatekeeper_py.webhook.denials import Denials
from gatekeeper_py.webhook.metrics import Endpoint
from support.builders import HUB_TO_CORP, pod, policy, policy_text, review, workload
from support.served import GUARDED, Served, Start
from support.wire import request

NO_DECISIONS = ("reviews", "images", "exemptions", "rewrites", "excepted_images", "policy_checks")
"""The counters of reviews that are not dry runs."""


def dry(document: dict[str, Any], *, run: Any = True) -> dict[str, Any]:
    return {**document, "request": {**document["request"], "dryRun": run}}


def changed_policy(text: str) -> dict[str, Any]:
    obj = {"metadata": {"name": GUARDED.name}, "data": {"policy.yaml": text}}
    return review(obj, kind=("", "ConfigMap"), namespace=GUARDED.namespace)


async def answered(served: Served, document: dict[str, Any], path: str) -> dict[str, Any]:
    answer = await served.ask(request(json.dumps(document).encode(), path=path))
    response: dict[str, Any] = answer.json()["response"]
    return response


def counted(served: Served) -> float:
    """Return the sum of all counters of decisions."""
    return sum(
        sample.value
        for family in served.metrics.registry.collect()
        for sample in family.samples
        if sample.name in {f"gatekeeper_py_{name}_total" for name in NO_DECISIONS}
    )


@pytest.mark.parametrize("log_allowed", [False, True], ids=["info", "debug"])
@pytest.mark.parametrize(
    ("document", "endpoint", "verdict"),
    [
        pytest.param(review(pod("registry.corp.io/web:1")), "validate", "allowed", id="allowed"),
        pytest.param(review(pod("quay.io/a:1")), "validate", "denied", id="denied"),
        pytest.param(review(pod()), "validate", "allowed", id="no-images"),
        pytest.param(review(workload("Deployment", "quay.io/a:1")), "validate", "denied", id="workload"),
        pytest.param(review(pod("nginx:1")), "mutate", "mutated", id="mutated"),
        pytest.param(changed_policy(policy_text()), "policy", "warned", id="policy"),
        pytest.param(changed_policy("x: y"), "policy", "denied", id="refused-policy"),
        pytest.param(review(pod("a")), "policy", "allowed", id="skipped"),
    ],
)
async def test_it_has_the_same_answer_and_leaves_one_count(
    start: Start,
    document: dict[str, Any],
    endpoint: Endpoint,
    verdict: str,
    log_allowed: bool,  # noqa: FBT001 - a column of the table
) -> None:
    denials = Denials()
    served = start(policy(HUB_TO_CORP, mode="mutate"), denials=denials, log_allowed=log_allowed)
    path = "/validate-policy" if endpoint == "policy" else f"/{endpoint}-image"
    response = await answered(served, dry(document), path)
    assert served.metric("dry_run_reviews_total", endpoint=endpoint, verdict=verdict) == 1
    assert (counted(served), list(denials)) == (0, [])
    assert [(level, event) for level, event, _ in served.log.lines] == (
        [("debug", "review")] if log_allowed and served.log.lines else []
    )
    assert response == await answered(served, document, path)
    assert counted(served) > 0
    assert served.metric("dry_run_reviews_total", endpoint=endpoint, verdict=verdict) == 1


async def test_it_is_marked_in_the_log(start: Start) -> None:
    served = start(log_allowed=True)
    await served.review(dry(review(pod("quay.io/a:1"))))
    assert [keys["dry_run"] for keys in served.log.named("review")] == [True]


async def test_its_images_do_not_count_when_the_policy_changes(start: Start) -> None:
    """Sixty invented names would hide that the new policy rejects most images in use."""
    served = start(policy('deny: ["*/**:latest"]\n'))
    for number in range(12):
        await served.review(review(pod(f"registry.corp.io/app{number}:1")))
    insisted = policy_text('deny: ["*/**:latest"]\n', allow="[registry.corp.io/invented]")
    for number in range(60):
        invented = f"registry.corp.io/invented/{number}:1"
        await served.review(dry(review(pod(invented))))
        await served.review(dry(review(workload("Deployment", invented, "quay.io/a:1"))))
    response = await answered(served, dry(changed_policy(insisted)), "/validate-policy")
    assert "rejects 12 of 12 images" in response["status"]["message"]
    assert served.metric("guard_rejected_images") == 0
    await answered(served, changed_policy(insisted), "/validate-policy")
    assert served.metric("guard_rejected_images") == 12


@pytest.mark.parametrize("value", [False, None, "true", 1, [True]])
async def test_a_review_is_a_dry_run_only_if_it_says_true(start: Start, value: Any) -> None:
    served = start()
    await served.review(dry(review(pod("quay.io/a:1")), run=value))
    labels = {"endpoint": "validate", "operation": "CREATE", "mode": "enforce", "verdict": "denied"}
    assert served.metric("reviews_total", **labels) == 1
    assert len(served.log.named("review")) == 1


async def test_the_counter_starts_at_zero(start: Start) -> None:
    served = start()
    assert b'dry_run_reviews_total{endpoint="policy",verdict="denied"} 0.0' in served.metrics.exposition()
