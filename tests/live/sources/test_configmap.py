"""The policy in a ConfigMap is delivered after each change of its content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.following import PATIENT, connecting
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.live.sources.configmap import ConfigMapSource
from gatekeeper_py.process.settings import ConfigMapName
from support.fakeapi import NAME, NAMESPACE, FakeApi, answer, configmap, event, listed, stream, until
from support.recording import RecordingLog

NAMED = ConfigMapName(NAMESPACE, NAME)


class Followed:
    """A running source and its deliveries so far."""

    def __init__(self, api: FakeApi, directory: Path) -> None:
        self.log = RecordingLog()
        self.synced = 0
        self.deliveries: list[Delivery] = []
        self.source = ConfigMapSource(
            NAMED,
            connecting(api, directory),
            log=self.log,
            on_synced=self._on_synced,
            timing=replace(PATIENT, first_pause=0.01),
        )

    async def run(self) -> None:
        async for delivery in self.source.deliveries():
            self.deliveries.append(delivery)

    @property
    def last(self) -> Delivery:
        return self.deliveries[-1]

    @property
    def texts(self) -> list[str | None]:
        return [delivery.text for delivery in self.deliveries]

    def _on_synced(self) -> None:
        self.synced += 1


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as fake:
        fake.apply("first", mode="warn")
        yield fake


@pytest.fixture
async def followed(api: FakeApi, tmp_path: Path) -> AsyncIterator[Followed]:
    """Follow the fake's ConfigMap. The source makes its first request when the test waits."""
    followed = Followed(api, tmp_path)
    task = asyncio.create_task(followed.run())
    yield followed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_change_is_delivered_and_no_other_event(api: FakeApi, followed: Followed) -> None:
    await until(lambda: api.watching)
    api.apply("first", mode="warn", labels={"team": "web"})
    api.bookmark()
    api.apply("second", mode="warn")
    api.apply("second", mode="mutate")
    await until(lambda: len(followed.deliveries) == 3)

    assert followed.deliveries == [
        Delivery(text="first", mode="warn", resource_version="101"),
        Delivery(text="second", mode="warn", resource_version="104"),
        Delivery(text="second", mode="mutate", resource_version="105"),
    ]
    assert followed.synced == 5
    assert followed.log.lines == [
        ("info", "policy_source_synced", {"source": "gatekeeper/policy", "resource_version": "101"})
    ]


async def test_absent_created_and_deleted(api: FakeApi, followed: Followed) -> None:
    api.object = None
    await until(lambda: api.watching)
    assert followed.last.problem == "ConfigMap gatekeeper/policy does not exist"
    assert followed.synced == 1

    api.apply("created")
    api.delete()
    await until(lambda: followed.texts == [None, "created", None])
    assert followed.last.problem == "ConfigMap gatekeeper/policy was deleted"


async def test_only_the_named_configmap_is_trusted(api: FakeApi, followed: Followed) -> None:
    other = configmap({"policy.yaml": "evil"}, 100, name="other")
    elsewhere = configmap({"policy.yaml": "evil"}, 100, namespace="default")
    assert api.object is not None
    api.lists.append(answer(200, listed([other, elsewhere, api.object], 101)))
    deleted = event("DELETED", elsewhere)
    api.watches.append(stream(event("MODIFIED", other), event("ADDED", elsewhere), deleted, then="hang"))
    await until(lambda: followed.synced == 4)

    assert followed.texts == ["first"]


async def test_a_failure_is_logged_and_not_delivered(api: FakeApi, followed: Followed) -> None:
    forbidden = "the API server answered 403 Forbidden: does the Role allow get, list and watch of this"
    api.lists.extend([answer(403), answer(500)])
    await until(lambda: api.watching)

    lines = [(level, keys["problem"]) for level, _, keys in followed.log.lines[:2]]
    assert lines == [
        ("warning", f"{forbidden} ConfigMap?"),
        ("warning", "the API server answered 500 Internal Server Error"),
    ]
    assert 0.01 <= followed.log.lines[0][2]["retry_seconds"] <= 0.02
    assert followed.texts == ["first"]


async def test_a_bug_is_logged_with_its_traceback_and_does_not_end_the_source(
    api: FakeApi, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_item: dict[str, Any]) -> bool:
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr(followed.source, "_is_named", broken)
    await until(lambda: followed.texts == ["first"])

    level, name, keys = followed.log.lines[0]
    assert (level, name) == ("error", "policy_source_failed")
    assert keys["problem"] == "unexpected ZeroDivisionError"
    assert isinstance(keys["exc_info"], ZeroDivisionError)


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        pytest.param({"data": {"mode": "warn"}}, ["data.policy.yaml"], id="mode-alone"),
        pytest.param({"data": None}, ["data.policy.yaml"], id="no-data"),
        pytest.param(
            {"data": {}, "binaryData": {"policy.yaml": "//4="}},
            ["data.policy.yaml", "binaryData"],
            id="binary",
        ),
        pytest.param(
            {"data": {"policy.yml": "a", "policy.yaml.bak": "b"}},
            ["data.policy.yaml", "data.policy.yml", "data.policy.yaml.bak"],
            id="renamed",
        ),
        pytest.param({"data": {"policy.yaml": "x" * (2**20 + 1)}}, ["data.policy.yaml"], id="too-long"),
    ],
)
async def test_a_text_that_is_missing_is_reported(
    api: FakeApi, followed: Followed, fields: dict[str, Any], places: list[str]
) -> None:
    assert api.object is not None
    api.object.update(fields)

    await until(lambda: followed.deliveries)

    assert followed.last.problem.startswith("ConfigMap gatekeeper/policy: line 1, data.policy.yaml: ")
    assert [finding.path for finding in followed.last.findings] == places
    assert followed.last.text is None


async def test_a_text_beside_other_keys_is_delivered_with_the_problem(
    api: FakeApi, followed: Followed
) -> None:
    assert api.object is not None
    data = {"policy.yaml": "a", "mode": "audit", "x": ""}
    api.object.update({"data": data, "binaryData": {"y": "AA=="}})

    await until(lambda: followed.deliveries)

    assert (followed.last.text, followed.last.mode) == ("a", None)
    assert [finding.path for finding in followed.last.findings] == ["mode", "data.x", "binaryData"]
    assert followed.last.problem != ""
