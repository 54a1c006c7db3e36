"""Build the desired webhook configurations from the settings and the table of fields that hold images.

Every field of the API is written out, including those that the API server would fill in, so that the
controller can compare each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from gatekeeper_py.controller.webhooks.desired import MUTATING, VALIDATING, Desired, configuration_path
from gatekeeper_py.controller.webhooks.settings import Calls, WebhookSettings
from gatekeeper_py.core.admission.fields import IMAGE_LISTS, POD, WORKLOAD_KINDS, ImageList, WorkloadKind
from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.names import NAMESPACE_LABEL, PART_OF, PART_OF_LABEL, always_exempt

VALIDATING_NAME: Final = "image-validation-webhook"
MUTATING_NAME: Final = "image-mutation-webhook"

VALIDATING_PATH: Final = configuration_path(VALIDATING, VALIDATING_NAME)
MUTATING_PATH: Final = configuration_path(MUTATING, MUTATING_NAME)

POD_VALIDATION: Final = f"pods.{VALIDATING_NAME}.gatekeeper-py"
WORKLOAD_VALIDATION: Final = f"workloads.{VALIDATING_NAME}.gatekeeper-py"
EXTRA_VALIDATION: Final = f"custom-resources.{VALIDATING_NAME}.gatekeeper-py"
POLICY_GUARD: Final = f"policy.{VALIDATING_NAME}.gatekeeper-py"
EXCEPTIONS_GUARD: Final = f"exceptions.{VALIDATING_NAME}.gatekeeper-py"
POD_MUTATION: Final = f"pods.{MUTATING_NAME}.gatekeeper-py"

VALIDATE_PATH: Final = "/validate-image"
MUTATE_PATH: Final = "/mutate-image"
GUARD_PATH: Final = "/validate-policy"

GUARD_TIMEOUT_SECONDS: Final = 5

LABELS: Final = {PART_OF_LABEL: PART_OF}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Service that the webhooks call, and the policy's ConfigMap that they guard, in one namespace.

    With ``exceptions``, they also guard the exceptions in every namespace.
    """

    namespace: str
    service: str
    policy: str
    exceptions: bool = False


def validating(target: Target, settings: WebhookSettings) -> Desired:
    """Return the validating configuration."""
    webhooks = [_pod_webhook(target, settings, POD_VALIDATION, VALIDATE_PATH, settings.pods)]
    if settings.workloads.enabled:
        webhooks.append(_workload_validation(target, settings))
    if settings.extra_rules:
        webhooks.append(_extra_validation(target, settings))
    if settings.policy_guard:
        webhooks.append(_policy_guard(target))
        if target.exceptions:
            webhooks.append(_exceptions_guard(target))
    return Desired(kind=VALIDATING, name=VALIDATING_NAME, labels=LABELS, webhooks=tuple(webhooks))


def mutating(target: Target, settings: WebhookSettings) -> Desired:
    """Return the mutating configuration."""
    webhook = _pod_webhook(target, settings, POD_MUTATION, MUTATE_PATH, settings.mutation)
    # Call the webhook again after later mutating webhooks, because these may add sidecars.
    webhook["reinvocationPolicy"] = "IfNeeded"
    return Desired(kind=MUTATING, name=MUTATING_NAME, labels=LABELS, webhooks=(webhook,))


def _pod_webhook(
    target: Target, settings: WebhookSettings, name: str, path: str, calls: Calls
) -> dict[str, Any]:
    return _webhook(
        name,
        target,
        path,
        rules=_rules(kind for kind in WORKLOAD_KINDS if (kind.group, kind.kind) == POD),
        selector=_not_exempt(target, settings),
        conditions=[{"name": "an-image-changed", "expression": image_changed()}],
        calls=calls,
    )


def _workload_validation(target: Target, settings: WebhookSettings) -> dict[str, Any]:
    return _webhook(
        WORKLOAD_VALIDATION,
        target,
        VALIDATE_PATH,
        rules=_rules(kind for kind in WORKLOAD_KINDS if (kind.group, kind.kind) != POD),
        selector=_not_exempt(target, settings),
        conditions=[{"name": "the-pod-template-changed", "expression": template_changed()}],
        calls=settings.workloads,
    )


def _extra_validation(target: Target, settings: WebhookSettings) -> dict[str, Any]:
    # Without a match condition, because nothing is known about the fields of these resources.
    rules = [
        _rule(rule.api_groups, rule.api_versions, rule.resources, scope="*") for rule in settings.extra_rules
    ]
    return _webhook(
        EXTRA_VALIDATION,
        target,
        VALIDATE_PATH,
        rules=rules,
        selector=_not_exempt(target, settings),
        conditions=[],
        calls=settings.workloads,
    )


def _policy_guard(target: Target) -> dict[str, Any]:
    # The failure policy is Ignore, because an outage must not prevent anybody from repairing the policy. In
    # any case the server refuses a bad policy and keeps the last good one.
    selector = {
        "matchExpressions": [{"key": NAMESPACE_LABEL, "operator": "In", "values": [target.namespace]}]
    }
    condition = {"name": "is-the-policy", "expression": f"request.name == '{target.policy}'"}
    return _guard(POLICY_GUARD, target, selector, condition)


def _exceptions_guard(target: Target) -> dict[str, Any]:
    # The failure policy is Ignore here, too: the server judges each exception again when it is used.
    tenants = {each.name for each in SOURCES.values() if each.scope == "namespace"}
    expression = " || ".join(
        f"request.name == '{name}'"
        if name in tenants
        else f"(request.name == '{name}' && request.namespace == '{target.namespace}')"
        for name in dict.fromkeys(each.name for each in SOURCES.values())
    )
    return _guard(EXCEPTIONS_GUARD, target, {}, {"name": "holds-exceptions", "expression": expression})


