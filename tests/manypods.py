"""A fake cluster with any number of Pods, and the memory of a command that reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fakecluster import FakeCluster

RESIDENT: Final = """
import sys
from pathlib import Path
from gatekeeper_py.cli.main import run
code = run(sys.argv[1:])
# Unlike getrusage, this does not count the memory of the parent before exec.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""
"""Runs a command, and prints the peak of its resident memory in KiB, which varies by megabytes."""

ALLOCATED: Final = """
import sys
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from gatekeeper_py.cli.main import run
with redirect_stdout(StringIO()):
    run(sys.argv[1:])  # imports the modules, which take more than the Pods
tracemalloc.start()
code = run(sys.argv[1:])
print(tracemalloc.get_traced_memory()[1] // 1024, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command twice, and prints the peak of what the second run allocated, in KiB."""


class ManyPods(FakeCluster):
    """Makes each page of Pods when it is requested."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def _page(self, objects: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        if objects is not self.lists["/api/v1/pods"]:
            return super()._page(objects, query)
        start = int(query.get("continue", "0"))
        end = min(start + int(query["limit"]), self._count)
        metadata = (
            {"continue": str(end), "remainingItemCount": self._count - end} if end < self._count else {}
        )
        return {"kind": "PodList", "metadata": metadata, "items": [a_pod(i) for i in range(start, end)]}


def a_pod(number: int) -> dict[str, Any]:
    """Return a Pod of about 3 KiB of JSON, the size of a Pod with its status."""
    return {
        "metadata": {
            "name": f"web-7d9f8b6c5d-{number:05}",
            "namespace": f"team-{number % 40}",
            "labels": {f"label-{i}": f"value-{number}-{i}" for i in range(30)},
        },
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": f"nginx:1.{number % 100}",
                    "env": [{"name": f"E{i}"} for i in range(40)],
                },
                {"name": "proxy", "image": "registry.corp.io/proxy:1"},
            ]
        },
        "status": {"conditions": [{"type": f"C{i}", "message": f"{number}" * 4} for i in range(10)]},
    }


def measured(directory: Path, *arguments: object, driver: str = RESIDENT) -> tuple[int, int, str]:
    """Run a command in a process with a driver. Return its exit code, its memory in KiB, and its output."""
    command = [sys.executable, "-c", driver, *map(str, arguments)]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=False, text=True)
    *_, memory = done.stderr.splitlines()
    assert memory.isdecimal(), done.stderr
    return done.returncode, int(memory), done.stdout
