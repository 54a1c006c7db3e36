"""Passes run after each change and each minute, failures are retried, and each result is reported once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import get_args

import pytest

from controller.changes import Change, become, delete, later, pause, pods, want
from controller.world import BOTH, INSTALLATION, VALIDATING, World
from gatekeeper_py.controller import loop
from gatekeeper_py.controller.events import Events
from gatekeeper_py.controller.loop import (
    AFTER_WRITE_SECONDS,
    DEBOUNCE_SECONDS,
    STALE_SECONDS,
    Alarms,
    Controller,
)
from gatekeeper_py.controller.metrics import ControlMetrics
from gatekeeper_py.controller.plan import Alarm
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import POD_VALIDATION, VALIDATING_NAME
from gatekeeper_py.core.names import PAUSED_UNTIL
from support.recording import RecordingLog


class Enough(Exception):
    """Ends an endless loop."""


class Setup:
    """A controller of an installation in memory, with a clock that each sleep advances."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.metrics = ControlMetrics()
        self.log = RecordingLog()
        self.slept: list[float] = []
        self.at_sleep: Callable[[float], None] = lambda _seconds: None
        self.wanted = BOTH
        self.problems: dict[Alarm, str] = {"settings": ""}
        self.refused = ""
        self.checks = 0
        self.controller = Controller(
            world.process(),
            lambda: self.wanted,
            alarms=Alarms(self.metrics, RecordingLog()),
            events=Events(world.cluster, INSTALLATION, log=self.log, now=lambda: world.now),
            metrics=self.metrics,
            log=self.log,
            problems=lambda: self.problems,
            refused=lambda: ("the-policy", self.refused),
            check_conditions=self.count_check,
            now=lambda: world.now,
            monotonic=lambda: world.now.timestamp(),  # noqa: PLW0108 - the clock moves
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.now += timedelta(seconds=seconds)
        self.world.pick_up_all()
        self.at_sleep(seconds)
        await asyncio.sleep(0)

    def count_check(self) -> None:
        self.checks += 1

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"gatekeeper_py_control_{name}", labels)

    @property
    def recorded(self) -> list[tuple[str, str, str]]:
        """Return the reason, the message and the subject of each Event."""
        events = [event for _, event in self.world.cluster.posted]
        return [(each["reason"], each["message"], each["involvedObject"]["name"]) for each in events]

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.recorded]

    async def armed(self) -> None:
        """Return an armed controller, without the reports so far."""
        await self.controller.run_once(300)
        self.world.now += timedelta(seconds=2)
        await self.controller.attempt()
        self.log.lines.clear()
        self.world.cluster.posted.clear()


@pytest.fixture
def setup() -> Setup:
    return Setup(World())


def refuse_all(_verb: str, _path: str) -> bool:
    return True


def refuse_nothing(_verb: str, _path: str) -> bool:
    return False


async def test_once_gives_up_in_time() -> None:
    setup = Setup(World(replicas=0))
    assert not await setup.controller.run_once(300)
    assert sum(setup.slept) == 300


async def test_once_continues_after_a_failed_pass(setup: Setup) -> None:
    setup.world.cluster.fail = refuse_all
    setup.at_sleep = lambda _seconds: setattr(setup.world.cluster, "fail", refuse_nothing)
    assert await setup.controller.run_once(300)
    assert setup.sample("reconciles_total", result="failed") == 1


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

    async def attempt(*, direct: bool = True) -> float:
        assert direct
        if not left:
            raise Enough
        return left.pop()

    setup.controller.attempt = attempt  # type: ignore[method-assign]
    with pytest.raises(Enough):
        await setup.controller.run()
    assert setup.slept == []


