"""An audit of 50,000 Pods keeps none of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from builders import policy_text
from fakecluster import FakeCluster

MANY: Final = 50_000
FEW: Final = 500

MORE_MEMORY: Final = 64 * 1024
"""KiB. What is kept of 100,000 places is some 15 MiB; 50,000 Pods of 3 KiB of JSON are 150 MiB,
and as Python's objects over 1 GiB."""

DRIVER: Final = """
import sys
from pathlib import Path
from gatekeeper_py.cli import run
code = run(sys.argv[1:])
# Unlike getrusage, this does not count what the parent had before exec.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""


class ManyPods(FakeCluster):
    """Makes each page of Pods when it is asked for."""

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
    """About 3 KiB of JSON, as Pods have once their status is there."""
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


def audited(count: int, style: str, directory: Path) -> tuple[int, str]:
    """Highest resident memory in KiB, and what was written."""
    (directory / "policy.yaml").write_text(policy_text())
    with ManyPods(count).serving() as cluster:
        kubeconfig = cluster.kubeconfig(directory)
        command = [sys.executable, "-c", DRIVER, "audit", "--policy", "policy.yaml", "--all"]
        done = subprocess.run(
            [*command, "--format", style, "--kubeconfig", str(kubeconfig)],
            cwd=directory,
            capture_output=True,
            check=False,
            text=True,
        )
    assert done.returncode == 1, done.stderr
    return int(done.stderr), done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_pods(tmp_path: Path) -> None:
    few, _ = audited(FEW, "json", tmp_path)
    many, out = audited(MANY, "json", tmp_path)
    answer = json.loads(out)
    assert answer["counts"] == {"objects": MANY, "images": 101, "approved": 1, "rejected": 100}
    places = {
        each["name"] for image in answer["images"] if image["count"] < MANY for each in image["objects"]
    }
    assert len(places) == MANY
    assert many - few < MORE_MEMORY
