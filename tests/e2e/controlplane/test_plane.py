"""The control plane behaves as the end-to-end tests require."""

from __future__ import annotations

import json
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio import client, config

from tools.controlplane.components import COMPONENTS
from tools.controlplane.exchange import ApiError, listening
from tools.controlplane.network import POD_RANGE
from tools.controlplane.plane import ControlPlane, KubectlError
from tools.polling import wait_until

ADMISSION_SERVER = Path(__file__).parent / "admission_server.py"
WEBHOOK_PORT = 8443


def deployment(name: str, *, replicas: int = 1, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "main", "image": "registry.example/app:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations or {}},
                "spec": {"containers": [container]},
            },
        },
    }


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.example/app:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [container]},
    }


def pods(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = plane.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return items


def ready_endpoints(plane: ControlPlane, namespace: str) -> set[str]:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    return {
        address
        for slice_ in plane.api("GET", path)["items"]
        for endpoint in slice_["endpoints"] or []
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    }


def apply(plane: ControlPlane, namespace: str, *objects: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    plane.kubectl("apply", "--namespace", namespace, "--filename", "-", input=text)


def test_a_deployment_is_scheduled_and_its_pods_run(control_plane: ControlPlane, namespace: str) -> None:
    apply(control_plane, namespace, deployment("web", replicas=6))

    control_plane.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=30s")

    found = pods(control_plane, namespace)
    assert [pod["status"]["phase"] for pod in found] == ["Running"] * 6
    assert {pod["spec"]["nodeName"] for pod in found} == {"node-0", "node-1", "node-2"}
    addresses = {pod["status"]["podIP"] for pod in found}
    assert len(addresses) == 6
    assert all(ip_address(address) in ip_network(POD_RANGE) for address in addresses)


def test_a_deleted_pod_goes_away_without_force(control_plane: ControlPlane, namespace: str) -> None:
    apply(control_plane, namespace, pod("quick"))
    control_plane.kubectl("wait", "--for=condition=Ready", "pod/quick", "-n", namespace, "--timeout=30s")

    control_plane.kubectl("delete", "pod", "quick", "-n", namespace, "--timeout=10s")

    assert pods(control_plane, namespace) == []


def test_a_deleted_pod_takes_as_long_as_its_annotation_says(
    control_plane: ControlPlane, namespace: str
) -> None:
    apply(control_plane, namespace, pod("slow", annotations={"controlplane/termination": "1500ms"}))
    control_plane.kubectl("wait", "--for=condition=Ready", "pod/slow", "-n", namespace, "--timeout=30s")

    began = time.monotonic()
    control_plane.kubectl("delete", "pod", "slow", "-n", namespace, "--timeout=10s")

    assert time.monotonic() - began >= 1.5


def test_a_pod_with_a_finalizer_stays_until_its_owner_removes_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    apply(control_plane, namespace, pod("held", finalizers=["example.com/hold"]))
    control_plane.kubectl("wait", "--for=condition=Ready", "pod/held", "-n", namespace, "--timeout=30s")
    control_plane.kubectl("delete", "pod", "held", "-n", namespace, "--wait=false")
    wait_until(
        lambda: pods(control_plane, namespace)[0]["status"]["phase"] == "Succeeded",
        seconds=10,
        what="the containers ended",
    )

    path = f"/api/v1/namespaces/{namespace}/pods/held"
    control_plane.api("PATCH", path, {"metadata": {"finalizers": None}})

    wait_until(lambda: not pods(control_plane, namespace), seconds=10, what="the Pod gone")


def test_a_job_completes(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "job", "once", "--image=registry.example/app:1", "-n", namespace)

    control_plane.kubectl("wait", "--for=condition=Complete", "job/once", "-n", namespace, "--timeout=30s")


def test_kubectl_debug_adds_an_ephemeral_container(control_plane: ControlPlane, namespace: str) -> None:
    apply(control_plane, namespace, pod("target"))
    control_plane.kubectl("wait", "--for=condition=Ready", "pod/target", "-n", namespace, "--timeout=30s")

    control_plane.kubectl(
        "debug", "pod/target", "-n", namespace, "--image=registry.example/debug:1", "--container=probe"
    )

    containers = pods(control_plane, namespace)[0]["spec"]["ephemeralContainers"]
    assert [(container["name"], container["image"]) for container in containers] == [
        ("probe", "registry.example/debug:1")
    ]


def test_a_pod_is_an_endpoint_only_while_its_annotation_does_not_deny_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    apply(control_plane, namespace, deployment("web", annotations={"controlplane/ready": "false"}))
    control_plane.kubectl("expose", "deployment/web", "--port=80", "-n", namespace)
    found = wait_until(lambda: pods(control_plane, namespace), seconds=10, what="a Pod")
    name = found[0]["metadata"]["name"]
    wait_until(
        lambda: pods(control_plane, namespace)[0]["status"]["phase"] == "Running",
        seconds=10,
        what="the Pod running",
    )
    assert ready_endpoints(control_plane, namespace) == set()

    control_plane.set_ready(namespace, name, ready=True)
    address = pods(control_plane, namespace)[0]["status"]["podIP"]
    wait_until(lambda: ready_endpoints(control_plane, namespace) == {address}, seconds=10, what="an endpoint")

    control_plane.set_ready(namespace, name, ready=False)
    wait_until(lambda: not ready_endpoints(control_plane, namespace), seconds=10, what="no endpoint")


def test_the_api_server_calls_a_webhook_through_its_service(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    # The Pod must become ready only when something listens on its address, as with a readiness probe.
    apply(
        control_plane,
        namespace,
        deployment("webhook", annotations={"controlplane/ready": "false"}),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "webhook"},
            "spec": {"selector": {"app": "webhook"}, "ports": [{"port": 443, "targetPort": WEBHOOK_PORT}]},
        },
    )
    found = wait_until(
        lambda: [pod for pod in pods(control_plane, namespace) if pod["status"].get("podIP")],
        seconds=10,
        what="a Pod with an address",
    )
    address, name = found[0]["status"]["podIP"], found[0]["metadata"]["name"]
    host = f"webhook.{namespace}.svc"
    serving = control_plane.authority.server([host], file=host)
    records = tmp_path / "reviews.jsonl"
    records.touch()
    options = ["--certificate", serving.certificate, "--key", serving.key, "--records", records]
    control_plane.popen(
        [sys.executable, str(ADMISSION_SERVER), address, str(WEBHOOK_PORT), *map(str, options)],
        name="admission-server",
    )
    wait_until(lambda: listening((address, WEBHOOK_PORT)), seconds=10, what="the webhook listening")
    control_plane.set_ready(namespace, name, ready=True)
    wait_until(lambda: ready_endpoints(control_plane, namespace), seconds=10, what="an endpoint")
    webhook = {
        "name": "labels.example.com",
        "clientConfig": {
            "service": {"name": "webhook", "namespace": namespace, "path": "/validate"},
            "caBundle": control_plane.ca_bundle(),
        },
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    control_plane.api(
        "POST",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        {"metadata": {"name": namespace}, "webhooks": [webhook]},
    )
    try:
        # A new configuration reaches the API server's own cache a moment later.
        probe = pod("probe")
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        wait_until(
            lambda: control_plane.api("POST", path, probe) and records.read_text(encoding="utf-8"),
            seconds=10,
            what="the webhook armed",
        )

        with pytest.raises(KubectlError) as denied:
            apply(control_plane, namespace, pod("bad", labels={"deny": "yes"}))
        apply(control_plane, namespace, pod("good"))
    finally:
        control_plane.api(
            "DELETE",
            f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{namespace}",
        )
        control_plane.kill("admission-server")

    message = f'admission webhook "labels.example.com" denied the request: denied by {address}'
    assert message in denied.value.stderr
    reviews = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    by_name = {review["name"]: review for review in reviews}
    assert {"bad", "good"} <= by_name.keys()
    assert by_name["good"]["user_agent"] == "kube-apiserver-admission"
    assert by_name["good"]["server_name"] == host
    assert by_name["good"]["host"] == f"{host}:443"
    assert "bad" not in {pod["metadata"]["name"] for pod in pods(control_plane, namespace)}
    statuses = {
        event["responseStatus"]["code"]
        for event in control_plane.audit_events(containing=namespace)
        if event["verb"] == "create"
        and event["requestURI"].startswith(f"/api/v1/namespaces/{namespace}/pods")
    }
    assert 403 in statuses


def test_state_and_controllers_survive_a_restart_of_the_api_server(
    control_plane: ControlPlane, namespace: str
) -> None:
    apply(control_plane, namespace, deployment("before"))
    control_plane.kubectl("rollout", "status", "deployment/before", "-n", namespace, "--timeout=30s")

    control_plane.stop_apiserver()
    with pytest.raises(OSError, match="refused"):
        control_plane.api("GET", "/readyz")
    control_plane.start_apiserver()

    apply(control_plane, namespace, deployment("after"))
    control_plane.kubectl("rollout", "status", "deployment/after", "-n", namespace, "--timeout=60s")
    assert {pod["metadata"]["labels"]["app"] for pod in pods(control_plane, namespace)} == {"before", "after"}


def test_an_old_revision_is_gone_after_compaction_and_restart(
    control_plane: ControlPlane, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    old = control_plane.api("GET", path)["metadata"]["resourceVersion"]
    control_plane.api("POST", path, {"metadata": {"name": "newer"}})

    control_plane.compact_etcd()
    control_plane.restart_apiserver()

    with pytest.raises(ApiError) as gone:
        control_plane.api("GET", f"{path}?limit=1&resourceVersion={old}&resourceVersionMatch=Exact")
    assert gone.value.status == 410
    event = control_plane.api("GET", f"{path}?watch=true&resourceVersion={old}&timeoutSeconds=5")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_user_may_do_only_what_rbac_allows(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl(
        "create", "rolebinding", "readers", "--clusterrole=view", "--group=readers", "-n", namespace
    )
    reader = control_plane.kubeconfig_for("ann", "readers")

    def may(verb: str) -> bool:
        answer = control_plane.kubectl(
            "auth", "can-i", verb, "pods", "-n", namespace, kubeconfig=reader, check=False
        )
        return answer.stdout.strip() == "yes"

    wait_until(lambda: may("list"), seconds=10, what="the binding in effect")
    assert not may("create")


def test_a_token_speaks_for_its_service_account(control_plane: ControlPlane, namespace: str) -> None:
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "default")

    answer = control_plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig)

    user = json.loads(answer.stdout)["status"]["userInfo"]["username"]
    assert user == f"system:serviceaccount:{namespace}:default"


async def test_the_test_run_itself_is_inside_the_network(control_plane: ControlPlane) -> None:
    configuration = client.Configuration()
    await config.load_kube_config(str(control_plane.kubeconfig), client_configuration=configuration)

    async with client.ApiClient(configuration) as api:
        nodes = await client.CoreV1Api(api).list_node()

    assert [node.metadata.name for node in nodes.items] == ["node-0", "node-1", "node-2"]


def test_every_component_is_measured(control_plane: ControlPlane) -> None:
    for name in COMPONENTS:
        assert 0 < control_plane.cpu_seconds(name) < 600
        assert 10e6 < control_plane.rss_bytes(name) < 2e9
