"""Objects, Pods and options of an installation are read. A Pod that does not answer is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.world import INSTALLATION, FakeCluster
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.status.reading import (
    PodFacts,
    as_deployed,
    option,
    policy_configmap,
    read_facts,
    renew_before,
)
from gatekeeper_py.controller.webhooks.templates import MUTATING_PATH, VALIDATING_PATH
from gatekeeper_py.process.settings import ConfigMapName

METRICS = """# HELP gatekeeper_py_control_armed 1 while the webhook configurations exist.
gatekeeper_py_control_armed 1.0
gatekeeper_py_control_alarm{what="service"} 0.0
gatekeeper_py_certificate_not_after_timestamp_seconds 1.7e+09
gatekeeper_py_control_armed nonsense
process_open_fds 10.0
"""


class Api(FakeCluster):
    """An API server with a namespace and its Pods."""

    def __init__(self) -> None:
        super().__init__()
        self.objects[INSTALLATION.namespace_path] = {"metadata": {}}

    def forbid(self, path: str) -> None:
        def fail(_verb: str, requested: str) -> bool:
            if requested == path:
                raise ApiError("GET", path, 403, "forbidden", reason="Forbidden")
            return False

        self.fail = fail

    def add_pod(self, app: str, name: str, *, ready: bool = True, deleted: bool = False) -> None:
        metadata = {"name": name, **({"deletionTimestamp": "now"} if deleted else {})}
        conditions = [{"type": "Ready", "status": str(ready)}]
        selector = f"labelSelector=app.kubernetes.io/name%3D{app}"
        pods = self.objects.setdefault(f"{INSTALLATION.namespace_path}/pods?{selector}", {"items": []})
        pods["items"].append({"metadata": metadata, "status": {"conditions": conditions}})

    def answers(self, name: str, path: str, text: str) -> None:
        self.texts[f"{INSTALLATION.namespace_path}/pods/{name}:8080/proxy/{path}"] = text


@pytest.fixture
def api() -> Api:
    return Api()


async def test_nothing_is_read_without_a_namespace(api: Api) -> None:
    api.objects.clear()
    facts = await read_facts(api, api, INSTALLATION)
    assert facts.namespace is None
    assert facts.replicas == ()


async def test_objects_that_exist(api: Api) -> None:
    paths = (INSTALLATION.policy_path, INSTALLATION.secret_path, VALIDATING_PATH, INSTALLATION.owner_path)
    api.objects |= {path: {"path": path} for path in paths}
    facts = await read_facts(api, api, INSTALLATION)
    assert facts.policy == {"path": INSTALLATION.policy_path}
    assert facts.secret == {"path": INSTALLATION.secret_path}
    assert facts.owner == {"path": INSTALLATION.owner_path}
    assert facts.webhooks.keys() == {VALIDATING_PATH}
    assert (facts.service, facts.settings, facts.secret_readable) == (None, None, True)
    assert MUTATING_PATH not in facts.webhooks


async def test_pods_are_read_in_order_except_those_being_deleted(api: Api) -> None:
    for name in ("gk-2", "gk-1"):
        api.add_pod("gk", name, ready=name == "gk-1")
        api.answers(name, "policy", json.dumps({"mode": "enforce"}))
        api.answers(name, "metrics", METRICS)
    api.add_pod("gk", "gk-0", deleted=True)
    api.add_pod("gatekeeper-py-controller", "c-1")
    api.answers("c-1", "metrics", METRICS)
    facts = await read_facts(api, api, INSTALLATION)
    metrics = {
        "gatekeeper_py_control_armed": 1.0,
        'gatekeeper_py_control_alarm{what="service"}': 0.0,
        "gatekeeper_py_certificate_not_after_timestamp_seconds": 1.7e9,
    }
    assert facts.replicas == (
        PodFacts(name="gk-1", ready=True, policy={"mode": "enforce"}, metrics=metrics),
        PodFacts(name="gk-2", ready=False, policy={"mode": "enforce"}, metrics=metrics),
    )
    assert facts.controllers == (PodFacts(name="c-1", ready=True, metrics=metrics),)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        pytest.param(None, "503 Service Unavailable: no endpoints", id="silent"),
        pytest.param("<html>", "/policy is not JSON", id="not-json"),
        pytest.param("[]", "/policy is not a JSON object", id="a-list"),
    ],
)
async def test_an_unreadable_pod_is_reported(api: Api, policy: str | None, problem: str) -> None:
    api.add_pod("gk", "gk-1")
    api.answers("gk-1", "metrics", METRICS)
    if policy is not None:
        api.answers("gk-1", "policy", policy)
    (replica,) = (await read_facts(api, api, INSTALLATION)).replicas
    assert (replica.problem, replica.policy) == (problem, None)


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
PULLING = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
FAILING = {
    "error": "not ready",
    "checks": {"policy": "no policy is loaded", "loop": "ok", "certificate": "x\ny"},
}


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        pytest.param({}, FAILING, r"policy: no policy is loaded; certificate: x\ny", id="failing-checks"),
        pytest.param({}, {"checks": {"policy": "p" * 999}}, f"policy: {'p' * 289}...", id="long"),
        pytest.param({}, {"checks": "odd"}, "", id="odd-checks"),
        pytest.param({}, {"kind": "Status"}, "", id="no-endpoints"),
        pytest.param({}, None, "", id="ready-by-now"),
        pytest.param(
            {"containerStatuses": [PULLING]}, FAILING, "ImagePullBackOff: no such image", id="waits"
        ),
        pytest.param({"containerStatuses": [{"state": {"running": {}}}]}, None, "", id="runs"),
        pytest.param({"conditions": [UNSCHEDULED]}, None, "Unschedulable: 0/3 nodes", id="unscheduled"),
    ],
)
async def test_the_reason_why_a_pod_is_not_ready(
    api: Api, status: dict[str, Any], answer: dict[str, Any] | None, reason: str
) -> None:
    api.add_pod("gk", "gk-1", ready=False)
    api.add_pod("gk", "gk-2")
    pods = api.objects[f"{INSTALLATION.namespace_path}/pods?labelSelector=app.kubernetes.io/name%3Dgk"]
    pods["items"][0]["status"] |= status
    ready = f"{INSTALLATION.namespace_path}/pods/gk-1:8080/proxy/readyz"

    def refuse(_verb: str, path: str) -> bool:
        if path == ready and answer is not None:
            raise ApiError("GET", path, 503, "", document=answer)
        return False

    api.fail = refuse
    for path in ("readyz", "metrics", "policy"):
        api.answers("gk-1", path, "{}")
    unready, ready_one = (await read_facts(api, api, INSTALLATION)).replicas
    assert (unready.unready, ready_one.unready) == (reason, "")


async def test_a_forbidden_secret_is_reported(api: Api) -> None:
    api.forbid(INSTALLATION.secret_path)
    facts = await read_facts(api, api, INSTALLATION)
    assert (facts.secret, facts.secret_readable) == (None, False)


@pytest.mark.parametrize("path", [INSTALLATION.policy_path, INSTALLATION.namespace_path])
async def test_anything_else_that_cannot_be_read_is_an_error(api: Api, path: str) -> None:
    api.forbid(path)
    with pytest.raises(ApiError, match="403"):
        await read_facts(api, api, INSTALLATION)


async def test_the_policy_is_read_from_the_configmap_that_the_servers_use(api: Api) -> None:
    containers = [{"args": ["serve", "--configmap=ns/mine"]}]
    api.objects[INSTALLATION.deployment_path] = {"spec": {"template": {"spec": {"containers": containers}}}}
    mine = {"metadata": {"name": "mine"}}
    api.objects["/api/v1/namespaces/ns/configmaps/mine"] = mine
    facts = await read_facts(api, api, INSTALLATION)
    assert facts.policy == mine


NAMESPACE_VARIABLE = {"name": "HOME_NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
MINE = ConfigMapName("ns", "mine")


def deployment(*arguments: str, **container: Any) -> dict[str, Any]:
    containers = [{"args": ["sidecar", "--configmap=no/no"]}, {"args": list(arguments), **container}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


CONFIGMAPS: dict[str, tuple[dict[str, Any] | None, ConfigMapName | None]] = {
    "with-an-equals-sign": (deployment("serve", "--configmap=ns/mine"), MINE),
    "as-the-next-argument": (deployment("serve", "--configmap", "ns/mine"), MINE),
    "the-last-one-wins": (deployment("serve", "--configmap=ns/a", "--configmap=ns/mine"), MINE),
    "command-and-args": (deployment("--configmap=ns/mine", command=["gatekeeper-py", "serve"]), MINE),
    "the-namespace-in-a-variable": (
        deployment("serve", "--configmap=$(HOME_NS)/mine", env=[NAMESPACE_VARIABLE]),
        MINE,
    ),
    "a-literal-variable": (
        deployment("serve", "--configmap=ns/$(NAME)", env=[{"name": "NAME", "value": "mine"}]),
        MINE,
    ),
    "a-variable-that-is-not-known": (
        deployment(
            "serve",
            "--configmap=ns/$(NAME)",
            env=[{"name": "NAME", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        ),
        None,
    ),
    "an-escaped-reference": (deployment("serve", "--configmap=ns/$$(NAME)"), None),
    "without-a-name": (deployment("serve", "--configmap=ns"), None),
    "not-a-name": (deployment("serve", "--configmap=ns/..%2fsecrets"), None),
    "without-a-value": (deployment("serve", "--configmap"), None),
    "another-source": (deployment("serve", "--policy=/policy.yaml"), None),
    "another-command": (deployment("control", "--configmap=ns/mine"), None),
    "without-a-template": ({"spec": {"replicas": 2}}, None),
    "no-deployment": (None, None),
}


@pytest.mark.parametrize("case", CONFIGMAPS)
def test_the_configmap_of_a_deployment(case: str) -> None:
    found, expected = CONFIGMAPS[case]
    assert policy_configmap(found, "serve", "ns") == expected


def test_two_dollar_signs_are_one() -> None:
    assert option(deployment("serve", "--log=$$(A)$"), "serve", "log", "ns") == "$(A)$"


def test_the_controller_names_the_configmap_if_the_servers_do_not() -> None:
    servers, controller = deployment("serve"), deployment("control", "--configmap=ns/mine")
    assert as_deployed(INSTALLATION, servers, controller) == replace(INSTALLATION, policy=MINE)
    assert as_deployed(INSTALLATION, None, None) == INSTALLATION


def test_the_controller_says_whether_exceptions_are_guarded() -> None:
    controller = deployment("control", "--guard-exceptions")
    assert as_deployed(INSTALLATION, None, controller).exceptions


@pytest.mark.parametrize(
    ("arguments", "days"),
    [
        pytest.param((), 30, id="default"),
        pytest.param(("--renew-before-days=0.5",), 0.5, id="half-a-day"),
        pytest.param(("--renew-before-days=$(DAYS)",), 30, id="a-variable-that-is-not-known"),
        pytest.param(("--renew-before-days=nan",), 30, id="not-a-number"),
        pytest.param(("--renew-before-days=1e300",), 30, id="too-many"),
    ],
)
def test_the_time_of_renewal(arguments: tuple[str, ...], days: float) -> None:
    assert renew_before(deployment("control", *arguments), "ns") == timedelta(days=days)
