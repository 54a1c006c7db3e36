"""The webhook or the API server is down: what the cluster can still do, and how it recovers."""

from __future__ import annotations

import os
import signal

import pytest

from e2e.acting import CONTROLLER, apply, try_pod
from tools.controlplane.components import APISERVER
from tools.controlplane.plane import ControlPlane
from tools.installation.product import (
    CONFIGMAP,
    MUTATING,
    NAMESPACE,
    UNLISTED,
    Installed,
    deployment,
    pod,
)
from tools.polling import wait_until


def test_pods_are_refused_while_the_webhook_is_down_and_the_cluster_recovers_by_itself(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    product.kubelet.hold("gatekeeper-py-")
    for each in product.servers():
        product.kubelet.crash(each)
    wait_until(lambda: not product.servers(), seconds=10, what="no server runs")
    refused = apply(product.plane, namespace, pod("waits"))
    assert refused.returncode == 1
    assert "failed calling webhook" in refused.stderr
    # Workload kinds fail open, because their Pods are reviewed later.
    assert apply(product.plane, namespace, deployment("later", UNLISTED)).returncode == 0
    # The installation's own Pods and the policy can be changed without the webhook.
    product.plane.kubectl("delete", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=gatekeeper-py")
    product.plane.kubectl("annotate", "configmap", "gatekeeper-py-policy", "-n", NAMESPACE, "touched=yes")
    product.kubelet.release("gatekeeper-py-")
    product.wait_armed()
    assert apply(product.plane, namespace, pod("waits")).returncode == 0
    wait_until(
        lambda: (
            "is not approved" in product.plane.kubectl("get", "events", "-n", namespace, "-o", "json").stdout
        ),
        seconds=60,
        what="our text in the ReplicaSet's events",
    )


def test_pods_are_judged_as_written_until_the_mutating_webhook_is_registered(
    product: Installed, namespace: str
) -> None:
    """While the controller is dead, no unapproved image is admitted; it catches up when it runs again."""
    product.set_mode("enforce")
    product.wait_not_mutating()
    product.kubelet.hold(f"{CONTROLLER}-")
    try:
        product.kubelet.crash(product.controllers()[0])
        product.plane.api("PATCH", CONFIGMAP, {"data": {"mode": "mutate"}})
        wait_until(
            lambda: all(product.mode_of(each.address) == "mutate" for each in product.servers()),
            seconds=10,
            what="every replica in mode mutate",
        )
        done = try_pod(product.plane, namespace, "nginx:1.25")
        assert done.returncode == 1
        assert "docker.io/library/nginx matches no rule" in done.stderr
        assert product.get(MUTATING) is None
    finally:
        product.kubelet.release(f"{CONTROLLER}-")
    product.wait_mutating()
    done = try_pod(product.plane, namespace, "nginx:1.25")
    assert '"image": "registry.corp.example/dockerhub/library/nginx:1.25"' in done.stdout
    product.set_mode("enforce")


def test_one_crashed_replica_refuses_no_pod_for_long(product: Installed, namespace: str) -> None:
    product.set_mode("enforce")
    product.kubelet.crash(product.servers()[0])
    wait_until(
        lambda: all(apply(product.plane, namespace, pod(f"after-{n}")).returncode == 0 for n in range(5)),
        seconds=30,
        what="Pods created while one replica restarts",
    )
    product.wait_armed()


@pytest.mark.oldest
def test_an_api_server_that_ended_by_itself_is_started_again_with_its_data(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The hooks of conftest.py do the same after the test, so that the namespace can be deleted."""

    def end() -> None:
        os.kill(control_plane.pid(APISERVER), signal.SIGABRT)
        wait_until(lambda: control_plane.exit_status(APISERVER), seconds=10, what="the API server ended")

    end()
    assert "ended with status 2 and was started again" in control_plane.restart_ended_apiserver()
    assert control_plane.find(f"/api/v1/namespaces/{namespace}") is not None
    assert control_plane.restart_ended_apiserver() == ""
    end()
