"""The match conditions follow the policy: a tightening at once, other changes when it is quiet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from controller.fastpath.stepping import (
    BAD,
    DATED,
    MUTATE,
    OTHER,
    REMOVED,
    TIGHT,
    VALIDATE,
    WIDE,
    Setup,
    known,
)
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.fastpath import conditions
from gatekeeper_py.controller.fastpath import reconcile as fastpath
from gatekeeper_py.controller.fastpath.policy_view import EXPIRY_MARGIN, PolicyView, view
from gatekeeper_py.controller.fastpath.probe import ProbeImage
from gatekeeper_py.controller.fastpath.reconcile import WRITE_INTERVAL_SECONDS
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION
from gatekeeper_py.core.policy.policy import Policy, parse_policy


@pytest.fixture
async def setup() -> Setup:
    """Return an armed controller that has not read the policy yet."""
    return Setup()


@pytest.fixture
async def wide(setup: Setup) -> Setup:
    """Return a controller that has been in step with ``WIDE`` for a while."""
    await setup.in_step_with_wide()
    return setup


async def test_an_armed_webhook_gets_its_conditions(setup: Setup) -> None:
    await setup.deliver(WIDE)
    assert not setup.recorder.in_step
    await setup.settle()
    assert setup.conditions() == ["wide", "wide"]
    live = setup.cluster.objects[VALIDATE.path]
    assert live["metadata"]["annotations"] == {FAST_PATH_REVISION: parse_policy(WIDE).revision}
    assert [each["name"] for each in live["webhooks"][0]["matchConditions"]] == [FAST_PATH_CONDITION]
    assert "matchConditions" not in live["webhooks"][1]
    assert setup.recorder.in_step
    assert setup.recorder.rules == {"validating": 2, "mutating": 2}
    assert setup.recorder.revision == parse_policy(WIDE).revision
    assert setup.probed == []


async def test_a_tightening_is_written_at_once_and_probed(wide: Setup) -> None:
    await wide.deliver(TIGHT)
    assert wide.conditions() == ["tight", "tight"]
    assert wide.puts() == [VALIDATE.path, MUTATE.path]
    assert wide.probed == [REMOVED]
    assert wide.recorder.synced == [("tightened", 0.0)]
    assert wide.log.named("fastpath_in_step")[0]["verified_with"] == [REMOVED]


async def test_a_slow_probe_does_not_delay_the_next_change(wide: Setup) -> None:
    """The API server may take fifteen seconds for the probe."""

    async def hangs(_namespace: str, _image: ProbeImage) -> str:
        wide.controller.deliver(known(OTHER))
        await asyncio.Event().wait()
        raise AssertionError

    wide.controller._probe._run = hangs
    assert await wide.deliver(TIGHT) == 0.0
    wide.controller._probe._run = wide.probe
    wide.store(OTHER)
    await wide.controller.step()
    assert wide.conditions() == ["other", "other"]


async def test_an_added_mirror_is_probed_in_mutate_mode(wide: Setup) -> None:
    await wide.deliver(WIDE + "- {from: b.io, to: a.io/b}\n", "mutate")
    assert wide.probed == [REMOVED]
    assert wide.recorder.in_step
    assert wide.recorder.rules == {"validating": 2, "mutating": 1}


@pytest.mark.long
async def test_a_flapping_policy_is_written_now_and_then(wide: Setup) -> None:
    """The policy changes fifty times a second for half a minute."""
    for turn in range(1500):
        await wide.deliver(TIGHT if turn % 2 == 0 else WIDE)
        wide.clock += 0.02
        # An image that only one of the two policies approves is never skipped for long.
        assert wide.conditions() == ["tight", "tight"]
    assert len(wide.puts()) == 2
    await wide.settle()
    assert wide.conditions() == ["wide", "wide"]


async def test_two_controllers_that_make_different_expressions_take_turns(
    wide: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a rollout of another version, each controller replaces the conditions of the other."""

    def otherwise(policy: Policy, text: str | None, mode: str | None, now: datetime) -> PolicyView:
        known = view(policy, text, mode, now)
        spaced = {name: f"{expression} " for name, expression in known.conditions.expressions.items()}
        return replace(known, conditions=replace(known.conditions, expressions=spaced))

    other = Setup()
    other.cluster, other.clock = wide.cluster, wide.clock
    other.start()
    monkeypatch.setattr(fastpath, "view", otherwise)
    await other.deliver(WIDE)
    wide.cluster.requests.clear()
    for _ in range(1200):
        for each in (wide, other):
            each.clock += 0.05
            each.controller.seen()
            each.controller.check()
            await each.controller.step()
    # The loop lasts a minute. Each of the two controllers has a turn every five seconds, in which it may
    # write the expression and its removal to two configurations.
    assert 0 < len(wide.puts()) <= 2 * 12 * 2 * 2


