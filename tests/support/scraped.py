"""A controller and a periodic audit that cannot reach their API server; their metrics are still complete."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

UNREACHABLE: Final = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@dataclass(frozen=True, slots=True)
class Running:
    """A process; ``address`` is that of its health port, as HOST:PORT."""

    address: str

    def metrics(self) -> bytes:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as response:
            found: bytes = response.read()
            return found


def start_controller(directory: Path) -> AbstractContextManager[Running]:
    """Start a controller with every option; it ends with the context."""
    return _started(directory, "control", "--fast-path", "--probe-namespace=probe")


def start_audit(directory: Path) -> AbstractContextManager[Running]:
    """Start a periodic audit; it ends with the context."""
    return _started(directory, "audit", "--configmap=gatekeeper-py/gatekeeper-py-policy", "--every=10s")


@contextmanager
def _started(directory: Path, command: str, *options: str) -> Iterator[Running]:
    kubeconfig = directory / "unreachable"
    kubeconfig.write_text(json.dumps(UNREACHABLE))
    started = [sys.executable, "-m", "gatekeeper_py", command, *options]
    with (
        (directory / f"{command}.log").open("wb") as errors,
        subprocess.Popen(
            [*started, "--health-listen=127.0.0.1:0", f"--kubeconfig={kubeconfig}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield Running(_address(process))
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == "listening":
            return str(entry["address"])
    raise AssertionError(f"the process ended with {process.wait()}")
