"""Options are read from a Deployment as the kubelet and the command line read them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from control.world import INSTALLATION
from gatekeeper_py.control.status.arguments import as_deployed, option, policy_configmap, renew_before
from gatekeeper_py.settings import ConfigMapName

NAMESPACE_VARIABLE = {"name": "HOME_NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
MINE = ConfigMapName("ns", "mine")


def deployment(*arguments: str, **container: Any) -> dict[str, Any]:
    containers = [{"args": ["sidecar", "--configmap=no/no"]}, {"args": list(arguments), **container}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(deployment("serve", "--configmap=ns/mine"), MINE, id="with-an-equals-sign"),
        pytest.param(deployment("serve", "--configmap", "ns/mine"), MINE, id="as-the-next-argument"),
        pytest.param(
            deployment("serve", "--configmap=ns/a", "--configmap=ns/mine"), MINE, id="the-last-one-wins"
        ),
        pytest.param(
            deployment("--configmap=ns/mine", command=["gatekeeper-py", "serve"]), MINE, id="command-and-args"
        ),
        pytest.param(
            deployment("serve", "--configmap=$(HOME_NS)/mine", env=[NAMESPACE_VARIABLE]),
            MINE,
            id="the-namespace-in-a-variable",
        ),
        pytest.param(
            deployment("serve", "--configmap=ns/$(NAME)", env=[{"name": "NAME", "value": "mine"}]),
            MINE,
            id="a-literal-variable",
        ),
        pytest.param(
            deployment(
                "serve",
                "--configmap=ns/$(NAME)",
                env=[{"name": "NAME", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            ),
            None,
            id="a-variable-that-is-not-known",
        ),
        pytest.param(deployment("serve", "--configmap=ns/$$(NAME)"), None, id="an-escaped-reference"),
        pytest.param(deployment("serve", "--configmap=ns"), None, id="without-a-name"),
        pytest.param(deployment("serve", "--configmap=ns/..%2fsecrets"), None, id="not-a-name"),
        pytest.param(deployment("serve", "--configmap"), None, id="without-a-value"),
        pytest.param(deployment("serve", "--policy=/policy.yaml"), None, id="another-source"),
        pytest.param(deployment("control", "--configmap=ns/mine"), None, id="another-command"),
        pytest.param({"spec": {"replicas": 2}}, None, id="without-a-template"),
        pytest.param(None, None, id="no-deployment"),
    ],
)
def test_the_configmap_of_a_deployment(found: dict[str, Any] | None, expected: ConfigMapName | None) -> None:
    assert policy_configmap(found, "serve", "ns") == expected


def test_two_dollar_signs_are_one() -> None:
    assert option(deployment("serve", "--log=$$(A)$"), "serve", "log", "ns") == "$(A)$"


def test_the_controller_names_the_configmap_if_the_servers_do_not() -> None:
    servers, controller = deployment("serve"), deployment("control", "--configmap=ns/mine")
    assert as_deployed(INSTALLATION, servers, controller) == replace(INSTALLATION, policy=MINE)
    assert as_deployed(INSTALLATION, None, None) == INSTALLATION


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
