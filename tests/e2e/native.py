"""Apply native policies on the control plane beside a paused webhook, and compute the expected verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from e2e.acting import PAUSED_UNTIL, Document, decoded, no_webhooks, send_all
from gatekeeper_py.cli.reporting.manifest import as_yaml
from gatekeeper_py.core import CompiledPolicy, Policy, admission, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.validating import validating_policy
from support.builders import review
from tools.controlplane.plane import ControlPlane
from tools.installation.product import NAMESPACE, VALIDATING, pod
from tools.polling import wait_until

EVIL: Final = "evil.example/x:1"
API: Final = "/apis/admissionregistration.k8s.io/v1"
COLLECTIONS: Final = (f"{API}/validatingadmissionpolicybindings", f"{API}/validatingadmissionpolicies")
ANSWERED: Final = "ValidatingAdmissionPolicy 'gatekeeper-py-images"


@contextmanager
def paused(plane: ControlPlane) -> Iterator[ControlPlane]:
    """Pause the webhooks of the installation, if there is one; remove the native policies at the end."""
    path = f"/api/v1/namespaces/{NAMESPACE}"
    installed = plane.find(path) is not None

    def annotate(until: str | None) -> None:
        if installed:
            plane.api("PATCH", path, {"metadata": {"annotations": {PAUSED_UNTIL: until}}})

    annotate((datetime.now(UTC) + timedelta(hours=1)).isoformat())
    try:
        wait_until(lambda: no_webhooks(plane), seconds=60, what="no webhooks")
        yield plane
    finally:
        remove(plane)
        annotate(None)
    if installed:
        wait_until(lambda: plane.find(VALIDATING), seconds=60, what="the webhook registered again")


def remove(plane: ControlPlane) -> None:
    for collection in COLLECTIONS:
        for item in plane.api("GET", collection)["items"]:
            if item["metadata"]["labels"].get("app.kubernetes.io/part-of") == "gatekeeper-py":
                plane.api("DELETE", f"{collection}/{item['metadata']['name']}")


def put(plane: ControlPlane, text: str, namespaces: Sequence[str], *, backstop: bool = False) -> Policy:
    """Apply the native policies of a document, and wait until the API server uses them in every namespace.

    The document gets a unique message, which identifies its native policy.
    """
    marker = f"policy {uuid4().hex[:8]}"
    policy = parse_policy(f"{text}\nmessage: {marker}\n")
    options = Options(exempt=("kube-system",), backstop=backstop)
    documents = validating_policy(policy, datetime.now(UTC), options)
    remove(plane)
    plane.kubectl("apply", "--server-side", "-f", "-", input=as_yaml(documents))

    def in_use(namespace: str) -> bool:
        path = f"/api/v1/namespaces/{namespace}/pods"
        (evil,) = send_all(plane, "POST", path, [pod("probe", EVIL)])
        return marker in evil.body.get("message", "") + evil.warnings

    wait_until(lambda: all(map(in_use, namespaces)), seconds=60, what=f"{marker} in use")
    return policy


def expectation(policy: CompiledPolicy, sent: Document, namespace: str) -> str:
    """Return the verdict of the validating webhook, which judges Pods as written."""
    obj = {"apiVersion": "v1", "kind": "Pod"} | decoded(sent)
    return admission.validate(wire.parse(review(obj, namespace=namespace)), policy).verdict
