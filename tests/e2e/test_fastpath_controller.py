"""The controller keeps the fast path in step on a real API server; its rights, and its shutdown."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.controlplane.exchange import ApiError
from tools.installation.fastpath import (
    CONFIGMAP,
    PRE_APPROVED,
    PROBE_NAMESPACE,
    STAYING,
    TIGHT,
    UPPER_CASE,
    WIDE,
    Site,
)
from tools.installation.product import (
    K8S,
    NAMESPACE,
    OVERLAYS,
    POLICY,
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
    assert wide.metric('gatekeeper_py_fastpath_rules{endpoint="validating"}') == 3


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


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda hook: hook["matchConditions"][1].update(expression="false"), id="never-ask"),
        pytest.param(lambda hook: hook["matchConditions"].pop(), id="always-ask"),
    ],
)
def test_an_edited_condition_is_repaired(wide: Site, edit: Callable[[Any], object]) -> None:
    good = wide.webhook(VALIDATING)
    live = wide.plane.api("GET", VALIDATING)
    edit(live["webhooks"][0])
    wide.plane.api("PUT", VALIDATING, live)
    wait_until(
        lambda: wide.webhook(VALIDATING) == good, seconds=SETTLE_SECONDS, what="the condition put right"
    )


def test_an_api_server_refuses_an_expression_with_422(wide: Site) -> None:
    """The status distinguishes a refusal from a failure."""
    live = wide.plane.api("GET", VALIDATING)
    live["webhooks"][0]["matchConditions"][1]["expression"] = "this is no expression"
    with pytest.raises(ApiError, match="422"):
        wide.plane.api("PUT", f"{VALIDATING}?dryRun=All", live)


def test_a_bad_document_disables_the_fast_path(wide: Site, namespace: str) -> None:
    """The document bypasses the guard, as an administrator could do by deleting the guard first."""

    def slipped_in() -> bool:
        wide.plane.api("DELETE", VALIDATING)
        try:
            wide.patch_policy("allow: [nginx]\n")
        except ApiError:
            return False
        return True

    try:
        wait_until(slipped_in, seconds=30, what="a bad policy past the guard")
        wide.product.wait_armed()
        wide.wait_skipping_nothing()
        assert wide.metric("gatekeeper_py_fastpath_in_step") == 0
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
        metadata = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
        wide.plane.api("POST", CONFIGMAP.rpartition("/")[0], {"metadata": metadata, "data": live["data"]})
    wide.wait_in_step()


@contextmanager
def stopped_controller(site: Site) -> Iterator[None]:
    """Freeze the controller without ending it while the block runs."""
    process = site.product.controllers()[0].process
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_removed_image_is_admitted_while_the_controller_is_stopped(wide: Site, namespace: str) -> None:
    """docs/fast-path.md: only pre-approved images are still admitted, until the controller runs again."""
    with stopped_controller(wide):
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
    with stopped_controller(wide):
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


@pytest.fixture
def controller(site: Site) -> Path:
    return site.product.controller_identity()


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        pytest.param(("get", "configmap", POLICY, "-n", NAMESPACE), True, id="the-policy"),
        pytest.param(
            ("get", "configmap", "kube-root-ca.crt", "-n", NAMESPACE), False, id="another-configmap"
        ),
        pytest.param(("get", "configmaps", "-n", NAMESPACE), False, id="all-configmaps"),
        pytest.param(("label", "configmap", POLICY, "-n", NAMESPACE, "a=b"), False, id="change-the-policy"),
        pytest.param(("get", "pods", "-n", PROBE_NAMESPACE), False, id="list-pods"),
        pytest.param(("get", "secrets", "-n", PROBE_NAMESPACE), False, id="secrets"),
        pytest.param(
            ("delete", "resourcequota", "no-pods", "-n", PROBE_NAMESPACE), False, id="lift-the-quota"
        ),
    ],
)
def test_the_component_adds_only_the_documented_rights(
    site: Site,
    controller: Path,
    arguments: tuple[str, ...],
    allowed: bool,  # noqa: FBT001
) -> None:
    done = site.plane.kubectl(*arguments, kubeconfig=controller, check=False)
    assert (done.returncode == 0) is allowed


def test_the_controller_can_create_pods_only_in_dry_run(wide: Site, controller: Path, namespace: str) -> None:
    safe = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    document = pod("real", PRE_APPROVED)
    document["spec"]["containers"][0]["securityContext"] = safe
    for where, identity, reason in (
        (PROBE_NAMESPACE, controller, "only in dry run"),
        (PROBE_NAMESPACE, None, "exceeded quota"),  # another identity with the right
        (namespace, controller, "forbidden"),
    ):
        done = wide.plane.kubectl(
            "create", "-n", where, "-f", "-", input=json.dumps(document), kubeconfig=identity, check=False
        )
        assert done.returncode != 0
        assert reason in done.stderr


def scale(site: Site, controllers: int) -> None:
    """Scale the controller to this many replicas, and wait until they are ready."""
    deployment = ("deployment/gatekeeper-py-controller", "-n", NAMESPACE)
    site.plane.kubectl("scale", *deployment, f"--replicas={controllers}")
    wait_until(
        lambda: [each.ready for each in site.product.controllers()] == [True] * controllers,
        seconds=SETTLE_SECONDS,
        what=f"{controllers} controllers",
    )


def test_two_controllers_do_not_conflict(wide: Site, namespace: str) -> None:
    """The controller that shuts down removes the condition, and the other one writes it again."""

    def spared() -> bool:
        before = wide.reviews()
        assert wide.create(namespace, pod("staying", STAYING)).status == 201
        return wide.reviews() == before

    scale(wide, 2)
    try:
        wait_until(spared, seconds=SETTLE_SECONDS, what="the condition of two controllers")
        wide.refused_from(namespace, PRE_APPROVED, wide.patch_policy(TIGHT))
    finally:
        scale(wide, 1)
    wait_until(spared, seconds=SETTLE_SECONDS, what="the condition put back")
    wide.wait_in_step()
    assert wide.create(namespace, pod("removed", PRE_APPROVED)).status == 403


def test_an_orderly_end_of_the_controller_leaves_no_condition(wide: Site) -> None:
    scale(wide, 0)
    try:
        wide.wait_skipping_nothing()
    finally:
        scale(wide, 1)
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
