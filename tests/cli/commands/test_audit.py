"""``audit`` against an API server on a socket: answers, exit codes, errors."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py import __version__
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.instant import parse_instant
from support.auditing import counts
from support.builders import exceptions_text, keys_text, named, pod, policy_text, workload
from support.commanding import Command, Done, Write
from support.fakecluster import FakeCluster, status
from support.paging import sections

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


def test_html_is_one_page_that_counts_approved_images_and_lists_them_on_request(audit: Audit) -> None:
    done = audit("--format", "html")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("<!doctype html>")
    page = sections(done.out)
    assert "The policy would refuse 2 images in 4 places." in page["summary"]
    assert "approved 1" in page["summary"]
    assert GOOD not in page["refused"]
    assert "allow[0] registry.corp.io" in page["rules"]
    assert "approved" not in page
    assert GOOD in sections(audit("--format", "html", "--all").out)["approved"]
    clean = audit("--format", "html", policy=policy_text(allow="[registry.corp.io, docker.io/**, quay.io]"))
    assert clean.code == 0


def test_an_object_with_an_image_twice_is_listed_once(audit: Audit, cluster: FakeCluster) -> None:
    cluster.add(PODS, named(pod("ghcr.io/a/b", "ghcr.io/a/b"), "twice"))
    [line] = [line for line in audit().out.splitlines() if line.startswith("ghcr.io/a/b ")]
    assert line.split()[2:4] == ["enforce", "2"]
    assert line.endswith("2  Pod shop/twice")


def test_a_rule_that_expired_lately_is_named(audit: Audit, cluster: FakeCluster) -> None:
    cluster.add(PODS, named(pod("ghcr.io/acme/tool:1"), "tool"))
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    allow = f"[registry.corp.io, {{image: ghcr.io/acme/**, until: {yesterday}, owner: build team}}]"
    named_rule = f"allow[1] ghcr.io/acme/** expired {yesterday} (owner: build team)"
    found = audit(policy=policy_text(allow=allow)).out
    assert named_rule in found
    assert found.count(" expired ") == 1
    assert named_rule in sections(audit("--format", "html", policy=policy_text(allow=allow)).out)["refused"]


WARN_IN_BANK = "namespaces: [{names: [bank], mode: warn}]"


def test_every_format_separates_what_is_refused_from_what_only_causes_warnings(audit: Audit) -> None:
    table = audit(policy=policy_text(WARN_IN_BANK))
    assert table.code == 1
    assert "  unlisted  enforce      3  " in table.out
    assert "  unlisted  warn         1  Pod bank/tool" in table.out
    assert table.out.splitlines()[-1] == "4 objects, 3 images: 2 rejected (1 only warned about), 1 approved"
    found = json.loads(audit("--format", "json", policy=policy_text(WARN_IN_BANK)).out)
    assert found["counts"]["warned"] == 1
    modes = {each["namespace"]: each["mode"] for image in found["images"] for each in image["objects"]}
    assert modes == {"shop": "enforce", "bank": "warn"}
    page = sections(audit("--format", "html", policy=policy_text(WARN_IN_BANK)).out)
    assert "The policy would refuse 1 image in 3 places, and only warn in 1 more place." in page["summary"]
    assert "quay.io/team/tool" in page["warned"]
    assert "quay.io/team/tool" not in page["refused"]
    only = sections(audit("--format", "html", policy=policy_text(mode="warn")).out)["summary"]
    assert "The policy would refuse nothing that runs, and only warn about 2 images in 4 places." in only


def test_the_page_separates_what_requirements_refuse_from_what_they_only_warn_about(audit: Audit) -> None:
    entries = "{images: [registry.corp.io], digest: true, mode: warn}, {images: [docker.io], digest: true}"
    text = policy_text(f"require: [{entries}]\n", allow="[registry.corp.io, docker.io, quay.io]")
    page = sections(audit("--format", "html", policy=text).out)
    assert "The policy would refuse 1 image in 3 places, and only warn in 1 more place." in page["summary"]
    assert (GOOD in page["refused"], GOOD in page["warned"]) == (False, True)
    assert "unpinned It lacks a required digest: 1 image" in page["refused"]
    assert "is unpinned: it needs a digest" in page["warned"]
    only_warned = text.replace("digest: true}]", "digest: true, mode: warn}]")
    page = sections(audit("--format", "html", policy=only_warned).out)
    summary = "The policy would refuse nothing that runs, and only warn about 2 images in 4 places."
    assert summary in page["summary"]


def test_an_object_has_its_mode_if_the_modes_of_one_image_differ(audit: Audit, cluster: FakeCluster) -> None:
    cluster.add(PODS, named(pod("nginx:1.25"), "web", "bank"))
    out = audit(policy=policy_text(WARN_IN_BANK)).out
    assert "unlisted  enforce, warn      4  Deployment shop/web (enforce), Pod bank/web (warn), " in out


def test_every_format_states_where_the_report_comes_from(audit: Audit, tmp_path: Path) -> None:
    policy = str(tmp_path / "policy.yaml")
    found = json.loads(audit("--format", "json").out)["meta"]
    revision = found["policy"]["revision"]
    assert found == {
        "time": found["time"],
        "version": __version__,
        "cluster": "here",
        "policy": {"source": policy, "revision": revision},
    }
    assert abs(parse_instant(found["time"]) - datetime.now(UTC)) < timedelta(minutes=5)
    named_prod = ("--cluster-name", "prod")
    first, *_ = audit("--format", "jsonl", *named_prod).out.splitlines()
    assert json.loads(first)["meta"]["cluster"] == "prod"
    row, *_ = csv.DictReader(io.StringIO(audit("--format", "csv", *named_prod).out))
    assert (row["mode"], row["cluster"], row["policy"], row["revision"], row["version"]) == (
        "enforce", "prod", policy, revision, __version__,
    )  # fmt: skip
    assert parse_instant(row["time"])
    origin = f"cluster prod, policy {policy} (revision {revision}), "
    assert origin in audit(*named_prod).out.splitlines()[-2]
    assert origin in audit("--format", "html", *named_prod).out


def test_entries_in_use_that_expire_soon_are_warnings(audit: Audit) -> None:
    """The audit approves their images today, and perhaps refuses them tomorrow."""
    soon, late = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (2, 60))
    entries = {"registry.corp.io": soon, "unused.io": soon, "quay.io": late}
    allow = ", ".join(f"{{image: {image}, until: {until}}}" for image, until in entries.items())
    text = policy_text(f"namespaces: [{{names: [bank], mode: warn, until: {soon}}}]", allow=f"[{allow}]")
    warnings = [
        f"allow[0] registry.corp.io expires at {soon}T00:00:00Z: it decides about 1 place",
        f"namespaces[0] expires at {soon}T00:00:00Z: until then, the mode warn applies to its namespaces",
    ]
    assert json.loads(audit("--format", "json", policy=text).out)["meta"]["warnings"] == warnings
    shown = [f"Warning: {each}" for each in warnings]
    assert audit("--format", "csv", policy=text).err.splitlines() == shown
    table = audit(policy=text)
    assert table.out.splitlines()[-3:-1] == shown
    assert table.err == ""
    page = audit("--format", "html", policy=text).out
    assert all(each in page for each in warnings)


def test_declared_kinds_are_audited_and_noted_when_they_are_not_served(
    audit: Audit, cluster: FakeCluster
) -> None:
    text = policy_text(
        "resources:\n"
        "  - {group: argoproj.io, kind: Workflow, images: [spec.image]}\n"
        "  - {group: example.com, kind: Widget, images: [spec.image]}\n"
    )
    cluster.documents["/apis/argoproj.io"] = {"versions": [{"version": "v1"}]}
    cluster.documents["/apis/argoproj.io/v1"] = {
        "resources": [{"name": "workflows", "kind": "Workflow", "namespaced": True, "verbs": ["list"]}]
    }
    cluster.add("/apis/argoproj.io/v1/workflows", named({"spec": {"image": "ghcr.io/a/b"}}, "build"))
    done = audit(policy=text)
    assert "Workflow shop/build" in done.out
    assert done.err == "Note: the cluster does not serve Widget.example.com\n"


@pytest.mark.parametrize(
    ("data", "done"),
    [
        pytest.param(
            {"policy.yaml": policy_text(allow="[nginx]")}, "ConfigMap guard/policy:4:", id="pattern"
        ),
        pytest.param({"policy.yaml": policy_text(), "mode": "off"}, "error[", id="mode"),
        pytest.param({"other": ""}, "no text under the key policy.yaml", id="no-key"),
        pytest.param(None, "no text under the key policy.yaml", id="no-data"),
    ],
)
def test_a_bad_policy_in_the_cluster_is_exit_2_with_the_findings(
    audit: Audit, cluster: FakeCluster, data: Any, done: str
) -> None:
    cluster.documents["/api/v1/namespaces/guard/configmaps/policy"] = {"data": data}
    answer = audit("--configmap", "guard/policy", policy=None)
    assert (answer.code, answer.out) == (2, "")
    assert done in answer.err
    assert not cluster.queries(PODS)


def test_a_policy_that_is_not_there_is_exit_2(audit: Audit) -> None:
    done = audit("--configmap", "guard/policy", policy=None)
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: cannot get the ConfigMap guard/policy: 404 Not Found\n"


def test_a_bad_policy_is_reported_before_the_cluster_is_read(audit: Audit, cluster: FakeCluster) -> None:
    done = audit(policy="kind: Nonsense")
    assert (done.code, done.out) == (2, "")
    assert "error[" in done.err
    assert not cluster.requests


def test_a_forbidden_list_is_one_line_and_exit_2(audit: Audit, cluster: FakeCluster) -> None:
    message = 'jobs.batch is forbidden: User "eve" cannot list resource "jobs" in API group "batch"'
    cluster.script["/apis/batch/v1/jobs"].append(status(403, message))
    done = audit("--format", "json")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: cannot list jobs.batch in all namespaces: 403 Forbidden: {message}\n"


@pytest.mark.parametrize("arguments", [("--kubeconfig", "/nowhere"), ("--context", "elsewhere")])
def test_a_bad_kubeconfig_is_one_line_and_exit_2(audit: Audit, arguments: tuple[str, ...]) -> None:
    done = audit(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1


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


def test_images_in_exempt_namespaces_are_counted_and_not_rejected(audit: Audit, cluster: FakeCluster) -> None:
    cluster.lists[PODS].clear()
    cluster.lists["/apis/apps/v1/deployments"].clear()
    cluster.add(
        PODS, named(pod("nginx:1.25"), "dns", "kube-system"), named(pod("nginx:1.25"), "cni", "calico")
    )
    done = audit("--format", "json", "--all")
    assert done.code == 1
    answer = json.loads(done.out)
    assert answer["counts"] == counts(objects=2, images=2, rejected=1, exempt=1)
    assert [(image["verdict"], image["reason"]) for image in answer["images"]] == [
        ("exempt", "unlisted"),
        ("rejected", "unlisted"),
    ]
    done = audit("--exempt-namespace=kube-system", "--exempt-namespace=calico")
    assert done.code == 0
    assert done.out.splitlines()[1:] == ["2 objects, 1 image: 0 rejected, 0 approved, 1 exempt"]
    done = audit("--exempt-namespace=", "--format", "json")
    assert json.loads(done.out)["counts"]["rejected"] == 1
    assert "exempt" in audit("--all").out


POLICY_IN = "/api/v1/namespaces/platform/configmaps/policy"
SETTINGS_IN = "/api/v1/namespaces/platform/configmaps/gatekeeper-py-webhooks"
NAMESPACES = "/api/v1/namespaces"


@pytest.fixture
def live(audit: Audit, cluster: FakeCluster) -> Audit:
    """Return a function that audits with the ConfigMap of an installation in the namespace ``platform``.

    Each Pod in the cluster has one image.
    """
    cluster.lists["/apis/apps/v1/deployments"].clear()
    cluster.lists[PODS].clear()
    for name in ("calico", "platform", "shop", "team"):
        labels = {"kubernetes.io/metadata.name": name, "tier": "platform" if name == "team" else "shop"}
        cluster.add(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
        cluster.add(PODS, named(pod("nginx:1.25"), "web", name))
    cluster.documents[POLICY_IN] = {"data": {"policy.yaml": policy_text()}}
    return lambda *arguments: audit("--configmap", "platform/policy", *arguments, policy=None)


def rejected_in(result: Done) -> list[str]:
    """Return the namespaces of the rejected images from the output of ``--format json``."""
    return [
        each["namespace"]
        for image in json.loads(result.out)["images"]
        if image["verdict"] == "rejected"
        for each in image["objects"]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("exemptNamespaces: [calico]", ["shop", "team"], id="by-name"),
        pytest.param("exemptNamespaceLabels: {tier: platform}", ["calico", "shop"], id="by-label"),
        pytest.param(
            "{exemptNamespaces: [calico], exemptNamespaceLabels: {x: y, tier: platform}}", ["shop"], id="both"
        ),
        pytest.param("", ["calico", "shop", "team"], id="none"),
        pytest.param(None, ["calico", "shop", "team"], id="no-configmap"),
    ],
)
def test_the_settings_in_the_cluster_define_the_exemptions(
    live: Audit, cluster: FakeCluster, text: str | None, expected: list[str]
) -> None:
    if text is not None:
        cluster.documents[SETTINGS_IN] = {"data": {"webhooks.yaml": text}}
    result = live("--format", "json")
    assert (rejected_in(result), result.err) == (expected, "")


def test_given_exemptions_replace_the_settings_in_the_cluster(
    audit: Audit, live: Audit, cluster: FakeCluster, write: Write
) -> None:
    cluster.documents[SETTINGS_IN] = {"data": {"webhooks.yaml": "exemptNamespaces: [calico]"}}
    names = live("--format", "json", "--exempt-namespace=shop")
    assert rejected_in(names) == ["calico", "platform", "team"]
    file = write("exemptNamespaceLabels: {tier: platform}\n", "webhooks.yaml")
    options = ("--webhooks-config", str(file), "--format", "json")
    assert rejected_in(live(*options)) == ["calico", "shop"]
    assert rejected_in(audit(*options)) == ["calico", "platform", "shop"]
    assert cluster.queries(SETTINGS_IN) == []
    file.write_text("colour: red")
    assert audit(*options).code == 2


def test_the_labels_of_one_namespace_are_enough_for_its_audit(live: Audit, cluster: FakeCluster) -> None:
    cluster.documents[SETTINGS_IN] = {"data": {"webhooks.yaml": "exemptNamespaceLabels: {tier: platform}"}}
    assert rejected_in(live("--format", "json", "-n", "team")) == []
    assert cluster.queries(NAMESPACES) == [
        {"labelSelector": "tier=platform", "fieldSelector": "metadata.name=team"}
    ]


@pytest.mark.parametrize(
    ("settings", "scripted", "note"),
    [
        pytest.param({"webhooks.yaml": "colour: red"}, {}, "is refused: line 1, colour", id="bad"),
        pytest.param({"webhook.yaml": ""}, {}, "has no key webhooks.yaml", id="misnamed"),
        pytest.param(
            {}, {SETTINGS_IN: "configmaps is forbidden"}, "cannot get the ConfigMap", id="forbidden"
        ),
        pytest.param(
            {"webhooks.yaml": "exemptNamespaceLabels: {tier: platform}"},
            {NAMESPACES: "namespaces is forbidden"},
            "cannot list namespaces with the label tier=platform",
            id="no-right-to-list-namespaces",
        ),
    ],
)
def test_unknown_exemptions_are_reported(
    live: Audit,
    cluster: FakeCluster,
    settings: dict[str, str],
    scripted: dict[str, str],
    note: str,
) -> None:
    """The audit lists too many images, and a note says that some exemptions are unknown."""
    cluster.documents[SETTINGS_IN] = {"data": settings}
    for path, message in scripted.items():
        cluster.script[path].append(status(403, message))
    result = live("--format", "json")
    assert rejected_in(result) == ["calico", "shop", "team"]
    assert result.err.startswith("Note: not all exempt namespaces are known: ")
    assert note in result.err


def test_settings_that_cannot_be_read_for_another_reason_end_the_audit(
    live: Audit, cluster: FakeCluster
) -> None:
    cluster.script[SETTINGS_IN].append(status(400, "no"))
    result = live()
    assert result.code == 2
    assert "cannot get the ConfigMap platform/gatekeeper-py-webhooks" in result.err


GRANTS = """
exceptions:
  - {source: namespace, images: [docker.io/**], longest: 400d}
  - {source: break-glass, images: [quay.io/**], longest: 400d}
"""
CONFIGMAPS = "/api/v1/configmaps"
UNTIL = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT00:00:00Z}"
EXCEPTION = exceptions_text(
    f'image: docker.io/library/nginx, until: "{UNTIL}", reason: "INC-1: hotfix", owner: web'
)


def document(text: str, namespace: str, name: str = EXCEPTIONS_CONFIGMAP) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": {"exceptions.yaml": text}}


@pytest.fixture
def excepted(live: Audit, cluster: FakeCluster) -> Audit:
    """Return a function that audits a cluster in which an exception approves the image of ``shop``."""
    cluster.documents[POLICY_IN] = {"data": {"policy.yaml": policy_text(GRANTS)}}
    cluster.add(CONFIGMAPS, document(EXCEPTION, "shop"))
    return live


def test_images_that_run_by_an_exception_are_a_group_of_their_own(
    excepted: Audit, command: Command, write: Write
) -> None:
    table = excepted()
    assert table.code == 1
    lines = [re.split("  +", line) for line in table.out.splitlines()]
    assert ["APPROVED BY AN EXCEPTION", "UNTIL", "OWNER", "COUNT", "REASON", "WHERE"] in lines
    assert ["nginx:1.25", UNTIL, "web", "1", "INC-1: hotfix", "Pod shop/web"] in lines
    assert table.out.splitlines()[-1].endswith("1 rejected, 1 approved (1 by exceptions), 1 exempt")
    (row,) = [each for each in csv.DictReader(io.StringIO(excepted("--format", "csv").out)) if each["until"]]
    assert (row["verdict"], row["reason"]) == ("approved", "exception")
    assert (row["until"], row["owner"], row["exception_reason"]) == (UNTIL, "web", "INC-1: hotfix")
    page = sections(excepted("--format", "html").out)
    assert f"until {UNTIL}, web: INC-1: hotfix" in page["excepted"]
    assert "Pod shop/web" not in page["refused"]
    saved = excepted("--all", "--format", "json").out
    (image,) = [each for each in json.loads(saved)["images"] if "exception" in each]
    assert image["exception"] == {
        "source": "namespace",
        "namespace": "shop",
        "index": 0,
        "image": "docker.io/library/nginx",
        "until": UNTIL,
        "reason": "INC-1: hotfix",
        "owner": "web",
        "grant": 0,
    }
    assert [each["namespace"] for each in image["objects"]] == ["shop"]
    merge = command("audit", "--merge", write(saved, "saved.json"), "--format", "json")
    merged = json.loads(merge.out)
    assert merged["counts"]["excepted"] == 1
    assert image["exception"] in [each.get("exception") for each in merged["images"]]


@pytest.mark.parametrize("namespace", [None, "shop"], ids=["all", "one-namespace"])
@pytest.mark.parametrize("held", ["forbidden", "bad", "given"])
def test_documents_that_cannot_count_approve_nothing_and_are_reported(
    excepted: Audit, cluster: FakeCluster, tmp_path: Path, namespace: str | None, held: str
) -> None:
    path = CONFIGMAPS if namespace is None else f"/api/v1/namespaces/{namespace}/configmaps"
    arguments = [] if namespace is None else ["-n", namespace]
    expected = ""
    if held == "forbidden":
        cluster.script[path].append(status(403, "configmaps is forbidden", reason="Forbidden"))
        expected = "cannot list the ConfigMaps gatekeeper-py-exceptions in "
    elif held == "bad":
        cluster.lists[CONFIGMAPS] = [document(EXCEPTION.replace("until", "til"), "shop")]
        expected = "the ConfigMap shop/gatekeeper-py-exceptions is invalid: line "
    else:
        file = tmp_path / "exceptions.yaml"
        given = {"apiVersion": "v1", "kind": "ConfigMap"} | document(EXCEPTION, "other")
        file.write_text(json.dumps(given))
        arguments += ["--exceptions", str(file)]
    result = excepted(*arguments, "--format", "json")
    assert "shop" in rejected_in(result)
    assert expected in result.err
    assert bool(expected) == ("Note: some exceptions in the cluster are ignored" in result.err)
    assert bool(expected) == bool(cluster.queries(path))


def test_without_grants_no_exception_is_read(live: Audit, cluster: FakeCluster) -> None:
    live()
    assert not [path for path, _ in cluster.requests if path.endswith("/configmaps")]


def test_exceptions_are_listed_by_name_page_by_page(excepted: Audit, cluster: FakeCluster) -> None:
    cluster.lists[CONFIGMAPS] = [document(EXCEPTION, f"team-{number}") for number in range(20)]
    cluster.add(CONFIGMAPS, document(EXCEPTION, "shop"))
    assert "shop" not in rejected_in(excepted("--format", "json"))
    names = [query["fieldSelector"] for query in cluster.queries(CONFIGMAPS)]
    assert names == [f"metadata.name={EXCEPTIONS_CONFIGMAP}"] * 2
    (emergency,) = cluster.queries("/api/v1/namespaces/platform/configmaps")
    assert emergency["fieldSelector"] == f"metadata.name={BREAK_GLASS_CONFIGMAP}"


@pytest.fixture
def unneeded(excepted: Audit, cluster: FakeCluster) -> Audit:
    """Return a function that audits a cluster with exceptions that can be deleted, and one that is needed."""
    cluster.documents[POLICY_IN] = {
        "data": {"policy.yaml": policy_text(GRANTS, allow="[docker.io/library/ok]")}
    }
    until = f'until: "{UNTIL}", reason: r'
    entries = (
        f"image: docker.io/library/nginx, {until}, owner: web",
        f"image: docker.io/library/other, {until}",
        f"image: docker.io/library/ok, {until}",
        "image: docker.io/library/nginx, until: 2026-01-01, reason: r",
    )
    cluster.lists[CONFIGMAPS] = [document(exceptions_text(*entries), "shop")]
    cluster.add(CONFIGMAPS, document(exceptions_text(entries[0]), "calico"))
    cluster.add(CONFIGMAPS, document(exceptions_text(entries[0]), "kube-system"))
    cluster.add(PODS, named(pod("nginx:1.25"), "dns", "kube-system"))
    return lambda *arguments: excepted("--exceptions-unused", *arguments)


def test_exceptions_that_nothing_needs_are_listed_with_their_place(unneeded: Audit) -> None:
    table = unneeded()
    assert (table.code, table.err) == (1, "")
    lines = [re.split("  +", line) for line in table.out.splitlines()]
    found = [(line[0], line[1], line[3], line[4]) for line in lines[1:-2]]
    shop = "shop/gatekeeper-py-exceptions"
    assert found == [
        (shop, "no object needs it", "exceptions[1]", "docker.io/library/other"),
        (shop, "the policy approves its images anyway", "exceptions[2]", "docker.io/library/ok"),
        (shop, "it has expired", "exceptions[3]", "docker.io/library/nginx"),
        (
            "kube-system/gatekeeper-py-exceptions",
            "no object needs it",
            "exceptions[0]",
            "docker.io/library/nginx",
        ),
    ]
    assert table.out.endswith("\n4 exceptions can be deleted\n")
    found_json = json.loads(unneeded("--format", "json").out)["unused"]
    assert [(each["index"], each["why"]) for each in found_json] == [
        (1, "unused"), (2, "approved"), (3, "expired"), (0, "unused"),
    ]  # fmt: skip
    lines_of_document = exceptions_text("a: b", "c: d").splitlines()
    assert "c: d" in lines_of_document[found_json[0]["line"] - 1]


@pytest.mark.parametrize(
    ("overrides", "deny"),
    [("[require]", ""), ("[deny]", "deny: [docker.io/library/nginx]\n")],
    ids=["without-a-signature", "with-a-signature"],
)
@pytest.mark.parametrize("path", [PODS, DEPLOYMENTS], ids=["pod", "template"])
def test_an_exception_of_an_image_that_may_be_signed_is_needed(
    excepted: Audit, cluster: FakeCluster, path: str, overrides: str, deny: str
) -> None:
    image = f"nginx@sha256:{'ab' * 32}"
    made = pod(image) if path == PODS else workload("Deployment", image)
    cluster.lists |= {PODS: [], DEPLOYMENTS: [], path: [named(made, "web", "shop")]}
    grant = f"{{source: break-glass, images: [docker.io], longest: 400d, overrides: {overrides}}}"
    cluster.documents[POLICY_IN] = {
        "data": {
            "policy.yaml": policy_text(
                f"{keys_text()}{deny}exceptions: [{grant}]\n"
                "require: [{images: [docker.io], signedBy: [ci-2025, ci-2026]}]\n",
                allow="[docker.io]",
            )
        }
    }
    until = f'until: "{UNTIL}", reason: r'
    entries = [f"image: docker.io/library/{name}, {until}" for name in ("nginx", "other")]
    glass = document(exceptions_text(*entries), "platform", BREAK_GLASS_CONFIGMAP)
    cluster.lists["/api/v1/namespaces/platform/configmaps"] = [glass]
    found = json.loads(excepted("--exceptions-unused", "--format", "json").out)["unused"]
    assert [(each["image"], each["why"]) for each in found] == [("docker.io/library/other", "unused")]


def test_without_an_unneeded_exception_the_exit_code_is_0(excepted: Audit) -> None:
    done = excepted("--exceptions-unused")
    assert (done.code, done.out.splitlines()[-1]) == (0, "0 exceptions can be deleted")


def test_unused_exceptions_that_cannot_be_read_are_an_error(unneeded: Audit, cluster: FakeCluster) -> None:
    cluster.script[CONFIGMAPS].append(status(403, "configmaps is forbidden", reason="Forbidden"))
    done = unneeded()
    assert (done.code, done.out) == (2, "")
    assert "cannot list the ConfigMaps gatekeeper-py-exceptions in all namespaces" in done.err
