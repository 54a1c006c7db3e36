"""A self-healing tool repeatedly applies the manifests, by force, while everything else changes.

It stands for Argo CD and Flux, which apply what is in Git with server-side apply. In Git is a kustomization
as docs/install.md describes it: an overlay as shipped, a policy, and usually the patch that removes the key
``mode``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.acting import PAUSED_UNTIL, annotate, kustomization, pause
from e2e.fastpath import CONDITION, Site
from tools.installation.product import (
    APPROVED,
    CONFIGMAP,
    MUTATING,
    NAMESPACE,
    POLICY,
    SECRET,
    SETTLE_SECONDS,
    UNLISTED,
    VALIDATING,
    pod,
)
from tools.polling import wait_until

INSTALL_PAGE: Final = Path(__file__).parents[2] / "docs/install.md"
APPLY_SECONDS = 0.5


@dataclass
class Tool:
    """Applies the manifests until it is stopped; ``applied`` counts how often that succeeded."""

    site: Site
    manifests: str
    applied: int = 0
    problems: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(APPLY_SECONDS):
            done = self.site.plane.kubectl(
                "apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-",
                input=self.manifests, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                self.applied += 1
            else:
                self.problems.append(done.stderr)

    def wait(self, times: int = 2) -> None:
        """Wait until the manifests were applied this many more times."""
        seen = self.applied
        wait_until(lambda: self.applied >= seen + times, seconds=60, what="the manifests applied again")


def patch_that_removes_the_mode() -> list[dict[str, Any]]:
    """Return the patches of the section "Keep a toggled mode" of docs/install.md."""
    _, _, section = INSTALL_PAGE.read_text(encoding="utf-8").partition("### Keep a toggled mode\n")
    block = re.search(r"^```yaml\n(.*?)^```", section.partition("\n#")[0], re.MULTILINE | re.DOTALL)
    assert block is not None
    patches: list[dict[str, Any]] = yaml.safe_load(block[1])["patches"]
    return patches


@contextmanager
def applying(site: Site, folder: Path, **fields: Any) -> Iterator[Tool]:
    """Apply the overlay ``fast-path`` with the live policy; ``fields`` are more of the kustomization."""
    (folder / "policy.yaml").write_text(site.product.policy_text(), encoding="utf-8")
    generated = {"name": POLICY, "namespace": NAMESPACE, "behavior": "merge", "files": ["policy.yaml"]}
    kustomization(folder, "fast-path", configMapGenerator=[generated], **fields)
    tool = Tool(site, site.plane.kubectl("kustomize", str(folder)).stdout)
    thread = threading.Thread(target=tool.run)
    thread.start()
    try:
        tool.wait(1)
        yield tool
    finally:
        tool.stop.set()
        thread.join(60)


@pytest.fixture
def tool(wide: Site, tmp_path: Path) -> Iterator[Tool]:
    with applying(wide, tmp_path, patches=patch_that_removes_the_mode()) as found:
        yield found
        found.wait(1)
    assert found.problems == []


def held(tool: Tool, check: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds; check that it still holds after two more applications."""
    wait_until(check, seconds=SETTLE_SECONDS, what=what)
    tool.wait(2)
    assert check(), f"not any more: {what}"


def modes(site: Site) -> set[str]:
    return {site.product.mode_of(each.address) for each in site.product.servers()}


def pods(site: Site) -> set[str]:
    return {each.name for each in (*site.product.servers(), *site.product.controllers())}


def conditions(site: Site) -> list[str]:
    live = site.product.get(VALIDATING) or {"webhooks": [{}]}
    return [each["name"] for each in live["webhooks"][0].get("matchConditions", ())]


def test_a_toggled_mode_stays(tool: Tool, namespace: str) -> None:
    site, before = tool.site, pods(tool.site)
    for mode in ("warn", "mutate", "enforce"):
        site.product.set_mode(mode)
        held(tool, lambda mode=mode: modes(site) == {mode}, f"mode {mode}")  # type: ignore[misc]
    assert site.create(namespace, pod("unlisted", UNLISTED)).status == 403
    assert pods(site) == before, "applying the same manifests restarted a Pod"


def test_the_mode_of_an_overlay_as_shipped_is_restored(wide: Site, tmp_path: Path) -> None:
    """Why the patch is needed: the overlay sets the key, so the tool reverts what somebody toggled."""
    with applying(wide, tmp_path) as found:
        wide.plane.api("PATCH", CONFIGMAP, {"data": {"mode": "warn"}})
        found.wait(2)
        assert wide.plane.api("GET", CONFIGMAP)["data"]["mode"] == "enforce"
        wait_until(lambda: modes(wide) == {"enforce"}, seconds=SETTLE_SECONDS, what="mode enforce again")
    assert found.problems == []


def test_a_pause_stays_and_ends(tool: Tool, namespace: str) -> None:
    site = tool.site
    pause(site.product, timedelta(hours=1))
    try:
        held(tool, lambda: site.product.get(VALIDATING) is None, "the configurations removed")
        assert site.product.get(MUTATING) is None
        assert site.create(namespace, pod("unlisted", UNLISTED)).status == 201
    finally:
        annotate(site.product, f"{PAUSED_UNTIL}-")
    held(tool, lambda: site.product.get(VALIDATING) is not None, "the configurations created again")
    wait_until(
        lambda: site.create(namespace, pod("unlisted", UNLISTED)).status == 403,
        seconds=SETTLE_SECONDS,
        what="an unlisted image refused again",
    )


def test_a_new_certificate_stays(tool: Tool, namespace: str) -> None:
    site = tool.site
    before = site.plane.api("GET", SECRET)["data"]["tls.crt"]
    site.plane.api("DELETE", SECRET)

    def renewed() -> bool:
        live = site.product.get(SECRET)
        return live is not None and live["data"].get("tls.crt", before) != before

    held(tool, renewed, "another certificate")
    site.product.wait_armed()
    wait_until(
        lambda: site.create(namespace, pod("unlisted", UNLISTED)).status == 403,
        seconds=SETTLE_SECONDS,
        what="reviews under the new certificate",
    )


def test_the_fast_path_stays_in_step(tool: Tool, namespace: str) -> None:
    site = tool.site
    held(tool, lambda: CONDITION in conditions(site), "the condition of the fast path")
    with site.expect_reviews(0):
        assert site.create(namespace, pod("approved", APPROVED)).status == 201


def test_a_policy_that_is_edited_in_the_cluster_is_restored(tool: Tool) -> None:
    site = tool.site
    document = site.plane.api("GET", CONFIGMAP)["data"]["policy.yaml"]
    site.plane.api("PATCH", CONFIGMAP, {"data": {"policy.yaml": document + "  - edited.example\n"}})
    held(
        tool,
        lambda: site.plane.api("GET", CONFIGMAP)["data"]["policy.yaml"] == document,
        "the policy of Git restored",
    )
    site.wait_in_step()
