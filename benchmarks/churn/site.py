"""The control plane with our product on it. Its webhooks can be removed and registered again."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.churn.approval import policy_text
from tools.controlplane.components import (
    API_ADDRESS,
    APISERVER,
    COMPONENTS,
    ETCD,
    SCHEDULER,
    scheduler_flags,
)
from tools.controlplane.exchange import ApiError
from tools.controlplane.plane import ControlPlane
from tools.installation.kubelet import Kubelet
from tools.installation.product import K8S, MUTATING, NAMESPACE, POLICY, SETTLE_SECONDS, VALIDATING, Installed
from tools.polling import wait_until

CHURN = "churn"
_CONTROLLER = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gatekeeper-py-controller"


class PausableKubelet(Kubelet):
    """A kubelet that can be paused, because its requests to the API server would add to every figure."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        super().__init__(plane, namespace)
        self._turning = threading.Lock()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Pause the kubelet: it requests, starts and probes nothing. Running processes keep running."""
        with self._turning:
            yield

    def _turn(self) -> None:
        with self._turning:
            super()._turn()


@dataclass(frozen=True, slots=True)
class Site:
    """Where the cases are measured. Our replicas always run, but get no reviews unless registered."""

    plane: ControlPlane
    kubelet: PausableKubelet
    product: Installed

    def arm(self, overlay: str) -> None:
        """Apply one overlay and the policy, both as shipped, and wait until the webhooks are armed.

        Raises TimeoutError when they are not armed in time.
        """
        rendered = self.plane.kubectl("kustomize", str(K8S / "overlays" / overlay)).stdout
        self.plane.kubectl("apply", "-f", "-", input=json.dumps(with_policy(rendered, policy_text())))
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

    def create(self, collection: str, document: Mapping[str, Any]) -> str:
        """Create an object and return its path."""
        self.plane.api("POST", collection, document)
        return f"{collection}/{document['metadata']['name']}"

    def delete(self, path: str) -> None:
        """Delete an object if it is there."""
        try:
            self.plane.api("DELETE", path)
        except ApiError as problem:
            if problem.status != http.client.NOT_FOUND:
                raise

    def servers(self) -> list[str]:
        """Return the process names of our replicas."""
        return [pod.name for pod in self.product.servers()]

    def controllers(self) -> list[str]:
        return [pod.name for pod in self.product.controllers()]

    def reviews(self) -> float:
        """Return the number of reviews that all replicas have answered so far."""
        return sum(
            self.product.metric(pod.address, "gatekeeper_py_reviews_total") for pod in self.product.servers()
        )

    def cpu(self, webhook: Sequence[str]) -> dict[str, float]:
        """Return the CPU seconds so far of the API server, etcd, a webhook, and two larger groups.

        ``all_ours`` is every process of the benchmark except the creators, and ``machine`` is every process.
        Together with the creators' own CPU, the two show how busy other programs were.
        """
        started = [pod.name for pod in self.kubelet.running.values()]
        groups = {
            "apiserver": [APISERVER],
            "etcd": [ETCD],
            "webhook": list(webhook),
            "all_ours": [*COMPONENTS, *{*started, *webhook}],
        }
        used = {group: sum(self.plane.cpu_seconds(name) for name in names) for group, names in groups.items()}
        used["all_ours"] += time.process_time()
        return used | {"machine": machine_seconds()}


def machine_seconds() -> float:
    """Return the seconds that the cores of this machine were not idle since its start, summed up."""
    # cpu user nice system idle iowait irq softirq steal …: proc_stat(5)
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    busy = [int(field) for number, field in enumerate(fields) if number not in {3, 4}]
    return sum(busy) / os.sysconf("SC_CLK_TCK")


@contextmanager
def site(plane: ControlPlane) -> Iterator[Site]:
    """Install the overlay ``enforce`` on a started control plane, yield it armed, and end its processes."""
    hurry_scheduler(plane)
    plane.make_namespace(CHURN)
    with PausableKubelet(plane, NAMESPACE) as kubelet:
        found = Site(plane, kubelet, Installed(plane, kubelet))
        found.arm("enforce")
        yield found


def hurry_scheduler(plane: ControlPlane) -> None:
    """Restart the scheduler without its limit of 50 requests a second, which would hide all differences."""
    plane.kill(SCHEDULER)
    flags = scheduler_flags(plane.kubeconfig_for(f"system:{SCHEDULER}"))
    fast = ["--kube-api-qps=1000", "--kube-api-burst=2000"]
    plane.popen([str(plane.binaries / SCHEDULER), *flags, *fast], name=SCHEDULER)


def with_policy(rendered: str, text: str) -> dict[str, Any]:
    """Return rendered manifests as one List, with the policy replaced by this text.

    Raises ValueError unless there is exactly one ConfigMap of the policy.
    """
    items = [document for document in yaml.safe_load_all(rendered) if document is not None]
    policies = [item for item in items if item["kind"] == "ConfigMap" and item["metadata"]["name"] == POLICY]
    if len(policies) != 1:
        raise ValueError(f"the overlay has {len(policies)} ConfigMaps named {POLICY}")
    policies[0]["data"]["policy.yaml"] = text
    return {"apiVersion": "v1", "kind": "List", "items": items}


class CreateProbe:
    """Sends dry-run creates over one connection."""

    def __init__(self, plane: ControlPlane) -> None:
        self._connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)

    def create(self, pod: Mapping[str, Any]) -> int:
        """Return the HTTP status of one dry-run create."""
        path = f"/api/v1/namespaces/{CHURN}/pods?dryRun=All"
        self._connection.request("POST", path, json.dumps(pod), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        self._connection.close()
