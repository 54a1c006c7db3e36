"""The match conditions follow the policy: what tightens at once, the rest when it is quiet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from control.fastpath.keeping import (
    BAD,
    MUTATE,
    OTHER,
    OWNER,
    POLICY,
    REMOVED,
    TIGHT,
    VALIDATE,
    WIDE,
    Setup,
)
from control.world import Refused
from gatekeeper_py.control.fastpath import keeper as fastpath
from gatekeeper_py.control.fastpath import leaving
from gatekeeper_py.control.fastpath.canary import Canary
from gatekeeper_py.control.fastpath.dryrun import Seen
from gatekeeper_py.control.fastpath.keeper import CALM_SECONDS, CHECK_SECONDS, QUIET_SECONDS
from gatekeeper_py.control.fastpath.knowledge import Known, know
from gatekeeper_py.control.webhooks import ASK_ALWAYS, FAST_PATH_ANNOTATION, FAST_PATH_CONDITION
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.delivery import Delivery


@pytest.fixture
async def setup() -> Setup:
    """Armed, with nothing known yet."""
    return Setup()


@pytest.fixture
async def wide(setup: Setup) -> Setup:
    """In step with ``WIDE`` for a while."""
    await setup.in_step_with_wide()
    return setup


async def test_in_step(setup: Setup) -> None:
    await setup.deliver(WIDE)
    assert not setup.recorder.in_step
    await setup.settle()
    assert setup.carried() == ["wide", "wide"]
    live = setup.cluster.objects[VALIDATE.path]
    assert live["metadata"]["annotations"] == {FAST_PATH_ANNOTATION: parse_policy(WIDE).revision}
    assert [each["name"] for each in live["webhooks"][0]["matchConditions"]] == [FAST_PATH_CONDITION]
    assert "matchConditions" not in live["webhooks"][1]
    assert setup.recorder.in_step
    assert setup.recorder.rules == {"validating": 2, "mutating": 2}
    assert setup.recorder.revision == parse_policy(WIDE).revision
    assert setup.probed == []


async def test_what_tightens_is_written_at_once_and_tried(wide: Setup) -> None:
    await wide.deliver(TIGHT)
    assert wide.carried() == ["tight", "tight"]
    assert wide.probed == [REMOVED]
    assert wide.recorder.synced == [("tightened", 0.0)]
    assert wide.recorder.told("fastpath_in_step")[0]["asked_about"] == [REMOVED]


async def test_the_webhook_that_keeps_images_out_comes_first(wide: Setup) -> None:
    await wide.deliver(TIGHT)
    assert wide.puts() == [VALIDATE.path, MUTATE.path]


async def test_it_is_not_in_step_from_the_moment_a_change_arrives(wide: Setup) -> None:
    """A large policy takes a while to compile."""
    wide.keeper.deliver(Delivery(text=TIGHT))
    assert not wide.recorder.in_step


async def test_one_configuration_that_cannot_be_written_does_not_keep_the_other(wide: Setup) -> None:
    wide.cluster.fail = lambda verb, path: (verb, path) == ("replace", VALIDATE.path)
    pause = await wide.deliver(TIGHT)
    assert wide.carried() == ["wide", "tight"]
    assert pause == fastpath.FIRST_PAUSE_SECONDS
    assert not wide.recorder.in_step
    wide.cluster.fail = lambda _verb, _path: False
    wide.clock += pause
    await wide.keeper.step()
    assert wide.carried() == ["tight", "tight"]
    assert wide.probed == [REMOVED]
    [(change, seconds)] = wide.recorder.synced
    assert change == "tightened"
    assert seconds == pytest.approx(pause)


async def test_failures_back_off_to_a_bound(wide: Setup) -> None:
    wide.cluster.fail = lambda verb, _path: verb == "replace"
    pauses = [await wide.deliver(TIGHT)] + [await wide.keeper.step() for _ in range(2000)]
    # After the second nothing is skipped any more, if only that can be written: that is tried at once.
    assert pauses[:8] == [0.1, 0.0, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert pauses[-1] == fastpath.LONGEST_PAUSE_SECONDS


async def test_it_is_not_in_step_until_the_webhook_was_seen_to_be_asked(wide: Setup) -> None:
    wide.sees = lambda _canary: Seen(asked=False)
    pause = await wide.deliver(TIGHT)
    assert not wide.recorder.in_step
    wide.sees = lambda _canary: Seen(asked=True)
    wide.clock += pause
    await wide.keeper.step()
    assert wide.recorder.in_step
    assert wide.recorder.synced == [("tightened", pytest.approx(pause))]
    assert len(wide.puts()) == 2


async def test_an_answer_that_is_slow_does_not_keep_the_next_change(wide: Setup) -> None:
    """An API server has fifteen seconds for it."""

    async def hangs(_canary: Canary) -> Seen:
        wide.keeper.deliver(Delivery(text=OTHER))
        await asyncio.Event().wait()
        raise AssertionError

    wide.keeper._trial._probe = hangs
    assert await wide.deliver(TIGHT) == 0.0
    wide.keeper._trial._probe = wide.probe
    wide.store(OTHER)
    await wide.keeper.step()
    assert wide.carried() == ["other", "other"]


async def test_a_mirror_that_is_added_is_tried_in_mutate_mode(wide: Setup) -> None:
    await wide.deliver(WIDE + "- {from: b.io, to: a.io/b}\n", "mutate")
    assert wide.probed == [REMOVED]
    assert wide.recorder.in_step
    assert wide.recorder.rules == {"validating": 2, "mutating": 1}


async def test_what_loosens_waits_until_the_policy_is_quiet(wide: Setup) -> None:
    await wide.deliver(TIGHT)
    wide.clock += 60
    wide.keeper.seen()
    pause = await wide.deliver(WIDE)
    assert pause == QUIET_SECONDS
    assert wide.carried() == ["tight", "tight"]
    assert not wide.recorder.in_step
    wide.clock += pause
    await wide.keeper.step()
    assert wide.carried() == ["wide", "wide"]
    assert wide.recorder.synced[-1] == ("loosened", QUIET_SECONDS)


async def test_a_flapping_policy_is_written_now_and_then(wide: Setup) -> None:
    """Fifty changes a second for half a minute."""
    for turn in range(1500):
        await wide.deliver(TIGHT if turn % 2 == 0 else WIDE)
        wide.clock += 0.02
        # What is plain under one of the two only never stays.
        assert wide.carried() == ["tight", "tight"]
    assert len(wide.puts()) == 2
    await wide.settle()
    assert wide.carried() == ["wide", "wide"]


async def test_what_is_as_wide_in_another_way_is_a_tightening(wide: Setup) -> None:
    await wide.deliver(OTHER)
    assert wide.carried() == ["other", "other"]
    assert wide.probed == ["a.io/gatekeeper-py-probe"]


async def test_a_mode_changes_nothing(wide: Setup) -> None:
    await wide.deliver(WIDE, "warn")
    assert wide.puts() == []
    assert wide.recorder.in_step
    assert wide.recorder.revision == parse_policy(WIDE, "warn").revision


async def test_before_the_webhook_is_armed_there_is_nothing_to_write() -> None:
    setup = Setup(armed=False)
    await setup.deliver(WIDE)
    await setup.settle(5)
    assert setup.puts() == []
    assert not setup.recorder.in_step
    setup.arm()
    await setup.settle()
    assert setup.carried() == ["wide", "wide"]
    assert setup.recorder.in_step


async def test_a_condition_that_a_pass_took_out_is_put_back_when_it_is_quiet(wide: Setup) -> None:
    for pause in (None, CALM_SECONDS):
        wide.cluster.put(
            VALIDATE.path, {**wide.cluster.objects[VALIDATE.path], **VALIDATE.document(b"authority", OWNER)}
        )
        wide.keeper.look()
        asked = await wide.keeper.step()
        if pause is not None:
            assert asked == pause
            assert wide.carried() == ["none", "wide"]
            await wide.settle()
        assert wide.carried() == ["wide", "wide"]


def never_ask(live: dict[str, Any]) -> None:
    live["webhooks"][0]["matchConditions"][-1]["expression"] = "false"


async def test_a_condition_of_somebody_else_is_replaced_at_once(wide: Setup) -> None:
    wide.cluster.edit(VALIDATE.path, never_ask)
    wide.keeper.look()
    await wide.keeper.step()
    assert wide.carried() == ["wide", "wide"]


async def test_a_condition_of_somebody_else_who_insists_is_taken_out_at_once(wide: Setup) -> None:
    """Everything is asked about until it has been calm for a while."""
    for _ in range(2):
        wide.cluster.edit(VALIDATE.path, never_ask)
        wide.keeper.look()
        pause = await wide.keeper.step()
    assert pause == 0.0
    await wide.keeper.step()
    assert wide.carried() == ["none", "none"]
    assert not wide.recorder.in_step
    wide.clock += CALM_SECONDS
    await wide.settle()
    assert wide.carried() == ["wide", "wide"]
    assert wide.recorder.in_step


async def test_two_controllers_that_make_different_expressions_take_turns(
    wide: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a rollout of another version: each sees what the other wrote, and puts it right."""

    def otherwise(text: str, mode: str | None) -> Known:
        known = know(text, mode)
        spaced = {name: f"{expression} " for name, expression in known.conditions.expressions.items()}
        return replace(known, conditions=replace(known.conditions, expressions=spaced))

    other = Setup()
    other.cluster, other.clock = wide.cluster, wide.clock
    other.start()
    monkeypatch.setattr(fastpath, "know", otherwise)
    await other.deliver(WIDE)
    wide.cluster.requests.clear()
    for _ in range(1200):
        for each in (wide, other):
            each.clock += 0.05
            each.keeper.seen()
            each.keeper.look()
            await each.keeper.step()
    # Two configurations, a minute, and each controller has its turn every five seconds, and then both
    # the expression and its removal.
    assert 0 < len(wide.puts()) <= 2 * 12 * 2 * 2


