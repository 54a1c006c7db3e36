"""Plan how to create, update, repair or remove the webhook configurations. Pure: no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

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
class Wanted:
    """The desired state of the configurations, as far as it is known.

    ``settings`` is ``None`` until the first valid settings are loaded; until then, existing configurations
    keep their settings. ``mutates`` is whether the policy can rewrite images. While it is ``None`` (not
    known), the mutating configuration stays as it is. ``conditions`` are the fast path's current conditions;
    ``None`` without a fast path.
    """

    settings: WebhookSettings | None = field(default_factory=WebhookSettings)
    mutates: bool | None = None
    conditions: Conditions | None = None


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


Verb = Literal["create", "replace", "delete"]

Reason = Literal["created", "updated", "repaired", "removed"]
"""Why a configuration is created, replaced or deleted. Not used for the Secret."""


class Write(NamedTuple):
    """One request that changes an object. ``document`` is what to store; ``None`` for a deletion.

    ``different`` holds the paths of the fields that differ, or ``NAME (deleted)``.
    """

    verb: Verb
    path: str
    document: dict[str, Any] | None = None
    reason: Reason = "created"
    different: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the object."""
        return self.path.rpartition("/")[2]


def complete(target: Target) -> tuple[Desired, Desired]:
    """Return both configurations, with every webhook that they can have."""
    return validating(replace(target, exceptions=True), EVERYTHING), mutating(target, EVERYTHING)


def planned(
    target: Target,
    live: Mapping[str, dict[str, Any]],
    wanted: Wanted,
    found: Mapping[str, Desired],
) -> list[Desired]:
    """Return the configurations that should exist, before certificates and owner are known.

    ``live`` holds the configurations that exist, by path. While the settings are unknown, the configurations
    in ``found`` stay as they were found.
    """
    plan = []
    for build in (validating, mutating):
        desired = build(target, wanted.settings or WebhookSettings())
        if desired.kind == MUTATING and not (
            desired.path in live if wanted.mutates is None else wanted.mutates
        ):
            continue
        plan.append(found.get(desired.path, desired) if wanted.settings is None else desired)
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


class Memory(NamedTuple):
    """What one controller remembers of the configurations, by path where it is a mapping."""

    left: Mapping[str, dict[str, Any]] = MappingProxyType({})
    """Each configuration as the last pass left it."""
    carried: Mapping[str, Conditions] = MappingProxyType({})
    """The conditions of the fast path that each configuration was last seen to carry."""
    found: Mapping[str, Desired] = MappingProxyType({})
    """Each configuration as it was first seen while no valid settings were known."""
    registered_at: datetime | None = None
    """When this controller created the mutating configuration."""


def changes_to(
    target: Target,
    live: Mapping[str, dict[str, Any]],
    wanted: Wanted,
    bundle: bytes,
    owner: OwnerReference,
    memory: Memory,
    now: datetime,
) -> tuple[tuple[Write, ...], Changes, Memory]:
    """Return the writes that bring the configurations to their desired state, the changes, and the memory.

    Conditions of the fast path are kept as found, because only the fast path knows the policy that they were
    compiled from. If the fast path is off, nothing keeps the conditions in step with the policy, so they are
    removed.
    """
    if wanted.settings is None:
        # A configuration found earlier stays the desired one, so later edits of it are repaired.
        memory = memory._replace(found={**as_found(target, live), **memory.found})
    desired = planned(target, live, wanted, memory.found)
    parts = [_Part(each, live.get(each.path), wanted, bundle, owner, memory) for each in desired]
    unwanted = live.keys() - {each.path for each in desired}
    writes = [each.write for each in parts if each.write is not None]
    writes += [Write("delete", path, reason="removed") for path in unwanted]
    names: defaultdict[str, list[str]] = defaultdict(list)
    for write in writes:
        names[write.reason].append(write.name)
    registered = any(each.kind == MUTATING for each in desired)
    created = any(each.desired.kind == MUTATING and each.live is None for each in parts)
    since = now if created else memory.registered_at
    changes = Changes(
        **{reason: tuple(each) for reason, each in names.items()},
        details=tuple(path for each in writes if each.reason == "repaired" for path in each.different),
        tampering=tuple(kind for each in parts for kind in each.tampering),
        registered=registered,
        active=registered and (since is None or (now - since).total_seconds() >= ACTIVE_SECONDS),
        tolerated_terms=sum(each.tolerated for each in parts),
        selector_problem=next(filter(None, (each.selector_problem for each in parts)), ""),
        conditions_differ=any(each.conditions_differ for each in parts),
    )
    left = {each.desired.path: each.document for each in parts}
    carried = {each.desired.path: each.carried for each in parts if each.carried is not None}
    return tuple(writes), changes, memory._replace(left=left, carried=carried, registered_at=since)


