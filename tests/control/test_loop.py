"""Passes run after each change and each minute, failures are retried, and each result is reported once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from control.world import BOTH, CONFIGURATIONS, INSTALLATION, VALIDATING, World
from gatekeeper_py.control.alarms import Alarm
from gatekeeper_py.control.configurations import DesiredState
from gatekeeper_py.control.loop import AFTER_WRITE_SECONDS, DEBOUNCE_SECONDS, STALE_SECONDS, Controller
from gatekeeper_py.control.reconcile import Report
from gatekeeper_py.control.webhooks.conditions import NO_CONDITIONS, Conditions
from gatekeeper_py.control.webhooks.templates import POD_VALIDATION, VALIDATING_NAME
from gatekeeper_py.core.names import PAUSED_UNTIL
from recording import RecordingLog


class Recorder:
    """An observer of metrics, alarms and Events that records everything."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.failures = 0
        self.pauses = 0
        self.alarms: dict[Alarm, str] = {}
        self.recorded: list[tuple[str, str, str]] = []

    def reconciled(self, report: Report) -> None:
        self.reports.append(report)

    def failed(self) -> None:
        self.failures += 1

    def paused(self) -> None:
        self.pauses += 1

    def update(self, problems: Mapping[Alarm, str]) -> None:
        self.alarms |= problems

    async def record(self, reason: str, message: str, *, kind: str = "", name: str = "") -> None:
        self.recorded.append((reason, message, name))

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.recorded]


class FastPath:
    """A fast path that has conditions and counts the requested checks."""

    def __init__(self) -> None:
        self.conditions = NO_CONDITIONS
        self.checks = 0

    def check(self) -> None:
        self.checks += 1


class Enough(Exception):
    """Ends an endless loop."""


