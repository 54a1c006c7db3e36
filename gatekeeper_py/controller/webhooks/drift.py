"""How a live webhook configuration differs from what it should be, how to repair it, and what was changed.

Only the fields that the templates write are compared. A field that a newer API server adds with a default is
not drift, and neither are labels, annotations and owners of others.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

from gatekeeper_py.controller.webhooks.desired import Desired, without_conditions
from gatekeeper_py.core.names import FAST_PATH_REVISION

TOLERATED_LABELS: Final = frozenset({"control-plane", "kubernetes.azure.com/managedby"})
TOLERATED_OPERATORS: Final = frozenset({"NotIn", "DoesNotExist"})
"""Terms that Azure Kubernetes Service adds to the ``namespaceSelector`` of every webhook, again and again,
to exempt its own namespaces. With other operators such a term would switch the webhook off."""

MAX_TOLERATED_TERMS: Final = 10

Tampering = Literal[
    "deleted",
    "webhooks",
    "client-config",
    "rules",
    "selector",
    "conditions",
    "failure-policy",
    "timeout",
    "metadata",
    "other",
]
TAMPERINGS: Final[tuple[Tampering, ...]] = get_args(Tampering)
"""The kinds of changes by others, as label values of a metric."""

DELETED: Final = " (deleted)"
"""Suffix in the details after the name of a configuration that somebody deleted."""

_BY_FIELD: Final[dict[str, Tampering]] = {
    "webhooks": "webhooks",
    "clientConfig": "client-config",
    "rules": "rules",
    "matchPolicy": "rules",
    "namespaceSelector": "selector",
    "objectSelector": "selector",
    "matchConditions": "conditions",
    "failurePolicy": "failure-policy",
    "timeoutSeconds": "timeout",
    "labels": "metadata",
    "ownerReferences": "metadata",
}

_FIELD: Final = re.compile(r"(?:.*\.)?([a-zA-Z]+)")


def differences(live: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of our fields that differ, e.g. ``webhooks[pods…].failurePolicy``; empty for none."""
    found = _metadata_differences(live.get("metadata") or {}, document["metadata"])
    webhooks = [each for each in live.get("webhooks") or () if isinstance(each, dict)]
    names = [webhook.get("name") for webhook in webhooks]
    if names != [webhook["name"] for webhook in document["webhooks"]]:
        return (*found, "webhooks")
    for webhook, desired in zip(webhooks, document["webhooks"], strict=True):
        found += [f"webhooks[{desired['name']}].{key}" for key in _webhook_differences(webhook, desired)]
    return tuple(found)


