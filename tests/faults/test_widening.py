"""No content of a request makes a real ``serve`` approve more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

import pytest

from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import Server, ready_server

POLICY: Final = policy_text(
    "namespaces: [{names: [dev-*], mode: warn}]\n",
    allow="[registry.corp.io, {image: quay.io, namespaces: [bank]}]",
)
IMAGE: Final = "quay.io/somebody/app:1"
WIDE: Final = policy_text(allow="[quay.io]", mode="warn")
REFUSED: Final = review(pod(IMAGE))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that approves the image in namespace ``bank`` and only warns about it in ``dev-…``."""
    with ready_server(tmp_path_factory.mktemp("widening"), POLICY) as server:
        yield server


def _allowed(server: Server, document: dict[str, Any], path: str = "/validate-image") -> bool:
    status, body = server.post(document, path)
    assert status == 200
    return check_response(body, document, "validate").allowed


def test_the_verdict_depends_on_the_namespace(server: Server) -> None:
    """If the verdict did not depend on it, the tests below would pass for another reason."""
    allowed = [_allowed(server, review(pod(IMAGE), namespace=name)) for name in ("shop", "bank", "dev-1")]
    assert allowed == [False, True, True]


MISLEADING = {"gatekeeper-py/mode": "warn", "gatekeeper-py/skip": "true", "gatekeeper-py/namespace": "bank"}

WIDENING: list[Any] = [
    pytest.param({"object.metadata.namespace": "bank"}, id="namespace-of-the-object"),
    pytest.param({"object.metadata.namespace": "dev-1"}, id="namespace-with-a-milder-mode"),
    pytest.param({"object.metadata.labels": MISLEADING}, id="labels"),
    pytest.param({"object.metadata.annotations": MISLEADING}, id="annotations"),
    pytest.param({"object.metadata.name": "bank", "name": "bank"}, id="name"),
    pytest.param({"object.metadata.generateName": "bank/"}, id="name-to-be-made"),
    pytest.param(
        {"object.metadata.ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web"}]},
        id="an-owner",
    ),
    pytest.param({"object.metadata.deletionTimestamp": "2026-01-01T00:00:00Z"}, id="deleted-before-it-is"),
    pytest.param({"object.data": {"policy.yaml": WIDE, "mode": "warn"}}, id="a-policy-in-the-object"),
    pytest.param({"object.mode": "warn", "object.allow": ["quay.io"]}, id="fields-of-a-policy-in-the-object"),
    pytest.param({"object.spec.namespace": "bank", "object.spec.mode": "warn"}, id="fields-in-the-spec"),
    pytest.param({"object.spec.serviceAccountName": "bank"}, id="a-service-account"),
    pytest.param({"object.spec.containers.0.imagePullPolicy": "Never"}, id="an-image-that-is-not-pulled"),
    pytest.param({"object.status": {"phase": "Succeeded"}}, id="a-pod-that-has-ended"),
    pytest.param({"oldObject": REFUSED["request"]["object"]}, id="an-old-object-of-what-is-created"),
    pytest.param({"dryRun": True}, id="a-dry-run"),
    pytest.param(
        {"userInfo": {"username": "system:admin", "groups": ["system:masters"]}}, id="an-administrator"
    ),
    pytest.param(
        {"userInfo": {"username": "system:serviceaccount:kube-system:admin"}}, id="a-kube-system-account"
    ),
    pytest.param({"options": {"fieldManager": "gatekeeper-py", "dryRun": ["All"]}}, id="options"),
    pytest.param({"mode": "warn", "policy": WIDE, "namespaces": ["bank"]}, id="fields-of-the-request"),
    pytest.param({"requestKind": {"group": "", "version": "v1", "kind": "Secret"}}, id="the-requested-kind"),
]


@pytest.mark.parametrize("changes", WIDENING)
def test_nothing_in_a_request_widens_the_policy(server: Server, changes: dict[str, Any]) -> None:
    """``changes`` are fields of the request, by path."""
    document = deepcopy(REFUSED)
    for path, value in changes.items():
        *parents, last = path.split(".")
        holder = document["request"]
        for each in parents:
            holder = holder[int(each)] if isinstance(holder, list) else holder[each]
        holder[last] = value
    assert not _allowed(server, document)


@pytest.mark.parametrize("query", ["namespace=bank", "mode=warn", "dryRun=All", "namespace=dev-1&timeout=5s"])
def test_nothing_in_the_query_widens_the_policy(server: Server, query: str) -> None:
    assert not _allowed(server, REFUSED, f"/validate-image?{query}")


def test_a_reviewed_policy_is_not_loaded(server: Server) -> None:
    """The server answers reviews of ConfigMaps in any namespace, and none of them changes its policy."""
    configmap = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "gatekeeper-py-policy", "namespace": "shop"},
        "data": {"policy.yaml": WIDE},
    }
    status, body = server.post(review(configmap), "/validate-policy")
    assert (status, json.loads(body)["response"]["allowed"]) == (200, True)
    assert not _allowed(server, REFUSED)