class Setup:
    def __init__(self, world: World, fast_path: FastPath | None = None) -> None:
        self.world = world
        self.recorder = Recorder()
        self.log = RecordingLog()
        self.slept: list[float] = []
        self.at_sleep: Callable[[float], None] = lambda _seconds: None
        self.desired_state = BOTH
        self.problems: dict[Alarm, str] = {"settings": ""}
        self.refused = ""
        self.controller = Controller(
            world.process(),
            lambda: self.desired_state,
            alarms=self.recorder,
            events=self.recorder,
            observer=self.recorder,
            log=self.log,
            problems=lambda: self.problems,
            refused=lambda: ("the-policy", self.refused),
            fast_path=fast_path,
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

    async def armed(self) -> None:
        """Return an armed controller, without the reports so far."""
        await self.controller.run_once(300)
        self.world.now += timedelta(seconds=2)
        await self.controller.attempt()
        self.log.lines.clear()
        self.recorder.recorded.clear()


@pytest.fixture
def setup() -> Setup:
    return Setup(World())


def refuse_all(_verb: str, _path: str) -> bool:
    return True


def refuse_nothing(_verb: str, _path: str) -> bool:
    return False


async def test_once_ends_when_armed(setup: Setup) -> None:
    assert await setup.controller.run_once(300)
    assert setup.recorder.reports[-1].steady
    assert setup.log.events == ["certificate_step", "not_armed", "armed", "mutation_registered"]
    assert setup.recorder.recorded == [("Armed", "armed with 2 replicas", "")]


async def test_once_gives_up_in_time() -> None:
    setup = Setup(World(replicas=0))
    assert not await setup.controller.run_once(300)
    assert sum(setup.slept) == 300


async def test_once_continues_after_a_failed_pass(setup: Setup) -> None:
    setup.world.cluster.fail = refuse_all
    setup.at_sleep = lambda _seconds: setattr(setup.world.cluster, "fail", refuse_nothing)
    assert await setup.controller.run_once(300)
    assert setup.recorder.failures == 1


async def test_failures_back_off_to_a_bound_and_start_over(setup: Setup) -> None:
    setup.world.cluster.fail = refuse_all
    assert [await setup.controller.attempt() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    for _ in range(2000):
        await setup.controller.attempt()
    setup.world.cluster.fail = refuse_nothing
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


async def test_a_change_starts_a_pass_soon_and_later_after_a_write(setup: Setup) -> None:
    def change(_verb: str, _path: str) -> bool:
        setup.controller.changed.set()
        return False

    def at_sleep(_seconds: float) -> None:
        if len(setup.slept) == 4:
            raise Enough

    setup.world.cluster.fail, setup.at_sleep = change, at_sleep
    with pytest.raises(Enough):
        await setup.controller.run()
    # The pass creates the certificate, arms the webhook, and then writes nothing more.
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


async def test_an_internal_error_is_raised(setup: Setup) -> None:
    def broken(_verb: str, _path: str) -> bool:
        raise ZeroDivisionError

    setup.world.cluster.fail = broken
    with pytest.raises(ZeroDivisionError):
        await setup.controller.attempt()


async def test_the_controller_is_not_ready_after_a_long_time_without_a_completed_pass(setup: Setup) -> None:
    await setup.controller.attempt()
    setup.world.now += timedelta(seconds=STALE_SECONDS)
    assert setup.controller.problem() == ""
    setup.world.now += timedelta(seconds=1)
    assert setup.controller.problem() == "no pass completed for 301 s"
    await setup.controller.attempt()
    assert setup.controller.problem() == ""


async def test_everything_is_reported_once(setup: Setup) -> None:
    await setup.armed()
    await setup.controller.attempt()
    assert (setup.log.events, setup.recorder.reasons) == ([], [])
    del setup.world.cluster.objects[CONFIGURATIONS[0]]
    await setup.controller.attempt()
    assert (setup.log.events, setup.recorder.reasons) == (["repaired"], ["Repaired"])
    del setup.world.cluster.objects[INSTALLATION.namespace_path]
    await setup.controller.attempt()
    await setup.controller.attempt()
    assert setup.log.events == ["repaired", "disarmed"]
    assert setup.recorder.reasons == ["Repaired", "Disarmed"]


async def test_a_repair_names_the_fields_that_somebody_changed(setup: Setup) -> None:
    await setup.armed()
    setup.world.cluster.edit(VALIDATING, lambda it: it["webhooks"][0].update(failurePolicy="Ignore"))
    await setup.controller.attempt()
    field = f"webhooks[{POD_VALIDATION}].failurePolicy"
    assert setup.log.named("repaired") == [{"configurations": [VALIDATING_NAME], "fields": [field]}]
    assert setup.recorder.recorded == [
        ("Repaired", f"repaired, because somebody changed {field}", VALIDATING_NAME)
    ]


async def test_a_pause_is_reported_when_it_begins_and_when_it_ends(setup: Setup) -> None:
    await setup.armed()
    until = "2026-01-01T06:00:00Z"

    def pause(namespace: dict[str, Any]) -> None:
        namespace["metadata"]["annotations"] = {PAUSED_UNTIL: until}

    setup.world.cluster.edit(INSTALLATION.namespace_path, pause)
    await setup.controller.attempt()
    await setup.controller.attempt()
    assert setup.log.named("paused") == [{"until": until}]
    assert setup.recorder.reasons == ["Paused"]
    assert setup.recorder.pauses == 1
    setup.world.now += timedelta(hours=6)
    await setup.controller.attempt()
    assert setup.recorder.reasons == ["Paused", "Armed"]
    assert setup.world.configured().keys() == set(CONFIGURATIONS)


async def test_a_bad_pause_is_reported_once(setup: Setup) -> None:
    await setup.armed()

    def pause(namespace: dict[str, Any]) -> None:
        namespace["metadata"]["annotations"] = {PAUSED_UNTIL: "soon"}

    setup.world.cluster.edit(INSTALLATION.namespace_path, pause)
    await setup.controller.attempt()
    await setup.controller.attempt()
    assert setup.log.events == ["pause_ignored"]
    assert setup.recorder.reasons == ["PauseIgnored"]
    assert setup.recorder.alarms["pause"]


async def test_each_refused_policy_is_recorded_once(setup: Setup) -> None:
    await setup.armed()
    for refused in ("line 1: a", "line 1: a", "", "line 1: a", "line 2: b"):
        setup.refused = refused
        await setup.controller.attempt()
    text = "the policy is refused, and the last good one stays in use: line"
    assert setup.recorder.recorded == [
        ("PolicyRefused", f"{text} 1: a", "the-policy"),
        ("PolicyRefused", f"{text} 1: a", "the-policy"),
        ("PolicyRefused", f"{text} 2: b", "the-policy"),
    ]


async def test_alarms_from_elsewhere_are_passed_on_even_when_a_pass_fails(setup: Setup) -> None:
    setup.problems = {"settings": "bad"}
    setup.world.cluster.fail = refuse_all
    await setup.controller.attempt()
    assert setup.recorder.alarms == {"settings": "bad"}


async def test_registering_the_mutating_webhook_is_logged(setup: Setup) -> None:
    await setup.armed()
    setup.desired_state = DesiredState(mutates=False)
    await setup.controller.attempt()
    setup.desired_state = DesiredState(mutates=True)
    assert await setup.controller.attempt() == 2.0
    assert setup.log.events == ["mutation_unregistered", "mutation_registered"]
    setup.world.now += timedelta(seconds=2)
    await setup.controller.attempt()
    assert setup.log.events[-1] == "mutation_active"
    assert setup.recorder.reasons == []


@pytest.mark.parametrize(
    ("removed", "failing", "armed", "events"),
    [
        pytest.param(False, False, True, [], id="a-restart-leaves-everything"),
        pytest.param(True, False, False, ["disarmed"], id="a-removal-disarms"),
        pytest.param(True, True, True, ["disarm_failed"], id="an-error-does-not-prevent-the-end"),
    ],
)
async def test_shutting_down(
    setup: Setup,
    removed: bool,  # noqa: FBT001
    failing: bool,  # noqa: FBT001
    armed: bool,  # noqa: FBT001
    events: list[str],
) -> None:
    await setup.armed()
    if removed:
        del setup.world.cluster.objects[INSTALLATION.owner_path]
    if failing:
        setup.world.cluster.fail = refuse_all
    await setup.controller.shut_down()
    assert bool(setup.world.configured()) is armed
    assert setup.log.events == events


async def test_a_missing_condition_starts_a_check_of_the_fast_path() -> None:
    fast_path = FastPath()
    setup = Setup(World(), fast_path)
    setup.desired_state = DesiredState(mutates=True, conditions=lambda: fast_path.conditions)
    await setup.controller.run_once(300)
    assert fast_path.checks == 0
    fast_path.conditions = Conditions(expressions={POD_VALIDATION: "p"}, revision="0123456789ab")
    await setup.controller.attempt()
    assert fast_path.checks == 1
