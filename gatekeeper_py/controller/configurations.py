"""The two webhook configurations: read, create, repair and remove them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.controller.webhooks import drift
from gatekeeper_py.controller.webhooks.desired import (
    MUTATING,
    NO_CONDITIONS,
    Conditions,
    Desired,
    OwnerReference,
    carries,
    found_conditions,
    without_conditions,
)
from gatekeeper_py.controller.webhooks.settings import ExtraRule, WebhookSettings
from gatekeeper_py.controller.webhooks.templates import Target, mutating, validating

ACTIVE_SECONDS: Final = 2.0
"""How long after its creation the mutating configuration counts as active. API servers watch the
configurations, and each needs a moment to notice a new one."""

EVERYTHING: Final = WebhookSettings(
    extra_rules=(ExtraRule(api_groups=("example.com",), api_versions=("v1",), resources=("examples",)),)
)
"""Settings with which the configurations have every webhook that we ever write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """The desired state of the configurations, as far as it is known.

    ``settings`` is ``None`` until the first valid settings are loaded; until then, existing configurations
    keep their settings. ``mutates`` is whether the policy can rewrite images. While it is ``None`` (not
    known), the mutating configuration stays as it is. ``conditions`` returns the fast path's current
    conditions; it is ``None`` without a fast path.
    """

    settings: WebhookSettings | None = field(default_factory=WebhookSettings)
    mutates: bool | None = None
    conditions: Callable[[], Conditions] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The names of the configurations that a pass wrote, by reason.

    ``updated``: nobody else changed them, but their desired state changed. ``repaired``: somebody else
    deleted or changed them; ``details`` holds the paths of the fields that differed. ``registered`` is
    whether the mutating configuration exists, ``active`` whether API servers have had time to notice it.
    """

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    tampering: tuple[drift.Tampering, ...] = ()
    """Kinds of changes by somebody else; each kind at most once for each configuration."""
    registered: bool = False
    active: bool = False
    tolerated_terms: int = 0
    selector_problem: str = ""
    conditions_differ: bool = False
    """A configuration carries conditions other than the fast path's current ones."""

    @property
    def any(self) -> bool:
        """Whether something was written."""
        return bool(self.created or self.updated or self.repaired or self.removed)


def complete(target: Target) -> tuple[Desired, Desired]:
    """Return both configurations, with every webhook that they can have."""
    return validating(replace(target, exceptions=True), EVERYTHING), mutating(target, EVERYTHING)


def planned(
    target: Target,
    live: Mapping[str, dict[str, Any]],
    desired_state: DesiredState,
    found: Mapping[str, Desired],
) -> list[Desired]:
    """Return the configurations that should exist, before certificates and owner are known.

    ``live`` holds the configurations that exist, by path. While the settings are unknown, the configurations
    in ``found`` stay as they were found.
    """
    plan = []
    for build in (validating, mutating):
        desired = build(target, desired_state.settings or WebhookSettings())
        if desired.kind == MUTATING and not (
            desired.path in live if desired_state.mutates is None else desired_state.mutates
        ):
            continue
        plan.append(found.get(desired.path, desired) if desired_state.settings is None else desired)
    return plan


def as_found(target: Target, live: Mapping[str, dict[str, Any]]) -> dict[str, Desired]:
    """Return, by path, each live configuration with one of our webhooks, to keep it as it is.

    Only the Service and the paths of the webhooks are set to the desired values.
    """
    kept = {
        each.path: drift.keeping_settings(live[each.path], each)
        for each in complete(target)
        if each.path in live
    }
    return {path: desired for path, desired in kept.items() if desired is not None}


