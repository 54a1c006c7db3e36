"""RBAC: each identity can do what it needs and nothing more, shown by trying."""

from __future__ import annotations

from typing import Final

import pytest

from e2e.acting import identity
from e2e.fastpath import PROBE_NAMESPACE
from tools.installation.product import NAMESPACE, Installed

HERE: Final = f"-n {NAMESPACE}"
POLICY: Final = f"configmap gatekeeper-py-policy {HERE}"
OLDEST: Final = pytest.mark.oldest

NEEDED: Final = {
    "gatekeeper-py": [f"get {POLICY}"],
    "gatekeeper-py-controller": [
        f"get secret gatekeeper-py-tls {HERE}",
        "get validatingwebhookconfiguration image-validation-webhook",
        "get mutatingwebhookconfiguration image-mutation-webhook --ignore-not-found",
        f"get endpointslices {HERE}",
        f"get deployment gatekeeper-py {HERE}",
        f"get {POLICY}",
    ],
}
FORBIDDEN: Final = {
    "gatekeeper-py": [
        f"get configmap kube-root-ca.crt {HERE}",
        f"get configmaps {HERE}",
        f"get secrets {HERE}",
        "get pods -A",
        "get validatingwebhookconfigurations",
        f"delete {POLICY}",
        f"label {POLICY} a=b",
        f"create configmap new {HERE}",
    ],
    "gatekeeper-py-controller": [
        f"get secrets {HERE}",
        "get secrets -n kube-system",
        f"create secret generic other {HERE}",
        "get validatingwebhookconfigurations",
        f"delete deployment gatekeeper-py {HERE}",
        f"get configmap gatekeeper-py-webhooks {HERE}",
        f"get configmap kube-root-ca.crt {HERE}",
        f"get configmaps {HERE}",
        f"label {POLICY} a=b",
        f"annotate namespace {NAMESPACE} gatekeeper-py/paused-until=2030-01-01T00:00:00Z",
        f"get events {HERE}",
        "get pods -A",
        "delete clusterrole gatekeeper-py-controller",
        f"get pods -n {PROBE_NAMESPACE}",
        f"get secrets -n {PROBE_NAMESPACE}",
        f"delete resourcequota no-pods -n {PROBE_NAMESPACE}",
    ],
}


@pytest.mark.parametrize(
    ("name", "command", "allowed"),
    [
        *(pytest.param(name, each, True, marks=OLDEST) for name, needed in NEEDED.items() for each in needed),
        *((name, each, False) for name, forbidden in FORBIDDEN.items() for each in forbidden),
    ],
)
def test_an_identity_can_do_what_it_needs_and_nothing_else(
    product: Installed, name: str, command: str, *, allowed: bool
) -> None:
    done = product.plane.kubectl(*command.split(), kubeconfig=identity(product, name), check=False)
    assert (done.returncode == 0) is allowed, done.stderr


def test_the_controller_cannot_make_another_webhook_configuration(product: Installed) -> None:
    controller = product.controller_identity()
    manifest = (
        "apiVersion: admissionregistration.k8s.io/v1\n"
        "kind: ValidatingWebhookConfiguration\n"
        "metadata: {name: another}\n"
    )
    for arguments in (("apply", "--server-side", "-f", "-"), ("create", "-f", "-")):
        done = product.plane.kubectl(*arguments, input=manifest, kubeconfig=controller, check=False)
        assert done.returncode != 0
        assert "forbidden" in done.stderr.lower()
