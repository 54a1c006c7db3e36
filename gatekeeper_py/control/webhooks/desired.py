"""A webhook configuration as it should be."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatekeeper_py.control.webhooks.conditions import NO_CONDITIONS, Conditions

API_VERSION: Final = "admissionregistration.k8s.io/v1"

VALIDATING: Final = "ValidatingWebhookConfiguration"
MUTATING: Final = "MutatingWebhookConfiguration"

PLURALS: Final = {
    VALIDATING: "validatingwebhookconfigurations",
    MUTATING: "mutatingwebhookconfigurations",
}


def collection_path(kind: str) -> str:
    """Return the path that lists all configurations of a kind."""
    return f"/apis/{API_VERSION}/{PLURALS[kind]}"


def configuration_path(kind: str, name: str) -> str:
    """Return the path of one configuration."""
    return f"{collection_path(kind)}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The cluster-scoped object whose deletion also deletes the webhook configurations."""

    api_version: str
    kind: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
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
    def collection(self) -> str:
        """The path that lists all configurations of this kind."""
        return collection_path(self.kind)

    @property
    def path(self) -> str:
        return configuration_path(self.kind, self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its webhooks."""
        return tuple(webhook["name"] for webhook in self.webhooks)

    def document(self, bundle: bytes, owner: Owner, conditions: Conditions = NO_CONDITIONS) -> dict[str, Any]:
        """Return the object to write; ``bundle`` holds the CAs to trust, PEM."""
        encoded = base64.b64encode(bundle).decode()
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {
                "name": self.name,
                "labels": dict(self.labels),
                "annotations": conditions.annotations(self.names),
                "ownerReferences": [owner.reference()],
            },
            "webhooks": [
                {
                    **conditions.added_to(webhook),
                    "clientConfig": {**webhook["clientConfig"], "caBundle": encoded},
                }
                for webhook in self.webhooks
            ],
        }
