"""The ConfigMaps with exceptions are delivered from all namespaces, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from cluster.following import PATIENT, connecting
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.configmap import ExceptionsText
from gatekeeper_py.live.sources.exceptions import ExceptionsSource
from support.fakeapi import FakeApi, answer, event, stream, until
from support.recording import RecordingLog

OWN = "gatekeeper-py"
TEAM = DocumentKey("namespace", "team-a")
INSTALLATION = DocumentKey("installation", OWN)
BREAK_GLASS = DocumentKey("break-glass", OWN)


def configmap(namespace: str, name: str = EXCEPTIONS_CONFIGMAP, text: Any = "text", **more: Any) -> Any:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "101"}
    return {"metadata": metadata, "data": {"exceptions.yaml": text}, **more}


class Followed:
    """A running source, and what it delivers."""

    def __init__(
        self, api: FakeApi, directory: Path, granted: frozenset[Source] = frozenset(SOURCES)
    ) -> None:
        self.delivered: list[ExceptionsText] = []
        self.complete: dict[frozenset[Source], frozenset[DocumentKey]] = {}
        self.forbidden: list[frozenset[Source]] = []
        self.log = RecordingLog()
        timing = replace(PATIENT, first_pause=0.01)
        source = ExceptionsSource(OWN, connecting(api, directory), self, log=self.log, timing=timing)
        self.task = asyncio.create_task(source.read(granted))

    async def deliver(self, delivered: ExceptionsText) -> None:
        self.delivered.append(delivered)

    def listed(self, sources: frozenset[Source], keys: frozenset[DocumentKey]) -> None:
        self.complete[sources] = keys

    def unreadable(self, sources: frozenset[Source]) -> None:
        self.forbidden.append(sources)


class Cluster:
    """The ConfigMaps of a fake API server by the name in the selector, and the requested paths."""

    def __init__(self, api: FakeApi) -> None:
        self.objects: dict[str, list[Any]] = {EXCEPTIONS_CONFIGMAP: [], BREAK_GLASS_CONFIGMAP: []}
        self.events: dict[str, list[bytes]] = {EXCEPTIONS_CONFIGMAP: [], BREAK_GLASS_CONFIGMAP: []}
        api.always = {"list": self._list, "watch": self._watch}

    async def _list(self, request: web.BaseRequest) -> web.StreamResponse:
        body = {"metadata": {"resourceVersion": "101"}, "items": self.objects[self._name(request)]}
        return web.Response(body=orjson.dumps(body))

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        return await stream(*self.events[self._name(request)], then="hang")(request)

    def _name(self, request: web.BaseRequest) -> str:
        return request.query["fieldSelector"].removeprefix("metadata.name=")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as fake:
        yield fake


@pytest.fixture
async def cluster(api: FakeApi) -> Cluster:
    return Cluster(api)


Follow = Callable[..., Awaitable[Followed]]


@pytest.fixture
async def follow(api: FakeApi, tmp_path: Path) -> AsyncIterator[Follow]:
    """Return a function that starts a source, and waits until every list and its watch were requested."""
    running: list[Followed] = []

    async def follow(**options: Any) -> Followed:
        followed = Followed(api, tmp_path, **options)
        running.append(followed)
        await until(lambda: api.count("watch") >= len(followed.complete) > 0)
        return followed

    yield follow
    for followed in running:
        followed.task.cancel()
        await asyncio.gather(followed.task, return_exceptions=True)


async def test_each_document_is_delivered_by_its_source(
    api: FakeApi, cluster: Cluster, follow: Follow
) -> None:
    cluster.objects[EXCEPTIONS_CONFIGMAP] = [configmap("team-a"), configmap(OWN)]
    cluster.objects[BREAK_GLASS_CONFIGMAP] = [configmap(OWN, BREAK_GLASS_CONFIGMAP)]
    followed = await follow()
    await until(lambda: len(followed.complete) == 3)
    assert {each.key for each in followed.delivered} == {TEAM, INSTALLATION, BREAK_GLASS}
    assert {each.text for each in followed.delivered} == {"text"}
    assert followed.complete == {
        frozenset({"namespace"}): frozenset({TEAM}),
        frozenset({"installation"}): frozenset({INSTALLATION}),
        frozenset({"break-glass"}): frozenset({BREAK_GLASS}),
    }
    assert {(each.path, each.query["fieldSelector"]) for each in api.requests} == {
        ("/api/v1/configmaps", f"metadata.name={EXCEPTIONS_CONFIGMAP}"),
        (f"/api/v1/namespaces/{OWN}/configmaps", f"metadata.name={EXCEPTIONS_CONFIGMAP}"),
        (f"/api/v1/namespaces/{OWN}/configmaps", f"metadata.name={BREAK_GLASS_CONFIGMAP}"),
    }
    assert len(followed.log.named("exceptions_synced")) == 3


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(configmap("team-a", "another"), id="another-name"),
        pytest.param(configmap("team-a", BREAK_GLASS_CONFIGMAP), id="break-glass-of-a-team"),
        pytest.param({"metadata": {"name": EXCEPTIONS_CONFIGMAP}}, id="no-namespace"),
        pytest.param({"metadata": None}, id="no-metadata"),
    ],
)
async def test_no_other_object_is_delivered(cluster: Cluster, follow: Follow, strange: Any) -> None:
    cluster.objects[EXCEPTIONS_CONFIGMAP] = [strange]
    followed = await follow()
    assert followed.delivered == []


@pytest.mark.parametrize(
    ("granted", "delivered", "requested"),
    [
        (frozenset({"namespace"}), {TEAM}, {EXCEPTIONS_CONFIGMAP}),
        (frozenset({"installation"}), {INSTALLATION}, {EXCEPTIONS_CONFIGMAP}),
        (frozenset({"break-glass"}), {BREAK_GLASS}, {BREAK_GLASS_CONFIGMAP}),
    ],
)
async def test_only_documents_with_a_grant_are_delivered(
    api: FakeApi,
    cluster: Cluster,
    follow: Follow,
    granted: frozenset[Source],
    delivered: set[DocumentKey],
    requested: set[str],
) -> None:
    cluster.objects[EXCEPTIONS_CONFIGMAP] = [configmap("team-a"), configmap(OWN)]
    cluster.objects[BREAK_GLASS_CONFIGMAP] = [configmap(OWN, BREAK_GLASS_CONFIGMAP)]
    followed = await follow(granted=granted)
    assert {each.key for each in followed.delivered} == delivered
    names = {each.query["fieldSelector"].removeprefix("metadata.name=") for each in api.requests}
    assert names == requested


async def test_changes_and_removals_are_delivered(cluster: Cluster, follow: Follow) -> None:
    cluster.events[EXCEPTIONS_CONFIGMAP] = [
        event("ADDED", configmap("team-a")),
        event("MODIFIED", configmap("team-a", text="changed")),
        event("DELETED", configmap("team-a", text="changed")),
    ]
    followed = await follow()
    await until(lambda: len(followed.delivered) == 3)
    assert [each.text for each in followed.delivered] == ["text", "changed", None]
    assert not any(each.findings for each in followed.delivered)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        pytest.param({"data": None}, "missing-field", id="empty"),
        pytest.param({"data": {"exceptions.yaml": "x" * 65_537}}, "too-long", id="too-long"),
        pytest.param({"data": {"exceptions.yaml": "x", "more": "y"}}, "unknown-key", id="another-key"),
        pytest.param({"binaryData": {"exceptions.yaml": "eA=="}}, "binary-data", id="binary"),
    ],
)
async def test_the_errors_of_a_configmap_are_delivered(
    cluster: Cluster, follow: Follow, bad: dict[str, Any], code: str
) -> None:
    cluster.objects[EXCEPTIONS_CONFIGMAP] = [configmap("team-a", **bad)]
    followed = await follow()
    [delivered] = followed.delivered
    assert [finding.code for finding in delivered.findings] == [code]


async def test_missing_rights_are_reported_and_tried_again(
    api: FakeApi, cluster: Cluster, follow: Follow
) -> None:
    cluster.objects[EXCEPTIONS_CONFIGMAP] = [configmap("team-a")]
    api.lists.append(answer(403))
    followed = await follow(granted=frozenset({"namespace"}))
    assert followed.forbidden == [frozenset({"namespace"})]
    assert [each.key for each in followed.delivered] == [TEAM]
    [unread] = followed.log.named("exceptions_unread")
    assert "exceptions.enabled" in unread["problem"]


@pytest.mark.usefixtures("cluster")
async def test_a_failure_is_not_a_lack_of_rights(api: FakeApi, follow: Follow) -> None:
    api.lists.append(answer(503))
    followed = await follow(granted=frozenset({"namespace"}))
    assert followed.forbidden == []
    assert len(followed.log.named("exceptions_unread")) == 1
