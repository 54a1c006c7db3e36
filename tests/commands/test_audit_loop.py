"""``audit --every``: its log, the errors that it survives, and its end."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from builders import pod, policy_text
from commanding import Write
from documented import DOCS, check_event
from fakecluster import FakeCluster, status
from gatekeeper_py.reporting.policyreports.apis import OPENREPORTS
from server import CLEAN_ENVIRONMENT

PODS = "/api/v1/pods"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    for name, image in (("web-1", "nginx:1.25"), ("web-2", "registry.corp.io/web:1")):
        cluster.add(PODS, {"metadata": {"name": name, "namespace": "shop"}, "spec": pod(image)["spec"]})
    with cluster.serving():
        yield cluster


@pytest.fixture
def start(cluster: FakeCluster, tmp_path: Path) -> Iterator[Start]:
    """Start the loop with a policy file, or with a ConfigMap; it is killed at the end if it still runs."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, policy: bool = True) -> subprocess.Popen[str]:
        kubeconfig = cluster.kubeconfig(tmp_path)
        given = ("--policy", str(tmp_path / "policy.yaml"))
        live = ("--configmap", "gatekeeper-py/gatekeeper-py-policy")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gatekeeper_py", "audit", "--every", "10s"),
                *(given if policy else live),
                *("--kubeconfig", str(kubeconfig), *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=CLEAN_ENVIRONMENT,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """Return the next event of this name."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        check_event(found["event"])
        if found["event"] == name:
            return found
        seen.append(line)
    raise AssertionError(seen)


def test_it_logs_each_audit_and_ends_at_a_signal(start: Start, write: Write) -> None:
    write(policy_text())
    process = start("--report", "none")
    found = event(process, "audited")
    assert {key: found[key] for key in ("objects", "images", "rejected", "report", "created", "events")} == {
        "objects": 2,
        "images": 2,
        "rejected": 1,
        "report": None,
        "created": 0,
        "events": 0,
    }
    process.send_signal(signal.SIGTERM)
    event(process, "stopped")
    assert process.wait(30) == 0


@pytest.mark.long  # waits for the next audit, ten seconds
def test_each_audit_reads_the_exemptions_again(cluster: FakeCluster, start: Start) -> None:
    """The reports in the cluster follow the settings of the webhooks, and the labels of namespaces."""
    settings = "/api/v1/namespaces/gatekeeper-py/configmaps/gatekeeper-py-webhooks"
    labels = {"tier": "platform"}
    cluster.add("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": labels}})
    cluster.documents["/api/v1/namespaces/gatekeeper-py/configmaps/gatekeeper-py-policy"] = {
        "data": {"policy.yaml": policy_text()}
    }
    cluster.documents[settings] = {"data": {"webhooks.yaml": "exemptNamespaceLabels: {tier: platform}"}}
    process = start("--report", "none", policy=False)
    found = event(process, "audited")
    assert (found["rejected"], found["exempt"]) == (0, 2)
    cluster.documents[settings] = {"data": {"webhook.yaml": ""}}
    assert "has no key webhooks.yaml" in event(process, "exemptions_unknown")["problem"]
    assert event(process, "audited")["rejected"] == 1


def test_a_cluster_without_reports_is_a_warning(start: Start, write: Write) -> None:
    write(policy_text())
    process = start()
    assert event(process, "no_report_api")["choice"] == "auto"
    event(process, "audited")


@pytest.mark.long  # waits for the next audit, ten seconds
def test_a_failed_audit_is_logged_and_the_next_one_reads_the_policy_again(
    start: Start, write: Write, cluster: FakeCluster
) -> None:
    path = write("mode: [")
    process = start("--report", "none")
    assert str(path) in event(process, "audit_failed")["problem"]
    write(policy_text())
    cluster.script[PODS].append(status(403, "pods is forbidden"))
    assert "cannot list pods" in event(process, "audit_failed")["problem"]
    assert event(process, "audited")["rejected"] == 1


@pytest.mark.long  # waits for the next audit, ten seconds
def test_the_documented_search_shows_how_each_audit_ended(start: Start, write: Write) -> None:
    command = re.search(r"grep -E '(.+?)' \| tail", (DOCS / "reports.md").read_text(encoding="utf-8"))
    assert command is not None
    path = write("mode: [")
    process = start("--report", "none")
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        if re.search(command[1], line):
            shown.append(json.loads(line)["event"])
            path.write_text(policy_text(), encoding="utf-8")
        if len(shown) == 2:
            break
    assert shown == ["audit_failed", "audited"]


def asked(address: str, path: str) -> tuple[int, str]:
    """Return the status and the body of a path of the health port."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


FAILED = "the last audit failed; the log has the reason"


@pytest.mark.parametrize(
    ("document", "ended", "problem"),
    [
        pytest.param(policy_text(), "audited", "", id="succeeds"),
        pytest.param("mode: [", "audit_failed", FAILED, id="fails"),
        # The cluster of this test serves the API of reports, and refuses every write.
        pytest.param(policy_text(), "reports_not_written", FAILED, id="writes-no-report"),
    ],
)
def test_the_health_port_shows_how_the_last_audit_ended(
    cluster: FakeCluster, start: Start, write: Write, document: str, ended: str, problem: str
) -> None:
    if ended == "reports_not_written":
        cluster.documents[OPENREPORTS.root] = {"resources": [{"name": "reports"}, {"name": "clusterreports"}]}
        cluster.add(OPENREPORTS.all_path)
        cluster.add(OPENREPORTS.path(None))
    write(document)
    before = time.time()
    process = start("--health-listen", "127.0.0.1:0")
    address = event(process, "listening")["address"]
    event(process, ended)
    status, body = asked(address, "/readyz")
    assert (status, json.loads(body)["checks"]) == (503 if problem else 200, {"audit": problem or "ok"})
    assert asked(address, "/livez")[0] == 200
    samples = {
        sample.name.removeprefix("gatekeeper_py_audit_"): sample.value
        for family in text_string_to_metric_families(asked(address, "/metrics")[1])
        for sample in family.samples
    }
    assert (samples["failures_total"], samples["interval_seconds"]) == (bool(problem), 10)
    assert (samples["last_success_timestamp_seconds"] >= before) == (not problem)


def test_a_health_port_that_is_taken_is_exit_2(start: Start, write: Write) -> None:
    write(policy_text())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--health-listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert event(process, "cannot_listen")["listener"] == "health"
        assert process.wait(30) == 2


def test_a_signal_during_an_audit_ends_it_at_once(start: Start, write: Write, cluster: FakeCluster) -> None:
    write(policy_text())
    cluster.silent_at = PODS
    process = start("--report", "none")
    assert cluster.is_silent.wait(30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_an_unusable_kubeconfig_is_exit_2(start: Start, write: Write) -> None:
    write(policy_text())
    process = start("--kubeconfig", "/nowhere")
    assert process.wait(30) == 2
