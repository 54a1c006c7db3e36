"""``webhooks.yaml``: the settings of the webhook configurations that an operator can change."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gatekeeper_py.control.webhooks.fields import Boolean, Choice, Field, Integer, Items, Pairs, Record, Text
from gatekeeper_py.core.names import NAMESPACE_LABEL
from gatekeeper_py.core.policy.finding import Finding, Remarks
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.core.policy.parse.events import Reader, Unreadable
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.parse.text import check_text

FailurePolicy = Literal["Fail", "Ignore"]

MAX_NAMESPACES: Final = 1000
MAX_LABELS: Final = 100
MAX_RULES: Final = 100
MAX_RULE_ENTRIES: Final = 100

MAX_TIMEOUT_SECONDS: Final = 30
"""The API server accepts 1 to 30."""

SETTINGS_KEY: Final = "webhooks.yaml"
"""The ConfigMap's key, and so the name of the mounted file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How API servers call a webhook."""

    failure_policy: FailurePolicy
    timeout_seconds: int
    enabled: bool = True


PODS: Final = Calls(failure_policy="Fail", timeout_seconds=5)
"""During an outage of the webhook, API servers refuse Pods, so that no unapproved image runs."""

WORKLOADS: Final = Calls(failure_policy="Ignore", timeout_seconds=5)
"""During an outage, API servers admit workloads, because the Pods of a workload are validated anyway."""

MUTATION: Final = Calls(failure_policy="Ignore", timeout_seconds=2)
"""During an outage, images stay as written, and the validating webhook decides about them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraRule:
    """Custom resources that the webhook also validates."""

    api_groups: tuple[str, ...]
    api_versions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """All settings, with their defaults.

    ``exempt_namespace_labels`` are pairs of label and value: a namespace that has one of them is exempt.
    The installation's own namespace and ``kube-system`` are always exempt.
    """

    exempt_namespaces: tuple[str, ...] = ()
    exempt_namespace_labels: tuple[tuple[str, str], ...] = ()
    pods: Calls = PODS
    workloads: Calls = WORKLOADS
    mutation: Calls = MUTATION
    policy_guard: bool = True
    extra_rules: tuple[ExtraRule, ...] = ()


class InvalidWebhookSettings(ValueError):
    """The text is not acceptable; ``findings`` lists every problem with path and line."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = findings


def parse_settings(text: str) -> WebhookSettings:
    """Parse ``webhooks.yaml``; an empty document means the defaults.

    Raises ``InvalidWebhookSettings``.
    """
    remarks = Remarks()
    settings: WebhookSettings | None = None
    if check_text(text, MAX_CONFIGMAP_BYTES, remarks):
        try:
            settings = _read(Reader(text, remarks), remarks)
        except Unreadable as end:
            # Report only this problem, because the rest of the document was not read.
            remarks = Remarks()
            remarks.add(end.remark)
    if settings is None or remarks:
        raise InvalidWebhookSettings(tuple(map(_worded, as_findings(text, remarks))))
    return settings


def _read(reader: Reader, remarks: Remarks) -> WebhookSettings | None:
    root = reader.root()
    settings: WebhookSettings | None = WebhookSettings()
    if root is not None and (root.kind != "scalar" or root.value is not None):
        settings = _DOCUMENT.read(reader, root, remarks)
    reader.finish()
    return settings


def _worded(finding: Finding) -> Finding:
    """Return the finding with a proposal for settings: the YAML reader words one proposal for policies."""
    if finding.code != "second-document":
        return finding
    return replace(finding, proposal="keep one document in the file")


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``webhooks.yaml``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gatekeeper-py webhooks.yaml",
        **_DOCUMENT.schema(),
    }


_NAME = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_NAME}(?:\.{_NAME})*"
_LABEL = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

_NAMESPACE_RE: Final = re.compile(_NAME)
_LABEL_KEY_RE: Final = re.compile(rf"(?:{_DOMAIN}/)?{_LABEL}")
_LABEL_VALUE_RE: Final = re.compile(rf"(?:{_LABEL})?")
_GROUP_RE: Final = re.compile(rf"{_NAME}(?:\.{_NAME})+")
_VERSION_RE: Final = re.compile(r"\*|v[1-9][0-9]{0,3}(?:(?:alpha|beta)[1-9][0-9]{0,3})?")
_RESOURCE_RE: Final = re.compile(rf"{_NAME}(?:/{_NAME})?")


def _namespace_problem(text: str) -> tuple[str, str]:
    if _NAMESPACE_RE.fullmatch(text):
        return "", ""
    if "*" in text:
        return "wildcards are not allowed here", "name each namespace, or use exemptNamespaceLabels"
    return "not a valid namespace name", "lower-case letters, digits and -, at most 63 characters"


