"""The second load: Deployments on fake nodes scaled up until every Pod runs, and down to none."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.churn.creating import Spoiled
from benchmarks.churn.pods import Sidecar, deployment
from benchmarks.churn.site import CHURN
from tools.controlplane.components import API_ADDRESS
from tools.controlplane.plane import ControlPlane

DEPLOYMENTS = 4
"""Every second one is pre-approved. The ReplicaSet controller works on five at once."""

_DEADLINE_SECONDS = 60.0
_INTERVAL_SECONDS = 0.05
_COLLECTION = f"/apis/apps/v1/namespaces/{CHURN}/deployments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Seconds until all Pods ran and until all were deleted; CPU in seconds per process group over both."""

    pods: int
    up_seconds: float
    down_seconds: float
    cpu: Mapping[str, float]

    def cpu_ms(self, group: str) -> float:
        """Return the milliseconds of a group's CPU per Pod that was created and deleted."""
        return self.cpu[group] / self.pods * 1000


def prepare(plane: ControlPlane) -> None:
    """Create the Deployments with zero replicas."""
    for index in range(DEPLOYMENTS):
        sidecar: Sidecar = "with-port" if index % 2 else "pre-approved"
        plane.api("POST", _COLLECTION, deployment(f"web-{index}", index, sidecar))


def scale(plane: ControlPlane, *, replicas: int, cpu: Callable[[], Mapping[str, float]]) -> Scaling:
    """Scale each Deployment to ``replicas`` and back.

    Raises Spoiled when a step takes longer than 60 s or when the API server refuses a Pod.
    """
    watching = _Watching(plane)
    refused = watching.refusals()
    before, start = cpu(), time.monotonic()
    for index in range(DEPLOYMENTS):
        watching.patch(f"{_COLLECTION}/web-{index}", {"spec": {"replicas": replicas}})
    watching.until(lambda status: status.get("readyReplicas", 0) == replicas, f"{replicas} Pods ready")
    up = time.monotonic()
    if watching.refusals() != refused:
        raise Spoiled("the API server refused Pods while Deployments were scaled up")
    for index in range(DEPLOYMENTS):
        watching.patch(f"{_COLLECTION}/web-{index}", {"spec": {"replicas": 0}})
    watching.until(lambda status: not status.get("replicas"), "Pods gone")
    watching.until_no_pods()
    end = time.monotonic()
    after = cpu()
    watching.close()
    return Scaling(
        pods=replicas * DEPLOYMENTS,
        up_seconds=up - start,
        down_seconds=end - up,
        cpu={group: after[group] - before[group] for group in after},
    )


class _Watching:
    """Sends the administrator's requests over one connection; a new one would cost more than a request."""

    def __init__(self, plane: ControlPlane) -> None:
        self._connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)

    def patch(self, path: str, change: Mapping[str, Any]) -> None:
        self._ask("PATCH", path, change)

    def until(self, done: Callable[[Mapping[str, Any]], bool], what: str) -> None:
        self._wait(
            lambda: all(done(each.get("status", {})) for each in self._ask("GET", _COLLECTION)["items"]),
            what,
        )

    def until_no_pods(self) -> None:
        path = f"/api/v1/namespaces/{CHURN}/pods?limit=1"
        self._wait(lambda: not self._ask("GET", path)["items"], "Pods gone")

    def refusals(self) -> int:
        """Return how many Pods of the ReplicaSet controller the API server has refused so far."""
        path = f"/api/v1/namespaces/{CHURN}/events?fieldSelector=reason%3DFailedCreate"
        return sum(event.get("count") or 1 for event in self._ask("GET", path)["items"])

    def close(self) -> None:
        self._connection.close()

    def _wait(self, check: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not check():
            if time.monotonic() > deadline:
                raise Spoiled(f"not within {_DEADLINE_SECONDS:g} s: {what}")
            time.sleep(_INTERVAL_SECONDS)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        kind = {"Content-Type": "application/merge-patch+json"} if body is not None else {}
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, kind)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise Spoiled(f"{method} {path}: {response.status} {answer[:400].decode(errors='replace')}")
        return json.loads(answer)
