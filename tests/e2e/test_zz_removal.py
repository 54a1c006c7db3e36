"""The installation is deleted while the cluster creates Pods. Last, as it ends the shared installation."""

from __future__ import annotations

from e2e.controlplane.polling import wait_until
from e2e.installed import K8S, MUTATING, VALIDATING, Installed, pod
from e2e.load import creating


def test_a_removal_under_load_fails_no_create_and_leaves_no_webhook(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    with creating(product.plane, namespace, pod("steady")) as load:
        wait_until(lambda: len(load.answers) > 50, seconds=30, what="creates before the removal")
        product.plane.kubectl("delete", "-k", str(K8S / "overlays/enforce"), seconds=120)
        wait_until(
            lambda: product.get(VALIDATING) is None and product.get(MUTATING) is None,
            seconds=60,
            what="the webhook configurations gone",
        )
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 50, seconds=30, what="creates after the removal")
    assert load.broken == []
    assert load.failed() == []
