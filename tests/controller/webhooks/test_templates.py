"""The configurations follow from the settings, and call only the Service and the paths of the webhook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.world import INSTALLATION
from gatekeeper_py.controller.webhooks.settings import Calls, ExtraRule, WebhookSettings
from gatekeeper_py.controller.webhooks.templates import (
    EXCEPTIONS_GUARD,
    EXTRA_VALIDATION,
    POD_MUTATION,
    POD_VALIDATION,
    POLICY_GUARD,
    WORKLOAD_VALIDATION,
    exemptions,
    mutating,
    validating,
)

TARGET = INSTALLATION.target
EXTRA = ExtraRule(api_groups=("argoproj.io",), api_versions=("*",), resources=("workflows",))
MANY = WebhookSettings(
    exempt_namespaces=("calico-system", "kube-system"),
    exempt_namespace_labels=(("team", "platform"),),
    pods=Calls(failure_policy="Ignore", timeout_seconds=1),
    workloads=Calls(failure_policy="Fail", timeout_seconds=2),
    mutation=Calls(failure_policy="Fail", timeout_seconds=3),
    extra_rules=(EXTRA,),
)


def webhooks(settings: WebhookSettings) -> dict[str, dict[str, Any]]:
    """Return all webhooks by name."""
    found = (*validating(TARGET, settings).webhooks, *mutating(TARGET, settings).webhooks)
    return {webhook["name"]: dict(webhook) for webhook in found}


def test_the_defaults() -> None:
    found = webhooks(WebhookSettings())
    assert {name: (each["failurePolicy"], each["timeoutSeconds"]) for name, each in found.items()} == {
        POD_VALIDATION: ("Fail", 5),
        WORKLOAD_VALIDATION: ("Ignore", 5),
        POLICY_GUARD: ("Ignore", 5),
        POD_MUTATION: ("Ignore", 2),
    }


def test_failure_policies_and_timeouts_follow_the_settings() -> None:
    found = webhooks(MANY)
    assert {name: (each["failurePolicy"], each["timeoutSeconds"]) for name, each in found.items()} == {
        POD_VALIDATION: ("Ignore", 1),
        WORKLOAD_VALIDATION: ("Fail", 2),
        EXTRA_VALIDATION: ("Fail", 2),
        POLICY_GUARD: ("Ignore", 5),
        POD_MUTATION: ("Fail", 3),
    }


def test_webhooks_can_be_left_out() -> None:
    off = replace(MANY, workloads=replace(MANY.workloads, enabled=False), policy_guard=False)
    assert set(webhooks(off)) == {POD_VALIDATION, EXTRA_VALIDATION, POD_MUTATION}


def test_exempt_namespaces_are_in_every_selector_but_the_guards() -> None:
    found = webhooks(MANY)
    guard = found.pop(POLICY_GUARD)
    for webhook in found.values():
        assert webhook["namespaceSelector"] == {
            "matchExpressions": [
                {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": ["ns", "kube-system", "calico-system"],
                },
                {"key": "team", "operator": "NotIn", "values": ["platform"]},
            ]
        }
    assert guard["namespaceSelector"] == {
        "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["ns"]}]
    }


def test_the_exemptions_of_a_live_configuration_are_read_back() -> None:
    settings = WebhookSettings(
        exempt_namespaces=("calico-system",), exempt_namespace_labels=(("team", "platform"), ("tier", "0"))
    )
    document: dict[str, Any] = {"webhooks": list(validating(TARGET, settings).webhooks)}
    assert exemptions(document) == (("ns", "kube-system", "calico-system"), ("team=platform", "tier=0"))
    terms = document["webhooks"][0]["namespaceSelector"]["matchExpressions"]
    terms += [{"key": "control-plane", "operator": "DoesNotExist"}, {"key": "x", "operator": "Exists"}]
    assert exemptions(document) == (
        ("ns", "kube-system", "calico-system"),
        ("team=platform", "tier=0", "control-plane"),
    )
    assert exemptions({"webhooks": [{"name": "foreign"}]}) is None
    assert exemptions({}) is None


def test_extra_rules_are_a_webhook_of_their_own_that_is_called_for_every_change() -> None:
    webhook = webhooks(MANY)[EXTRA_VALIDATION]
    assert webhook["rules"] == [
        {
            "apiGroups": ["argoproj.io"],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["workflows"],
            "scope": "*",
        }
    ]
    assert webhook["matchConditions"] == []


@pytest.mark.parametrize("settings", [WebhookSettings(), MANY], ids=["defaults", "many"])
def test_only_our_own_service_and_paths_are_called(settings: WebhookSettings) -> None:
    paths = set()
    for webhook in webhooks(settings).values():
        service = webhook["clientConfig"]["service"]
        assert webhook["clientConfig"].keys() == {"service"}
        assert (service["namespace"], service["name"], service["port"]) == ("ns", "gk", 443)
        paths.add(service["path"])
    assert paths == {"/validate-image", "/mutate-image", "/validate-policy"}


def test_the_guard_of_exceptions_is_called_for_their_names_in_every_namespace() -> None:
    target = replace(TARGET, exceptions=True)
    *others, guard = validating(target, WebhookSettings()).webhooks
    assert others == list(validating(TARGET, WebhookSettings()).webhooks)
    assert guard["name"] == EXCEPTIONS_GUARD
    assert guard["clientConfig"]["service"]["path"] == "/validate-policy"
    assert (guard["failurePolicy"], guard["namespaceSelector"]) == ("Ignore", {})
    [condition] = guard["matchConditions"]
    assert condition["expression"] == (
        "request.name == 'gatekeeper-py-exceptions' || "
        "(request.name == 'gatekeeper-py-break-glass' && request.namespace == 'ns')"
    )
    assert validating(target, WebhookSettings(policy_guard=False)) == validating(
        TARGET, WebhookSettings(policy_guard=False)
    )


def test_the_guard_is_called_for_the_policy_only() -> None:
    [condition] = webhooks(WebhookSettings())[POLICY_GUARD]["matchConditions"]
    assert condition["expression"] == "request.name == 'policy'"