def repaired(live: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a live configuration with exactly our webhooks, and with the fields of others kept.

    The result keeps metadata of others, tolerated selector terms, and fields that a newer API server added.
    It also keeps the resource version, so that a write conflicts if somebody made a change meanwhile.
    """
    metadata = dict(live.get("metadata") or {})
    metadata.pop("managedFields", None)
    desired = document["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), **desired["labels"]}
    annotations = metadata.get("annotations") or {}
    kept = {key: value for key, value in annotations.items() if key != FAST_PATH_REVISION}
    metadata["annotations"] = kept | (desired.get("annotations") or {})
    ours = desired["ownerReferences"]
    others = [
        owner
        for owner in metadata.get("ownerReferences") or ()
        if (owner.get("kind"), owner.get("name")) not in {(mine["kind"], mine["name"]) for mine in ours}
    ]
    metadata["ownerReferences"] = [*others, *ours]
    found = {webhook.get("name"): webhook for webhook in live.get("webhooks") or ()}
    webhooks = [_repaired_webhook(found.get(each["name"]) or {}, each) for each in document["webhooks"]]
    return {**live, "metadata": metadata, "webhooks": webhooks}


def tolerated_terms(live: Mapping[str, Any], document: Mapping[str, Any]) -> int:
    """Count the selector terms in a live configuration that are not ours and are tolerated."""
    ours = {webhook["name"]: webhook for webhook in document["webhooks"]}
    return sum(
        len(_tolerated(webhook, ours[webhook["name"]]))
        for webhook in live.get("webhooks") or ()
        if webhook.get("name") in ours
    )


def tampering_in(details: Iterable[str]) -> tuple[Tampering, ...]:
    """Return the kinds of change, each once, from the paths that ``differences`` returns."""
    return tuple(dict.fromkeys(map(_kind, details)))


def causes(kinds: Iterable[Tampering]) -> tuple[Tampering, ...]:
    """Return the kinds of change to one configuration, each once, without those that follow from another.

    Removing or renaming a webhook also removes its fast-path condition, so ``conditions`` is then left out.
    """
    found = dict.fromkeys(kinds)
    if "webhooks" in found:
        found.pop("conditions", None)
    return tuple(found)


def keeping_settings(live: Mapping[str, Any], template: Desired) -> Desired | None:
    """Return the live configuration as the desired one, but with our own ``clientConfig``.

    Use this while the settings are unknown, so that their effects do not change. The template has every
    webhook that we ever write; webhooks that are not in the template are left out. Return ``None`` if the
    live configuration has no webhook of the template.
    """
    ours = {webhook["name"]: webhook for webhook in template.webhooks}
    webhooks = tuple(
        {
            # Include the field even if it is empty, so that a condition that is added later counts as drift.
            "matchConditions": [],
            **without_conditions(webhook),
            "clientConfig": ours[webhook["name"]]["clientConfig"],
        }
        for webhook in live.get("webhooks") or ()
        if webhook.get("name") in ours
    )
    if not webhooks:
        return None
    return Desired(kind=template.kind, name=template.name, labels=template.labels, webhooks=webhooks)


def bundles(live: Mapping[str, Any], desired: Desired) -> tuple[bytes, ...]:
    """Return the CA bundle of each of our webhooks in a live configuration, PEM.

    Webhooks that others added are ignored, so they cannot add a CA to what we trust.
    """
    return tuple(
        _decoded((webhook.get("clientConfig") or {}).get("caBundle") or "")
        for webhook in live.get("webhooks") or ()
        if webhook.get("name") in desired.names
    )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _metadata_differences(metadata: Mapping[str, Any], desired: Mapping[str, Any]) -> list[str]:
    found = []
    labels = metadata.get("labels") or {}
    if any(labels.get(key) != value for key, value in desired["labels"].items()):
        found.append("metadata.labels")
    annotations, ours = metadata.get("annotations") or {}, desired.get("annotations") or {}
    if annotations.get(FAST_PATH_REVISION) != ours.get(FAST_PATH_REVISION):
        found.append(f"metadata.annotations[{FAST_PATH_REVISION}]")
    owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or ()}
    if not {owner["uid"] for owner in desired["ownerReferences"]} <= owners:
        found.append("metadata.ownerReferences")
    return found


def _webhook_differences(webhook: Mapping[str, Any], desired: Mapping[str, Any]) -> list[str]:
    return [key for key in desired if not _same(key, webhook, desired)]


def _same(key: str, webhook: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    live = webhook.get(key)
    match key:
        case "clientConfig":
            return _same_client(live or {}, desired[key])
        case "namespaceSelector":
            tolerated = _tolerated(webhook, desired)
            terms = [term for term in (live or {}).get("matchExpressions") or () if term not in tolerated]
            return _same_selector({**(live or {}), "matchExpressions": terms}, desired[key])
        case "objectSelector":
            return _same_selector(live or {}, desired[key])
        case "rules" | "matchConditions":
            ours = desired[key]
            theirs = live or []
            return len(theirs) == len(ours) and all(map(_covers, theirs, ours))
        case _:
            return bool(live == desired[key])


def _covers(live: Any, desired: Mapping[str, Any]) -> bool:
    """Return whether a live mapping has all our fields with our values; it may have other fields."""
    return isinstance(live, dict) and all(live.get(key) == value for key, value in desired.items())


def _same_client(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    return (
        not live.get("url")
        and live.get("caBundle", "") == desired.get("caBundle", "")
        and _covers(live.get("service"), desired["service"])
    )


def _same_selector(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    return (live.get("matchLabels") or {}) == (desired.get("matchLabels") or {}) and (
        live.get("matchExpressions") or []
    ) == (desired.get("matchExpressions") or [])


def _tolerated(webhook: Mapping[str, Any], desired: Mapping[str, Any]) -> list[Any]:
    """Return the tolerated terms of a live webhook; none if there are more than ``MAX_TOLERATED_TERMS``."""
    ours = desired["namespaceSelector"].get("matchExpressions") or ()
    terms = [
        term
        for term in (webhook.get("namespaceSelector") or {}).get("matchExpressions") or ()
        if term not in ours
        and term.get("key") in TOLERATED_LABELS
        and term.get("operator") in TOLERATED_OPERATORS
    ]
    return terms if len(terms) <= MAX_TOLERATED_TERMS else []


def _repaired_webhook(live: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    repaired = {**live, **desired}
    terms = _tolerated(live, desired)
    if terms:
        ours = desired["namespaceSelector"]
        repaired["namespaceSelector"] = {
            **ours,
            "matchExpressions": [*(ours.get("matchExpressions") or ()), *terms],
        }
    return repaired


def _kind(detail: str) -> Tampering:
    if detail.endswith(DELETED):
        return "deleted"
    if detail.startswith("metadata.annotations["):
        return "conditions"  # the fast path's revision, which belongs to its match conditions
    found = _FIELD.fullmatch(detail)
    return _BY_FIELD.get(found[1], "other") if found else "other"
