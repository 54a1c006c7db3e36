"""The answer of ``/policy`` stays small after the refusal of any document."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Final

import orjson
import pytest

from builders import INSTANT, policy_text
from gatekeeper_py.core.policy.finding import MAX_FINDINGS, Finding
from gatekeeper_py.delivery import Delivery
from gatekeeper_py.live import CacheCounts, LivePolicy
from gatekeeper_py.reload import RefusedDelivery, Reloader
from gatekeeper_py.serving.metrics import Metrics
from gatekeeper_py.serving.policypage import describe_policy
from parsing import InProcessParser
from recording import RecordingLog

MAX_BYTES: Final = 256 * 1024


@pytest.mark.parametrize("character", ['"', "\\", "x", "\N{GRINNING FACE}", "\x01"])
async def test_it_stays_under_256_kib(character: str) -> None:
    live, counts = LivePolicy(), CacheCounts()
    metrics = Metrics(live, counts)
    reloader = Reloader(
        live,
        InProcessParser(),
        source="configmap",
        source_name="gatekeeper-py/gatekeeper-py-policy",
        cache_size=10,
        counts=counts,
        observer=metrics,
        log=RecordingLog(),
        now=lambda: INSTANT,
    )
    assert await reloader.apply(Delivery(text=policy_text())) == "loaded"
    assert reloader.loaded is not None
    long = character * 10_000
    finding = Finding(severity="warning", code="x", path=long, line=1, message=long, proposal=character * 300)
    findings = (finding,) * (MAX_FINDINGS + 1)
    reloader.loaded = dataclasses.replace(reloader.loaded, findings=findings)
    reloader.refused = RefusedDelivery(
        at=INSTANT + timedelta(days=1), findings=findings, delivery=Delivery(text="")
    )
    shown = describe_policy(reloader, live, dict)
    assert 80_000 < len(orjson.dumps(shown)) < MAX_BYTES
    for entries in (shown["findings"], shown["refused"]["findings"]):
        assert len(entries) == MAX_FINDINGS + 1 or entries[-1]["code"] == "more-findings"
