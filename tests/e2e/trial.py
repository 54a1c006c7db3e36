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
from typing import Any

import pytest

from e2e.newcomer import Newcomer, Way
from e2e.replicas import Asking, Replica, size
from gatekeeper_py.core import parse_policy
from tools.controlplane.plane import ControlPlane
from tools.installation.product import APPROVED, NAMESPACE, POLICY, VALIDATING, Installed
from tools.polling import wait_until

CONFIGMAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{POLICY}"
PRESENT = "gatekeeper_py_policy_present"
SYNCED = "gatekeeper_py_policy_synced_timestamp_seconds"

RECOVERY_SECONDS = 60.0
"""Two of the longest pauses between attempts."""

NOTICE_SECONDS = 90.0
"""For what has to be logged during a fault: two of the longest pauses, and connecting may take 10 s."""


class Trial:
    """The installation, and what every fault is held to."""

    def __init__(self, product: Installed) -> None:
        self.product = product
        self.plane = product.plane
        self.text = product.policy_text()
        self.changes = 0
        live = self.plane.api("GET", VALIDATING)
        bundle = b64decode(live["webhooks"][0]["clientConfig"]["caBundle"]).decode()
        self.trust = ssl.create_default_context(cadata=bundle)

    def replicas(self) -> list[Replica]:
        """The three, their logs from now on."""
        return [
            Replica(pod.address, log := self.plane.log(pod.name), size(log)) for pod in self.product.servers()
        ]

    def next_text(self) -> str:
        """A good policy that differs from all before."""
        self.changes += 1
        return f"{self.text}message: change {self.changes} of {os.getpid()}\n"

    def write(self, text: str) -> None:
        self.plane.api("PATCH", CONFIGMAP, {"data": {"policy.yaml": text}})

    def felt(self, text: str, replicas: list[Replica], *, what: str, since: float) -> float:
        """Seconds from ``since`` until every replica serves this text."""
        expected_revision = parse_policy(text, "enforce").revision
        wait_until(
            lambda: all(replica.shown()["revision"] == expected_revision for replica in replicas),
            seconds=RECOVERY_SECONDS,
            what=f"a change of the policy felt after {what}",
        )
        return time.monotonic() - since

    def recovers(self, replicas: list[Replica], *, what: str) -> None:
        """The fault is over: a change is felt, and metrics tell that we are in step."""
        over, clock = time.monotonic(), time.time()
        text = self.next_text()
        self.write(text)
        seconds = self.felt(text, replicas, what=what, since=over)
        for replica in replicas:
            assert self.product.metric(replica.address, SYNCED) >= clock
            assert self.product.metric(replica.address, PRESENT) == 1
            assert replica.shown()["refused"] is None
        sys.stderr.write(f"\n{what}: a change was felt {seconds:.2f} s after it was over\n")

    @contextmanager
    def answering(self, replicas: list[Replica]) -> Iterator[Asking]:
        """Every review is answered meanwhile, by each of these replicas."""
        asking, stop = Asking(), threading.Event()
        threads = [
            threading.Thread(target=asking.run, args=(replica.address, self.trust, stop), daemon=True)
            for replica in replicas
        ]
        for thread in threads:
            thread.start()
        try:
            yield asking
            self.still_answering(asking, replicas)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert asking.broken == []
        assert all(allowed == (image == APPROVED) for _, image, allowed, _ in asking.verdicts)

    def still_answering(self, asking: Asking, replicas: list[Replica]) -> None:
        """Each gives a few verdicts more from now on."""
        before = {replica.address: asking.of(replica.address) for replica in replicas}
        wait_until(
            lambda: asking.broken or all(asking.of(address) > count + 4 for address, count in before.items()),
            seconds=20,
            what="every replica answering",
        )
        assert asking.broken == []

    def pid(self, component: str) -> int:
        return self.plane._processes._children[component].pid


@pytest.fixture
def trial(product: Installed) -> Iterator[Trial]:
    """Starts in enforce mode with three ready replicas, and leaves the installation as it was."""
    product.wait_armed()
    product.set_mode("enforce")
    trial = Trial(product)
    yield trial
    trial.write(trial.text)
    trial.felt(trial.text, trial.replicas(), what="a test", since=time.monotonic())
    product.wait_armed()


@pytest.fixture
def newcomer(trial: Trial, tmp_path: Path) -> Iterator[Newcomer]:
    with Way() as way:
        yield Newcomer(trial.plane, tmp_path, way)


def noticed(replicas: list[Replica], problem: str, *, times: int = 1) -> None:
    """Wait until every replica has said so often what is wrong."""
    wait_until(
        lambda: all(
            sum(problem in failure for failure in replica.failures()) >= times for replica in replicas
        ),
        seconds=NOTICE_SECONDS,
        what=f"every replica saying {problem!r}",
    )


def made_again(plane: ControlPlane, path: str, document: dict[str, Any]) -> None:
    """Create what was deleted, with what its owner wrote of its metadata."""
    kept = {key: document["metadata"].get(key) for key in ("name", "labels", "annotations")}
    plane.api("POST", path.rpartition("/")[0], {**document, "metadata": kept})
