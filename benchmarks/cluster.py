"""Measure mode changes, starts and memory on the real control plane.

``make bench-cluster`` installs the overlay ``enforce`` unchanged on a control plane of its own and
measures, through the API server:

* toggle: from sending the change of the ConfigMap's ``mode`` until a Pod's verdict has changed, for one
  client that sends requests in a loop;
* start: from starting a replica's process until its ``/readyz`` answers 200;
* memory of a replica and of the controller, after the toggles.

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
from tools.installation.product import NAMESPACE, POLICY, UNLISTED, Installed, installed, pod
from tools.polling import wait_until

TOGGLES = 200
STARTS = 5
VERDICTS = {"warn": 201, "enforce": 403}


def verdict(connection: http.client.HTTPSConnection, body: str) -> int:
    """Return the status of one dry-run create."""
    path = "/api/v1/namespaces/default/pods?dryRun=All"
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response.status


def toggles(product: Installed) -> list[float]:
    """Return the seconds from sending each change until the verdict changed."""
    plane = product.plane
    connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)
    body = json.dumps({**pod("probe", UNLISTED), "metadata": {"generateName": "probe-"}})
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{POLICY}"
    taken = []
    for turn in range(TOGGLES):
        mode = "warn" if turn % 2 == 0 else "enforce"
        start = time.monotonic()
        plane.api("PATCH", path, {"data": {"mode": mode}})
        # Connections stick to replicas, so wait for every replica: thirty verdicts in a row.
        right, last_wrong = 0, start
        while right < 30:
            if verdict(connection, body) == VERDICTS[mode]:
                right += 1
                if right == 1:
                    changed = time.monotonic()
            else:
                right = 0
                last_wrong = time.monotonic()
        taken.append(max(changed, last_wrong) - start)
    connection.close()
    return taken


def starts(product: Installed) -> list[float]:
    """Return the seconds from each start of a process until it is ready."""
    taken = []
    for _ in range(STARTS):
        crashed = product.servers()[0]
        name = crashed.name.removeprefix("pod-")
        product.kubelet.crash(crashed)
        again = wait_until(
            lambda name=name, crashed=crashed: (  # type: ignore[misc]
                product.kubelet.running[name]
                if product.kubelet.running.get(name, crashed) is not crashed
                else None
            ),
            seconds=30,
            what="the process started again",
        )
        start = time.monotonic()
        wait_until(lambda again=again: ready(again.address), seconds=30, what="ready")  # type: ignore[misc]
        taken.append(time.monotonic() - start)
    return taken


def ready(address: str) -> bool:
    """Return whether a replica reports that it is ready."""
    connection = http.client.HTTPConnection(address, 8080, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    """Measure and print."""
    with ControlPlane(cached()) as plane, installed(plane, "enforce") as product:
        flips = sorted(toggles(product))
        started = starts(product)
        mebibyte = 1024 * 1024
        figures = {
            "toggle_seconds": {
                "median": round(statistics.median(flips), 3),
                "p99": round(flips[int(len(flips) * 0.99)], 3),
                "worst": round(flips[-1], 3),
                "count": len(flips),
            },
            "start_to_ready_seconds": {
                "median": round(statistics.median(started), 2),
                "worst": round(max(started), 2),
                "count": len(started),
            },
            "replica_rss_mib": [round(plane.rss_bytes(each.name) / mebibyte) for each in product.servers()],
            "controller_rss_mib": [
                round(plane.rss_bytes(each.name) / mebibyte) for each in product.controllers()
            ],
        }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
