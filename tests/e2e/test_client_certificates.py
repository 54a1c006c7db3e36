"""A server with ``--client-ca`` answers only an API server with the right client certificate."""

from __future__ import annotations

import base64
import http.client
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.acting import try_pod
from e2e.fixtures import CALLED_WITH_CERTIFICATE, CALLER
from support.builders import pod, policy_text, review
from support.server import ask
from tools.controlplane.plane import ControlPlane
from tools.polling import wait_until

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
NAME = "with-client-certificate"
OURS, OTHER = "registry.corp.example/web", "registry.corp.example/other"
"""The policy of a shared installation would approve both; the policy of this test approves one."""

HOST, PORT = CALLED_WITH_CERTIFICATE.split(":")


class Webhook:
    """A server that requires client certificates, and the webhook configuration that names it."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path, *arguments: str) -> None:
        self.plane, self.namespace, self.ca = plane, namespace, folder / "ca.pem"
        self._process = f"{NAME}-{namespace}"
        policy = folder / "policy.yaml"
        policy.write_text(policy_text(allow=f"[{OURS}]"), encoding="utf-8")
        plane.popen(
            [
                sys.executable, "-m", "gatekeeper_py", "serve", "--policy", str(policy),
                "--listen", CALLED_WITH_CERTIFICATE, "--health-listen", f"{HOST}:0", "--drain-seconds", "0",
                "--tls-self-signed", "--tls-hostname", HOST, "--tls-ca-out", str(self.ca), *arguments,
            ],
            name=self._process,
        )  # fmt: skip
        wait_until(self._has_a_policy, seconds=30, what="the server ready")
        plane.api("POST", CONFIGURATIONS, self._configuration())

    def _has_a_policy(self) -> bool:
        return '"event":"policy_loaded"' in self.plane.log(self._process).read_text(encoding="utf-8")

    def _configuration(self) -> dict[str, object]:
        webhook = {
            "name": "pods.client-certificate.example",
            "clientConfig": {
                "url": f"https://{CALLED_WITH_CERTIFICATE}/validate-image",
                "caBundle": base64.b64encode(self.ca.read_bytes()).decode(),
            },
            "rules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        }
        return {"metadata": {"name": NAME}, "webhooks": [webhook]}

    def answer(self, image: str) -> str:
        """Return the error when a Pod is created in dry run; empty if it is admitted."""
        return try_pod(self.plane, self.namespace, image).stderr

    def end(self) -> None:
        self.plane.api("DELETE", f"{CONFIGURATIONS}/{NAME}")
        self.plane.kill(self._process)


@pytest.fixture
def webhook(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Webhook]:
    authority = str(control_plane.authority.certificate)
    made = Webhook(control_plane, namespace, tmp_path, "--client-ca", authority, "--client-name", CALLER)
    yield made
    made.end()


def test_an_api_server_with_its_certificate_gets_verdicts_and_a_stranger_does_not(webhook: Webhook) -> None:
    # The API server begins to call a new webhook a moment after it stores the configuration.
    wait_until(
        lambda: "registry.corp.example/other matches no rule" in webhook.answer(f"{OTHER}:1"),
        seconds=30,
        what="a denial through the webhook",
    )
    assert webhook.answer(f"{OURS}:1") == ""
    stranger = ssl.create_default_context(cafile=webhook.ca)
    connection = http.client.HTTPSConnection(HOST, int(PORT), context=stranger, timeout=10)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        ask(connection, review(pod()))
    connection.close()
