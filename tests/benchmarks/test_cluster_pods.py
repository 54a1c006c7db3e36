"""The Pods and the policy of the comparison: the fast path skips Pods that are pre-approved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.cluster.cases import NATIVE, native_documents, native_path
from benchmarks.cluster.correctness import ROWS, Row, mistakes
from benchmarks.cluster.creating import BODIES
from benchmarks.cluster.pods import DENIED_IMAGE, POLICY_FILE, Sidecar, pod, unlisted
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


@pytest.mark.parametrize(("sidecar", "skipped"), [("pre-approved", True), ("with-port", False)])
def test_a_sidecar_decides_whether_the_fast_path_approves_the_pod(sidecar: Sidecar, *, skipped: bool) -> None:
    for index in range(BODIES):
        found = images(pod(index, sidecar))
        assert all(POLICY.decide("benchmark", image).approved for image in found)
        assert all(FAST_PATH.approves("benchmark", image, "validating") for image in found) is skipped


def test_the_unlisted_pod_has_one_unlisted_image() -> None:
    assert [image == DENIED_IMAGE for image in images(unlisted())] == [False, False, True]
    assert not POLICY.decide("benchmark", DENIED_IMAGE).approved


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.image} in {row.place}")
def test_our_policy_gives_the_right_answer_for_each_image(row: Row) -> None:
    assert POLICY.decide("benchmark", row.image).approved is row.admit
    assert row.admit or not FAST_PATH.approves("benchmark", row.image, "validating")


def test_each_image_is_in_the_pod_that_is_sent() -> None:
    for row in ROWS:
        assert (row.image in str(row.pod())) is (row.place != "ephemeralContainers") or row.image in images(
            row.pod()
        )


def test_wrong_admissions_and_wrong_refusals_are_listed_separately() -> None:
    admitted = [row.admit for row in ROWS]
    first = admitted.index(False)
    other = admitted.index(True)
    admitted[first], admitted[other] = True, False

    assert mistakes(admitted) == ([ROWS[first]], [ROWS[other]])


def test_the_native_policy_is_made_before_its_binding() -> None:
    policy, binding = native_documents()

    assert native_path(policy).startswith(NATIVE["ValidatingAdmissionPolicy"])
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
