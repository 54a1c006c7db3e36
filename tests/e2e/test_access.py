"""RBAC: each identity can do what it needs and nothing more, shown by trying."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.installation.product import NAMESPACE, Installed


@pytest.fixture(scope="module")
def serving(product: Installed) -> Path:
    return product.plane.kubeconfig_for_service_account(NAMESPACE, "gatekeeper-py")


@pytest.fixture
def controller(product: Installed) -> Path:
    return product.controller_identity()


def _try(product: Installed, identity: Path, *arguments: str) -> int:
    return product.plane.kubectl(*arguments, kubeconfig=identity, check=False).returncode


@pytest.mark.oldest
def test_a_serving_pod_reads_the_policy(product: Installed, serving: Path) -> None:
    assert _try(product, serving, "get", "configmap", "gatekeeper-py-policy", "-n", NAMESPACE) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("get", "configmap", "kube-root-ca.crt", "-n", NAMESPACE), id="another-configmap"),
        pytest.param(("get", "configmaps", "-n", NAMESPACE), id="all-configmaps"),
        pytest.param(("get", "secrets", "-n", NAMESPACE), id="secrets"),
        pytest.param(("get", "pods", "-A"), id="pods"),
        pytest.param(("get", "validatingwebhookconfigurations"), id="webhook-configurations"),
        pytest.param(
            ("delete", "configmap", "gatekeeper-py-policy", "-n", NAMESPACE), id="delete-the-policy"
        ),
        pytest.param(
            ("label", "configmap", "gatekeeper-py-policy", "-n", NAMESPACE, "a=b"), id="change-the-policy"
        ),
        pytest.param(("create", "configmap", "new", "-n", NAMESPACE), id="create-anything"),
    ],
)
def test_a_serving_pod_can_do_nothing_else(
    product: Installed, serving: Path, arguments: tuple[str, ...]
) -> None:
    assert _try(product, serving, *arguments) != 0


@pytest.mark.oldest
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("get", "secret", "gatekeeper-py-tls", "-n", NAMESPACE), id="its-secret"),
        pytest.param(("get", "validatingwebhookconfiguration", "image-validation-webhook"), id="validating"),
        pytest.param(
            ("get", "mutatingwebhookconfiguration", "image-mutation-webhook", "--ignore-not-found"),
            id="mutating",
        ),
        pytest.param(("get", "endpointslices", "-n", NAMESPACE), id="endpoints"),
        pytest.param(("get", "deployment", "gatekeeper-py", "-n", NAMESPACE), id="the-server"),
        pytest.param(("get", "configmap", "gatekeeper-py-policy", "-n", NAMESPACE), id="the-policy"),
    ],
)
def test_the_controller_reads_what_it_needs(
    product: Installed, controller: Path, arguments: tuple[str, ...]
) -> None:
    assert _try(product, controller, *arguments) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("get", "secrets", "-n", NAMESPACE), id="other-secrets"),
        pytest.param(("get", "secrets", "-n", "kube-system"), id="secrets-elsewhere"),
        pytest.param(("create", "secret", "generic", "other", "-n", NAMESPACE), id="create-a-secret"),
        pytest.param(("get", "validatingwebhookconfigurations"), id="all-webhook-configurations"),
        pytest.param(("delete", "deployment", "gatekeeper-py", "-n", NAMESPACE), id="delete-the-server"),
        pytest.param(("get", "configmap", "gatekeeper-py-webhooks", "-n", NAMESPACE), id="other-configmaps"),
        pytest.param(
            ("label", "configmap", "gatekeeper-py-policy", "-n", NAMESPACE, "a=b"), id="change-the-policy"
        ),
        pytest.param(
            ("annotate", "namespace", NAMESPACE, "gatekeeper-py/paused-until=2030-01-01T00:00:00Z"),
            id="pause-itself",
        ),
        pytest.param(("get", "events", "-n", NAMESPACE), id="read-events"),
        pytest.param(("get", "pods", "-A"), id="pods"),
        pytest.param(("delete", "clusterrole", "gatekeeper-py-controller"), id="its-own-role"),
    ],
)
def test_the_controller_can_do_nothing_else(
    product: Installed, controller: Path, arguments: tuple[str, ...]
) -> None:
    assert _try(product, controller, *arguments) != 0


def test_the_controller_cannot_make_another_webhook_configuration(
    product: Installed, controller: Path
) -> None:
    manifest = (
        "apiVersion: admissionregistration.k8s.io/v1\n"
        "kind: ValidatingWebhookConfiguration\n"
        "metadata: {name: another}\n"
    )
    for arguments in (("apply", "--server-side", "-f", "-"), ("create", "-f", "-")):
        done = product.plane.kubectl(*arguments, input=manifest, kubeconfig=controller, check=False)
        assert done.returncode != 0
        assert "forbidden" in done.stderr.lower()
