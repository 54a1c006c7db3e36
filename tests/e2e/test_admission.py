"""The webhook from a user's view, with kubectl as the client."""

from __future__ import annotations

import json

import pytest

from e2e.acting import apply
from tools.installation.product import APPROVED, NAMESPACE, POLICY, UNLISTED, Installed, deployment, pod
from tools.polling import wait_until


@pytest.fixture(autouse=True)
def enforce(product: Installed) -> None:
    """Set enforce mode before each test."""
    product.set_mode("enforce")


@pytest.mark.oldest
def test_the_oldest_kubernetes_has_no_image_volumes(
    product: Installed, namespace: str, *, oldest: bool
) -> None:
    """The API server refuses the field. For a client that tolerates unknown fields, it drops the field."""
    if not oldest:
        pytest.skip("newer ones have image volumes: see test_golden_reviews.py")
    document = pod("volume", volumes=[{"name": "model", "image": {"reference": UNLISTED}}])
    assert 'unknown field "spec.volumes[0].image"' in apply(product.plane, namespace, document).stderr
    assert apply(product.plane, namespace, document, "--validate=ignore").returncode == 0
    stored = product.plane.api("GET", f"/api/v1/namespaces/{namespace}/pods/volume")
    assert stored["spec"]["volumes"][0] == {"name": "model", "emptyDir": {}}


def test_pods_of_an_older_policy_can_be_labelled_finalized_and_scaled_down(
    product: Installed, namespace: str
) -> None:
    product.set_mode("warn")
    plane = product.plane
    document = pod("old", UNLISTED)
    document["metadata"]["finalizers"] = ["example.com/held"]
    assert apply(plane, namespace, document).returncode == 0
    assert apply(plane, namespace, deployment("old", UNLISTED, replicas=3)).returncode == 0
    plane.kubectl("rollout", "status", "deployment/old", "-n", namespace, "--timeout=60s")
    product.set_mode("enforce")
    plane.kubectl("label", "pod/old", "-n", namespace, "touched=yes")
    plane.kubectl("annotate", "deployment/old", "-n", namespace, "touched=yes")
    plane.kubectl("scale", "deployment/old", "-n", namespace, "--replicas=1")
    plane.kubectl("delete", "pod/old", "-n", namespace, "--wait=false")
    patch = json.dumps({"metadata": {"finalizers": None}})
    plane.kubectl("patch", "pod/old", "-n", namespace, "--type=merge", "-p", patch)
    wait_until(
        lambda: len(plane.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]) == 1,
        seconds=30,
        what="one Pod left",
    )
    refused = plane.kubectl(
        "set", "image", "deployment/old", f"web={UNLISTED}.v2", "-n", namespace, check=False
    )
    assert refused.returncode == 1


@pytest.mark.oldest
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("set", "image", "deployment/old", f"web={APPROVED}.2"), id="set-image"),
        pytest.param(("rollout", "restart", "deployment/old"), id="restart"),
        pytest.param(
            (
                *("patch", "deployment", "old", "-p"),
                '{"spec": {"template": {"spec": {"priorityClassName": "system-node-critical"}}}}',
            ),
            id="patch",
        ),
    ],
)
def test_an_update_that_cannot_roll_out_warns_and_leaves_an_event(
    product: Installed, namespace: str, command: tuple[str, ...]
) -> None:
    """The update of a Deployment from before the policy is allowed, because it adds no rejected image."""
    product.set_mode("warn")
    plane = product.plane
    document = deployment("old")
    containers = document["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "sidecar", "image": UNLISTED})
    assert apply(plane, namespace, document).returncode == 0
    plane.kubectl("rollout", "status", "deployment/old", "-n", namespace, "--timeout=60s")
    product.set_mode("enforce")
    assert "Warning" not in plane.kubectl("scale", "deployment/old", "-n", namespace, "--replicas=1").stderr
    warning = f"spec.template.spec.containers[1].image: {UNLISTED} is not approved; new Pods will be refused"
    assert f"Warning: {warning}" in plane.kubectl(*command, "-n", namespace).stderr
    events = ("get", "events", "-n", namespace, "--field-selector", "reason=ReplicaSetCreateError")

    def found() -> bool:
        shown = plane.kubectl(*events).stdout
        return "deployment/old" in shown and f"{UNLISTED} is not approved" in shown

    wait_until(found, seconds=30, what="the Event of the stuck roll-out")
    described = plane.kubectl("describe", "deployment", "old", "-n", namespace).stdout
    assert "Progressing    False   ReplicaSetCreateError" in described
    reason = '.status.conditions[?(@.type=="Progressing")].reason'
    columns = f"custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,REASON:{reason}"
    listed = plane.kubectl("get", "deployments", "-A", "-o", columns).stdout.splitlines()
    assert [namespace, "old", "ReplicaSetCreateError"] in [line.split() for line in listed]


def test_a_lost_pod_of_an_older_policy_leaves_an_event_of_its_replica_set(
    product: Installed, namespace: str
) -> None:
    product.set_mode("warn")
    plane = product.plane
    assert apply(plane, namespace, deployment("old", UNLISTED)).returncode == 0
    plane.kubectl("rollout", "status", "deployment/old", "-n", namespace, "--timeout=60s")
    product.set_mode("enforce")
    plane.kubectl("delete", "pod", "-l", "app=old", "-n", namespace, "--wait=false")

    def found() -> bool:
        shown = plane.kubectl("get", "events", "-n", namespace, "--field-selector", "reason=FailedCreate")
        return "replicaset/old-" in shown.stdout and f"{UNLISTED} is not approved" in shown.stdout

    wait_until(found, seconds=30, what="the Event of the refused Pod")


def test_a_bad_policy_is_refused_at_kubectl_apply(product: Installed) -> None:
    patch = ("patch", "configmap", POLICY, "-n", NAMESPACE, "--type=merge", "-p", '{"data": {"mode": "off"}}')
    done = product.plane.kubectl(*patch, check=False)
    assert done.returncode == 1
    assert 'webhook "policy.image-validation-webhook.gatekeeper-py" denied' in done.stderr
    assert "must be enforce, warn or mutate, not 'off'" in done.stderr


def test_a_thousand_pods_roll_out(product: Installed, namespace: str) -> None:
    plane = product.plane
    assert apply(plane, namespace, deployment("many", replicas=1000)).returncode == 0
    plane.kubectl("rollout", "status", "deployment/many", "-n", namespace, "--timeout=240s", seconds=250)
    plane.kubectl("set", "image", "deployment/many", "web=registry.corp.example/app:2", "-n", namespace)
    plane.kubectl("rollout", "status", "deployment/many", "-n", namespace, "--timeout=300s", seconds=310)
    # While kwok deletes them, it reports late whether other Pods are ready, such as those of the servers.
    deleting = ("--cascade=foreground", "--timeout=300s")
    plane.kubectl("delete", "deployment/many", "-n", namespace, *deleting, seconds=310)
