"""``audit`` against an API server on a socket: answers, exit codes, errors."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.builders import named, pod, policy_text, workload
from support.commanding import Command, Done, Write
from support.fakecluster import FakeCluster

PODS = "/api/v1/pods"
DEPLOYMENTS = "/apis/apps/v1/deployments"
GOOD = "registry.corp.io/web:1"
DIGEST = "sha256:" + "ab" * 32


Audit = Callable[..., Done]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """Return a cluster with a Deployment and its Pods, one of them with an approved image."""
    cluster = FakeCluster()
    cluster.add(PODS, named(pod("nginx:1.25", GOOD), "web-1"), named(pod("nginx:1.25"), "web-2"))
    cluster.add(PODS, named(pod(f"quay.io/team/tool@{DIGEST}"), "tool", "bank"))
    cluster.add(DEPLOYMENTS, named(workload("Deployment", "nginx:1.25"), "web"))
    with cluster.serving():
        yield cluster


@pytest.fixture
def audit(command: Command, cluster: FakeCluster, tmp_path: Path) -> Audit:
    """Return a function that runs the command; ``policy`` is the text of the document, or ``None``."""

    def audit(*arguments: str, policy: str | None = policy_text(), **options: str) -> Done:
        file = tmp_path / "policy.yaml"
        file.write_text(policy or "")
        given = () if policy is None else ("--policy", file)
        return command("audit", *given, "--kubeconfig", cluster.kubeconfig(tmp_path), *arguments, **options)

    return audit


def test_on_a_terminal_lines_fit_and_digests_are_cut_first(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    done = audit(terminal="stdout")
    assert done.code == 1
    assert not re.search("\x1b\\[[0-9;]*3[0-9]", done.out)
    lines = re.sub("\x1b\\[[0-9;]*m", "", done.out).splitlines()
    assert [len(line) <= 100 for line in lines if not line.startswith("cluster ")] == [True] * 4
    assert re.match(r"quay\.io/team/tool@sha256:abababababab\.\.\.  unlisted", lines[2])
    assert re.search(r"  Deployment shop/web, \+2 more$", lines[1])


def test_on_a_terminal_reasons_are_coloured_and_a_bar_shows_that_lists_come_in(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[31m\x1b[1munlisted" in audit(terminal="stdout").out
    colour = re.compile("\x1b\\[[0-9;]*3[0-9;]*m")
    done = audit(terminal="stderr")
    assert done.code == 1
    assert "deployments.apps" in done.err
    assert colour.search(done.err)
    assert done.out.splitlines()[-1] == "4 objects, 3 images: 2 rejected, 1 approved"
    monkeypatch.setenv("NO_COLOR", "1")
    shown = audit(terminal="stderr").err
    assert "deployments.apps" in shown
    assert not colour.search(shown)


def test_an_interrupt_is_exit_130_without_a_traceback(cluster: FakeCluster, write: Write) -> None:
    cluster.silent_at = "/apis/apps/v1/deployments"
    policy = write(policy_text())
    options = ["--policy", str(policy), "--kubeconfig", str(cluster.kubeconfig(policy.parent))]
    command = [sys.executable, "-m", "gatekeeper_py", "audit", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert cluster.is_silent.wait(60)
        running.send_signal(signal.SIGINT)
        assert running.communicate() == (b"", b"\n")
    assert running.returncode == 130
