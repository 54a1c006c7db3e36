"""The values of the chart: a refusal names the path, and each value has an effect and is documented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from chart.rendering import CHART, POLICY, Helm, merged, nested
from chart.rendering import helm as find_helm
from tools import chart

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
WITH_POLICY = {"policy": {"document": POLICY}}
VALUES = [each.path for each in chart.values()]

CERT_MANAGER = {"certManager": {"enabled": True}}
NOT_OURS = {"global", "enabled"}
"""Values that a parent chart may pass. Only the schema has them."""


def default(path: str) -> Any:
    value: Any = DEFAULTS
    for key in path.split("."):
        value = value[key]
    return value


def groups(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of every mapping whose keys the chart defines; the path of the root is empty."""
    yield path
    for key, value in values.items():
        inner = f"{path}.{key}" if path else key
        if isinstance(value, dict) and inner not in VALUES:
            yield from groups(value, inner)


# For each value: another value that must change the rendering, and the other values that this needs.
EFFECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "image.repository": ("registry.corp.example/x", {}),
    "image.tag": ("9.9", {}),
    "image.digest": ("sha256:" + "a" * 64, {}),
    "image.pullPolicy": ("Always", {}),
    "imagePullSecrets": ([{"name": "regcred"}], {}),
    "policy.document": (POLICY + "message: hello\n", {}),
    "policy.existingConfigMap": ("mine", {"policy": {"document": ""}}),
    "policy.mode": ("warn", {}),
    "webhooks.exemptNamespaces": (["calico-system"], {}),
    "webhooks.exemptNamespaceLabels": ({"a": "b"}, {}),
    "webhooks.pods.failurePolicy": ("Ignore", {}),
    "webhooks.pods.timeoutSeconds": (4, {}),
    "webhooks.workloads.enabled": (False, {}),
    "webhooks.workloads.failurePolicy": ("Fail", {}),
    "webhooks.workloads.timeoutSeconds": (4, {}),
    "webhooks.mutation.failurePolicy": ("Fail", {}),
    "webhooks.mutation.timeoutSeconds": (4, {}),
    "webhooks.policyGuard.enabled": (False, {}),
    "webhooks.extraRules": (
        [{"apiGroups": ["argoproj.io"], "apiVersions": ["*"], "resources": ["workflows"]}],
        {},
    ),
    "replicas": (5, {}),
    "autoscaling.enabled": (True, {}),
    "autoscaling.minReplicas": (2, {"autoscaling": {"enabled": True}}),
    "autoscaling.maxReplicas": (20, {"autoscaling": {"enabled": True}}),
    "autoscaling.targetCPUUtilizationPercentage": (50, {"autoscaling": {"enabled": True}}),
    "podDisruptionBudget.enabled": (False, {}),
    "podDisruptionBudget.maxUnavailable": ("50%", {}),
    "server.resources": ({"limits": {"memory": "2Gi"}}, {}),
    "server.logLevel": ("debug", {}),
    "server.drainSeconds": (7.5, {}),
    "server.extraArgs": (["--cache-size=0"], {}),
    "server.podAnnotations": ({"a": "b"}, {}),
    "server.podLabels": ({"a": "b"}, {}),
    "policyGuard.mostRejected": (0, {}),
    "controller.resources": ({"limits": {"memory": "2Gi"}}, {}),
    "controller.logLevel": ("debug", {}),
    "controller.extraArgs": (["--log-format=json"], {}),
    "controller.podAnnotations": ({"a": "b"}, {}),
    "controller.podLabels": ({"a": "b"}, {}),
    "certificates.days": (60, {}),
    "certificates.renewBeforeDays": (10, {}),
    "certificates.settleSeconds": (30, {}),
    "certManager.enabled": (True, {}),
    "certManager.armed": (True, CERT_MANAGER),
    "certManager.issuerRef": ({"name": "corp-ca", "kind": "ClusterIssuer"}, CERT_MANAGER),
    "certManager.duration": ("4380h", CERT_MANAGER),
    "certManager.renewBefore": ("24h", CERT_MANAGER),
    "fastPath.enabled": (True, {}),
    "exceptions.enabled": (True, {}),
    "enforcement.probeNamespace": ("probes", {}),
    "identityPolicies.enabled": (False, {}),
    "reports.enabled": (True, {}),
    "reports.every": ("1h", {"reports": {"enabled": True}}),
    "reports.kind": ("openreports", {"reports": {"enabled": True}}),
    "reports.clusterName": ("prod", {"reports": {"enabled": True}}),
    "reports.events": (True, {"reports": {"enabled": True}}),
    "reports.lookUp": (True, {"reports": {"enabled": True}}),
    "reports.extraRules": (
        [{"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["list"]}],
        {"reports": {"enabled": True}},
    ),
    "reports.resources": ({"limits": {"memory": "1Gi"}}, {"reports": {"enabled": True}}),
    "registries.existingSecret": ("mine", {}),
    "nodeSelector": ({"kubernetes.io/os": "linux", "pool": "platform"}, {}),
    "tolerations": ([{"key": "dedicated", "operator": "Exists"}], {}),
    "affinity": ({"nodeAffinity": {}}, {}),
    "spread.hosts": ("DoNotSchedule", {}),
    "spread.zones": ("DoNotSchedule", {}),
    "priorityClass.name": ("another", {}),
    "priorityClass.quota": (False, {}),
    "serviceAccount.annotations": ({"a": "b"}, {}),
    "service.annotations": ({"a": "b"}, {}),
    "service.ipFamilyPolicy": ("RequireDualStack", {}),
    "networkPolicy.enabled": (False, {}),
    "networkPolicy.egressPorts": ([443, 8443], {}),
    "networkPolicy.extraEgress": ([{"ports": [{"port": 5000}]}], {}),
    "monitoring.scrapeAnnotations": (False, {}),
    "monitoring.podMonitor.enabled": (True, {}),
    "monitoring.podMonitor.labels": ({"a": "b"}, {"monitoring": {"podMonitor": {"enabled": True}}}),
    "monitoring.podMonitor.interval": ("10s", {"monitoring": {"podMonitor": {"enabled": True}}}),
    "monitoring.rules.enabled": (True, {}),
    "monitoring.rules.labels": ({"a": "b"}, {"monitoring": {"rules": {"enabled": True}}}),
    "monitoring.rules.runbooks": (
        "https://wiki.corp.example/runbooks/",
        {"monitoring": {"rules": {"enabled": True}}},
    ),
    "monitoring.dashboard.enabled": (True, {}),
    "monitoring.dashboard.labels": ({"a": "b"}, {"monitoring": {"dashboard": {"enabled": True}}}),
    "uninstall.waitForWebhooks": (False, {}),
}


def test_every_value_is_documented() -> None:
    def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
        for key, value in values.items():
            inner = f"{path}{key}"
            if inner in VALUES or not isinstance(value, dict):
                yield inner
            else:
                yield from leaves(value, f"{inner}.")

    assert sorted(leaves(DEFAULTS)) == sorted(VALUES)


def test_every_value_is_in_the_table_of_effects() -> None:
    assert sorted(EFFECTS) == sorted(VALUES)


@pytest.mark.parametrize("path", VALUES)
def test_every_value_has_an_effect(path: str) -> None:
    helm = find_helm(4)
    value, context = EFFECTS[path]
    assert value != default(path)
    base = merged(WITH_POLICY, context)
    changed = merged(base, nested(path, value))
    if path == "policy.existingConfigMap":
        base = WITH_POLICY
    assert helm.objects(values=base) != helm.objects(values=changed)


def wrong(path: str) -> Any:
    """Return a value of another type than the default."""
    return 7 if isinstance(default(path), str | None) else "text"


@pytest.mark.parametrize("path", VALUES)
def test_a_value_of_the_wrong_type_is_refused_by_its_path(path: str) -> None:
    refusal = find_helm(4).refusal(merged(WITH_POLICY, nested(path, wrong(path))))
    assert f"at '/{path.replace('.', '/')}'" in refusal


@pytest.mark.parametrize("path", [path for path in groups(DEFAULTS) if path])
def test_a_group_of_values_cannot_be_removed(path: str) -> None:
    refusal = find_helm(4).refusal(merged(WITH_POLICY, nested(path, None)))
    parent, _, key = path.rpartition(".")
    assert f"at '{'/' + parent.replace('.', '/') if parent else ''}'" in refusal
    assert f"missing property '{key}'" in refusal


@pytest.mark.parametrize("path", list(groups(DEFAULTS)), ids=lambda path: path or "root")
def test_an_unknown_value_is_refused_by_its_path(path: str) -> None:
    unknown = nested(f"{path}.surprise" if path else "surprise", 1)
    refusal = find_helm(4).refusal(merged(WITH_POLICY, unknown))
    assert f"at '{'/' + path.replace('.', '/') if path else ''}'" in refusal
    assert "'surprise'" in refusal


WRONG: Final[dict[str, tuple[str, Any, str]]] = {
    "a-mode-that-does-not-exist": ("policy.mode", "enforced", ""),
    "a-policy-as-yaml": ("policy.document", {"kind": "ImagePolicy"}, ""),
    "no-name": ("policy.existingConfigMap", "Mine!", ""),
    "no-replica": ("replicas", 0, ""),
    "half-a-replica": ("replicas", 2.5, ""),
    "half-a-digest": ("image.digest", "sha256:abc", ""),
    "a-tag-with-a-space": ("image.tag", "v1 --evil", ""),
    "a-secret-without-name": ("imagePullSecrets", ["regcred"], "/0"),
    "a-wildcard": ("webhooks.exemptNamespaces", ["team-*"], "/0"),
    "not-a-label": ("webhooks.exemptNamespaceLabels", {"no label": "x"}, ""),
    "the-label-with-the-name": (
        "webhooks.exemptNamespaceLabels",
        {"kubernetes.io/metadata.name": "shop"},
        "/kubernetes.io~1metadata.name",
    ),
    "a-group-of-kubernetes": (
        "webhooks.extraRules",
        [{"apiGroups": ["storage.k8s.io"], "apiVersions": ["v1"], "resources": ["volumeattachments"]}],
        "/0/apiGroups/0",
    ),
    "too-long-a-wait": ("webhooks.pods.timeoutSeconds", 31, ""),
    "every-group": (
        "webhooks.extraRules",
        [{"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]}],
        "/0/apiGroups/0",
    ),
    "no-level": ("server.logLevel", "loud", ""),
    "not-an-option": ("server.extraArgs", ["x"], "/0"),
    "a-value-after-a-space": ("server.extraArgs", ["--cache-size 0"], "/0"),
    "the-controller-too": ("controller.extraArgs", ["--log-format json"], "/0"),
    "a-label-that-is-a-number": ("server.podLabels", {"a": 1}, "/a"),
    "a-label-that-the-service-selects": (
        "server.podLabels",
        {"app.kubernetes.io/name": "x"},
        "/app.kubernetes.io~1name",
    ),
    "no-namespace": ("enforcement.probeNamespace", "", ""),
    "port-0": ("networkPolicy.egressPorts", [0], "/0"),
    "no-class": ("priorityClass.name", "Not a name", ""),
    "misspelt-issuer": ("certManager.issuerRef", {"nam": "x"}, ""),
}
"""For each mistake: the path of a value, a wrong value, and the place of the mistake below the path."""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_names_its_path(helm: Helm, name: str) -> None:
    path, value, below = WRONG[name]
    refusal = helm.refusal(merged(WITH_POLICY, nested(path, value)))
    assert f"at '/{path.replace('.', '/')}{below}'" in refusal


def test_the_schema_describes_these_values_and_no_others() -> None:
    def described(schema: dict[str, Any], path: str = "") -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            place = f"{path}{key}"
            if place in VALUES or "properties" not in inner:
                yield place
            else:
                assert inner.get("additionalProperties") is False, place
                yield from described(inner, f"{place}.")

    assert SCHEMA["additionalProperties"] is False
    assert sorted(set(described(SCHEMA)) - NOT_OURS) == sorted(VALUES)
