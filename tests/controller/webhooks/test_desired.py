"""The fast path's match conditions are added to webhooks, found there and removed."""

from __future__ import annotations

from typing import Any

import pytest

from controller.webhooks.test_drift import DESIRED, DOCUMENT, OWNER, live
from controller.world import INSTALLATION
from gatekeeper_py.controller.webhooks.desired import (
    NO_CONDITIONS,
    Conditions,
    carries,
    found_conditions,
    with_conditions,
)
from gatekeeper_py.controller.webhooks.drift import bundles, differences, repaired
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import POD_VALIDATION, POLICY_GUARD, mutating
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION

NAMES = DESIRED.names
CONDITIONS = Conditions(expressions={POD_VALIDATION: "false"}, revision="0123456789ab")


def test_a_condition_comes_after_the_webhooks_own() -> None:
    own = {"name": "an-image-changed", "expression": "true"}
    added = CONDITIONS.added_to({"name": POD_VALIDATION, "matchConditions": [own]})
    assert added["matchConditions"] == [own, {"name": FAST_PATH_CONDITION, "expression": "false"}]
    assert CONDITIONS.added_to(added) == added
    assert CONDITIONS.added_to({"name": POLICY_GUARD}) == {"name": POLICY_GUARD}


def test_the_annotation_exists_exactly_with_a_condition() -> None:
    with_condition = DESIRED.document(b"ca", OWNER, CONDITIONS)
    assert with_condition["metadata"]["annotations"] == {FAST_PATH_REVISION: "0123456789ab"}
    assert DOCUMENT["metadata"]["annotations"] == {}
    other = mutating(INSTALLATION.target, WebhookSettings()).document(b"ca", OWNER, CONDITIONS)
    assert other["metadata"]["annotations"] == {}


@pytest.mark.parametrize("desired", [CONDITIONS, NO_CONDITIONS], ids=["with", "without"])
@pytest.mark.parametrize(
    "found",
    [
        pytest.param(CONDITIONS, id="found-with"),
        pytest.param(NO_CONDITIONS, id="found-without"),
        pytest.param(Conditions(expressions={POD_VALIDATION: "true"}, revision="0123456789ab"), id="another"),
        pytest.param(Conditions(expressions={POD_VALIDATION: "false"}, revision="b"), id="another-revision"),
        pytest.param(Conditions(expressions={POLICY_GUARD: "false"}, revision="b"), id="another-webhook"),
    ],
)
def test_conditions_are_added_and_removed(found: Conditions, desired: Conditions) -> None:
    before = live()
    before["webhooks"] = DESIRED.document(b"another", OWNER, found)["webhooks"]
    before["metadata"]["annotations"] |= found.annotations(NAMES)
    assert carries(before, NAMES, desired) is (found == desired)
    assert found_conditions(before, NAMES) == found
    after = with_conditions(before, NAMES, desired)
    assert carries(after, NAMES, desired)
    assert after["metadata"]["annotations"]["theirs"] == "kept"
    assert bundles(after, DESIRED) == (b"another",) * len(NAMES)
    assert differences(after, DESIRED.document(b"another", OWNER, desired)) == ()
    again = repaired(before, DESIRED.document(b"ca", OWNER, desired))
    assert carries(again, NAMES, desired)
    assert again["metadata"]["annotations"]["theirs"] == "kept"


def test_a_webhook_that_is_missing_carries_nothing() -> None:
    without = live()
    del without["webhooks"][0]
    assert carries(without, NAMES, NO_CONDITIONS)
    assert not carries(without, NAMES, CONDITIONS)
    assert not carries(with_conditions(without, NAMES, CONDITIONS), NAMES, CONDITIONS)


def test_webhooks_of_other_products_are_not_changed() -> None:
    foreign: dict[str, Any] = {
        "name": "foreign",
        "matchConditions": [{"name": FAST_PATH_CONDITION, "expression": "true"}],
    }
    shared = live()
    shared["webhooks"].append(foreign)
    assert with_conditions(shared, NAMES, CONDITIONS)["webhooks"][-1] == foreign
    assert found_conditions(shared, NAMES) == NO_CONDITIONS
