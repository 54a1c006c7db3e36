"""Measure how soon changes have an effect on a real control plane, and memory.

* mode: from sending the change of the ConfigMap's ``mode`` until a Pod's verdict has changed, for one client
  that sends requests in a loop;
* removal: from sending a policy without a registry until an API server with the fast path admits no further
  Pod with an image of this registry. Until the controller changes the match condition, it admits them without
  calling the webhook;
* memory of a replica and of the controller, after all of that.

Everything runs on one machine, so the API server's own time is in the figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.cluster.site import Administrator, Site
from tools.installation.product import APPROVED, CONFIGMAP, UNLISTED, pod

VERDICTS: Final = {"warn": 201, "enforce": 403}

IN_A_ROW: Final = 30
"""This many answers in a row show that every replica has changed: connections stick to replicas."""

WITHOUT: Final = (
    "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow:\n  - registry.k8s.io\n"
)
WITH: Final = WITHOUT + f"  - {APPROVED.partition('/')[0]}\n"


def delays(place: Site, *, turns: int) -> dict[str, Any]:
    """Return the figures of ``turns`` changes of each kind, on an installation with the fast path."""
    administrator = Administrator(place.plane)
    try:
        modes = [_toggle(place, administrator, ("warn", "enforce")[turn % 2]) for turn in range(turns)]
        place.set_mode("enforce")
        removals = [_removal(place, administrator) for _ in range(turns)]
    finally:
        administrator.close()
    mebibyte = 1024 * 1024
    return {
        "mode_seconds": _summary(modes),
        "removal_seconds": _summary(removals),
        "memory_mib": {
            name: [round(place.plane.rss_bytes(each.name) / mebibyte) for each in pods]
            for name, pods in (
                ("replicas", place.product.servers()),
                ("controller", place.product.controllers()),
            )
        },
    }


def _toggle(place: Site, administrator: Administrator, mode: str) -> float:
    start = time.monotonic()
    place.set_mode(mode)
    return _changed(administrator, UNLISTED, VERDICTS[mode]) - start


def _removal(place: Site, administrator: Administrator) -> float:
    place.product.set_policy(WITH)
    place.product.wait_in_step()
    start = time.monotonic()
    place.plane.api("PATCH", CONFIGMAP, {"data": {"policy.yaml": WITHOUT}})
    taken = _changed(administrator, APPROVED, 403) - start
    place.product.wait_in_step()
    return taken


def _changed(administrator: Administrator, image: str, status: int) -> float:
    """Create Pods until ``IN_A_ROW`` answers have this status; return the time of the first of these."""
    body = {**pod("probe", image), "metadata": {"generateName": "probe-"}}
    right = 0
    while right < IN_A_ROW:
        found = administrator.create(body)
        if found not in VERDICTS.values():
            raise RuntimeError(f"a create was answered with {found}")
        right = right + 1 if found == status else 0
        if right == 1:
            first = time.monotonic()
    return first


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 3),
        "p99": round(ordered[int(len(ordered) * 0.99)], 3),
        "worst": round(ordered[-1], 3),
        "count": len(ordered),
    }
