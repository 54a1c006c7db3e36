"""The chart and the kustomize base with its overlays render the same objects."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.rendering import ROOT, Helm, Objects, kustomize, kustomized
from gatekeeper_py.controller.webhooks.settings import parse_settings
from gatekeeper_py.controller.webhooks.templates import Target, mutating, validating
from tools.installation.product import OVERLAYS as INSTALLED

OVERLAYS = ROOT / "k8s/overlays"

# Helm adds these labels, which name the release of an object.
RELEASE_LABELS = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
ONLY_IN_KUSTOMIZE = {("Namespace", "", "gatekeeper-py")}
"""Helm creates the namespace of a release itself."""


def policy_of(objects: Objects) -> str:
    text: str = objects["ConfigMap", "gatekeeper-py", "gatekeeper-py-policy"]["data"]["policy.yaml"]
    return text


def comparable(objects: Objects) -> dict[str, Any]:
    """Return the objects without intended differences: release labels, hooks, and the format of YAML text."""
    found = {}
    for key, original in objects.items():
        each = copy.deepcopy(original)
        metadata = each["metadata"]
        if "helm.sh/hook" in (metadata.get("annotations") or {}) or key in ONLY_IN_KUSTOMIZE:
            continue
        labels = metadata.get("labels") or {}
        metadata["labels"] = {k: v for k, v in labels.items() if k not in RELEASE_LABELS}
        if each["kind"] == "Deployment":
            for container in each["spec"]["template"]["spec"]["containers"]:
                # The API server sets this default for a tag other than latest.
                container.setdefault("imagePullPolicy", "IfNotPresent")
        if each["kind"] == "ConfigMap" and "webhooks.yaml" in each["data"]:
            each["data"] = {"webhooks.yaml": yaml.safe_load(each["data"]["webhooks.yaml"])}
        found["/".join(key)] = json.loads(json.dumps(each, sort_keys=True))
    return found


@pytest.mark.parametrize(
    ("overlay", "values"),
    [
        pytest.param("enforce", {"policy": {"mode": "enforce"}}, id="enforce"),
        pytest.param("warn", {"policy": {"mode": "warn"}}, id="warn"),
        pytest.param("mutate", {"policy": {"mode": "mutate"}}, id="mutate"),
        pytest.param(
            "fast-path", {"policy": {"mode": "enforce"}, "fastPath": {"enabled": True}}, id="fast-path"
        ),
        pytest.param(
            "cert-manager", {"policy": {"mode": "enforce"}, "certManager": {"enabled": True}},
            id="cert-manager",
        ),
        pytest.param(
            "cert-manager-armed",
            {"policy": {"mode": "enforce"}, "certManager": {"enabled": True, "armed": True}},
            id="cert-manager-armed",
        ),
    ],
)  # fmt: skip
def test_chart_and_overlay_render_the_same_objects(helm: Helm, overlay: str, values: dict[str, Any]) -> None:
    expected = kustomize(INSTALLED / overlay)
    policy = {**values["policy"], "document": policy_of(expected)}
    rendered = comparable(helm.objects(values={**values, "policy": policy}))
    expected_objects = comparable(expected)
    assert rendered.keys() == expected_objects.keys()
    for name, each in expected_objects.items():
        assert rendered[name] == each, name


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="defaults"),
        pytest.param(
            {
                "exemptNamespaces": ["calico-system", "kube-system", "csi-driver"],
                "exemptNamespaceLabels": {"example.com/tier": "platform", "another": ""},
                "pods": {"failurePolicy": "Ignore", "timeoutSeconds": 3},
                "workloads": {"failurePolicy": "Fail", "timeoutSeconds": 7},
                "mutation": {"failurePolicy": "Fail", "timeoutSeconds": 4},
                "extraRules": [
                    {"apiGroups": ["argoproj.io"], "apiVersions": ["*"], "resources": ["workflows"]},
                    {
                        "apiGroups": ["example.com"],
                        "apiVersions": ["v1"],
                        "resources": ["things", "things/x"],
                    },
                ],
            },
            id="everything-set",
        ),
        pytest.param(
            {"workloads": {"enabled": False}, "policyGuard": {"enabled": False}}, id="what-can-be-disabled"
        ),
        pytest.param(
            {
                "workloads": {"enabled": False},
                "extraRules": [
                    {"apiGroups": ["argoproj.io"], "apiVersions": ["v1"], "resources": ["workflows"]}
                ],
            },
            id="custom-resources-without-workloads",
        ),
    ],
)
@pytest.mark.parametrize("exceptions", [False, True], ids=["no-exceptions", "exceptions"])
def test_with_cert_manager_the_webhooks_are_those_that_the_controller_would_write(
    helm: Helm, settings: dict[str, Any], *, exceptions: bool
) -> None:
    values = {
        "policy": {"existingConfigMap": "mine"},
        "certManager": {"enabled": True, "armed": True},
        "webhooks": settings,
        "exceptions": {"enabled": exceptions},
    }
    objects = helm.objects("shop", "--namespace=platform", values=values)
    target = Target(namespace="platform", service="gatekeeper-py", policy="mine", exceptions=exceptions)
    parsed = parse_settings(yaml.safe_dump(settings))
    for desired in (validating(target, parsed), mutating(target, parsed)):
        rendered = objects[desired.kind, "", desired.name]
        assert rendered["webhooks"] == [sorted_labels(webhook) for webhook in desired.webhooks]
        injected = rendered["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        assert injected == "platform/gatekeeper-py"


def sorted_labels(webhook: Any) -> dict[str, Any]:
    """Return a webhook with its selector's terms in alphabetical order, as Helm renders a mapping."""
    copied: dict[str, Any] = json.loads(json.dumps(webhook))
    if copied["namespaceSelector"]:
        first, *others = copied["namespaceSelector"]["matchExpressions"]
        copied["namespaceSelector"]["matchExpressions"] = [
            first,
            *sorted(others, key=lambda term: term["key"]),
        ]
    return copied


