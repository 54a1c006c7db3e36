"""An audit of many Pods keeps none of them in memory."""

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

FEW: Final = 500

MORE_KIB_PER_POD: Final = 1.3
"""The audit keeps two places for each Pod, which take 0.3 KiB. The JSON of a Pod has 3 KiB, and its
Python objects take over 20 KiB."""

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
@pytest.mark.parametrize("pods", [10_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_pods(tmp_path: Path, pods: int) -> None:
    few, _ = audited(FEW, "json", tmp_path)
    many, out = audited(pods, "json", tmp_path)
    answer = json.loads(out)
    assert answer["counts"] == {"objects": pods, "images": 101, "approved": 1, "rejected": 100, "exempt": 0}
    places = {
        each["name"] for image in answer["images"] if image["count"] < pods for each in image["objects"]
    }
    assert len(places) == pods
    assert many - few < pods * MORE_KIB_PER_POD
