"""A fake cluster with any number of Pods, and the memory of a command that reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from support.fakecluster import FakeCluster

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
import json
import sys
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from gatekeeper_py.cli.main import run
*commands, last = json.loads(sys.argv[1])
with redirect_stdout(StringIO()):
    run(commands[0])  # imports the modules, which take more than the Pods
for arguments in (*commands, last):
    tracemalloc.start()
    with redirect_stdout(StringIO()) as out:
        code = run(arguments)
    print(tracemalloc.get_traced_memory()[1] // 1024, file=sys.stderr)
    tracemalloc.stop()
print(out.getvalue())
sys.exit(code)
"""
"""Runs commands, and prints the peak of what each allocated, in KiB, and the output of the last."""


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


def measured(directory: Path, *arguments: object, driver: str = RESIDENT) -> tuple[int, list[int], str]:
    """Run a driver in a process. Return its exit code, the memory in KiB that it printed, and its output."""
    command = [sys.executable, "-c", driver, *map(str, arguments)]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=False, text=True)
    memory = [int(line) for line in done.stderr.splitlines() if line.isdecimal()]
    assert memory, done.stderr
    return done.returncode, memory, done.stdout