async def test_a_condition_that_nobody_tells_of_is_put_right_within_a_minute(wide: Setup) -> None:
    """The passes that look at the configurations may fail all the while."""
    await wide.settle()
    wide.cluster.edit(VALIDATE.path, never_ask)
    await wide.settle()
    assert wide.carried() == ["something else", "wide"]
    wide.clock += CHECK_SECONDS
    wide.keeper.seen()
    await wide.keeper.step()
    assert wide.carried() == ["wide", "wide"]


async def test_a_look_that_finds_all_as_it_was_changes_nothing(wide: Setup) -> None:
    for _ in range(10):
        pause = await wide.keeper.step()
        assert 0 < pause <= CHECK_SECONDS
        wide.clock += pause
        wide.keeper.seen()
        assert wide.recorder.in_step
    assert wide.puts() == []
    assert wide.recorder.synced == []
    assert wide.cluster.requests.count(("get", POLICY)) == 10


async def test_what_changes_while_it_is_written_is_looked_at_again(wide: Setup) -> None:
    def look(verb: str, _path: str) -> bool:
        if verb == "replace":
            wide.keeper.look()
        return False

    wide.cluster.fail = look
    await wide.deliver(TIGHT)
    wide.cluster.fail = lambda _verb, _path: False
    wide.cluster.requests.clear()
    await wide.keeper.step()
    assert [path for _, path in wide.cluster.requests[:2]] == [VALIDATE.path, MUTATE.path]


