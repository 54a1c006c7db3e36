"""The lists that are requested: the core's table, and declared kinds by discovery."""

from __future__ import annotations

from typing import Any

import pytest

from fakecluster import FakeCluster, status
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.inventory.reading import ClusterError
from gatekeeper_py.inventory.resources import BUILT_IN, Resource, discover, kind_text

ARGO = "argoproj.io"


def group(*versions: str, preferred: str | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": "APIGroup", "versions": [{"version": v} for v in versions]}
    if preferred is not None:
        document["preferredVersion"] = {"version": preferred}
    return document


def entry(name: str, kind: str, *, namespaced: bool = True, verbs: Any = ("get", "list")) -> dict[str, Any]:
    verbs = list(verbs) if isinstance(verbs, tuple) else verbs
    return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs}


def test_the_path_lists_all_namespaces_or_one() -> None:
    assert BUILT_IN[0].path(None) == "/api/v1/pods"
    assert BUILT_IN[4].path(None) == "/apis/apps/v1/deployments"
    assert BUILT_IN[0].path("shop") == "/api/v1/namespaces/shop/pods"
    assert BUILT_IN[4].path("shop") == "/apis/apps/v1/namespaces/shop/deployments"


def test_resources_are_named_as_kubectl_names_them() -> None:
    assert str(BUILT_IN[0]) == "pods"
    assert str(BUILT_IN[4]) == "deployments.apps"
    assert kind_text((ARGO, "Workflow")) == "Workflow.argoproj.io"
    assert kind_text(("", "Widget")) == "Widget"


async def test_the_preferred_version_is_read_first(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.documents[f"/apis/{ARGO}"] = group("v1", "v1alpha1", preferred="v1alpha1")
    cluster.documents[f"/apis/{ARGO}/v1alpha1"] = {"resources": [entry("workflows", "Workflow")]}
    found, missing = await discover(api, [(ARGO, "Workflow")])
    assert found == [Resource(group=ARGO, version="v1alpha1", plural="workflows", kind="Workflow")]
    assert not missing
    assert not cluster.queries(f"/apis/{ARGO}/v1")


async def test_a_kind_that_the_preferred_version_lacks_is_found_in_another(
    api: ApiClient, cluster: FakeCluster
) -> None:
    cluster.documents[f"/apis/{ARGO}"] = group("v2", "v1", "v0", preferred="v2")
    cluster.documents[f"/apis/{ARGO}/v2"] = {"resources": [entry("workflows", "Workflow")]}
    cluster.documents[f"/apis/{ARGO}/v0"] = {
        "resources": [entry("workflows", "Workflow"), entry("rollouts", "Rollout", namespaced=False)]
    }
    found, missing = await discover(api, [(ARGO, "Workflow"), (ARGO, "Rollout")])
    assert [(each.kind, each.version, each.namespaced) for each in found] == [
        ("Rollout", "v0", False),
        ("Workflow", "v2", True),
    ]
    assert not missing


async def test_a_kind_that_is_not_served_is_missing(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.documents[f"/apis/{ARGO}"] = group("v1")
    cluster.documents[f"/apis/{ARGO}/v1"] = {
        "resources": [
            entry("workflows/scale", "Workflow"),
            entry("workflows", "Workflow", verbs=("create",)),
            entry("workflows", "Workflow", verbs=None),
            {"kind": "Workflow", "verbs": ["list"]},
            {"name": "workflows", "verbs": ["list"]},
            None,
        ]
    }
    found, missing = await discover(api, [(ARGO, "Workflow"), ("example.com", "Widget")])
    assert not found
    assert missing == [(ARGO, "Workflow"), ("example.com", "Widget")]


async def test_the_core_group_has_one_version(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.documents["/api/v1"] = {"resources": [entry("widgets", "Widget")]}
    found, _ = await discover(api, [("", "Widget")])
    assert found == [Resource(group="", version="v1", plural="widgets", kind="Widget")]


async def test_kinds_of_the_table_are_not_looked_for(api: ApiClient, cluster: FakeCluster) -> None:
    assert await discover(api, [("", "Pod"), ("apps", "Deployment")]) == ([], [])
    assert not cluster.requests


@pytest.mark.parametrize("document", [{}, {"versions": None}, {"versions": [{"version": 1}, "v1"]}])
async def test_a_group_of_another_shape_serves_nothing(
    api: ApiClient, cluster: FakeCluster, document: dict[str, Any]
) -> None:
    cluster.documents[f"/apis/{ARGO}"] = document
    assert await discover(api, [(ARGO, "Workflow")]) == ([], [(ARGO, "Workflow")])


async def test_a_refused_discovery_is_an_error(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.script[f"/apis/{ARGO}"].append(status(403, "no"))
    with pytest.raises(ClusterError, match=r"cannot discover the kinds of argoproj\.io: 403 Forbidden: no"):
        await discover(api, [(ARGO, "Workflow")])
