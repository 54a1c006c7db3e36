"""The commands of docs/install.md, docs/operate.md and docs/on-call.md, run exactly as documented."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from e2e.acting import CONTROLLER, apply, scale
from tools.installation.product import (
    MUTATING,
    NAMESPACE,
    POLICY,
    UNLISTED,
    VALIDATING,
    Installed,
    deployment,
)
from tools.polling import wait_until

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [(DOCS / name).read_text(encoding="utf-8") for name in ("install.md", "operate.md", "on-call.md")]


def section(title: str) -> list[list[str]]:
    """Return the kubectl commands of one section, as argument lists."""
    return [shlex.split(line.removeprefix("kubectl ")) for line in lines(title)]


def lines(title: str) -> list[str]:
    """Return the kubectl commands of one section, as written."""
    (body,) = (
        page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        for page in PAGES
        if f"\n## {title}\n" in page
    )
    blocks = re.findall(r"^```console\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    shown = (line for block in blocks for line in block.splitlines())
    return [line.removeprefix("$ ") for line in shown if line.startswith("$ kubectl ")]


def probe_refused(product: Installed) -> bool:
    """Return whether the Pod of the section Verify is refused."""
    return product.plane.kubectl(*section("Verify")[1], check=False).returncode == 1


def test_verify_shows_the_configuration_and_refuses_the_probe(product: Installed) -> None:
    product.set_mode("enforce")
    show, probe, *_ = section("Verify")
    assert "image-validation-webhook" in product.plane.kubectl(*show).stdout
    refused = product.plane.kubectl(*probe, check=False)
    assert refused.returncode == 1
    assert "is not approved" in refused.stderr


def test_a_new_mode_applies_to_the_next_pod(product: Installed) -> None:
    probe = section("Verify")[1]
    to_warn, to_enforce = section("Toggle")
    product.plane.kubectl(*to_warn)
    wait_until(
        lambda: "Warning" in product.plane.kubectl(*probe, check=False).stderr, seconds=5, what="a warning"
    )
    product.plane.kubectl(*to_enforce)
    wait_until(lambda: probe_refused(product), seconds=5, what="a refusal")


@pytest.mark.oldest
def test_one_command_opens_a_cluster_in_which_no_pod_can_be_created(product: Installed) -> None:
    product.set_mode("enforce")
    pause, end, *_ = lines("When nobody can create Pods")
    environment = {"PATH": f"{product.plane.binaries}:{os.environ['PATH']}"}
    paused = product.plane.exec(["bash", "-c", pause], env=environment)
    assert (paused.returncode, paused.stderr) == (0, "")
    wait_until(lambda: product.get(VALIDATING) is None, seconds=10, what="the configuration removed")
    wait_until(lambda: not probe_refused(product), seconds=10, what="Pods admitted")
    product.plane.kubectl(*shlex.split(end.removeprefix("kubectl ")))
    product.wait_armed()
    wait_until(lambda: probe_refused(product), seconds=10, what="Pods judged again")


def test_without_a_controller_an_administrator_deletes_the_configurations(product: Installed) -> None:
    product.set_mode("enforce")
    deletions = [command for command in section("When nobody can create Pods") if command[0] == "delete"]
    assert len(deletions) == 2
    scale(product, CONTROLLER, 0)
    try:
        for command in deletions:
            product.plane.kubectl(*command)
        assert product.get(VALIDATING) is None
        assert product.get(MUTATING) is None
        wait_until(lambda: not probe_refused(product), seconds=10, what="Pods admitted")
    finally:
        scale(product, CONTROLLER, 1)
    product.wait_armed()


@pytest.mark.oldest
def test_audit_finds_what_runs_from_elsewhere(product: Installed, namespace: str) -> None:
    product.set_mode("warn")
    plane = product.plane
    apply(plane, namespace, deployment("old", UNLISTED, replicas=3))
    plane.kubectl("rollout", "status", "deployment/old", "-n", namespace, "--timeout=60s")
    audit = (sys.executable, "-m", "gatekeeper_py", "audit", "--configmap", f"{NAMESPACE}/{POLICY}")
    done = plane.exec([*audit, "-n", namespace, "--format", "json"])
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)["images"]
    assert (found["image"], found["reason"]) == (UNLISTED, "unlisted")
    kinds = sorted(place["kind"] for place in found["objects"])
    assert kinds == ["Deployment", "Pod", "Pod", "Pod", "ReplicaSet"]
    product.set_mode("enforce")


def test_control_once_ends_when_the_webhook_is_armed(product: Installed) -> None:
    identity = product.controller_identity()
    control = [sys.executable, "-m", "gatekeeper_py", "control", "--once"]
    done = product.plane.exec([*control, f"--kubeconfig={identity}"], seconds=90)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"event":"armed"' in done.stdout


def test_the_pods_have_the_priority_of_a_system_component_and_count_in_the_quota(product: Installed) -> None:
    core = f"/api/v1/namespaces/{NAMESPACE}"
    pods = product.plane.api("GET", f"{core}/pods")["items"]
    assert {each["spec"]["priority"] for each in pods} == {2_000_000_000}
    quota = f"{core}/resourcequotas/gatekeeper-py-critical-pods"
    wait_until(
        lambda: product.plane.api("GET", quota)["status"] == {"hard": {"pods": "25"}, "used": {"pods": "4"}},
        seconds=30,
        what="three servers and the controller in the quota",
    )
