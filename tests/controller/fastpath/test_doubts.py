"""Any doubt about the policy removes the match conditions, so that API servers always call the webhook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from controller.fastpath.stepping import (
    DATED,
    HEAD,
    OTHER,
    POLICY,
    TIGHT,
    WIDE,
    Setup,
)
from gatekeeper_py.controller.fastpath import conditions
from gatekeeper_py.controller.fastpath import reconcile as fastpath
from gatekeeper_py.controller.fastpath.reconcile import UNSEEN_SECONDS

NOTHING_PRE_APPROVED = HEAD + "allow: ['foo:443/']\n"


@pytest.fixture
async def wide() -> Setup:
    """Return a controller that has been in step with ``WIDE`` for a while."""
    setup = Setup()
    await setup.in_step_with_wide()
    return setup


async def test_an_internal_error_disables_only_the_fast_path(
    wide: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(fastpath, "view", broken)
        await wide.deliver(TIGHT)
    assert wide.conditions() == ["none", "none"]
    assert wide.log.named("fastpath_not_compiled")


async def test_conditions_of_a_newer_policy_are_not_overwritten(wide: Setup) -> None:
    """The other controller writes between this controller's read of the ConfigMap and its write."""
    other = Setup()
    other.cluster = wide.cluster
    other.start()
    await wide.deliver(TIGHT)
    wide.clock += 60
    wide.controller.seen()

    async def overtaken(path: str) -> dict[str, Any] | None:
        found = await get(path)
        if path == POLICY:
            wide.cluster.get = get  # type: ignore[method-assign]
            await other.deliver(OTHER)
            await other.settle()
            assert wide.conditions() == ["other", "other"]
        return found

    get, wide.cluster.get = wide.cluster.get, overtaken  # type: ignore[method-assign]
    await wide.deliver(WIDE)
    wide.clock += fastpath.QUIET_SECONDS
    await wide.controller.step()
    assert wide.conditions() == ["other", "other"]
    assert "409" in wide.log.named("fastpath_write_failed")[0]["problem"]
    await wide.settle(5)
    assert "wide" not in wide.conditions()


async def test_a_write_overtaken_by_a_newer_policy_is_reverted() -> None:
    """Another controller wrote nothing for the newer policy, so there is no conflict."""
    setup = Setup()
    await setup.deliver(NOTHING_PRE_APPROVED)
    await setup.settle()
    get = setup.cluster.get

    async def overtaken(path: str) -> dict[str, Any] | None:
        found = await get(path)
        if path == POLICY:
            setup.cluster.get = get  # type: ignore[method-assign]
            setup.store(NOTHING_PRE_APPROVED + "# newer\n")
        return found

    setup.clock += 60
    setup.controller.seen()
    await setup.deliver(WIDE)
    setup.cluster.get = overtaken  # type: ignore[method-assign]
    setup.clock += fastpath.QUIET_SECONDS
    assert await setup.controller.step() == 0.0
    assert not setup.recorder.in_step
    await setup.controller.step()
    assert setup.conditions() == ["none", "none"]


async def test_a_doubt_that_ends_during_a_write_is_dropped(wide: Setup) -> None:
    """The API server is slow, so the next check of the ConfigMap is due when the write ends."""
    replace = wide.cluster.replace

    async def slow(path: str, document: dict[str, Any]) -> None:
        wide.clock += fastpath.CONFIGMAP_RETRY_SECONDS
        await replace(path, document)

    wide.cluster.replace = slow  # type: ignore[method-assign]
    await wide.deliver(OTHER, stored=False)
    wide.store(OTHER)
    assert await wide.controller.step() == 0.0
    assert wide.conditions() == ["none", "none"]
    await wide.settle()
    assert wide.conditions() == ["other", "other"]


def test_the_alarm_for_a_refused_expression_lasts_until_it_is_tried_again() -> None:
    rules = Path(__file__).parents[3] / "monitoring" / "rules.yaml"
    [hours] = re.findall(r'writes_total\{result="refused"\}\[([0-9]+)h\]', rules.read_text())
    assert int(hours) * 3600 > conditions.LONGEST_REFUSED_SECONDS


async def test_a_failing_write_is_retried_with_growing_pauses(wide: Setup) -> None:
    wide.refuse(403)
    pause, start = await wide.deliver(TIGHT), wide.clock
    while wide.clock < start + 600:
        wide.clock += pause
        wide.controller.seen()
        pause = await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    # The controller retries after 5, 10, 20 and 40 seconds, and then every 60 seconds.
    assert wide.recorder.writes.count("failed") == pytest.approx(14, abs=1)
    assert wide.recorder.writes.count("written") == 4


async def test_a_rule_that_expired_while_nothing_could_be_written_is_never_written(wide: Setup) -> None:
    wide.refuse(403)
    await wide.deliver(DATED)
    wide.clock = 3600.0
    for _ in range(5):
        wide.controller.seen()
        await wide.controller.step()
    wide.recover()
    await wide.settle()
    wide.clock += 60
    await wide.settle()
    assert wide.skipped() == ["a.io"]


async def test_a_policy_that_is_seen_again_starts_a_step(wide: Setup) -> None:
    wide.clock += UNSEEN_SECONDS + 1
    wide.controller._wake.clear()
    wide.controller.seen()
    assert wide.controller._wake.is_set()
