"""The control plane with our product on it. Its webhooks can be removed and registered again."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.load.processes import busy_seconds
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
    CONFIGMAP,
    MUTATING,
    NAMESPACE,
    OVERLAYS,
    SETTLE_SECONDS,
    VALIDATING,
    Installed,
)
from tools.polling import wait_until

SPACE: Final = "benchmark"
"""The namespace of the Pods that are created."""

_CONTROLLER: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gatekeeper-py-controller"


class Spoiled(RuntimeError):
    """An answer was wrong during the measurement, so the figures are not valid."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the cases are measured. Our replicas always run, but get no reviews unless registered."""

    plane: ControlPlane
    kubelet: Kubelet
    product: Installed

    def arm(self, overlay: str) -> None:
        """Apply one overlay and the policy, and wait until the webhooks are armed.

        Raises TimeoutError when they are not armed in time.
        """
        self.plane.kubectl("apply", "-k", str(OVERLAYS / overlay))
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

    def set_mode(self, mode: str) -> None:
        """Change the policy's mode as an operator does."""
        self.plane.api("PATCH", CONFIGMAP, {"data": {"mode": mode}})

    def mode(self) -> str:
        mode: str = self.plane.api("GET", CONFIGMAP)["data"]["mode"]
        return mode

    def servers(self) -> list[str]:
        """Return the process names of our replicas."""
        return [pod.name for pod in self.product.servers()]

    def reviews(self) -> float:
        """Return the number of reviews that all replicas have answered so far."""
        return sum(
            self.product.metric(pod.address, "gatekeeper_py_reviews_total") for pod in self.product.servers()
        )

    def cpu(self, webhook: Sequence[str]) -> dict[str, float]:
        """Return the CPU seconds so far of the API server, a webhook, and two larger groups.

        ``all_ours`` is every process of the benchmark except the creators, and ``machine`` is every process.
        Together with the creators' own CPU, the two show how busy other programs were.
        """
        started = [pod.name for pod in self.kubelet.running.values()]
        groups = {
            "apiserver": [APISERVER],
            "webhook": list(webhook),
            "all_ours": [*COMPONENTS, *{*started, *webhook}],
        }
        used = {group: sum(self.plane.cpu_seconds(name) for name in names) for group, names in groups.items()}
        used["all_ours"] += time.process_time()
        return used | {"machine": busy_seconds()}


@contextmanager
def site(plane: ControlPlane, overlay: str) -> Iterator[Site]:
    """Install an overlay on a started control plane, yield it armed, and end its processes."""
    # Without its limit of 50 requests a second, the scheduler does not hide all differences.
    plane.kill(SCHEDULER)
    flags = scheduler_flags(plane.kubeconfig_for(f"system:{SCHEDULER}"))
    fast = ["--kube-api-qps=1000", "--kube-api-burst=2000"]
    plane.popen([str(plane.binaries / SCHEDULER), *flags, *fast], name=SCHEDULER)
    plane.make_namespace(SPACE)
    with Kubelet(plane, NAMESPACE) as kubelet:
        found = Site(plane, kubelet, Installed(plane, kubelet))
        found.arm(overlay)
        yield found


class Administrator:
    """Sends requests over one connection; a new one would cost more than a request."""

    def __init__(self, plane: ControlPlane) -> None:
        self._connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)

    def create(self, pod: Mapping[str, Any]) -> int:
        """Return the HTTP status of one dry-run create."""
        path = f"/api/v1/namespaces/{SPACE}/pods?dryRun=All"
        status, _ = self._exchange("POST", path, pod, "application/json")
        return status

    def ask(self, method: str, path: str, change: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to a request with a merge patch or without a body.

        Raises Spoiled for another status than 200.
        """
        status, answer = self._exchange(method, path, change, "application/merge-patch+json")
        if status != http.client.OK:
            raise Spoiled(f"{method} {path}: {status} {answer[:400].decode(errors='replace')}")
        return json.loads(answer)

    def close(self) -> None:
        self._connection.close()

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, kind: str
    ) -> tuple[int, bytes]:
        if body is None:
            self._connection.request(method, path)
        else:
            self._connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        response = self._connection.getresponse()
        return response.status, response.read()
