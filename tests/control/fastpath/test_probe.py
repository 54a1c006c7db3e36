"""The controller probes removed images until the webhook is called, as long as the probe is useful."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control.fastpath.stepping import HEAD, OTHER, REMOVED, TIGHT, WIDE, view_of
from control.world import START
from gatekeeper_py.control.fastpath.dry_run import DryRun
from gatekeeper_py.control.fastpath.policy_view import NOTHING_SKIPPED, unknown
from gatekeeper_py.control.fastpath.probe import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    SUSPICIOUS_SECONDS,
    RemovalProbe,
)
from gatekeeper_py.control.fastpath.probe_image import ProbeImage
from recording import RecordingLog

FROM_WIDE = view_of(WIDE, None).fast_path


class Site:
    """A removal probe with a clock, and an API server that calls the webhook or not."""

    def __init__(self, *, probing: bool = True) -> None:
        self.calls_webhook = True
        self.clock = 0.0
        self.probed: list[str] = []
        self.log = RecordingLog()
        self.removal_probe = RemovalProbe(
            self.probe if probing else None,
            "probe",
            log=self.log,
            now=lambda: START + timedelta(seconds=self.clock),
            monotonic=lambda: self.clock,
        )

    async def probe(self, candidate: ProbeImage) -> DryRun:
        self.probed.append(candidate.image)
        return DryRun(called=self.calls_webhook, problem="403 exceeded quota")

    @property
    def alarms(self) -> list[dict[str, Any]]:
        return self.log.named("fastpath_not_verified")

    async def pauses(self, most: int = 100) -> list[float]:
        """Run the attempts when they are due; return the pauses between them."""
        found: list[float] = []
        while len(found) < most and (pause := await self.removal_probe.attempt()) is not None:
            found.append(pause)
            self.clock += pause
        return found


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_probe_that_calls_the_webhook_succeeds_at_once(site: Site) -> None:
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT, None))
    assert await site.removal_probe.attempt() is None
    assert site.probed == [REMOVED]
    assert site.removal_probe.verified == (ProbeImage("validating", REMOVED),)
    assert await site.removal_probe.attempt() is None
    assert site.probed == [REMOVED]


async def test_both_webhooks_are_probed(site: Site) -> None:
    text = OTHER + "- {from: b.io, to: c.io/b}\n"
    await site.removal_probe.begin(FROM_WIDE, view_of(text, "mutate"))
    assert await site.removal_probe.attempt() is None
    assert site.removal_probe.verified == (
        ProbeImage("validating", "a.io/gatekeeper-py-probe"),
        ProbeImage("mutating", REMOVED),
    )


async def test_a_probe_that_does_not_call_the_webhook_is_repeated_and_alarms(site: Site) -> None:
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT, None))
    pauses = await site.pauses(most=20)
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    late = [each for each in range(20) if sum(pauses[:each]) > SUSPICIOUS_SECONDS]
    assert len(site.alarms) == len(late)
    assert site.alarms[0]["image"] == REMOVED
    assert site.alarms[0]["problem"] == "403 exceeded quota"
    site.calls_webhook = True
    assert await site.removal_probe.attempt() is None


async def test_a_pending_probe_is_kept_while_it_is_useful(site: Site) -> None:
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT, None))
    await site.removal_probe.attempt()
    tight = view_of(TIGHT + "message: ask us\n", None)
    await site.removal_probe.begin(tight.fast_path, tight)
    assert await site.removal_probe.attempt() is not None
    await site.removal_probe.begin(tight.fast_path, view_of(WIDE, None))
    site.probed.clear()
    assert await site.removal_probe.attempt() is None
    assert site.probed == []


async def test_a_newer_removal_replaces_a_pending_probe(site: Site) -> None:
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT, None))
    await site.removal_probe.begin(view_of(TIGHT, None).fast_path, view_of(OTHER, None))
    site.calls_webhook = True
    assert await site.removal_probe.attempt() is None
    assert site.probed == ["a.io/gatekeeper-py-probe"]


async def test_a_pending_probe_ends_when_expiry_approves_its_image(site: Site) -> None:
    deny = HEAD + "allow: [a.io, b.io]\ndeny: [{image: b.io, until: 2026-01-02}]\n"
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(deny, None))
    assert len(await site.pauses(most=20)) == 20
    site.clock += 24 * 3600
    assert len(await site.pauses()) == 1


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(view_of(WIDE, None), id="nothing-taken-off"),
        pytest.param(unknown("deleted"), id="no-policy"),
    ],
)
async def test_nothing_is_probed_without_a_useful_image(site: Site, known: Any) -> None:
    await site.removal_probe.begin(FROM_WIDE, known)
    assert await site.removal_probe.attempt() is None
    assert site.probed == []


async def test_nothing_is_probed_if_nothing_was_skipped_before(site: Site) -> None:
    await site.removal_probe.begin(NOTHING_SKIPPED, view_of(WIDE, None))
    assert await site.removal_probe.attempt() is None
    assert site.probed == []


async def test_nothing_is_probed_without_a_probe_namespace() -> None:
    site = Site(probing=False)
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT, None))
    assert await site.removal_probe.attempt() is None
    assert site.removal_probe.verified == ()
