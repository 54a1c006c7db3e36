"""Exceptions on a real API server: they act, end and are given back, and their rights are narrow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.acting import CONTROLLER, identity, kustomization
from gatekeeper_py.controller.webhooks.templates import EXCEPTIONS_GUARD
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP
from tools.controlplane.exchange import ApiError
from tools.installation.product import (
    K8S,
    NAMESPACE,
    OVERLAYS,
    SETTLE_SECONDS,
    VALIDATING,
    Installed,
    deployment,
    pod,
)
from tools.polling import wait_until

ROOT: Final = Path(__file__).parents[2]
GRANTS: Final = """
exceptions:
  - {source: namespace, images: ["ghcr.io/**"], longest: 1h, most: 2}
  - {source: installation, images: ["quay.io/**"], longest: 1h}
  - {source: break-glass, images: ["registry.corp.example/**", "ghcr.io/**"], longest: 12h, overrides: [deny]}
"""
EXCEPTED: Final = "ghcr.io/acme/tool:1"
DENIED: Final = "registry.corp.example/app:latest"
ACTS_WITHIN: Final = 2.0
"""Seconds within which a document and its removal act on every replica."""

EVENT_WITHIN: Final = 60.0
"""Seconds within which an Event is recorded. Events about documents of other tests may go first."""

REQUESTS: Final = 9
"""API servers choose a replica for each request; this many reach all three almost surely."""


def document(*entries: tuple[str, datetime], name: str = EXCEPTIONS_CONFIGMAP) -> dict[str, Any]:
    """Return a ConfigMap with exceptions for images, each with its end."""
    exceptions = [
        {"image": image, "until": until.strftime("%Y-%m-%dT%H:%M:%SZ"), "reason": "a test"}
        for image, until in entries
    ]
    text = {"apiVersion": "gatekeeper-py/v1", "kind": "ImageExceptions", "exceptions": exceptions}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"exceptions.yaml": json.dumps(text)},  # JSON is YAML
    }


def soon(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


@pytest.fixture(scope="module")
def excepting(product: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Add the component ``exceptions`` to the installation, and grants to its policy."""
    folder = kustomization(tmp_path_factory.mktemp("exceptions"), "enforce", "exceptions")
    product.set_mode("enforce")
    before = product.policy_text()
    product.plane.kubectl("apply", "-k", str(folder))
    product.wait_armed()
    product.set_policy(before + GRANTS)
    wait_until(lambda: guards(product), seconds=SETTLE_SECONDS, what="the guard of exceptions")
    yield product
    product.set_policy(before)
    product.plane.kubectl("delete", "-f", str(K8S / "components/exceptions/rbac.yaml"))
    product.plane.kubectl("apply", "-k", str(OVERLAYS / "enforce"))
    wait_until(lambda: not guards(product), seconds=SETTLE_SECONDS, what="no guard of exceptions")
    wait_until(product.controllers, seconds=SETTLE_SECONDS, what=CONTROLLER)


def guards(product: Installed) -> bool:
    """Return whether the webhook for exceptions is registered."""
    found = product.get(VALIDATING) or {}
    return any(each["name"] == EXCEPTIONS_GUARD for each in found.get("webhooks") or ())


def configmaps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def put(product: Installed, namespace: str, body: dict[str, Any]) -> None:
    """Create the ConfigMap; it must be admitted."""
    product.plane.api("POST", configmaps(namespace), body)


def wait_for_event(product: Installed, namespace: str, reason: str, text: str) -> None:
    """Wait until the controller recorded an Event whose message contains a text."""
    path = f"/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}"
    wait_until(
        lambda: any(text in each["message"] for each in product.plane.api("GET", path)["items"]),
        seconds=EVENT_WITHIN,
        what=f"the Event {reason} in {namespace}",
    )


