"""Every kind of edit of a configuration is reported as the right kind of tampering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.world import BOTH, INSTALLATION, VALIDATING, World
from gatekeeper_py.controller.configurations import Changes, Wanted
from gatekeeper_py.controller.reconcile import Passes
from gatekeeper_py.controller.webhooks.desired import Conditions
from gatekeeper_py.controller.webhooks.drift import TAMPERINGS, tampering_in
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import POD_VALIDATION, mutating, validating
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION

CONDITIONS = Conditions(expressions={POD_VALIDATION: "true"}, revision="0123456789ab")


def pods(document: dict[str, Any]) -> dict[str, Any]:
    """Return the webhook for Pods of a configuration."""
    found: dict[str, Any] = document["webhooks"][0]
    return found


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "failure-policy": lambda d: pods(d).update(failurePolicy="Ignore"),
    "timeout": lambda d: pods(d).update(timeoutSeconds=1),
    "selector": lambda d: pods(d)["namespaceSelector"]["matchExpressions"].append(
        {"key": "x", "operator": "Exists"}
    ),
    "rules": lambda d: pods(d)["rules"].clear(),
    "conditions": lambda d: pods(d)["matchConditions"].append({"name": "never", "expression": "false"}),
    "client-config": lambda d: pods(d)["clientConfig"]["service"].update(name="other"),
    "webhooks": lambda d: d["webhooks"].pop(),
    "metadata": lambda d: d["metadata"]["labels"].clear(),
    "other": lambda d: pods(d).update(sideEffects="NoneOnDryRun"),
}


async def after(edit: Callable[[World], object], wanted: Wanted = BOTH) -> Changes:
    """Return what a pass wrote after somebody edited an armed installation."""
    world = World()
    process = world.process()
    await world.converge(process, wanted=wanted)
    edit(world)
    changes = (await world.reconcile(process, wanted)).changes
    again = (await world.reconcile(process, wanted)).changes
    assert again.tampering == ()
    return changes


@pytest.mark.parametrize("what", [*EDITS, "deleted"])
async def test_an_edit_is_counted_under_what_was_changed(what: str) -> None:
    def edit(world: World) -> None:
        if what == "deleted":
            del world.cluster.objects[VALIDATING]
        else:
            world.cluster.edit(VALIDATING, EDITS[what])

    assert (await after(edit)).tampering == (what,)


async def test_several_edits_are_counted_under_each_kind() -> None:
    def edit(document: dict[str, Any]) -> None:
        pods(document)["clientConfig"].pop("caBundle")
        pods(document)["objectSelector"] = {"matchLabels": {"x": "y"}}
        pods(document)["matchPolicy"] = "Exact"

    changes = await after(lambda world: world.cluster.edit(VALIDATING, edit))
    assert sorted(changes.tampering) == ["client-config", "rules", "selector"]


async def test_a_label_of_another_writer_is_not_tampering() -> None:
    changes = await after(
        lambda world: world.cluster.edit(VALIDATING, lambda d: d["metadata"]["labels"].update(x="y"))
    )
    assert changes.tampering == ()


async def with_conditions() -> tuple[World, Passes, Wanted]:
    """Return an armed installation whose fast path has ``CONDITIONS``, and wrote them."""
    wanted = Wanted(mutates=True, conditions=CONDITIONS)
    world = World()
    process = world.process()
    await world.converge(process, wanted=wanted)
    world.put_conditions(CONDITIONS)
    return world, process, wanted


async def test_edited_conditions_of_the_fast_path_are_tampering() -> None:
    world, process, wanted = await with_conditions()
    assert (await world.reconcile(process, wanted)).changes.tampering == ()

    def edit(document: dict[str, Any]) -> None:
        for each in pods(document)["matchConditions"]:
            if each["name"] == FAST_PATH_CONDITION:
                each["expression"] = "false"

    world.cluster.edit(VALIDATING, edit)
    changes = (await world.reconcile(process, wanted)).changes
    assert changes.tampering == ("conditions",)
    assert changes.conditions_differ
    assert (await world.reconcile(process, wanted)).changes.tampering == ()


async def test_a_webhook_that_is_removed_with_its_conditions_is_one_change() -> None:
    world, process, wanted = await with_conditions()
    await world.reconcile(process, wanted)
    world.cluster.edit(VALIDATING, lambda document: document["webhooks"].pop(0))
    assert (await world.reconcile(process, wanted)).changes.tampering == ("webhooks",)
    world.put_conditions(CONDITIONS)
    assert (await world.reconcile(process, wanted)).changes.tampering == ()


async def test_conditions_of_a_new_policy_are_not_tampering() -> None:
    newer = Conditions(expressions={POD_VALIDATION: "false"}, revision="fedcba987654")
    world, process, wanted = await with_conditions()
    await world.reconcile(process, wanted)
    wanted = replace(wanted, conditions=newer)
    assert (await world.reconcile(process, wanted)).changes.tampering == ()
    world.put_conditions(newer)
    assert (await world.reconcile(process, wanted)).changes.tampering == ()


def test_every_field_that_we_write_has_a_kind() -> None:
    target = INSTALLATION.target
    fields = {
        key
        for build in (validating, mutating)
        for webhook in build(target, WebhookSettings()).webhooks
        for key in webhook
    }
    kinds = {field: tampering_in([f"webhooks[{POD_VALIDATION}].{field}"])[0] for field in fields - {"name"}}
    assert {field for field, kind in kinds.items() if kind == "other"} == {
        "sideEffects",
        "admissionReviewVersions",
        "reinvocationPolicy",
    }
    assert tampering_in([f"metadata.annotations[{FAST_PATH_REVISION}]"]) == ("conditions",)
    assert set(kinds.values()) <= set(TAMPERINGS)
