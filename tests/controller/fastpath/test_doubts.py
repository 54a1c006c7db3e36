"""Any doubt about the policy removes the match conditions, so that API servers always call the webhook."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.fastpath.stepping import (
    BAD,
    DATED,
    GONE,
    HEAD,
    OTHER,
    POLICY,
    TIGHT,
    VALIDATE,
    WIDE,
    Setup,
    view_of,
)
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.fastpath import conditions
from gatekeeper_py.controller.fastpath import reconcile as fastpath
from gatekeeper_py.controller.fastpath.reconcile import UNSEEN_SECONDS
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION

NOTHING_PRE_APPROVED = HEAD + "allow: ['foo:443/']\n"


@pytest.fixture
async def wide() -> Setup:
    """Return a controller that has been in step with ``WIDE`` for a while."""
    setup = Setup()
    await setup.in_step_with_wide()
    return setup


async def test_nothing_is_skipped_before_the_policy_is_read(wide: Setup) -> None:
    """A restarted controller does not know how old the existing conditions are."""
    wide.start()
    await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    assert not wide.recorder.in_step
    assert wide.log.named("fastpath_disabled") == [{"reason": "the policy is not known yet"}]


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        pytest.param(BAD, None, "the document is refused: line 4, allow[0]: ", id="bad-document"),
        pytest.param("}", None, "the document is refused: line 1: ", id="not-yaml"),
        pytest.param(WIDE, "strict", "the document is refused: line ", id="bad-mode"),
        pytest.param(GONE, None, "ConfigMap was deleted", id="gone"),
    ],
)
async def test_nothing_is_skipped_without_a_policy(
    wide: Setup, text: str, mode: str | None, reason: str
) -> None:
    """Replicas may serve a good policy that this controller never saw."""
    await wide.deliver(text, mode)
    assert wide.conditions() == ["none", "none"]
    assert FAST_PATH_REVISION not in wide.cluster.objects[VALIDATE.path]["metadata"]["annotations"]
    assert not wide.recorder.in_step
    assert wide.log.named("fastpath_disabled")[0]["reason"].startswith(reason)
    await wide.deliver(text, mode)
    assert len(wide.log.named("fastpath_disabled")) == 1
    await wide.deliver(WIDE)
    await wide.settle()
    assert wide.conditions() == ["wide", "wide"]
    assert wide.recorder.in_step


async def test_a_policy_that_pre_approves_nothing_removes_the_conditions(wide: Setup) -> None:
    await wide.deliver(HEAD + "allow: ['foo:443/']\n")
    assert wide.conditions() == ["none", "none"]
    assert wide.recorder.in_step
    assert wide.recorder.rules == {"validating": 0, "mutating": 0}


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


async def test_a_policy_unseen_for_long_counts_as_unknown(wide: Setup) -> None:
    seen = wide.clock
    while wide.clock <= seen + UNSEEN_SECONDS:
        assert wide.conditions() == ["wide", "wide"]
        wide.clock += await wide.controller.step()
    assert wide.clock < seen + UNSEEN_SECONDS + 1
    await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    assert not wide.recorder.in_step
    wide.clock += 1000
    wide.controller._wake.clear()
    wide.controller.seen()
    assert wide.controller._wake.is_set()
    await wide.settle()
    assert wide.conditions() == ["wide", "wide"]
    assert wide.recorder.in_step


async def test_conditions_stay_while_the_watch_of_the_policy_is_alive(wide: Setup) -> None:
    for _ in range(20):
        wide.clock += UNSEEN_SECONDS - 1
        wide.controller.seen()
        await wide.controller.step()
    assert wide.puts() == []


@pytest.mark.parametrize("holds", [TIGHT, GONE])
async def test_a_delivery_older_than_the_configmap_is_not_used(wide: Setup, holds: str) -> None:
    """The watch may lag, or another controller may be ahead."""
    wide.store(holds)
    await wide.deliver(OTHER, stored=False)
    await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    await wide.settle(5)
    assert "other" not in wide.conditions()
    wide.store(OTHER)
    await wide.settle()
    assert wide.conditions() == ["other", "other"]


@pytest.mark.parametrize("text", [TIGHT, WIDE + "  # as wide\n"], ids=["tighter", "as-wide"])
async def test_a_delivery_that_cannot_be_compared_is_not_used(wide: Setup, text: str) -> None:
    wide.cluster.fail = lambda _verb, path: path == POLICY
    await wide.deliver(text)
    await wide.settle(3)
    assert wide.conditions() == ["none", "none"]


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


async def test_an_unreported_change_of_the_configmap_is_noticed_within_a_minute(wide: Setup) -> None:
    """A watch may deliver only bookmarks for a long time."""
    wide.store(TIGHT)
    await wide.settle()
    wide.clock += fastpath.CHECK_SECONDS
    wide.controller.seen()
    for _ in range(2):
        await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    assert not wide.recorder.in_step


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


def refuse_expressions(setup: Setup, status: int) -> Callable[[], None]:
    """Make the API server refuse all conditions, and return a function that ends this."""
    replace = setup.cluster.replace

    async def picky(path: str, document: dict[str, Any]) -> None:
        if FAST_PATH_CONDITION in str(document):
            raise ApiError("replace", path, status, "")
        await replace(path, document)

    setup.cluster.replace = picky  # type: ignore[method-assign]
    return lambda: setattr(setup.cluster, "replace", replace)


@pytest.mark.parametrize("status", [400, 422])
async def test_no_image_skips_the_webhook_after_a_refused_expression(wide: Setup, status: int) -> None:
    end = refuse_expressions(wide, status)
    await wide.deliver(OTHER)
    await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    assert wide.controller.conditions == NO_CONDITIONS
    assert len(wide.log.named("fastpath_expression_refused")) == 1
    assert "refused" in wide.recorder.writes
    assert not wide.recorder.in_step
    for _ in range(int(conditions.FIRST_REFUSED_SECONDS) - 2):
        wide.clock += 1
        wide.controller.seen()
        await wide.controller.step()
    assert len(wide.log.named("fastpath_expression_refused")) == 1
    end()
    await wide.settle()
    assert wide.conditions() == ["other", "other"]


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        pytest.param(403, 1, id="forbidden"),
        pytest.param(413, 1, id="too-large"),
        pytest.param(500, 2, id="server-error"),
        pytest.param(0, 2, id="unreachable"),
    ],
)
async def test_conditions_that_admit_too_much_are_removed_when_a_write_fails(
    wide: Setup, status: int, tries: int
) -> None:
    end = refuse_expressions(wide, status)
    wide.clock += await wide.deliver(TIGHT)
    for _ in range(tries):
        assert not wide.recorder.in_step
        wide.clock += await wide.controller.step()
    assert wide.conditions() == ["none", "none"]
    assert wide.controller.conditions == NO_CONDITIONS
    end()
    await wide.settle()
    assert wide.conditions() == ["tight", "tight"]
    assert wide.recorder.in_step


async def test_a_conflict_does_not_disable_the_fast_path(wide: Setup) -> None:
    """A conflict only means that another writer was faster."""
    end = refuse_expressions(wide, 409)
    pause = await wide.deliver(TIGHT)
    for _ in range(5):
        assert 0 < pause < conditions.FIRST_UNWRITABLE_SECONDS
        wide.clock += pause
        pause = await wide.controller.step()
    assert wide.controller.conditions == view_of(TIGHT).conditions
    end()
    await wide.controller.step()
    assert wide.conditions() == ["tight", "tight"]


async def test_a_failing_write_is_retried_with_growing_pauses(wide: Setup) -> None:
    refuse_expressions(wide, 403)
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
    end = refuse_expressions(wide, 403)
    await wide.deliver(DATED)
    wide.clock = 3600.0
    for _ in range(5):
        wide.controller.seen()
        await wide.controller.step()
    end()
    await wide.settle()
    wide.clock += 60
    await wide.settle()
    assert wide.skipped() == ["a.io"]