async def test_an_orderly_end_leaves_nothing_behind(wide: Setup) -> None:
    await wide.keeper.leave()
    assert wide.carried() == ["none", "none"]
    assert wide.keeper.conditions == ASK_ALWAYS


async def test_an_end_comes_after_a_write_that_is_under_way(setup: Setup) -> None:
    """What was sent may be carried out, whether its answer is waited for or not."""
    sent, carried_out = asyncio.Event(), asyncio.Event()
    put = setup.cluster.replace

    async def slow(path: str, document: dict[str, Any]) -> None:
        sent.set()
        await carried_out.wait()
        await put(path, document)

    setup.cluster.replace = slow  # type: ignore[method-assign]
    setup.store(WIDE)
    setup.keeper.deliver(Delivery(text=WIDE))
    setup.clock += CALM_SECONDS
    step = asyncio.create_task(setup.keeper.step())
    async with asyncio.timeout(30):
        await sent.wait()
    step.cancel()
    await asyncio.wait({step})
    ending = asyncio.create_task(setup.keeper.leave())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not ending.done()
    carried_out.set()
    await ending
    assert setup.carried() == ["none", "none"]
    assert setup.keeper._writing is not None
    assert setup.keeper._writing.done()


async def test_an_end_does_not_wait_for_ever_for_a_write(
    wide: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "WRITING_SECONDS", 0.01)
    wide.keeper._writing = asyncio.create_task(asyncio.Event().wait())
    await wide.keeper.leave()
    wide.keeper._writing.cancel()
    assert wide.carried() == ["none", "none"]


async def test_an_end_that_meets_a_conflict_tries_again_at_once(wide: Setup) -> None:
    replace = wide.cluster.replace

    async def overtaken(path: str, document: dict[str, Any]) -> None:
        wide.cluster.replace = replace  # type: ignore[method-assign]
        raise Refused(f"409 {path} {document['metadata']['name']}")

    wide.cluster.replace = overtaken  # type: ignore[method-assign]
    await wide.keeper.leave()
    assert wide.carried() == ["none", "none"]
    assert wide.slept == [0.0]


async def test_an_end_waits_for_an_api_server_that_is_away(wide: Setup) -> None:
    async def sleep() -> None:
        if len(wide.slept) == 7:
            wide.cluster.fail = lambda _verb, _path: False

    wide.cluster.fail, wide.at_sleep = lambda _verb, _path: True, sleep
    await wide.keeper.leave()
    assert wide.carried() == ["none", "none"]
    assert wide.slept == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert not wide.recorder.told("fastpath_left_behind")


async def test_an_end_that_cannot_be_orderly_says_so(wide: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LEAVE_SECONDS", 0.01)
    wide.cluster.fail = lambda verb, _path: verb == "replace"
    wide.at_sleep = asyncio.Event().wait
    await wide.keeper.leave()
    assert wide.recorder.told("fastpath_left_behind") == [{"problem": f"500 {VALIDATE.path}"}]


async def test_run_follows_what_arrives(setup: Setup) -> None:
    """The last of what arrives in one go is what counts."""

    async def deliveries() -> AsyncIterator[Delivery]:
        for text in (BAD, OTHER, TIGHT, WIDE):
            setup.store(text)
            yield Delivery(text=text)
        await asyncio.Event().wait()

    task = asyncio.create_task(setup.keeper.run(deliveries()))
    async with asyncio.timeout(30):
        while not setup.recorder.in_step:
            await asyncio.sleep(0)
            # Time that the keeper waits for is given to it.
            setup.clock += 0.001
            setup.keeper.seen()
            setup.keeper._wake.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert setup.carried() == ["wide", "wide"]
    assert not setup.recorder.told("fastpath_nothing_skipped")
