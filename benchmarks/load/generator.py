"""The load generator as a process: it reads a plan and writes events and a result."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.load.bodyfiles import BodyFiles
from benchmarks.load.cases import Load
from benchmarks.load.processes import Place
from benchmarks.load.server import Server
from tools import gobuild

SOURCES: Final = Path(__file__).resolve().parents[1] / "generator"

Plan = dict[str, Any]


def build() -> Path:
    """Return the path of the generator, and compile it if necessary. Raises ``BuildError``."""
    return gobuild.program("generator", SOURCES)


def plan(
    load: Load,
    server: Server,
    bodies: BodyFiles,
    *,
    seconds: float,
    warmup: float,
    named: Callable[[str], str] = str,
) -> Plan:
    """Return the plan of a load on a server. The caller must have replaced a ``share`` by a rate.

    ``named`` replaces placeholders in the format of the images.
    """
    images = load.images
    return {
        "targets": [f"127.0.0.1:{server.port}"],
        "server_name": "localhost",
        "ca_file": "" if server.plain else str(server.certificate.ca),
        "path": f"{load.path or server.contestant.path}?timeout=10s",
        "mode": "open" if load.rate > 0 else "closed",
        "client": "own",
        "rate": load.rate,
        "connections": load.connections,
        "warmup_seconds": warmup,
        "seconds": seconds,
        "max_idle": load.max_idle,
        "max_dials": load.max_dials,
        "max_in_flight": load.max_in_flight,
        "timeout": load.timeout,
        "fresh_connections": load.fresh_connections,
        "check_revisions": load.check_revisions,
        "bodies": [
            {"file": str(bodies.path(part.body)), "weight": part.weight, "expect": part.verdict.expect()}
            for part in load.parts
        ],
        "images": None
        if images is None
        else {
            "format": named(images.format),
            "count": images.count,
            "zipf": images.zipf,
            "fresh_share": images.fresh_share,
        },
    }


class GeneratorFailed(RuntimeError):
    """The generator ended without a result; the message is its output."""


class Generator:
    """A running generator."""

    def __init__(self, plan: Plan, place: Place) -> None:
        self._process = subprocess.Popen(
            place.command([str(build())]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GOMAXPROCS": "1"},
            text=True,
        )
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(plan))
        self._process.stdin.close()
        self._longest = plan["warmup_seconds"] + plan["seconds"] + 2 * plan.get("timeout", 10) + 30

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def wait(self, event: str) -> dict[str, Any]:
        """Wait for the next event, which must be this one. Raises ``GeneratorFailed``."""
        try:
            found = self._events.get(timeout=self._longest)
        except queue.Empty:
            found = {"event": f"nothing in {self._longest:.0f} s"}
        if found is None or found["event"] != event:
            self.end()
            assert self._process.stderr is not None
            raise GeneratorFailed(f"no {event} but {found}: {self._process.stderr.read()[-2000:]}")
        return found

    def result(self) -> dict[str, Any]:
        """Wait for the end of the generator, and return its result."""
        found = self.wait("result")
        self.end()
        return found

    def interrupt(self) -> None:
        """End the run early. The generator still writes its result."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """End the process if it still runs."""
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def run(plan: Plan, place: Place) -> dict[str, Any]:
    """Return the result of a whole run. Raises ``GeneratorFailed``."""
    generator = Generator(plan, place)
    generator.wait("measuring")
    generator.wait("measured")
    return generator.result()