def _guard(name: str, target: Target, selector: dict[str, Any], condition: dict[str, str]) -> dict[str, Any]:
    """Return a webhook that reviews ConfigMaps."""
    return _webhook(
        name,
        target,
        GUARD_PATH,
        rules=[_rule(("",), ("v1",), ("configmaps",))],
        selector=selector,
        conditions=[condition],
        calls=Calls(failure_policy="Ignore", timeout_seconds=GUARD_TIMEOUT_SECONDS),
    )


def _webhook(
    name: str,
    target: Target,
    path: str,
    *,
    rules: list[dict[str, Any]],
    selector: dict[str, Any],
    conditions: list[dict[str, str]],
    calls: Calls,
) -> dict[str, Any]:
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {
                "namespace": target.namespace,
                "name": target.service,
                "path": path,
                "port": 443,
            }
        },
        "rules": rules,
        "namespaceSelector": selector,
        "objectSelector": {},
        "matchConditions": conditions,
        "matchPolicy": "Equivalent",
        "failurePolicy": calls.failure_policy,
        "sideEffects": "None",
        "timeoutSeconds": calls.timeout_seconds,
    }


def _not_exempt(target: Target, settings: WebhookSettings) -> dict[str, Any]:
    """Return a selector of the namespaces that are reviewed.

    The first term uses a label that only the API server sets. It always contains the installation's own
    namespace and kube-system: otherwise a cluster whose webhook is down could not start the webhook.
    """
    names = dict.fromkeys((*always_exempt(target.namespace), *settings.exempt_namespaces))
    terms = [{"key": NAMESPACE_LABEL, "operator": "NotIn", "values": list(names)}]
    terms += [
        {"key": label, "operator": "NotIn", "values": [value]}
        for label, value in settings.exempt_namespace_labels
    ]
    return {"matchExpressions": terms}


def exemptions(live: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the namespaces and the labels that a live validating configuration exempts.

    A label is written as ``label=value``, or as ``label`` if every value exempts. Return ``None`` if the
    configuration has no webhook for Pods.
    """
    for webhook in live.get("webhooks") or ():
        if webhook.get("name") == POD_VALIDATION:
            terms = (webhook.get("namespaceSelector") or {}).get("matchExpressions") or ()
            names = [value for term in terms for value in _excluded(term) if term["key"] == NAMESPACE_LABEL]
            labels = [
                f"{term['key']}={value}"
                for term in terms
                for value in _excluded(term)
                if term["key"] != NAMESPACE_LABEL
            ]
            labels += [term["key"] for term in terms if term.get("operator") == "DoesNotExist"]
            return tuple(dict.fromkeys(names)), tuple(dict.fromkeys(labels))
    return None


def _excluded(term: Mapping[str, Any]) -> list[str]:
    return (term.get("values") or []) if term.get("operator") == "NotIn" else []


def _rules(kinds: Iterable[WorkloadKind]) -> list[dict[str, Any]]:
    """Return one rule for each combination of API group and versions."""
    rules = []
    for (group, versions), found in groupby(kinds, key=lambda kind: (kind.group, kind.versions)):
        resources = [
            resource
            for kind in found
            for resource in (kind.plural, *(f"{kind.plural}/{name}" for name in kind.subresources))
        ]
        rules.append(_rule((group,), versions, resources))
    return rules


def _rule(
    groups: Iterable[str], versions: Iterable[str], resources: Iterable[str], *, scope: str = "Namespaced"
) -> dict[str, Any]:
    return {
        "apiGroups": list(groups),
        "apiVersions": list(versions),
        "operations": ["CREATE", "UPDATE"],
        "resources": list(resources),
        "scope": scope,
    }


def image_changed() -> str:
    """Return a CEL expression that is true if a request creates a Pod or changes one of its images."""
    changes = (f"{_images('object', each)} != {_images('oldObject', each)}" for each in IMAGE_LISTS)
    return " || ".join(("request.operation != 'UPDATE'", *changes))


def _images(root: str, each: ImageList) -> str:
    """Return a CEL expression for the images of a list; an item without an image yields ''."""
    items, item = f"{root}.spec.{each.key}", each.key[0]
    steps = [".".join((item, *each.path[: length + 1])) for length in range(len(each.path))]
    present = " && ".join(f"has({step})" for step in steps)
    return f"(has({items}) ? {items}.map({item}, {present} ? {steps[-1]} : '') : [])"


def template_changed() -> str:
    """Return a CEL expression that is true if a request creates a workload or changes its Pod template."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for kind in WORKLOAD_KINDS:
        if (kind.group, kind.kind) != POD:
            kinds.setdefault(_template(kind), []).append(kind.kind)
    # The most common path comes last, as the default for all other kinds.
    *others, common = sorted(kinds, key=lambda path: len(kinds[path]))
    choices = "".join(
        f"request.kind.kind in [{', '.join(map(repr, kinds[path]))}] ? {_changed(path)} : " for path in others
    )
    return f"request.operation != 'UPDATE' || ({choices}{_changed(common)})"


def _template(kind: WorkloadKind) -> tuple[str, ...]:
    """Return the path to the outermost template of a kind. It contains every field about the Pods."""
    end = next(index for index, key in enumerate(kind.pod_spec) if key.lower().endswith("template"))
    return kind.pod_spec[: end + 1]


def _changed(path: tuple[str, ...]) -> str:
    new, old = (".".join((root, *path)) for root in ("object", "oldObject"))
    return f"(has({new}) != has({old}) || (has({new}) && {new} != {old}))"
