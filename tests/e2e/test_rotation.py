"""Certificates are rotated, and the controller killed, while the cluster creates Pods."""

from __future__ import annotations

import base64
import itertools
from typing import Any

from cryptography import x509

from e2e.acting import CONTROLLER, scale
from e2e.load import creating
from tools.installation.product import NAMESPACE, SECRET, VALIDATING, Installed, pod
from tools.polling import wait_until


def _secret(product: Installed) -> dict[str, bytes]:
    found = product.plane.api("GET", SECRET)
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def _bundle(product: Installed) -> bytes:
    live: dict[str, Any] = product.plane.api("GET", VALIDATING)
    return base64.b64decode(live["webhooks"][0]["clientConfig"]["caBundle"])


def _rotate_now(product: Installed) -> None:
    """Make the controller renew at once, through the arguments of its Deployment."""
    product.plane.kubectl(
        "set", "env", "deployment/gatekeeper-py-controller", "-n", NAMESPACE,
        "GATEKEEPER_PY_RENEW_BEFORE_DAYS=89.99999", "GATEKEEPER_PY_SETTLE_SECONDS=2",
    )  # fmt: skip


def _stop_rotating(product: Installed) -> None:
    product.plane.kubectl(
        "set", "env", "deployment/gatekeeper-py-controller", "-n", NAMESPACE,
        "GATEKEEPER_PY_RENEW_BEFORE_DAYS-", "GATEKEEPER_PY_SETTLE_SECONDS-",
    )  # fmt: skip


def test_a_rotation_under_load_fails_no_create(product: Installed, namespace: str) -> None:
    product.set_mode("enforce")
    old_leaf, old_bundle = _secret(product)["tls.crt"], _bundle(product)
    overlapped = []
    with creating(product.plane, namespace, pod("steady")) as load:
        _rotate_now(product)
        wait_until(
            lambda: overlapped.append(_bundle(product)) or _secret(product)["tls.crt"] != old_leaf,  # type: ignore[func-returns-value]
            seconds=90,
            what="the next leaf promoted",
        )
        _stop_rotating(product)
        wait_until(
            lambda: (
                len(x509.load_pem_x509_certificates(_bundle(product))) == 1 and _bundle(product) != old_bundle
            ),
            seconds=120,
            what="the old authority retired once every replica serves the new leaf",
        )
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 50, seconds=30, what="creates after the rotation")
    assert any(len(x509.load_pem_x509_certificates(bundle)) > 1 for bundle in overlapped)
    assert load.broken == []
    assert load.failed() == []
    assert len(load.answers) > 200


def test_a_deleted_secret_is_made_again_without_a_failed_create(product: Installed, namespace: str) -> None:
    product.set_mode("enforce")
    old_bundle = _bundle(product)
    with creating(product.plane, namespace, pod("steady")) as load:
        product.plane.api("DELETE", SECRET)
        wait_until(lambda: product.get(SECRET), seconds=30, what="the Secret made again")
        wait_until(lambda: "tls.crt" in _secret(product), seconds=60, what="its leaf promoted")
        wait_until(
            lambda: (
                len(x509.load_pem_x509_certificates(_bundle(product))) == 1 and _bundle(product) != old_bundle
            ),
            seconds=120,
            what="every replica on the new leaf, the old authority retired",
        )
    assert load.broken == []
    assert load.failed() == []


def test_a_damaged_secret_leaves_every_replica_ready_until_it_is_repaired(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    old_bundle = _bundle(product)

    def replicas_with_bad_files() -> float:
        return sum(
            product.metric(each.address, "gatekeeper_py_certificate_files_bad") for each in product.servers()
        )

    with creating(product.plane, namespace, pod("steady")) as load:
        scale(product, CONTROLLER, 0)
        product.plane.api("PATCH", SECRET, {"data": {"tls.key": base64.b64encode(b"garbage").decode()}})
        wait_until(lambda: replicas_with_bad_files() == 3, seconds=60, what="the damage seen by all replicas")
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 50, seconds=30, what="creates meanwhile")
        assert product.ready_replicas() == 3
        scale(product, CONTROLLER, 1)
        wait_until(
            lambda: (
                len(x509.load_pem_x509_certificates(_bundle(product))) == 1 and _bundle(product) != old_bundle
            ),
            seconds=120,
            what="every replica on a new leaf, the old authority retired",
        )
        assert replicas_with_bad_files() == 0
    assert load.broken == []
    assert load.failed() == []


def test_a_controller_killed_at_any_step_continues_after_its_restart(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    old_leaf = _secret(product)["tls.crt"]
    with creating(product.plane, namespace, pod("steady"), pause=0.05) as load:
        _rotate_now(product)

        lives = itertools.count(start=10, step=25)

        def killed_until_promoted() -> bool:
            for each in product.controllers():
                product.kubelet.crash(each)
            # Each controller lives a little longer than the last one, so they are killed at different steps.
            enough = len(load.answers) + next(lives)
            wait_until(lambda: len(load.answers) > enough, seconds=30, what="creates meanwhile")
            return _secret(product)["tls.crt"] != old_leaf

        wait_until(
            killed_until_promoted,
            seconds=110,
            what="a rotation by a controller that is killed again and again",
        )
        _stop_rotating(product)
    assert load.broken == []
    assert load.failed() == []
    wait_until(
        lambda: len(x509.load_pem_x509_certificates(_bundle(product))) == 1,
        seconds=120,
        what="the rotation finished",
    )


def test_two_controllers_do_not_conflict(product: Installed, namespace: str) -> None:
    product.plane.kubectl("scale", "deployment/gatekeeper-py-controller", "-n", NAMESPACE, "--replicas=2")
    wait_until(lambda: len(product.controllers()) == 2, seconds=60, what="two controllers")
    old_leaf = _secret(product)["tls.crt"]
    with creating(product.plane, namespace, pod("steady"), pause=0.05) as load:
        _rotate_now(product)
        wait_until(lambda: _secret(product)["tls.crt"] != old_leaf, seconds=90, what="the next leaf promoted")
        _stop_rotating(product)
        wait_until(
            lambda: len(x509.load_pem_x509_certificates(_bundle(product))) == 1,
            seconds=120,
            what="the rotation finished",
        )
    product.plane.kubectl("scale", "deployment/gatekeeper-py-controller", "-n", NAMESPACE, "--replicas=1")
    assert load.broken == []
    assert load.failed() == []
