"""Reports on a real API server: each API alone, both and none, with 10,000 images that are not approved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.acting import COMPONENTS, components, events_about_images
from e2e.reportcrds import GROUPS, definitions
from tools.controlplane.exchange import ApiError
from tools.controlplane.plane import ControlPlane
from tools.installation.product import APPROVED, NAMESPACE, Installed
from tools.polling import wait_until

NAMESPACES: Final = [f"reports-{index:02}" for index in range(10)]
PODS: Final = 100
CONTAINERS: Final = 10
COUNT: Final = len(NAMESPACES) * PODS * CONTAINERS
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MAX_RESULTS: Final = 500
MAX_BYTES: Final = 1_000_000
SELECTOR: Final = "labelSelector=app.kubernetes.io/managed-by%3Dgatekeeper-py"

POLICY: Final = """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow: [registry.corp.example]
namespaces:
  - names: [reports-01]
    mode: warn
"""


def _pod(name: str, *images: str) -> dict[str, Any]:
    containers = [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]
    # The scheduling gate keeps the scheduler and the simulated nodes from running these Pods.
    spec = {"containers": containers, "schedulingGates": [{"name": "example.com/never"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _create(plane: ControlPlane, number: int) -> None:
    """Create a Pod with ten images that are not approved; it may exist."""
    namespace = NAMESPACES[number % len(NAMESPACES)]
    images = [f"quay.io/team-{number % 9}/app-{number}:v{i}" for i in range(CONTAINERS)]
    try:
        plane.api("POST", f"/api/v1/namespaces/{namespace}/pods", _pod(f"web-{number:05}", *images))
    except ApiError as problem:
        if problem.status != 409:
            raise


@pytest.fixture(scope="module")
def violations(product: Installed) -> Iterator[Installed]:
    """Create 10,000 images that the policy does not allow, and an allowed one in each namespace."""
    plane = product.plane
    product.set_mode("warn")
    for name in NAMESPACES:
        plane.make_namespace(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(_create, plane), range(len(NAMESPACES) * PODS)))
    for name in NAMESPACES:
        plane.api("POST", f"/api/v1/namespaces/{name}/pods", _pod("good", APPROVED))
    plane.kubectl("apply", "-f", str(COMPONENTS / "reports" / "rbac.yaml"))
    yield product
    for name in NAMESPACES:
        plane.api("DELETE", f"/api/v1/namespaces/{name}")
    plane.kubectl("delete", "-f", str(COMPONENTS / "reports" / "rbac.yaml"))
    product.set_mode("enforce")
    product.wait_not_mutating()


@contextmanager
def serving(plane: ControlPlane, *names: str) -> Iterator[None]:
    """Serve these report APIs."""
    for name in names:
        for definition in definitions(name):
            plane.api("POST", CRDS, definition)
    try:
        for name in names:
            wait_until(lambda name=name: _served(plane, name), seconds=30, what=f"{name} served")  # type: ignore[misc]
        yield
    finally:
        paths = [f"{CRDS}/{each['metadata']['name']}" for name in names for each in definitions(name)]
        for path in paths:
            plane.api("DELETE", path)
        wait_until(lambda: all(plane.find(path) is None for path in paths), seconds=60, what="no report API")


def _served(plane: ControlPlane, name: str) -> bool:
    group, version, _, plural = GROUPS[name]
    try:
        found = plane.api("GET", f"/apis/{group}/{version}")
    except ApiError:
        return False
    if not {plural, f"cluster{plural}"} <= {each["name"] for each in found["resources"]}:
        return False
    try:
        for each in (plural, f"cluster{plural}"):
            plane.api("GET", f"/apis/{group}/{version}/{each}")
    except ApiError:
        return False  # discovery shows the API some moments before it works
    return True


def reports(plane: ControlPlane, name: str, *, cluster: bool = False) -> list[dict[str, Any]]:
    group, version, _, plural = GROUPS[name]
    path = f"/apis/{group}/{version}/{'cluster' if cluster else ''}{plural}?{SELECTOR}"
    found: list[dict[str, Any]] = plane.api("GET", path)["items"]
    return found


class Loop:
    """A running ``audit --every``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    def next(self, event: str) -> dict[str, Any]:
        """Return the next event of this name."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(self.lines)

    def next_change(self) -> dict[str, Any]:
        """Return the next audit that wrote something. One in progress may miss the change."""
        audited = self.next("audited")
        if not any(audited[what] for what in ("created", "replaced", "deleted")):
            audited = self.next("audited")
        return audited


@pytest.fixture
def audit(violations: Installed, tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    """Start the loop with its own identity; check at the end of the test that it exits with 0."""
    plane = violations.plane
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    identity = plane.kubeconfig_for_service_account(NAMESPACE, "gatekeeper-py-reports")
    running: list[Loop] = []

    def start(*arguments: str) -> Loop:
        command = [sys.executable, "-m", "gatekeeper_py", "audit", "--policy", str(policy), "--every", "10s"]
        process = plane.popen(
            [*command, *arguments],
            name=f"audit-{os.urandom(3).hex()}",
            env={"KUBECONFIG": str(identity)},
            stdout=subprocess.PIPE,
        )
        running.append(Loop(process))
        return running[-1]

    yield start
    for loop in running:
        loop.process.send_signal(signal.SIGTERM)
        assert loop.process.wait(30) == 0
        assert loop.process.stdout is not None
        loop.process.stdout.close()


def check_complete(found: list[dict[str, Any]]) -> None:
    """Check that each violation is in exactly one report, no report is too large, and passes are counted."""
    ours = [report for report in found if report["metadata"]["namespace"] in NAMESPACES]
    seen = Counter(
        (result["resources"][0]["namespace"], result["resources"][0]["name"], result["properties"]["path"])
        for report in ours
        for result in report.get("results", ())
    )
    assert len(seen) == COUNT
    assert set(seen.values()) == {1}
    for report in found:
        results = report.get("results", [])
        assert len(results) <= MAX_RESULTS
        assert len(json.dumps(report)) < MAX_BYTES
        outcomes = Counter(result["result"] for result in results)
        assert set(outcomes) <= {"fail", "warn"}
        assert {key: report["summary"][key] for key in ("fail", "warn")} == {
            "fail": outcomes["fail"],
            "warn": outcomes["warn"],
        }
    warned = {report["metadata"]["namespace"] for report in ours if report["summary"]["warn"]}
    assert warned == {"reports-01"}
    passed = Counter[str]()
    for report in ours:
        passed[report["metadata"]["namespace"]] += report["summary"]["pass"]
    assert passed == dict.fromkeys(NAMESPACES, 1)


@pytest.mark.parametrize("name", ["openreports", "policyreport"])
def test_each_api_alone_gets_every_violation_once_and_nothing_the_second_time(
    violations: Installed, audit: Callable[..., Loop], name: str
) -> None:
    plane = violations.plane
    with serving(plane, name):
        loop = audit("--report", "auto")
        first = loop.next("audited")
        assert first["report"] == name
        assert first["created"] >= 2 * len(NAMESPACES)
        assert (first["replaced"], first["deleted"]) == (0, 0)
        found = reports(plane, name)
        check_complete(found)
        versions = {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in found}
        second = loop.next("audited")
        assert (second["created"], second["replaced"], second["deleted"]) == (0, 0, 0)
        assert second["unchanged"] == first["created"]
        assert versions == {
            each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in reports(plane, name)
        }


def test_only_what_changed_is_written_and_what_is_stale_is_deleted(
    violations: Installed, audit: Callable[..., Loop]
) -> None:
    plane = violations.plane
    with serving(plane, "openreports", "policyreport"):
        old = audit("--report", "policyreport")
        created = old.next("audited")["created"]
        assert len(reports(plane, "policyreport")) == created
        old.process.send_signal(signal.SIGTERM)
        assert old.process.wait(30) == 0
        try:
            loop = audit()
            first = loop.next("audited")
            # Both are served: only the preferred one has reports now.
            assert (first["report"], first["created"], first["deleted"]) == ("openreports", created, created)
            assert reports(plane, "policyreport") == []
            check_complete(reports(plane, "openreports"))
            plane.api("DELETE", "/api/v1/namespaces/reports-02/pods/web-00002?gracePeriodSeconds=0")
            assert loop.next_change()["replaced"] == 1
            victim = reports(plane, "openreports")[0]
            path = f"/apis/openreports.io/v1alpha1/namespaces/{victim['metadata']['namespace']}/reports/"
            plane.api("PATCH", path + victim["metadata"]["name"], {"results": [], "summary": {"fail": 7}})
            repaired = loop.next_change()
            assert (repaired["created"], repaired["replaced"], repaired["deleted"]) == (0, 1, 0)
            plane.api("DELETE", "/api/v1/namespaces/reports-03/pods?gracePeriodSeconds=0")
            emptied = loop.next_change()
            assert emptied["deleted"] >= 2
            assert not [
                r for r in reports(plane, "openreports") if r["metadata"]["namespace"] == "reports-03"
            ]
        finally:
            for number in (2, *range(3, COUNT // CONTAINERS, len(NAMESPACES))):
                _create(plane, number)


def test_an_audit_without_a_report_api_reports_that_and_continues(audit: Callable[..., Loop]) -> None:
    loop = audit()
    assert loop.next("no_report_api")["choice"] == "auto"
    first = loop.next("audited")
    assert (first["report"], first["created"]) == (None, 0)
    assert first["rejected"] >= 1
    named = audit("--report", "openreports")
    assert "the cluster does not serve reports" in named.next("audit_failed")["problem"]


def test_the_components_run_as_a_deployment_and_record_events(violations: Installed, tmp_path: Path) -> None:
    plane = violations.plane
    # The Pod has a controller, so no user sees its warnings in mode warn.
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": _pod("x", "quay.io/a/b:1")["spec"]},
        },
    }
    plane.api("POST", f"/apis/apps/v1/namespaces/{NAMESPACES[5]}/deployments", deployment)

    def owned() -> bool:
        pods = plane.api("GET", f"/api/v1/namespaces/{NAMESPACES[5]}/pods")["items"]
        return any(pod["metadata"].get("ownerReferences") for pod in pods)

    wait_until(owned, seconds=60, what="a Pod of the Deployment")
    with serving(plane, "openreports"):
        try:
            with components(plane, tmp_path, "reports", "report-events"):
                events = wait_until(
                    lambda: events_about_images(plane, NAMESPACES[5]), seconds=90, what="an Event"
                )
                (event,) = events
                assert event["involvedObject"]["kind"] == "ReplicaSet"
                assert "quay.io/a/b:1 (unlisted)" in event["message"]
                assert len(reports(plane, "openreports")) >= len(NAMESPACES) - 1
        finally:
            plane.kubectl("apply", "-f", str(COMPONENTS / "reports" / "rbac.yaml"))
