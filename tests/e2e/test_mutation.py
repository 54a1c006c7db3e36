"""The mutating webhook is registered only while the policy can rewrite images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.acting import try_pod
from tools.installation.product import CONFIGMAP, MUTATING, VALIDATING, Installed
from tools.polling import wait_until

MIRRORED = "docker.io/library/nginx:1.25"
REWRITTEN = "registry.corp.example/dockerhub/library/nginx:1.25"


@pytest.fixture
def enforcing(product: Installed) -> Iterator[Installed]:
    product.set_mode("enforce")
    wait_until(lambda: product.get(MUTATING) is None, seconds=30, what="the mutating webhook not registered")
    yield product
    product.set_mode("enforce")


def created(product: Installed, namespace: str) -> tuple[int, str]:
    """Create a Pod with a mirrored image in dry run; return kubectl's exit code and the image stored."""
    done = try_pod(product.plane, namespace, MIRRORED)
    stored: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return done.returncode, stored["spec"]["containers"][0]["image"] if stored else done.stderr


def toggle(product: Installed, mode: str) -> None:
    product.plane.api("PATCH", CONFIGMAP, {"data": {"mode": mode}})


@pytest.mark.oldest
def test_toggling_to_mutate_registers_it_and_toggling_back_removes_it(
    enforcing: Installed, namespace: str
) -> None:
    assert created(enforcing, namespace)[0] == 1
    toggle(enforcing, "mutate")
    enforcing.wait_mutating()
    # Once the webhook is reported as active, the next Pod must be rewritten, so there is no wait here.
    assert created(enforcing, namespace) == (0, REWRITTEN)
    toggle(enforcing, "enforce")
    wait_until(lambda: enforcing.get(MUTATING) is None, seconds=30, what="the webhook removed")
    assert enforcing.get(VALIDATING) is not None
    assert created(enforcing, namespace)[0] == 1


def test_pods_are_judged_as_written_until_the_webhook_is_registered(
    enforcing: Installed, namespace: str
) -> None:
    """While the controller is dead, no unapproved image is admitted; it catches up when it runs again."""
    for controller in enforcing.controllers():
        enforcing.kubelet.hold(controller.name.removeprefix("pod-"))
        enforcing.kubelet.crash(controller)
    try:
        toggle(enforcing, "mutate")
        wait_until(
            lambda: all(enforcing.mode_of(each.address) == "mutate" for each in enforcing.servers()),
            seconds=10,
            what="every replica in mode mutate",
        )
        code, message = created(enforcing, namespace)
        assert code == 1
        assert "docker.io/library/nginx matches no rule" in message
        assert enforcing.get(MUTATING) is None
    finally:
        enforcing.kubelet.release_all()
    enforcing.wait_mutating()
    assert created(enforcing, namespace) == (0, REWRITTEN)
