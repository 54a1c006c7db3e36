"""The second load: Deployments on fake nodes scaled up until every Pod runs, and down to none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.cluster.comparison import Turn
from benchmarks.cluster.pods import deployment
from benchmarks.cluster.site import SPACE, Administrator, Spoiled
from tools.controlplane.plane import ControlPlane

DEPLOYMENTS: Final = 4
"""The ReplicaSet controller handles five at the same time."""

REPLICAS: Final = 40

_DEADLINE_SECONDS: Final = 60.0
_INTERVAL_SECONDS: Final = 0.05
_COLLECTION: Final = f"/apis/apps/v1/namespaces/{SPACE}/deployments"


def prepare(plane: ControlPlane) -> None:
    """Create the Deployments with zero replicas."""
    for index in range(DEPLOYMENTS):
        plane.api("POST", _COLLECTION, deployment(f"web-{index}", index))


def scale(plane: ControlPlane, cpu: Callable[[], Mapping[str, float]]) -> Turn:
    """Scale each Deployment up and back to zero; return the Pods per second until all ran.

    The CPU time includes scaling up and down. Raises Spoiled when a step takes longer than 60 s or when the
    API server refuses a Pod.
    """
    administrator = Administrator(plane)
    try:
        refused = _refusals(administrator)
        before, start = cpu(), time.monotonic()
        _set_replicas(administrator, REPLICAS)
        _wait(administrator, lambda status: status.get("readyReplicas", 0) == REPLICAS, "all Pods ready")
        seconds = time.monotonic() - start
        if _refusals(administrator) != refused:
            raise Spoiled("the API server refused Pods while Deployments were scaled up")
        _set_replicas(administrator, 0)
        _wait(administrator, lambda status: not status.get("replicas"), "no replicas")
        pods = f"/api/v1/namespaces/{SPACE}/pods?limit=1"
        _until(lambda: not administrator.ask("GET", pods)["items"], "Pods gone")
        return Turn.of(REPLICAS * DEPLOYMENTS, seconds, before, cpu(), cpu_seconds=time.monotonic() - start)
    finally:
        administrator.close()


def _set_replicas(administrator: Administrator, replicas: int) -> None:
    for index in range(DEPLOYMENTS):
        administrator.ask("PATCH", f"{_COLLECTION}/web-{index}", {"spec": {"replicas": replicas}})


def _refusals(administrator: Administrator) -> int:
    """Return how many Pods of the ReplicaSet controller the API server has refused so far."""
    path = f"/api/v1/namespaces/{SPACE}/events?fieldSelector=reason%3DFailedCreate"
    return sum(event.get("count") or 1 for event in administrator.ask("GET", path)["items"])


def _wait(administrator: Administrator, done: Callable[[Mapping[str, Any]], bool], what: str) -> None:
    _until(
        lambda: all(done(each.get("status", {})) for each in administrator.ask("GET", _COLLECTION)["items"]),
        what,
    )


def _until(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not check():
        if time.monotonic() > deadline:
            raise Spoiled(f"not within {_DEADLINE_SECONDS:g} s: {what}")
        time.sleep(_INTERVAL_SECONDS)
