"""The controller keeps the fast path in step on a real API server; its rights, and its shutdown."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import pytest

from e2e.acting import CONTROLLER, edit, recreate, scale, without_guard
from e2e.fastpath import (
    PRE_APPROVED,
    PROBE_NAMESPACE,
    STAYING,
    TIGHT,
    UPPER_CASE,
    WIDE,
    Site,
)
from tools.controlplane.exchange import ApiError
from tools.installation.product import (
    CONFIGMAP,
    K8S,
    MUTATING,
    OVERLAYS,
    SETTLE_SECONDS,
    UNLISTED,
    VALIDATING,
    pod,
)
from tools.polling import wait_until


def probed(site: Site) -> list[dict[str, Any]]:
    """Return the requests of the controller in the probe namespace."""
    return [
        event
        for event in site.plane.audit_events(containing=PROBE_NAMESPACE)
        if (event.get("objectRef") or {}).get("namespace") == PROBE_NAMESPACE
        and event["objectRef"].get("resource") == "pods"
        and event["verb"] == "create"
        and event["user"]["username"].endswith(":gatekeeper-py-controller")
    ]


def test_the_annotation_is_read_as_documented(wide: Site) -> None:
    path = "jsonpath={.metadata.annotations.gatekeeper-py/fast-path-revision}"
    found = wide.plane.kubectl(
        "get", "validatingwebhookconfiguration", "image-validation-webhook", "-o", path
    )
    assert path in (K8S.parent / "docs/fast-path.md").read_text().replace("'", "")
    assert {found.stdout} == wide.product.revisions()


@pytest.mark.parametrize(
    ("mode", "status", "warns"), [("enforce", 403, False), ("warn", 201, True), ("mutate", 403, False)]
)
def test_a_mode_changes_no_webhook_configuration(
    wide: Site, namespace: str, mode: str, status: int, *, warns: bool
) -> None:
    before = wide.plane.api("GET", VALIDATING)["metadata"]["resourceVersion"]
    wide.product.set_mode(mode)
    wide.wait_in_step()
    assert wide.plane.api("GET", VALIDATING)["metadata"]["resourceVersion"] == before
    assert wide.product.get(MUTATING) is None
    with wide.expect_reviews(0):
        assert wide.create(namespace, pod("pre-approved", PRE_APPROVED)).status == 201
    with wide.expect_reviews(1):
        answer = wide.create(namespace, pod("unlisted", UNLISTED))
    assert (answer.status, bool(answer.warnings)) == (status, warns)


def test_a_tightening_is_written_at_once_and_probed(wide: Site, namespace: str) -> None:
    tightened = 'gatekeeper_py_fastpath_sync_seconds_count{change="tightened"}'
    count, tried = wide.metric(tightened), len(probed(wide))
    assert wide.create(namespace, pod("before", PRE_APPROVED)).status == 201
    changed = wide.patch_policy(TIGHT)
    took = wide.refused_from(namespace, PRE_APPROVED, changed)
    sys.stderr.write(f"\na removed image is refused after {took:.3f} s\n")
    wide.wait_in_step()
    assert wide.metric(tightened) == count + 1
    wait_until(lambda: len(probed(wide)) > tried, seconds=10, what="the probe in the audit log")
    last = probed(wide)[-1]
    assert "dryRun=All" in last["requestURI"]
    assert "pods.image-validation-webhook.gatekeeper-py" in last["responseStatus"]["message"]
    with wide.expect_reviews(0):
        assert wide.create(namespace, pod("staying", STAYING)).status == 201


@pytest.mark.parametrize("mode", ["warn", "mutate"])
def test_a_tightening_is_verified_in_the_other_modes(wide: Site, mode: str) -> None:
    wide.product.set_mode(mode)
    wide.wait_in_step()
    tried = len(probed(wide))
    wide.put_policy(TIGHT)
    wait_until(lambda: len(probed(wide)) > tried, seconds=10, what="the probe in the audit log")


@pytest.mark.parametrize("fields", ["pin: true", "verify: true, onMissing: deny, onError: deny"])
def test_a_mirror_that_looks_up_its_images_gets_in_step(wide: Site, fields: str) -> None:
    """No registry has the probe's image, or answers here: the warning says that it is left as written."""
    wide.product.set_mode("mutate")
    wide.wait_in_step()
    tried = len(probed(wide))
    mirror = f"{{from: registry.corp.example/team, to: mirror.example/team, {fields}}}"
    wide.put_policy(f"{WIDE}mirrors: [{mirror}]\n")
    wide.wait_in_step()
    wait_until(lambda: len(probed(wide)) > tried, seconds=10, what="the probe in the audit log")


def test_an_edited_condition_is_repaired(wide: Site) -> None:
    good = wide.webhook(VALIDATING)
    edit(wide.product, lambda live: live["webhooks"][0]["matchConditions"][1].update(expression="false"))
    wait_until(lambda: wide.webhook(VALIDATING) == good, seconds=SETTLE_SECONDS, what="the edit repaired")


def test_an_api_server_refuses_an_expression_with_422(wide: Site) -> None:
    """The status distinguishes a refusal from a failure."""
    live = wide.plane.api("GET", VALIDATING)
    live["webhooks"][0]["matchConditions"][1]["expression"] = "this is no expression"
    with pytest.raises(ApiError, match="422"):
        wide.plane.api("PUT", f"{VALIDATING}?dryRun=All", live)


