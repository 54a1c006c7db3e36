"""Reviews with large bodies get the same answers as small ones, even if the policy changes meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import orjson
import pytest

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.webhook import webhook
from gatekeeper_py.webhook.body import LARGE_BODY_BYTES, MAX_TYPED_WEIGHT
from gatekeeper_py.webhook.decode import parse_pod_review
from support.builders import pod, policy, review, workload
from support.served import Served, Start
from support.wire import request

GOOD: Final = "registry.corp.io/web:1"
BAD: Final = "evil.io/web:1"
PODS_DECLARED: Final = "resources: [{group: '', kind: Pod, images: [spec.extra]}]\n"
PADDING: Final = [
    pytest.param("x" * LARGE_BODY_BYTES, id="light"),
    pytest.param([1] * (MAX_TYPED_WEIGHT + 1), id="heavy"),
]


def large(*images: str, padding: Any, **spec: Any) -> dict[str, Any]:
    return review(pod(*images, metadata={"annotations": {}, "padding": padding}, **spec))


@pytest.mark.parametrize("padding", PADDING)
async def test_the_verdict_is_that_of_any_other_review(served: Served, padding: Any) -> None:
    assert (await served.review(large(GOOD, GOOD, padding=padding))).allowed
    answer = await served.review(large(GOOD, BAD, padding=padding))
    assert not answer.allowed
    assert "spec.containers[1].image" in answer.message


@pytest.mark.parametrize("padding", PADDING)
async def test_an_image_at_a_declared_path_of_a_pod_is_seen(start: Start, padding: Any) -> None:
    served = start(policy(PODS_DECLARED))
    assert not (await served.review(large(GOOD, padding=padding, extra=BAD))).allowed


@pytest.mark.parametrize("padding", [pytest.param("", id="small"), *PADDING])
async def test_a_restart_of_an_old_deployment_warns(served: Served, padding: Any) -> None:
    """The typed decoder leaves out the annotation that a restart adds to the template."""
    old, new = ({**workload("Deployment", BAD), "status": {"padding": padding}} for _ in range(2))
    assert (await served.review(review(new, operation="UPDATE", old=old))).warnings == ()
    new["spec"]["template"]["metadata"] = {"annotations": {"restartedAt": "now"}}
    answer = await served.review(review(new, operation="UPDATE", old=old))
    assert answer.allowed
    assert answer.warnings == (
        f"spec.template.spec.containers[0].image: {BAD} is not approved; new Pods will be refused",
    )
    assert served.metric("images_total", verdict="rejected", reason="unlisted") == 1
    counted = {"endpoint": "validate", "operation": "UPDATE", "verdict": "warned", "mode": "enforce"}
    assert served.metric("reviews_total", **counted) == 1


@pytest.mark.parametrize("padding", PADDING)
async def test_a_policy_that_reads_more_may_become_live_after_decoding(
    served: Served, monkeypatch: pytest.MonkeyPatch, padding: Any
) -> None:
    """The body is then decoded again, because the typed decoder left out fields that the new policy reads."""
    delayed: list[bool] = []

    def parse_and_change(body: bytes, *, pull_policies: bool) -> dict[str, Any] | None:
        delayed.append(True)
        document = parse_pod_review(body, pull_policies=pull_policies)
        served.live.install(policy(PODS_DECLARED).serving(100, CacheCounts()))
        return document

    monkeypatch.setattr(webhook, "parse_pod_review", parse_and_change)
    answer = await served.review(large(GOOD, padding=padding, extra=BAD))
    assert answer.allowed is not bool(delayed)
    assert bool(delayed) is isinstance(padding, str)


async def test_many_at_once_are_all_answered(served: Served) -> None:
    """The server answers them one after the other, and small reviews in between."""
    documents = [large(GOOD if number % 2 else BAD, padding="x" * 400_000) for number in range(10)]
    answers = await asyncio.gather(*(served.review(document) for document in documents))
    assert [answer.allowed for answer in answers] == [bool(number % 2) for number in range(10)]


@pytest.mark.parametrize("document", [{"request": 1}, {"kind": "AdmissionReview"}, []])
async def test_a_large_body_that_is_not_a_review_gets_400(served: Served, document: Any) -> None:
    body = orjson.dumps(document) + b" " * LARGE_BODY_BYTES
    async with served.connected() as connection:
        assert (await connection.ask(request(body))).status == 400
        assert (await connection.ask(request(orjson.dumps(review(pod(GOOD)))))).status == 200


async def test_before_the_first_policy_it_gets_503(start: Start) -> None:
    served = start(None)
    body = json.dumps(large(GOOD, padding="x" * LARGE_BODY_BYTES)).encode()
    assert (await served.ask(request(body))).status == 503
