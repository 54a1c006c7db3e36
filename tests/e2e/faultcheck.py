"""Checks for every fault of the policy's source: reviews go on, and a later change is loaded."""

from __future__ import annotations

import os
import ssl
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.extrareplica import ApiProxy, ExtraReplica
from e2e.replicas import Replica, ReviewLoop, size
from gatekeeper_py.core import parse_policy
from tools.installation.product import APPROVED, CONFIGMAP, VALIDATING, Installed
from tools.polling import wait_until

PRESENT = "gatekeeper_py_policy_present"
SYNCED = "gatekeeper_py_policy_synced_timestamp_seconds"

RECOVERY_SECONDS = 60.0
"""Maximum time until recovery: two of the longest pauses between attempts."""

NOTICE_SECONDS = 90.0
"""Time until a fault is logged: two of the longest pauses, and connecting may take 10 s."""


class FaultCheck:
    """The installation, with the checks for every fault."""

    def __init__(self, product: Installed) -> None:
        self.product = product
        self.plane = product.plane
        self.text = product.policy_text()
        self.changes = 0
        live = self.plane.api("GET", VALIDATING)
        bundle = b64decode(live["webhooks"][0]["clientConfig"]["caBundle"]).decode()
        self.trust = ssl.create_default_context(cadata=bundle)

    def replicas(self) -> list[Replica]:
        """Return the three replicas, with their logs from now on."""
        return [
            Replica(pod.address, log := self.plane.log(pod.name), size(log)) for pod in self.product.servers()
        ]

    def next_text(self) -> str:
        """Return a good policy that differs from all earlier ones."""
        self.changes += 1
        return f"{self.text}message: change {self.changes} of {os.getpid()}\n"

    def write(self, text: str) -> None:
        self.plane.api("PATCH", CONFIGMAP, {"data": {"policy.yaml": text}})

    def seconds_until_served(self, text: str, replicas: list[Replica], *, what: str, since: float) -> float:
        """Wait until every replica serves this text; return the seconds since ``since``."""
        expected_revision = parse_policy(text, "enforce").revision
        wait_until(
            lambda: all(replica.shown()["revision"] == expected_revision for replica in replicas),
            seconds=RECOVERY_SECONDS,
            what=f"every replica with the new policy after {what}",
        )
        return time.monotonic() - since

    def check_recovery(self, replicas: list[Replica], *, what: str) -> None:
        """Check after a fault that a change is loaded and that the metrics show a synchronized source."""
        over, clock = time.monotonic(), time.time()
        text = self.next_text()
        self.write(text)
        seconds = self.seconds_until_served(text, replicas, what=what, since=over)
        for replica in replicas:
            assert self.product.metric(replica.address, SYNCED) >= clock
            assert self.product.metric(replica.address, PRESENT) == 1
            assert replica.shown()["refused"] is None
        sys.stderr.write(f"\n{what}: a change was loaded {seconds:.2f} s after the fault\n")

    @contextmanager
    def reviewing(self, replicas: list[Replica]) -> Iterator[ReviewLoop]:
        """Check that each replica answers every review while the block runs."""
        reviews, stop = ReviewLoop(), threading.Event()
        threads = [
            threading.Thread(target=reviews.run, args=(replica.address, self.trust, stop), daemon=True)
            for replica in replicas
        ]
        for thread in threads:
            thread.start()
        try:
            yield reviews
            self.wait_for_verdicts(reviews, replicas)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert reviews.broken == []
        assert all(allowed == (image == APPROVED) for _, image, allowed in reviews.verdicts)

    def wait_for_verdicts(self, reviews: ReviewLoop, replicas: list[Replica]) -> None:
        """Wait until each replica has given a few more verdicts."""
        before = {replica.address: reviews.of(replica.address) for replica in replicas}
        wait_until(
            lambda: (
                reviews.broken or all(reviews.of(address) > count + 4 for address, count in before.items())
            ),
            seconds=20,
            what="every replica answering",
        )
        assert reviews.broken == []

    def pid(self, component: str) -> int:
        return self.plane._processes._children[component].pid


@pytest.fixture
def fault_check(product: Installed) -> Iterator[FaultCheck]:
    """Start in enforce mode with three ready replicas, and restore the installation afterwards."""
    product.wait_armed()
    product.set_mode("enforce")
    check = FaultCheck(product)
    yield check
    check.write(check.text)
    check.seconds_until_served(check.text, check.replicas(), what="a test", since=time.monotonic())
    product.wait_armed()


@pytest.fixture
def extra_replica(fault_check: FaultCheck, tmp_path: Path) -> Iterator[ExtraReplica]:
    with ApiProxy() as proxy:
        yield ExtraReplica(fault_check.plane, tmp_path, proxy)


def wait_until_logged(replicas: list[Replica], problem: str, *, times: int = 1) -> None:
    """Wait until every replica has logged this problem at least ``times`` times."""
    wait_until(
        lambda: all(
            sum(problem in failure for failure in replica.failures()) >= times for replica in replicas
        ),
        seconds=NOTICE_SECONDS,
        what=f"every replica logging {problem!r}",
    )
