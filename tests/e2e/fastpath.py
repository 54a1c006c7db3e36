"""Use the fast path of the product on the control plane: create Pods, count reviews, change the policy."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from e2e.acting import Document, Reply, connected, send
from tools.controlplane.exchange import exchange
from tools.controlplane.plane import ControlPlane
from tools.installation.product import (
    CONFIGMAP,
    MUTATING,
    OVERLAYS,
    SETTLE_SECONDS,
    VALIDATING,
    Installed,
    pod,
)
from tools.polling import wait_until

PROBE_NAMESPACE: Final = "gatekeeper-py-probe"
CONDITION: Final = "not-pre-approved"
ANNOTATION: Final = "gatekeeper-py/fast-path-revision"

PRE_APPROVED: Final = "registry.corp.example/team/app:1"
STAYING: Final = "staying.example/app:1"
UPPER_CASE: Final = "EU.wild.example/app:1"
"""The policies approve this image, but it is not written in full, so the webhook is called."""

HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow:\n"
TIGHT: Final = HEAD + "  - staying.example\n  - mirror.example\n  - '*.wild.example'\n"
WIDE: Final = TIGHT + "  - registry.corp.example\n"

REVIEWS: Final = re.compile(
    r'^gatekeeper_py_(?:dry_run_reviews_total\{endpoint="(?:validate|mutate)"|'
    r'reviews_total\{endpoint="(?:validate|mutate)",[^}]*operation="(?:CREATE|UPDATE)")[^}]*\} (\S+)$',
    re.MULTILINE,
)


@dataclass
class Site:
    """An installation with the fast path."""

    product: Installed
    frozen: bool = False
    """Whether the controller is stopped, but not ended."""

    @property
    def plane(self) -> ControlPlane:
        return self.product.plane

    def create(self, namespace: str, document: Document, *, dry_run: bool = True) -> Reply:
        query = "?dryRun=All" if dry_run else ""
        return self.send("POST", f"/api/v1/namespaces/{namespace}/pods{query}", document)

    def send(self, method: str, path: str, document: Document) -> Reply:
        kind = "strategic-merge-patch+json" if method == "PATCH" else "json"
        with closing(connected(self.plane)) as connection:
            return send(connection, method, path, document, kind=kind)

    def reviews(self) -> float:
        """Return the number of reviews of creates and updates. The controller sends DELETE reviews itself."""
        texts = [exchange((each.address, 8080), "GET", "/metrics") for each in self.product.servers()]
        return sum(float(count) for text in texts for count in REVIEWS.findall(text))

    @contextmanager
    def freeze_controller(self) -> Iterator[None]:
        """Stop the controller without ending it inside the ``with`` statement; it may be stopped already."""
        running = [] if self.frozen else [each.process for each in self.product.controllers()]
        before, self.frozen = self.frozen, True
        for process in running:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.frozen = before
            for process in running:
                process.send_signal(signal.SIGCONT)

    @contextmanager
    def expect_reviews(self, count: int) -> Iterator[None]:
        """Assert that the body of the ``with`` statement causes exactly ``count`` reviews.

        Meanwhile the controller is stopped, because the reviews of its probe Pods would be counted, too.
        """
        with self.freeze_controller():
            before = self.reviews()
            yield
            assert self.reviews() - before == count

    def metrics(self) -> str:
        return exchange((self.product.controllers()[0].address, 8080), "GET", "/metrics")

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_in_step(self) -> None:
        self.product.wait_in_step()

    def put_policy(self, text: str) -> None:
        """Write the policy, and wait for the replicas and the fast path."""
        if self.product.policy_text() != text:
            self.product.set_policy(text)
        self.wait_in_step()

    def patch_policy(self, text: str) -> float:
        """Write the policy, and return the time when the API server had it."""
        self.plane.api("PATCH", CONFIGMAP, {"data": {"policy.yaml": text}})
        return time.monotonic()

    def conditions(self, path: str) -> list[str]:
        """Return the names of the match conditions of the webhook for Pods."""
        return [each["name"] for each in self.webhook(path)["matchConditions"]]

    def webhook(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.api("GET", path)["webhooks"][0]
        return found

    def skips_nothing(self) -> bool:
        """Return whether no configuration has the condition or the annotation of the fast path."""
        for path in (VALIDATING, MUTATING):
            live = self.product.get(path)
            if live is None:
                if path == VALIDATING:
                    return False
                continue  # the mutating one exists only while the policy rewrites images
            if ANNOTATION in live["metadata"].get("annotations", {}):
                return False
            if any(
                each["name"] == CONDITION
                for hook in live["webhooks"]
                for each in hook.get("matchConditions", ())
            ):
                return False
        return True

    def wait_skipping_nothing(self) -> None:
        wait_until(self.skips_nothing, seconds=SETTLE_SECONDS, what="no condition of the fast path")

    def refused_from(self, namespace: str, image: str, since: float, *, seconds: float = 30) -> float:
        """Wait until a Pod with this image is refused, and return the seconds since ``since``."""
        wait_until(
            lambda: self.create(namespace, pod("probe", image)).status == 403,
            seconds=seconds,
            what=f"{image} refused",
        )
        return time.monotonic() - since


@contextmanager
def fast_path(product: Installed) -> Iterator[Site]:
    """Apply the overlay ``fast-path`` unchanged over the installation, and take it back at the end."""
    found = Site(product)
    product.plane.kubectl("apply", "-k", str(OVERLAYS / "fast-path"))
    try:
        found.wait_in_step()
        yield found
    finally:
        product.plane.kubectl("apply", "-k", str(OVERLAYS / "enforce"))
        found.wait_skipping_nothing()
