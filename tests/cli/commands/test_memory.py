"""Commands do not keep Pods in memory, whatever they read them from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from support.builders import policy_text, review
from support.manypods import ALLOCATED, ManyPods, a_pod, measured

FEW: Final = 500

MORE_KIB_PER_POD: Final = {"audit": 1.3, "diff": 1.5}
"""Maximum growth. An audit keeps two references for each Pod, which take 0.3 KiB. A diff keeps one entry for
each Pod with a changed decision, and reads a saved audit completely. The JSON of a Pod would take 3 KiB, and
its Python objects over 20 KiB."""

AUDIT: Final = ("audit", "--policy", "old.yaml", "--all", "--format", "json")
DIFF: Final = ("diff", "old.yaml", "new.yaml", "--format", "json")

Arguments = tuple[Any, ...]
Prepare = Callable[[Path, int], AbstractContextManager[Arguments]]
"""Provides a number of Pods in a directory, and returns the arguments of the command that reads them."""


def of_cluster(*command: str) -> Prepare:
    @contextmanager
    def prepare(directory: Path, count: int) -> Iterator[Arguments]:
        with ManyPods(count).serving() as cluster:
            yield (*command, "--kubeconfig", cluster.kubeconfig(directory))

    return prepare


@contextmanager
def saved_audit(directory: Path, count: int) -> Iterator[Arguments]:
    with of_cluster(*AUDIT)(directory, count) as arguments:
        _, _, out = measured(directory, *arguments)
    (directory / "audit.json").write_text(out)
    yield (*DIFF, "--audit", "audit.json")


def lines(option: str, line: Callable[[int], str]) -> Prepare:
    @contextmanager
    def prepare(directory: Path, count: int) -> Iterator[Arguments]:
        with (directory / "lines").open("w") as file:
            file.writelines(f"{line(number)}\n" for number in range(count))
        yield (*DIFF, option, "lines")

    return prepare


def reviewed(number: int) -> str:
    return json.dumps(review({"apiVersion": "v1", "kind": "Pod", **a_pod(number)}))


def listed(number: int) -> str:
    return f"shop\tnginx:1.{number % 100}"


def write_policies(directory: Path) -> None:
    (directory / "old.yaml").write_text(policy_text(allow="[registry.corp.io, docker.io/**]"))
    (directory / "new.yaml").write_text(policy_text())


AUDIT_BY_NEW: Final = of_cluster(*(each.replace("old", "new") for each in AUDIT))


@pytest.mark.parametrize(
    "prepare", [pytest.param(AUDIT_BY_NEW, id="audit"), pytest.param(of_cluster(*DIFF), id="diff")]
)
def test_allocations_do_not_grow_with_the_pods(tmp_path: Path, prepare: Prepare) -> None:
    write_policies(tmp_path)
    folders = tmp_path / "few", tmp_path / "many"
    for folder in folders:
        folder.mkdir()
    with prepare(folders[0], FEW) as few, prepare(folders[1], 1_500) as many:
        commands = [[str(argument) for argument in arguments] for arguments in (few, many)]
        code, memory, out = measured(tmp_path, json.dumps(commands), driver=ALLOCATED)
    assert code == 1
    check_growth(few[0], memory, 1_500, json.loads(out))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(AUDIT_BY_NEW, id="audit"),
        pytest.param(of_cluster(*DIFF), id="diff"),
        pytest.param(saved_audit, id="saved-audit"),
        pytest.param(lines("--reviews", reviewed), id="reviews"),
        pytest.param(lines("--images", listed), id="images"),
    ],
)
def test_resident_memory_does_not_grow_with_50000_pods(tmp_path: Path, prepare: Prepare) -> None:
    write_policies(tmp_path)
    memory: list[int] = []
    for pods in (FEW, 50_000):
        with prepare(tmp_path, pods) as arguments:
            code, peak, out = measured(tmp_path, *arguments)
        assert code == 1
        memory += peak
    check_growth(arguments[0], memory, 50_000, json.loads(out))


def check_growth(command: str, memory: list[int], pods: int, answer: dict[str, Any]) -> None:
    few, many = memory
    assert sum(each["count"] for each in answer["images"] if each["image"].startswith("nginx:")) == pods
    assert answer["counts"]["rejected"] == 100
    print(f"{few} KiB for {FEW}, {many} KiB for {pods}")  # noqa: T201 - shown by pytest -rP
    assert many - few < (pods - FEW) * MORE_KIB_PER_POD[command]
