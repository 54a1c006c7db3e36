"""The webhook from a user's view, with kubectl as the client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.acting import apply
from support.builders import WORKLOADS, workload
from tools.controlplane.plane import ControlPlane
from tools.installation.product import APPROVED, NAMESPACE, POLICY, UNLISTED, Installed, deployment, pod
from tools.polling import wait_until


@pytest.fixture(autouse=True)
def enforce(product: Installed) -> None:
    """Set enforce mode before each test."""
    product.set_mode("enforce")


def stored(plane: ControlPlane, namespace: str, kind: str, name: str) -> dict[str, Any]:
    group = "/apis/apps/v1" if kind == "deployments" else "/api/v1"
    found: dict[str, Any] = plane.api("GET", f"{group}/namespaces/{namespace}/{kind}/{name}")
    return found


@pytest.mark.oldest
def test_a_pod_with_an_unlisted_image_is_refused_with_our_text(product: Installed, namespace: str) -> None:
    done = apply(product.plane, namespace, pod("bad", UNLISTED))
    assert done.returncode == 1
    assert 'admission webhook "pods.image-validation-webhook.gatekeeper-py" denied the request' in done.stderr
    assert (
        f'container "web" (spec.containers[0].image): {UNLISTED} is not approved: '
        "quay.io/somebody/app matches no rule" in done.stderr
    )
    assert "approved: registry.k8s.io, registry.corp.example" in done.stderr


@pytest.mark.oldest
def test_a_pod_with_an_approved_image_runs(product: Installed, namespace: str) -> None:
    assert apply(product.plane, namespace, pod("good")).stdout == "pod/good created\n"
    product.plane.kubectl("wait", "--for=condition=Ready", "pod/good", "-n", namespace, "--timeout=30s")


@pytest.mark.oldest
def test_a_deployment_with_an_unlisted_image_is_refused_early(product: Installed, namespace: str) -> None:
    done = apply(product.plane, namespace, deployment("bad", UNLISTED))
    assert done.returncode == 1
    assert 'webhook "workloads.image-validation-webhook.gatekeeper-py" denied' in done.stderr
    assert "spec.template.spec.containers[0].image" in done.stderr


@pytest.mark.oldest
def test_warn_mode_admits_with_a_warning(product: Installed, namespace: str) -> None:
    product.set_mode("warn")
    done = apply(product.plane, namespace, deployment("warned", UNLISTED))
    assert done.returncode == 0
    assert f"Warning: spec.template.spec.containers[0].image: {UNLISTED} is not approved" in done.stderr
    assert done.stdout == "deployment.apps/warned created\n"


@pytest.mark.oldest
def test_mutate_mode_stores_pods_with_mirror_images_and_the_annotation(
    product: Installed, namespace: str
) -> None:
    product.set_mode("mutate")
    done = apply(product.plane, namespace, pod("mirrored", "nginx:1.27"))
    assert done.returncode == 0
    assert "Warning: spec.containers[0].image: nginx:1.27 was rewritten to" in done.stderr
    found = stored(product.plane, namespace, "pods", "mirrored")
    assert found["spec"]["containers"][0]["image"] == "registry.corp.example/dockerhub/library/nginx:1.27"
    recorded = json.loads(found["metadata"]["annotations"]["gatekeeper-py/original-images"])
    assert recorded == {"spec.containers[0].image": "nginx:1.27"}


def test_mutate_mode_leaves_a_deployment_as_written_and_its_pods_run(
    product: Installed, namespace: str
) -> None:
    product.set_mode("mutate")
    assert apply(product.plane, namespace, deployment("mirrored", "nginx:1.27", replicas=3)).returncode == 0
    product.plane.kubectl("rollout", "status", "deployment/mirrored", "-n", namespace, "--timeout=60s")
    found = stored(product.plane, namespace, "deployments", "mirrored")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1.27"
    pods = product.plane.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    images = {container["image"] for each in pods for container in each["spec"]["containers"]}
    assert images == {"registry.corp.example/dockerhub/library/nginx:1.27"}


@pytest.mark.oldest
def test_kubectl_debug_with_an_unlisted_image_is_refused(product: Installed, namespace: str) -> None:
    apply(product.plane, namespace, pod("target"))
    product.plane.kubectl("wait", "--for=condition=Ready", "pod/target", "-n", namespace, "--timeout=30s")
    done = product.plane.kubectl(
        "debug", "pod/target", "-n", namespace, f"--image={UNLISTED}", "--container=probe", check=False
    )
    assert done.returncode == 1
    assert 'ephemeral container "probe" (spec.ephemeralContainers[0].image)' in done.stderr
    product.plane.kubectl("debug", "pod/target", "-n", namespace, f"--image={APPROVED}", "--container=probe")


@pytest.mark.oldest
def test_an_image_volume_from_elsewhere_is_refused(
    product: Installed, namespace: str, *, oldest: bool
) -> None:
    volumes = [{"name": "model", "image": {"reference": UNLISTED}}]
    document = pod("volume", volumes=volumes)
    done = apply(product.plane, namespace, document)
    assert done.returncode == 1
    if not oldest:
        assert 'image volume "model" (spec.volumes[0].image.reference)' in done.stderr
        return
    # Kubernetes 1.30 has no image volumes, so the webhook never sees one. The API server refuses the field.
    # For a client that tolerates unknown fields, it drops the field, and an empty directory remains.
    assert 'unknown field "spec.volumes[0].image"' in done.stderr
    assert apply(product.plane, namespace, document, "--validate=ignore").returncode == 0
    assert stored(product.plane, namespace, "pods", "volume")["spec"]["volumes"][0] == {
        "name": "model",
        "emptyDir": {},
    }


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


def test_every_kind_of_workload_that_cannot_roll_out_warns(product: Installed, namespace: str) -> None:
    product.set_mode("warn")
    plane, labels = product.plane, {"app": "old"}
    specs: dict[str, dict[str, Any]] = {
        "PodTemplate": {},
        "ReplicationController": {"selector": labels},
        "ReplicaSet": {"selector": {"matchLabels": labels}},
        "StatefulSet": {"selector": {"matchLabels": labels}, "serviceName": "old"},
        "DaemonSet": {"selector": {"matchLabels": labels}},
        "Job": {"suspend": True},
        "CronJob": {"schedule": "0 0 1 1 *"},
    }
    patches = {}
    for kind, spec in specs.items():
        old = workload(kind, UNLISTED, restartPolicy="Never" if kind.endswith("Job") else "Always")
        *path, last = WORKLOADS[kind][1][:-1]
        holder = old
        patch: dict[str, Any] = {last: {"metadata": {"annotations": {"restartedAt": "now"}}}}
        for key in path:
            holder = holder[key]
        holder[last]["metadata"] = {"labels": labels}
        for key in reversed(path):
            patch = {key: patch}
        old = {**old, "metadata": {"name": "old"}, **({"spec": old["spec"] | spec} if spec else {})}
        assert apply(plane, namespace, old).returncode == 0, kind
        patches[kind] = json.dumps(patch)
    product.set_mode("enforce")
    for kind, text in patches.items():
        done = plane.kubectl(
            "patch", kind, "old", "-n", namespace, "--type=merge", "--dry-run=server", "-p", text
        )
        assert f"Warning: {'.'.join(WORKLOADS[kind][1])}.containers[0].image: quay.io/" in done.stderr, kind
        assert " is not approved; new Pods will be refused" in done.stderr, kind


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


@pytest.mark.oldest
def test_kubectl_debug_runs_the_image_on_the_mirror_and_records_it_nowhere_in_the_pod(
    product: Installed, namespace: str
) -> None:
    """The API server drops every change of metadata in a request that adds an ephemeral container."""
    product.set_mode("mutate")
    plane = product.plane
    apply(plane, namespace, pod("target"))
    plane.kubectl("wait", "--for=condition=Ready", "pod/target", "-n", namespace, "--timeout=30s")
    done = plane.kubectl("debug", "pod/target", "-n", namespace, "--image=nginx:1.27", "--container=probe")
    mirrored = "registry.corp.example/dockerhub/library/nginx:1.27"
    assert f"spec.ephemeralContainers[0].image: nginx:1.27 was rewritten to {mirrored}" in done.stderr
    found = stored(plane, namespace, "pods", "target")
    assert found["spec"]["ephemeralContainers"][0]["image"] == mirrored
    assert "gatekeeper-py/original-images" not in (found["metadata"].get("annotations") or {})


@pytest.mark.oldest
def test_an_update_that_changes_no_image_is_not_even_sent(product: Installed, namespace: str) -> None:
    apply(product.plane, namespace, pod("quiet"))

    def updates() -> float:
        reviews = "gatekeeper_py_reviews_total"
        return sum(product.metric(each.address, reviews, operation="UPDATE") for each in product.servers())

    before = updates()
    product.plane.kubectl("label", "pod/quiet", "-n", namespace, "touched=yes")
    assert updates() == before


@pytest.mark.parametrize("option", ["--dry-run=server", "--server-side"])
def test_every_way_to_apply_is_judged(product: Installed, namespace: str, option: str) -> None:
    assert apply(product.plane, namespace, pod("good"), option).returncode == 0
    assert apply(product.plane, namespace, pod("bad", UNLISTED), option).returncode == 1
    found = product.plane.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    assert [each["metadata"]["name"] for each in found] == (["good"] if option == "--server-side" else [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"policy.yaml": "mode: enfroce\n"}, "must be enforce, warn or mutate, not 'enfroce'"),
        ({"mode": "off"}, "mode"),
    ],
)
def test_a_bad_policy_is_refused_at_kubectl_apply(
    product: Installed, data: dict[str, str], reason: str
) -> None:
    patch = ("patch", "configmap", POLICY, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"data": data}))
    done = product.plane.kubectl(*patch, check=False)
    assert done.returncode == 1
    assert 'webhook "policy.image-validation-webhook.gatekeeper-py" denied' in done.stderr
    assert reason in done.stderr


def test_a_thousand_pods_roll_out(product: Installed, namespace: str) -> None:
    plane = product.plane
    assert apply(plane, namespace, deployment("many", replicas=1000)).returncode == 0
    plane.kubectl("rollout", "status", "deployment/many", "-n", namespace, "--timeout=240s", seconds=250)
    plane.kubectl("set", "image", "deployment/many", "web=registry.corp.example/app:2", "-n", namespace)
    plane.kubectl("rollout", "status", "deployment/many", "-n", namespace, "--timeout=300s", seconds=310)
    # While kwok deletes them, it reports late whether other Pods are ready, such as those of the servers.
    deleting = ("--cascade=foreground", "--timeout=300s")
    plane.kubectl("delete", "deployment/many", "-n", namespace, *deleting, seconds=310)
