"""The configurations are deleted and not created again, with and without a controller."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller.world import FakeCluster
from gatekeeper_py.controller.removal import GONE_SECONDS, REMOVAL_SECONDS, remove
from support.recording import RecordingLog

OWNER, VALIDATING, MUTATING = "/owner", "/validating", "/mutating"


class Cluster(FakeCluster):
    """A cluster with a clock that each sleep advances. ``controller`` runs after each sleep."""

    def __init__(self, *paths: str, controller: Callable[[Cluster], None] = lambda _: None) -> None:
        super().__init__()
        for path in paths:
            self.put(path, {})
        self.failures = 0
        self.now = 0.0
        self.stuck = False
        self.fail = self._fails
        self._controller = controller

    def _fails(self, verb: str, _path: str) -> bool:
        self.failures -= verb == "get"
        return self.failures >= 0

    async def delete(self, path: str) -> None:
        gone = dict(self.objects)
        await super().delete(path)
        if self.stuck:
            self.objects = gone

    @property
    def deleted(self) -> list[str]:
        return [path for _, path in self.writes()]

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._controller(self)

    async def remove(self, log: RecordingLog | None = None) -> bool:
        return await remove(
            self,
            OWNER,
            (VALIDATING, MUTATING),
            log=log or RecordingLog(),
            sleep=self.sleep,
            monotonic=lambda: self.now,
        )


async def test_the_owner_is_deleted_before_the_configurations() -> None:
    cluster = Cluster(OWNER, VALIDATING, MUTATING)
    log = RecordingLog()
    assert await cluster.remove(log)
    assert cluster.deleted == [OWNER, VALIDATING, MUTATING]
    assert log.events == ["removing", "removed"]


async def test_a_configuration_written_during_the_removal_is_removed() -> None:
    def write_once(cluster: Cluster) -> None:
        if 1.0 <= cluster.now < 1.25:
            cluster.put(VALIDATING, {})

    cluster = Cluster(OWNER, VALIDATING, controller=write_once)
    assert await cluster.remove()
    assert cluster.deleted == [OWNER, VALIDATING, VALIDATING]
    assert cluster.now >= 1.0 + GONE_SECONDS


async def test_the_removal_succeeds_if_nothing_exists() -> None:
    cluster = Cluster()
    assert await cluster.remove()
    assert cluster.deleted == []


async def test_a_request_that_fails_is_repeated() -> None:
    cluster = Cluster(OWNER, VALIDATING)
    cluster.failures = 3
    log = RecordingLog()
    assert await cluster.remove(log)
    assert len(log.named("removal_failed")) == 3
    assert cluster.objects == {}


@pytest.mark.parametrize("failing", [True, False], ids=["no-answer", "nothing-goes"])
async def test_the_removal_fails_after_its_time_limit(failing: bool) -> None:  # noqa: FBT001
    cluster = Cluster(VALIDATING)
    cluster.stuck = True
    cluster.failures = 10**6 if failing else 0
    log = RecordingLog()
    assert not await cluster.remove(log)
    assert log.events[-1] == "not_removed"
    assert cluster.now == pytest.approx(REMOVAL_SECONDS, abs=3)