def _label_problem(text: str) -> tuple[str, str]:
    if text == NAMESPACE_LABEL:
        return "this label holds the namespace's name", "use exemptNamespaces"
    return (
        ("", "")
        if _LABEL_KEY_RE.fullmatch(text)
        else ("not a valid label", "for example team or example.com/team")
    )


def _value_problem(text: str) -> tuple[str, str]:
    if _LABEL_VALUE_RE.fullmatch(text):
        return "", ""
    if "*" in text:
        return "wildcards are not allowed here", "write the label's exact value"
    return "not a valid label value", "letters, digits, -, _ and ., at most 63 characters"


def _group_problem(text: str) -> tuple[str, str]:
    if "*" in text:
        return "wildcards are not allowed here", "name each API group"
    if text.endswith(".k8s.io") or "." not in text:
        return "extra rules are for custom resources, not for the API groups of Kubernetes", ""
    return ("", "") if _GROUP_RE.fullmatch(text) else ("not a valid API group", "for example argoproj.io")


def _version_problem(text: str) -> tuple[str, str]:
    return (
        ("", "")
        if _VERSION_RE.fullmatch(text)
        else ("not a valid version", 'for example v1, v1alpha1 or "*"')
    )


def _resource_problem(text: str) -> tuple[str, str]:
    if _RESOURCE_RE.fullmatch(text):
        return "", ""
    if "*" in text:
        return "wildcards are not allowed here", "name each resource"
    return "not a valid resource", "the plural in lower case, for example workflows or workflows/status"


_FAILURE_POLICY: Final = Choice(("Fail", "Ignore"))
_TIMEOUT: Final = Integer(1, MAX_TIMEOUT_SECONDS)


def _calls(defaults: Calls, *, can_be_disabled: bool = False) -> Record:
    def build(
        failure_policy: FailurePolicy = defaults.failure_policy,
        timeout_seconds: int = defaults.timeout_seconds,
        enabled: bool = defaults.enabled,  # noqa: FBT001 - called with names
    ) -> Calls:
        return Calls(failure_policy=failure_policy, timeout_seconds=timeout_seconds, enabled=enabled)

    fields: dict[str, tuple[str, Field]] = {
        "failurePolicy": ("failure_policy", _FAILURE_POLICY),
        "timeoutSeconds": ("timeout_seconds", _TIMEOUT),
    }
    if can_be_disabled:
        fields["enabled"] = ("enabled", Boolean())
    return Record(build=build, fields=fields)


def _entries(text: Text, description: str = "") -> Items:
    return Items(item=text, at_most=MAX_RULE_ENTRIES, at_least=1, description=description)


_EXTRA_RULE: Final = Record(
    build=ExtraRule,
    fields={
        "apiGroups": (
            "api_groups",
            _entries(
                Text(pattern=_GROUP_RE.pattern, max_length=253, problem=_group_problem, unless=r".*\.k8s\.io")
            ),
        ),
        "apiVersions": (
            "api_versions",
            _entries(Text(pattern=_VERSION_RE.pattern, max_length=63, problem=_version_problem)),
        ),
        "resources": (
            "resources",
            _entries(Text(pattern=_RESOURCE_RE.pattern, max_length=127, problem=_resource_problem)),
        ),
    },
    required=("apiGroups", "apiVersions", "resources"),
)


def _guard(*, enabled: bool = True) -> bool:
    return enabled


_DOCUMENT: Final = Record(
    build=WebhookSettings,
    fields={
        "exemptNamespaces": (
            "exempt_namespaces",
            Items(
                item=Text(pattern=_NAMESPACE_RE.pattern, max_length=63, problem=_namespace_problem),
                at_most=MAX_NAMESPACES,
                description="Namespaces whose Pods and workloads are not reviewed.",
            ),
        ),
        "exemptNamespaceLabels": (
            "exempt_namespace_labels",
            Pairs(
                name=Text(
                    pattern=_LABEL_KEY_RE.pattern,
                    max_length=317,
                    problem=_label_problem,
                    unless=re.escape(NAMESPACE_LABEL),
                ),
                value=Text(pattern=_LABEL_VALUE_RE.pattern, max_length=63, problem=_value_problem),
                at_most=MAX_LABELS,
                description="Labels; a namespace that has one of them with this value is not reviewed.",
            ),
        ),
        "pods": ("pods", _calls(PODS)),
        "workloads": ("workloads", _calls(WORKLOADS, can_be_disabled=True)),
        "mutation": ("mutation", _calls(MUTATION)),
        "policyGuard": ("policy_guard", Record(build=_guard, fields={"enabled": ("enabled", Boolean())})),
        "extraRules": (
            "extra_rules",
            Items(item=_EXTRA_RULE, at_most=MAX_RULES, description="Custom resources to validate."),
        ),
    },
)

FIELDS: Final = frozenset(_DOCUMENT.fields)
"""The names of the fields at the top of ``webhooks.yaml``."""
