"""The control plane behaves as the end-to-end tests require, where these do not show it themselves."""

from __future__ import annotations

import json
import time
from typing import Any

from tools.controlplane.plane import ControlPlane
from tools.polling import wait_until


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


def apply(plane: ControlPlane, namespace: str, *objects: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    plane.kubectl("apply", "--namespace", namespace, "--filename", "-", input=text)


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
