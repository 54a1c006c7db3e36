"""``webhooks.yaml`` is read strictly; every problem is reported with its path and line."""

from __future__ import annotations

import json

import pytest

from gatekeeper_py.controller.webhooks.settings import (
    Calls,
    ExtraRule,
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
    settings_schema,
)
from support.findings import check_findings
from support.golden import golden

FULL = """
exemptNamespaces: [calico-system, kube-system]
exemptNamespaceLabels:
  example.com/tier: platform
  team: ""
pods: {failurePolicy: Ignore, timeoutSeconds: 1}
workloads: {failurePolicy: Fail, timeoutSeconds: 30, enabled: false}
mutation: {failurePolicy: Fail, timeoutSeconds: 3}
policyGuard: {enabled: false}
extraRules:
  - apiGroups: [argoproj.io]
    apiVersions: ["*"]
    resources: [workflows, workflows/status]
"""


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "policyGuard: {}"])
def test_an_empty_document_means_the_defaults(text: str) -> None:
    assert parse_settings(text) == WebhookSettings()


def test_every_field_is_read() -> None:
    assert parse_settings(FULL) == WebhookSettings(
        exempt_namespaces=("calico-system", "kube-system"),
        exempt_namespace_labels=(("example.com/tier", "platform"), ("team", "")),
        pods=Calls(failure_policy="Ignore", timeout_seconds=1),
        workloads=Calls(failure_policy="Fail", timeout_seconds=30, enabled=False),
        mutation=Calls(failure_policy="Fail", timeout_seconds=3),
        policy_guard=False,
        extra_rules=(
            ExtraRule(
                api_groups=("argoproj.io",), api_versions=("*",), resources=("workflows", "workflows/status")
            ),
        ),
    )


def test_a_field_that_is_left_out_keeps_its_default() -> None:
    assert parse_settings("workloads: {timeoutSeconds: 2}").workloads == Calls(
        failure_policy="Ignore", timeout_seconds=2
    )


@pytest.mark.parametrize("name", golden("findings/settings"))
def test_the_problems_of_settings_are_as_recorded(name: str, update_golden: bool) -> None:  # noqa: FBT001
    with pytest.raises(InvalidWebhookSettings) as caught:
        parse_settings(golden("findings/settings")[name]["text"])
    check_findings("settings", name, caught.value.findings, update=update_golden)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("exemptNamespaces: [" + "a," * 1001 + "]", "too-many", id="names"),
        pytest.param("# " + "x" * 1024 * 1024, "too-long", id="text"),
    ],
)
def test_the_size_of_settings_has_a_limit(text: str, code: str) -> None:
    with pytest.raises(InvalidWebhookSettings) as caught:
        parse_settings(text)
    assert [finding.code for finding in caught.value.findings] == [code]


def test_all_problems_are_reported_at_once_up_to_a_limit() -> None:
    text = "exemptNamespaces:\n" + "  - '*'\n" * 500
    with pytest.raises(InvalidWebhookSettings) as caught:
        parse_settings(text)
    findings = caught.value.findings
    assert len(findings) == 101
    assert [finding.line for finding in findings[:2]] == [2, 3]
    assert "400 more findings" in findings[-1].message


def test_the_json_schema_names_every_field() -> None:
    schema = json.loads(json.dumps(settings_schema()))
    assert set(schema["properties"]) == {
        "exemptNamespaces",
        "exemptNamespaceLabels",
        "pods",
        "workloads",
        "mutation",
        "policyGuard",
        "extraRules",
    }
    assert schema["additionalProperties"] is False
    assert schema["properties"]["pods"]["properties"]["failurePolicy"] == {"enum": ["Fail", "Ignore"]}
    assert schema["properties"]["extraRules"]["items"]["required"] == [
        "apiGroups",
        "apiVersions",
        "resources",
    ]
