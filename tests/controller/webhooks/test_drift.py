"""A live configuration is compared with the desired one, field by field, and repaired."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from controller.world import INSTALLATION, b64
from gatekeeper_py.controller.webhooks.desired import Desired, OwnerReference
from gatekeeper_py.controller.webhooks.drift import (
    MAX_TOLERATED_TERMS,
    TAMPERINGS,
    bundles,
    differences,
    keeping_settings,
    repaired,
    tampering_in,
    tolerated_terms,
)
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import POD_VALIDATION, mutating, validating
from gatekeeper_py.core.names import FAST_PATH_REVISION

OWNER = OwnerReference(api_version="rbac.authorization.k8s.io/v1", kind="ClusterRole", name="gk", uid="1")
DESIRED = validating(INSTALLATION.target, WebhookSettings())
DOCUMENT = DESIRED.document(b"ca", OWNER)
COUNT = len(DESIRED.webhooks)

AKS: list[dict[str, Any]] = [
    {"key": "control-plane", "operator": "NotIn", "values": ["true"]},
    {"key": "control-plane", "operator": "DoesNotExist"},
    {"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]},
]


def live(desired: Desired = DESIRED) -> dict[str, Any]:
    """Return the object that the API server stores, with fields that other writers added."""
    document = copy.deepcopy(desired.document(b"ca", OWNER))
    document["metadata"] |= {
        "resourceVersion": "7",
        "uid": "u",
        "managedFields": [{}],
        "labels": {**document["metadata"]["labels"], "theirs": "kept"},
        "annotations": {"theirs": "kept"},
        "ownerReferences": [{"kind": "Other", "name": "other", "uid": "9"}, OWNER.as_json()],
    }
    return document


Edit = Callable[[dict[str, Any]], object]


def add_term(term: dict[str, Any], webhook: dict[str, Any]) -> None:
    webhook["namespaceSelector"]["matchExpressions"].append(term)


def field(**fields: Any) -> Edit:
    """Return an edit that sets fields of the webhook for Pods."""
    return pods(lambda it: it.update(fields))


def part(name: str, **fields: Any) -> Edit:
    """Return an edit that sets fields of one part of the webhook for Pods."""
    return pods(lambda it: it[name].update(fields))


def pods(edit: Edit) -> Edit:
    """Return an edit of the webhook for Pods."""
    return lambda it: edit(it["webhooks"][0])


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda _it: None, id="metadata-of-others"),
        pytest.param(field(newField={"a": 1}), id="new-field-of-a-webhook"),
        pytest.param(pods(lambda it: it["rules"][0].update(newField="*")), id="new-field-of-a-rule"),
        pytest.param(
            pods(lambda it: it["clientConfig"]["service"].update(newField="x")), id="new-field-of-the-service"
        ),
        pytest.param(
            pods(lambda it: it["matchConditions"][0].update(reason="x")), id="new-field-of-a-condition"
        ),
        pytest.param(part("namespaceSelector", matchLabels={}), id="empty-match-labels"),
        pytest.param(part("objectSelector", matchExpressions=[]), id="empty-match-expressions"),
        *(
            pytest.param(
                pods(partial(add_term, term)),
                id=f"tolerated-{term['key']}-{term['operator']}",
            )
            for term in AKS
        ),
        pytest.param(
            pods(lambda it: it["namespaceSelector"]["matchExpressions"].insert(0, AKS[0])),
            id="tolerated-first",
        ),
    ],
)
def test_fields_that_other_writers_own_are_not_drift(edit: Edit) -> None:
    changed = live()
    edit(changed)
    assert differences(changed, DOCUMENT) == ()


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        pytest.param(lambda it: it["webhooks"].pop(), "webhooks", id="webhook-removed"),
        pytest.param(lambda it: it["webhooks"].append({"name": "foreign"}), "webhooks", id="webhook-added"),
        pytest.param(lambda it: it["webhooks"].reverse(), "webhooks", id="webhooks-in-another-order"),
        pytest.param(lambda it: it.pop("webhooks"), "webhooks", id="no-webhooks"),
        pytest.param(field(failurePolicy="Ignore"), "failurePolicy", id="failure-policy"),
        pytest.param(field(timeoutSeconds=30), "timeoutSeconds", id="timeout"),
        pytest.param(field(matchPolicy="Exact"), "matchPolicy", id="match-policy"),
        pytest.param(
            field(admissionReviewVersions=["v1", "v1beta1"]), "admissionReviewVersions", id="review-versions"
        ),
        pytest.param(field(sideEffects="Unknown"), "sideEffects", id="side-effects"),
        pytest.param(pods(lambda it: it["clientConfig"].pop("caBundle")), "clientConfig", id="no-ca-bundle"),
        pytest.param(field(clientConfig={"url": "https://evil.example"}), "clientConfig", id="url"),
        pytest.param(
            pods(lambda it: it["clientConfig"]["service"].update(path="/")), "clientConfig", id="another-path"
        ),
        pytest.param(
            pods(lambda it: it["clientConfig"]["service"].update(namespace="evil")),
            "clientConfig",
            id="another-namespace",
        ),
        pytest.param(pods(lambda it: it["rules"].append(it["rules"][0])), "rules", id="rule-added"),
        pytest.param(pods(lambda it: it["rules"][0].update(operations=["DELETE"])), "rules", id="operations"),
        pytest.param(pods(lambda it: it["rules"][0].update(resources=["*"])), "rules", id="resources"),
        pytest.param(field(matchConditions=[]), "matchConditions", id="no-conditions"),
        pytest.param(
            pods(lambda it: it["matchConditions"].append({"name": "never", "expression": "false"})),
            "matchConditions",
            id="condition-added",
        ),
        pytest.param(
            pods(lambda it: it["matchConditions"][0].update(expression="false")),
            "matchConditions",
            id="condition-changed",
        ),
        pytest.param(part("objectSelector", matchLabels={"a": "b"}), "objectSelector", id="object-selector"),
        pytest.param(
            # Users set the labels of their objects, so these terms are tolerated on namespaces only.
            part("objectSelector", matchExpressions=[AKS[0]]),
            "objectSelector",
            id="tolerated-term-on-objects",
        ),
        pytest.param(
            part("namespaceSelector", matchLabels={"a": "b"}), "namespaceSelector", id="match-labels"
        ),
        pytest.param(
            pods(lambda it: it["namespaceSelector"]["matchExpressions"][0]["values"].append("shop")),
            "namespaceSelector",
            id="namespace-exempted",
        ),
        *(
            pytest.param(
                pods(partial(add_term, {"key": key, "operator": operator, "values": ["x"]})),
                "namespaceSelector",
                id=f"{key}-{operator}",
            )
            for key, operator in (
                ("control-plane", "Exists"),
                ("control-plane", "In"),
                ("kubernetes.azure.com/managedby", "In"),
                ("team", "NotIn"),
            )
        ),
        pytest.param(
            pods(
                lambda it: it["namespaceSelector"]["matchExpressions"].extend(
                    {"key": "control-plane", "operator": "NotIn", "values": [str(number)]}
                    for number in range(MAX_TOLERATED_TERMS + 1)
                )
            ),
            "namespaceSelector",
            id="too-many-tolerated-terms",
        ),
        pytest.param(lambda it: it["metadata"].pop("labels"), "metadata.labels", id="no-labels"),
        pytest.param(
            lambda it: it["metadata"].pop("ownerReferences"), "metadata.ownerReferences", id="no-owners"
        ),
        pytest.param(
            lambda it: it["metadata"]["ownerReferences"][1].update(uid="0"),
            "metadata.ownerReferences",
            id="owner-created-anew",
        ),
        pytest.param(
            lambda it: it["metadata"]["annotations"].update({"gatekeeper-py/fast-path-revision": "x"}),
            "metadata.annotations",
            id="annotation-of-the-controller",
        ),
    ],
)
def test_drift_is_reported_and_repaired_and_fields_of_other_writers_are_kept(edit: Edit, path: str) -> None:
    drifted = live()
    edit(drifted)
    [found] = differences(drifted, DOCUMENT)
    assert path in found
    after = repaired(drifted, DOCUMENT)
    assert differences(after, DOCUMENT) == ()
    assert [webhook["name"] for webhook in after["webhooks"]] == list(DESIRED.names)
    metadata, before = after["metadata"], drifted["metadata"]
    assert metadata["resourceVersion"] == "7"
    assert metadata["annotations"] == {"theirs": "kept"}
    assert before.get("labels", {}).items() <= metadata["labels"].items()
    owners = [owner["uid"] for owner in metadata["ownerReferences"]]
    assert owners == (["9", "1"] if "ownerReferences" in before else ["1"])


def test_a_repair_keeps_tolerated_terms_and_new_fields() -> None:
    drifted = live()
    webhook = drifted["webhooks"][0]
    webhook["namespaceSelector"]["matchExpressions"] += AKS
    webhook |= {"newField": 1, "failurePolicy": "Ignore"}
    assert tolerated_terms(drifted, DOCUMENT) == len(AKS)
    after = repaired(drifted, DOCUMENT)["webhooks"][0]
    assert after["namespaceSelector"]["matchExpressions"][1:] == AKS
    assert (after["newField"], after["failurePolicy"]) == (1, "Fail")


def test_a_selector_term_from_the_settings_is_ours() -> None:
    desired = validating(
        INSTALLATION.target, WebhookSettings(exempt_namespace_labels=(("control-plane", "true"),))
    )
    document = desired.document(b"ca", OWNER)
    assert differences(live(desired), document) == ()
    assert tolerated_terms(live(desired), document) == 0
    assert differences(live(), document) == tuple(
        f"webhooks[{name}].namespaceSelector" for name in DESIRED.names[:2]
    )


def test_settings_that_are_unknown_are_kept_with_our_own_service() -> None:
    changed = live()
    changed["webhooks"][0] |= {"failurePolicy": "Ignore", "clientConfig": {"url": "https://evil.example"}}
    changed["webhooks"].append({"name": "foreign"})
    kept = keeping_settings(changed, DESIRED)
    assert kept is not None
    assert kept.names == DESIRED.names
    assert kept.webhooks[0]["failurePolicy"] == "Ignore"
    assert kept.webhooks[0]["clientConfig"] == DESIRED.webhooks[0]["clientConfig"]
    assert keeping_settings({"webhooks": [{"name": "foreign"}]}, DESIRED) is None


def test_a_condition_is_drift_even_where_none_was_found() -> None:
    """API servers omit an empty list."""
    found = live()
    found["webhooks"][0].pop("matchConditions")
    kept = keeping_settings(found, DESIRED)
    assert kept is not None
    document = kept.document(b"ca", OWNER)
    assert not any("matchConditions" in path for path in differences(found, document))
    found["webhooks"][0]["matchConditions"] = [{"name": "never", "expression": "false"}]
    assert f"webhooks[{DESIRED.names[0]}].matchConditions" in differences(found, document)


@pytest.mark.parametrize(
    ("webhooks", "expected"),
    [
        pytest.param(DOCUMENT["webhooks"], (b"ca",) * COUNT, id="as-desired"),
        pytest.param(
            [{"name": "foreign", "clientConfig": {"caBundle": b64(b"theirs")}}, *DOCUMENT["webhooks"]],
            (b"ca",) * COUNT,
            id="foreign-webhooks-do-not-count",
        ),
        pytest.param(DOCUMENT["webhooks"][:1], (b"ca",), id="webhook-missing"),
        pytest.param(
            [{"name": POD_VALIDATION, "clientConfig": {"url": "https://x"}}], (b"",), id="no-bundle"
        ),
        pytest.param([{"name": POD_VALIDATION, "clientConfig": {"caBundle": "a"}}], (b"",), id="not-base64"),
        pytest.param(None, (), id="no-webhooks"),
    ],
)
def test_bundles_are_those_of_our_webhooks(webhooks: Any, expected: tuple[bytes, ...]) -> None:
    assert bundles({"webhooks": webhooks}, DESIRED) == expected


def test_the_order_of_reinvocation_is_compared() -> None:
    desired = mutating(INSTALLATION.target, WebhookSettings())
    changed = live(desired)
    changed["webhooks"][0]["reinvocationPolicy"] = "Never"
    [found] = differences(changed, desired.document(b"ca", OWNER))
    assert found.endswith(".reinvocationPolicy")


def test_every_field_that_we_write_has_a_kind() -> None:
    fields = {
        key
        for build in (validating, mutating)
        for webhook in build(INSTALLATION.target, WebhookSettings()).webhooks
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
