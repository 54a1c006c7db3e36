"""The kustomize components add the right objects, and their identity has the rights of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from chart.rendering import Objects, kustomized
from gatekeeper_py.cli.commands.audit import audit
from gatekeeper_py.cli.inventory.resources import BUILT_IN
from gatekeeper_py.cli.main import cli
from gatekeeper_py.cli.reporting.policyreports.apis import APIS
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP

NAME = "gatekeeper-py-reports"
EXCEPTIONS = "gatekeeper-py-exceptions"


@pytest.fixture
def rendered(tmp_path: Path) -> Objects:
    """Return the objects of the overlay ``enforce`` with both components for reports."""
    return kustomized(tmp_path, "enforce", "reports", "report-events")


def test_with_autoscaling_the_deployment_of_the_server_has_no_number_of_replicas(tmp_path: Path) -> None:
    found = kustomized(tmp_path, "enforce", "autoscaling")
    assert "replicas" not in found["Deployment", "gatekeeper-py", "gatekeeper-py"]["spec"]
    assert found["Deployment", "gatekeeper-py", "gatekeeper-py-controller"]["spec"]["replicas"] == 1


def test_servers_and_controller_may_follow_exceptions_by_name_and_only_the_latter_create_events(
    tmp_path: Path,
) -> None:
    without = kustomized(tmp_path, "enforce")
    rendered = kustomized(tmp_path, "enforce", "exceptions")
    role, binding = (rendered[kind, "", EXCEPTIONS] for kind in ("ClusterRole", "ClusterRoleBinding"))
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [EXCEPTIONS_CONFIGMAP, BREAK_GLASS_CONFIGMAP],
            "verbs": ["list", "watch"],
        }
    ]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "gatekeeper-py", "namespace": "gatekeeper-py"}
    ]
    changed = {key for key, each in rendered.items() if without.get(key) != each}
    own = ("ClusterRole", "", "gatekeeper-py-controller")
    assert [each for each in rendered[own]["rules"] if each not in without[own]["rules"]] == [
        *role["rules"],
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]
    assert changed == {
        own,
        ("ClusterRole", "", EXCEPTIONS),
        ("ClusterRoleBinding", "", EXCEPTIONS),
        ("Deployment", "gatekeeper-py", "gatekeeper-py-controller"),
    }


def allowed(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_identity_may_list_what_is_audited_write_reports_and_nothing_else(rendered: Objects) -> None:
    verbs = allowed(rendered["ClusterRole", "", NAME])
    expected = {(each.group, each.plural): {"list"} for each in BUILT_IN}
    for api in APIS:
        for plural in (api.plural, f"cluster{api.plural}"):
            expected[api.group, plural] = {"list", "create", "update", "delete"}
    expected["", "events"] = {"create"}
    expected["", "namespaces"] = {"list"}
    assert verbs == expected
    role = rendered["Role", "gatekeeper-py", NAME]
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["gatekeeper-py-policy", "gatekeeper-py-webhooks"],
            "verbs": ["get"],
        }
    ]


def test_the_identity_may_list_exceptions_only_with_their_component(
    rendered: Objects, tmp_path: Path
) -> None:
    more = kustomized(tmp_path, "enforce", "reports", "report-events", "exceptions")
    without, rules = (each["ClusterRole", "", NAME]["rules"] for each in (rendered, more))
    assert [rule for rule in rules if rule not in without] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [EXCEPTIONS_CONFIGMAP, BREAK_GLASS_CONFIGMAP],
            "verbs": ["list"],
        }
    ]


def test_the_command_accepts_the_arguments_and_the_pod_is_restricted(rendered: Objects) -> None:
    deployment = rendered["Deployment", "gatekeeper-py", NAME]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    name, *arguments = container["args"]
    # The context has the same parent as on the command line, which sets the names of the help option.
    parent = click.Context(cli, **cli.context_settings)
    parsed = audit.make_context(name, arguments, parent=parent).params
    assert (parsed["every"], parsed["report"], parsed["events"]) == (600.0, "auto", True)
    assert str(parsed["configmap"]) == "gatekeeper-py/gatekeeper-py-policy"
    assert container["ports"] == [{"name": "health", "containerPort": parsed["health_listen"].port}]
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "health"}
    # The audit reads the exemptions from the settings of the webhooks.
    assert not any(argument.startswith("--exempt-namespace") for argument in arguments)
    assert pod["serviceAccountName"] == NAME
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    server = rendered["Deployment", "gatekeeper-py", "gatekeeper-py"]["spec"]["template"]["spec"]
    assert container["image"] == server["containers"][0]["image"]


def test_with_look_ups_the_audit_gets_the_credentials_and_the_network_access_of_the_server(
    tmp_path: Path,
) -> None:
    rendered = kustomized(tmp_path, "enforce", "reports", "report-look-ups")
    audit_pod, server = (
        rendered["Deployment", "gatekeeper-py", name]["spec"]["template"] for name in (NAME, "gatekeeper-py")
    )
    arguments = audit_pod["spec"]["containers"][0]["args"]
    assert {"--look-up", "--registry-config=/registries"} <= set(arguments)
    for found in (audit_pod["spec"], server["spec"]):
        assert found["securityContext"]["fsGroup"] == 65532
    own = [each for each in server["spec"]["volumes"] if each["name"] == "registries"]
    assert audit_pod["spec"]["volumes"] == own
    mounts = server["spec"]["containers"][0]["volumeMounts"]
    own = [each for each in mounts if each["name"] == "registries"]
    assert audit_pod["spec"]["containers"][0]["volumeMounts"] == own
    selected = rendered["NetworkPolicy", "gatekeeper-py", "gatekeeper-py"]["spec"]["podSelector"][
        "matchLabels"
    ]
    assert all(selected.items() <= pod["metadata"]["labels"].items() for pod in (audit_pod, server))
