"""``gatekeeper-py status`` on a real API server: healthy, and broken in five ways."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from e2e.acting import CONTROLLER, SERVICE, edit, recreate, scale, without_guard
from tools.installation.product import CONFIGMAP, MUTATING, NAMESPACE, SECRET, Installed
from tools.polling import wait_until

STATUS = [sys.executable, "-m", "gatekeeper_py", "status"]


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


@pytest.fixture(scope="module")
def enforcing(product: Installed) -> Installed:
    product.set_mode("enforce")
    product.wait_not_mutating()
    wait_healthy(product)
    return product


@pytest.fixture
def healthy(enforcing: Installed) -> Iterator[Installed]:
    """Wait after each test until the installation is healthy again."""
    yield enforcing
    wait_healthy(enforcing)


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
    lines = healthy.plane.exec(STATUS).stdout.splitlines()
    assert lines[0] == f"gatekeeper-py in the namespace {NAMESPACE}: healthy"
    assert "exempt        gatekeeper-py, kube-system" in lines
    assert "fast path     off" in lines
    assert any(line.startswith("image-validation-webhook  yes      yes") for line in lines)


@contextmanager
def replica_down(product: Installed) -> Iterator[str]:
    server = product.servers()[0]
    name = server.name.removeprefix("pod-")
    product.kubelet.hold(name)
    product.kubelet.crash(server)
    yield f"the replica {name} cannot be reached"
    product.kubelet.release_all()


@contextmanager
def drifted_without_controller(product: Installed) -> Iterator[str]:
    scale(product, CONTROLLER, 0)
    edit(product, lambda live: live["webhooks"][0].update(failurePolicy="Ignore"))
    yield "differs in webhooks[pods.image-validation-webhook.gatekeeper-py].failurePolicy"
    scale(product, CONTROLLER, 1)


@contextmanager
def bad_policy(product: Installed) -> Iterator[str]:
    before = product.plane.api("GET", CONFIGMAP)["data"]
    with without_guard(product):
        product.plane.api("PATCH", CONFIGMAP, {"data": {"policy.yaml": "allow: [nginx]\n"}})
        yield "the policy in the ConfigMap gatekeeper-py-policy is refused"
        product.plane.api("PATCH", CONFIGMAP, {"data": before})


@contextmanager
def service_deleted(product: Installed) -> Iterator[str]:
    service = product.plane.api("GET", SERVICE)
    product.plane.api("DELETE", SERVICE)
    yield "the Service gatekeeper-py does not exist"
    recreate(product.plane, SERVICE, service)


@contextmanager
def started_with_a_damaged_secret(product: Installed) -> Iterator[str]:
    scale(product, CONTROLLER, 0)
    product.plane.api("PATCH", SECRET, {"data": {"tls.key": base64.b64encode(b"garbage").decode()}})
    server = product.servers()[0]
    product.kubelet.crash(server)
    name = server.name.removeprefix("pod-")
    yield f"the replica {name} is not ready: certificate: the certificate and its key are unusable"
    scale(product, CONTROLLER, 1)


BREAKAGES: dict[str, Callable[[Installed], AbstractContextManager[str]]] = {
    "replica-down": replica_down,
    "drift": drifted_without_controller,
    "bad-policy": bad_policy,
    "service-deleted": service_deleted,
    "started-with-a-damaged-secret": started_with_a_damaged_secret,
}
"""One for each kind of thing that is read. controller/status/test_assess.py has all other problems."""


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
