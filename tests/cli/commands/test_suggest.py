"""``audit --suggest``: a policy made from the images in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.builders import named, pod, workload
from support.commanding import Command, Write
from support.fakecluster import FakeCluster

PODS = "/api/v1/pods"


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    cluster.add(
        PODS, named(pod("nginx:1", "registry.corp.io/web:1"), "web-1"), named(pod("nginx:2"), "web-2")
    )
    cluster.add(PODS, named(pod("quay.io/team/tool", "foo:5000/x", "a b"), "tool", "bank"))
    cluster.add(PODS, named(pod("k8s.gcr.io/dns"), "dns", "kube-system"))
    cluster.add("/apis/apps/v1/deployments", named(workload("Deployment", "nginx:1"), "web"))
    with cluster.serving():
        yield cluster


@pytest.fixture
def suggest(command: Command, cluster: FakeCluster, tmp_path: Path) -> Any:
    kubeconfig = cluster.kubeconfig(tmp_path)
    return lambda *arguments: command("audit", "--suggest", "--kubeconfig", kubeconfig, *arguments)


@pytest.mark.parametrize(
    "allow",
    [
        pytest.param("allow: [registry.corp.io]", id="flow"),
        pytest.param("allow: [registry.corp.io, ]", id="trailing-comma"),
        pytest.param("allow: [\n  registry.corp.io,   # a, b\n]", id="lines"),
        pytest.param("allow: [\n  registry.corp.io   # a, b\n]", id="comment-with-comma"),
        pytest.param("allow: [{image: registry.corp.io, namespaces: ['*']}]", id="mapping"),
        pytest.param("allow:\n- registry.corp.io", id="block-at-the-margin"),
        pytest.param("allow:\n    - registry.corp.io\n    # the end\n", id="block"),
        pytest.param("allow:\n  - image: registry.corp.io\n    namespaces:\n      - '*'\n\n", id="nested"),
        pytest.param(
            "allow:\n  - image: registry.corp.io\n    reason: |\n      text\n\n      more\n", id="literal"
        ),
        pytest.param("allow: [\n  'registry.corp.io'] # end", id="quoted"),
        pytest.param("\n  \nallow: \n  [registry.corp.io]", id="next-line"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\nmessage: ask\n"])
def test_rules_are_added_in_every_layout(
    suggest: Any, command: Command, write: Write, cluster: FakeCluster, tmp_path: Path, allow: str, end: str
) -> None:
    base = write(f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\n{allow}{end}")
    done = suggest("--base", base)
    assert (done.code, done.err) == (0, ""), done.out
    audit = command("audit", "--policy", write(done.out), "--kubeconfig", cluster.kubeconfig(tmp_path))
    assert audit.out.splitlines()[-1].endswith("1 rejected, 5 approved, 1 exempt"), done.out
    again = suggest("--base", write(done.out))
    assert again.out.split("\n# Not covered")[0] == done.out.split("\n# Not covered")[0]


def test_hostile_names_stay_in_their_comment(suggest: Any, cluster: FakeCluster) -> None:
    cluster.add(PODS, named(pod("x\n- evil.io", "a.io/x:1"), "evil\n- evil.io\u2028"))
    out = suggest().out
    assert not any(line.strip() == "- evil.io" for line in out.splitlines())
    assert out.isascii()