class Configurations:
    """Reads and writes the webhook configurations of one installation."""

    def __init__(self, api: KubernetesApi, target: Target) -> None:
        self._api = api
        self._target = target
        self.templates = complete(target)
        self._left: dict[str, dict[str, Any]] = {}
        """Each configuration as the last pass left it, by path."""
        self._carried: dict[str, Conditions] = {}
        """The conditions of the fast path that each configuration was last seen to carry, by path."""
        self._found: dict[str, Desired] = {}
        """Each configuration as it was first seen while no valid settings were known, by path."""
        self._registered_at: datetime | None = None

    async def read(self) -> dict[str, dict[str, Any]]:
        """Return the configurations that exist, by path."""
        found = {template.path: await self._api.get(template.path) for template in self.templates}
        return {path: live for path, live in found.items() if live is not None}

    async def remove(self) -> None:
        """Delete both configurations, so that API servers call no webhook."""
        for template in self.templates:
            await self._api.delete(template.path)
        self._left.clear()
        self._carried.clear()

    async def apply(
        self,
        live: dict[str, dict[str, Any]],
        desired_state: DesiredState,
        bundle: bytes,
        owner: OwnerReference,
        now: datetime,
    ) -> Changes:
        """Create, update or repair the configurations that should exist, then delete the others.

        Return the changes. Conditions of the fast path are kept as found, because only the fast path knows
        the policy that they were compiled from. If the fast path is off, nothing keeps the conditions in step
        with the policy, so they are removed.
        """
        written: dict[str, list[str]] = {"created": [], "updated": [], "repaired": [], "removed": []}
        details: list[str] = []
        kinds: list[drift.Tampering] = []
        tolerated, conditions_differ, selectors = 0, False, ""
        desired = self._planned(live, desired_state)
        for each in desired:
            current = live.get(each.path)
            kept = NO_CONDITIONS
            changed: list[drift.Tampering] = []
            if current is not None and desired_state.conditions is not None:
                kept = found_conditions(current, each.names)
            document = each.document(bundle, owner, kept)
            if desired_state.conditions is not None:
                conditions = desired_state.conditions()
                conditions_differ |= not carries(document, each.names, conditions)
                changed += self._changed_conditions(each, current, conditions)
            if current is None:
                await self._api.create(each.path, document)
                if each.kind == MUTATING:
                    self._registered_at = now
                if each.path in self._left:
                    written["repaired"].append(each.name)
                    details.append(f"{each.name}{drift.DELETED}")
                    changed.append("deleted")
                else:
                    written["created"].append(each.name)
            else:
                tolerated += drift.tolerated_terms(current, document)
                different = drift.differences(current, document)
                if different:
                    reason = self._reason(each, current)
                    await self._api.replace(each.path, drift.repaired(current, document))
                    written[reason].append(each.name)
                    if reason == "repaired":
                        details += different
                        changed += drift.tampering_in(different)
                        selectors = selectors or _selector_problem(different)
            kinds += drift.causes(changed)
            self._left[each.path] = document
        for path in live.keys() - {each.path for each in desired}:
            await self._api.delete(path)
            self._left.pop(path, None)
            self._carried.pop(path, None)
            written["removed"].append(path.rpartition("/")[2])
        registered = any(each.kind == MUTATING for each in desired)
        since = self._registered_at
        return Changes(
            **{reason: tuple(names) for reason, names in written.items()},
            details=tuple(details),
            tampering=tuple(kinds),
            registered=registered,
            active=registered and (since is None or (now - since).total_seconds() >= ACTIVE_SECONDS),
            tolerated_terms=tolerated,
            selector_problem=selectors,
            conditions_differ=conditions_differ,
        )

    def _planned(self, live: dict[str, dict[str, Any]], desired_state: DesiredState) -> list[Desired]:
        if desired_state.settings is None:
            # A configuration found earlier stays the desired one, so later edits of it are repaired.
            self._found = as_found(self._target, live) | self._found
        return planned(self._target, live, desired_state, self._found)

    def _changed_conditions(
        self, each: Desired, current: dict[str, Any] | None, conditions: Conditions
    ) -> tuple[drift.Tampering, ...]:
        """Return ``("conditions",)`` if somebody else changed the fast path's conditions, else nothing.

        Somebody else changed them if the configuration carried the current conditions when it was last read,
        the conditions are still the same, and the configuration does not carry them any more. The fast path
        repairs such a change.
        """
        if current is None:
            self._carried.pop(each.path, None)
            return ()
        if carries(current, each.names, conditions):
            self._carried[each.path] = conditions
            return ()
        return ("conditions",) if self._carried.pop(each.path, None) == conditions else ()

    def _reason(self, each: Desired, current: dict[str, Any]) -> str:
        """Return ``repaired`` if somebody else changed the configuration, else ``updated``."""
        left = self._left.get(each.path)
        if left is None:
            # This process has not seen the configuration yet. The usual reason for a difference is an
            # upgrade.
            return "updated"
        # Conditions belong to the fast path, which writes them between two passes.
        kept = found_conditions(current, each.names)
        expected = {
            **left,
            "webhooks": [kept.added_to(without_conditions(webhook)) for webhook in left["webhooks"]],
        }
        expected["metadata"] = {**left["metadata"], "annotations": kept.annotations(each.names)}
        return "repaired" if drift.differences(current, expected) else "updated"


def _selector_problem(different: tuple[str, ...]) -> str:
    found = [path for path in different if path.endswith(("namespaceSelector", "objectSelector"))]
    return f"somebody changed {', '.join(found)}; it was repaired" if found else ""