class _Part:
    """How one configuration must change, and what somebody else changed in it."""

    def __init__(
        self,
        desired: Desired,
        live: dict[str, Any] | None,
        wanted: Wanted,
        bundle: bytes,
        owner: OwnerReference,
        memory: Memory,
    ) -> None:
        self.desired = desired
        self.live = live
        self.carried: Conditions | None = None
        self.conditions_differ = False
        self.tolerated = 0
        self.selector_problem = ""
        self._left = memory.left.get(desired.path)
        changed: list[drift.Tampering] = []
        kept = NO_CONDITIONS
        if live is not None and wanted.conditions is not None:
            kept = found_conditions(live, desired.names)
        self.document = desired.document(bundle, owner, kept)
        if wanted.conditions is not None:
            changed += self._changed_conditions(wanted.conditions, memory.carried.get(desired.path))
        self.write = self._created() if live is None else self._replaced(live)
        if self.write is not None and self.write.reason == "repaired":
            changed += drift.tampering_in(self.write.different)
        self.tampering = drift.causes(changed)

    def _created(self) -> Write:
        if self._left is None:
            return Write("create", self.desired.path, self.document, "created")
        deleted = f"{self.desired.name}{drift.DELETED}"
        return Write("create", self.desired.path, self.document, "repaired", (deleted,))

    def _replaced(self, live: dict[str, Any]) -> Write | None:
        self.tolerated = drift.tolerated_terms(live, self.document)
        different = drift.differences(live, self.document)
        if not different:
            return None
        reason = self._reason(live)
        if reason == "repaired":
            self.selector_problem = _selector_problem(different)
        return Write("replace", self.desired.path, drift.repaired(live, self.document), reason, different)

    def _changed_conditions(
        self, conditions: Conditions, carried: Conditions | None
    ) -> tuple[drift.Tampering, ...]:
        """Return ``("conditions",)`` if somebody else changed the fast path's conditions, else nothing.

        Somebody else changed them if the configuration carried the current conditions when it was last read,
        the conditions are still the same, and the configuration does not carry them any more. The fast path
        repairs such a change.
        """
        names = self.desired.names
        self.conditions_differ = not carries(self.document, names, conditions)
        if self.live is None:
            return ()
        if carries(self.live, names, conditions):
            self.carried = conditions
            return ()
        return ("conditions",) if carried == conditions else ()

    def _reason(self, live: dict[str, Any]) -> Reason:
        """Return ``repaired`` if somebody else changed the configuration, else ``updated``."""
        if self._left is None:
            # This process has not seen the configuration yet. The usual reason for a difference is an
            # upgrade.
            return "updated"
        # Conditions belong to the fast path, which writes them between two passes.
        kept = found_conditions(live, self.desired.names)
        expected = {
            **self._left,
            "webhooks": [kept.added_to(without_conditions(webhook)) for webhook in self._left["webhooks"]],
        }
        expected["metadata"] = {
            **self._left["metadata"],
            "annotations": kept.annotations(self.desired.names),
        }
        return "repaired" if drift.differences(live, expected) else "updated"


def _selector_problem(different: tuple[str, ...]) -> str:
    found = [path for path in different if path.endswith(("namespaceSelector", "objectSelector"))]
    return f"somebody changed {', '.join(found)}; it was repaired" if found else ""
