"""The Pods of the churn benchmark: all are approved, and the fast path skips the configured share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from benchmarks.churn import native
from benchmarks.churn.approval import DENIED_IMAGE, HOST, MIRROR, PREFIXES, policy_text
from benchmarks.churn.pods import BODIES, bodies, deployment, pod
from benchmarks.churn.site import with_policy
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.policy.policy import parse_policy
from tools.installation.product import POLICY as CONFIGMAP

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = parse_policy(policy_text()).at(NOW)
FAST_PATH = compile_fastpath(parse_policy(policy_text()), NOW)


def images(document: dict[str, Any]) -> list[str]:
    return [container["image"] for container in document["spec"]["containers"]]


def written_in_full(document: dict[str, Any]) -> bool:
    return all(image.startswith(f"{HOST}/") for image in images(document))


def approved(image: str) -> bool:
    return POLICY.decide("churn", image).approved


@pytest.mark.parametrize("share", [0, 10, 50, 100])
def test_the_share_is_exact_and_the_same_every_time(share: int) -> None:
    found = bodies(share)

    assert sum(written_in_full(each) for each in found) == share * BODIES // 100
    assert found == bodies(share)


def test_the_pre_approved_ones_are_well_mixed() -> None:
    halves = bodies(50)[: BODIES // 2]

    assert 10 < sum(written_in_full(each) for each in halves) < 40


@pytest.mark.parametrize("share", [-1, 101])
def test_a_share_is_per_cent(share: int) -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        bodies(share)


def test_every_pod_has_images_of_its_own() -> None:
    assert len({image for each in bodies(50) for image in images(each)}) == 3 * BODIES


@pytest.mark.parametrize("share", [0, 50, 100])
def test_the_fast_path_skips_exactly_the_share(share: int) -> None:
    for each in bodies(share):
        skipped = all(FAST_PATH.approves("churn", image, "validating") for image in images(each))
        assert skipped is written_in_full(each)


def test_the_native_policy_is_made_before_its_binding() -> None:
    policy, binding = native.documents()

    assert native.path(policy).startswith(native.COLLECTIONS["ValidatingAdmissionPolicy"])
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_the_policy_and_the_prefixes_agree_on_every_image() -> None:
    for image in [image for each in bodies(50) for image in images(each)]:
        assert approved(image)
        assert image.startswith(PREFIXES)
    for image in (DENIED_IMAGE, f"{HOST}.evil.io/x", images(pod(3, "mirrored"))[1]):
        assert not approved(image)
        assert not image.startswith(PREFIXES)


def test_a_mirrored_image_is_approved_where_it_is_sent() -> None:
    rewritten = POLICY.rewrite("churn", images(pod(3, "mirrored"))[1])

    assert rewritten is not None
    assert rewritten.startswith(f"{MIRROR}/")
    assert approved(rewritten)


def test_a_deployment_selects_its_own_pods() -> None:
    spec = deployment("web-1", 1, "with-port")["spec"]

    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_policy_of_an_overlay_is_replaced_and_nothing_else() -> None:
    documents = [
        {"kind": "Namespace", "metadata": {"name": "x"}},
        {"kind": "ConfigMap", "metadata": {"name": CONFIGMAP}, "data": {"mode": "warn", "policy.yaml": ""}},
    ]

    found = with_policy(yaml.safe_dump_all(documents), "new")

    assert found["items"][0] == documents[0]
    assert found["items"][1]["data"] == {"mode": "warn", "policy.yaml": "new"}


def test_an_overlay_without_a_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="0 ConfigMaps"):
        with_policy("kind: Namespace\nmetadata: {name: x}\n", "new")
