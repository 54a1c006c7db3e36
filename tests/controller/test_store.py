"""The store shows what the watches of an installation saw last, and asks the API server for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from cluster.following import PATIENT, connecting
from controller.world import INSTALLATION, FakeCluster
from gatekeeper_py.controller.store import Store
from support.fakeapi import FakeApi, answer, event, stream, until

SECRET = INSTALLATION.secret_path
SLICES = INSTALLATION.slices_path


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": "101"}, **more}


SECRET_1, SECRET_2 = (named("gk-tls", data={"a": version}) for version in "12")
SLICE_1, SLICE_2 = named("gk-1"), named("gk-2")


class Followed:
    """A running store over a fake API server, which answers each list and watch as it is told to."""

    def __init__(self, api: FakeApi, directory: Path) -> None:
        self.api = api
        self.direct = FakeCluster()
        self.changes = 0
        self.lists: dict[str, Any] = {}
        self.events: dict[str, list[bytes]] = {}
        api.always = {"list": self._list, "watch": self._watch}
        self.store = Store(
            self.direct,
            connecting(api, directory),
            [each for each in INSTALLATION.watched() if each.path in {SECRET, SLICES}],
            on_changed=self._changed,
            timing=replace(PATIENT, first_pause=0.01),
        )
        self.task = asyncio.create_task(self.store.run())

    def _changed(self) -> None:
        self.changes += 1

    def _path(self, request: web.BaseRequest) -> str:
        if "labelSelector" in request.query:
            assert request.query["labelSelector"] == "kubernetes.io/service-name=gk"
            return SLICES
        assert request.query["fieldSelector"] == "metadata.name=gk-tls"
        return SECRET

    async def _list(self, request: web.BaseRequest) -> web.StreamResponse:
        items = self.lists.get(self._path(request), [])
        if items is None:
            return await answer(403)(request)
        return web.Response(body=orjson.dumps({"metadata": {"resourceVersion": "101"}, "items": items}))

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        return await stream(*self.events.pop(self._path(request), []), then="hang")(request)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as fake:
        yield fake


@pytest.fixture
async def followed(api: FakeApi, tmp_path: Path) -> AsyncIterator[Followed]:
    found = Followed(api, tmp_path)
    yield found
    found.task.cancel()
    await asyncio.gather(found.task, return_exceptions=True)


@pytest.mark.parametrize(
    ("listed", "events", "shown"),
    [
        pytest.param([], [], None, id="missing"),
        pytest.param([SECRET_1], [], SECRET_1, id="listed"),
        pytest.param([], [event("ADDED", SECRET_1)], SECRET_1, id="added"),
        pytest.param([SECRET_1], [event("MODIFIED", SECRET_2)], SECRET_2, id="modified"),
        pytest.param([SECRET_1], [event("DELETED", SECRET_1)], None, id="deleted"),
        pytest.param([named("other")], [event("ADDED", named("other"))], None, id="another-name"),
    ],
)
async def test_an_object_is_shown_as_its_watch_saw_it_last(
    followed: Followed, listed: list[Any], events: list[bytes], shown: Any
) -> None:
    followed.lists[SECRET] = listed
    followed.events[SECRET] = events
    await until(lambda: followed.changes >= 2 + len(events))
    assert await followed.store.get(SECRET) == shown
    assert followed.direct.requests == []


async def test_an_item_without_a_name_is_not_shown(followed: Followed) -> None:
    followed.lists[SLICES] = [{"metadata": "x"}, {}, SLICE_1]
    await until(lambda: followed.changes >= 2)
    assert await followed.store.get(SLICES) == {"items": [SLICE_1]}


async def test_a_list_is_shown_with_all_its_objects(followed: Followed) -> None:
    followed.lists[SLICES] = [SLICE_1]
    followed.events[SLICES] = [event("ADDED", SLICE_2), event("DELETED", SLICE_1)]
    await until(lambda: followed.changes >= 4)
    assert await followed.store.get(SLICES) == {"items": [SLICE_2]}


async def test_what_no_watch_shows_is_read_from_the_api_server(followed: Followed) -> None:
    followed.lists[SECRET] = None
    followed.direct.put(SECRET, SECRET_2)
    for path in (SECRET, INSTALLATION.policy_path):
        assert await followed.store.get(path) == followed.direct.objects.get(path)
    await until(lambda: followed.changes >= 2)
    followed.direct.requests.clear()
    found = await followed.store.get(SECRET)
    assert found is not None
    assert found["data"] == {"a": "2"}
    assert followed.direct.requests == [("get", SECRET)]


async def test_a_watch_that_ended_shows_nothing(followed: Followed) -> None:
    followed.lists[SECRET] = [SECRET_1]
    await until(lambda: followed.changes >= 2)
    assert await followed.store.get(SECRET) == SECRET_1
    followed.changes = 0
    await followed.api.stop()
    await until(lambda: followed.changes >= 2)
    assert await followed.store.get(SECRET) is None
    assert followed.direct.requests == [("get", SECRET)]
