"""``diff``: the effect of a policy change on running images and on all possible images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.core.compare import difference
from support.builders import (
    HUB_TO_CORP,
    named,
    pod,
    policy_text,
    workload,
)
from support.commanding import Command, Done, Write
from support.fakecluster import FakeCluster

Diff = Callable[..., Done]
Compared = Callable[..., dict[str, Any]]

PODS = "/api/v1/pods"
DEPLOYMENTS = "/apis/apps/v1/deployments"
OLD = policy_text(allow="[registry.corp.io, docker.io/library/**]")
NEW = policy_text(allow="[registry.corp.io, quay.io/team/**]")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    cluster.add(PODS, named(pod("nginx:1", "registry.corp.io/web"), "web-1"), named(pod("nginx:1"), "web-2"))
    cluster.add(PODS, named(pod("quay.io/team/tool:2"), "tool", "bank"))
    cluster.add(PODS, named(pod("nginx:1"), "dns", "kube-system"))
    cluster.add(DEPLOYMENTS, named(workload("Deployment", "nginx:1"), "web"))
    cluster.add("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"tier": "platform"}}})
    with cluster.serving():
        yield cluster


@pytest.fixture
def diff(command: Command, write: Write, cluster: FakeCluster, tmp_path: Path) -> Diff:
    """Return a function that compares two policies, given as text; ``old`` is ``None`` for a live one."""

    def diff(*arguments: object, old: str | None = OLD, new: str = NEW, **options: Any) -> Done:
        policies = [] if old is None else [write(old, "old.yaml")]
        policies.append(write(new, "new.yaml"))
        return command("diff", *policies, "--kubeconfig", cluster.kubeconfig(tmp_path), *arguments, **options)

    return diff


@pytest.fixture
def compared(diff: Diff) -> Compared:
    """Return a function that returns the answer in JSON, after a check of the exit code."""

    def compared(*arguments: object, code: int = 1, **options: Any) -> dict[str, Any]:
        done = diff(*arguments, "--format", "json", **options)
        assert (done.code, done.err) == (code, "")
        found: dict[str, Any] = json.loads(done.out)
        assert done.out == json.dumps(found, indent=2) + "\n"
        return found

    return compared


@pytest.fixture
def saved(command: Command, write: Write, cluster: FakeCluster, tmp_path: Path) -> Write:
    """Return a function that saves an audit of the cluster."""

    def saved(*arguments: str) -> Path:
        kubeconfig = cluster.kubeconfig(tmp_path)
        audit = command("audit", "--policy", write(OLD), "--kubeconfig", kubeconfig, *arguments)
        return write(audit.out, "saved")

    return saved


def without_meta(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "meta"}


@pytest.mark.parametrize("style", ["json", "jsonl"])
@pytest.mark.parametrize("new", [NEW, policy_text(HUB_TO_CORP, mode="mutate")], ids=["names", "mirrors"])
def test_a_saved_audit_gives_the_answer_of_the_cluster(
    compared: Compared, saved: Write, style: str, new: str
) -> None:
    live = compared(new=new)
    audit = saved("--all", "--format", style)
    found = compared("--audit", audit, new=new)
    assert without_meta(found) == without_meta(live)
    assert found["meta"]["cluster"] == live["meta"]["cluster"] == "here"
    assert found["meta"]["audits"] == [json.JSONDecoder().raw_decode(audit.read_text())[0]["meta"]]


def test_a_comparison_that_would_take_too_long_gives_no_answer(
    diff: Diff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "MAX_COMBINATIONS", 3)
    done = diff("--all-images", new=policy_text(allow="[a.io/x, a.io/y, 'a.io/z:v*', 'a.io/z:*1']"))
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"Error: no exact answer: too many combinations of [^\n]+\n", done.err)