@pytest.mark.parametrize(
    ("overlay", "components", "values"),
    [
        pytest.param("enforce", ["autoscaling"], {"autoscaling": {"enabled": True}}, id="autoscaling"),
        pytest.param("enforce", ["reports"], {"reports": {"enabled": True}}, id="reports"),
        pytest.param(
            "enforce", ["reports", "report-events"], {"reports": {"enabled": True, "events": True}},
            id="reports-with-events",
        ),
        pytest.param(
            "enforce", ["reports", "report-look-ups"], {"reports": {"enabled": True, "lookUp": True}},
            id="reports-with-look-ups",
        ),
        pytest.param("enforce", ["exceptions"], {"exceptions": {"enabled": True}}, id="exceptions"),
        pytest.param(
            "cert-manager-armed", ["exceptions"],
            {"exceptions": {"enabled": True}, "certManager": {"enabled": True, "armed": True}},
            id="exceptions-with-cert-manager",
        ),
    ],
)  # fmt: skip
def test_a_component_does_what_the_value_does(
    helm: Helm, tmp_path: Path, overlay: str, components: list[str], values: dict[str, Any]
) -> None:
    expected = kustomized(tmp_path, overlay, *components)
    policy = {"document": policy_of(expected), "mode": "enforce"}
    assert comparable(helm.objects(values={"policy": policy, **values})) == comparable(expected)


def test_monitoring_is_the_same_too(helm: Helm) -> None:
    kinds = ("podMonitor", "rules", "dashboard")
    values = {
        "policy": {"existingConfigMap": "mine"},
        "monitoring": {kind: {"enabled": True} for kind in kinds},
    }
    expected = comparable(kustomize(ROOT / "monitoring"))
    assert len(expected) == len(kinds)
    rendered = comparable(helm.objects(values=values))
    for name, each in expected.items():
        each["metadata"].setdefault("labels", {})["app.kubernetes.io/part-of"] = "gatekeeper-py"
        assert rendered[name] == each, name


def test_the_alerts_link_to_the_runbooks_that_the_values_name(helm: Helm) -> None:
    rules = {"enabled": True, "runbooks": "https://wiki.corp.example/runbooks/"}
    values = {"policy": {"existingConfigMap": "mine"}, "monitoring": {"rules": rules}}
    annotations = annotations_of_alerts(helm.objects(values=values))
    assert len(annotations) > 10
    for each in annotations:
        section = each["runbook"].removeprefix("docs/runbooks/")
        assert each["runbook_url"] == f"https://wiki.corp.example/runbooks/{section}"


@pytest.mark.parametrize("rules", [{}, {"runbooks": ""}], ids=["unset", "empty"])
def test_without_the_address_of_the_runbooks_alerts_name_the_file_and_have_no_link(
    helm: Helm, rules: dict[str, str]
) -> None:
    values = {
        "policy": {"existingConfigMap": "mine"},
        "monitoring": {"rules": {"enabled": True, **rules}},
    }
    for each in annotations_of_alerts(helm.objects(values=values)):
        assert set(each) == {"summary", "description", "runbook"}
        assert (ROOT / each["runbook"].partition("#")[0]).is_file()


def annotations_of_alerts(objects: Objects) -> list[dict[str, str]]:
    groups = objects["PrometheusRule", "gatekeeper-py", "gatekeeper-py"]["spec"]["groups"]
    return [rule["annotations"] for group in groups for rule in group["rules"]]


def rendered_alerts(helm: Helm, **values: Any) -> dict[str, dict[str, Any]]:
    """Return the alerts of the chart by name."""
    values = {
        "policy": {"existingConfigMap": "mine"},
        "monitoring": {"rules": {"enabled": True}},
        **values,
    }
    found = helm.objects(values=values)["PrometheusRule", "gatekeeper-py", "gatekeeper-py"]
    return {rule["alert"]: rule for group in found["spec"]["groups"] for rule in group["rules"]}


