"""``test``: policy tests, their expectations, and the reasons for failures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from gatekeeper_py.cli.inputs.testfile import read_tests
from support.builders import HUB_TO_CORP, pod, policy_text, workload
from support.commanding import Command, Done, Write
from support.findings import check_findings, golden

Tested = Callable[..., Done]

HEAD: Final = {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicyTest"}
POLICY = policy_text(
    HUB_TO_CORP + "deny: ['*/**:latest']\nnamespaces: [{names: [dev], mode: warn}]\n"
    "require:\n"
    "  - {images: [registry.corp.io/pinned/**], digest: true}\n"
    "  - {images: [registry.corp.io/soon/**], digest: true, mode: warn}\n",
    allow="[registry.corp.io, {image: quay.io/tools/**, namespaces: [ci], until: 2030-01-01}]",
)


@pytest.fixture
def tested(command: Command, write: Write) -> Tested:
    """Return a function that runs cases by a policy. A manifest may be given as its objects."""
    write(POLICY)

    def tested(*cases: dict[str, Any], options: Sequence[object] = (), **more: Any) -> Done:
        for case in cases:
            if isinstance(case.get("manifest"), list):
                case["manifest"] = write(yaml.safe_dump_all(case["manifest"]), "objects.yaml").name
        fields = {"policy": "policy.yaml", "cases": list(cases), **more}
        return command("test", write(yaml.safe_dump(HEAD | fields, sort_keys=False), "tests.yaml"), *options)

    return tested


MIRRORED = "registry.corp.io/dockerhub/library/nginx:1"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            {"image": "registry.corp.io/a:1", "expect": "approved", "reason": "allowed"}, id="allowed"
        ),
        pytest.param({"image": "nginx:1", "expect": "rejected", "reason": "unlisted"}, id="unlisted"),
        pytest.param({"image": "registry.corp.io/a", "expect": "rejected", "reason": "denied"}, id="denied"),
        pytest.param(
            {"image": "registry.corp.io/pinned/a:1", "expect": "rejected", "reason": "unpinned"},
            id="unpinned",
        ),
        pytest.param(
            {"image": "registry.corp.io/soon/a:1", "expect": "approved", "reason": "allowed"},
            id="only-warned",
        ),
        pytest.param({"image": "", "expect": "rejected", "reason": "invalid"}, id="empty"),
        pytest.param({"image": "a b", "expect": "rejected", "reason": "invalid"}, id="invalid"),
        pytest.param({"image": "quay.io/tools/x:1", "expect": "rejected"}, id="no-namespace"),
        pytest.param({"image": "quay.io/tools/x:1", "namespace": "ci", "expect": "approved"}, id="namespace"),
        pytest.param(
            {"image": "quay.io/tools/x:1", "namespace": "ci", "at": "2030-01-01", "expect": "rejected"},
            id="expired",
        ),
        pytest.param(
            {"image": "nginx:1", "mode": "mutate", "expect": "rejected", "rewritten": MIRRORED},
            id="rewritten",
        ),
        pytest.param({"image": "nginx:1", "expect": "rejected", "rewritten": None}, id="not-outside-mutate"),
        pytest.param(
            {
                "image": "nginx:1",
                "mode": "mutate",
                "namespace": "dev",
                "expect": "rejected",
                "rewritten": None,
            },
            id="override-on-top",
        ),
    ],
)
def test_cases_of_images_pass(tested: Tested, case: dict[str, Any]) -> None:
    done = tested(case)
    assert (done.code, done.out, done.err) == (0, "1 case: 1 passed, 0 failed\n", "")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        pytest.param(
            {"image": "quay.io/tools/x:1", "expect": "approved"},
            "  expected approved, but it is rejected: quay.io/tools/x matches no rule\n"
            "  near miss: allow[1] quay.io/tools/**: the namespace is none, the rule is for ci\n"
            "  near miss: allow[0] registry.corp.io: "
            "the registry is quay.io, the rule requires registry.corp.io\n",
            id="verdict",
        ),
        pytest.param(
            {"image": "nginx:1", "expect": "rejected", "reason": "denied"},
            "  expected the reason denied, but it is unlisted: docker.io/library/nginx matches no rule\n",
            id="reason",
        ),
        pytest.param(
            {"image": "nginx:1", "expect": "rejected", "rewritten": MIRRORED},
            f"  expected the rewrite {MIRRORED}, but it stays as written in mode enforce\n",
            id="stays",
        ),
        pytest.param(
            {"image": "nginx:1", "mode": "mutate", "expect": "rejected", "rewritten": None},
            f"  expected no rewrite, but it becomes {MIRRORED}\n",
            id="rewrite",
        ),
    ],
)
def test_a_failure_states_its_reason(
    tested: Tested, tmp_path: Path, case: dict[str, Any], message: str
) -> None:
    done = tested(case | {"name": "it works"})
    assert (done.code, done.err) == (1, "")
    file = tmp_path / "tests.yaml"
    assert done.out == f"failed {file}:5 it works\n{message}1 case: 0 passed, 1 failed\n"


UNDECLARED = {
    "apiVersion": "example.com/v1",
    "kind": "Tool",
    "metadata": {"name": "t"},
    "spec": {"image": "x"},
}


@pytest.mark.parametrize(
    ("objects", "case"),
    [
        pytest.param([pod("registry.corp.io/a:1")], {"expect": "admitted"}, id="admitted"),
        pytest.param([pod("nginx:1")], {"expect": "rejected"}, id="rejected"),
        pytest.param([pod("nginx:1")], {"expect": "warned", "mode": "warn"}, id="warned"),
        pytest.param([pod("registry.corp.io/soon/a:1")], {"expect": "warned"}, id="warned-by-a-requirement"),
        pytest.param(
            [pod("nginx:1")], {"expect": "rewritten", "mode": "mutate", "images": [MIRRORED]}, id="rewritten"
        ),
        pytest.param(
            [workload("Job", "nginx:1")],
            {"expect": "admitted", "mode": "mutate", "images": ["nginx:1"]},
            id="job",
        ),
        pytest.param(
            [workload("Job", "quay.io/tools/x:1")], {"expect": "admitted", "namespace": "ci"}, id="namespace"
        ),
        pytest.param(
            [pod("registry.corp.io/a:1"), pod("nginx:1")],
            {"expect": "rejected", "images": ["nginx:1", "registry.corp.io/a:1"]},
            id="the-worst-counts",
        ),
        pytest.param(
            [UNDECLARED, pod("registry.corp.io/a:1")], {"expect": "admitted"}, id="beside-an-undeclared-kind"
        ),
    ],
)
def test_cases_of_manifests_pass(tested: Tested, objects: list[Any], case: dict[str, Any]) -> None:
    done = tested({"manifest": objects, **case})
    assert (done.code, done.out) == (0, "1 case: 1 passed, 0 failed\n"), done.out


def test_a_manifest_that_fails_names_its_objects_and_images(tested: Tested) -> None:
    objects = [pod("nginx:1", "registry.corp.io/soon/a:1")]
    done = tested({"manifest": objects, "expect": "admitted", "images": ["a.io/x"]})
    assert done.code == 1
    why = f"nginx:1 is not approved: docker.io/library/nginx matches no rule; use {MIRRORED}"
    assert done.out.splitlines()[1:] == [
        "  expected admitted, but it is rejected",
        f'  Pod shop/web: container "c0" (spec.containers[0].image): {why}',
        "  Pod shop/web: spec.containers[1].image: registry.corp.io/soon/a:1 is unpinned: it needs a digest",
        "  expected the images a.io/x, but they are nginx:1, registry.corp.io/soon/a:1",
        "1 case: 0 passed, 1 failed",
    ]


NAMED: Final = {"metadata": {"name": "x"}}


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (UNDECLARED, "the policy declares no images of Tool"),
        ({"apiVersion": "v1", "kind": "ConfigMap", **NAMED}, "the objects hold none"),
        (
            {"apiVersion": "apps/v1", "kind": "Deployment", **NAMED, "spec": {"template": {}}},
            "the objects hold none",
        ),
    ],
    ids=["undeclared", "no-workload", "no-containers"],
)
def test_a_case_in_which_no_image_is_judged_fails(tested: Tested, obj: dict[str, Any], why: str) -> None:
    done = tested({"manifest": [obj], "expect": "admitted"})
    assert done.code == 1
    assert f"  no image was judged: {why}" in done.out.splitlines()


def test_json_and_junit(tested: Tested, tmp_path: Path) -> None:
    good = {"image": "registry.corp.io/a:1", "expect": "approved"}
    bad = {"image": "nginx\x01", "expect": "approved"}
    tested(good)
    files = [(tmp_path / "tests.yaml").rename(tmp_path / "more.yaml")]
    found = json.loads(tested(good, bad, options=[*files, "--format", "json"]).out)
    assert (found["ok"], found["counts"]) == (False, {"passed": 2, "failed": 1})
    assert [(Path(each["file"]).name, each["case"], each["passed"]) for each in found["cases"]] == [
        ("tests.yaml", 0, True), ("tests.yaml", 1, False), ("more.yaml", 0, True),
    ]  # fmt: skip
    assert list(found["cases"][1]) == [
        "file", "line", "case", "name", "passed", "expected", "actual", "failures",
    ]  # fmt: skip
    suites = ET.fromstring(tested(good, bad, options=[*files, "--format", "junit"]).out)
    assert (suites.get("tests"), suites.get("failures")) == ("3", "1")
    assert [suite.get("tests") for suite in suites] == ["2", "1"]


@pytest.mark.parametrize("name", golden("test"))
def test_the_problems_of_a_file_are_as_recorded(
    command: Command,
    write: Write,
    name: str,
    update_golden: bool,  # noqa: FBT001
) -> None:
    file = write(golden("test")[name]["text"], "tests.yaml")
    check_findings("test", name, read_tests(str(file)).errors, update=update_golden)
    done = command("test", file)
    assert (done.code, done.out) == (2, "")
    assert f"{file}:" in done.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"policy": "nowhere.yaml"}, "nowhere.yaml: No such file or directory"),
        ({"policy": "bad.yaml"}, "bad.yaml:1:1"),
        ({"cases": [{"manifest": "nowhere", "expect": "admitted"}]}, "tests.yaml, line 5)\n"),
    ],
    ids=["policy", "bad-policy", "manifest"],
)
def test_files_that_are_named_and_cannot_be_read_are_exit_2(
    tested: Tested, write: Write, more: dict[str, Any], message: str
) -> None:
    write("a: b", "bad.yaml")
    done = tested({"image": "a", "expect": "rejected"}, **more)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_stdin_is_relative_to_the_working_directory(
    command: Command, tested: Tested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested({"image": "registry.corp.io/a:1", "expect": "approved"})
    monkeypatch.chdir(tmp_path)
    assert command("test", "-", stdin=(tmp_path / "tests.yaml").read_text()).code == 0


def test_a_file_named_like_stdin_is_read_beside_the_tests(
    command: Command, tested: Tested, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for content, fields in (
        (policy_text(), {"policy": "-", "cases": [{"image": "registry.corp.io/a", "expect": "approved"}]}),
        (json.dumps(pod("registry.corp.io/a:1")), {"cases": [{"manifest": "-", "expect": "admitted"}]}),
    ):
        write(content, "-")
        tested(**fields)
        done = command("test", "tests.yaml", stdin="")
        assert (done.code, done.err) == (0, "")


def test_the_schema_accepts_what_the_command_accepts(command: Command) -> None:
    schema = json.loads(command("schema", "--for", "test").out)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    head = HEAD | {"policy": "policy.yaml", "exceptions": ["exceptions.yaml"]}
    good = [
        {"image": "a", "expect": "rejected", "reason": "invalid", "rewritten": None, "mode": "warn"},
        {"manifest": "b", "expect": "warned", "images": ["x"], "namespace": "shop", "at": "2026-01-01"},
    ]
    assert valid({**head, "cases": good})
    for bad in (
        {"image": "a", "expect": "admitted"},
        {"expect": "rejected"},
        {"image": "a", "manifest": "b"},
    ):
        assert not valid({**head, "cases": [bad]})


@pytest.mark.parametrize(
    ("settings", "expect"), [("", "rejected"), ("exemptNamespaceLabels: {tier: platform}", "admitted")]
)
def test_the_settings_of_the_webhooks_define_the_exemptions(
    tested: Tested, write: Write, settings: str, expect: str
) -> None:
    metadata = {"name": "shop", "labels": {"tier": "platform"}}
    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, pod("nginx:1")]
    options = ["--webhooks-config", write(settings, "webhooks.yaml")]
    done = tested({"manifest": objects, "expect": expect}, options=options)
    assert (done.code, done.err) == (0, "")
    options = ["--webhooks-config", write("pods: {colour: red}", "webhooks.yaml")]
    assert tested({"manifest": objects, "expect": expect}, options=options).code == 2
