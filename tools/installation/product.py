"""Install the product on the control plane exactly as shipped, with a real process for each Pod."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatekeeper_py.core.names import ACCEPT_REJECTIONS
from gatekeeper_py.core.policy.document import MODES
from tools.controlplane.exchange import exchange
from tools.controlplane.plane import ControlPlane
from tools.installation.kubelet import Kubelet
from tools.polling import wait_until

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = Path(__file__).parent / "manifests"
"""One overlay for each overlay in ``k8s/overlays``, with the same name and with a policy."""
NAMESPACE = "gatekeeper-py"
POLICY = "gatekeeper-py-policy"
CONFIGMAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{POLICY}"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/image-validation-webhook"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/image-mutation-webhook"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/gatekeeper-py-tls"
APPROVED = "registry.corp.example/app:1"
UNLISTED = "quay.io/somebody/app:1"
SETTLE_SECONDS = 60.0


class Installed:
    """An installation and the kubelet that runs its Pods."""

    def __init__(self, plane: ControlPlane, kubelet: Kubelet) -> None:
        self.plane = plane
        self.kubelet = kubelet
        self.namespace = kubelet.namespace

    def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, or ``None`` if it does not exist."""
        return self.plane.find(path)

    def wait_armed(self, replicas: int = 3) -> None:
        """Wait until the validating configuration exists and all replicas are ready."""
        wait_until(
            lambda: self.get(VALIDATING) and self.ready_replicas() == replicas,
            seconds=SETTLE_SECONDS,
            what=f"the webhook armed, with {replicas} ready replicas",
        )

    def wait_not_mutating(self) -> None:
        """Wait until the controller has removed the mutating webhook, some seconds after the last toggle."""
        wait_until(
            lambda: self.get(MUTATING) is None, seconds=SETTLE_SECONDS, what="the mutating webhook removed"
        )

    def ready_replicas(self) -> int:
        """Return how many replicas pass their readiness probe and get reviews from the Service."""
        slices = self.plane.api(
            "GET",
            f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
            "?labelSelector=kubernetes.io/service-name%3Dgatekeeper-py",
        )
        ready = [
            endpoint
            for item in slices["items"]
            for endpoint in item.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
        ]
        probed = [pod for pod in self.servers() if pod.ready]
        return min(len(ready), len(probed))

    def set_mode(self, mode: str) -> None:
        """Change the mode as an operator does, and wait until every replica has it."""
        self._patch({"mode": mode})
        wait_until(
            lambda: all(self.mode_of(pod.address) == mode for pod in self.servers()),
            seconds=10,
            what=f"every replica in mode {mode}",
        )
        if MODES[mode].rewrites and "mirrors:" in self.policy_text():
            self.wait_mutating()

    def wait_mutating(self) -> None:
        """Wait until the controller reports that the mutating webhook is active."""
        name = "gatekeeper_py_control_mutation_active"
        wait_until(
            lambda: self.get(MUTATING) and any(self.metric(pod.address, name) for pod in self.controllers()),
            seconds=SETTLE_SECONDS,
            what="the mutating webhook active",
        )

    def set_policy(self, text: str) -> None:
        """Write the policy and wait until every replica has it."""
        before = self.revisions()
        self._patch({"policy.yaml": text})
        wait_until(
            lambda: len(after := self.revisions()) == 1 and after != before,
            seconds=10,
            what="every replica on the new policy",
        )

    def _patch(self, data: dict[str, str]) -> None:
        """Change the policy, even if it then rejects most of the images that were used before."""
        patch = json.dumps({"metadata": {"annotations": {ACCEPT_REJECTIONS: "true"}}, "data": data})
        self.plane.kubectl("patch", "configmap", POLICY, "-n", self.namespace, "--type=merge", "-p", patch)

    def policy_text(self) -> str:
        found = self.plane.api("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{POLICY}")
        text: str = found["data"]["policy.yaml"]
        return text

    def in_step(self) -> bool:
        """Return whether the fast path follows the policy that every replica serves."""
        controllers = self.controllers()
        if len(controllers) != 1:
            return False  # a rollout is under way
        try:
            text = exchange((controllers[0].address, 8080), "GET", "/metrics")
        except OSError:
            return False  # not listening yet
        revisions = set(
            re.findall(r'^gatekeeper_py_fastpath_revision\{revision="(\w+)"\} 1\.0$', text, re.MULTILINE)
        )
        return "gatekeeper_py_fastpath_in_step 1.0\n" in text and revisions == self.revisions()

    def wait_in_step(self) -> None:
        wait_until(self.in_step, seconds=SETTLE_SECONDS, what="the fast path in step with the policy")

    def servers(self) -> list[Any]:
        """Return the running server Pods."""
        return self.kubelet.pods("gatekeeper-py")

    def controllers(self) -> list[Any]:
        return self.kubelet.pods("gatekeeper-py-controller")

    def controller_identity(self) -> Path:
        """Return a kubeconfig with the token of a Pod of the controller; it is valid as long as the Pod."""
        # A change of the Deployment may have stopped the controller a moment ago.
        (first, *_) = wait_until(self.controllers, seconds=SETTLE_SECONDS, what="the controller running")
        pod = first.name.removeprefix("pod-")
        return self.plane.kubeconfig_for_service_account(self.namespace, "gatekeeper-py-controller", pod)

    def revisions(self) -> set[str]:
        return {self.shown_policy(pod.address)["revision"] for pod in self.servers()}

    def mode_of(self, address: str) -> str:
        mode: str = self.shown_policy(address)["mode"]
        return mode

    def shown_policy(self, address: str) -> dict[str, Any]:
        """Return what ``/policy`` of one replica shows."""
        shown: dict[str, Any] = json.loads(exchange((address, 8080), "GET", "/policy"))
        return shown

    def metric(self, address: str, name: str, **labels: str) -> float:
        """Return the sum of all samples of a metric of one replica that have these labels."""
        text = exchange((address, 8080), "GET", "/metrics")
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        samples = re.findall(rf"^{name}(?:{{([^}}]*)}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for found, value in samples if wanted <= set(found.split(",")))


@contextmanager
def installed(plane: ControlPlane, overlay: str) -> Iterator[Installed]:
    """Apply an overlay and wait until the webhook is armed; delete the overlay at the end."""
    with Kubelet(plane, NAMESPACE) as kubelet:
        plane.kubectl("apply", "-k", str(OVERLAYS / overlay))
        product = Installed(plane, kubelet)
        try:
            product.wait_armed()
            yield product
        finally:
            plane.kubectl("delete", "-k", str(OVERLAYS / overlay), "--ignore-not-found", seconds=120)
            wait_until(
                lambda: product.get(VALIDATING) is None and product.get(MUTATING) is None,
                seconds=SETTLE_SECONDS,
                what="the webhook configurations gone with the installation",
            )


def pod(name: str, image: str = APPROVED, **spec: Any) -> dict[str, Any]:
    """Return a Pod with one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "web", "image": image}], **spec},
    }


def deployment(name: str, image: str = APPROVED, *, replicas: int = 1) -> dict[str, Any]:
    """Return a Deployment with one container."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }
