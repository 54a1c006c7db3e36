"""A change of the policy that rejects most of the images that the cluster uses, as an operator sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Final

import pytest

from e2e.acting import scale, try_pod, use_images
from gatekeeper_py.core.names import ACCEPT_REJECTIONS
from gatekeeper_py.webhook.guard import PAUSE_FACTOR
from gatekeeper_py.webhook.metrics import CHECK_RESULTS
from tools.installation.product import CONFIGMAP, NAMESPACE, POLICY, SETTLE_SECONDS, Installed
from tools.polling import wait_until

SERVER: Final = "gatekeeper-py"
NUMBER: Final = 12
HERE, ELSEWHERE = "registry.corp.example", "registry.corp.exmaple"


@pytest.fixture
def alone(product: Installed) -> Iterator[Installed]:
    """Replace the replicas by one that knows no image yet, because each replica knows its own."""
    product.set_mode("enforce")
    old = product.servers()
    scale(product, SERVER, 0)
    for each in old:
        # While it drains, it would answer reviews on connections that the API server has kept.
        product.kubelet.crash(each)
    scale(product, SERVER, 1)
    wait_until(lambda: product.ready_replicas() == 1, seconds=SETTLE_SECONDS, what="one ready replica")
    annotate(product, f"{ACCEPT_REJECTIONS}-")
    before = product.plane.api("GET", CONFIGMAP)["data"]
    try:
        yield product
    finally:
        annotate(product, f"{ACCEPT_REJECTIONS}=true")
        change(product, before)
        annotate(product, f"{ACCEPT_REJECTIONS}-")
        scale(product, SERVER, 3)
        product.wait_armed()


def annotate(product: Installed, annotation: str) -> None:
    """Annotate the policy as docs/operate.md describes."""
    product.plane.kubectl("annotate", "configmap", POLICY, "-n", NAMESPACE, "--overwrite", annotation)


def change(product: Installed, data: dict[str, str], *arguments: str) -> CompletedProcess[str]:
    """Change the policy's ConfigMap; the change may be refused.

    The guard pauses after each check, the longer the slower the machine is. If the pause leaves the next
    check too little time, the API server admits that change without a check. So this waits until it ends.
    """
    patch = json.dumps({"data": data})
    began = time.monotonic()
    done = product.plane.kubectl(
        *("patch", "configmap", POLICY, "-n", NAMESPACE, "--type=merge", "-p", patch, *arguments), check=False
    )
    time.sleep(PAUSE_FACTOR * (time.monotonic() - began))
    return done


def checks(product: Installed) -> dict[str, float]:
    """Return how many changes the only replica has checked, by result."""
    (server,) = product.servers()
    counter = "gatekeeper_py_policy_checks_total"
    return {result: product.metric(server.address, counter, result=result) for result in CHECK_RESULTS}


def live_on(product: Installed, revisions: set[str]) -> None:
    wait_until(lambda: product.revisions() != revisions, seconds=10, what="another policy live")


def policy(host: str) -> dict[str, str]:
    return {
        "policy.yaml": f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow: [{host}]\n"
    }


def test_a_wrong_registry_name_is_refused_until_somebody_forces_it(alone: Installed, namespace: str) -> None:
    use_images(alone.plane, namespace, HERE, NUMBER)
    said = f"this policy rejects {NUMBER} of {NUMBER} images that were approved here in the last 24 hours"
    for arguments in (("--dry-run=server",), ()):
        denied = change(alone, policy(ELSEWHERE), *arguments)
        assert denied.returncode != 0
        assert said in denied.stderr
        assert f'set the annotation {ACCEPT_REJECTIONS}: "true"' in denied.stderr
    # Other edits of the ConfigMap are not judged.
    alone.plane.kubectl("label", "configmap", POLICY, "-n", NAMESPACE, "--overwrite", "team=platform")

    annotate(alone, f"{ACCEPT_REJECTIONS}=true")
    before = alone.revisions()
    insisted = change(alone, policy(ELSEWHERE))
    assert insisted.returncode == 0
    warnings = [line for line in insisted.stderr.splitlines() if line.startswith("Warning: ")]
    assert warnings, f"admitted without a check: {checks(alone)}"
    assert warnings[0].startswith(f"Warning: {said}")
    assert f"{HERE}/app0:1" in insisted.stderr
    assert f"Warning: remove the annotation {ACCEPT_REJECTIONS} now" in insisted.stderr
    assert alone.metric(alone.servers()[0].address, "gatekeeper_py_guard_rejected_images") == NUMBER
    annotate(alone, f"{ACCEPT_REJECTIONS}-")
    live_on(alone, before)
    assert "is not approved" in try_pod(alone.plane, namespace, f"{HERE}/app0:1").stderr

    # The way back is a change as well: it rejects what the cluster uses by now.
    use_images(alone.plane, namespace, ELSEWHERE, NUMBER)
    back = change(alone, policy(HERE))
    assert back.returncode != 0
    assert f"this policy rejects {NUMBER} of {NUMBER} images" in back.stderr
    annotate(alone, f"{ACCEPT_REJECTIONS}=true")
    assert change(alone, policy(HERE)).returncode == 0
