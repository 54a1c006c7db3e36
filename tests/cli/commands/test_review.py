"""``review`` decides on manifests offline with the rules of the webhooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.cli.inputs.documents import documents_in
from gatekeeper_py.cli.inputs.manifests import applied
from gatekeeper_py.cli.reporting.manifest import ManifestDumper
from gatekeeper_py.core.admission.review import PatchOperation
from support.builders import HUB_TO_CORP, pod, policy_text, review
from support.commanding import Command, Done, Write

Reviewed = Callable[..., Done]

ENFORCE = policy_text(HUB_TO_CORP)
GOOD, BAD = pod("registry.corp.io/web:1"), pod("nginx:1.25")


@pytest.fixture
def reviewed(command: Command, write: Write) -> Callable[..., Done]:
    """Return a function that reviews objects, or a text, by a policy."""

    def reviewed(*given: Any, policy: str = ENFORCE, options: Sequence[object] = ()) -> Done:
        text = given[0] if isinstance(given[0], str | bytes) else yaml.safe_dump_all(given)
        return command("review", write(policy), write(text, "given.yaml"), *options)

    return reviewed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: " + "[" * 20_000, "nesting depth", id="deep"),
        pytest.param('{"a": ' * 3000 + "1" + "}" * 3000, "nested too deeply", id="deep-json"),
        pytest.param(
            "kind: Pod\napiVersion: v1\nx: " + "9" * 5000 + "\n", "not valid YAML or JSON: ", id="5000-digits"
        ),
        pytest.param(
            f"a: &a {{{', '.join(f'k{i}: 1' for i in range(2_000))}}}\nb:\n  <<: [{'*a, ' * 2_600}]\n",
            ": not valid YAML or JSON at line 1: more than 5000000 values once merge keys are followed",
            id="merge-keys",
        ),
    ],
)
def test_a_huge_file_that_cannot_be_read_is_one_line_and_exit_2(
    reviewed: Reviewed, text: str, message: str
) -> None:
    done = reviewed(text)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "given.yaml" in done.err
    assert message in done.err
    assert len(done.err) < 2000


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


def test_an_object_with_too_many_images_has_no_image_in_json(reviewed: Reviewed) -> None:
    (each,) = json.loads(reviewed(pod(*["nginx"] * 1001), options=["-o", "json"]).out)
    assert each["verdict"] == "rejected"
    (image,) = each["images"]
    assert (image["path"], image["image"], image["reason"]) == ("spec.containers", None, "invalid")
    assert image["detail"] == "too many images (1001; at most 1,000)"


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
