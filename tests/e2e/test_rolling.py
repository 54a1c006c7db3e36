"""All replicas of the webhook are rolled out again while the cluster creates Pods."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from e2e.load import no_create_fails
from tools.installation.product import NAMESPACE, Installed
from tools.polling import wait_until

LOG = logging.getLogger(__name__)
ROLLOUT_SECONDS = 150


def _replica_sets(product: Installed) -> dict[str, int]:
    """Return the ready replicas of each ReplicaSet of the webhook's Deployment, by name."""
    found = product.plane.api(
        "GET",
        f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets?labelSelector=app.kubernetes.io/name%3Dgatekeeper-py",
    )
    return {item["metadata"]["name"]: item["status"].get("readyReplicas", 0) for item in found["items"]}


def _logged(product: Installed, process: str) -> list[dict[str, Any]]:
    """Return the log events of a Pod's process."""
    text = product.plane.log(process).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture
def probed(product: Installed) -> Installed:
    """Keep new Pods of the installation unready until our kubelet's probe succeeds.

    By default kwok marks a Pod as ready at once, so a rollout would continue before the process listens.
    """
    hold = {"spec": {"template": {"metadata": {"annotations": {"controlplane/ready": "false"}}}}}
    product.plane.kubectl(
        "patch", "deployment", "gatekeeper-py", "-n", NAMESPACE, "--type=merge", "-p", json.dumps(hold)
    )
    _rolled_out(product)
    product.wait_armed()
    return product


def _rolled_out(product: Installed) -> None:
    product.plane.kubectl(
        "rollout", "status", "deployment/gatekeeper-py", "-n", NAMESPACE,
        f"--timeout={ROLLOUT_SECONDS}s", seconds=ROLLOUT_SECONDS + 10,
    )  # fmt: skip


def test_two_rollouts_in_a_row_under_load_refuse_no_pod(probed: Installed, namespace: str) -> None:
    product = probed
    product.set_mode("enforce")
    with no_create_fails(product.plane, namespace) as load:
        for _ in range(2):
            before = {each.name: each for each in product.servers()}
            sets = _replica_sets(product)
            product.plane.kubectl("rollout", "restart", "deployment/gatekeeper-py", "-n", NAMESPACE)
            _rolled_out(product)
            wait_until(
                lambda: all(each.process.poll() is not None for each in before.values()),  # noqa: B023
                seconds=60,
                what="the old replicas at their end",
            )
            assert {each.process.returncode for each in before.values()} == {0}
            assert not {*before} & {each.name for each in product.servers()}
            made = {name: ready for name, ready in _replica_sets(product).items() if name not in sets}
            assert list(made.values()) == [3], "one new ReplicaSet, whose three Pods are ready"
            for name in before:
                assert [line["event"] for line in _logged(product, name)][-1] == "stopped"
    LOG.info("%d creates in %.0f s", len(load.answers), load.answers[-1][1] - load.answers[0][0])
    assert len(load.answers) > 200
