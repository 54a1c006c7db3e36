"""The settings of the webhook configurations, changed by an operator on a real API server."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.acting import SETTINGS, alarm, apply, refused, wait_another_pass
from tools.installation.product import (
    K8S,
    NAMESPACE,
    POLICY,
    UNLISTED,
    VALIDATING,
    Installed,
    deployment,
    pod,
)
from tools.polling import wait_until

AUDIT = (
    *(sys.executable, "-m", "gatekeeper_py", "audit", "--format", "json"),
    *("--configmap", f"{NAMESPACE}/{POLICY}"),
)
SHIPPED = (K8S / "base/webhooks.yaml").read_text(encoding="utf-8")


@pytest.fixture
def enforcing(product: Installed) -> Iterator[Installed]:
    """Restore the shipped settings in mode enforce before and after the test."""
    product.set_mode("enforce")
    yield product
    put(product, SHIPPED)
    wait_until(
        lambda: alarm(product, "settings") == 0 and selector(product) == [[NAMESPACE, "kube-system"]],
        seconds=30,
        what="the shipped settings in force",
    )


def put(product: Installed, text: str) -> None:
    product.plane.api("PATCH", SETTINGS, {"data": {"webhooks.yaml": text}})


def webhooks(product: Installed) -> dict[str, dict[str, Any]]:
    live = product.plane.api("GET", VALIDATING)
    return {webhook["name"].partition(".")[0]: webhook for webhook in live["webhooks"]}


def selector(product: Installed) -> list[list[str]]:
    """Return the values of each term of the namespace selector: the exempt names, then those of a label."""
    return [term["values"] for term in webhooks(product)["pods"]["namespaceSelector"]["matchExpressions"]]


def exempt(product: Installed) -> list[str]:
    return selector(product)[0]


def test_a_namespace_is_exempted_by_name_within_seconds(enforcing: Installed, namespace: str) -> None:
    assert refused(enforcing, namespace)
    put(enforcing, f"exemptNamespaces: [{namespace}]")
    started = time.monotonic()
    wait_until(lambda: not refused(enforcing, namespace), seconds=15, what="the namespace exempt")
    assert time.monotonic() - started < 10
    assert exempt(enforcing) == [NAMESPACE, "kube-system", namespace]
    put(enforcing, "")
    wait_until(lambda: refused(enforcing, namespace), seconds=15, what="the namespace reviewed again")


def test_an_audit_leaves_out_what_the_webhook_does_not_review(enforcing: Installed, namespace: str) -> None:
    """The audit uses the settings in the cluster and the labels of the namespace, as the selector does."""
    plane = enforcing.plane
    assert refused(enforcing, namespace)
    put(enforcing, "exemptNamespaceLabels: {example.com/tier: platform}")
    plane.kubectl("label", "namespace", namespace, "example.com/tier=platform")
    wait_until(lambda: not refused(enforcing, namespace), seconds=15, what="the labelled namespace exempt")
    assert len(selector(enforcing)) == 2
    plane.api("POST", f"/api/v1/namespaces/{namespace}/pods", pod("a", UNLISTED))

    def counts() -> dict[str, int]:
        done = plane.exec([*AUDIT, "-n", namespace])
        assert done.stderr == ""
        found: dict[str, int] = json.loads(done.stdout)["counts"]
        return found

    assert (counts()["exempt"], counts()["rejected"]) == (1, 0)
    plane.kubectl("label", "namespace", namespace, "example.com/tier-")
    assert (counts()["exempt"], counts()["rejected"]) == (0, 1)


def test_an_exempt_namespace_recovers_from_a_full_outage(enforcing: Installed, namespace: str) -> None:
    """The Pods of a network plug-in must start even if no replica of the webhook runs."""
    put(enforcing, f"exemptNamespaces: [{namespace}]")
    wait_until(lambda: namespace in exempt(enforcing), seconds=15, what="the namespace exempt")
    for server in enforcing.servers():
        enforcing.kubelet.hold(server.name.removeprefix("pod-"))
        enforcing.kubelet.crash(server)
    try:
        plane = enforcing.plane
        apply(plane, namespace, deployment("cni", UNLISTED))
        plane.kubectl("rollout", "status", "deployment/cni", "-n", namespace, "--timeout=60s")
    finally:
        enforcing.kubelet.release_all()
    enforcing.wait_armed()


def test_a_custom_resource_that_cannot_roll_out_warns(enforcing: Installed, namespace: str) -> None:
    plane, names = enforcing.plane, {"kind": "JobSet", "plural": "jobsets", "singular": "jobset"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "jobsets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    assert apply(plane, namespace, definition).returncode == 0
    plane.kubectl("wait", "--for=condition=Established", "crd/jobsets.example.com", "--timeout=30s")
    old = pod("old", UNLISTED) | {"apiVersion": "example.com/v1", "kind": "JobSet"}
    assert apply(plane, namespace, old).returncode == 0
    put(enforcing, "extraRules: [{apiGroups: [example.com], apiVersions: ['*'], resources: [jobsets]}]\n")
    warning = f"Warning: spec.containers[0].image: {UNLISTED} is not approved; new Pods will be refused"
    patch = ("patch", "jobset", "old", "-n", namespace, "--type=merge", "-p")
    wait_until(
        lambda: warning in plane.kubectl(*patch, '{"spec": {"size": 2}}', "--dry-run=server").stderr,
        seconds=30,
        what="the warning about a change of the spec",
    )
    assert plane.kubectl(*patch, '{"status": {"ready": 1}, "metadata": {"labels": {"a": "b"}}}').stderr == ""
    plane.kubectl("delete", "crd", "jobsets.example.com")


def test_bad_settings_leave_the_last_good_ones_with_an_alarm(enforcing: Installed, namespace: str) -> None:
    """controller/webhooks/test_settings.py and test_file.py have all other bad settings."""
    put(enforcing, f"exemptNamespaces: [{namespace}]")
    wait_until(lambda: namespace in exempt(enforcing), seconds=15, what="the namespace exempt")
    before = enforcing.plane.api("GET", VALIDATING)["webhooks"]
    # Manifests in the ConfigMap change nothing: only webhooks.yaml is read, and strictly.
    manifest = (K8S / "base/webhooks/validating.yaml").read_text(encoding="utf-8")
    put(enforcing, manifest.replace("name: gatekeeper-py\n", "name: elsewhere\n"))
    wait_until(lambda: alarm(enforcing, "settings") == 1, seconds=15, what="the alarm")
    wait_another_pass(enforcing)
    assert enforcing.plane.api("GET", VALIDATING)["webhooks"] == before
