"""``review`` decides on manifests offline with the rules of the webhooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builders import HUB_TO_CORP, pod, policy_text, review, workload
from commanding import Command, Write
from gatekeeper_py.commands.documents import documents_in
from gatekeeper_py.commands.manifests import applied
from gatekeeper_py.core.admission.review import PatchOperation
from gatekeeper_py.reporting.manifest import ManifestDumper

ENFORCE = policy_text(HUB_TO_CORP)
MUTATE = policy_text(HUB_TO_CORP, mode="mutate")
WARN = policy_text(mode="warn")
GOOD, BAD = pod("registry.corp.io/web:1"), pod("nginx:1.25")
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": []}}


def reviewed(command: Command, policy: Path, *files: object, code: int, **more: Any) -> list[dict[str, Any]]:
    done = command("review", policy, *files, "--format", "json", **more)
    assert (done.code, done.err) == (code, "")
    answer: list[dict[str, Any]] = json.loads(done.out)
    return answer


@pytest.mark.parametrize(
    ("policy", "obj", "verdict", "code"),
    [
        pytest.param(ENFORCE, GOOD, "admitted", 0, id="approved"),
        pytest.param(ENFORCE, BAD, "rejected", 1, id="rejected"),
        pytest.param(WARN, BAD, "warned", 0, id="warned"),
        pytest.param(MUTATE, BAD, "rewritten", 0, id="rewritten"),
        pytest.param(MUTATE, pod("quay.io/a"), "rejected", 1, id="no-mirror-helps"),
        pytest.param(MUTATE, workload("Deployment", "nginx"), "admitted", 0, id="template-after-its-mirror"),
        pytest.param(ENFORCE, workload("CronJob", "nginx"), "rejected", 1, id="template"),
        pytest.param(ENFORCE, SERVICE, "admitted", 0, id="no-images"),
        pytest.param(ENFORCE, pod("registry.corp.io/a", None), "rejected", 1, id="missing-image"),
        pytest.param(ENFORCE, pod(42), "rejected", 1, id="number"),
        pytest.param(ENFORCE, {**GOOD, "spec": None}, "rejected", 1, id="no-spec"),
    ],
)
@pytest.mark.parametrize("style", ["yaml", "json", "json-on-one-line"])
def test_verdicts(
    command: Command, write: Write, policy: str, obj: Any, verdict: str, code: int, style: str
) -> None:
    text = yaml.safe_dump(obj) if style == "yaml" else json.dumps(obj, indent=2 if style == "json" else None)
    (answer,) = reviewed(command, write(policy), write(text, "pod.yaml"), code=code)
    assert answer["verdict"] == verdict


def test_many_documents_lists_and_reviews(command: Command, write: Write) -> None:
    typed = {"apiVersion": "v1", "kind": "PodList", "items": [
        {k: v for k, v in obj.items() if k not in {"apiVersion", "kind"}} for obj in (GOOD, BAD)
    ]}  # fmt: skip
    documents = [
        GOOD,
        None,
        {"apiVersion": "v1", "kind": "List", "items": [BAD, workload("Job", "nginx"), SERVICE]},
        typed,
        review(BAD, namespace="payments"),
        review(None, kind=("", "Pod"), operation="DELETE", old=BAD),
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [{"apiVersion": "v1", "kind": "List", "items": [GOOD]}],
        },
        {"apiVersion": "v1", "kind": "List", "items": []},
    ]
    path = write(yaml.safe_dump_all(documents), "all.yaml")
    answers = reviewed(command, write(ENFORCE), path, code=1)
    assert [(a["document"], a["kind"], a["verdict"], a["namespace"]) for a in answers] == [
        (0, "Pod", "admitted", "shop"),
        (2, "Pod", "rejected", "shop"),
        (2, "Job", "rejected", "default"),
        (2, "Service", "admitted", "default"),
        (3, "Pod", "admitted", "shop"),
        (3, "Pod", "rejected", "shop"),
        (4, "Pod", "rejected", "payments"),
        (5, "Pod", "admitted", "shop"),
        (6, "Pod", "admitted", "shop"),
    ]


def test_a_stream_of_json_objects_is_read(command: Command, write: Write) -> None:
    path = write(
        json.dumps(GOOD) + "\n" + json.dumps(BAD, indent=1) + json.dumps(SERVICE) + "\n\n", "all.json"
    )
    answers = reviewed(command, write(ENFORCE), path, code=1)
    assert [(a["document"], a["verdict"]) for a in answers] == [
        (0, "admitted"), (1, "rejected"), (2, "admitted"),
    ]  # fmt: skip


def test_stdin_is_read(command: Command, write: Write) -> None:
    (answer,) = reviewed(command, write(ENFORCE), "-", code=1, stdin=json.dumps(BAD))
    assert (answer["source"], answer["verdict"]) == ("<stdin>", "rejected")
    (answer,) = reviewed(command, Path("-"), write(json.dumps(GOOD), "a"), code=0, stdin=ENFORCE)
    assert answer["verdict"] == "admitted"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xff", id="not-utf-8"),
        pytest.param("a: [", id="not-yaml"),
        pytest.param("a: b\na: c\n", id="duplicate-key"),
        pytest.param('{"kind": "Pod", "kind": "Service", "apiVersion": "v1"}', id="duplicate-key-json"),
        pytest.param("text", id="scalar"),
        pytest.param("- a\n- b\n", id="list"),
        pytest.param("a: b\n", id="no-kind"),
        pytest.param("kind: Pod\n", id="no-api-version"),
        pytest.param("kind: [Pod]\napiVersion: v1\n", id="kind-list"),
        pytest.param("kind: List\napiVersion: v1\nitems: [a]\n", id="items-of-text"),
        pytest.param("kind: List\napiVersion: v1\nitems: {}\n", id="items-that-are-no-list"),
        pytest.param("kind: AdmissionReview\napiVersion: admission.k8s.io/v1\n", id="no-request"),
        pytest.param(json.dumps({**review(BAD), "apiVersion": "admission.k8s.io/v1beta1"}), id="v1beta1"),
        pytest.param("a: " + "[" * 20_000, id="deep"),
        pytest.param('{"a": ' * 3000 + "1" + "}" * 3000, id="deep-json"),
        pytest.param("!!python/object/apply:os.getcwd []", id="tag"),
        pytest.param("a: &a [*a]\nkind: Pod\napiVersion: v1\n", id="holds-itself"),
        pytest.param("kind: Pod\napiVersion: v1\nx: 1e999\n", id="infinite"),
        pytest.param('{"kind": "Pod", "apiVersion": "v1", "x": 1e999}', id="infinite-json"),
        pytest.param('{"kind": "Pod", "apiVersion": "v1", "x": NaN}', id="nan-json"),
        pytest.param("kind: Pod\napiVersion: v1\nx: " + "9" * 5000 + "\n", id="5000-digits"),
        pytest.param(
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
            id="billion-laughs",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("style", ["text", "json"])
def test_an_unreadable_file_exits_with_2(command: Command, write: Write, text: Any, style: str) -> None:
    done = command("review", write(ENFORCE), write(text, "bad.yaml"), "--format", style)
    assert (done.code, done.out) == (2, "")
    assert "bad.yaml" in done.err
    assert len(done.err) < 2000
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: b\nc: [\nd: e: f\n", ": not valid YAML or JSON at line 3: did not find", id="line"),
        pytest.param(
            "a: b\na: c\n", ": not valid YAML or JSON at line 2: a key is given twice", id="duplicate-key"
        ),
        pytest.param(
            f"a: &a {{{', '.join(f'k{i}: 1' for i in range(2_000))}}}\nb:\n  <<: [{'*a, ' * 2_600}]\n",
            ": not valid YAML or JSON at line 1: more than 5000000 values once merge keys are followed",
            id="merge-keys",
        ),
        pytest.param(
            '{"a": 1, "a": 2}', ": not valid YAML or JSON: a key is given twice", id="duplicate-key-in-json"
        ),
        *(
            pytest.param(
                f"a: b\nc: {value}\n",
                ": not valid YAML or JSON at line 2: a tag is not supported",
                id=f"tag-{value}",
            )
            for value in ("!!binary aGk=", "!!timestamp 2030-01-01", "!!set {a}", "!!omap [a: b]", "!mine x")
        ),
        pytest.param(
            "a: \0\n", ": not valid YAML or JSON: control characters are not allowed at", id="character"
        ),
        pytest.param(
            "---\n---\na: b\n", "[1]: not a Kubernetes object", id="documents-count-from-0-as-in-json"
        ),
    ],
)
def test_a_problem_of_a_manifest_is_reported_with_its_position(
    command: Command, write: Write, text: str, message: str
) -> None:
    path = write(text, "bad.yaml")
    assert f"Error: {path}{message}" in command("review", write(ENFORCE), path).err


@pytest.mark.parametrize(
    "text", ["", "---\n---\n", "# nothing\n", "kind: List\napiVersion: v1\n", "kind: List\nitems: null\n"]
)
def test_a_file_without_objects_exits_with_2(command: Command, write: Write, text: str) -> None:
    empty = write(text, "empty.yaml")
    for others in ((), (write(json.dumps(GOOD), "good.yaml"),)):
        done = command("review", write(ENFORCE), *others, empty)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"Error: {empty}: there is no object to judge\n"


def test_a_directory_is_read_with_all_below_it(command: Command, write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    (folder / "b" / "empty").mkdir(parents=True)
    for name in ("z.yaml", "a.yml", "b/c.json", "b/empty.yaml", "README.md", "b/script.sh"):
        (folder / name).write_text(json.dumps(GOOD) if name[-4:] in {"yaml", ".yml", "json"} else "no")
    (folder / "b" / "empty.yaml").write_text("# nothing\n")
    answers = reviewed(command, write(ENFORCE), folder, code=0)
    assert [Path(answer["source"]).relative_to(folder).as_posix() for answer in answers] == [
        "a.yml", "z.yaml", "b/c.json",
    ]  # fmt: skip
    done = command("review", write(ENFORCE), folder / "b" / "empty")
    assert (done.code, done.err) == (2, f"Error: {folder / 'b' / 'empty'}: there is no object to judge\n")


def test_objects_that_name_no_namespace_get_the_given_one(command: Command, write: Write) -> None:
    policy = write(policy_text(allow="[{image: registry.corp.io, namespaces: [shop]}]"))
    unnamed = pod("registry.corp.io/web:1", metadata={"name": "web"})
    path = write(yaml.safe_dump_all([unnamed, pod("registry.corp.io/web:1")]), "pods.yaml")
    answers = reviewed(command, policy, path, code=1)
    assert [(each["namespace"], each["verdict"]) for each in answers] == [
        ("default", "rejected"), ("shop", "admitted"),
    ]  # fmt: skip
    answers = reviewed(command, policy, path, "-n", "shop", code=0)
    assert [each["namespace"] for each in answers] == ["shop", "shop"]


def test_the_mode_can_be_chosen_and_overrides_stay_on_top(command: Command, write: Write) -> None:
    policy = write(policy_text(f"{HUB_TO_CORP}namespaces:\n  - {{names: [dev], mode: warn}}\n"))
    path = write(yaml.safe_dump_all([BAD, {**BAD, "metadata": {"name": "x", "namespace": "dev"}}]), "pods")
    verdicts = {
        mode: [each["verdict"] for each in reviewed(command, policy, path, "--mode", mode, code=code)]
        for mode, code in (("enforce", 1), ("warn", 0), ("mutate", 0))
    }
    assert verdicts == {
        "enforce": ["rejected", "warned"],
        "warn": ["warned", "warned"],
        "mutate": ["rewritten", "warned"],
    }


WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"image": "x"}}


@pytest.mark.parametrize(
    ("obj", "verdict"),
    [
        pytest.param(WIDGET, "unknown", id="custom"),
        pytest.param({**WIDGET, "spec": {"template": BAD["spec"]}}, "rejected", id="shape"),
        pytest.param(SERVICE, "admitted", id="core"),
        pytest.param({**WIDGET, "apiVersion": "networking.k8s.io/v1"}, "admitted", id="k8s.io"),
        pytest.param({**WIDGET, "apiVersion": "autoscaling/v2"}, "admitted", id="autoscaling"),
        pytest.param({**WIDGET, "apiVersion": "k8s.io.example.com/v1"}, "unknown", id="looks-like-k8s.io"),
        pytest.param(
            {**WIDGET, "metadata": {"name": "w", "namespace": "kube-system"}}, "exempt", id="exempt-namespace"
        ),
    ],
)
def test_a_kind_without_images_is_unknown_unless_it_is_kubernetes_own(
    command: Command, write: Write, obj: dict[str, Any], verdict: str
) -> None:
    path = write(json.dumps(obj), "object.json")
    (answer,) = reviewed(command, write(ENFORCE), path, code=1 if verdict == "rejected" else 0)
    assert answer["verdict"] == verdict
    strict = command("review", write(ENFORCE), path, "--strict")
    assert strict.code == (1 if verdict in {"rejected", "unknown"} else 0)
    if verdict == "unknown":
        assert "resources" in strict.out
        (result,) = json.loads(command("review", write(ENFORCE), path, "--format", "sarif").out)["runs"][0][
            "results"
        ]
        assert (result["ruleId"], result["level"]) == ("kind-unknown", "warning")
        assert "<system-out>" in command("review", write(ENFORCE), path, "--format", "junit").out


def test_strict_does_not_count_warned_and_a_declared_kind_is_known(command: Command, write: Write) -> None:
    path = write(json.dumps(BAD), "pod.json")
    assert command("review", write(WARN), path, "--strict").code == 0
    more = "resources:\n  - {group: example.com, kind: Widget, images: [spec.picture]}\n"
    widget = write(json.dumps(WIDGET), "widget.json")
    assert reviewed(command, write(policy_text(more)), widget, "--strict", code=0)[0]["verdict"] == "admitted"


POD_LINES = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
    - name: good
      image: registry.corp.io/web:1
    - name: bad
      image: nginx:1
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(POD_LINES, [9], id="pod"),
        pytest.param(f"# comment\n---\n{POD_LINES}---\n{POD_LINES}", [11, 21], id="documents"),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems:\n  - "
            + POD_LINES.replace("\n", "\n    ").rstrip()
            + "\n  - "
            + POD_LINES.replace("\n", "\n    ").rstrip()
            + "\n",
            [12, 21],
            id="list",
        ),
        pytest.param(
            json.dumps(BAD) + "\n" + json.dumps(BAD, indent=1) + json.dumps(BAD), [1, 13, 17], id="json"
        ),
        pytest.param(json.dumps(review(BAD), indent=1), [35], id="review"),
        pytest.param(json.dumps({**BAD, "k" * 2000: 1}), [1], id="json-that-is-not-yaml"),
        pytest.param(POD_LINES.replace("      image: nginx:1\n", ""), [8], id="missing-image"),
        pytest.param("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: null\n", [4], id="no-spec"),
    ],
)
def test_sarif_has_the_line_of_each_rejected_image(
    command: Command, write: Write, text: str, lines: list[int]
) -> None:
    done = command("review", write(ENFORCE), write(text, "given"), "--format", "sarif")
    results = json.loads(done.out)["runs"][0]["results"]
    assert [each["locations"][0]["physicalLocation"]["region"] for each in results] == [
        {"startLine": line} for line in lines
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: 010", 10),
        ("x: 09", 9),
        ("x: yes", "yes"),
        ("x: on", "on"),
        ("x: 2030-01-01", "2030-01-01"),
        ("x: 1:20", "1:20"),
        ("x: 1_000", "1_000"),
        ("x: true", True),
        ("x: ~", None),
        ("x:", None),
        ("x: 1e3", 1000.0),
        ("x: '1e3'", "1e3"),
        ("x: =", "="),
        ('{"x": "\\ud83d\\ude00"}', "\U0001f600"),
        ('{"x": "a\\/b"}', "a/b"),
        ("{x: flow}", "flow"),
        ('{"x": 1}\n---\n', 1),
        ("base: &b {x: 1}\n<<: *b\n", 1),
    ],
)
def test_values_are_read_as_in_yaml_1_2_and_json(text: str, value: Any) -> None:
    assert documents_in("file", text)[0][0]["x"] == value


def test_json_with_emoji_and_long_keys_is_read(command: Command, write: Write) -> None:
    metadata = {"annotations": {"mood": "\U0001f600", "k" * 3000: "v"}}
    path = write(json.dumps(pod("registry.corp.io/a", metadata=metadata)), "pod.json")
    (answer,) = reviewed(command, write(ENFORCE), path, code=0)
    assert answer["verdict"] == "admitted"


def test_mutate_prints_what_would_be_stored(command: Command, write: Write) -> None:
    path = write(yaml.safe_dump_all([BAD, SERVICE, pod("quay.io/a")]), "all.yaml")
    done = command("review", write(MUTATE), path, "--mutate")
    assert done.code == 1
    stored = list(yaml.safe_load_all(done.out))
    assert [obj["kind"] for obj in stored] == ["Pod", "Service"]
    assert stored[0]["spec"]["containers"][0]["image"] == "registry.corp.io/dockerhub/library/nginx:1.25"
    assert json.loads(stored[0]["metadata"]["annotations"]["gatekeeper-py/original-images"]) == {
        "spec.containers[0].image": "nginx:1.25"
    }
    assert stored[1] == SERVICE
    assert "quay.io/a" in done.err
    again = command("review", write(MUTATE), write(done.out, "again.yaml"), "--mutate")
    assert again.out == done.out


@pytest.mark.parametrize(
    ("present", "stored"),
    [
        pytest.param({}, ["hub"], id="none"),
        pytest.param({"imagePullSecrets": []}, ["hub"], id="empty"),
        pytest.param({"imagePullSecrets": [{"name": "own"}]}, ["own", "hub"], id="another"),
        pytest.param({"imagePullSecrets": [{"name": "hub"}]}, ["hub"], id="the-same"),
    ],
)
def test_the_pull_secret_of_a_mirror_is_added_to_those_of_the_pod(
    command: Command, write: Write, present: dict[str, Any], stored: list[str]
) -> None:
    mirror = "mirrors: [{from: docker.io, to: registry.corp.io/dockerhub, imagePullSecret: hub}]\n"
    policy = write(policy_text(mirror, mode="mutate"))
    path = write(json.dumps(pod("nginx:1.25", **present)), "pod.json")
    (answer,) = reviewed(command, policy, path, code=0)
    assert answer["verdict"] == "rewritten"
    done = command("review", policy, path, "--mutate", "--format", "json")
    assert (done.code, done.err) == (0, "")
    (obj,) = json.loads(done.out)["items"]
    assert [secret["name"] for secret in obj["spec"]["imagePullSecrets"]] == stored


def test_adding_at_an_index_inserts() -> None:
    patch: list[PatchOperation] = [
        {"op": "add", "path": "/items/0", "value": "first"},
        {"op": "replace", "path": "/items/1", "value": "second"},
        {"op": "add", "path": "/items/-", "value": "last"},
        {"op": "add", "path": "/with~1slash", "value": 1},
    ]
    obj = {"items": ["old", "third"]}
    assert applied(patch, obj) == {"items": ["first", "second", "third", "last"], "with/slash": 1}
    assert obj == {"items": ["old", "third"]}


def test_mutate_stores_nothing_for_a_deletion(command: Command, write: Write) -> None:
    path = write(json.dumps(review(None, kind=("", "Pod"), operation="DELETE", old=BAD)), "a")
    done = command("review", write(MUTATE), path, "--mutate")
    assert (done.code, done.out) == (0, "")


NUMBERS = st.from_regex(r"\A[-+]?[0-9.]{1,4}([eE][-+]?[0-9]{1,2})?\Z")
WORDS = st.sampled_from(["yes", "NO", "~", "0o17", "0x1f", "1e3", "12e5", "1_0", "=", "<<", ".5", "1:20"])


@given(text=st.one_of(st.text(), NUMBERS, WORDS))
def test_text_that_mutate_prints_stays_text(text: str) -> None:
    dumped = yaml.dump({"x": text}, Dumper=ManifestDumper)
    assert documents_in("file", dumped)[0] == [{"x": text}]
    assert yaml.safe_load(dumped) == {"x": text}


@pytest.mark.parametrize("text", ["1e3", "12e5", "1E+3", "0o17", "-1e3"])
def test_text_that_yaml_1_2_takes_for_a_number_is_quoted(text: str) -> None:
    """A label may be a short commit hash such as 12e5."""
    assert yaml.dump(text, Dumper=ManifestDumper).startswith("'")


def test_json_output_is_json(command: Command, write: Write) -> None:
    """The output has no NaN and no Infinity, even if the objects contain them."""
    path = write(json.dumps(pod(1.5, [1], {"a": True})), "a")
    done = command("review", write(ENFORCE), path, "--format", "json")
    (answer,) = json.loads(done.out, parse_constant=pytest.fail)
    assert [image["image"] for image in answer["images"]] == [1.5, [1], {"a": True}]


def test_an_object_with_too_many_images_has_no_image_in_json(command: Command, write: Write) -> None:
    path = write(json.dumps(pod(*["nginx"] * 1001)), "a")
    (each,) = reviewed(command, write(ENFORCE), path, code=1)
    (image,) = each["images"]
    assert (image["path"], image["image"], image["reason"]) == ("spec.containers", None, "invalid")
    assert image["detail"] == "too many images (1001; at most 1,000)"


@pytest.mark.parametrize(
    ("namespace", "arguments", "verdict", "code"),
    [
        pytest.param("kube-system", (), "exempt", 0, id="kube-system"),
        pytest.param("gatekeeper-py", (), "exempt", 0, id="our-own"),
        pytest.param("calico-system", (), "rejected", 1, id="another"),
        pytest.param(
            "calico-system",
            ("--exempt-namespace", "calico-system"),
            "exempt",
            0,
            id="named-on-the-command-line",
        ),
        pytest.param(
            "kube-system",
            ("--exempt-namespace=a", "--exempt-namespace=b"),
            "rejected",
            1,
            id="default-replaced",
        ),
        pytest.param("kube-system", ("--exempt-namespace=",), "rejected", 1, id="none"),
    ],
)
def test_objects_in_exempt_namespaces_are_not_judged(
    command: Command, write: Write, namespace: str, arguments: tuple[str, ...], verdict: str, code: int
) -> None:
    obj = pod("nginx:1.25", metadata={"name": "web", "namespace": namespace})
    path = write(json.dumps(obj), "pod.yaml")
    done = command("review", write(ENFORCE), path, "--format", "json", *arguments)
    (answer,) = json.loads(done.out)
    assert (done.code, answer["verdict"]) == (code, verdict)
    if verdict == "exempt":
        assert answer["images"] == []
        text = command("review", write(ENFORCE), path, *arguments)
        assert text.out.splitlines()[-1] == "1 object: 1 exempt"


def test_an_exempt_object_is_stored_as_it_is(command: Command, write: Write) -> None:
    obj = pod("nginx:1.25", metadata={"name": "web", "namespace": "kube-system"})
    done = command("review", write(MUTATE), write(json.dumps(obj), "pod.yaml"), "--mutate")
    assert yaml.safe_load(done.out) == obj


@pytest.mark.parametrize(
    ("settings", "judged"),
    [
        pytest.param("", ["a", "b", "c"], id="empty"),
        pytest.param("exemptNamespaces: [a]", ["b", "c"], id="by-name"),
        pytest.param("exemptNamespaceLabels: {tier: platform}", ["a", "c"], id="by-label"),
        pytest.param("exemptNamespaceLabels: {tier: other}", ["a", "b", "c"], id="another-value"),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gatekeeper-py-webhooks}\n"
            "data:\n  webhooks.yaml: |\n    exemptNamespaces: [c]\n",
            ["a", "b"],
            id="in-a-configmap",
        ),
    ],
)
def test_the_settings_of_the_webhooks_define_the_exemptions(
    command: Command, write: Write, tmp_path: Path, settings: str, judged: list[str]
) -> None:
    (tmp_path / "webhooks.yaml").write_text(settings)
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    objects = [
        *({**BAD, "metadata": {"name": "web", "namespace": each}} for each in ("a", "b", "c", "kube-system")),
        {**namespace, "metadata": {"name": "b", "labels": {"tier": "platform"}}},
        {**namespace, "metadata": {"name": "d", "labels": {"tier": "platform"}}},
        {**namespace, "metadata": {"name": "e"}},
    ]
    stream = "\n---\n".join(map(json.dumps, objects))
    found = reviewed(
        command,
        write(ENFORCE),
        "-",
        "--webhooks-config",
        tmp_path / "webhooks.yaml",
        code=1,
        stdin=stream,
    )
    assert [each["namespace"] for each in found if each["verdict"] == "rejected"] == judged


@pytest.mark.parametrize(
    ("settings", "options", "problem"),
    [
        pytest.param("pods: {colour: red}", (), "unknown-field", id="bad"),
        pytest.param(
            "kind: ConfigMap\nmetadata: {name: gatekeeper-py-webhooks}\ndata: {webhook.yaml: ''}\n",
            (),
            "no key webhooks.yaml",
            id="misnamed",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_exit_2(
    command: Command, write: Write, tmp_path: Path, settings: str, options: tuple[str, ...], problem: str
) -> None:
    file = tmp_path / "webhooks.yaml"
    file.write_text(settings)
    done = command("review", write(ENFORCE), "-", "--webhooks-config", file, *options, stdin=json.dumps(GOOD))
    assert (done.code, done.out) == (2, "")
    assert problem in done.err


def test_a_link_to_a_directory_is_named_and_not_followed(
    command: Command, write: Write, tmp_path: Path
) -> None:
    policy = write(ENFORCE)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "pod.json").write_text(json.dumps(BAD))
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "pod.json").write_text(json.dumps(GOOD))
    (folder / "link").symlink_to(tmp_path / "real")
    done = command("review", policy, folder)
    assert done.code == 0, done.out
    assert f"{folder}/link is a link to a directory and is not read" in " ".join(done.err.split())


def test_an_object_with_many_keys_of_which_the_last_is_given_twice_is_refused_in_linear_time(
    command: Command, write: Write
) -> None:
    keys = ", ".join(f'"k{number}": 1' for number in range(200_000))
    done = command("review", write(ENFORCE), write(f'{{{keys}, "k199999": 1}}', "many.json"))
    assert (done.code, done.out) == (2, "")
    assert "a key is given twice" in done.err


def test_each_format_has_the_mode_of_each_object_and_the_origin_of_the_report(
    command: Command, write: Write
) -> None:
    policy = write(policy_text("namespaces: [{names: [dev], mode: warn}]"))
    objects = [
        pod("nginx", metadata={"name": name, "namespace": name}) for name in ("dev", "shop", "kube-system")
    ]
    path = write("\n---\n".join(map(json.dumps, objects)), "all.yaml")
    answer = reviewed(command, policy, path, code=1)
    assert [each["mode"] for each in answer] == ["warn", "enforce", None]
    arguments = ("review", policy, path, "--cluster-name", "prod", "--format")
    (run,) = json.loads(command(*arguments, "sarif").out)["runs"]
    assert run["properties"]["cluster"] == "prod"
    assert run["properties"]["policy"]["source"] == str(policy)
    assert [each["properties"]["mode"] for each in run["results"]] == ["warn", "enforce"]
    suite = ET.fromstring(command(*arguments, "junit").out).find("testsuite")
    assert suite is not None
    properties = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
    assert properties.keys() == {"time", "version", "cluster", "policy", "revision"}
    assert properties["revision"] == run["properties"]["policy"]["revision"]
    modes = [each.get("value") for each in suite.findall("testcase/properties/property[@name='mode']")]
    assert modes == ["warn", "enforce"]
    lines = command(*arguments, "text").out.splitlines()
    assert lines[0].endswith("[0] (mode warn)")
    assert lines[-2].startswith(f"cluster prod, policy {policy} (revision ")
