"""The webhook configurations: what they should be, and how a live one differs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from gatekeeper_py.core.names import FAST_PATH_REVISION

GROUP: Final = "admissionregistration.k8s.io"
API_VERSION: Final = f"{GROUP}/v1"

PLURALS: Final = {
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
}

KUSTOMIZATION: Final = "kustomization.yaml"
"""Not a manifest, though it stands in the same directory."""

FAST_PATH_CONDITION: Final = "not-pre-approved"
"""Name of the fast path's match condition."""


class InvalidManifests(ValueError):
    """The desired webhook configurations cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The cluster-scoped object whose deletion also deletes the webhook configurations."""

    api_version: str
    kind: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        return {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The fast path's expression for each webhook, by name, and the revision of the policy they express.

    A webhook without an expression is always called.
    """

    expressions: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""

    def added_to(self, webhook: Mapping[str, Any]) -> dict[str, Any]:
        """Return a webhook with the fast path's condition after its own conditions."""
        expression = self.expressions.get(webhook["name"])
        if expression is None:
            return dict(webhook)
        return {
            **webhook,
            "matchConditions": [
                *_without_ours(webhook),
                {"name": FAST_PATH_CONDITION, "expression": expression},
            ],
        }

    def annotations(self, webhooks: tuple[Mapping[str, Any], ...]) -> dict[str, str]:
        """Return the annotations of a configuration that has these webhooks."""
        if any(webhook["name"] in self.expressions for webhook in webhooks):
            return {FAST_PATH_REVISION: self.revision}
        return {}


NO_CONDITIONS: Final = Conditions()


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
        return f"/apis/{API_VERSION}/{PLURALS[self.kind]}"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"

    def document(self, bundle: bytes, owner: Owner, conditions: Conditions = NO_CONDITIONS) -> dict[str, Any]:
        """Return the object to write."""
        encoded = base64.b64encode(bundle).decode()
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {
                "name": self.name,
                "labels": dict(self.labels),
                "annotations": conditions.annotations(self.webhooks),
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


def read_manifests(folder: Path) -> tuple[Desired, ...]:
    """Read every configuration in a directory's YAML files. Raises ``InvalidManifests``."""
    if not folder.is_dir():
        raise InvalidManifests(f"{folder}: no such directory")
    found: list[Desired] = []
    try:
        for file in sorted(set(folder.glob("*.yaml")) - {folder / KUSTOMIZATION}):
            documents = yaml.safe_load_all(file.read_text(encoding="utf-8"))
            found += [_parse(file, document) for document in documents if document is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise InvalidManifests(f"{folder}: {problem}") from None
    if not found:
        raise InvalidManifests(f"{folder}: no webhook configuration in any *.yaml file")
    if len({desired.path for desired in found}) < len(found):
        raise InvalidManifests(f"{folder}: the same webhook configuration twice")
    return tuple(found)


def drifted(live: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether a live configuration differs from what it should be.

    Labels, annotations and owners that others added do not count.
    """
    metadata, wanted = live.get("metadata", {}), document["metadata"]
    labels = metadata.get("labels") or {}
    owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or ()}
    return (
        live.get("webhooks") != document["webhooks"]
        or _fast_path_annotation(metadata) != _fast_path_annotation(wanted)
        or any(labels.get(key) != value for key, value in wanted["labels"].items())
        or not {owner["uid"] for owner in wanted["ownerReferences"]} <= owners
    )


def repaired(live: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a live configuration with exactly our webhooks, and with metadata of others kept.

    It keeps the resource version, so that writing it conflicts with a change made meanwhile.
    """
    metadata = dict(live.get("metadata", {}))
    metadata.pop("managedFields", None)
    metadata["labels"] = {**(metadata.get("labels") or {}), **document["metadata"]["labels"]}
    metadata["annotations"] = _annotated(metadata, document["metadata"].get("annotations") or {})
    ours = document["metadata"]["ownerReferences"]
    others = [
        owner
        for owner in metadata.get("ownerReferences") or ()
        if (owner.get("kind"), owner.get("name")) not in {(mine["kind"], mine["name"]) for mine in ours}
    ]
    metadata["ownerReferences"] = [*others, *ours]
    return {**live, "metadata": metadata, "webhooks": document["webhooks"]}


def found_conditions(live: Mapping[str, Any], desired: Desired) -> Conditions:
    """Return the conditions of the fast path in a live configuration."""
    names = {webhook["name"] for webhook in desired.webhooks}
    expressions = {
        webhook["name"]: expression
        for webhook in live.get("webhooks") or ()
        if webhook.get("name") in names
        for expression in _ours_of(webhook)
    }
    return Conditions(expressions=expressions, revision=_fast_path_annotation(live.get("metadata", {})) or "")


def carries(live: Mapping[str, Any], desired: Desired, conditions: Conditions) -> bool:
    """Whether a live configuration has exactly these conditions of the fast path, whatever else it has."""
    metadata = live.get("metadata", {})
    if _fast_path_annotation(metadata) != conditions.annotations(desired.webhooks).get(FAST_PATH_REVISION):
        return False
    found = {webhook.get("name"): webhook for webhook in live.get("webhooks") or ()}
    for webhook in desired.webhooks:
        expression = conditions.expressions.get(webhook["name"])
        if _ours_of(found.get(webhook["name"]) or {}) != ([] if expression is None else [expression]):
            return False
    return True


def with_conditions(live: Mapping[str, Any], desired: Desired, conditions: Conditions) -> dict[str, Any]:
    """Return a live configuration with these conditions of the fast path, and everything else unchanged."""
    ours = {webhook["name"]: conditions.added_to(webhook) for webhook in desired.webhooks}
    metadata = dict(live.get("metadata", {}))
    metadata.pop("managedFields", None)
    metadata["annotations"] = _annotated(metadata, conditions.annotations(desired.webhooks))
    return {
        **live,
        "metadata": metadata,
        "webhooks": [
            _with_conditions_of(ours[name], webhook) if (name := webhook.get("name")) in ours else webhook
            for webhook in live.get("webhooks") or ()
        ],
    }


def bundles(live: Mapping[str, Any], desired: Desired) -> tuple[bytes, ...]:
    """Return the CA bundle of each of our webhooks in a live configuration, empty for a missing webhook.

    Webhooks that others added are ignored, so they cannot add a CA to what we trust.
    """
    trusted = {
        webhook.get("name"): (webhook.get("clientConfig") or {}).get("caBundle") or ""
        for webhook in live.get("webhooks") or ()
    }
    return tuple(base64.b64decode(trusted.get(webhook["name"], "")) for webhook in desired.webhooks)


def _with_conditions_of(wanted: Mapping[str, Any], webhook: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in webhook.items() if key != "matchConditions"}
    conditions = wanted.get("matchConditions")
    return {**rest, "matchConditions": conditions} if conditions else rest


def _without_ours(webhook: Mapping[str, Any]) -> list[Any]:
    conditions = webhook.get("matchConditions") or ()
    return [condition for condition in conditions if condition.get("name") != FAST_PATH_CONDITION]


def _ours_of(webhook: Mapping[str, Any]) -> list[Any]:
    conditions = webhook.get("matchConditions") or ()
    return [each.get("expression") for each in conditions if each.get("name") == FAST_PATH_CONDITION]


def _fast_path_annotation(metadata: Mapping[str, Any]) -> Any:
    return (metadata.get("annotations") or {}).get(FAST_PATH_REVISION)


def _annotated(metadata: Mapping[str, Any], ours: Mapping[str, str]) -> dict[str, str]:
    theirs = metadata.get("annotations") or {}
    return {key: value for key, value in theirs.items() if key != FAST_PATH_REVISION} | dict(ours)


def _parse(file: Path, document: Any) -> Desired:
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in PLURALS or document.get("apiVersion") != API_VERSION:
        raise InvalidManifests(f"{file}: not a webhook configuration of {API_VERSION}")
    metadata, webhooks = document.get("metadata"), document.get("webhooks")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise InvalidManifests(f"{file}: the configuration has no name")
    if not isinstance(metadata.get("labels") or {}, dict):
        raise InvalidManifests(f"{file}: the labels of {metadata['name']} are not a mapping")
    if not isinstance(webhooks, list) or not webhooks:
        raise InvalidManifests(f"{file}: {metadata['name']} has no webhooks")
    for webhook in webhooks:
        if not isinstance(webhook, dict) or not isinstance(webhook.get("clientConfig"), dict):
            raise InvalidManifests(f"{file}: a webhook of {metadata['name']} has no clientConfig")
        if not isinstance(webhook.get("name"), str):
            raise InvalidManifests(f"{file}: a webhook of {metadata['name']} has no name")
    return Desired(
        kind=kind,
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        webhooks=tuple(webhooks),
    )
