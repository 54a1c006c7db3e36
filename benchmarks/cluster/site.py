"""The control plane with our product on it. Its webhooks can be removed and registered again."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from benchmarks.cluster.peers import Peer
from benchmarks.cluster.pods import POLICY_FILE, pod
from benchmarks.load.processes import busy_seconds, usage
from tools.controlplane.components import (
    API_ADDRESS,
    APISERVER,
    COMPONENTS,
    SCHEDULER,
    scheduler_flags,
)
from tools.controlplane.exchange import ApiError
from tools.controlplane.plane import ControlPlane
from tools.installation.kubelet import Kubelet
from tools.installation.product import (
    MUTATING,
    NAMESPACE,
    OVERLAYS,
    POLICY,
    SETTLE_SECONDS,
    VALIDATING,
    Installed,
)
from tools.polling import wait_until

SPACE: Final = "benchmark"
"""The namespace of the Pods that are created."""

DEBUGGED: Final = "debugged"
"""The name of a running Pod with approved images. It is created before any case is registered."""

_PODS: Final = f"/api/v1/namespaces/{SPACE}/pods"
_CONTROLLER: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gatekeeper-py-controller"


class Spoiled(RuntimeError):
    """An answer was wrong during the measurement, so the figures are not valid."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the cases are measured. Our replicas always run, but get no reviews unless registered."""

    plane: ControlPlane
    kubelet: Kubelet
    product: Installed
    peers: list[Peer] = field(default_factory=list)

    def arm(self, overlay: str) -> None:
        """Apply one overlay with the policy of the comparison, and wait until the webhooks are armed.

        Raises TimeoutError when they are not armed in time.
        """
        manifests = self.plane.kubectl("kustomize", str(OVERLAYS / overlay)).stdout
        items = list(yaml.safe_load_all(manifests))
        for item in items:
            if item["kind"] == "ConfigMap" and item["metadata"]["name"] == POLICY:
                item["data"]["policy.yaml"] = POLICY_FILE.read_text(encoding="utf-8")
        whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.plane.kubectl("apply", "-f", "-", input=whole)
        self.product.wait_armed()

    def disarm(self) -> None:
        """Remove the webhook configurations, after ending the controller, which would create them again."""
        self.end_controller()
        for path in (VALIDATING, MUTATING):
            self.delete(path)

    def end_controller(self) -> None:
        """Scale the controller to zero and wait for its end. Does nothing if there is no controller."""
        if self.product.get(_CONTROLLER) is not None:
            self.plane.api("PATCH", _CONTROLLER, {"spec": {"replicas": 0}})
            wait_until(
                lambda: not any("controller" in name for name in self.kubelet.running),
                seconds=SETTLE_SECONDS,
                what="the controller ended",
            )

    def delete(self, path: str) -> None:
        """Delete an object if it is there."""
        try:
            self.plane.api("DELETE", path)
        except ApiError as problem:
            if problem.status != http.client.NOT_FOUND:
                raise

    def servers(self) -> list[int]:
        """Return the process ids of our replicas."""
        return [pod.process.pid for pod in self.product.servers()]

    def reviews(self) -> float:
        """Return the number of reviews that all replicas have answered so far."""
        return sum(
            self.product.metric(pod.address, f"gatekeeper_py_{name}_total")
            for pod in self.product.servers()
            for name in ("reviews", "dry_run_reviews")
        )

    def sample(self, webhook: Sequence[int]) -> dict[str, float]:
        """Return the CPU seconds so far of the API server, a webhook, and two larger groups.

        ``all_ours`` counts every process of the benchmark except the creators, and ``machine`` counts every
        process. The difference, minus the CPU of the creators, is the CPU that other programs used.
        ``webhook_mib`` is the memory of one process of the webhook, with its children.
        """
        used = {
            pid: usage(pid)
            for pid in {
                *(pod.process.pid for pod in self.kubelet.running.values()),
                *(peer.process.pid for peer in self.peers if peer.process),
            }
        }
        components = {name: self.plane.cpu_seconds(name) for name in COMPONENTS}
        others = sum(each.cpu_seconds for each in used.values())
        return {
            "apiserver": components[APISERVER],
            "webhook": sum(used[pid].cpu_seconds for pid in webhook),
            "webhook_mib": sum(used[pid].rss_mib for pid in webhook) / max(len(webhook), 1),
            "all_ours": sum(components.values()) + others + time.process_time(),
            "machine": busy_seconds(),
        }


@contextmanager
def site(plane: ControlPlane, overlay: str) -> Iterator[Site]:
    """Install an overlay on a started control plane, yield it armed, and end its processes."""
    # With its usual limit of 50 requests a second, the scheduler would hide all differences between cases.
    plane.kill(SCHEDULER)
    flags = scheduler_flags(plane.kubeconfig_for(f"system:{SCHEDULER}"))
    fast = ["--kube-api-qps=1000", "--kube-api-burst=2000"]
    plane.popen([str(plane.binaries / SCHEDULER), *flags, *fast], name=SCHEDULER)
    plane.make_namespace(SPACE)
    # Ephemeral containers can only be added to a Pod that exists.
    body = pod()
    body["metadata"] = {"name": DEBUGGED}
    plane.api("POST", f"/api/v1/namespaces/{SPACE}/pods", body)
    with Kubelet(plane, NAMESPACE) as kubelet:
        found = Site(plane, kubelet, Installed(plane, kubelet))
        found.arm(overlay)
        yield found


class Administrator:
    """Sends requests over one connection, because a new connection would cost more than a request.

    ``answer`` is the text of the API server's last answer.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.answer = ""
        self._connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)

    def create(self, pod: Mapping[str, Any]) -> int:
        """Return the HTTP status of one dry-run create."""
        return self._exchange("POST", f"{_PODS}?dryRun=All", pod, "application/json")

    def debug(self, containers: Sequence[Mapping[str, Any]]) -> int:
        """Return the HTTP status of adding ephemeral containers to the running Pod in dry run."""
        path = f"{_PODS}/{DEBUGGED}/ephemeralcontainers?dryRun=All"
        change = {"spec": {"ephemeralContainers": containers}}
        return self._exchange("PATCH", path, change, "application/merge-patch+json")

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, method: str, path: str, body: Mapping[str, Any], kind: str) -> int:
        self._connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        response = self._connection.getresponse()
        self.answer = response.read().decode(errors="replace")
        return response.status
