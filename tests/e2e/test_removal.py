"""The installation is deleted while the cluster creates Pods. This ends the shared one."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from e2e.acting import apply, try_pod
from e2e.load import no_create_fails
from gatekeeper_py.cluster.issuing import issue
from tools.installation.product import MUTATING, NAMESPACE, OVERLAYS, UNLISTED, VALIDATING, Installed, pod
from tools.polling import wait_until


@pytest.mark.oldest
def test_a_removal_under_load_fails_no_create_and_leaves_no_webhook(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    with no_create_fails(product.plane, namespace):
        product.plane.kubectl("delete", "-k", str(OVERLAYS / "enforce"), seconds=120)
        wait_until(
            lambda: product.get(VALIDATING) is None and product.get(MUTATING) is None,
            seconds=60,
            what="the webhook configurations gone",
        )


def test_the_cert_manager_overlay_needs_no_controller_and_no_write_right(
    product: Installed, namespace: str
) -> None:
    """Runs after the removal above. The test creates the Secrets that cert-manager would create."""
    plane = product.plane

    def rendered(overlay: str) -> list[dict[str, Any]]:
        text = plane.kubectl("kustomize", str(OVERLAYS / overlay)).stdout
        return [
            each for each in yaml.safe_load_all(text) if not each["apiVersion"].startswith("cert-manager.io/")
        ]

    documents = rendered("cert-manager")
    assert not any("controller" in document["metadata"]["name"] for document in documents)
    webhooks = [each for each in rendered("cert-manager-armed") if each not in documents]
    assert {each["kind"] for each in webhooks} == {
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    }
    for configuration in webhooks:
        injected = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        assert injected == f"{NAMESPACE}/gatekeeper-py"
    wait_until(
        lambda: product.get(f"/api/v1/namespaces/{NAMESPACE}") is None, seconds=60, what="the namespace gone"
    )
    made = issue(("gatekeeper-py.gatekeeper-py.svc",), datetime.now(UTC), timedelta(days=1))
    bundle = base64.b64encode(made.ca).decode()
    for configuration in webhooks:
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"]["caBundle"] = bundle
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gatekeeper-py-tls", "namespace": NAMESPACE},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.leaf.decode(), "tls.key": made.key.decode()},
    }
    everything = {"apiVersion": "v1", "kind": "List", "items": [*documents, secret]}
    plane.kubectl("apply", "-f", "-", input=json.dumps(everything))
    try:
        # The webhook is not armed yet. The cluster stays open until the servers are ready.
        assert apply(plane, namespace, pod("early", UNLISTED)).returncode == 0
        wait_until(lambda: product.ready_replicas() == 3, seconds=60, what="three ready replicas")
        armed = {"apiVersion": "v1", "kind": "List", "items": webhooks}
        plane.kubectl("apply", "-f", "-", input=json.dumps(armed))

        wait_until(
            lambda: "is not approved" in try_pod(plane, namespace).stderr,
            seconds=10,
            what="an unlisted image refused",
        )
        assert apply(plane, namespace, pod("good")).returncode == 0
    finally:
        armed = {"apiVersion": "v1", "kind": "List", "items": webhooks}
        plane.kubectl("delete", "-f", "-", "--ignore-not-found", input=json.dumps(armed))
        plane.kubectl("delete", "-f", "-", "--ignore-not-found", input=json.dumps(everything), seconds=120)