async def test_changes_do_not_put_off_a_direct_pass(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch may lag, so a direct pass reads the API server each minute."""
    await setup.armed()
    passes: list[float] = []

    async def attempt(*, direct: bool = True) -> float:
        if direct:
            passes.append(setup.world.now.timestamp())
        return 60.0

    async def wait_for(event: asyncio.Event, seconds: float) -> bool:
        if len(passes) > 5:
            raise Enough
        setup.world.now += timedelta(seconds=min(seconds, 7.0))
        if seconds > 7.0:
            event.set()
        return event.is_set()

    setup.controller.attempt = attempt  # type: ignore[method-assign]
    monkeypatch.setattr(loop, "wait_for", wait_for)
    with pytest.raises(Enough):
        await setup.controller.run()
    assert max(after - before for before, after in pairwise(passes)) <= 62.0


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


async def test_each_refused_policy_is_recorded_once(setup: Setup) -> None:
    await setup.armed()
    for refused in ("line 1: a", "line 1: a", "", "line 1: a", "line 2: b"):
        setup.refused = refused
        setup.world.now += timedelta(minutes=1)
        await setup.controller.attempt()
    text = "the policy is refused, and the last good one stays in use: line"
    assert setup.recorded == [
        ("PolicyRefused", f"{text} 1: a", "the-policy"),
        ("PolicyRefused", f"{text} 1: a", "the-policy"),
        ("PolicyRefused", f"{text} 2: b", "the-policy"),
    ]


async def test_alarms_from_elsewhere_are_passed_on_even_when_a_pass_fails(setup: Setup) -> None:
    setup.problems = {"settings": "bad"}
    setup.world.cluster.fail = refuse_all
    await setup.controller.attempt()
    assert setup.sample("alarm", what="settings") == 1


def test_an_alarm_is_logged_once_when_it_begins_and_once_when_it_ends(setup: Setup) -> None:
    log = RecordingLog()
    alarms = Alarms(setup.metrics, log)
    assert {setup.sample("alarm", what=what) for what in get_args(Alarm)} == {0.0}
    alarms.update({"service": "missing", "secret": ""})
    alarms.update({"service": "still missing"})
    alarms.update({"secret": ""})
    assert setup.sample("alarm", what="service") == 1.0
    alarms.update({"service": ""})
    assert setup.sample("alarm", what="service") == 0.0
    assert log.lines == [
        ("warning", "alarm", {"what": "service", "problem": "missing"}),
        ("info", "alarm_ended", {"what": "service"}),
    ]


FIELD = f"webhooks[{POD_VALIDATION}].failurePolicy"
UNTIL = "2026-01-01T06:00:00Z"
PAUSED = f"paused until {UNTIL}: the webhook configurations are removed, and every image is admitted"
SOON = "'soon': not an RFC 3339 time such as 2026-12-31T18:00:00Z"
IGNORED = f"the annotation {PAUSED_UNTIL} is ignored: {SOON}"
GONE = f"{INSTALLATION.namespace_path} does not exist"
CONDITIONS = Conditions(expressions={POD_VALIDATION: "p"}, revision="0123456789ab")
REPORTS: dict[str, tuple[Change | tuple[str, ...], ...]] = {
    "nothing": ((),),
    "repair": (
        pods(failurePolicy="Ignore"), ("repaired", f"Repaired: repaired, because somebody changed {FIELD}"),
        delete(VALIDATING),
        ("repaired", f"Repaired: repaired, because somebody changed {VALIDATING_NAME} (deleted)"),
    ),
    "update": (want(settings=WebhookSettings(exempt_namespaces=("calico-system",))), ("updated",), ()),
    "removal": (delete(INSTALLATION.namespace_path), ("disarmed", f"Disarmed: disarmed: {GONE}"), ()),
    "pause": (
        pause(UNTIL), ("paused", f"Paused: {PAUSED}"), (), later(timedelta(hours=6)),
        ("armed", "mutation_registered", "Armed: armed with 2 replicas"), later(timedelta(seconds=2)),
        ("mutation_active",),
    ),
    "unready-after-a-pause": (
        pause(UNTIL), ("paused", f"Paused: {PAUSED}"), become(judges=False), later(timedelta(hours=6)),
        ("not_armed",), (),
    ),
    "bad-pause": (pause("soon"), ("pause_ignored", f"PauseIgnored: {IGNORED}"), ()),
    "mutation": (
        want(mutates=False), ("mutation_unregistered",), want(mutates=True), ("mutation_registered",),
        later(timedelta(seconds=2)), ("mutation_active",), (),
    ),
    "in-step": (want(conditions=NO_CONDITIONS), ()),
    "out-of-step": (want(conditions=CONDITIONS), ("check",), ("check",)),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
async def test_each_change_is_logged_and_recorded_once(setup: Setup, name: str) -> None:
    """A row holds changes, and after them the log events, the Events and the checks of a pass."""
    await setup.armed()
    for each in REPORTS[name]:
        if not isinstance(each, tuple):
            each(setup)
            continue
        setup.log.lines.clear()
        setup.world.cluster.posted.clear()
        setup.checks = 0
        await setup.controller.attempt()
        events = [f"{reason}: {message}" for reason, message, _ in setup.recorded]
        assert (*setup.log.events, *events, *["check"] * setup.checks) == each
        for line in setup.log.named("repaired"):
            assert line["configurations"] == [VALIDATING_NAME]
            assert events[0].endswith(f"changed {', '.join(line['fields'])}")
        assert all(line == {"until": UNTIL} for line in setup.log.named("paused"))
        assert {subject for _, _, subject in setup.recorded} <= {VALIDATING_NAME}
    assert setup.sample("pauses_total") == float("pause" in name and name != "bad-pause")
    assert setup.sample("alarm", what="pause") == float(name == "bad-pause")


async def test_once_ends_when_armed(setup: Setup) -> None:
    assert await setup.controller.run_once(300)
    assert setup.log.events == ["certificate_step", "not_armed", "armed", "mutation_registered"]
    assert setup.recorded == [("Armed", "armed with 2 replicas", VALIDATING_NAME)]


@pytest.mark.parametrize(
    ("missing", "failing", "events"),
    [
        pytest.param("", False, [], id="restart"),
        pytest.param(INSTALLATION.owner_path, False, ["disarmed"], id="removal"),
        pytest.param(INSTALLATION.owner_path, True, ["disarm_failed"], id="error"),
    ],
)
async def test_shutting_down(setup: Setup, missing: str, events: list[str], *, failing: bool) -> None:
    """A removal disarms the webhook, and an error does not prevent the end."""
    await setup.armed()
    setup.world.cluster.objects.pop(missing, None)
    if failing:
        setup.world.cluster.fail = refuse_all
    await setup.controller.shut_down()
    assert bool(setup.world.configured()) is (events != ["disarmed"])
    assert setup.log.events == events
