"""``diff``: the effect of a policy change on running images and on all possible images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from builders import HUB_TO_CORP, exceptions_text, named, pod, policy_text, review, workload
from commanding import Command, Done, Write
from fakecluster import FakeCluster, status
from paging import sections

PODS = "/api/v1/pods"
DEPLOYMENTS = "/apis/apps/v1/deployments"
OLD = policy_text(allow="[registry.corp.io, docker.io/library/**]")
NEW = policy_text(allow="[registry.corp.io, quay.io/team/**]")
DENIED_BY_US = 'admission webhook "pods.image-validation-webhook.gatekeeper-py" denied the request: no'


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    cluster.add(PODS, named(pod("nginx:1", "registry.corp.io/web"), "web-1"), named(pod("nginx:1"), "web-2"))
    cluster.add(PODS, named(pod("quay.io/team/tool:2"), "tool", "bank"))
    cluster.add(PODS, named(pod("nginx:1"), "dns", "kube-system"))
    cluster.add(DEPLOYMENTS, named(workload("Deployment", "nginx:1"), "web"))
    with cluster.serving():
        yield cluster


@pytest.fixture
def policies(write: Write) -> tuple[Path, Path]:
    return write(OLD, "old.yaml"), write(NEW, "new.yaml")


def answer(done: Done, code: int) -> dict[str, Any]:
    assert (done.code, done.err) == (code, "")
    found: dict[str, Any] = json.loads(done.out)
    assert done.out == json.dumps(found, indent=2) + "\n"
    return found


def without_meta(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "meta"}


def meta_of(audit: str) -> Any:
    """Return the meta of an audit in the format ``json`` or ``jsonl``."""
    return json.JSONDecoder().raw_decode(audit)[0]["meta"]


def counts(**others: int) -> dict[str, int]:
    """Return the counts of an answer; those that are not given are 0."""
    names = ("rejected", "approved", "rewritten", "unchanged", "warned", "newlyRefused", "newlyWarned")
    return dict.fromkeys(names, 0) | others


def changed(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(each["image"], each["change"], each["count"]) for each in found["images"]]


def test_the_page(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path
) -> None:
    kubeconfig = cluster.kubeconfig(tmp_path)
    done = command("diff", *policies, "--kubeconfig", kubeconfig, "--format", "html")
    assert (done.code, done.err) == (1, "")
    page = sections(done.out)
    assert "nginx:1" in page["rejected"]
    assert "quay.io/team/tool:2" in page["approved"]
    done = command("diff", *policies, "--all-images", "--format", "html")
    assert (done.code, done.err) == (1, "")
    assert "Some images become approved." in sections(done.out)["summary"]


def test_exempt_namespaces_do_not_change_and_can_be_chosen(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path
) -> None:
    arguments = ("diff", *policies, "--kubeconfig", cluster.kubeconfig(tmp_path), "-n", "kube-system")
    assert changed(answer(command(*arguments, "--format", "json"), 0)) == []
    chosen = command(*arguments, "--format", "json", "--exempt-namespace", "shop")
    assert changed(answer(chosen, 1)) == [("nginx:1", "rejected", 1)]


def test_with_a_live_policy_the_live_settings_define_the_exemptions(
    command: Command, write: Write, cluster: FakeCluster, tmp_path: Path
) -> None:
    configmaps = "/api/v1/namespaces/guard/configmaps"
    cluster.documents[f"{configmaps}/policy"] = {"data": {"policy.yaml": OLD}}
    cluster.documents[f"{configmaps}/gatekeeper-py-webhooks"] = {
        "data": {"webhooks.yaml": "exemptNamespaceLabels: {tier: platform}"}
    }
    cluster.add("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"tier": "platform"}}})
    arguments = ("diff", write(NEW), "--configmap", "guard/policy", "--format", "json")
    live = (*arguments, "--kubeconfig", cluster.kubeconfig(tmp_path))
    assert changed(answer(command(*live), 0)) == [("quay.io/team/tool:2", "approved", 1)]
    given = command(*live, "--exempt-namespace", "bank")
    assert changed(answer(given, 1)) == [("nginx:1", "rejected", 4)]
    cluster.script[f"{configmaps}/gatekeeper-py-webhooks"].append(status(403, "configmaps is forbidden"))
    assert "Note: not all exempt namespaces are known" in command(*live).err


def test_settings_in_a_file_define_the_exemptions(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path, write: Write
) -> None:
    cluster.add("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"tier": "platform"}}})
    settings = write("exemptNamespaceLabels: {tier: platform}\n", "webhooks.yaml")
    arguments = ("diff", *policies, "--kubeconfig", cluster.kubeconfig(tmp_path), "--format", "json")
    found = answer(command(*arguments, "--webhooks-config", settings), 0)
    assert changed(found) == [("quay.io/team/tool:2", "approved", 1)]


def test_the_old_policy_may_be_live(
    command: Command, write: Write, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.documents["/api/v1/namespaces/guard/configmaps/policy"] = {
        "data": {"policy.yaml": OLD, "mode": "warn"}
    }
    live = ("--configmap", "guard/policy", "--kubeconfig", cluster.kubeconfig(tmp_path), "--format", "json")
    found = answer(command("diff", write(NEW), *live), 1)
    assert found["rules"]["changed"] == [{"list": "mode", "old": "warn", "new": "enforce"}]
    assert changed(found)[0] == ("nginx:1", "rejected", 3)
    found = answer(command("diff", write(NEW), *live, "--all-images"), 1)
    assert (found["widens"], found["narrows"]) == (True, True)
    found = answer(command("diff", write(NEW), *live, "--images", write("nginx:1\n", "images")), 1)
    assert changed(found) == [("nginx:1", "rejected", 1)]


@pytest.mark.parametrize("live", ["images", "policy", "both"])
@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ("good", [("nginx:1", "rejected", 3), ("quay.io/team/tool:2", "approved", 1)]),
        ("forbidden", []),
        ("given", []),
    ],
)
def test_both_policies_judge_with_the_exceptions_of_the_cluster(
    command: Command,
    write: Write,
    cluster: FakeCluster,
    tmp_path: Path,
    held: str,
    expected: list[tuple[str, str, int]],
    live: str,
) -> None:
    grants = "exceptions: [{{source: {}, images: [docker.io/**, quay.io/**], longest: 400d}}]\n"
    old, new = (policy_text(grants.format(source)) for source in ("namespace", "installation"))
    options: list[object] = [write(old, "old.yaml")]
    if live != "images":
        cluster.documents["/api/v1/namespaces/guard/configmaps/policy"] = {"data": {"policy.yaml": old}}
        options = ["--configmap", "guard/policy"]
    if live == "policy":
        options += ["--images", write("shop\tnginx:1\n" * 3 + "bank\tquay.io/team/tool:2\n", "images.txt")]
    until = "until: 2026-04-01, reason: r"
    for namespace, image in (
        ("shop", "docker.io/library/nginx"),
        ("gatekeeper-py" if live == "images" else "guard", "quay.io/team/tool"),
    ):
        metadata = {"name": "gatekeeper-py-exceptions", "namespace": namespace}
        data = {"exceptions.yaml": exceptions_text(f"image: {image}, {until}")}
        cluster.add("/api/v1/configmaps", {"metadata": metadata, "data": data})
    if held == "forbidden":
        cluster.script["/api/v1/configmaps"].append(status(403, "no", reason="Forbidden"))
    elif held == "given":
        given = write(exceptions_text(f"image: docker.io/x, {until}"), "exceptions.yaml")
        options += ["--exceptions", given, "-n", "shop"]
    options += [write(new, "new.yaml"), "--at", "2026-03-01", "--format", "json"]
    done = command("diff", *options, "--kubeconfig", cluster.kubeconfig(tmp_path))
    assert changed(json.loads(done.out)) == expected
    assert ("Note: some exceptions in the cluster are ignored" in done.err) == (held == "forbidden")
    assert any("fieldSelector" in query for _, query in cluster.requests) == (held != "given")


def test_a_saved_audit_gives_the_answer_of_the_cluster(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path, write: Write
) -> None:
    kubeconfig = ("--kubeconfig", cluster.kubeconfig(tmp_path))
    live = answer(command("diff", *policies, *kubeconfig, "--format", "json"), 1)
    for style in ("json", "jsonl"):
        audit = command("audit", "--policy", policies[0], *kubeconfig, "--all", "--format", style)
        saved = write(audit.out, f"audit.{style}")
        found = answer(command("diff", *policies, "--audit", saved, "--format", "json"), 1)
        assert without_meta(found) == without_meta(live)
        assert found["meta"]["cluster"] == live["meta"]["cluster"] == "here"
        assert found["meta"]["audits"] == [meta_of(audit.out)]


def test_a_saved_audit_of_an_earlier_version_has_no_meta(
    command: Command, policies: tuple[Path, Path], write: Write
) -> None:
    usage = {"kind": "Pod", "namespace": "shop", "name": "web", "path": "spec.containers[0].image"}
    counts, image = {"counts": {"images": 1}}, {"image": "nginx:1", "objects": [usage]}
    for text in (json.dumps({**counts, "images": [image]}), lines_of(counts, image)):
        done = command("diff", *policies, "--audit", write(text, "saved"), "--format", "json")
        found = answer(done, 1)
        assert changed(found) == [("nginx:1", "rejected", 1)]
        assert found["images"][0]["objects"] == [{**usage, "mode": "enforce"}]
        assert found["meta"]["cluster"] is None
        assert "audits" not in found["meta"]


def test_the_answer_states_where_it_comes_from(
    command: Command, policies: tuple[Path, Path], write: Write
) -> None:
    at = ("--at", "2027-01-01", "--cluster-name", "prod")
    for images in (("--all-images",), ("--images", write("nginx:1\n", "images"))):
        meta = answer(command("diff", *policies, *images, *at, "--format", "json"), 1)["meta"]
        assert (meta["cluster"], meta["at"]) == ("prod", "2027-01-01T00:00:00Z")
        assert [meta["oldPolicy"]["source"], meta["policy"]["source"]] == list(map(str, policies))
        for style in ("table", "html"):
            out = command("diff", *policies, *images, *at, "--format", style).out
            assert f"cluster prod, policy {policies[0]} (revision {meta['oldPolicy']['revision']}) -" in out


@pytest.mark.parametrize(
    ("modes", "key", "sentence"),
    [
        pytest.param(
            ("warn", "enforce"), "newlyRefused", "NEW refuses 1 image in places where OLD only", id="enforce"
        ),
        pytest.param(
            ("enforce", "warn"), "newlyWarned", "NEW only warns about 1 image in places where OLD", id="warn"
        ),
    ],
)
def test_another_mode_changes_no_verdict_but_is_stated(
    command: Command, write: Write, modes: tuple[str, str], key: str, sentence: str
) -> None:
    override = "namespaces: [{names: [prod], mode: enforce}]"
    policies = [write(policy_text(override, mode=mode), mode) for mode in modes]
    images = write("shop\tnginx:1\nprod\tnginx:2\nshop\tregistry.corp.io/x\nkube-system\tnginx:3\n", "images")
    given_arguments = ("diff", *policies, "--images", images)
    found = answer(command(*given_arguments, "--format", "json"), 0)
    assert found["counts"] == counts(unchanged=4, **{key: 1})
    assert sentence in command(*given_arguments).out
    page = sections(command(*given_arguments, "--format", "html").out)["summary"]
    assert "No image becomes approved or rejected, but the mode changes." in page
    assert sentence in page


def test_images_that_only_cause_warnings_are_counted(command: Command, write: Write) -> None:
    new = policy_text("namespaces: [{names: [dev], mode: warn}]")
    images = write("dev\tnginx:1\nshop\tnginx:2\n", "images")
    given_arguments = ("diff", write(OLD, "old"), write(new, "new"), "--images", images)
    found = answer(command(*given_arguments, "--format", "json"), 1)
    assert (found["counts"]["rejected"], found["counts"]["warned"]) == (2, 1)
    assert [each["objects"][0]["mode"] for each in found["images"]] == ["warn", "enforce"]
    assert "2 images: 2 rejected (1 only warned about), " in command(*given_arguments).out
    page = sections(command(*given_arguments, "--format", "html").out)["summary"]
    assert "Rejected: 1 refused, and 1 only warned about." in page


@pytest.mark.parametrize("recorded", ["--audit", "--images"])
def test_a_file_without_images_of_the_namespace_is_refused(
    command: Command,
    policies: tuple[Path, Path],
    cluster: FakeCluster,
    tmp_path: Path,
    write: Write,
    recorded: str,
) -> None:
    """A misspelled namespace must not look like a harmless change."""
    kubeconfig = ("--kubeconfig", cluster.kubeconfig(tmp_path))
    audit = command("audit", "--policy", policies[0], *kubeconfig, "--all", "--format", "json")
    saved = write(audit.out if recorded == "--audit" else "shop\tnginx:1\n", "saved")
    done = command("diff", *policies, recorded, saved, "-n", "shopp")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: {saved}: there is nothing to judge in the namespace shopp\n"
    assert command("diff", *policies, recorded, saved, "-n", "shop").code == 1


def test_a_saved_audit_of_an_empty_cluster_is_a_complete_answer(
    command: Command, policies: tuple[Path, Path], tmp_path: Path, write: Write
) -> None:
    with FakeCluster().serving() as empty:
        empty.add(PODS)
        audit = command(
            *("audit", "--policy", policies[0], "--kubeconfig", empty.kubeconfig(tmp_path)),
            *("--all", "--format", "json"),
        )
    saved = write(audit.out, "audit.json")
    found = answer(command("diff", *policies, "--audit", saved, "--format", "json"), 0)
    assert set(found["counts"].values()) == {0}


def test_a_template_in_a_saved_audit_is_judged_after_its_mirror(
    command: Command, cluster: FakeCluster, tmp_path: Path, write: Write
) -> None:
    policies = write(OLD, "old"), write(policy_text(HUB_TO_CORP, mode="mutate"), "new")
    kubeconfig = ("--kubeconfig", cluster.kubeconfig(tmp_path))
    live = answer(command("diff", *policies, *kubeconfig, "--format", "json"), 1)
    assert changed(live) == [("nginx:1", "rejected", 2), ("nginx:1", "rewritten", 1)]
    assert live["images"][1]["detail"] == "registry.corp.io/dockerhub/library/nginx:1"
    assert live["counts"] == counts(rejected=1, rewritten=1, unchanged=2)
    audit = command("audit", "--policy", policies[0], *kubeconfig, "--all", "--format", "json")
    saved = write(audit.out, "audit.json")
    found = answer(command("diff", *policies, "--audit", saved, "--format", "json"), 1)
    assert without_meta(found) == without_meta(live)


def test_an_audit_that_leaves_images_out_is_refused(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path, write: Write
) -> None:
    kubeconfig = ("--kubeconfig", cluster.kubeconfig(tmp_path))
    audit = command("audit", "--policy", policies[0], *kubeconfig, "--format", "json")
    saved = write(audit.out, "audit.json")
    done = command("diff", *policies, "--audit", saved)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"Error: {saved}: it lists 1 of the 4 images that were audited; "
        "make it with: audit --all --format json\n"
    )


def test_a_list_of_images_may_name_namespaces(command: Command, write: Write) -> None:
    old = write(policy_text(allow="[{image: a.io, namespaces: [shop]}]"), "old")
    new = write(policy_text(allow="[{image: a.io, namespaces: [bank]}]"), "new")
    images = write("# what runs\r\na.io/x\nshop\ta.io/x:1\n\nbank\ta.io/x:2\n", "images")
    found = answer(command("diff", old, new, "--images", images, "--format", "json"), 1)
    assert changed(found) == [("a.io/x:1", "rejected", 1), ("a.io/x:2", "approved", 1)]
    assert found["images"][0]["objects"] == [
        {"kind": "", "namespace": "shop", "name": "", "path": "line 3", "mode": "enforce"}
    ]
    assert found["counts"] == counts(rejected=1, approved=1, unchanged=1)
    assert [change["old"]["namespaces"] for change in found["rules"]["changed"]] == [["shop"]]
    found = answer(command("diff", old, new, "--images", images, "-n", "bank", "--format", "json"), 0)
    assert changed(found) == [("a.io/x", "approved", 1), ("a.io/x:2", "approved", 1)]


def test_images_may_come_from_stdin(command: Command, policies: tuple[Path, Path]) -> None:
    done = command("diff", *policies, "--images", "-", stdin="nginx\n")
    assert done.code == 1
    assert "nginx  rejected  enforce      1  matches no rule  line 1" in done.out


def lines_of(*documents: Any) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


def test_reviews_are_judged_as_the_webhook_judges_them(
    command: Command, policies: tuple[Path, Path], write: Write
) -> None:
    reviews = lines_of(
        review(pod("nginx")),
        review(pod("nginx", "quay.io/team/x"), operation="UPDATE", old=pod("nginx")),
        review(None, kind=("", "Pod"), operation="DELETE", old=pod("nginx")),
        review(workload("CronJob", "nginx"), namespace="bank"),
    )
    done = command("diff", *policies, "--reviews", write(reviews, "reviews"), "--format", "json")
    found = answer(done, 1)
    assert changed(found) == [("nginx", "rejected", 2), ("quay.io/team/x", "approved", 1)]


def event(verb: str, obj: Any, plural: str = "pods", **more: Any) -> dict[str, Any]:
    group, _, resource = plural.rpartition("/")
    target = {"resource": resource, "namespace": "shop", "name": "web", **more.pop("target", {})}
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Request",
        "stage": "ResponseComplete",
        "verb": verb,
        "requestURI": "/api/v1/namespaces/shop/pods",
        "objectRef": {**target, "apiGroup": group} if group else target,
        "responseStatus": {"code": 201},
        "requestObject": obj,
        **more,
    }


@pytest.mark.parametrize(
    ("entry", "count"),
    [
        pytest.param(event("create", pod("nginx")), 1, id="create"),
        pytest.param(event("update", pod("nginx", "nginx")), 2, id="update"),
        pytest.param(event("create", pod("nginx"), stage="RequestReceived"), 0, id="early-stage"),
        pytest.param(event("create", pod("nginx"), responseStatus={"code": 409}), 0, id="conflict"),
        pytest.param(event("create", pod("nginx"), responseStatus={"code": 403}), 0, id="forbidden"),
        pytest.param(
            event("create", pod("nginx"), responseStatus={"code": 403, "message": DENIED_BY_US}),
            1,
            id="denied-by-us",
        ),
        pytest.param(event("create", pod("nginx"), requestURI="/api/v1/pods?dryRun=All"), 0, id="dry-run"),
        pytest.param(event("update", pod("nginx"), target={"subresource": "status"}), 0, id="status"),
        pytest.param(
            event("update", pod("nginx"), target={"subresource": "ephemeralcontainers"}), 1, id="ephemeral"
        ),
        pytest.param(event("delete", None), 0, id="delete"),
        pytest.param(event("create", workload("Job", "nginx"), "batch/jobs"), 1, id="job"),
        pytest.param(
            event(
                "patch",
                {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "nginx"}]}}}},
                "apps/deployments",
            ),
            1,
            id="patch",
        ),
        pytest.param(
            event(
                "patch",
                [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "nginx"}],
                "apps/deployments",
            ),
            1,
            id="json-patch",
        ),
        pytest.param(event("patch", {"metadata": {"labels": {"a": "b"}}}), 0, id="patch-without-images"),
        pytest.param(
            event("create", {"kind": "Widget", "spec": {"image": "nginx"}}, "e.io/widgets"), 0, id="no-shape"
        ),
        pytest.param(
            event(
                "create",
                {"kind": "Widget", "spec": {"template": pod("nginx")}},
                "e.io/widgets",
            ),
            1,
            id="shape",
        ),
        pytest.param(event("create", None, "e.io/widgets"), 0, id="unknown-kind-without-object"),
    ],
)
def test_objects_in_an_audit_log_are_compared(
    command: Command, policies: tuple[Path, Path], write: Write, entry: dict[str, Any], count: int
) -> None:
    log = write(lines_of(event("create", pod("registry.corp.io/web")), entry), "log")
    found = answer(command("diff", *policies, "--audit-log", log, "--format", "json"), 1 if count else 0)
    assert changed(found) == ([("nginx", "rejected", count)] if count else [])


def test_an_audit_log_without_objects_is_refused(
    command: Command, policies: tuple[Path, Path], write: Write
) -> None:
    log = write(lines_of(event("create", pod("nginx")), event("create", None)), "log")
    done = command("diff", *policies, "--audit-log", log)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"Error: {log}: line 2: it has no requestObject: log pods at the level Request or RequestResponse\n"
    )


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        pytest.param("--images", "", "there is nothing to judge", id="no-images"),
        pytest.param("--images", "a\n \tnginx\n", "line 2: the text before the tab is not a valid", id="tab"),
        pytest.param(
            "--images",
            "nginx:1\tshop\n",
            "line 1: the text before the tab is not a valid namespace name",
            id="namespace-after-the-image",
        ),
        pytest.param("--images", b"a\n\xff\n", "line 2: not UTF-8", id="utf-8"),
        pytest.param("--images", "kind:\nspec: {}\n", "line 2: an image has no whitespace", id="manifest"),
        pytest.param("--reviews", "\n", "there is nothing to judge", id="no-reviews"),
        pytest.param("--reviews", "{}\n", "line 1: not an AdmissionReview: kind must be", id="no-review"),
        pytest.param("--reviews", '{"kind"\n', "line 1: not JSON", id="cut-review"),
        pytest.param("--audit-log", lines_of(event("get", None)), "there is nothing to judge", id="reads"),
        pytest.param("--audit-log", "{}\n", "line 1: not an event of an audit log", id="no-event"),
        pytest.param("--audit-log", "[]\n", "line 1: not an event of an audit log", id="list"),
        pytest.param(
            "--audit-log", lines_of(event("patch", "x: 1")), "line 1: its patch is not JSON", id="patch"
        ),
        pytest.param("--audit", "", "not a saved audit", id="empty-audit"),
        pytest.param("--audit", "[]", "not a saved audit", id="audit-list"),
        pytest.param("--audit", '{"counts": {"images": 1}}\n{"image": 1}\n', "line 2: not", id="audit-line"),
        pytest.param("--audit", b'{"counts": "\xff"}', "not a saved audit", id="audit-bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_exit_2(
    command: Command, policies: tuple[Path, Path], write: Write, option: str, content: Any, message: str
) -> None:
    file = write(content, "given")
    done = command("diff", *policies, option, file)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {file}: {message}")
    assert done.err.count("\n") == 1


def test_a_file_that_is_not_there_is_exit_2(command: Command, policies: tuple[Path, Path]) -> None:
    for option in ("--images", "--audit", "--audit-log", "--reviews"):
        done = command("diff", *policies, option, "/nowhere")
        assert (done.code, done.out, done.err) == (2, "", "Error: /nowhere: No such file or directory\n")


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [
        pytest.param((), 0, id="rejected-by-default"),
        pytest.param(("--fail-on", "approved"), 1, id="approved"),
        pytest.param(("--fail-on", "rewritten"), 0, id="rewritten"),
        pytest.param(("--fail-on", "rewritten,approved"), 1, id="comma"),
        pytest.param(("--fail-on", "rewritten", "--fail-on", "approved"), 1, id="twice"),
    ],
)
def test_the_failing_changes_can_be_chosen(
    command: Command, write: Write, fail_on: tuple[str, ...], code: int
) -> None:
    old, new = write(policy_text()), write(policy_text(allow="[registry.corp.io, quay.io]"), "new")
    assert command("diff", old, new, "--images", write("quay.io/x", "images"), *fail_on).code == code
    assert command("diff", old, new, "--all-images", *fail_on).code == code


GRANT: Final = "{source: namespace, images: [ghcr.io/x], longest: 1d}"
WIDER: Final = "{source: namespace, images: [ghcr.io/x, ghcr.io/y], longest: 1d}"


@pytest.mark.parametrize(
    ("old", "new", "code", "grants", "sentences"),
    [
        pytest.param(GRANT, WIDER, 1, (True, False), ["more images", "No exception"], id="wider"),
        pytest.param(WIDER, GRANT, 0, (False, True), ["No exception", "fewer images"], id="narrower"),
        pytest.param(GRANT, GRANT, 0, (False, False), ["No exception", "No exception"], id="same"),
        pytest.param("", "", 0, (False, False), [], id="none"),
    ],
)
def test_all_images_shows_what_exceptions_could_approve(
    command: Command,
    write: Write,
    old: str,
    new: str,
    code: int,
    grants: tuple[bool, bool],
    sentences: list[str],
) -> None:
    policies = [
        write(policy_text(f"exceptions: [{text}]"), name) for text, name in ((old, "old"), (new, "new"))
    ]
    arguments = ("diff", *policies, "--all-images", "--fail-on", "granted")
    found = answer(command(*arguments, "--format", "json"), code)
    assert (found["widens"], found["narrows"], found["witnesses"]) == (False, False, [])
    assert (found["grants"]["widens"], found["grants"]["narrows"]) == grants
    grant = {"index": 0, "source": "namespace"}
    expected = ("granted", None, grant) if code else ("withdrawn", grant, None)
    witnesses = [tuple(map(each.get, ("change", "old", "new"))) for each in found["grants"]["witnesses"]]
    assert witnesses == [expected][: any(grants)]
    text, page = command(*arguments), sections(command(*arguments, "--format", "html").out)
    last = [line for line in text.out.splitlines() if "xception" in line and "could approve" in line]
    assert len(last) == len(sentences)
    for line, part in zip(last, sentences, strict=True):
        assert part in line
        assert line in page["summary"]
    assert ("ghcr.io/y" in page["examples"]) == any(grants)


def test_what_exceptions_could_approve_is_known_for_all_images_only(command: Command, write: Write) -> None:
    done = command("diff", write(policy_text()), write(policy_text(), "new"), "--fail-on", "granted")
    assert (done.code, "--fail-on granted needs --all-images" in done.err) == (2, True)


def test_all_images_proves_that_a_rewording_changes_nothing(command: Command, write: Write) -> None:
    old = write(policy_text(allow="[registry.corp.io, registry.corp.io/team]"))
    new = write(policy_text(allow="['registry.corp.io/**']"), "new")
    done = command("diff", old, new, "--all-images", "--fail-on", "rejected,approved,rewritten")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-3:] == [
        "No image becomes approved.",
        "No image becomes rejected.",
        "No image is rewritten differently.",
    ]


def test_both_are_judged_at_the_same_instant(command: Command, write: Write) -> None:
    old = write(policy_text(allow="[a.io, {image: b.io, until: 2026-06-01}]"))
    new = write(policy_text(allow="[a.io]"), "new")
    assert command("diff", old, new, "--all-images", "--at", "2026-05-31").code == 1
    done = command("diff", old, new, "--all-images", "--at", "2026-06-01")
    assert done.code == 0
    assert "- allow[1] b.io (until: 2026-06-01T00:00:00Z)" in done.out


def test_the_answers_for_all_images_state_until_when_they_hold(command: Command, write: Write) -> None:
    old = write(policy_text("deny: [{image: a.io/x, until: 2030-01-01}]", allow="[a.io]"))
    new = write(policy_text("deny: [{image: a.io/x, until: 2029-01-01}]", allow="[a.io]"), "new")
    at = ("--all-images", "--fail-on", "approved", "--at")
    done = command("diff", old, new, *at, "2028-12-31")
    assert done.code == 0
    assert "No image becomes approved." in done.out
    assert done.out.splitlines()[-1].startswith("These answers hold until 2029-01-01T00:00:00Z,")
    done = command("diff", old, new, *at, "2029-01-01")
    assert done.code == 1
    assert done.out.splitlines()[-1].startswith("These answers hold until 2030-01-01T00:00:00Z,")
    assert "hold until" not in command("diff", old, new, *at, "2030-01-01").out


def test_a_comparison_that_would_take_too_long_gives_no_answer(command: Command, write: Write) -> None:
    stars = [f"'a.io/*{a}*{b}*{c}*'" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx"]
    old, new = write(policy_text()), write(policy_text(allow=f"[{', '.join(stars)}]"), "new")
    done = command("diff", old, new, "--all-images")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"Error: no exact answer: too many combinations of [^\n]+\n", done.err)


def test_a_hostile_image_drives_no_terminal(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.add(PODS, named(pod("\x1b[2Jx"), "evil\x1b"))
    new = policies[1]
    new.write_text(policy_text(mode="mutate"))
    done = command("diff", *policies, "--kubeconfig", cluster.kubeconfig(tmp_path))
    assert "\x1b" not in done.out


def test_a_forbidden_list_is_one_line_and_exit_2(
    command: Command, policies: tuple[Path, Path], cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.script["/apis/batch/v1/jobs"].append(status(403, "jobs.batch is forbidden"))
    done = command("diff", *policies, "--kubeconfig", cluster.kubeconfig(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "Error: cannot list jobs.batch in all namespaces: 403 Forbidden: jobs.batch is forbidden\n"
    )


def test_a_field_that_only_one_policy_declares(
    command: Command, cluster: FakeCluster, tmp_path: Path, write: Write
) -> None:
    cluster.documents["/apis/argoproj.io"] = {"versions": [{"version": "v1"}]}
    cluster.documents["/apis/argoproj.io/v1"] = {
        "resources": [{"name": "workflows", "kind": "Workflow", "namespaced": True, "verbs": ["list"]}]
    }
    cluster.add("/apis/argoproj.io/v1/workflows", named({"spec": {"image": "ghcr.io/a/b"}}, "build"))
    more = "resources:\n  - {group: argoproj.io, kind: Workflow, images: [spec.image]}\n"
    old, new = write(policy_text()), write(policy_text(more), "new")
    kubeconfig = ("--kubeconfig", cluster.kubeconfig(tmp_path), "--format", "json")
    found = answer(command("diff", old, new, *kubeconfig), 1)
    assert changed(found) == [("ghcr.io/a/b", "rejected", 1)]
    assert found["rules"]["added"] == [
        {"list": "resources", "group": "argoproj.io", "kind": "Workflow", "images": ["spec.image"]}
    ]
    back = answer(command("diff", new, old, *kubeconfig), 0)
    assert changed(back) == [("ghcr.io/a/b", "approved", 1)]
    assert back["images"][0]["detail"] == "the new policy does not declare this field"
