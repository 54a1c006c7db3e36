"""The Pods of the benchmarks on a real API server: the fast path skips those that are pre-approved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.cluster import gatekeeper
from benchmarks.cluster.cases import NATIVE, native_documents, native_path
from benchmarks.cluster.creating import BODIES
from benchmarks.cluster.pods import (
    DENIED_IMAGE,
    HOST,
    MIRROR,
    POLICY_FILE,
    PREFIXES,
    Sidecar,
    deployment,
    pod,
    unlisted,
)
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.policy.policy import parse_policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = POLICY_FILE.read_text(encoding="utf-8")
POLICY = parse_policy(TEXT).at(NOW)
FAST_PATH = compile_fastpath(parse_policy(TEXT), NOW)


def images(document: dict[str, Any]) -> list[str]:
    return [container["image"] for container in document["spec"]["containers"]]


def test_every_pod_has_images_of_its_own() -> None:
    assert len({image for index in range(BODIES) for image in images(pod(index))}) == 3 * BODIES


@pytest.mark.parametrize(
    ("sidecar", "approved", "skipped"),
    [("pre-approved", True, True), ("with-port", True, False), ("mirrored", False, False)],
)
def test_a_sidecar_decides_whether_the_policy_and_the_fast_path_approve_the_pod(
    sidecar: Sidecar, *, approved: bool, skipped: bool
) -> None:
    for index in range(BODIES):
        found = images(pod(index, sidecar))
        assert all(POLICY.decide("benchmark", image).approved for image in found) is approved
        assert all(image.startswith(PREFIXES) for image in found) is approved
        assert all(FAST_PATH.approves("benchmark", image, "validating") for image in found) is skipped


@pytest.mark.parametrize("image", [DENIED_IMAGE, f"{HOST}.evil.io/x"])
def test_the_policy_and_the_prefixes_reject_another_host(image: str) -> None:
    assert not POLICY.decide("benchmark", image).approved
    assert not image.startswith(PREFIXES)


def test_the_unlisted_pod_has_one_unlisted_image() -> None:
    assert [image == DENIED_IMAGE for image in images(unlisted())] == [False, False, True]


def test_a_mirrored_image_is_approved_where_it_is_sent() -> None:
    rewritten = POLICY.rewrite("benchmark", images(pod(3, "mirrored"))[1])

    assert rewritten is not None
    assert rewritten.startswith(f"{MIRROR}/")
    assert POLICY.decide("benchmark", rewritten).approved


def test_a_deployment_selects_its_own_pods() -> None:
    spec = deployment("web-1", 1)["spec"]

    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_native_policy_is_made_before_its_binding() -> None:
    policy, binding = native_documents()

    assert native_path(policy).startswith(NATIVE["ValidatingAdmissionPolicy"])
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_gatekeeper_gets_the_prefixes_and_the_exempt_namespaces() -> None:
    template, constraint, configuration = gatekeeper.documents("bundle", PREFIXES, ["kube-system"])

    assert constraint["kind"] == template["spec"]["crd"]["spec"]["names"]["kind"]
    assert constraint["spec"]["parameters"]["prefixes"] == list(PREFIXES)
    (webhook,) = configuration["webhooks"]
    assert webhook["clientConfig"]["caBundle"] == "bundle"
    (exempt,) = webhook["namespaceSelector"]["matchExpressions"]
    assert exempt["values"] == ["gatekeeper-system", "kube-system"]
    assert f"/{configuration['metadata']['name']}" in gatekeeper.WEBHOOK