async def test_a_change_during_a_write_is_checked_again(wide: Setup) -> None:
    def look(verb: str, _path: str) -> bool:
        if verb == "replace":
            wide.controller.check()
        return False

    wide.cluster.fail = look
    await wide.deliver(TIGHT)
    wide.cluster.fail = lambda _verb, _path: False
    wide.cluster.requests.clear()
    await wide.controller.step()
    assert [path for _, path in wide.cluster.requests[:2]] == [VALIDATE.path, MUTATE.path]


async def test_a_shutdown_waits_for_a_running_write(setup: Setup) -> None:
    """The API server may execute a request even if the controller does not wait for the answer."""
    sent, carried_out = asyncio.Event(), asyncio.Event()
    put = setup.cluster.replace

    async def slow(path: str, document: dict[str, Any]) -> None:
        sent.set()
        await carried_out.wait()
        await put(path, document)

    setup.cluster.replace = slow  # type: ignore[method-assign]
    setup.store(WIDE)
    setup.controller.deliver(known(WIDE))
    setup.clock += WRITE_INTERVAL_SECONDS
    step = asyncio.create_task(setup.controller.step())
    async with asyncio.timeout(30):
        await sent.wait()
    step.cancel()
    await asyncio.wait({step})
    ending = asyncio.create_task(setup.controller.shut_down())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not ending.done()
    carried_out.set()
    await ending
    assert setup.conditions() == ["none", "none"]
    assert setup.controller._writing is not None
    assert setup.controller._writing.done()


async def test_a_shutdown_waits_a_bounded_time_for_a_write(
    wide: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "LAST_WRITE_SECONDS", 0.01)
    wide.controller._writing = asyncio.create_task(asyncio.Event().wait())
    await wide.controller.shut_down()
    wide.controller._writing.cancel()
    assert wide.conditions() == ["none", "none"]


async def test_a_shutdown_retries_at_once_after_a_conflict(wide: Setup) -> None:
    replace = wide.cluster.replace

    async def overtaken(path: str, document: dict[str, Any]) -> None:
        wide.cluster.replace = replace  # type: ignore[method-assign]
        raise ApiError("replace", path, 409, document["metadata"]["name"])

    wide.cluster.replace = overtaken  # type: ignore[method-assign]
    await wide.controller.shut_down()
    assert wide.conditions() == ["none", "none"]
    assert wide.controller.conditions == NO_CONDITIONS
    assert wide.slept == [0.0]


async def test_a_shutdown_waits_for_an_unreachable_api_server(wide: Setup) -> None:
    async def sleep() -> None:
        if len(wide.slept) == 7:
            wide.cluster.fail = lambda _verb, _path: False

    wide.cluster.fail, wide.at_sleep = lambda _verb, _path: True, sleep
    await wide.controller.shut_down()
    assert wide.conditions() == ["none", "none"]
    assert wide.slept == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert not wide.log.named("fastpath_cleanup_failed")


async def test_a_failed_cleanup_is_logged(wide: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "SHUTDOWN_SECONDS", 0.01)
    wide.cluster.fail = lambda verb, _path: verb == "replace"
    wide.at_sleep = asyncio.Event().wait
    await wide.controller.shut_down()
    assert wide.log.named("fastpath_cleanup_failed") == [
        {"problem": f"replace {VALIDATE.path}: 500 Internal Server Error"}
    ]


async def test_run_takes_steps_when_something_arrives(setup: Setup) -> None:
    """If several policies arrive at once, the controller uses the last one."""
    setup.store(WIDE)
    for text in (BAD, OTHER, TIGHT, WIDE):
        setup.controller.deliver(known(text))
    task = asyncio.create_task(setup.controller.run())
    async with asyncio.timeout(30):
        while not setup.recorder.in_step:
            await asyncio.sleep(0)
            # The clock advances by the time for which the controller waits.
            setup.clock += 0.001
            setup.controller.seen()
            setup.controller._wake.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert setup.conditions() == ["wide", "wide"]
    assert not setup.log.named("fastpath_disabled")


async def test_an_expiring_rule_leaves_the_fast_path_in_time(wide: Setup) -> None:
    await wide.deliver(DATED)
    await wide.settle()
    assert wide.skipped() == ["a.io", "b.io"]
    before_the_margin = 3600 - EXPIRY_MARGIN.total_seconds() - 1
    while wide.clock < before_the_margin:
        wide.controller.seen()
        wide.clock = min(wide.clock + await wide.controller.step(), before_the_margin)
    assert wide.skipped() == ["a.io", "b.io"]
    assert await wide.controller.step() <= 1.0
    wide.clock += 1.0
    wide.controller.seen()
    await wide.controller.step()
    assert wide.skipped() == ["a.io"]
    assert wide.recorder.in_step
    assert wide.recorder.synced[-1][0] == "tightened"
    # The rule still approves the removed images, so no probe can show that the webhook is called.
    assert wide.probed == []
