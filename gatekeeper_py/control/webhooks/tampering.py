"""Classify changes by others to a webhook configuration into the label values of a metric."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, get_args

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


def tampering(details: Iterable[str]) -> tuple[Tampering, ...]:
    """Return the kinds of change, each once, from the paths that ``drift.differences`` returns."""
    return tuple(dict.fromkeys(map(_kind, details)))


def causes(kinds: Iterable[Tampering]) -> tuple[Tampering, ...]:
    """Return the kinds of change to one configuration, each once, without those that follow from another.

    Removing or renaming a webhook also removes its fast-path condition, so ``conditions`` is then left out.
    """
    found = dict.fromkeys(kinds)
    if "webhooks" in found:
        found.pop("conditions", None)
    return tuple(found)


def _kind(detail: str) -> Tampering:
    if detail.endswith(DELETED):
        return "deleted"
    if detail.startswith("metadata.annotations["):
        return "conditions"  # the fast path's revision, which belongs to its match conditions
    found = _FIELD.fullmatch(detail)
    return _BY_FIELD.get(found[1], "other") if found else "other"
