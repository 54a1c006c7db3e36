"""``gatekeeper-py status`` on a real API server: healthy, and broken in ten ways."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.issuing import issue
from tools.installation.product import MUTATING, NAMESPACE, POLICY, SECRET, VALIDATING, Installed
from tools.polling import wait_until

STATUS = [sys.executable, "-m", "gatekeeper_py", "status"]
SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/gatekeeper-py"
CONFIGMAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{POLICY}"
SETTINGS = f"/api/v1/namespaces/{NAMESPACE}/configmaps/gatekeeper-py-webhooks"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


def status(product: Installed) -> tuple[int, dict[str, Any]]:
    done = product.plane.exec([*STATUS, "--format", "json"])
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


def wait_healthy(product: Installed) -> dict[str, Any]:
    found: list[tuple[int, dict[str, Any]]] = []

    def healthy() -> bool:
        found.append(status(product))
        return found[-1][0] == 0

    try:
        wait_until(healthy, seconds=90, what="a healthy status")
    except TimeoutError as problem:
        raise AssertionError(found[-1][1]["problems"]) from problem
    return found[-1][1]


@pytest.fixture
def healthy(product: Installed) -> Iterator[Installed]:
    product.set_mode("enforce")
    product.wait_not_mutating()
    wait_healthy(product)
    yield product
    wait_healthy(product)


@pytest.mark.oldest
def test_a_healthy_installation(healthy: Installed) -> None:
    code, found = status(healthy)
    assert code == 0
    revisions = healthy.revisions()
    assert (found["healthy"], found["problems"], found["mode"]) == (True, [], "enforce")
    assert {found["revision"]} == revisions
    assert len(found["replicas"]) == 3
    for replica in found["replicas"]:
        assert (replica["ready"], replica["mode"], replica["revision"]) == (
            True,
            "enforce",
            found["revision"],
        )
        assert replica["certificateNotAfter"].endswith("Z")
    assert found["webhooks"] == [
        {"name": "image-validation-webhook", "present": True, "asDesired": True},
        {"name": "image-mutation-webhook", "present": False, "asDesired": True},
    ]
    assert (found["paused"], found["fastPath"]) == (None, None)
    assert found["enforcement"]["enforced"]
    assert found["enforcement"]["lastEnforced"].endswith("Z")


def test_in_mode_mutate_it_is_healthy_only_once_the_mutating_webhook_is_active(healthy: Installed) -> None:
    patch = json.dumps({"data": {"mode": "mutate"}})
    healthy.plane.kubectl("patch", "configmap", POLICY, "-n", NAMESPACE, "--type=merge", "-p", patch)
    found = wait_healthy(healthy)
    assert found["mode"] == "mutate"
    assert [webhook["present"] for webhook in found["webhooks"]] == [True, True]
    healthy.set_mode("enforce")
    healthy.wait_not_mutating()


def test_the_table_names_everything(healthy: Installed) -> None:
    done = healthy.plane.exec(STATUS)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"gatekeeper-py in the namespace {NAMESPACE}: healthy"
    assert "exempt        gatekeeper-py, kube-system" in lines
    assert "fast path     off" in lines
    assert any(line.startswith("image-validation-webhook  yes      yes") for line in lines)


@contextmanager
def paused(product: Installed) -> Iterator[str]:
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    product.plane.kubectl("annotate", "namespace", NAMESPACE, f"gatekeeper-py/paused-until={until}")
    yield f"paused until {until}"
    product.plane.kubectl("annotate", "namespace", NAMESPACE, "gatekeeper-py/paused-until-")


@contextmanager
def patched(product: Installed, path: str, patch: Any, back: Any, problem: str) -> Iterator[str]:
    product.plane.api("PATCH", path, patch)
    yield problem
    product.plane.api("PATCH", path, back)


@contextmanager
def without_guard(product: Installed, data: dict[str, Any], problem: str) -> Iterator[str]:
    """Write a policy without the guard, as an administrator could."""
    before = product.plane.api("GET", CONFIGMAP)["data"]
    settings = product.plane.api("GET", SETTINGS)["data"]
    product.plane.api("PATCH", SETTINGS, {"data": {"webhooks.yaml": "policyGuard: {enabled: false}"}})
    wait_until(
        lambda: len(product.plane.api("GET", VALIDATING)["webhooks"]) == 2, seconds=15, what="no policy guard"
    )
    product.plane.api("PATCH", CONFIGMAP, {"data": data})
    yield problem
    product.plane.api("PATCH", CONFIGMAP, {"data": {**dict.fromkeys(data), **before}})
    product.plane.api("PATCH", SETTINGS, {"data": settings})


@contextmanager
def replica_down(product: Installed) -> Iterator[str]:
    server = product.servers()[0]
    name = server.name.removeprefix("pod-")
    product.kubelet.hold(name)
    product.kubelet.crash(server)
    yield f"the replica {name} cannot be reached"
    product.kubelet.release_all()


@contextmanager
def no_controller(product: Installed) -> Iterator[str]:
    scale = ("scale", "deployment/gatekeeper-py-controller", "-n", NAMESPACE)
    product.plane.kubectl(*scale, "--replicas=0")
    wait_until(lambda: not product.controllers(), seconds=30, what="no controller")
    yield "no controller is ready"
    product.plane.kubectl(*scale, "--replicas=1")


@contextmanager
def drifted_without_controller(product: Installed) -> Iterator[str]:
    with no_controller(product):
        live = product.plane.api("GET", VALIDATING)
        live["webhooks"][0]["failurePolicy"] = "Ignore"
        product.plane.api("PUT", VALIDATING, live)
        yield "differs in webhooks[pods.image-validation-webhook.gatekeeper-py].failurePolicy"


@contextmanager
def not_armed(product: Installed) -> Iterator[str]:
    with no_controller(product):
        product.plane.api("DELETE", VALIDATING)
        yield "the webhook configuration image-validation-webhook does not exist"


@contextmanager
def foreign_ca(product: Installed) -> Iterator[str]:
    with no_controller(product):
        secret = product.plane.api("GET", SECRET)
        made = issue(("gatekeeper-py.gatekeeper-py.svc",), datetime.now(UTC), timedelta(days=30))
        fields = {"tls.crt": made.leaf.decode(), "tls.key": made.key.decode(), "ca.crt": made.ca.decode()}
        product.plane.api("PATCH", SECRET, {"stringData": fields})
        yield "does not trust the certificate in the Secret"
        product.plane.api("PATCH", SECRET, {"data": secret["data"]})


@contextmanager
def service_deleted(product: Installed) -> Iterator[str]:
    service = product.plane.api("GET", SERVICE)
    product.plane.api("DELETE", SERVICE)
    yield "the Service gatekeeper-py does not exist"
    spec = {key: service["spec"][key] for key in ("selector", "ports")}
    metadata = {key: service["metadata"][key] for key in ("name", "labels", "annotations")}
    product.plane.api("POST", SERVICE.rpartition("/")[0], {"metadata": metadata, "spec": spec})


BREAKAGES: dict[str, Callable[[Installed], AbstractContextManager[str]]] = {
    "paused": paused,
    "replica-down": replica_down,
    "no-controller": no_controller,
    "drift": drifted_without_controller,
    "not-armed": not_armed,
    "another-ca": foreign_ca,
    "service-deleted": service_deleted,
    "bad-settings": lambda product: patched(
        product,
        SETTINGS,
        {"data": {"webhooks.yaml": "colour: red"}},
        {"data": {"webhooks.yaml": product.plane.api("GET", SETTINGS)["data"]["webhooks.yaml"]}},
        "webhooks.yaml is refused: line 1, colour",
    ),
    "bad-policy": lambda product: without_guard(
        product,
        {"policy.yaml": "allow: [nginx]\n"},
        "the policy in the ConfigMap gatekeeper-py-policy is refused",
    ),
    "unknown-key": lambda product: without_guard(product, {"policy.yml": "x"}, "unknown keys: policy.yml"),
    "too-few-replicas": lambda product: patched(
        product,
        f"{DEPLOYMENTS}/gatekeeper-py",
        {"spec": {"replicas": 0}},
        {"spec": {"replicas": 3}},
        "the Deployment gatekeeper-py is scaled to no replicas",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_each_breakage_is_named(healthy: Installed, name: str) -> None:
    with BREAKAGES[name](healthy) as problem:
        found: list[dict[str, Any]] = []

        def named() -> bool:
            code, answer = status(healthy)
            found.append(answer)
            return code == 1 and any(problem in each for each in answer["problems"])

        try:
            wait_until(named, seconds=60, what=f"the problem: {problem}")
        except TimeoutError as timeout:
            raise AssertionError(found[-1]["problems"]) from timeout
        assert found[-1]["healthy"] is False


def test_nothing_is_installed(healthy: Installed) -> None:
    done = healthy.plane.exec([*STATUS, "-n", "elsewhere"])
    assert done.returncode == 1
    assert "the namespace elsewhere does not exist" in done.stdout


def test_a_cluster_that_cannot_be_read_is_exit_2(healthy: Installed, tmp_path: Path) -> None:
    identity = healthy.plane.kubeconfig_for_service_account(NAMESPACE, "gatekeeper-py")
    done = healthy.plane.exec([*STATUS, f"--kubeconfig={identity}"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "the cluster cannot be read" in done.stderr
    nowhere = healthy.plane.exec([*STATUS, f"--kubeconfig={tmp_path / 'none'}"])
    assert nowhere.returncode == 2


def test_watch_prints_again_until_it_is_interrupted(healthy: Installed) -> None:
    # If the tests run as a background job of a shell, they ignore this signal, and their children would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = healthy.plane.popen(
        [*STATUS, "--watch", "--format", "json"], name="status-watch", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline())["healthy"] for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)  # a process whose reader is gone ends with another exit code
    assert (first, process.returncode) == ([True, True], 130)
    assert healthy.get(MUTATING) is None
