"""Kubernetes Events have the documented fields, and a failure to record one changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.world import INSTALLATION, START, FakeCluster
from gatekeeper_py.controller.events import Events, Reason
from support.recording import RecordingLog


class Setup:
    def __init__(self) -> None:
        self.api, self.log, self.now = FakeCluster(), RecordingLog(), START
        self.events = Events(self.api, INSTALLATION, log=self.log, now=lambda: self.now)


async def test_an_event_is_about_the_configuration_in_our_namespace() -> None:
    setup = Setup()
    await setup.events.record("Armed", "armed with 3 replicas")
    [(path, event)] = setup.api.posted
    assert path == "/api/v1/namespaces/ns/events"
    assert event["metadata"].pop("name").startswith("image-validation-webhook.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "ns"},
        "involvedObject": {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "name": "image-validation-webhook",
            "namespace": "ns",
        },
        "type": "Normal",
        "reason": "Armed",
        "message": "armed with 3 replicas",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
        "source": {"component": "gatekeeper-py-controller"},
    }


@pytest.mark.parametrize("reason", ["Repaired", "PolicyRefused"])
async def test_at_most_ten_events_with_a_limited_reason_are_recorded_in_a_minute(reason: Reason) -> None:
    setup = Setup()
    for number in range(20):
        await setup.events.record(reason, f"change {number}")
        setup.now += timedelta(seconds=3)
    recorded = [event["message"] for _, event in setup.api.posted]
    assert recorded == [f"change {number}" for number in range(10)]
    await setup.events.record(reason, "a minute after the first one")
    assert len(setup.api.posted) == 11
    assert {event["type"] for _, event in setup.api.posted} == {"Warning"}


async def test_other_reasons_are_not_limited() -> None:
    setup = Setup()
    for _ in range(20):
        await setup.events.record("Disarmed", "disarmed")
    assert len(setup.api.posted) == 20


async def test_a_refused_policy_is_about_its_configmap() -> None:
    setup = Setup()
    await setup.events.record("PolicyRefused", "line 1: no", kind="ConfigMap", name="gatekeeper-py-policy")
    [(_, event)] = setup.api.posted
    assert event["type"] == "Warning"
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "gatekeeper-py-policy",
        "namespace": "ns",
    }


async def test_a_long_message_is_cut() -> None:
    setup = Setup()
    await setup.events.record("Disarmed", "x" * 5000)
    assert len(setup.api.posted[0][1]["message"]) == 1000


async def test_a_failure_is_logged() -> None:
    setup = Setup()
    setup.api.fail = lambda _verb, _path: True
    await setup.events.record("Paused", "paused")
    [logged] = setup.log.named("event_not_recorded")
    assert logged["reason"] == "Paused"
    assert "500 Internal Server Error" in logged["problem"]
