"""Some events remove the webhook configurations. The tests cover pauses, alarms, Events and drift too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from e2e.acting import (
    PAUSED_UNTIL,
    SERVICE,
    alarm,
    annotate,
    control,
    edit,
    pause,
    recreate,
    refused,
    wait_another_pass,
)
from tools.controlplane.exchange import ApiError
from tools.installation.product import NAMESPACE, VALIDATING, Installed
from tools.polling import wait_until

DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gatekeeper-py"


@pytest.fixture
def enforcing(product: Installed) -> Iterator[Installed]:
    product.set_mode("enforce")
    yield product
    annotate(product, f"{PAUSED_UNTIL}-")
    product.wait_armed()


def events(product: Installed, reason: str) -> list[dict[str, Any]]:
    found = product.plane.api("GET", f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason%3D{reason}")
    items: list[dict[str, Any]] = found["items"]
    return items


@pytest.mark.parametrize(
    ("path", "what"),
    [pytest.param(SERVICE, "service", id="service"), pytest.param(DEPLOYMENT, "deployment", id="deployment")],
)
def test_a_deleted_part_alarms_and_the_cluster_stays_closed(
    enforcing: Installed, namespace: str, path: str, what: str
) -> None:
    document = enforcing.plane.api("GET", path)
    enforcing.plane.api("DELETE", path)
    try:
        wait_until(lambda: alarm(enforcing, what) == 1, seconds=30, what=f"the alarm {what}")
        wait_until(lambda: alarm(enforcing, "endpoints") == 1, seconds=60, what="the alarm endpoints")
        assert enforcing.get(VALIDATING) is not None
        assert refused(enforcing, namespace)
    finally:
        recreate(enforcing.plane, path, document)
    wait_until(lambda: alarm(enforcing, what) == 0, seconds=30, what=f"the end of the alarm {what}")
    wait_until(lambda: alarm(enforcing, "endpoints") == 0, seconds=60, what="the end of the alarm endpoints")
    enforcing.wait_armed()


def test_a_pause_opens_the_cluster_and_ends_by_itself(enforcing: Installed, namespace: str) -> None:
    assert refused(enforcing, namespace)
    until = pause(enforcing, timedelta(seconds=20))
    wait_until(lambda: enforcing.get(VALIDATING) is None, seconds=10, what="the configurations removed")
    wait_until(lambda: not refused(enforcing, namespace), seconds=5, what="Pods admitted")
    paused = "paused_until_timestamp_seconds"
    assert control(enforcing, paused) == pytest.approx(until.timestamp(), abs=1)
    assert control(enforcing, "armed") == 0
    assert events(enforcing, "Paused")
    wait_until(lambda: enforcing.get(VALIDATING) is not None, seconds=40, what="armed again")
    assert datetime.now(UTC) >= until - timedelta(seconds=1)
    wait_until(lambda: refused(enforcing, namespace), seconds=10, what="Pods reviewed again")
    assert control(enforcing, paused) == 0
    wait_until(lambda: events(enforcing, "Armed"), seconds=10, what="the Event")


def test_a_bad_pause_is_ignored_with_an_alarm_and_an_event(enforcing: Installed, namespace: str) -> None:
    annotate(enforcing, f"{PAUSED_UNTIL}=forever")
    wait_until(lambda: alarm(enforcing, "pause") == 1, seconds=15, what="the alarm")
    assert enforcing.get(VALIDATING) is not None
    assert refused(enforcing, namespace)
    wait_until(
        lambda: any("forever" in event["message"] for event in events(enforcing, "PauseIgnored")),
        seconds=10,
        what="the Event",
    )
    annotate(enforcing, f"{PAUSED_UNTIL}-")
    wait_until(lambda: alarm(enforcing, "pause") == 0, seconds=15, what="the end of the alarm")


@contextmanager
def actor(product: Installed) -> Iterator[list[int]]:
    """Act like Azure Kubernetes Service: add its terms to every selector that lacks them.

    Yields the number of times it had to write.
    """
    terms = [
        {"key": "control-plane", "operator": "NotIn", "values": ["true"]},
        {"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]},
    ]
    writes: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.2):
            live = product.plane.api("GET", VALIDATING)
            missing = False
            for webhook in live["webhooks"]:
                expressions = webhook["namespaceSelector"]["matchExpressions"]
                absent = [term for term in terms if term not in expressions]
                missing = missing or bool(absent)
                expressions += absent
            if missing:
                try:
                    product.plane.api("PUT", VALIDATING, live)
                    writes.append(live["metadata"]["generation"])
                except ApiError:
                    pass  # a conflict: it reads the object again

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield writes
    finally:
        stop.set()
        thread.join()


def test_terms_of_a_managed_platform_are_tolerated(enforcing: Installed, namespace: str) -> None:
    repairs = control(enforcing, "repairs_total")
    with actor(enforcing) as writes:
        wait_until(lambda: writes, seconds=10, what="the actor's first write")
        wait_another_pass(enforcing)
        assert len(writes) == 1
    assert control(enforcing, "repairs_total") == repairs
    assert control(enforcing, "tolerated_selector_terms") == 6
    assert refused(enforcing, namespace)

    def without_terms(live: dict[str, Any]) -> None:
        for webhook in live["webhooks"]:
            del webhook["namespaceSelector"]["matchExpressions"][1:]

    edit(enforcing, without_terms)


def pods(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["webhooks"][0]
    return found


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(
            lambda live: pods(live)["namespaceSelector"]["matchExpressions"].append(
                {"key": "control-plane", "operator": "Exists"}
            ),
            "selector",
            id="a-term-that-switches-it-off",
        ),
        pytest.param(
            lambda live: pods(live)["clientConfig"]["service"].update(name="elsewhere"),
            "client-config",
            id="another-service",
        ),
        pytest.param(lambda live: live["webhooks"].pop(0), "webhooks", id="a-webhook-removed"),
    ],
)
def test_an_edit_is_repaired_counted_and_recorded(
    enforcing: Installed, namespace: str, change: Callable[[dict[str, Any]], object], what: str
) -> None:
    """controller/webhooks/test_drift.py and controller/test_plan.py have all other edits."""
    good = enforcing.plane.api("GET", VALIDATING)["webhooks"]
    counted = f'tampering_total{{what="{what}"}}'
    total, before = control(enforcing, "tampering_total"), control(enforcing, counted)
    recorded = len(events(enforcing, "Repaired"))
    edit(enforcing, change)
    wait_until(
        lambda: enforcing.plane.api("GET", VALIDATING)["webhooks"] == good,
        seconds=30,
        what="the edit repaired",
    )
    wait_until(lambda: control(enforcing, counted) == before + 1, seconds=30, what="the edit counted")
    assert control(enforcing, "tampering_total") == total + 1
    # The edit before this one, some seconds ago, does not prevent an Event.
    wait_until(lambda: len(events(enforcing, "Repaired")) == recorded + 1, seconds=10, what="its Event")
    wait_until(lambda: refused(enforcing, namespace), seconds=10, what="Pods reviewed again")


def test_a_deletion_is_repaired_and_counted(enforcing: Installed) -> None:
    counted = 'tampering_total{what="deleted"}'
    before = control(enforcing, counted)
    enforcing.plane.api("DELETE", VALIDATING)
    wait_until(lambda: control(enforcing, counted) == before + 1, seconds=30, what="the deletion counted")
    enforcing.wait_armed()
