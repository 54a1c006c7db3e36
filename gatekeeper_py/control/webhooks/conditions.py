"""The fast path's match conditions on webhook configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION

CONDITION_NAME: Final = FAST_PATH_CONDITION


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
        own = [each for each in webhook.get("matchConditions") or () if each.get("name") != CONDITION_NAME]
        condition = {"name": CONDITION_NAME, "expression": expression}
        return {**webhook, "matchConditions": [*own, condition]}

    def annotations(self, names: Sequence[str]) -> dict[str, str]:
        """Return the annotations of a configuration with webhooks of these names."""
        return {FAST_PATH_REVISION: self.revision} if any(name in self.expressions for name in names) else {}


NO_CONDITIONS: Final = Conditions()


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
    own = [each for each in webhook.get("matchConditions") or () if each.get("name") != CONDITION_NAME]
    return {**rest, "matchConditions": own} if own else rest


def _expressions(webhook: Mapping[str, Any]) -> list[Any]:
    conditions = webhook.get("matchConditions") or ()
    return [each.get("expression") for each in conditions if each.get("name") == CONDITION_NAME]


def _revision(live: Mapping[str, Any]) -> Any:
    return (live.get("metadata", {}).get("annotations") or {}).get(FAST_PATH_REVISION)
