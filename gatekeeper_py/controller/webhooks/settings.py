"""``webhooks.yaml``: the settings of the webhook configurations that an operator can change."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

from gatekeeper_py.core.names import NAMESPACE_LABEL
from gatekeeper_py.core.policy.configmap import configmap_error, unknown_keys
from gatekeeper_py.core.policy.finding import Finding, Remarks
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.core.policy.parse.fields import (
    Boolean,
    Field,
    Integer,
    Invalid,
    Items,
    OneOf,
    Pairs,
    Record,
    Scalar,
    read_document,
)
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.problems import type_name

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
    settings: WebhookSettings | None = read_document(text, _DOCUMENT, MAX_CONFIGMAP_BYTES, remarks)
    if remarks:
        raise InvalidWebhookSettings(as_findings(text, remarks))
    return settings or WebhookSettings()


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``webhooks.yaml``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gatekeeper-py webhooks.yaml",
        **_DOCUMENT.schema(),
    }


_NAME: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN: Final = rf"{_NAME}(?:\.{_NAME})*"
_LABEL: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"


def _text(
    pattern: str,
    max_length: int,
    wrong: tuple[str, str],
    *,
    wildcards: str = "",
    refuse: Callable[[str], tuple[str, str] | None] = lambda _text: None,
    unless: str = "",
) -> Scalar:
    """Return a field for text that a regular expression matches in full, in linear time.

    ``wrong`` is the message and the proposal for text that does not match, and ``wildcards`` is the proposal
    for text with a wildcard. ``refuse`` returns a message and a proposal for text that matches but is still
    not valid. ``unless`` is a regular expression for such text in the JSON Schema.
    """
    whole = re.compile(pattern)

    def parse(text: str) -> str:
        if len(text) > max_length:
            raise Invalid(f"at most {max_length} characters, here {len(text)}", code="too-long")
        refused = ("wildcards are not allowed here", wildcards) if wildcards and "*" in text else refuse(text)
        if refused is None and not whole.fullmatch(text):
            refused = wrong
        if refused is not None:
            raise Invalid(*refused)
        return text

    json = {"type": "string", "pattern": f"^(?:{pattern})$", "maxLength": max_length}
    return Scalar(parse=parse, json={**json, "not": {"pattern": f"^(?:{unless})$"}} if unless else json)


def _refuse_label(text: str) -> tuple[str, str] | None:
    if text == NAMESPACE_LABEL:
        return "this label holds the namespace's name", "use exemptNamespaces"
    return None


def _refuse_group(text: str) -> tuple[str, str] | None:
    if text.endswith(".k8s.io") or "." not in text:
        return "extra rules are for custom resources, not for the API groups of Kubernetes", ""
    return None


_NAMESPACE: Final = _text(
    _NAME,
    63,
    ("not a valid namespace name", "lower-case letters, digits and -, at most 63 characters"),
    wildcards="name each namespace, or use exemptNamespaceLabels",
)
_LABEL_KEY: Final = _text(
    rf"(?:{_DOMAIN}/)?{_LABEL}",
    317,
    ("not a valid label", "for example team or example.com/team"),
    refuse=_refuse_label,
    unless=re.escape(NAMESPACE_LABEL),
)
_LABEL_VALUE: Final = _text(
    rf"(?:{_LABEL})?",
    63,
    ("not a valid label value", "letters, digits, -, _ and ., at most 63 characters"),
    wildcards="write the label's exact value",
)
_GROUP: Final = _text(
    rf"{_NAME}(?:\.{_NAME})+",
    253,
    ("not a valid API group", "for example argoproj.io"),
    wildcards="name each API group",
    refuse=_refuse_group,
    unless=r".*\.k8s\.io",
)
_VERSION: Final = _text(
    r"\*|v[1-9][0-9]{0,3}(?:(?:alpha|beta)[1-9][0-9]{0,3})?",
    63,
    ("not a valid version", 'for example v1, v1alpha1 or "*"'),
)
_RESOURCE: Final = _text(
    rf"{_NAME}(?:/{_NAME})?",
    127,
    ("not a valid resource", "the plural in lower case, for example workflows or workflows/status"),
    wildcards="name each resource",
)


def _calls(defaults: Calls, **more: Field) -> Record:
    fields: dict[str, Field] = {
        "failurePolicy": OneOf(("Fail", "Ignore")),
        "timeoutSeconds": Integer(1, MAX_TIMEOUT_SECONDS),
        **more,
    }
    return Record(partial(replace, defaults), fields)


def _entries(text: Scalar) -> Items:
    return Items(item=text, at_most=MAX_RULE_ENTRIES, at_least=1)


_EXTRA_RULE: Final = Record(
    ExtraRule,
    {"apiGroups": _entries(_GROUP), "apiVersions": _entries(_VERSION), "resources": _entries(_RESOURCE)},
    required=("apiGroups", "apiVersions", "resources"),
)


def _guard(*, enabled: bool = True) -> bool:
    return enabled


_DOCUMENT: Final = Record(
    WebhookSettings,
    {
        "exemptNamespaces": Items(
            item=_NAMESPACE,
            at_most=MAX_NAMESPACES,
            more={"description": "Namespaces whose Pods and workloads are not reviewed."},
        ),
        "exemptNamespaceLabels": Pairs(
            name=_LABEL_KEY,
            value=_LABEL_VALUE,
            at_most=MAX_LABELS,
            more={"description": "Labels; a namespace that has one of them with this value is not reviewed."},
        ),
        "pods": _calls(PODS),
        "workloads": _calls(WORKLOADS, enabled=Boolean()),
        "mutation": _calls(MUTATION),
        "policyGuard": Record(_guard, {"enabled": Boolean()}),
        "extraRules": Items(
            item=_EXTRA_RULE, at_most=MAX_RULES, more={"description": "Custom resources to validate."}
        ),
    },
)

FIELDS: Final = frozenset(_DOCUMENT.fields)
"""The names of the fields at the top of ``webhooks.yaml``."""


SETTINGS_CONFIGMAP: Final = "gatekeeper-py-webhooks"

_NAME_RE: Final = re.compile(rf"{SETTINGS_CONFIGMAP}(?:-[a-z0-9]{{10}})?")
"""Kustomize adds a hash to the name by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapSettings:
    """The content of a ConfigMap.

    ``text`` is the unparsed value of the key ``webhooks.yaml``; ``None`` if there is no such key or its value
    is not text. Any finding makes the whole ConfigMap unacceptable.
    """

    text: str | None
    findings: tuple[Finding, ...]


