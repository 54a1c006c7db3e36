"""Certificates are rotated, and the controller killed, while the cluster creates Pods."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography import x509

from e2e.acting import CONTROLLER, refused, scale
from e2e.load import no_create_fails
from tools.installation.product import NAMESPACE, SECRET, VALIDATING, Installed
from tools.polling import wait_until


def _secret(product: Installed) -> dict[str, bytes]:
    found = product.plane.api("GET", SECRET)
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def _trusted(product: Installed) -> list[x509.Certificate]:
    """Return the CAs that API servers trust now."""
    live: dict[str, Any] = product.plane.api("GET", VALIDATING)
    return x509.load_pem_x509_certificates(base64.b64decode(live["webhooks"][0]["clientConfig"]["caBundle"]))


@contextmanager
def _rotating(product: Installed) -> Iterator[None]:
    """Make the controller renew at once, through the arguments of its Deployment, until the body ends.

    Then wait until every replica serves the new leaf, and its CA is the only one that is trusted.
    """
    control = ("set", "env", f"deployment/{CONTROLLER}", "-n", NAMESPACE)
    with _replaced(product):
        product.plane.kubectl(
            *control, "GATEKEEPER_PY_RENEW_BEFORE_DAYS=89.99999", "GATEKEEPER_PY_SETTLE_SECONDS=2"
        )
        yield
        product.plane.kubectl(*control, "GATEKEEPER_PY_RENEW_BEFORE_DAYS-", "GATEKEEPER_PY_SETTLE_SECONDS-")


@contextmanager
def _replaced(product: Installed) -> Iterator[None]:
    """Wait after the body until API servers trust one CA, which is another one than before."""
    before = _trusted(product)
    yield

    def replaced() -> bool:
        now = _trusted(product)
        return len(now) == 1 and now != before

    wait_until(replaced, seconds=120, what="every replica on a new leaf, the old CA retired")


def _promoted(product: Installed, old_leaf: bytes) -> bool:
    return _secret(product)["tls.crt"] != old_leaf


def test_a_rotation_under_load_fails_no_create(product: Installed, namespace: str) -> None:
    product.set_mode("enforce")
    old_leaf, most = _secret(product)["tls.crt"], 0

    def promoted() -> bool:
        nonlocal most
        most = max(most, len(_trusted(product)))
        return _promoted(product, old_leaf)

    with no_create_fails(product.plane, namespace) as load, _rotating(product):
        wait_until(promoted, seconds=90, what="the next leaf promoted")
    assert most > 1, "both CAs are trusted while replicas change to the new leaf"
    assert len(load.answers) > 200


def test_a_deleted_secret_is_made_again_without_a_failed_create(product: Installed, namespace: str) -> None:
    product.set_mode("enforce")
    with no_create_fails(product.plane, namespace), _replaced(product):
        product.plane.api("DELETE", SECRET)
        wait_until(lambda: product.get(SECRET), seconds=30, what="the Secret made again")
        assert refused(product, namespace)
        wait_until(lambda: "tls.crt" in _secret(product), seconds=60, what="its leaf promoted")


def test_a_damaged_secret_leaves_every_replica_ready_until_it_is_repaired(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")

    def replicas_with_bad_files() -> float:
        return sum(
            product.metric(each.address, "gatekeeper_py_certificate_files_bad") for each in product.servers()
        )

    with no_create_fails(product.plane, namespace) as load, _replaced(product):
        scale(product, CONTROLLER, 0)
        product.plane.api("PATCH", SECRET, {"data": {"tls.key": base64.b64encode(b"garbage").decode()}})
        wait_until(lambda: replicas_with_bad_files() == 3, seconds=60, what="the damage seen by all replicas")
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 50, seconds=30, what="creates meanwhile")
        assert product.ready_replicas() == 3
        scale(product, CONTROLLER, 1)
    assert replicas_with_bad_files() == 0


def test_a_controller_killed_at_any_step_continues_after_its_restart(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    old_leaf = _secret(product)["tls.crt"]
    lives = itertools.count(start=10, step=25)
    with _rotating(product), no_create_fails(product.plane, namespace, pause=0.05) as load:

        def killed_until_promoted() -> bool:
            for each in product.controllers():
                product.kubelet.crash(each)
            # Each controller lives a little longer than the last one, so they are killed at different steps.
            enough = len(load.answers) + next(lives)
            wait_until(lambda: len(load.answers) > enough, seconds=30, what="creates meanwhile")
            return _promoted(product, old_leaf)

        wait_until(
            killed_until_promoted,
            seconds=200,  # on a slow machine, a controller must live longer to finish a step
            what="a rotation by a controller that is killed again and again",
        )


def test_two_controllers_do_not_conflict(product: Installed, namespace: str) -> None:
    scale(product, CONTROLLER, 2)
    wait_until(lambda: len(product.controllers()) == 2, seconds=60, what="two controllers")
    old_leaf = _secret(product)["tls.crt"]
    with no_create_fails(product.plane, namespace, pause=0.05), _rotating(product):
        wait_until(lambda: _promoted(product, old_leaf), seconds=90, what="the next leaf promoted")
    scale(product, CONTROLLER, 1)
