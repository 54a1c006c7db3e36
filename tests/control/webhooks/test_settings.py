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


@pytest.mark.parametrize(
    ("text", "line", "path", "code", "words"),
    [
        pytest.param("- a", 1, "", "wrong-type", "must be a mapping, not a list", id="a-list"),
        pytest.param("a: ]", 1, "", "yaml-syntax", "a value is missing", id="not-yaml"),
        pytest.param(
            "a: 1\n---\n", 2, "", "second-document", "one document in the file", id="second-document"
        ),
        pytest.param(
            "exemptNamespace: []", 1, "exemptNamespace", "unknown-field", "exemptNamespaces?", id="typo"
        ),
        pytest.param("\ncolour: red", 2, "colour", "unknown-field", "known here", id="unknown-field"),
        pytest.param(
            "pods: {enabled: false}", 1, "pods.enabled", "unknown-field", "'enabled'", id="pods-off"
        ),
        pytest.param("pods:", 1, "pods", "wrong-type", "leave the field out", id="null-mapping"),
        pytest.param(
            "exemptNamespaces:", 1, "exemptNamespaces", "wrong-type", "nothing below", id="null-list"
        ),
        pytest.param(
            "exemptNamespaces: all",
            1,
            "exemptNamespaces",
            "wrong-type",
            "a list, not text",
            id="text-for-list",
        ),
        pytest.param(
            "exemptNamespaces: [a, '*']", 1, "exemptNamespaces[1]", "bad-value", "wildcards", id="wildcard"
        ),
        pytest.param(
            "exemptNamespaces: [calico-*]", 1, "exemptNamespaces[0]", "bad-value", "wildcards", id="glob"
        ),
        pytest.param(
            "exemptNamespaces: [Shop]", 1, "exemptNamespaces[0]", "bad-value", "not a valid", id="upper-case"
        ),
        pytest.param(
            "exemptNamespaces: [" + "a" * 64 + "]",
            1,
            "exemptNamespaces[0]",
            "too-long",
            "at most 63",
            id="long",
        ),
        pytest.param(
            "exemptNamespaces: [7]", 1, "exemptNamespaces[0]", "wrong-type", "quote it", id="number"
        ),
        pytest.param(
            "exemptNamespaces: ['']", 1, "exemptNamespaces[0]", "bad-value", "not a valid", id="empty"
        ),
        pytest.param(
            "exemptNamespaces: [" + "a," * 1001 + "]",
            1,
            "exemptNamespaces",
            "too-many",
            "at most 1,000",
            id="too-many",
        ),
        pytest.param(
            "exemptNamespaceLabels: {kubernetes.io/metadata.name: shop}",
            1,
            "exemptNamespaceLabels.kubernetes.io/metadata.name",
            "bad-value",
            "use exemptNamespaces",
            id="label-of-the-name",
        ),
        pytest.param(
            "exemptNamespaceLabels:\n  team: '*'",
            2,
            "exemptNamespaceLabels.team",
            "bad-value",
            "exact",
            id="any",
        ),
        pytest.param(
            "exemptNamespaceLabels: {team: true}",
            1,
            "exemptNamespaceLabels.team",
            "wrong-type",
            "quote",
            id="bool",
        ),
        pytest.param(
            "exemptNamespaceLabels: {a b: c}",
            1,
            "exemptNamespaceLabels.a b",
            "bad-value",
            "not a valid",
            id="key",
        ),
        pytest.param(
            "pods: {failurePolicy: fail}",
            1,
            "pods.failurePolicy",
            "bad-value",
            "did you mean Fail?",
            id="case",
        ),
        pytest.param(
            "pods: {failurePolicy: 1}", 1, "pods.failurePolicy", "bad-value", "Fail or Ignore", id="type"
        ),
        pytest.param(
            "pods: {timeoutSeconds: 0}", 1, "pods.timeoutSeconds", "bad-value", "from 1 to 30", id="zero"
        ),
        pytest.param(
            "pods: {timeoutSeconds: 31}", 1, "pods.timeoutSeconds", "bad-value", "from 1", id="over-30"
        ),
        pytest.param(
            "pods: {timeoutSeconds: 5s}", 1, "pods.timeoutSeconds", "wrong-type", "whole", id="duration"
        ),
        pytest.param(
            "pods: {timeoutSeconds: true}", 1, "pods.timeoutSeconds", "wrong-type", "whole", id="true"
        ),
        pytest.param(
            "policyGuard: {enabled: 'no'}", 1, "policyGuard.enabled", "wrong-type", "true or", id="no"
        ),
        pytest.param(
            "pods: {failurePolicy: Fail, failurePolicy: Ignore}", 1, "pods", "", "twice", id="twice"
        ),
        pytest.param("pods: &a {}", 1, "pods", "", "anchor", id="anchor"),
        pytest.param(
            "extraRules: [{apiGroups: [a.io]}]",
            1,
            "extraRules[0].apiVersions",
            "missing-field",
            "required",
            id="gap",
        ),
        *(
            pytest.param(
                f"extraRules: [{{apiGroups: ['{group}'], apiVersions: [v1], resources: [a]}}]",
                1,
                "extraRules[0].apiGroups[0]",
                "bad-value",
                words,
                id=f"group-{group or 'core'}",
            )
            for group, words in (
                ("*", "wildcards"),
                ("*.io", "wildcards"),
                ("", "of Kubernetes"),
                ("apps", "of Kubernetes"),
                ("coordination.k8s.io", "of Kubernetes"),
                ("Argo.io", "not a valid"),
            )
        ),
        *(
            pytest.param(
                f"extraRules: [{{apiGroups: [a.io], apiVersions: [v1], resources: ['{resource}']}}]",
                1,
                "extraRules[0].resources[0]",
                "bad-value",
                words,
                id=f"resource-{resource}",
            )
            for resource, words in (
                ("*", "wildcards"),
                ("*/*", "wildcards"),
                ("a/*", "wildcards"),
                ("Workflows", "not a valid"),
            )
        ),
        pytest.param(
            "extraRules: [{apiGroups: [], apiVersions: [v1], resources: [a]}]",
            1,
            "extraRules[0].apiGroups",
            "empty-list",
            "at least one",
            id="no-group",
        ),
        pytest.param(
            "extraRules: [{apiGroups: [a.io], apiVersions: [one], resources: [a]}]",
            1,
            "extraRules[0].apiVersions[0]",
            "bad-value",
            "not a valid version",
            id="version",
        ),
        pytest.param("# " + "x" * 1024 * 1024, 1, "", "too-long", "1 MiB", id="too-long"),
    ],
)
def test_a_problem_is_reported_with_its_place(text: str, line: int, path: str, code: str, words: str) -> None:
    with pytest.raises(InvalidWebhookSettings) as caught:
        parse_settings(text)
    found = [each for each in caught.value.findings if words in f"{each.message} {each.proposal}"]
    assert found, caught.value.findings
    assert found[0].line == line
    assert found[0].path.startswith(path)
    assert found[0].code == code or not code


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
