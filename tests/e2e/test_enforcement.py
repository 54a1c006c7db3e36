"""The controller proves that the policy is enforced, and alerts see it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.acting import CONTROLLER, SETTINGS, control, scale
from e2e.fastpath import Site
from prometheus.running import start_prometheus
from support.monitoring_files import groups, panel_queries
from tools.controlplane.components import API_ADDRESS
from tools.controlplane.exchange import ApiError, exchange
from tools.installation.product import NAMESPACE, UNLISTED, VALIDATING, Installed, pod
from tools.polling import wait_until

PROVEN = "gatekeeper_py_control_last_enforced_timestamp_seconds"
RECORDED = Path(__file__).parents[1] / "data/monitoring/apiserver-metrics.txt"


@pytest.fixture
def enforcing(product: Installed) -> Iterator[Installed]:
    product.wait_armed()
    product.set_mode("enforce")
    yield product
    product.set_mode("enforce")
    product.wait_armed()


def restart(product: Installed) -> float:
    """Restart the controller, so that the next round starts at once; return the time."""
    (controller,) = product.controllers()
    since = time.time()
    product.kubelet.crash(controller)
    return since


def proven(product: Installed, since: float) -> bool:
    return control(product, "last_enforced_timestamp_seconds") > since and control(product, "enforced") == 1


@pytest.mark.parametrize("mode", [pytest.param("enforce", marks=pytest.mark.oldest), "warn", "mutate"])
def test_enforcement_is_proven_in_every_mode(enforcing: Installed, mode: str) -> None:
    enforcing.set_mode(mode)
    since = restart(enforcing)
    wait_until(lambda: proven(enforcing, since), seconds=60, what=f"the proof in mode {mode}")
    assert control(enforcing, "api_servers", outcome="enforced") == 1


def test_enforcement_is_proven_with_the_fast_path(wide: Site) -> None:
    since = restart(wide.product)
    wait_until(lambda: proven(wide.product, since), seconds=60, what="the proof with the fast path")


def test_a_refusal_in_an_exempt_namespace_does_not_prove_enforcement(enforcing: Installed) -> None:
    """The quota of the namespace also refuses the Pod, which proves nothing."""
    before = enforcing.plane.api("GET", SETTINGS)["data"]["webhooks.yaml"]
    settings = {**(yaml.safe_load(before) or {}), "exemptNamespaces": ["gatekeeper-py-probe"]}
    enforcing.plane.api("PATCH", SETTINGS, {"data": {"webhooks.yaml": json.dumps(settings)}})
    try:
        wait_until(
            lambda: "gatekeeper-py-probe" in json.dumps(enforcing.get(VALIDATING)),
            seconds=60,
            what="the exemption in force",
        )
        restart(enforcing)
        wait_until(
            lambda: control(enforcing, "api_servers", outcome="not_enforced") == 1,
            seconds=60,
            what="a round without proof",
        )
        assert control(enforcing, "enforced") == 0
    finally:
        enforcing.plane.api("PATCH", SETTINGS, {"data": {"webhooks.yaml": before}})
    wait_until(lambda: control(enforcing, "enforced") == 1, seconds=90, what="the proof again")


def test_an_alert_fires_while_enforcement_is_not_proven(
    enforcing: Installed, namespace: str, tmp_path: Path
) -> None:
    """The controller is scaled to no replicas and the configuration is deleted: everything is admitted."""
    since = restart(enforcing)
    wait_until(lambda: proven(enforcing, since), seconds=60, what="the proof")
    (controller,) = enforcing.controllers()
    labels = {"namespace": NAMESPACE, "pod": "controller"}
    quick = [
        {"name": group["name"], "rules": [{**rule, "for": "2s"} for rule in group["rules"]]}
        for group in groups()
        if group["name"] == "gatekeeper-py.enforcement"
    ]
    jobs = {"gatekeeper-py": [(f"{controller.address}:8080", labels)]}
    alert = "GatekeeperPyNotEnforced"
    with start_prometheus(tmp_path, jobs, groups=quick) as prometheus:
        prometheus.wait(lambda: prometheus.query(f"count_over_time({PROVEN}[1m]) > 5") != [], "scrapes")
        assert alert not in prometheus.firing()
        scale(enforcing, CONTROLLER, 0)
        try:
            enforcing.plane.api("DELETE", VALIDATING)
            created = enforcing.plane.api(
                "POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod("a", UNLISTED)
            )
            assert created["spec"]["containers"][0]["image"] == UNLISTED
            prometheus.wait(lambda: alert in prometheus.firing(), "the alert")
        finally:
            scale(enforcing, CONTROLLER, 1)
        enforcing.wait_armed()


@pytest.fixture
def unreachable(enforcing: Installed, namespace: str) -> Iterator[str]:
    """Register an unreachable webhook that admits ConfigMaps named ``open`` and refuses others here."""
    names = {"Ignore": "open.unreachable.example", "Fail": "closed.unreachable.example"}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "unreachable"},
        "webhooks": [
            {
                "name": name,
                "clientConfig": {"service": {"namespace": namespace, "name": "nobody"}},
                "rules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "matchConditions": [
                    {"name": "by-name", "expression": f"(object.metadata.name == 'open') == {opens}"}
                ],
                "failurePolicy": policy,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
            for (policy, name), opens in zip(names.items(), ("true", "false"), strict=True)
        ],
    }
    collection = VALIDATING.rpartition("/")[0]
    enforcing.plane.api("POST", collection, configuration)
    yield namespace
    enforcing.plane.api("DELETE", f"{collection}/unreachable")


def test_the_api_servers_metrics_are_those_that_alerts_and_panels_name(
    enforcing: Installed, unreachable: str
) -> None:
    plane = enforcing.plane

    def create(name: str) -> bool:
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        try:
            plane.api("POST", f"/api/v1/namespaces/{unreachable}/configmaps?dryRun=All", document)
        except ApiError:
            return False
        return True

    wait_until(lambda: not create("closed"), seconds=10, what="a request that is refused without an answer")
    assert create("open")
    with pytest.raises(ApiError, match="denied the request"):
        plane.api("POST", f"/api/v1/namespaces/{unreachable}/pods?dryRun=All", pod("a", UNLISTED))
    exposed = exchange(API_ADDRESS, "GET", "/metrics", tls=plane.tls)
    queries = [*panel_queries().values(), *(rule["expr"] for each in groups() for rule in each["rules"])]
    named = {name for query in queries for name in re.findall(r"apiserver_\w+", query)}
    recorded = RECORDED.read_text(encoding="utf-8").splitlines()
    assert named <= {line.partition("{")[0] for line in recorded}
    for line in recorded:
        if line.startswith("# TYPE"):
            assert line in exposed
        elif not line.startswith("#"):
            assert_labels(line, exposed)
    for error in ("calling_webhook_error", "no_error"):
        assert f'error_type="{error}"' in exposed


def assert_labels(sample: str, exposed: str) -> None:
    """Assert that the API server has samples of this metric with the same labels."""
    name = sample.partition("{")[0]
    labels = re.findall(r'(\w+)="', sample)
    found = [re.findall(r'(\w+)="', line) for line in exposed.splitlines() if line.startswith(f"{name}{{")]
    assert labels in found
