"""``review`` decides on manifests offline with the rules of the webhooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.cli.inputs.documents import documents_in
from gatekeeper_py.cli.inputs.manifests import applied
from gatekeeper_py.cli.reporting.manifest import ManifestDumper
from gatekeeper_py.core.admission.review import PatchOperation
from support.builders import HUB_TO_CORP, pod, policy_text, review, workload
from support.commanding import Command, Done, Write

Reviewed = Callable[..., Done]
Judged = Callable[..., list[dict[str, Any]]]

ENFORCE = policy_text(HUB_TO_CORP)
MUTATE = policy_text(HUB_TO_CORP, mode="mutate")
WARN = policy_text(mode="warn")
GOOD, BAD = pod("registry.corp.io/web:1"), pod("nginx:1.25")
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": []}}


@pytest.fixture
def reviewed(command: Command, write: Write) -> Callable[..., Done]:
    """Return a function that reviews objects, or a text, by a policy."""

    def reviewed(*given: Any, policy: str = ENFORCE, options: Sequence[object] = ()) -> Done:
        text = given[0] if isinstance(given[0], str | bytes) else yaml.safe_dump_all(given)
        return command("review", write(policy), write(text, "given.yaml"), *options)

    return reviewed


@pytest.fixture
def judged(reviewed: Reviewed) -> Judged:
    """Return a function that returns the judged objects in JSON, after a check of the exit code."""

    def judged(*given: Any, code: int, options: Sequence[object] = (), **more: Any) -> list[dict[str, Any]]:
        done = reviewed(*given, options=("--format", "json", *options), **more)
        assert (done.code, done.err) == (code, "")
        answer: list[dict[str, Any]] = json.loads(done.out)
        return answer

    return judged


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
def test_verdicts(judged: Judged, policy: str, obj: Any, verdict: str, code: int, style: str) -> None:
    text = yaml.safe_dump(obj) if style == "yaml" else json.dumps(obj, indent=2 if style == "json" else None)
    (answer,) = judged(text, policy=policy, code=code)
    assert answer["verdict"] == verdict


def test_many_documents_lists_and_reviews(judged: Judged) -> None:
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
    assert [(a["document"], a["kind"], a["verdict"], a["namespace"]) for a in judged(*documents, code=1)] == [
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


def test_stdin_is_read(command: Command, write: Write) -> None:
    done = command("review", write(ENFORCE), "-", "-o", "json", stdin=json.dumps(BAD))
    (answer,) = json.loads(done.out)
    assert (answer["source"], answer["verdict"]) == ("<stdin>", "rejected")
    assert command("review", "-", write(json.dumps(GOOD), "a"), stdin=ENFORCE).code == 0


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xff", id="not-utf-8"),
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
def test_an_unreadable_file_exits_with_2(reviewed: Reviewed, text: Any) -> None:
    done = reviewed(text)
    assert (done.code, done.out) == (2, "")
    assert "given.yaml" in done.err
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
            for value in (
                "!!binary aGk=",
                "!!timestamp 2030-01-01",
                "!!set {a}",
                "!!omap [a: b]",
                "!mine x",
                "!!python/name:os.x",
            )
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
    reviewed: Reviewed, text: str, message: str
) -> None:
    assert f"given.yaml{message}" in reviewed(text).err


@pytest.mark.parametrize(
    "text", ["", "---\n---\n", "# nothing\n", "kind: List\napiVersion: v1\n", "kind: List\nitems: null\n"]
)
def test_a_file_without_objects_exits_with_2(reviewed: Reviewed, write: Write, text: str) -> None:
    for others in ((), (write(json.dumps(GOOD), "good.yaml"),)):
        done = reviewed(text, options=others)
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith("given.yaml: there is no object to judge\n")


def test_objects_that_name_no_namespace_get_the_given_one(judged: Judged) -> None:
    policy = policy_text(allow="[{image: registry.corp.io, namespaces: [shop]}]")
    objects = pod("registry.corp.io/web:1", metadata={"name": "web"}), pod("registry.corp.io/web:1")
    answers = judged(*objects, policy=policy, code=1)
    found = [(each["namespace"], each["verdict"]) for each in answers]
    assert found == [("default", "rejected"), ("shop", "admitted")]
    answers = judged(*objects, policy=policy, options=("-n", "shop"), code=0)
    assert [each["namespace"] for each in answers] == ["shop", "shop"]


@pytest.mark.parametrize(
    ("mode", "verdict", "code"),
    [("enforce", "rejected", 1), ("warn", "warned", 0), ("mutate", "rewritten", 0)],
)
def test_the_mode_can_be_chosen_and_overrides_stay_on_top(
    judged: Judged, mode: str, verdict: str, code: int
) -> None:
    policy = policy_text(f"{HUB_TO_CORP}namespaces:\n  - {{names: [dev], mode: warn}}\n")
    objects = BAD, {**BAD, "metadata": {"name": "x", "namespace": "dev"}}
    answers = judged(*objects, policy=policy, options=("--mode", mode), code=code)
    assert [each["verdict"] for each in answers] == [verdict, "warned"]


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
    reviewed: Reviewed, judged: Judged, obj: dict[str, Any], verdict: str
) -> None:
    (answer,) = judged(obj, code=1 if verdict == "rejected" else 0)
    assert answer["verdict"] == verdict
    strict = reviewed(obj, options=["--strict"])
    assert strict.code == (1 if verdict in {"rejected", "unknown"} else 0)
    if verdict == "unknown":
        assert "resources" in strict.out
        sarif = json.loads(reviewed(obj, options=["--format", "sarif"]).out)
        (result,) = sarif["runs"][0]["results"]
        assert (result["ruleId"], result["level"]) == ("kind-unknown", "warning")
        assert "<system-out>" in reviewed(obj, options=["--format", "junit"]).out


def test_strict_does_not_count_warned_and_a_declared_kind_is_known(reviewed: Reviewed) -> None:
    assert reviewed(BAD, policy=WARN, options=["--strict"]).code == 0
    more = "resources:\n  - {group: example.com, kind: Widget, images: [spec.picture]}\n"
    done = reviewed(WIDGET, policy=policy_text(more), options=["--strict"])
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 object: 1 admitted")


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
def test_sarif_has_the_line_of_each_rejected_image(reviewed: Reviewed, text: str, lines: list[int]) -> None:
    results = json.loads(reviewed(text, options=["--format", "sarif"]).out)["runs"][0]["results"]
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


def test_mutate_prints_what_would_be_stored(reviewed: Reviewed) -> None:
    done = reviewed(BAD, SERVICE, pod("quay.io/a"), policy=MUTATE, options=["--mutate"])
    assert done.code == 1
    stored = list(yaml.safe_load_all(done.out))
    assert [obj["kind"] for obj in stored] == ["Pod", "Service"]
    assert stored[0]["spec"]["containers"][0]["image"] == "registry.corp.io/dockerhub/library/nginx:1.25"
    assert json.loads(stored[0]["metadata"]["annotations"]["gatekeeper-py/original-images"]) == {
        "spec.containers[0].image": "nginx:1.25"
    }
    assert stored[1] == SERVICE
    assert "quay.io/a" in done.err
    again = reviewed(done.out, policy=MUTATE, options=["--mutate"])
    assert again.out == done.out
    deletion = review(None, kind=("", "Pod"), operation="DELETE", old=BAD)
    done = reviewed(deletion, policy=MUTATE, options=["--mutate"])
    assert (done.code, done.out) == (0, "")


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


NUMBERS = st.from_regex(r"\A[-+]?[0-9.]{1,4}([eE][-+]?[0-9]{1,2})?\Z")
WORDS = st.sampled_from(["yes", "NO", "~", "0o17", "0x1f", "1e3", "12e5", "1_0", "=", "<<", ".5", "1:20"])


@given(text=st.one_of(st.text(), NUMBERS, WORDS))
def test_text_that_mutate_prints_stays_text(text: str) -> None:
    dumped = yaml.dump({"x": text}, Dumper=ManifestDumper)
    assert documents_in("file", dumped)[0] == [{"x": text}]
    assert yaml.safe_load(dumped) == {"x": text}


def test_json_output_is_json(reviewed: Reviewed) -> None:
    """The output has no NaN and no Infinity, even if the objects contain them."""
    done = reviewed(pod(1.5, [1], {"a": True}), options=["--format", "json"])
    (answer,) = json.loads(done.out, parse_constant=pytest.fail)
    assert [image["image"] for image in answer["images"]] == [1.5, [1], {"a": True}]


def test_an_object_with_too_many_images_has_no_image_in_json(judged: Judged) -> None:
    (each,) = judged(pod(*["nginx"] * 1001), code=1)
    (image,) = each["images"]
    assert (image["path"], image["image"], image["reason"]) == ("spec.containers", None, "invalid")
    assert image["detail"] == "too many images (1001; at most 1,000)"


@pytest.mark.parametrize(
    ("namespace", "names", "verdict"),
    [
        pytest.param("kube-system", (), "exempt", id="kube-system"),
        pytest.param("gatekeeper-py", (), "exempt", id="our-own"),
        pytest.param("calico-system", (), "rejected", id="another"),
        pytest.param("calico-system", ("calico-system",), "exempt", id="named-on-the-command-line"),
        pytest.param("kube-system", ("a", "b"), "rejected", id="default-replaced"),
        pytest.param("kube-system", ("",), "rejected", id="none"),
    ],
)
def test_objects_in_exempt_namespaces_are_not_judged(
    judged: Judged, namespace: str, names: tuple[str, ...], verdict: str
) -> None:
    obj = pod("nginx:1.25", metadata={"name": "web", "namespace": namespace})
    options = [f"--exempt-namespace={name}" for name in names]
    (answer,) = judged(obj, options=options, code=int(verdict == "rejected"))
    assert (answer["verdict"], bool(answer["images"])) == (verdict, verdict == "rejected")


@pytest.mark.parametrize(
    ("settings", "found"),
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
    judged: Judged, write: Write, settings: str, found: list[str]
) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    objects = [
        *({**BAD, "metadata": {"name": "web", "namespace": each}} for each in ("a", "b", "c", "kube-system")),
        {**namespace, "metadata": {"name": "b", "labels": {"tier": "platform"}}},
        {**namespace, "metadata": {"name": "d", "labels": {"tier": "platform"}}},
        {**namespace, "metadata": {"name": "e"}},
    ]
    options = ("--webhooks-config", write(settings, "webhooks.yaml"))
    answers = judged(*objects, options=options, code=1)
    assert [each["namespace"] for each in answers if each["verdict"] == "rejected"] == found


SETTINGS_CONFIGMAP = "kind: ConfigMap\nmetadata: {name: gatekeeper-py-webhooks}\n"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("pods: {colour: red}", "unknown-field"),
        (f"{SETTINGS_CONFIGMAP}data: {{a: b}}\n", "no key webhooks.yaml"),
        (f"{SETTINGS_CONFIGMAP}data: {{webhooks.yaml: '', a: b}}\n", "unknown-key"),
    ],
)
def test_settings_that_cannot_be_used_are_exit_2(
    reviewed: Reviewed, write: Write, settings: str, problem: str
) -> None:
    done = reviewed(GOOD, options=["--webhooks-config", write(settings, "webhooks.yaml")])
    assert (done.code, done.out) == (2, "")
    assert problem in done.err


def test_a_link_to_a_directory_is_named_and_not_followed(command: Command, write: Write) -> None:
    write(json.dumps(BAD), "real/pod.json")
    folder = write(json.dumps(GOOD), "manifests/pod.json").parent
    (folder / "link").symlink_to(folder.parent / "real")
    done = command("review", write(ENFORCE), folder)
    assert done.code == 0, done.out
    assert f"{folder}/link is a link to a directory and is not read" in " ".join(done.err.split())


def test_an_object_with_many_keys_of_which_the_last_is_given_twice_is_refused_in_linear_time(
    reviewed: Reviewed,
) -> None:
    keys = ", ".join(f'"k{number}": 1' for number in range(200_000))
    done = reviewed(f'{{{keys}, "k199999": 1}}')
    assert (done.code, done.out) == (2, "")
    assert "a key is given twice" in done.err


def test_each_format_has_the_mode_of_each_object_and_the_origin_of_the_report(
    reviewed: Reviewed, tmp_path: Path
) -> None:
    policy = policy_text("namespaces: [{names: [dev], mode: warn}]")
    names = ("dev", "shop", "kube-system")
    objects = [pod("nginx", metadata={"name": name, "namespace": name}) for name in names]
    text, as_json, sarif, junit = (
        reviewed(*objects, policy=policy, options=["--cluster-name", "prod", "--format", style]).out
        for style in ("text", "json", "sarif", "junit")
    )
    assert [each["mode"] for each in json.loads(as_json)] == ["warn", "enforce", None]
    (run,) = json.loads(sarif)["runs"]
    assert run["properties"]["cluster"] == "prod"
    assert run["properties"]["policy"]["source"] == str(tmp_path / "policy.yaml")
    assert [each["properties"]["mode"] for each in run["results"]] == ["warn", "enforce"]
    suite = ET.fromstring(junit).find("testsuite")
    assert suite is not None
    properties = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
    assert properties.keys() == {"time", "version", "cluster", "policy", "revision"}
    assert properties["revision"] == run["properties"]["policy"]["revision"]
    modes = [each.get("value") for each in suite.findall("testcase/properties/property[@name='mode']")]
    assert modes == ["warn", "enforce"]
    lines = text.splitlines()
    assert lines[0].endswith("[0] (mode warn)")
    assert lines[-2].startswith(f"cluster prod, policy {tmp_path}/policy.yaml (revision ")