def admitted(product: Installed, namespace: str, image: str) -> bool:
    """Return whether a Pod with this image is admitted, in dry run."""
    try:
        product.plane.api("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod("tried", image))
    except ApiError as refusal:
        if refusal.status != HTTPStatus.FORBIDDEN:
            raise
        return False
    return True


def everywhere(product: Installed, namespace: str, image: str, *, expected: bool) -> bool:
    """Return whether every replica answers as expected about an image."""
    return all(admitted(product, namespace, image) is expected for _ in range(REQUESTS))


def check_within(product: Installed, namespace: str, image: str, *, expected: bool) -> None:
    """Fail if some replica does not answer as expected from ``ACTS_WITHIN`` seconds from now on."""
    time.sleep(ACTS_WITHIN)
    assert everywhere(product, namespace, image, expected=expected)


@pytest.mark.oldest
def test_a_document_acts_and_its_removal_acts_within_two_seconds(
    excepting: Installed, namespace: str
) -> None:
    assert everywhere(excepting, namespace, EXCEPTED, expected=False)
    put(excepting, namespace, document((EXCEPTED, soon(minutes=30))))
    check_within(excepting, namespace, EXCEPTED, expected=True)
    assert not admitted(excepting, "default", EXCEPTED)
    excepting.plane.api("DELETE", f"{configmaps(namespace)}/{EXCEPTIONS_CONFIGMAP}")
    check_within(excepting, namespace, EXCEPTED, expected=False)


def test_an_entry_that_is_removed_from_its_document_ends_within_two_seconds(
    excepting: Installed, namespace: str
) -> None:
    put(excepting, namespace, document((EXCEPTED, soon(minutes=30))))
    check_within(excepting, namespace, EXCEPTED, expected=True)
    changed = document(("ghcr.io/acme/other", soon(minutes=30)))
    excepting.plane.api("PUT", f"{configmaps(namespace)}/{EXCEPTIONS_CONFIGMAP}", changed)
    check_within(excepting, namespace, EXCEPTED, expected=False)


def test_an_exception_that_ends_soon_causes_an_event_in_its_namespace(
    excepting: Installed, namespace: str
) -> None:
    end = soon(minutes=30)
    put(excepting, namespace, document((EXCEPTED, end)))
    text = f"approved until {end:%Y-%m-%dT%H:%M:%S}Z: {EXCEPTED} ({namespace}/{EXCEPTIONS_CONFIGMAP})"
    wait_for_event(excepting, namespace, "ExceptionEnds", text)


def test_an_exception_expires_on_time(excepting: Installed, namespace: str) -> None:
    # The wire format has whole seconds.
    end = soon(seconds=8).replace(microsecond=0)
    put(excepting, namespace, document((EXCEPTED, end)))
    check_within(excepting, namespace, EXCEPTED, expected=True)
    while (left := end.timestamp() - time.time()) > 0.5:
        assert admitted(excepting, namespace, EXCEPTED)
    time.sleep(left + 0.1)
    assert everywhere(excepting, namespace, EXCEPTED, expected=False)
    logs = [excepting.plane.log(each.name) for each in excepting.servers()]
    expected = f'"entry":"{EXCEPTED} ({namespace}/{EXCEPTIONS_CONFIGMAP})"'
    wait_until(
        lambda: all(expected in log.read_text("utf-8") for log in logs),
        seconds=5,
        what="the end in all logs",
    )


@pytest.mark.parametrize(
    ("name", "image", "event"),
    [
        pytest.param(EXCEPTIONS_CONFIGMAP, "quay.io/somebody/app:1", "ExceptionEnds", id="installation"),
        pytest.param(BREAK_GLASS_CONFIGMAP, DENIED, "BreakGlass", id="break-glass-overrides-a-deny-rule"),
    ],
)
def test_a_document_of_the_installation_reaches_other_namespaces_and_causes_an_event(
    excepting: Installed, namespace: str, name: str, image: str, event: str
) -> None:
    assert not admitted(excepting, namespace, image)
    put(excepting, NAMESPACE, document((image, soon(minutes=30)), name=name))
    try:
        check_within(excepting, namespace, image, expected=True)
        wait_for_event(excepting, NAMESPACE, event, image)
    finally:
        excepting.plane.api("DELETE", f"{configmaps(NAMESPACE)}/{name}")
    check_within(excepting, namespace, image, expected=False)


def test_a_bad_document_that_the_guard_did_not_see_approves_nothing(
    excepting: Installed, namespace: str
) -> None:
    put(excepting, namespace, document((EXCEPTED, soon(minutes=30))))
    check_within(excepting, namespace, EXCEPTED, expected=True)
    path = f"{configmaps(namespace)}/{EXCEPTIONS_CONFIGMAP}"
    saved = excepting.plane.api("GET", VALIDATING)
    excepting.kubelet.hold(f"{CONTROLLER}-")
    try:
        excepting.kubelet.crash(excepting.controllers()[0])
        kept = [each for each in saved["webhooks"] if each["name"] != EXCEPTIONS_GUARD]
        excepting.plane.api("PUT", VALIDATING, saved | {"webhooks": kept})
        # API servers need a moment to notice that the webhook is gone.
        bad = {"data": {"exceptions.yaml": "{"}}
        wait_until(lambda: _patched(excepting, path, bad), seconds=10, what="the bad document written")
        check_within(excepting, namespace, EXCEPTED, expected=False)
        shown = [excepting.shown_policy(each.address)["exceptions"] for each in excepting.servers()]
        assert all(
            [(each["source"], each["namespace"]) for each in one["refused"]] == [("namespace", namespace)]
            for one in shown
        )
    finally:
        excepting.kubelet.release(f"{CONTROLLER}-")
        wait_until(lambda: guards(excepting), seconds=SETTLE_SECONDS, what="the guard again")
    wait_for_event(excepting, namespace, "ExceptionsInvalid", "none of its exceptions counts: line 2: ")


def _patched(product: Installed, path: str, body: dict[str, Any]) -> bool:
    try:
        product.plane.api("PATCH", path, body)
    except ApiError:
        return False
    return True


def test_the_guard_refuses_a_document_with_the_finding(excepting: Installed, namespace: str) -> None:
    """tests/webhook/test_guard.py has the other answers. The documented commands below show an approval."""
    body = json.dumps(document((EXCEPTED, soon(days=3))))
    done = excepting.plane.kubectl("apply", "-n", namespace, "-f", "-", input=body, check=False)
    assert done.returncode != 0
    assert "the exceptions are not acceptable" in done.stderr
    assert "further away than the grant allows" in done.stderr


NAMED: Final = f"--field-selector=metadata.name={EXCEPTIONS_CONFIGMAP}"


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (f"get configmaps -A {NAMED}", True),
        (f"get configmaps -A --field-selector=metadata.name={BREAK_GLASS_CONFIGMAP}", True),
        (f"get configmaps -n default {NAMED}", True),
        ("get configmaps -A", False),
        ("get configmaps -n default", False),
        ("get configmaps -A --field-selector=metadata.name=kube-root-ca.crt", False),
        ("get configmaps -A --field-selector=metadata.namespace=default", False),
        ("get configmap kube-root-ca.crt -n default", False),
        (f"get configmap {EXCEPTIONS_CONFIGMAP} -n default", False),
        (f"create configmap {EXCEPTIONS_CONFIGMAP} -n default --dry-run=server", False),
        (f"delete configmap {EXCEPTIONS_CONFIGMAP} -n default --ignore-not-found", False),
        ("get secrets -A", False),
    ],
)
@pytest.mark.parametrize("name", ["gatekeeper-py", CONTROLLER])
def test_servers_and_controller_read_exceptions_by_name_and_no_other_configmap(
    excepting: Installed, name: str, command: str, *, allowed: bool
) -> None:
    done = excepting.plane.kubectl(*command.split(), kubeconfig=identity(excepting, name), check=False)
    assert (done.returncode == 0) is allowed, done.stderr


