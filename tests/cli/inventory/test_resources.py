"""What is read from an API server: its errors, and the kinds to list."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import pytest

from gatekeeper_py.cli.inventory.resources import (
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
from gatekeeper_py.cluster.api import ApiClient
from support.fakecluster import Answer, FakeCluster, status

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


def test_resources_are_named_and_listed_as_in_kubectl() -> None:
    assert [str(BUILT_IN[index]) for index in (0, 4)] == ["pods", "deployments.apps"]
    assert BUILT_IN[0].path("shop") == "/api/v1/namespaces/shop/pods"
    assert BUILT_IN[4].path("shop") == "/apis/apps/v1/namespaces/shop/deployments"
    assert kind_text((ARGO, "Workflow")) == "Workflow.argoproj.io"
    assert kind_text(("", "Widget")) == "Widget"


WORKFLOW: Final = entry("workflows", "Workflow")
ODD_ENTRIES: Final = (
    entry("workflows/scale", "Workflow"),
    entry("workflows", "Workflow", verbs=("create",)),
    entry("workflows", "Workflow", verbs=None),
    {"kind": "Workflow", "verbs": ["list"]},
    {"name": "workflows", "verbs": ["list"]},
    None,
)


@pytest.mark.parametrize(
    ("versions", "entries", "found"),
    [
        pytest.param(
            group("v1", "v2", preferred="v2"),
            {"v2": [WORKFLOW, entry("rollouts", "Rollout", namespaced=False)]},
            {"Rollout": ("v2", False), "Workflow": ("v2", True)},
            id="the-preferred-version-is-read-first",
        ),
        pytest.param(
            group("v2", "v1", "v0", preferred="v2"),
            {"v2": [WORKFLOW], "v0": [WORKFLOW, entry("rollouts", "Rollout")]},
            {"Rollout": ("v0", True), "Workflow": ("v2", True)},
            id="in-another-version",
        ),
        pytest.param(group("v1"), {"v1": ODD_ENTRIES}, {}, id="not-listable"),
        pytest.param({}, {}, {}, id="no-versions"),
        pytest.param({"versions": None}, {}, {}, id="versions-null"),
        pytest.param({"versions": [{"version": 1}, "v1"]}, {}, {}, id="versions-of-another-shape"),
    ],
)
async def test_kinds_are_looked_for_in_the_versions_of_their_group(
    api: ApiClient,
    cluster: FakeCluster,
    versions: dict[str, Any],
    entries: dict[str, Any],
    found: dict[str, tuple[str, bool]],
) -> None:
    cluster.documents[f"/apis/{ARGO}"] = versions
    for version, resources in entries.items():
        cluster.documents[f"/apis/{ARGO}/{version}"] = {"resources": list(resources)}
    kinds = ["Rollout", "Workflow"]
    resources, missing = await discover(api, [(ARGO, kind) for kind in kinds])
    assert {each.kind: (each.version, each.namespaced) for each in resources} == found
    assert missing == [(ARGO, kind) for kind in kinds if kind not in found]
    if "v2" in entries and "v0" not in entries:
        assert not cluster.queries(f"/apis/{ARGO}/v1")


async def test_the_core_group_has_one_version(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.documents["/api/v1"] = {"resources": [entry("widgets", "Widget")]}
    found, _ = await discover(api, [("", "Widget"), ("", "Pod"), ("apps", "Deployment")])
    assert found == [Resource(group="", version="v1", plural="widgets", kind="Widget")]
    assert [path for path, _ in cluster.requests] == ["/api/v1"]  # and none for kinds in the table


async def test_a_refused_discovery_is_an_error(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.script[f"/apis/{ARGO}"].append(status(403, "no"))
    with pytest.raises(ClusterError, match=r"cannot discover the kinds of argoproj\.io: 403 Forbidden: no"):
        await discover(api, [(ARGO, "Workflow")])
