"""``audit --suggest``: a policy made from the images in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.builders import named, pod, policy_text, workload
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


def test_a_template_whose_image_is_never_pulled_needs_a_rule_for_the_image_as_written(
    suggest: Any, cluster: FakeCluster, write: Write
) -> None:
    """A mirror with ``verify`` leaves such an image as written, without a look-up."""
    container = {"name": "c", "image": "redis:1", "imagePullPolicy": "Never"}
    deployment = workload("Deployment", containers=[container])
    cluster.add("/apis/apps/v1/deployments", named(deployment, "cache", "cache"))
    mirrors = "mirrors: [{from: docker.io, to: r.io/hub, verify: true}]\n"
    base = write(policy_text(mirrors, mode="mutate", allow="\n  - r.io"))
    done = suggest("--base", base, "-n", "cache")
    assert (done.code, done.err) == (0, "")
    assert "  - docker.io/library/**\n" in done.out


def test_an_image_that_does_not_meet_a_requirement_of_the_base_needs_no_rule(
    suggest: Any, write: Write
) -> None:
    base = policy_text(
        "require: [{images: [registry.corp.io], digest: true}]\n", allow="\n  - registry.corp.io"
    )
    done = suggest("--base", write(base), "-n", "shop")
    assert "  - registry.corp.io\n  # 2 images, used 3 times" in done.out
    assert "#   registry.corp.io/web:1: is unpinned: it needs a digest (Pod shop/web-1)\n" in done.out


def test_the_policy_of_a_cluster(suggest: Any, command: Command, write: Write) -> None:
    done = suggest()
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "# Approves 5 images, used 6 times, by registry.\n"
        "# Review each rule, and try the policy in the mode warn before you enforce it.\n"
        "apiVersion: gatekeeper-py/v1\n"
        "kind: ImagePolicy\n"
        "mode: enforce\n"
        "allow:\n"
        "  # 2 images, used 3 times, e.g. nginx:1 (Deployment shop/web)\n"
        "  - docker.io/library/**\n"
        "  # 1 image, used 1 time, e.g. foo:5000/x (Pod bank/tool)\n"
        "  - foo:5000/\n"
        "  # 1 image, used 1 time, e.g. quay.io/team/tool (Pod bank/tool)\n"
        "  - quay.io/team/**\n"
        "  # 1 image, used 1 time, e.g. registry.corp.io/web:1 (Pod shop/web-1)\n"
        "  - registry.corp.io\n"
        "\n"
        "# Not covered: 1 image.\n"
        "#   a b: not an image reference: it holds whitespace (Pod bank/tool)\n"
    )
    assert command("check", write(done.out)).code == 0


@pytest.mark.parametrize(
    ("by", "patterns"),
    [
        pytest.param(
            "path",
            ["docker.io/library/**", "foo:5000/x", "quay.io/team/**", "registry.corp.io/web"],
            id="path",
        ),
        pytest.param(
            "repository",
            ["docker.io/library/nginx", "foo:5000/x", "quay.io/team/tool", "registry.corp.io/web"],
            id="repository",
        ),
    ],
)
def test_the_width_of_rules_can_be_chosen(suggest: Any, by: str, patterns: list[str]) -> None:
    lines = suggest("--by", by).out.splitlines()
    assert [line.removeprefix("  - ") for line in lines if line.startswith("  - ")] == patterns


def test_exempt_namespaces_are_left_out_unless_all_are_requested(suggest: Any) -> None:
    assert "gcr.io" not in suggest().out
    assert "  - k8s.gcr.io\n" in suggest("--all").out
    assert "docker.io" not in suggest("--exempt-namespace", "shop").out
    assert suggest("-n", "bank").out.startswith("# Approves 2 images, used 2 times")


BASE = """\
# our policy
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
allow:
- image: registry.corp.io   # ours
  reason: >-
    a reason
    in two lines

# what we never want
deny: ["quay.io/**"]
mode: warn
"""


def test_a_base_keeps_its_text_and_gets_what_it_lacks(suggest: Any, write: Write) -> None:
    done = suggest("--base", write(BASE))
    assert (done.code, done.err) == (0, "")
    before, after = BASE.split("\n# what we never want")
    assert done.out.startswith(before)
    new = (
        "# 2 images, used 3 times, e.g. nginx:1 (Deployment shop/web)\n- docker.io/library/**\n"
        "# 1 image, used 1 time, e.g. foo:5000/x (Pod bank/tool)\n- foo:5000/\n"
    )
    assert new in done.out
    assert after in done.out
    assert (
        "#   quay.io/team/tool: quay.io/team/tool is denied by deny[0] quay.io/** (Pod bank/tool)\n"
        in done.out
    )


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


def test_images_that_cannot_be_covered_are_listed_though_there_is_no_policy(
    suggest: Any, cluster: FakeCluster
) -> None:
    for objects in cluster.lists.values():
        objects.clear()
    cluster.add(PODS, named(pod("a b"), "odd"))
    done = suggest()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("# Not covered: 1 image.\n#   a b: ")
    assert done.err.endswith("\nError: there is no image that a rule could approve\n")
