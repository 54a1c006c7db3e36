"""What is read from an API server: its errors, and the kinds to list."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from fakecluster import Answer, FakeCluster, status
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.inventory.resources import (
    BUILT_IN,
    ClusterError,
    Expired,
    Forbidden,
    NotFound,
    Resource,
    discover,
    kind_text,
    read,
)

ARGO = "argoproj.io"


def group(*versions: str, preferred: str | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": "APIGroup", "versions": [{"version": v} for v in versions]}
    if preferred is not None:
        document["preferredVersion"] = {"version": preferred}
    return document


def entry(name: str, kind: str, *, namespaced: bool = True, verbs: Any = ("get", "list")) -> dict[str, Any]:
    verbs = list(verbs) if isinstance(verbs, tuple) else verbs
    return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs}


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (status(403, "no"), Forbidden, "403 Forbidden: no"),
        (status(401, "Unauthorized"), ClusterError, "401 Unauthorized: the credentials are not accepted"),
        (status(404, "gone"), NotFound, "404 Not Found: gone"),
        (status(410, "old", token="500"), Expired, "410 Gone: old"),
        (status(500, "a\nb"), ClusterError, r"500 Internal Server Error: a\nb"),
        (Answer(200, "[]"), ClusterError, "the answer is not a JSON object; is this an API server?"),
    ],
    ids=["forbidden", "unauthorized", "not-found", "expired", "one-line", "a-list"],
)
async def test_a_bad_answer_is_an_error_that_names_the_request(
    api: ApiClient, cluster: FakeCluster, answer: Answer, error: type[ClusterError], message: str
) -> None:
    cluster.script["/api/v1/pods"].append(answer)
    with pytest.raises(ClusterError) as raised:
        await read(api, "/api/v1/pods", {}, doing="list pods")
    assert type(raised.value) is error
    assert str(raised.value) == f"cannot list pods: {message}"
    assert getattr(raised.value, "token", "500") == "500"


@pytest.mark.parametrize(
    ("answers", "slept", "error"),
    [
        pytest.param([(429, "1"), (503, "3600")], [1.0, 30.0], "", id="retried-after-at-most-30-s"),
        pytest.param([(429, "1")] * 5, [1.0] * 4, "429 Too Many Requests", id="given-up"),
        *(
            pytest.param([(503, after)], [], "503", id=f"final-{after}")
            for after in ("", "soon", "\u0661", "-1")
        ),
    ],
)
async def test_an_overloaded_server_is_retried_when_it_states_a_time(
    api: ApiClient,
    cluster: FakeCluster,
    pauses: list[float],
    answers: list[tuple[int, str]],
    slept: list[float],
    error: str,
) -> None:
    cluster.documents["/api/v1/pods"] = {"kind": "PodList"}
    headers = [{"Retry-After": after} if after else {} for _, after in answers]
    cluster.script["/api/v1/pods"] += [
        Answer(code, "", each) for (code, _), each in zip(answers, headers, strict=True)
    ]
    with pytest.raises(ClusterError, match=error) if error else nullcontext():
        assert await read(api, "/api/v1/pods", {}, doing="list pods") == {"kind": "PodList"}
    assert pauses == slept


def test_one_namespace_is_part_of_the_path() -> None:
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
