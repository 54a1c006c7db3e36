"""Some events remove the webhook configurations. The tests cover pauses, alarms, Events and drift too."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tools.controlplane.exchange import ApiError
from tools.installation.product import (
    NAMESPACE,
    SECRET,
    UNLISTED,
    VALIDATING,
    Installed,
    pod,
)
from tools.polling import wait_until

SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/gatekeeper-py"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gatekeeper-py"
ANNOTATION = "gatekeeper-py/paused-until"


@pytest.fixture
def enforcing(product: Installed) -> Iterator[Installed]:
    product.set_mode("enforce")
    yield product
    product.plane.kubectl("annotate", "namespace", NAMESPACE, f"{ANNOTATION}-")
    product.wait_armed()


def refused(product: Installed, namespace: str) -> bool:
    done = product.plane.kubectl(
        "create",
        "-n",
        namespace,
        "--dry-run=server",
        "-f",
        "-",
        input=json.dumps(pod("a", UNLISTED)),
        check=False,
    )
    return done.returncode != 0


def alarm(product: Installed, what: str) -> float:
    (controller,) = product.controllers()
    return product.metric(controller.address, f'gatekeeper_py_control_alarm{{what="{what}"}}')


def events(product: Installed, reason: str) -> list[dict[str, Any]]:
    found = product.plane.api("GET", f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason%3D{reason}")
    items: list[dict[str, Any]] = found["items"]
    return items


def rfc3339(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def again(product: Installed, document: dict[str, Any], collection: str) -> None:
    """Create a deleted object again."""
    metadata = {key: document["metadata"].get(key) for key in ("name", "namespace", "labels", "annotations")}
    spec = {key: value for key, value in document["spec"].items() if key not in {"clusterIP", "clusterIPs"}}
    body = {**{key: document[key] for key in ("apiVersion", "kind")}, "metadata": metadata, "spec": spec}
    product.plane.api("POST", collection, body)


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
        again(enforcing, document, path.rpartition("/")[0])
    wait_until(lambda: alarm(enforcing, what) == 0, seconds=30, what=f"the end of the alarm {what}")
    wait_until(lambda: alarm(enforcing, "endpoints") == 0, seconds=60, what="the end of the alarm endpoints")
    enforcing.wait_armed()


def test_a_deleted_secret_disarms_nothing(enforcing: Installed, namespace: str) -> None:
    enforcing.plane.api("DELETE", SECRET)
    wait_until(lambda: enforcing.get(SECRET), seconds=30, what="the Secret created again")
    assert enforcing.get(VALIDATING) is not None
    assert refused(enforcing, namespace)


def test_a_pause_opens_the_cluster_and_ends_by_itself(enforcing: Installed, namespace: str) -> None:
    (controller,) = enforcing.controllers()
    assert refused(enforcing, namespace)
    until = datetime.now(UTC) + timedelta(seconds=20)
    enforcing.plane.kubectl(
        "annotate", "namespace", NAMESPACE, f"{ANNOTATION}={rfc3339(until)}", "--overwrite"
    )
    wait_until(lambda: enforcing.get(VALIDATING) is None, seconds=10, what="the configurations removed")
    wait_until(lambda: not refused(enforcing, namespace), seconds=5, what="Pods admitted")
    paused = "gatekeeper_py_control_paused_until_timestamp_seconds"
    assert enforcing.metric(controller.address, paused) == pytest.approx(until.timestamp(), abs=1)
    assert enforcing.metric(controller.address, "gatekeeper_py_control_armed") == 0
    assert events(enforcing, "Paused")
    wait_until(lambda: enforcing.get(VALIDATING) is not None, seconds=40, what="armed again")
    assert datetime.now(UTC) >= until - timedelta(seconds=1)
    wait_until(lambda: refused(enforcing, namespace), seconds=10, what="Pods reviewed again")
    assert enforcing.metric(controller.address, paused) == 0
    wait_until(lambda: events(enforcing, "Armed"), seconds=10, what="the Event")


@pytest.mark.oldest
def test_removing_the_annotation_ends_a_pause(enforcing: Installed) -> None:
    until = rfc3339(datetime.now(UTC) + timedelta(hours=1))
    enforcing.plane.kubectl("annotate", "namespace", NAMESPACE, f"{ANNOTATION}={until}", "--overwrite")
    wait_until(lambda: enforcing.get(VALIDATING) is None, seconds=10, what="the configurations removed")
    enforcing.plane.kubectl("annotate", "namespace", NAMESPACE, f"{ANNOTATION}-")
    wait_until(lambda: enforcing.get(VALIDATING) is not None, seconds=20, what="armed again")


@pytest.mark.parametrize("value", ["forever", "2020-01-01", "2999-01-01T00:00:00Z"])
def test_a_bad_pause_is_ignored_with_an_alarm_and_an_event(
    enforcing: Installed, namespace: str, value: str
) -> None:
    enforcing.plane.kubectl("annotate", "namespace", NAMESPACE, f"{ANNOTATION}={value}", "--overwrite")
    wait_until(lambda: alarm(enforcing, "pause") == 1, seconds=15, what="the alarm")
    assert enforcing.get(VALIDATING) is not None
    assert refused(enforcing, namespace)
    wait_until(
        lambda: any(value in event["message"] for event in events(enforcing, "PauseIgnored")),
        seconds=10,
        what="the Event",
    )
    enforcing.plane.kubectl("annotate", "namespace", NAMESPACE, f"{ANNOTATION}-")
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
    (controller,) = enforcing.controllers()
    repairs = enforcing.metric(controller.address, "gatekeeper_py_control_repairs_total")
    passes = 'gatekeeper_py_control_reconciles_total{result="completed"}'
    with actor(enforcing) as writes:
        wait_until(lambda: writes, seconds=10, what="the actor's first write")
        seen = enforcing.metric(controller.address, passes)
        enforcing.plane.kubectl("annotate", "namespace", NAMESPACE, "example.com/touched=1", "--overwrite")
        wait_until(
            lambda: enforcing.metric(controller.address, passes) > seen + 1,
            seconds=60,
            what="two more passes",
        )
        assert len(writes) == 1
    assert enforcing.metric(controller.address, "gatekeeper_py_control_repairs_total") == repairs
    assert enforcing.metric(controller.address, "gatekeeper_py_control_tolerated_selector_terms") == 6
    assert refused(enforcing, namespace)
    live = enforcing.plane.api("GET", VALIDATING)
    for webhook in live["webhooks"]:
        webhook["namespaceSelector"]["matchExpressions"] = webhook["namespaceSelector"]["matchExpressions"][
            :1
        ]
    enforcing.plane.api("PUT", VALIDATING, live)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(
            lambda it: it["namespaceSelector"]["matchExpressions"].append(
                {"key": "control-plane", "operator": "Exists"}
            ),
            id="a-term-that-switches-it-off",
        ),
        pytest.param(lambda it: it["clientConfig"]["service"].update(name="elsewhere"), id="another-service"),
        pytest.param(lambda it: it.update(failurePolicy="Ignore"), id="failure-policy"),
    ],
)
def test_drift_is_repaired_with_an_event(enforcing: Installed, namespace: str, edit: Any) -> None:
    good = enforcing.plane.api("GET", VALIDATING)["webhooks"]
    live = enforcing.plane.api("GET", VALIDATING)
    edit(live["webhooks"][0])
    enforcing.plane.api("PUT", VALIDATING, live)
    wait_until(
        lambda: enforcing.plane.api("GET", VALIDATING)["webhooks"] == good,
        seconds=20,
        what="the drift repaired",
    )
    assert events(enforcing, "Repaired")
    wait_until(lambda: refused(enforcing, namespace), seconds=10, what="Pods reviewed again")