def test_with_cert_manager_no_alert_fires_because_there_is_no_controller(helm: Helm) -> None:
    usual = rendered_alerts(helm)
    without = rendered_alerts(helm, certManager={"enabled": True})
    absent = {name for name, rule in usual.items() if "absent(gatekeeper_py_control" in rule["expr"]}
    assert absent == {"GatekeeperPyNotEnforced", "GatekeeperPyControllerMissing"}
    assert without == {name: rule for name, rule in usual.items() if name not in absent}


@pytest.mark.parametrize(
    ("values", "soon", "critical"),
    [
        pytest.param({"certificates": {"renewBeforeDays": 15}}, 10 * 86400, 1.5 * 86400, id="controller"),
        pytest.param({"certificates": {"renewBeforeDays": 0.5}}, 28800, 4320, id="half-a-day"),
        pytest.param({"certificates": {"renewBeforeDays": 60}}, 40 * 86400, 3 * 86400, id="early"),
        pytest.param(
            {"certManager": {"enabled": True, "duration": "48h", "renewBefore": "23h30m1800s"}},
            16 * 3600,
            2.4 * 3600,
            id="cert-manager",
        ),
    ],
)
def test_the_alerts_on_certificates_fire_only_after_the_time_of_their_renewal(
    helm: Helm, values: dict[str, Any], soon: float, critical: float
) -> None:
    found = rendered_alerts(helm, **values)
    assert found["GatekeeperPyCertificateExpiresSoon"]["expr"].rstrip().endswith(f"\n< {soon:.0f}")
    assert found["GatekeeperPyCertificateExpires"]["expr"].rstrip().endswith(f"\n< {critical:.0f}")


@pytest.mark.parametrize("renew_before", ["1h", "1h08m", "3h", "12h", "720h"])
def test_the_alerts_on_certificates_leave_time_to_act(helm: Helm, renew_before: str) -> None:
    """At most a quarter of the remaining time passes between the threshold and the alert."""
    certificates = {"enabled": True, "renewBefore": renew_before}
    found = rendered_alerts(helm, certManager=certificates)
    for name in ("GatekeeperPyCertificateExpiresSoon", "GatekeeperPyCertificateExpires"):
        threshold = math.prod(int(each) for each in found[name]["expr"].rpartition("<")[2].split("*"))
        amount, unit = re.fullmatch(r"(\d+)([sm])", found[name]["for"]).groups()  # type: ignore[union-attr]
        waits = int(amount) * {"s": 1, "m": 60}[unit]
        assert threshold > 60
        assert 0 < waits <= min(threshold / 4, 900)


def test_with_cert_manager_the_webhooks_are_registered_only_when_armed(helm: Helm) -> None:
    values = {"policy": {"existingConfigMap": "mine"}, "certManager": {"enabled": True}}
    waiting = helm.objects(values=values)
    armed = helm.objects(values={**values, "certManager": {"enabled": True, "armed": True}})
    missing = {key for key in armed if key not in waiting}
    assert {kind for kind, _, _ in missing} == {
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    }
    assert all(armed[key] == value for key, value in waiting.items())


def wave(each: dict[str, Any]) -> int:
    """Return the wave in which Argo CD applies an object, once the objects of lower waves are healthy."""
    return int((each["metadata"].get("annotations") or {}).get("argocd.argoproj.io/sync-wave", 0))


@pytest.mark.parametrize("overlay", sorted(path.name for path in OVERLAYS.iterdir()))
def test_no_overlay_registers_a_webhook_before_a_server_is_ready(overlay: str) -> None:
    """The controller registers the webhooks. Without a controller, an administrator does so later."""
    objects = kustomize(OVERLAYS / overlay).values()
    assert not [each for each in objects if each["kind"].endswith("WebhookConfiguration")]
    assert {wave(each) for each in objects} == {0}


def test_argo_cd_registers_the_webhooks_of_a_release_and_of_an_overlay_last(helm: Helm) -> None:
    values = {"policy": {"existingConfigMap": "mine"}, "certManager": {"enabled": True, "armed": True}}
    for objects in (helm.objects(values=values), kustomize(INSTALLED / "cert-manager-armed")):
        assert {key: wave(each) for key, each in objects.items() if wave(each)} == {
            ("ValidatingWebhookConfiguration", "", "image-validation-webhook"): 1,
            ("MutatingWebhookConfiguration", "", "image-mutation-webhook"): 1,
        }


def test_the_folder_of_overlays_is_covered() -> None:
    assert {path.name for path in OVERLAYS.iterdir()} == {
        "enforce",
        "warn",
        "mutate",
        "fast-path",
        "cert-manager",
    }
