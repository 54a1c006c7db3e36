"""Measure how long a removed image is still admitted after the ConfigMap changed.

Installs the overlay ``fast-path`` unchanged on a control plane of its own. Repeatedly removes a registry from
the policy, while one client creates Pods with an image of that registry in dry run. Until the controller
changes the match condition, the API server admits them without calling the webhook. The output also has the
time that the controller's own probe took.

Prints JSON. Everything runs on one machine, so the API server's own time is in the figures.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time

from tools.controlplane.build import cached
from tools.controlplane.components import API_ADDRESS
from tools.controlplane.plane import ControlPlane
from tools.installation.fastpath import Site
from tools.installation.product import APPROVED, installed, pod

TURNS = 30
IN_A_ROW = 20
"""This many refusals in a row show that no further Pod is admitted."""

HEAD = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow:\n  - registry.k8s.io\n"
WITHOUT = HEAD
WITH = HEAD + f"  - {APPROVED.partition('/')[0]}\n"


def removal(site: Site, connection: http.client.HTTPSConnection, body: str) -> float:
    """Return the seconds from sending the change until the answer for the last Pod that was admitted."""
    path = "/api/v1/namespaces/default/pods?dryRun=All"
    refused, start = 0, time.monotonic()
    site.patch_policy(WITHOUT)
    last = start
    while refused < IN_A_ROW:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status == http.client.FORBIDDEN:
            refused += 1
        elif response.status == http.client.CREATED:
            refused, last = 0, time.monotonic()
        else:
            raise RuntimeError(f"a create was answered with {response.status}")
    return last - start


def main() -> None:
    """Measure and print."""
    taken = []
    with ControlPlane(cached()) as plane, installed(plane, "fast-path") as product:
        site = Site(product)
        connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)
        body = json.dumps({**pod("probe", APPROVED), "metadata": {"generateName": "probe-"}})
        for _ in range(TURNS):
            site.put_policy(WITH)
            taken.append(removal(site, connection, body))
            site.wait_in_step()
        connection.close()
        histogram = {
            part: site.metric(f'gatekeeper_py_fastpath_sync_seconds_{part}{{change="tightened"}}')
            for part in ("sum", "count")
        }
    taken.sort()
    figures = {
        "removed_image_refused_seconds": {
            "median": round(statistics.median(taken), 3),
            "p99": round(taken[int(len(taken) * 0.99)], 3),
            "worst": round(taken[-1], 3),
            "count": len(taken),
        },
        "controller_says_seconds": {
            "mean": round(histogram["sum"] / histogram["count"], 3),
            "count": int(histogram["count"]),
        },
    }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
