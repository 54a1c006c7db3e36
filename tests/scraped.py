"""A controller process that cannot reach its API server; its metrics are still complete."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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
class RunningController:
    """Return the address of its health listener, as HOST:PORT."""

    address: str

    def metrics(self) -> bytes:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as response:
            found: bytes = response.read()
            return found


@contextmanager
def start_controller(directory: Path) -> Iterator[RunningController]:
    """Start a controller with every option; it ends with the context."""
    kubeconfig = directory / "unreachable"
    kubeconfig.write_text(json.dumps(UNREACHABLE))
    command = [
        sys.executable,
        "-m",
        "gatekeeper_py",
        "control",
        "--fast-path",
        "--probe-namespace=probe",
        "--health-listen=127.0.0.1:0",
    ]
    with (
        (directory / "controller.log").open("wb") as errors,
        subprocess.Popen(
            [*command, f"--kubeconfig={kubeconfig}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield RunningController(_address(process))
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == "listening":
            return str(entry["address"])
    raise AssertionError(f"the controller ended with {process.wait()}")
