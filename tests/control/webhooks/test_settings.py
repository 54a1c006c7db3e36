"""``webhooks.yaml`` is read strictly; every problem is reported with its path and line."""

from __future__ import annotations

import json

import pytest

from gatekeeper_py.control.webhooks.settings import (
    Calls,
    ExtraRule,
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
    settings_schema,
)

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


PROBLEMS = {
    "a-list": ("- a", "1  wrong-type", "must be a mapping, not a list"),
    "not-yaml": ("a: ]", "1  yaml-syntax", "a value is missing"),
    "second-document": ("a: 1\n---\n", "2  second-document", "one document in the file"),
    "typo": ("exemptNamespace: []", "1 exemptNamespace unknown-field", "exemptNamespaces?"),
    "unknown-field": ("\ncolour: red", "2 colour unknown-field", "known here"),
    "pods-off": ("pods: {enabled: false}", "1 pods.enabled unknown-field", "'enabled'"),
    "null-mapping": ("pods:", "1 pods wrong-type", "leave the field out"),
    "null-list": ("exemptNamespaces:", "1 exemptNamespaces wrong-type", "nothing below"),
    "text-for-list": ("exemptNamespaces: all", "1 exemptNamespaces wrong-type", "a list, not text"),
    "wildcard": ("exemptNamespaces: [a, '*']", "1 exemptNamespaces[1] bad-value", "wildcards"),
    "glob": ("exemptNamespaces: [calico-*]", "1 exemptNamespaces[0] bad-value", "wildcards"),
    "upper-case": ("exemptNamespaces: [Shop]", "1 exemptNamespaces[0] bad-value", "not a valid"),
    "long": ("exemptNamespaces: [" + "a" * 64 + "]", "1 exemptNamespaces[0] too-long", "at most 63"),
    "number": ("exemptNamespaces: [7]", "1 exemptNamespaces[0] wrong-type", "quote it"),
    "empty": ("exemptNamespaces: ['']", "1 exemptNamespaces[0] bad-value", "not a valid"),
    "too-many": ("exemptNamespaces: [" + "a," * 1001 + "]", "1 exemptNamespaces too-many", "at most 1,000"),
    "label-of-the-name": (
        "exemptNamespaceLabels: {kubernetes.io/metadata.name: shop}",
        "1 exemptNamespaceLabels.kubernetes.io/metadata.name bad-value",
        "use exemptNamespaces",
    ),
    "any": ("exemptNamespaceLabels:\n  team: '*'", "2 exemptNamespaceLabels.team bad-value", "exact"),
    "bool": ("exemptNamespaceLabels: {team: true}", "1 exemptNamespaceLabels.team wrong-type", "quote"),
    "key": ("exemptNamespaceLabels: {a b: c}", "1 exemptNamespaceLabels.a b bad-value", "not a valid"),
    "case": ("pods: {failurePolicy: fail}", "1 pods.failurePolicy bad-value", "did you mean Fail?"),
    "type": ("pods: {failurePolicy: 1}", "1 pods.failurePolicy bad-value", "Fail or Ignore"),
    "zero": ("pods: {timeoutSeconds: 0}", "1 pods.timeoutSeconds bad-value", "from 1 to 30"),
    "over-30": ("pods: {timeoutSeconds: 31}", "1 pods.timeoutSeconds bad-value", "from 1"),
    "duration": ("pods: {timeoutSeconds: 5s}", "1 pods.timeoutSeconds wrong-type", "whole"),
    "true": ("pods: {timeoutSeconds: true}", "1 pods.timeoutSeconds wrong-type", "whole"),
    "no": ("policyGuard: {enabled: 'no'}", "1 policyGuard.enabled wrong-type", "true or"),
    "twice": (
        "pods: {failurePolicy: Fail, failurePolicy: Ignore}",
        "1 pods.failurePolicy duplicate-key",
        "twice",
    ),
    "anchor": ("pods: &a {}", "1 pods yaml-anchor", "anchor"),
    "gap": ("extraRules: [{apiGroups: [a.io]}]", "1 extraRules[0].apiVersions missing-field", "required"),
    "no-group": (
        "extraRules: [{apiGroups: [], apiVersions: [v1], resources: [a]}]",
        "1 extraRules[0].apiGroups empty-list",
        "at least one",
    ),
    "version": (
        "extraRules: [{apiGroups: [a.io], apiVersions: [one], resources: [a]}]",
        "1 extraRules[0].apiVersions[0] bad-value",
        "not a valid version",
    ),
    "too-long": ("# " + "x" * 1024 * 1024, "1  too-long", "1 MiB"),
}
"""By the name of a mistake: a text with it; line, path and code of the finding; words of its message."""

GROUPS = {
    "*": "wildcards",
    "*.io": "wildcards",
    "": "of Kubernetes",
    "apps": "of Kubernetes",
    "coordination.k8s.io": "of Kubernetes",
    "Argo.io": "not a valid",
}
RESOURCES = {"*": "wildcards", "*/*": "wildcards", "a/*": "wildcards", "Workflows": "not a valid"}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_reported_with_its_place(name: str) -> None:
    check(*PROBLEMS[name])


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_cannot_be_extra_is_reported(group: str) -> None:
    text = f"extraRules: [{{apiGroups: ['{group}'], apiVersions: [v1], resources: [a]}}]"
    check(text, "1 extraRules[0].apiGroups[0] bad-value", GROUPS[group])


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_that_cannot_be_extra_is_reported(resource: str) -> None:
    text = f"extraRules: [{{apiGroups: [a.io], apiVersions: [v1], resources: ['{resource}']}}]"
    check(text, "1 extraRules[0].resources[0] bad-value", RESOURCES[resource])


def check(text: str, place: str, words: str) -> None:
    """Check that a text is refused with a finding at a place, given as its line, path and code."""
    with pytest.raises(InvalidWebhookSettings) as caught:
        parse_settings(text)
    places = [
        f"{each.line} {each.path} {each.code}"
        for each in caught.value.findings
        if words in f"{each.message} {each.proposal}"
    ]
    assert places[:1] == [place], caught.value.findings


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