def is_settings_name(name: str) -> bool:
    """Return whether a ConfigMap of this name holds settings, whatever its keys are."""
    return _NAME_RE.fullmatch(name) is not None


def read_settings(data: object, binary_data: object = None) -> ConfigMapSettings:
    """Read the fields ``data`` and ``binaryData`` of a ConfigMap, as plain values."""
    findings: list[Finding] = []
    entries = data if isinstance(data, dict) else {}
    text = entries.get(SETTINGS_KEY)
    path = f"data.{SETTINGS_KEY}"
    if data is not None and not isinstance(data, dict):
        findings.append(configmap_error("wrong-type", "data", f"must be a mapping, not {type_name(data)}"))
    elif SETTINGS_KEY not in entries:
        findings.append(configmap_error("missing-field", path, f"the ConfigMap has no key {SETTINGS_KEY}"))
    elif not isinstance(text, str):
        findings.append(configmap_error("wrong-type", path, f"must be text, not {type_name(text)}"))
    findings += unknown_keys(
        [str(key) for key in entries if key != SETTINGS_KEY],
        f"this key is not read: the only key is {SETTINGS_KEY}",
        f"rename it, or remove it; in a kustomization: files: [{SETTINGS_KEY}={{key}}]",
    )
    if binary_data:
        findings.append(
            configmap_error(
                "binary-data",
                "binaryData",
                "must be absent: nothing in it is read",
                f"write the settings as UTF-8 text under data, with the key {SETTINGS_KEY}",
            )
        )
    return ConfigMapSettings(text=text if isinstance(text, str) else None, findings=tuple(findings))
