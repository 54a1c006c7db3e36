"""A diff over many Pods keeps only the changes in memory, for every source of Pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from builders import policy_text, review
from manypods import ManyPods, a_pod, measured

FEW: Final = 500

MORE_KIB_PER_POD: Final = 1.5
"""Maximum growth. The diff keeps one entry for each Pod with a changed decision, and reads a saved audit
completely."""

Prepare = Callable[[Path, int], list[Any]]


def saved_audit(directory: Path, count: int) -> list[Any]:
    with ManyPods(count).serving() as cluster:
        options = ("--policy", "old.yaml", "--all", "--format", "json")
        kubeconfig = cluster.kubeconfig(directory)
        _, _, out = measured(directory, "audit", *options, "--kubeconfig", kubeconfig)
    (directory / "audit.json").write_text(out)
    return ["--audit", "audit.json"]


def reviews(directory: Path, count: int) -> list[Any]:
    with (directory / "reviews").open("w") as file:
        for number in range(count):
            obj = {"apiVersion": "v1", "kind": "Pod", **a_pod(number)}
            file.write(json.dumps(review(obj)) + "\n")
    return ["--reviews", "reviews"]


def audit_log(directory: Path, count: int) -> list[Any]:
    with (directory / "log").open("w") as file:
        for number in range(count):
            obj = {"apiVersion": "v1", "kind": "Pod", **a_pod(number)}
            event = {
                "kind": "Event",
                "apiVersion": "audit.k8s.io/v1",
                "stage": "ResponseComplete",
                "verb": "create",
                "objectRef": {"resource": "pods", "namespace": "shop", "name": obj["metadata"]["name"]},
                "requestObject": obj,
            }
            file.write(json.dumps(event) + "\n")
    return ["--audit-log", "log"]


def images(directory: Path, count: int) -> list[Any]:
    text = "".join(f"shop\tnginx:1.{number % 100}\n" for number in range(count))
    (directory / "images").write_text(text)
    return ["--images", "images"]


def compared(directory: Path, prepare: Prepare | None, count: int) -> tuple[int, dict[str, Any]]:
    """Return the peak resident memory in KiB, and the output."""
    (directory / "old.yaml").write_text(policy_text(allow="[registry.corp.io, docker.io/**]"))
    (directory / "new.yaml").write_text(policy_text())
    arguments = ["diff", "old.yaml", "new.yaml", "--format", "json"]
    if prepare is not None:
        code, memory, out = measured(directory, *arguments, *prepare(directory, count))
    else:
        with ManyPods(count).serving() as cluster:
            kubeconfig = cluster.kubeconfig(directory)
            code, memory, out = measured(directory, *arguments, "--kubeconfig", kubeconfig)
    assert code == 1
    return memory, json.loads(out)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("prepare", "pods"),
    [
        pytest.param(None, 5_000, id="cluster"),
        pytest.param(None, 50_000, id="cluster-50000", marks=pytest.mark.long),
        pytest.param(saved_audit, 50_000, id="saved-audit-50000", marks=pytest.mark.long),
        pytest.param(reviews, 50_000, id="reviews-50000", marks=pytest.mark.long),
        pytest.param(audit_log, 50_000, id="audit-log-50000", marks=pytest.mark.long),
        pytest.param(images, 50_000, id="images-50000", marks=pytest.mark.long),
    ],
)
def test_memory_does_not_grow_with_the_pods(tmp_path: Path, prepare: Prepare | None, pods: int) -> None:
    few, _ = compared(tmp_path, prepare, FEW)
    many, answer = compared(tmp_path, prepare, pods)
    assert sum(image["count"] for image in answer["images"]) == pods
    assert answer["counts"]["rejected"] == 100
    print(f"{few} KiB for {FEW}, {many} KiB for {pods}")  # noqa: T201 - shown by pytest -rP
    assert many - few < pods * MORE_KIB_PER_POD
