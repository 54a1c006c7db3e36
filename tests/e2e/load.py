"""A bounded load of Pod creations on the real API server, by several clients at once."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tools.controlplane.components import API_ADDRESS
from tools.controlplane.plane import ControlPlane
from tools.installation.product import pod
from tools.polling import wait_until

MAX_SECONDS = 300.0


@dataclass
class Load:
    """The result of a load: the time and status of each create, and failed connections.

    ``answers`` holds (start, end, status, message) per request.
    """

    answers: list[tuple[float, float, int, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def failed(self, *, but: tuple[int, ...] = (201,)) -> list[tuple[float, float, int, str]]:
        """Return the answers with a status other than these."""
        return [answer for answer in self.answers if answer[2] not in but]


@contextmanager
def creating(
    plane: ControlPlane, namespace: str, document: dict[str, Any], *, clients: int = 4, pause: float = 0.01
) -> Iterator[Load]:
    """Create this Pod repeatedly in dry run while the body runs, for at most five minutes.

    Dry-run goes through admission like any create and stores nothing.
    """
    load, stop = Load(), threading.Event()
    end = time.monotonic() + MAX_SECONDS
    threads = [
        threading.Thread(
            target=_create, args=(plane, namespace, document, load, stop, end, pause), daemon=True
        )
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


@contextmanager
def no_create_fails(plane: ControlPlane, namespace: str, *, pause: float = 0.01) -> Iterator[Load]:
    """Create approved Pods before, while and after the body runs; none may fail."""
    with creating(plane, namespace, pod("steady"), pause=pause) as load:
        wait_until(lambda: len(load.answers) > 50, seconds=30, what="creates before")
        yield load
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 50, seconds=30, what="creates afterwards")
    assert load.broken == []
    assert not (failed := load.failed()), failed[:3]


def _create(
    plane: ControlPlane,
    namespace: str,
    document: dict[str, Any],
    load: Load,
    stop: threading.Event,
    end: float,
    pause: float,
) -> None:
    body = json.dumps({**document, "metadata": {"generateName": "load-"}})
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    connection = http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=30)
    while not stop.is_set() and time.monotonic() < end:
        start = time.monotonic()
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as problem:
            load.broken.append(repr(problem))
            connection.close()
            continue
        message = "" if response.status == 201 else json.loads(text).get("message", "")
        warnings = response.headers.get_all("Warning") or []
        load.answers.append((start, time.monotonic(), response.status, message or "; ".join(warnings)))
        stop.wait(pause)
    connection.close()
