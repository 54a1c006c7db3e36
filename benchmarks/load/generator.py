"""The load generator as a process: a plan in, events and a result out."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

from benchmarks.goprogram import compiled
from benchmarks.load.processes import Place

SOURCES: Final = Path(__file__).resolve().parents[1] / "generator"

Plan = dict[str, Any]


def build() -> Path:
    """The program, compiled unless it is there already. Raises ``BuildError``."""
    return compiled("generator", SOURCES)


class GeneratorFailed(RuntimeError):
    """It ended without a result; the message is what it wrote."""


class Generator:
    """A generator at work."""

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
        """The next event, which must be this one. Raises ``GeneratorFailed``."""
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
        """The result; then the generator has ended."""
        found = self.wait("result")
        self.end()
        return found

    def interrupt(self) -> None:
        """End early; the result is still given."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """End it, if it has not."""
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def run(plan: Plan, place: Place) -> dict[str, Any]:
    """A whole run's result. Raises ``GeneratorFailed``."""
    generator = Generator(plan, place)
    generator.wait("measuring")
    generator.wait("measured")
    return generator.result()
