"""``status`` against an API server on a socket: answers, exit codes, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commanding import Command
from support.fakecluster import FakeCluster, status


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster().serving() as cluster:
        yield cluster


def test_nothing_is_installed(command: Command, cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.script["/api/v1/namespaces/gatekeeper-py"].append(status(404, "not found", reason="NotFound"))
    done = command("status", "--kubeconfig", cluster.kubeconfig(tmp_path), "--format", "json")
    assert (done.code, done.err) == (1, "")
    answer = json.loads(done.out)
    assert answer["healthy"] is False
    assert answer["problems"] == ["the namespace gatekeeper-py does not exist: nothing is installed there"]
    assert [webhook["present"] for webhook in answer["webhooks"]] == [False, False]


def test_a_cluster_that_cannot_be_read_is_exit_2(
    command: Command, cluster: FakeCluster, tmp_path: Path
) -> None:
    done = command("status", "--kubeconfig", cluster.kubeconfig(tmp_path, token="wrong"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: the cluster cannot be read: GET /api/v1/namespaces/gatekeeper-py: 401")
