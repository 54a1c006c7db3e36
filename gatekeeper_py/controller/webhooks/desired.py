"""A webhook configuration as it should be, and the fast path's match conditions on it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION

API_VERSION: Final = "admissionregistration.k8s.io/v1"

VALIDATING: Final = "ValidatingWebhookConfiguration"
MUTATING: Final = "MutatingWebhookConfiguration"

PLURALS: Final = {
    VALIDATING: "validatingwebhookconfigurations",
    MUTATING: "mutatingwebhookconfigurations",
}


def configuration_path(kind: str, name: str) -> str:
    """Return the path of one configuration."""
    return f"/apis/{API_VERSION}/{PLURALS[kind]}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The fast path's expressions by the webhooks' names, and the revision of the policy they come from.

    A webhook without an expression is always called.
    """

    expressions: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""

    def added_to(self, webhook: Mapping[str, Any]) -> dict[str, Any]:
        """Return a webhook with the fast path's condition after its own conditions."""
        expression = self.expressions.get(webhook["name"])
        if expression is None:
            return dict(webhook)
        own = [
            each for each in webhook.get("matchConditions") or () if each.get("name") != FAST_PATH_CONDITION
        ]
        condition = {"name": FAST_PATH_CONDITION, "expression": expression}
        return {**webhook, "matchConditions": [*own, condition]}

    def annotations(self, names: Sequence[str]) -> dict[str, str]:
        """Return the annotations of a configuration with webhooks of these names."""
        return {FAST_PATH_REVISION: self.revision} if any(name in self.expressions for name in names) else {}


NO_CONDITIONS: Final = Conditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerReference:
    """The cluster-scoped object whose deletion also deletes the webhook configurations."""

    api_version: str
    kind: str
    name: str
    uid: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry for ``ownerReferences``."""
        return {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """A webhook configuration as it should be, before certificates and owner are known."""

    kind: str
    name: str
    labels: Mapping[str, str]
    webhooks: tuple[Mapping[str, Any], ...]

    @property
    def path(self) -> str:
        return configuration_path(self.kind, self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its webhooks."""
        return tuple(webhook["name"] for webhook in self.webhooks)

    def document(
        self, bundle: bytes, owner: OwnerReference, conditions: Conditions = NO_CONDITIONS
    ) -> dict[str, Any]:
        """Return the object to write; ``bundle`` holds the CAs to trust, PEM."""
        encoded = base64.b64encode(bundle).decode()
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {
                "name": self.name,
                "labels": dict(self.labels),
                "annotations": conditions.annotations(self.names),
                "ownerReferences": [owner.as_json()],
            },
            "webhooks": [
                {
                    **conditions.added_to(webhook),
                    "clientConfig": {**webhook["clientConfig"], "caBundle": encoded},
                }
                for webhook in self.webhooks
            ],
        }


def found_conditions(live: Mapping[str, Any], names: Sequence[str]) -> Conditions:
    """Return the conditions of the fast path on the webhooks of these names in a live configuration."""
    expressions = {
        webhook["name"]: expression
        for webhook in live.get("webhooks") or ()
        if webhook.get("name") in names
        for expression in _expressions(webhook)
    }
    return Conditions(expressions=expressions, revision=_revision(live) or "")


def carries(live: Mapping[str, Any], names: Sequence[str], conditions: Conditions) -> bool:
    """Return whether a live configuration has exactly these conditions of the fast path.

    Other fields and other conditions are ignored.
    """
    if _revision(live) != conditions.annotations(names).get(FAST_PATH_REVISION):
        return False
    found = {webhook.get("name"): webhook for webhook in live.get("webhooks") or ()}
    for name in names:
        expression = conditions.expressions.get(name)
        if _expressions(found.get(name) or {}) != ([] if expression is None else [expression]):
            return False
    return True


def with_conditions(live: Mapping[str, Any], names: Sequence[str], conditions: Conditions) -> dict[str, Any]:
    """Return a live configuration with these conditions of the fast path, and everything else unchanged."""
    metadata = dict(live.get("metadata", {}))
    metadata.pop("managedFields", None)
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key != FAST_PATH_REVISION
    }
    metadata["annotations"] = annotations | conditions.annotations(names)
    webhooks = [
        conditions.added_to(without_conditions(webhook)) if webhook.get("name") in names else webhook
        for webhook in live.get("webhooks") or ()
    ]
    return {**live, "metadata": metadata, "webhooks": webhooks}


def without_conditions(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """Return a webhook without the fast path's condition."""
    rest = {key: value for key, value in webhook.items() if key != "matchConditions"}
    own = [each for each in webhook.get("matchConditions") or () if each.get("name") != FAST_PATH_CONDITION]
    return {**rest, "matchConditions": own} if own else rest


def _expressions(webhook: Mapping[str, Any]) -> list[Any]:
    conditions = webhook.get("matchConditions") or ()
    return [each.get("expression") for each in conditions if each.get("name") == FAST_PATH_CONDITION]


def _revision(live: Mapping[str, Any]) -> Any:
    return (live.get("metadata", {}).get("annotations") or {}).get(FAST_PATH_REVISION)
