"""An audit does not keep Pods in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from builders import policy_text
from manypods import ManyPods, measured

FEW: Final = 500

MORE_KIB_PER_POD: Final = 1.3
"""Maximum growth. The audit keeps two references for each Pod, which take 0.3 KiB. If it kept the JSON of a
Pod, that would take 3 KiB, and the Python objects over 20 KiB."""


def audited(count: int, style: str, directory: Path) -> tuple[int, str]:
    """Return the peak resident memory in KiB, and the output."""
    (directory / "policy.yaml").write_text(policy_text())
    with ManyPods(count).serving() as cluster:
        kubeconfig = cluster.kubeconfig(directory)
        options = ("--policy", "policy.yaml", "--all", "--format", style, "--kubeconfig", kubeconfig)
        code, memory, out = measured(directory, "audit", *options)
    assert code == 1
    return memory, out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("pods", [5_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_pods(tmp_path: Path, pods: int) -> None:
    few, _ = audited(FEW, "json", tmp_path)
    many, out = audited(pods, "json", tmp_path)
    answer = json.loads(out)
    assert answer["counts"] == {
        "objects": pods, "images": 101, "approved": 1, "rejected": 100,
        "warned": 0, "excepted": 0, "exempt": 0,
    }  # fmt: skip
    places = {
        each["name"] for image in answer["images"] if image["count"] < pods for each in image["objects"]
    }
    assert len(places) == pods
    assert many - few < pods * MORE_KIB_PER_POD
