"""``test``: policy tests, their expectations, and the reasons for failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from builders import HUB_TO_CORP, pod, policy_text, workload
from commanding import Command, Write
from findings import check_findings, golden
from gatekeeper_py.inputs.testfile import read_tests

POLICY = policy_text(
    HUB_TO_CORP + "deny: ['*/**:latest']\nnamespaces: [{names: [dev], mode: warn}]\n",
    allow="[registry.corp.io, {image: quay.io/tools/**, namespaces: [ci], until: 2030-01-01}]",
)


@pytest.fixture
def cases(write: Write) -> Any:
    """Return a function that writes a policy and a test file, and returns the test file's path."""
    write(POLICY)

    def cases(*given: dict[str, Any], name: str = "tests.yaml", **more: Any) -> Path:
        document = {
            "apiVersion": "gatekeeper-py/v1",
            "kind": "ImagePolicyTest",
            "policy": "policy.yaml",
            "cases": list(given),
            **more,
        }
        return write(yaml.safe_dump(document, sort_keys=False), name)

    return cases


MIRRORED = "registry.corp.io/dockerhub/library/nginx:1"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            {"image": "registry.corp.io/a:1", "expect": "approved", "reason": "allowed"}, id="allowed"
        ),
        pytest.param({"image": "nginx:1", "expect": "rejected", "reason": "unlisted"}, id="unlisted"),
        pytest.param({"image": "registry.corp.io/a", "expect": "rejected", "reason": "denied"}, id="denied"),
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
def test_cases_of_images_pass(command: Command, cases: Any, case: dict[str, Any]) -> None:
    done = command("test", cases(case))
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
    command: Command, cases: Any, case: dict[str, Any], message: str
) -> None:
    file = cases(case | {"name": "it works"})
    done = command("test", file)
    assert (done.code, done.err) == (1, "")
    assert done.out == f"failed {file}:5 it works\n{message}1 case: 0 passed, 1 failed\n"


@pytest.mark.parametrize(
    ("obj", "case"),
    [
        pytest.param(pod("registry.corp.io/a:1"), {"expect": "admitted"}, id="admitted"),
        pytest.param(pod("nginx:1"), {"expect": "rejected"}, id="rejected"),
        pytest.param(pod("nginx:1"), {"expect": "warned", "mode": "warn"}, id="warned"),
        pytest.param(
            pod("nginx:1"), {"expect": "rewritten", "mode": "mutate", "images": [MIRRORED]}, id="rewritten"
        ),
        pytest.param(
            workload("Job", "nginx:1"),
            {"expect": "admitted", "mode": "mutate", "images": ["nginx:1"]},
            id="job",
        ),
        pytest.param(
            workload("Job", "quay.io/tools/x:1"), {"expect": "admitted", "namespace": "ci"}, id="namespace"
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "List", "items": [pod("registry.corp.io/a:1"), pod("nginx:1")]},
            {"expect": "rejected", "images": ["nginx:1", "registry.corp.io/a:1"]},
            id="the-worst-counts",
        ),
    ],
)
def test_cases_of_manifests_pass(
    command: Command, cases: Any, write: Write, obj: Any, case: dict[str, Any]
) -> None:
    write(json.dumps(obj), "object.json")
    done = command("test", cases({"manifest": "object.json", **case}))
    assert (done.code, done.out) == (0, "1 case: 1 passed, 0 failed\n"), done.out


def test_a_manifest_that_fails_names_its_objects_and_images(
    command: Command, cases: Any, write: Write
) -> None:
    write(json.dumps(pod("nginx:1")), "pod.json")
    done = command("test", cases({"manifest": "pod.json", "expect": "admitted", "images": ["a.io/x"]}))
    assert done.code == 1
    why = f"nginx:1 is not approved: docker.io/library/nginx matches no rule; use {MIRRORED}"
    assert done.out.splitlines()[1:] == [
        "  expected admitted, but it is rejected",
        f'  Pod shop/web: container "c0" (spec.containers[0].image): {why}',
        "  expected the images a.io/x, but they are nginx:1",
        "1 case: 0 passed, 1 failed",
    ]


UNDECLARED = {
    "apiVersion": "example.com/v1",
    "kind": "Tool",
    "metadata": {"name": "t"},
    "spec": {"image": "x"},
}


def test_a_case_in_which_no_image_is_judged_fails(command: Command, cases: Any, write: Write) -> None:
    write(json.dumps(UNDECLARED), "tool.json")
    done = command("test", cases({"manifest": "tool.json", "expect": "admitted"}))
    assert done.code == 1
    assert "  no image was judged: the policy declares no images of Tool" in done.out.splitlines()


@pytest.mark.parametrize(
    ("kind", "template"),
    [
        pytest.param({"apiVersion": "v1", "kind": "ConfigMap"}, {}, id="no-workload"),
        pytest.param({"apiVersion": "apps/v1", "kind": "Deployment"}, {"template": {}}, id="no-containers"),
    ],
)
def test_a_case_whose_objects_hold_no_image_fails(
    command: Command, cases: Any, write: Write, kind: dict[str, str], template: dict[str, Any]
) -> None:
    write(json.dumps(kind | {"metadata": {"name": "x"}, "spec": template}), "empty.json")
    done = command("test", cases({"manifest": "empty.json", "expect": "admitted"}))
    assert done.code == 1
    assert "  no image was judged: the objects hold none" in done.out.splitlines()


