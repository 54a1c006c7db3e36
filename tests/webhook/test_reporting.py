"""Log lines and metrics of reviews: one line for each affected review, and metrics for all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatekeeper_py.core.exceptions.document import ExceptionDocument, ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, DocumentKey, Exceptions
from gatekeeper_py.core.images.pattern import parse_pattern
from support.builders import HUB_TO_CORP, UID, pod, policy, policy_text, review, workload
from support.served import GUARDED, Served, Start
from support.wire import request

GOOD, BAD = review(pod("registry.corp.io/a")), review(pod("nginx"))
MUTATE = policy(HUB_TO_CORP, mode="mutate")


GRANTS = """
exceptions:
  - {source: namespace, images: [docker.io/**], longest: 400d}
"""


async def test_a_review_that_an_exception_admits_is_logged_and_counted(start: Start) -> None:
    served = start(policy(GRANTS))
    now = datetime.now(UTC)
    end = (now + timedelta(days=1)).replace(microsecond=0)
    entry = ExceptionEntry(
        index=0,
        line=4,
        pattern=parse_pattern("docker.io/library/nginx"),
        until=end,
        reason="a\nb",
        owner="me",
    )
    key = DocumentKey("namespace", "shop")
    served.live.use_exceptions(Exceptions({key: ExceptionDocument(entries=(entry,))}))
    answer = await served.review(BAD)
    assert answer.allowed
    ((level, event, keys),) = served.log.lines
    assert (level, event, keys["verdict"]) == ("info", "review", "allowed")
    assert keys["images"][0]["exception"] == {
        "source": "namespace",
        "namespace": "shop",
        "index": 0,
        "until": f"{end:%Y-%m-%dT%H:%M:%S}Z",
        "by": "me",
        "reason": "a\\nb",
    }
    assert served.metric("excepted_images_total", source="namespace") == 1
    assert served.metric("images_total", verdict="approved", reason="exception") == 1
    served.live.use_exceptions(NO_EXCEPTIONS)
    answer = await served.review(BAD)
    assert not answer.allowed
    assert served.metric("excepted_images_total", source="namespace") == 1


@pytest.mark.parametrize(
    ("mode", "endpoint", "document", "verdict", "level"),
    [
        pytest.param("enforce", "validate", BAD, "denied", "info", id="denied"),
        pytest.param("warn", "validate", BAD, "warned", "info", id="warned"),
        pytest.param("mutate", "mutate", BAD, "mutated", "info", id="mutated"),
        pytest.param("enforce", "validate", GOOD, "allowed", "debug", id="allowed"),
        pytest.param("enforce", "mutate", BAD, "allowed", "debug", id="left-alone"),
    ],
)  # fmt: skip
async def test_each_review_is_logged_and_counted_once(
    start: Start, mode: Any, endpoint: Any, document: Any, verdict: str, level: str
) -> None:
    compiled = policy(HUB_TO_CORP, mode=mode)
    served = start(compiled, log_allowed=True)
    await served.review(document, endpoint)
    ((logged_level, event, keys),) = served.log.lines
    assert (logged_level, event, keys["verdict"]) == (level, "review", verdict)
    assert {
        "uid": UID,
        "namespace": "shop",
        "name": "web",
        "kind": "Pod",
        "operation": "CREATE",
        "user": "system:serviceaccount:kube-system:replicaset-controller",
        "policy": compiled.revision,
    }.items() <= keys.items()
    labels = {"endpoint": endpoint, "operation": "CREATE", "verdict": verdict, "mode": mode}
    assert served.metric("reviews_total", **labels) == 1
    assert served.metric("review_duration_seconds_count", endpoint=endpoint) == 1
    assert served.metric("inflight_reviews") == 0


async def test_an_allowed_review_is_logged_only_at_debug_level(start: Start) -> None:
    served = start(policy(HUB_TO_CORP))
    await served.review(GOOD)
    assert served.log.lines == []
    labels = {"endpoint": "validate", "operation": "CREATE", "verdict": "allowed", "mode": "enforce"}
    assert served.metric("reviews_total", **labels) == 1


@pytest.mark.parametrize("mode", ["enforce", "warn"])
async def test_other_images_do_not_hide_an_exception_from_the_log(start: Start, mode: str) -> None:
    served = start(policy(GRANTS, mode=mode))
    entry = ExceptionEntry(
        index=0,
        line=4,
        pattern=parse_pattern("docker.io/library/nginx"),
        until=datetime.now(UTC) + timedelta(days=1),
        reason="r",
    )
    key = DocumentKey("namespace", "shop")
    served.live.use_exceptions(Exceptions({key: ExceptionDocument(entries=(entry,))}))
    registry = "registry.corp.io" if mode == "enforce" else "quay.io"
    answer = await served.review(review(pod(*(f"{registry}/{n}" for n in range(20)), "nginx")))
    assert answer.allowed
    (line,) = served.log.named("review")
    assert (line["images"][0]["image"], line["images"][0]["reason"]) == ("nginx", "exception")
    assert len(line["images"]) <= 10


async def test_images_and_rewrites_are_counted_once(start: Start) -> None:
    served = start(MUTATE)
    document = review(pod("nginx", "nginx:1.25", "registry.corp.io/a", "quay.io/a"))
    await served.review(document, "mutate")
    await served.review(document)
    assert served.metric("rewrites_total", mirror="0") == 2
    assert served.metric("images_total", verdict="approved", reason="allowed") == 1
    assert served.metric("images_total", verdict="rejected", reason="unlisted") == 3


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param(review(None, kind=("", "Pod"), operation="DELETE"), "operation", id="delete"),
        pytest.param(review(workload("Job")), "no-images", id="no-images"),
        pytest.param(review({"apiVersion": "x.io/v1", "kind": "Thing"}), "unknown-kind", id="unknown-kind"),
        pytest.param(
            review(pod("nginx", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
                   groups=("system:nodes",)),
            "mirror-pod", id="mirror-pod",
        ),
    ],
)  # fmt: skip
async def test_exempt_reviews_are_counted_by_reason(served: Served, document: Any, reason: str) -> None:
    await served.review(document)
    assert served.metric("exemptions_total", reason=reason) == 1


async def test_a_pod_without_a_name_yet_is_named_by_its_prefix(served: Served) -> None:
    document = review(pod("nginx", metadata={"generateName": "web-7d9-"}))
    document["request"]["name"] = ""
    await served.review(document)
    assert served.log.named("review")[0]["name"] == "web-7d9-"


async def test_many_images_make_a_bounded_line(served: Served) -> None:
    await served.review(review(pod(*(f"nginx:{number}" for number in range(1000)))))
    (line,) = served.log.named("review")
    assert (len(line["images"]), line["more_images"]) == (10, 990)


async def test_text_of_users_is_escaped_and_truncated(served: Served) -> None:
    hostile = "x\x1b[31m\n\u202e" + "y" * 100_000
    document = review(pod(hostile, metadata={"name": hostile}), namespace=hostile, username=hostile)
    document["request"]["name"] = hostile
    document["request"]["kind"]["kind"] = hostile
    await served.review(document)
    (line,) = served.log.named("review")
    text = json.dumps(line, ensure_ascii=False)
    assert text.isprintable()
    assert len(text) < 4000


async def test_a_review_of_a_policy_is_counted_and_logged(served: Served) -> None:
    configmap = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": GUARDED.name},
        "data": {"policy.yaml": policy_text("x: y\n")},
    }
    document = review(configmap, namespace=GUARDED.namespace)
    await served.ask(request(json.dumps(document).encode(), path="/validate-policy"))
    assert served.metric("review_duration_seconds_count", endpoint="policy") == 1
    (line,) = served.log.named("review")
    assert (line["endpoint"], line["verdict"], line["kind"]) == ("policy", "denied", "ConfigMap")


@pytest.mark.parametrize("content", [b"{", b"[]"])
async def test_an_invalid_review_counts_only_as_an_error(served: Served, content: bytes) -> None:
    await served.ask(request(content))
    assert served.metric("http_errors_total", code="400") == 1
    assert served.metric("review_duration_seconds_count", endpoint="validate") == 0


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("require", "image", "counted"),
    [
        pytest.param(["digest: true"], f"registry.corp.io/a@{DIGEST}", {"met": 1}, id="met-on-the-hot-path"),
        pytest.param(["digest: true"], "registry.corp.io/a", {"unmet": 1}, id="unmet"),
        pytest.param(["digest: true, mode: warn"], "registry.corp.io/a", {"unmet": 1}, id="warned"),
        pytest.param(
            ["digest: true, namespaces: [other]", "exists: true", "digest: true"],
            "registry.corp.io/a",
            {"error": 1, "unmet": 1},
            id="each-that-matches",
        ),
        pytest.param(["digest: true"], "quay.io/a", {}, id="names-reject-it"),
    ],
)
async def test_requirements_of_judged_images_are_counted_by_their_result(
    start: Start, require: list[str], image: str, counted: dict[str, int]
) -> None:
    listed = ", ".join(f"{{images: [registry.corp.io], {each}}}" for each in require)
    served = start(policy(f"require: [{listed}]\n"))
    await served.review(review(pod(image)))
    found = {name: served.metric("requirements_total", result=name) for name in ("met", "unmet", "error")}
    assert {name: count for name, count in found.items() if count} == counted