@pytest.mark.parametrize(("name", "verbs"), [("gatekeeper-py", []), (CONTROLLER, ["create"])])
def test_only_the_controller_may_create_events_and_it_may_read_none(
    excepting: Installed, name: str, verbs: list[str]
) -> None:
    user = identity(excepting, name)
    assert verbs == [
        verb
        for verb in ("create", "get", "list", "watch", "patch", "update", "delete")
        if excepting.plane.kubectl(
            "auth", "can-i", verb, "events", "-n", "default", kubeconfig=user, check=False
        ).returncode
        == 0
    ]


def run(product: Installed, user: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a page as a user."""
    path = f"{product.plane.binaries}:{os.environ['PATH']}"
    return product.plane.exec(["bash", "-c", command], env={"PATH": path, "KUBECONFIG": str(user)})


@pytest.fixture
def shop(excepting: Installed) -> Iterator[Path]:
    """Prepare break-glass and a Deployment in ``shop``. Yield the kubeconfig of alice, who may edit there."""
    plane, example = excepting.plane, str(ROOT / "examples/break-glass.yaml")
    plane.make_namespace("shop")
    plane.kubectl("create", "rolebinding", "edit", "-n", "shop", "--clusterrole=edit", "--user=alice")
    plane.kubectl("apply", "-n", "shop", "-f", "-", input=json.dumps(deployment("web")))
    plane.kubectl("apply", "-f", example)
    yield plane.kubeconfig_for("alice")
    plane.kubectl("delete", "-f", example)
    plane.kubectl("delete", "rolebinding", "break-glass-alice", "-n", NAMESPACE, "--ignore-not-found")
    plane.kubectl("delete", "namespace", "shop", "--wait=false")


def test_the_documented_commands_lead_from_refused_to_running_and_leave_a_trace(
    excepting: Installed, shop: Path
) -> None:
    page = (ROOT / "docs/exceptions.md").read_text(encoding="utf-8")
    section = page.partition("### Use break-glass\n")[2].partition("\n### ")[0]
    (block, *_) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    bind, write, change, wait = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    plane, begin = excepting.plane, excepting.plane.audit_bytes()
    assert 'User "alice" cannot get resource' in run(excepting, shop, write).stderr
    assert "is not approved" in run(excepting, shop, change).stderr

    assert run(excepting, plane.kubeconfig, bind).returncode == 0
    written = run(excepting, shop, write)
    assert (written.returncode, "approved until" in written.stderr) == (0, True), written.stderr
    time.sleep(ACTS_WITHIN)
    changed = run(excepting, shop, change)
    assert changed.returncode == 0, changed.stderr
    assert "successfully rolled out" in run(excepting, shop, wait).stdout

    events = [
        each
        for each in plane.audit_events(since=begin)
        if each["stage"] == "ResponseComplete" and "objectRef" in each
    ]
    writers = {
        each["user"]["username"]
        for each in events
        if each["objectRef"].get("name") == BREAK_GLASS_CONFIGMAP
        and each["responseStatus"]["code"] == HTTPStatus.OK
        if each["verb"] == "patch"
    }
    used = {
        (each["user"]["username"], each["objectRef"]["resource"])
        for each in events
        for key, value in each.get("annotations", {}).items()
        if key.endswith("/exceptions") and f"(break-glass {NAMESPACE} exceptions[0])" in value
    }
    assert writers == {"alice"}
    assert ("alice", "deployments") in used
    assert "pods" in {resource for _, resource in used}
    logs = [plane.log(each.name).read_text(encoding="utf-8") for each in excepting.servers()]
    assert any('"source":"break-glass"' in each for each in logs)