def test_a_case_with_one_judged_object_beside_an_undeclared_kind_passes(
    command: Command, cases: Any, write: Write
) -> None:
    items = [UNDECLARED, pod("registry.corp.io/a:1")]
    write(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), "both.json")
    done = command("test", cases({"manifest": "both.json", "expect": "admitted"}))
    assert (done.code, done.out) == (0, "1 case: 1 passed, 0 failed\n")


def test_json_and_junit(command: Command, cases: Any) -> None:
    good = {"image": "registry.corp.io/a:1", "expect": "approved"}
    bad = {"image": "nginx\x01", "expect": "approved"}
    files = cases(good, bad), cases(good, name="more.yaml")
    done = command("test", *files, "--format", "json")
    assert done.code == 1
    found = json.loads(done.out)
    assert (found["ok"], found["counts"]) == (False, {"passed": 2, "failed": 1})
    assert [(each["file"], each["case"], each["passed"]) for each in found["cases"]] == [
        (str(files[0]), 0, True), (str(files[0]), 1, False), (str(files[1]), 0, True),
    ]  # fmt: skip
    assert list(found["cases"][1]) == [
        "file", "line", "case", "name", "passed", "expected", "actual", "failures",
    ]  # fmt: skip
    suites = ET.fromstring(command("test", *files, "--format", "junit").out)
    assert (suites.get("tests"), suites.get("failures")) == ("3", "1")
    assert [suite.get("tests") for suite in suites] == ["2", "1"]


HEAD = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicyTest\npolicy: policy.yaml\n"


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
        pytest.param({"policy": "nowhere.yaml"}, "nowhere.yaml: No such file or directory", id="policy"),
        pytest.param({"policy": "bad.yaml"}, "bad.yaml:1:1", id="bad-policy"),
        pytest.param(
            {"cases": [{"manifest": "nowhere", "expect": "admitted"}]},
            "tests.yaml, line 5)\n",
            id="manifest",
        ),
    ],
)
def test_files_that_are_named_and_cannot_be_read_are_exit_2(
    command: Command, cases: Any, write: Write, more: dict[str, Any], message: str
) -> None:
    write("a: b", "bad.yaml")
    done = command("test", cases({"image": "a", "expect": "rejected"}, **more))
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_stdin_is_relative_to_the_working_directory(
    command: Command, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cases({"image": "registry.corp.io/a:1", "expect": "approved"})
    monkeypatch.chdir(file.parent)
    assert command("test", "-", stdin=file.read_text()).code == 0


def test_a_file_named_like_stdin_is_read_beside_the_tests(
    command: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(policy_text(), "-")
    head = HEAD.replace("policy.yaml", '"-"')
    file = write(head + "cases: [{image: registry.corp.io/a, expect: approved}]\n", "tests.yaml")
    monkeypatch.chdir(file.parent)
    done = command("test", "tests.yaml", stdin="")
    assert (done.code, done.err) == (0, "")
    write(json.dumps(pod("registry.corp.io/a")), "-")
    write(policy_text(), "policy.yaml")
    write(HEAD + "cases: [{manifest: '-', expect: admitted}]\n", "tests.yaml")
    done = command("test", "tests.yaml", stdin="")
    assert (done.code, done.err) == (0, "")


def test_the_schema_accepts_what_the_command_accepts(command: Command, cases: Any) -> None:
    schema = json.loads(command("schema", "--for", "test").out)
    file = cases(
        {"image": "a", "expect": "rejected", "reason": "invalid", "rewritten": None, "mode": "warn"},
        {"manifest": "b", "expect": "warned", "images": ["x"], "namespace": "shop", "at": "2026-01-01"},
        exceptions=["exceptions.yaml"],
    )
    jsonschema.validate(yaml.safe_load(file.read_text()), schema)
    for bad in (
        {"image": "a", "expect": "admitted"},
        {"expect": "rejected"},
        {"image": "a", "manifest": "b"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(cases(bad).read_text()), schema)


@pytest.mark.parametrize(
    ("settings", "expect"), [("", "rejected"), ("exemptNamespaceLabels: {tier: platform}", "admitted")]
)
def test_the_settings_of_the_webhooks_define_the_exemptions(
    command: Command, cases: Any, write: Write, settings: str, expect: str
) -> None:
    metadata = {"name": "shop", "labels": {"tier": "platform"}}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata},
        {**pod("nginx:1"), "metadata": {"name": "web", "namespace": "shop"}},
    ]
    write(yaml.safe_dump_all(objects), "web.yaml")
    file = cases({"manifest": "web.yaml", "expect": expect})
    done = command("test", file, "--webhooks-config", write(settings, "webhooks.yaml"))
    assert (done.code, done.err) == (0, "")
