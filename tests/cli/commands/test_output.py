"""The complete output of commands, in every format.

The inputs are files in ``tests/data/commands``, and the output of a case is in ``CASE.txt`` beside them.
After an intended change, ``--update-golden`` writes the outputs again, for review in the diff.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from gatekeeper_py import __version__
from support.builders import pod, workload
from support.commanding import Command, Done
from support.fakecluster import FakeCluster

DATA: Final = Path(__file__).parents[2] / "data" / "commands"

STYLES: Final = ("text", "json", "concise", "github", "sarif")

CASES: Final = {
    **{f"check-{style}": f"check bad.yaml -o {style}" for style in STYLES},
    **{f"check-clean-{style}": f"check clean.yaml -o {style}" for style in ("text", "json", "sarif")},
    "check-configmap": "check configmap.yaml",
    "check-settings": "check settings.yaml",
    "check-fast-path": "check leaves.yaml --fast-path",
    "check-without-fast-path": "check leaves.yaml",
    **{
        f"explain-{style}": f"explain rich.yaml registry.corp.io/web:1 nginx:1.25 quay.io/team/app:v1"
        f" registry.corp.io/dockerhub/library/nginx registry.corp.io/old/app UPPER -n shop --format {style}"
        for style in ("text", "json")
    },
    "explain-owner": "explain rich.yaml quay.io:443/team/app:v1 -n team-a --at 2029-12-31",
    "explain-too-long-to-rewrite": f"explain rich.yaml docker.io/team/{'a' * 240}",
    **{
        f"explain-fast-path-{style}": "explain fast.yaml registry.corp.io/web:1 nginx '\x1b[31m'"
        f" ghcr.io/org/x:1 gcr.io/x@sha256:{'7c' * 32} ghcr.io/org/old/x"
        f" --fast-path -n shop --at 2026-01-01 -o {style}"
        for style in ("text", "json")
    },
    "explain-rule-alone": "explain rules.yaml --rule 0",
    "explain-rule-in-a-namespace": "explain rules.yaml --rule allow[1]",
    "explain-rule-in-a-namespace-json": "explain rules.yaml --rule 1 --format json",
    "explain-rule-dead": "explain rules.yaml --rule 2",
    "explain-rule-dead-json": "explain rules.yaml --rule 2 -o json",
    "explain-rule-expired": "explain rules.yaml --rule 3",
    "explain-rule-before-it-expires": "explain rules.yaml --rule 3 --at 2019-01-01 -o json",
    "explain-rule-deny": "explain rules.yaml --rule deny[0]",
    **{
        f"review-{mode}-{style}": f"review {mode}.yaml 'some objects.yaml' -o {style}"
        for mode, style in (
            *(("enforce", style) for style in ("text", "json", "sarif", "junit")),
            *(("mutate", style) for style in ("text", "json")),
            *(("warn", style) for style in ("sarif", "junit")),
        )
    },
    **{
        f"explain-require-{style}": "explain require.yaml registry.corp.io/web:1 quay.io/tool:1"
        f" quay.io/tool@sha256:{'7c' * 32} -o {style}"
        for style in ("text", "json")
    },
    **{
        f"review-require-{style}": f"review require.yaml pods.yaml -o {style}"
        for style in ("text", "json", "sarif", "junit")
    },
    "review-mutate-stored": "review mutate.yaml 'some objects.yaml' --mutate",
    "review-mutate-stored-json": "review mutate.yaml 'some objects.yaml' --mutate -o json",
    **{
        f"diff-images-{style}": f"diff old.yaml new.yaml --images images.txt -o {style}"
        for style in ("table", "json")
    },
    **{
        f"diff-all-images-{style}": f"diff old.yaml new.yaml --all-images -o {style}"
        for style in ("table", "json")
    },
}
"""The arguments of each case."""

WITH_CLUSTER: Final = {
    **{f"audit-{style}": f"audit --policy new.yaml -o {style}" for style in ("table", "json", "csv")},
    **{f"audit-all-{style}": f"audit --policy new.yaml --all -o {style}" for style in ("table", "jsonl")},
    **{
        f"audit-require-{style}": f"audit --policy require.yaml -n shop -o {style}"
        for style in ("table", "json", "csv")
    },
    "audit-namespace": "audit --policy new.yaml -n kube-system",
    "audit-clean": "audit --policy old.yaml -n shop",
    "audit-clean-json": "audit --policy old.yaml -n shop -o json",
    **{f"diff-{style}": f"diff old.yaml new.yaml -o {style}" for style in ("table", "json")},
}
"""Further cases, which read the objects of ``cluster``."""


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """Return a cluster with a Deployment and its Pods, hostile images, and a Pod in an exempt namespace."""
    cluster = FakeCluster()
    for name, namespace, *images in (
        ("web-1", "shop", "nginx:1", "registry.corp.io/web:1"),
        ("web-2", "shop", "nginx:1"),
        ("tool", "bank", f"quay.io/team/tool@sha256:{'ab' * 32}"),
        ("evil", "bank", '=cmd|"/c calc"!A1', "\x1b[2Ja,b\n\u200bc"),
        ("dns", "kube-system", "nginx:1"),
    ):
        metadata = {"name": name, "namespace": namespace}
        cluster.add("/api/v1/pods", pod(*images, metadata=metadata))
    metadata = {"name": "web", "namespace": "shop"}
    cluster.add("/apis/apps/v1/deployments", {**workload("Deployment", "nginx:1"), "metadata": metadata})
    with cluster.serving():
        yield cluster


NOW: Final = re.compile(rf"{datetime.now(UTC).year}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
"""The time of a report: a time in this year."""


def check_golden(case: str, done: Done, *, update: bool) -> None:
    errors = f"-- stderr\n{done.err}" if done.err else ""
    output = f"exit code {done.code}\n{done.out}{errors}"
    output = output.replace(f'"version": "{__version__}"', '"version": "VERSION"')
    output = NOW.sub("TIME", output).replace(f"gatekeeper-py {__version__}", "gatekeeper-py VERSION")
    assert "Traceback" not in output
    golden = DATA / f"{case}.txt"
    if update:
        golden.write_text(output, "utf-8")
    assert output == golden.read_text("utf-8")


@pytest.mark.parametrize("case", CASES)
def test_the_output_is_as_recorded(
    command: Command, monkeypatch: pytest.MonkeyPatch, case: str, update_golden: bool  # noqa: FBT001
) -> None:  # fmt: skip
    monkeypatch.chdir(DATA)
    check_golden(case, command(*shlex.split(CASES[case])), update=update_golden)


@pytest.mark.parametrize("case", WITH_CLUSTER)
def test_the_output_about_a_cluster_is_as_recorded(
    command: Command,
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    case: str,
    update_golden: bool,  # noqa: FBT001
) -> None:
    monkeypatch.chdir(DATA)
    done = command(*shlex.split(WITH_CLUSTER[case]), "--kubeconfig", cluster.kubeconfig(tmp_path))
    check_golden(case, done, update=update_golden)


def test_no_file_is_an_orphan() -> None:
    """Every output belongs to a case, and every input is the argument of one."""
    cases = CASES | WITH_CLUSTER
    arguments = {argument for each in cases.values() for argument in shlex.split(each)}
    for path in DATA.iterdir():
        assert path.stem in cases or path.name in arguments, path.name
