"""``diff``: the effect of a policy change on running images and on all possible images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.core.compare import difference
from support.builders import (
    HUB_TO_CORP,
    exceptions_text,
    keys_text,
    named,
    pod,
    policy_text,
    review,
    workload,
)
from support.commanding import Command, Done, Write
from support.fakecluster import FakeCluster, status
from support.paging import sections

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


def counts(**others: int) -> dict[str, int]:
    """Return the counts of an answer; those that are not given are 0."""
    names = ("rejected", "approved", "rewritten", "unchanged", "warned", "newlyRefused", "newlyWarned")
    return dict.fromkeys(names, 0) | others


def changed(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(each["image"], each["change"], each["count"]) for each in found["images"]]


def test_exempt_namespaces_do_not_change_and_can_be_chosen(compared: Compared, write: Write) -> None:
    assert changed(compared("-n", "kube-system", code=0)) == []
    chosen = compared("-n", "kube-system", "--exempt-namespace", "shop")
    assert changed(chosen) == [("nginx:1", "rejected", 1)]
    settings = write("exemptNamespaceLabels: {tier: platform}\n", "webhooks.yaml")
    found = compared("--webhooks-config", settings, code=0)
    assert changed(found) == [("quay.io/team/tool:2", "approved", 1)]


LIVE: Final = ("--configmap", "guard/policy")
CONFIGMAPS: Final = "/api/v1/namespaces/guard/configmaps"


def test_with_a_live_policy_the_live_settings_define_the_exemptions(
    diff: Diff, compared: Compared, cluster: FakeCluster
) -> None:
    cluster.documents[f"{CONFIGMAPS}/policy"] = {"data": {"policy.yaml": OLD}}
    settings = f"{CONFIGMAPS}/gatekeeper-py-webhooks"
    cluster.documents[settings] = {"data": {"webhooks.yaml": "exemptNamespaceLabels: {tier: platform}"}}
    assert changed(compared(*LIVE, old=None, code=0)) == [("quay.io/team/tool:2", "approved", 1)]
    given = compared(*LIVE, "--exempt-namespace", "bank", old=None)
    assert changed(given) == [("nginx:1", "rejected", 4)]
    cluster.script[settings].append(status(403, "configmaps is forbidden"))
    assert "Note: not all exempt namespaces are known" in diff(*LIVE, old=None).err


def test_the_old_policy_may_be_live(compared: Compared, write: Write, cluster: FakeCluster) -> None:
    cluster.documents[f"{CONFIGMAPS}/policy"] = {"data": {"policy.yaml": OLD, "mode": "warn"}}
    found = compared(*LIVE, old=None)
    assert found["rules"]["changed"] == [{"list": "mode", "old": "warn", "new": "enforce"}]
    assert changed(found)[0] == ("nginx:1", "rejected", 3)
    found = compared(*LIVE, "--all-images", old=None)
    assert (found["widens"], found["narrows"]) == (True, True)
    found = compared(*LIVE, "--images", write("nginx:1\n", "images"), old=None)
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
    diff: Diff, write: Write, cluster: FakeCluster, held: str, expected: list[tuple[str, str, int]], live: str
) -> None:
    grants = "exceptions: [{{source: {}, images: [docker.io/**, quay.io/**], longest: 400d}}]\n"
    old, new = (policy_text(grants.format(source)) for source in ("namespace", "installation"))
    options: list[object] = ["--at", "2026-03-01", "--format", "json"]
    if live != "images":
        cluster.documents[f"{CONFIGMAPS}/policy"] = {"data": {"policy.yaml": old}}
        options += LIVE
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
    done = diff(*options, old=old if live == "images" else None, new=new)
    assert changed(json.loads(done.out)) == expected
    assert ("Note: some exceptions in the cluster are ignored" in done.err) == (held == "forbidden")
    assert any("fieldSelector" in query for _, query in cluster.requests) == (held != "given")


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


def test_a_template_is_judged_after_its_mirror(compared: Compared) -> None:
    live = compared(new=policy_text(HUB_TO_CORP, mode="mutate"))
    assert changed(live) == [("nginx:1", "rejected", 2), ("nginx:1", "rewritten", 1)]
    assert live["images"][1]["detail"] == "registry.corp.io/dockerhub/library/nginx:1"
    assert live["counts"] == counts(rejected=1, rewritten=1, unchanged=2)


def test_a_saved_audit_of_an_earlier_version_has_no_meta(compared: Compared, write: Write) -> None:
    usage = {"kind": "Pod", "namespace": "shop", "name": "web", "path": "spec.containers[0].image"}
    number, image = {"counts": {"images": 1}}, {"image": "nginx:1", "objects": [usage]}
    for text in (json.dumps({**number, "images": [image]}), lines_of(number, image)):
        found = compared("--audit", write(text, "saved"))
        assert changed(found) == [("nginx:1", "rejected", 1)]
        assert found["images"][0]["objects"] == [{**usage, "mode": "enforce"}]
        assert found["meta"]["cluster"] is None
        assert "audits" not in found["meta"]


def test_the_answer_states_where_it_comes_from(
    diff: Diff, compared: Compared, write: Write, tmp_path: Path
) -> None:
    at = ("--at", "2027-01-01", "--cluster-name", "prod")
    policies = [str(tmp_path / name) for name in ("old.yaml", "new.yaml")]
    for images in (("--all-images",), ("--images", write("nginx:1\n", "images"))):
        meta = compared(*images, *at)["meta"]
        assert (meta["cluster"], meta["at"]) == ("prod", "2027-01-01T00:00:00Z")
        assert [meta["oldPolicy"]["source"], meta["policy"]["source"]] == policies
        for style in ("table", "html"):
            out = diff(*images, *at, "--format", style).out
            assert f"cluster prod, policy {policies[0]} (revision {meta['oldPolicy']['revision']}) -" in out


@pytest.mark.parametrize(
    ("modes", "key", "sentence"),
    [
        (("warn", "enforce"), "newlyRefused", "NEW refuses 1 image in places where OLD only"),
        (("enforce", "warn"), "newlyWarned", "NEW only warns about 1 image in places where OLD"),
    ],
    ids=["enforce", "warn"],
)
def test_another_mode_changes_no_verdict_but_is_stated(
    diff: Diff, compared: Compared, write: Write, modes: tuple[str, str], key: str, sentence: str
) -> None:
    override = "namespaces: [{names: [prod], mode: enforce}]"
    old, new = (policy_text(override, mode=mode) for mode in modes)
    images = write("shop\tnginx:1\nprod\tnginx:2\nshop\tregistry.corp.io/x\nkube-system\tnginx:3\n", "images")
    found = compared("--images", images, old=old, new=new, code=0)
    assert found["counts"] == counts(unchanged=4, **{key: 1})
    assert sentence in diff("--images", images, old=old, new=new).out
    page = sections(diff("--images", images, "--format", "html", old=old, new=new).out)["summary"]
    assert "No image becomes approved or rejected, but the mode changes." in page
    assert sentence in page


def test_images_that_only_cause_warnings_are_counted(diff: Diff, compared: Compared, write: Write) -> None:
    new = policy_text("namespaces: [{names: [dev], mode: warn}]")
    images = ("--images", write("dev\tnginx:1\nshop\tnginx:2\n", "images"))
    found = compared(*images, new=new)
    assert (found["counts"]["rejected"], found["counts"]["warned"]) == (2, 1)
    assert [each["objects"][0]["mode"] for each in found["images"]] == ["warn", "enforce"]
    assert "2 images: 2 rejected (1 only warned about), " in diff(*images, new=new).out
    page = sections(diff(*images, "--format", "html", new=new).out)["summary"]
    assert "Rejected: 1 refused, and 1 only warned about." in page


@pytest.mark.parametrize("recorded", ["--audit", "--images"])
def test_a_file_without_images_of_the_namespace_is_refused(
    diff: Diff, saved: Write, write: Write, recorded: str
) -> None:
    """A misspelled namespace must not look like a harmless change."""
    file = saved("--all", "--format", "json") if recorded == "--audit" else write("shop\tnginx:1\n", "saved")
    done = diff(recorded, file, "-n", "shopp")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: {file}: there is nothing to judge in the namespace shopp\n"
    assert diff(recorded, file, "-n", "shop").code == 1


def test_a_saved_audit_of_an_empty_cluster_is_a_complete_answer(
    compared: Compared, saved: Write, cluster: FakeCluster
) -> None:
    for objects in cluster.lists.values():
        objects.clear()
    found = compared("--audit", saved("--all", "--format", "json"), code=0)
    assert set(found["counts"].values()) == {0}


def test_an_audit_that_leaves_images_out_is_refused(diff: Diff, saved: Write) -> None:
    file = saved("--format", "json")
    done = diff("--audit", file)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"Error: {file}: it lists 1 of the 4 images that were audited; "
        "make it with: audit --all --format json\n"
    )


def test_a_list_of_images_may_name_namespaces(compared: Compared, write: Write) -> None:
    old, new = (policy_text(allow=f"[{{image: a.io, namespaces: [{name}]}}]") for name in ("shop", "bank"))
    images = write("# what runs\r\na.io/x\nshop\ta.io/x:1\n\nbank\ta.io/x:2\n", "images")
    found = compared("--images", images, old=old, new=new)
    assert changed(found) == [("a.io/x:1", "rejected", 1), ("a.io/x:2", "approved", 1)]
    assert found["images"][0]["objects"] == [
        {"kind": "", "namespace": "shop", "name": "", "path": "line 3", "mode": "enforce"}
    ]
    assert found["counts"] == counts(rejected=1, approved=1, unchanged=1)
    assert [change["old"]["namespaces"] for change in found["rules"]["changed"]] == [["shop"]]
    found = compared("--images", images, "-n", "bank", old=old, new=new, code=0)
    assert changed(found) == [("a.io/x", "approved", 1), ("a.io/x:2", "approved", 1)]


def test_images_may_come_from_stdin(diff: Diff) -> None:
    done = diff("--images", "-", stdin="nginx\n")
    assert done.code == 1
    assert "nginx  rejected  enforce      1  matches no rule  line 1" in done.out


def lines_of(*documents: Any) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


def test_reviews_are_judged_as_the_webhook_judges_them(compared: Compared, write: Write) -> None:
    reviews = lines_of(
        review(pod("nginx")),
        review(pod("nginx", "quay.io/team/x"), operation="UPDATE", old=pod("nginx")),
        review(None, kind=("", "Pod"), operation="DELETE", old=pod("nginx")),
        review(workload("CronJob", "nginx"), namespace="bank"),
    )
    found = compared("--reviews", write(reviews, "reviews"))
    assert changed(found) == [("nginx", "rejected", 2), ("quay.io/team/x", "approved", 1)]


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
        pytest.param("--audit", '{"counts": {"images": 1}}\n{"image": 1}\n', "line 2: not", id="audit-line"),
        pytest.param("--audit", b'{"counts": "\xff"}', "not a saved audit", id="audit-bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_exit_2(
    diff: Diff, write: Write, option: str, content: Any, message: str
) -> None:
    file = write(content, "given")
    done = diff(option, file)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {file}: {message}")
    assert done.err.count("\n") == 1


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
    diff: Diff, write: Write, fail_on: tuple[str, ...], code: int
) -> None:
    for images in (("--images", write("quay.io/x", "images")), ("--all-images",)):
        done = diff(
            *images, *fail_on, old=policy_text(), new=policy_text(allow="[registry.corp.io, quay.io]")
        )
        assert done.code == code


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
    diff: Diff,
    compared: Compared,
    old: str,
    new: str,
    code: int,
    grants: tuple[bool, bool],
    sentences: list[str],
) -> None:
    policies = {name: policy_text(f"exceptions: [{text}]") for name, text in (("old", old), ("new", new))}
    arguments = ("--all-images", "--fail-on", "granted")
    found = compared(*arguments, code=code, **policies)
    assert (found["widens"], found["narrows"], found["witnesses"]) == (False, False, [])
    assert (found["grants"]["widens"], found["grants"]["narrows"]) == grants
    grant = {"index": 0, "source": "namespace"}
    expected = ("granted", None, grant) if code else ("withdrawn", grant, None)
    witnesses = [tuple(map(each.get, ("change", "old", "new"))) for each in found["grants"]["witnesses"]]
    assert witnesses == [expected][: any(grants)]
    text, page = diff(*arguments, **policies), sections(diff(*arguments, "-o", "html", **policies).out)
    last = [line for line in text.out.splitlines() if "xception" in line and "could approve" in line]
    assert len(last) == len(sentences)
    for line, part in zip(last, sentences, strict=True):
        assert part in line
        assert line in page["summary"]
    assert ("ghcr.io/y" in page["examples"]) == any(grants)


def test_all_images_proves_that_a_rewording_changes_nothing(diff: Diff) -> None:
    old = policy_text(allow="[registry.corp.io, registry.corp.io/team]")
    new = policy_text(allow="['registry.corp.io/**']")
    done = diff("--all-images", "--fail-on", "rejected,approved,rewritten", old=old, new=new)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-3:] == [
        "No image becomes approved.",
        "No image becomes rejected.",
        "No image is rewritten differently.",
    ]


def test_both_are_judged_at_the_same_instant(diff: Diff) -> None:
    policies = {
        "old": policy_text(allow="[a.io, {image: b.io, until: 2026-06-01}]"),
        "new": policy_text(allow="[a.io]"),
    }
    assert diff("--all-images", "--at", "2026-05-31", **policies).code == 1
    done = diff("--all-images", "--at", "2026-06-01", **policies)
    assert done.code == 0
    assert "- allow[1] b.io (until: 2026-06-01T00:00:00Z)" in done.out


@pytest.mark.parametrize(
    ("at", "code", "until"), [("2028-12-31", 0, "2029"), ("2029-01-01", 1, "2030"), ("2030-01-01", 0, "")]
)
def test_the_answers_for_all_images_state_until_when_they_hold(
    diff: Diff, at: str, code: int, until: str
) -> None:
    old, new = (
        policy_text(f"deny: [{{image: a.io/x, until: {year}-01-01}}]", allow="[a.io]")
        for year in (2030, 2029)
    )
    done = diff("--all-images", "--fail-on", "approved", "--at", at, old=old, new=new)
    assert done.code == code
    last = done.out.splitlines()[-1]
    assert last.startswith(f"These answers hold until {until}-01-01T00:00:00Z,") == bool(until)


def test_a_comparison_that_would_take_too_long_gives_no_answer(
    diff: Diff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "MAX_COMBINATIONS", 3)
    done = diff("--all-images", new=policy_text(allow="[a.io/x, a.io/y, 'a.io/z:v*', 'a.io/z:*1']"))
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"Error: no exact answer: too many combinations of [^\n]+\n", done.err)


def test_a_field_that_only_one_policy_declares(compared: Compared, cluster: FakeCluster) -> None:
    cluster.documents["/apis/argoproj.io"] = {"versions": [{"version": "v1"}]}
    cluster.documents["/apis/argoproj.io/v1"] = {
        "resources": [{"name": "workflows", "kind": "Workflow", "namespaced": True, "verbs": ["list"]}]
    }
    cluster.add("/apis/argoproj.io/v1/workflows", named({"spec": {"image": "ghcr.io/a/b"}}, "build"))
    declares = policy_text("resources:\n  - {group: argoproj.io, kind: Workflow, images: [spec.image]}\n")
    found = compared(old=policy_text(), new=declares)
    assert changed(found) == [("ghcr.io/a/b", "rejected", 1)]
    assert found["rules"]["added"] == [
        {"list": "resources", "group": "argoproj.io", "kind": "Workflow", "images": ["spec.image"]}
    ]
    back = compared(old=declares, new=policy_text(), code=0)
    assert changed(back) == [("ghcr.io/a/b", "approved", 1)]
    assert back["images"][0]["detail"] == "the new policy does not declare this field"


UNSIGNED: Final = "require: [{images: [registry.corp.io], digest: true}]\n"
SIGNED: Final = f"require: [{{images: [registry.corp.io], signedBy: [ci-2025, ci-2026]}}]\n{keys_text()}"


@pytest.mark.parametrize(
    ("old", "new", "code", "sentences"),
    [
        pytest.param(
            SIGNED,
            UNSIGNED,
            1,
            ["Some images get weaker requirements.", "No image gets stricter requirements."],
            id="less",
        ),
        pytest.param(
            UNSIGNED,
            SIGNED,
            0,
            ["No image gets weaker requirements.", "Some images get stricter requirements."],
            id="more",
        ),
        pytest.param(
            SIGNED,
            SIGNED,
            0,
            ["No image gets weaker requirements.", "No image gets stricter requirements."],
            id="same",
        ),
        pytest.param("", "", 0, [], id="none"),
    ],
)
def test_all_images_shows_what_is_required(
    diff: Diff, compared: Compared, old: str, new: str, code: int, sentences: list[str]
) -> None:
    policies = {"old": policy_text(old), "new": policy_text(new)}
    arguments = ("--all-images", "--fail-on", "approved")
    found = compared(*arguments, code=code, **policies)
    assert found["widens"] == bool(code)
    expected = {("less" if code else "more") + "-required"} if old != new else set()
    assert {witness["change"] for witness in found["witnesses"]} == expected
    for witness in found["witnesses"]:
        assert (witness["before"], witness["after"]) == ("approved", "approved")
        shown = {"list": "require", "index": 0, "image": "registry.corp.io"}
        assert witness["old"].items() >= shown.items() <= witness["new"].items()
    text, page = diff(*arguments, **policies), sections(diff(*arguments, "-o", "html", **policies).out)
    assert [line for line in text.out.splitlines() if line.endswith(" requirements.")] == sentences
    assert all(sentence in page["summary"] for sentence in sentences)
    assert diff("--all-images", **policies).code == (
        1 if "Some images get stricter requirements." in sentences else 0
    )