def test_a_bad_document_disables_the_fast_path(wide: Site, namespace: str) -> None:
    """The replicas keep the last good policy."""
    serving = wide.product.revisions()
    with without_guard(wide.product):
        wide.patch_policy("allow: [nginx]\n")
        try:
            wide.wait_skipping_nothing()
            assert wide.metric("gatekeeper_py_fastpath_in_step") == 0
            assert wide.product.revisions() == serving
            with wide.expect_reviews(1):
                assert wide.create(namespace, pod("still-approved", PRE_APPROVED)).status == 201
        finally:
            wide.patch_policy(WIDE)
    wide.wait_in_step()
    with wide.expect_reviews(0):
        assert wide.create(namespace, pod("pre-approved", PRE_APPROVED)).status == 201


def test_a_deleted_configmap_disables_the_fast_path(wide: Site, namespace: str) -> None:
    live = wide.plane.api("GET", CONFIGMAP)
    wide.plane.api("DELETE", CONFIGMAP)
    try:
        wide.wait_skipping_nothing()
        with wide.expect_reviews(1):
            assert wide.create(namespace, pod("still-approved", PRE_APPROVED)).status == 201
    finally:
        recreate(wide.plane, CONFIGMAP, live)
    wide.wait_in_step()


def test_a_removed_image_is_admitted_while_the_controller_is_stopped(wide: Site, namespace: str) -> None:
    """docs/fast-path.md: only pre-approved images are still admitted, until the controller runs again."""
    with wide.freeze_controller():
        wide.product.set_policy(TIGHT)
        with wide.expect_reviews(0):
            for _ in range(10):
                assert wide.create(namespace, pod("removed", PRE_APPROVED)).status == 201
        assert wide.create(namespace, pod("unlisted", UNLISTED)).status == 403
        both = pod("both", PRE_APPROVED, initContainers=[{"name": "init", "image": UPPER_CASE}])
        assert wide.create(namespace, both).status == 403
    took = wide.refused_from(namespace, PRE_APPROVED, time.monotonic())
    sys.stderr.write(f"\nrefused {took:.3f} s after the controller went on\n")
    wide.wait_in_step()


def test_an_administrator_closes_the_gap_that_a_stopped_controller_leaves(wide: Site, namespace: str) -> None:
    """The administrator uses the command in docs/fast-path.md."""
    text = (K8S.parent / "docs/fast-path.md").read_text()
    command = re.search(r"kubectl (patch \S+ \S+) --type=json -p '(.*?)'", text, re.DOTALL)
    assert command is not None
    with wide.freeze_controller():
        wide.product.set_policy(TIGHT)
        wide.plane.kubectl(*command[1].split(), "--type=json", "-p", command[2])
        wide.refused_from(namespace, PRE_APPROVED, time.monotonic())
    wide.wait_in_step()


def test_a_restarted_controller_catches_up_after_a_kill(wide: Site, namespace: str) -> None:
    product = wide.product
    product.kubelet.hold("gatekeeper-py-controller-")
    try:
        product.kubelet.crash(product.controllers()[0])
        product.set_policy(TIGHT)
        assert wide.create(namespace, pod("removed", PRE_APPROVED)).status == 201
    finally:
        product.kubelet.release("gatekeeper-py-controller-")
    wide.refused_from(namespace, PRE_APPROVED, time.monotonic(), seconds=60)
    wide.wait_in_step()


def test_two_controllers_do_not_conflict(wide: Site, namespace: str) -> None:
    """The controller that shuts down removes the condition, and the other one writes it again."""

    def spared() -> bool:
        before = wide.reviews()
        assert wide.create(namespace, pod("staying", STAYING)).status == 201
        return wide.reviews() == before

    scale(wide.product, CONTROLLER, 2)
    try:
        wait_until(spared, seconds=SETTLE_SECONDS, what="the condition of two controllers")
        wide.refused_from(namespace, PRE_APPROVED, wide.patch_policy(TIGHT))
    finally:
        scale(wide.product, CONTROLLER, 1)
        wait_until(lambda: len(wide.product.controllers()) == 1, seconds=SETTLE_SECONDS, what="one left")
    wait_until(spared, seconds=SETTLE_SECONDS, what="the condition put back")
    wide.wait_in_step()
    assert wide.create(namespace, pod("removed", PRE_APPROVED)).status == 403


def test_an_orderly_end_of_the_controller_leaves_no_condition(wide: Site) -> None:
    scale(wide.product, CONTROLLER, 0)
    try:
        wide.wait_skipping_nothing()
    finally:
        scale(wide.product, CONTROLLER, 1)
    wide.wait_in_step()


def test_leaving_the_fast_path(wide: Site) -> None:
    """Another overlay replaces this one, and the controller runs without the option."""
    wide.plane.kubectl("apply", "-k", str(OVERLAYS / "enforce"))
    wide.wait_skipping_nothing()

    def without_fast_path() -> bool:
        controllers = wide.product.controllers()
        if len(controllers) != 1 or not controllers[0].ready:
            return False  # a rollout is in progress
        try:
            return "gatekeeper_py_fastpath" not in wide.metrics()
        except OSError:
            return False

    wait_until(without_fast_path, seconds=SETTLE_SECONDS, what="a controller without the fast path")
    assert wide.skips_nothing()
