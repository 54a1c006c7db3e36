"""Passes at each change and each minute; failures are retried, and told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from control.world import CONFIGURATIONS, INSTALLATION, TERMS, Refused, World
from documented import check_event
from gatekeeper_py.control.loop import AFTER_WRITE_SECONDS, DEBOUNCE_SECONDS, STALE_SECONDS, Controller
from gatekeeper_py.control.reconcile import Report
from gatekeeper_py.control.webhooks import NO_CONDITIONS, Conditions


class Recorder:
    """Observer and log in one."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.failures = 0
        self.events: list[str] = []

    def reconciled(self, report: Report) -> None:
        self.reports.append(report)

    def failed(self) -> None:
        self.failures += 1

    def info(self, event: str, **keys: Any) -> None:
        check_event(event)
        self.events.append(event)

    warning = error = info


class Enough(Exception):
    """Ends a loop that has no end."""


class Setup:
    def __init__(self, world: World) -> None:
        self.world = world
        self.recorder = Recorder()
        self.slept: list[float] = []
        self.at_sleep: Callable[[float], None] = lambda _seconds: None
        self.controller = Controller(
            world.cluster,
            INSTALLATION,
            TERMS,
            observer=self.recorder,
            log=self.recorder,
            errors=(Refused,),
            probe_replica=world.probe,
            now=lambda: world.now,
            monotonic=lambda: world.now.timestamp(),  # noqa: PLW0108 - the clock moves
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.now += timedelta(seconds=seconds)
        for replica in self.world.replicas:
            self.world.pick_up(replica)
        self.at_sleep(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def setup() -> Setup:
    return Setup(World())


def refuse_all(_verb: str, _path: str) -> bool:
    return True


async def test_once_ends_when_armed(setup: Setup) -> None:
    assert await setup.controller.run_once(300)
    assert setup.recorder.reports[-1].steady
    assert setup.recorder.events == ["certificate_step", "not_armed", "armed"]


async def test_once_gives_up_in_time() -> None:
    setup = Setup(World(replicas=0))
    assert not await setup.controller.run_once(300)
    assert sum(setup.slept) == 300


async def test_once_goes_on_after_a_failed_pass(setup: Setup) -> None:
    setup.world.cluster.fail = refuse_all
    setup.at_sleep = lambda _seconds: setattr(setup.world.cluster, "fail", lambda _verb, _path: False)
    assert await setup.controller.run_once(300)
    assert setup.recorder.failures == 1


async def test_failures_back_off_to_a_bound_and_start_over(setup: Setup) -> None:
    setup.world.cluster.fail = refuse_all
    assert [await setup.controller.attempt() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    for _ in range(2000):
        await setup.controller.attempt()
    setup.world.cluster.fail = lambda _verb, _path: False
    await setup.controller.attempt()
    setup.world.cluster.fail = refuse_all
    assert await setup.controller.attempt() == 1


async def test_changes_do_not_shorten_the_pause_after_a_failure(setup: Setup) -> None:
    setup.world.cluster.fail = refuse_all

    def at_sleep(_seconds: float) -> None:
        setup.controller.changed.set()
        if len(setup.slept) == 4:
            raise Enough

    setup.at_sleep = at_sleep
    with pytest.raises(Enough):
        await setup.controller.run()
    assert setup.slept == [1, 2, 4, 8]


async def test_a_change_starts_a_pass_soon_and_less_soon_after_a_write(setup: Setup) -> None:
    def change(_verb: str, _path: str) -> bool:
        setup.controller.changed.set()
        return False

    def at_sleep(_seconds: float) -> None:
        if len(setup.slept) == 4:
            raise Enough

    setup.world.cluster.fail, setup.at_sleep = change, at_sleep
    with pytest.raises(Enough):
        await setup.controller.run()
    # The certificate is made, the webhook armed, and then nothing is written any more.
    assert setup.slept == [AFTER_WRITE_SECONDS, AFTER_WRITE_SECONDS, DEBOUNCE_SECONDS, DEBOUNCE_SECONDS]


async def test_without_changes_the_next_pass_comes_by_itself(setup: Setup) -> None:
    left = [0.0, 0.0]

    async def attempt() -> float:
        if not left:
            raise Enough
        return left.pop()

    setup.controller.attempt = attempt  # type: ignore[method-assign]
    with pytest.raises(Enough):
        await setup.controller.run()
    assert setup.slept == []


async def test_an_error_that_is_not_the_clusters_is_not_swallowed(setup: Setup) -> None:
    def broken(_verb: str, _path: str) -> bool:
        raise ZeroDivisionError

    setup.world.cluster.fail = broken
    with pytest.raises(ZeroDivisionError):
        await setup.controller.attempt()


async def test_not_ready_when_no_pass_completed_for_long(setup: Setup) -> None:
    await setup.controller.attempt()
    setup.world.now += timedelta(seconds=STALE_SECONDS)
    assert setup.controller.problem() == ""
    setup.world.now += timedelta(seconds=1)
    assert setup.controller.problem() == "no pass completed for 301 s"
    await setup.controller.attempt()
    assert setup.controller.problem() == ""


async def test_each_thing_is_told_once(setup: Setup) -> None:
    await setup.controller.run_once(300)
    setup.recorder.events.clear()
    await setup.controller.attempt()
    assert setup.recorder.events == []
    del setup.world.cluster.objects[CONFIGURATIONS[0]]
    await setup.controller.attempt()
    assert setup.recorder.events == ["repaired"]
    del setup.world.cluster.objects[INSTALLATION.parts[-1]]
    await setup.controller.attempt()
    await setup.controller.attempt()
    assert setup.recorder.events == ["repaired", "disarmed"]


@pytest.mark.parametrize(
    ("removed", "failing", "armed", "events"),
    [
        pytest.param(False, False, True, [], id="a-restart-leaves-everything"),
        pytest.param(True, False, False, ["disarmed"], id="a-removal-disarms"),
        pytest.param(True, True, True, ["disarm_failed"], id="an-error-does-not-keep-it-from-leaving"),
    ],
)
async def test_leaving(
    setup: Setup,
    removed: bool,  # noqa: FBT001
    failing: bool,  # noqa: FBT001
    armed: bool,  # noqa: FBT001
    events: list[str],
) -> None:
    await setup.controller.run_once(300)
    setup.recorder.events.clear()
    if removed:
        del setup.world.cluster.objects[INSTALLATION.deployment_path]
    if failing:
        setup.world.cluster.fail = refuse_all
    await setup.controller.shut_down()
    assert bool(setup.world.configured()) is armed
    assert setup.recorder.events == events


class FastPath:
    """What wants conditions, and counts how often it is to look for itself."""

    def __init__(self) -> None:
        self.conditions = NO_CONDITIONS
        self.checks = 0

    def check(self) -> None:
        self.checks += 1


async def test_the_fast_path_is_told_when_a_condition_is_missing(setup: Setup) -> None:
    fast_path = FastPath()
    setup.controller._fast_path = fast_path
    await setup.controller.run_once(300)
    assert fast_path.checks == 0
    fast_path.conditions = Conditions(expressions={"pods.gk": "p"}, revision="0123456789ab")
    await setup.controller.attempt()
    assert fast_path.checks == 1
