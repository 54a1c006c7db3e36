"""``review`` of directories: files that are not Kubernetes manifests are skipped and counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.cli.inputs.files import path_matches
from support.builders import pod, policy_text
from support.commanding import Command, Done, Write

GOOD: Final = json.dumps(pod("registry.corp.io/web:1"))
BAD: Final = json.dumps(pod("nginx:1.25"))
DEPLOYMENT: Final = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n"
TEMPLATE: Final = (
    f"{DEPLOYMENT}spec:\n  template:\n    spec:\n      containers:\n"
    '        - name: web\n          image: "{{ .Values.image }}"\n'
)

Tree = dict[str, str | bytes]
Reviewed = Callable[..., Done]

REPOSITORY: Final[Tree] = {
    ".github/workflows/ci.yml": "on: [push]\njobs:\n  test:\n    steps: []\n",
    ".gitlab-ci.yml": "build:\n  script: !reference [.setup, script]\n",
    "apps/web/deployment.yaml": DEPLOYMENT,
    "apps/web/kustomization.yaml": "resources: [deployment.yaml]\nnamePrefix: a-\n",
    "apps/web/pod.json": GOOD,
    "charts/web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    "charts/web/crds/crd.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n",
    "charts/web/templates/deployment.yaml": f"{{{{- if .Values.web }}}}\n{TEMPLATE}{{{{- end }}}}\n",
    "charts/web/templates/quoted.yaml": TEMPLATE,
    "charts/web/templates/service.yaml": "apiVersion: v1\nkind: Service\nspec: {}\n",
    "charts/web/values.yaml": "image:\n  repository: nginx\n",
    "docs/empty.yaml": "# nothing\n---\n",
    "docs/mkdocs.yml": "site_name: web\nextra: !!python/name:a.b\n",
    "package.json": '{"name": "web", "version": "1.0.0"}',
    "policy.yaml": policy_text(),
    "README.md": "{{",
    "tsconfig.json": "{\n  // a comment\n  strict: true\n}\n",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def reviewed(command: Command, write: Write, folder: Path) -> Reviewed:
    """Return a function that writes the files of a tree below a directory, and reviews the directory."""

    def reviewed(tree: Tree, *options: object) -> Done:
        for name, content in tree.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return command("review", write(policy_text()), folder, *options)

    return reviewed


def sources(out: str, folder: Path) -> list[str]:
    return [Path(each["source"]).relative_to(folder).as_posix() for each in json.loads(out)]


def test_a_repository_is_judged_and_its_other_files_are_counted(reviewed: Reviewed, folder: Path) -> None:
    done = reviewed(REPOSITORY, "--format", "json")
    assert done.code == 0
    assert sources(done.out, folder) == [
        "apps/web/deployment.yaml",
        "apps/web/pod.json",
        "charts/web/crds/crd.yaml",
        "charts/web/templates/service.yaml",
    ]
    assert done.err == (
        "note: skipped 10 files with documents that are not Kubernetes manifests:"
        f" {folder}/.gitlab-ci.yml (not YAML or JSON), {folder}/package.json (no apiVersion and kind),"
        f" {folder}/tsconfig.json (not YAML or JSON),"
        f" {folder}/.github/workflows/ci.yml (no apiVersion and kind),"
        f" {folder}/apps/web/kustomization.yaml (a kustomization), 5 more\n"
    )
    replacing = "resources: [pod.yaml]\nimages: [{name: a, newName: quay.io/b}]\n"
    assert (
        f"manifests: {folder}/overlays/web/kustomization.yaml"
        " (a kustomization that replaces images: review the output of kustomize build), "
    ) in reviewed({"overlays/web/kustomization.yaml": replacing}).err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param("text\n", "no apiVersion and kind", id="text"),
        pytest.param("- a\n", "no apiVersion and kind", id="list"),
        pytest.param("kind: pipeline\nsteps: []\n", "no apiVersion and kind", id="kind-without-api-version"),
        pytest.param("apiVersion: v1\n", "no apiVersion and kind", id="api-version-without-kind"),
        pytest.param("a: [\n", "not YAML or JSON", id="broken"),
        pytest.param(f"{DEPLOYMENT}a: [\n", "not YAML or JSON", id="broken-object"),
        pytest.param('{"a": 1', "not YAML or JSON", id="broken-json"),
        pytest.param("a: 1\na: 2\n", "not YAML or JSON", id="key-given-twice"),
        pytest.param("a: !Ref b\n", "not YAML or JSON", id="tag"),
        pytest.param("a: \0\n", "not YAML or JSON", id="control-character"),
        pytest.param(b"a: \xff\n", "not UTF-8", id="latin-1"),
        pytest.param(DEPLOYMENT.encode("utf-16"), "UTF-16", id="utf-16"),
        pytest.param(DEPLOYMENT.encode("utf-16-le"), "UTF-16", id="utf-16-without-mark"),
        pytest.param(DEPLOYMENT.encode("utf-16-be"), "UTF-16", id="utf-16-big-endian"),
        pytest.param(f"{{{{ if .a }}}}\n{DEPLOYMENT}", "an unrendered Helm template", id="helm-if"),
        pytest.param(
            DEPLOYMENT.replace("web", "{{ .Release.Name }}"), "an unrendered Helm template", id="helm-value"
        ),
        pytest.param("apiVersion: v2\nname: a\nversion: 1\n", "the description of a Helm chart", id="chart"),
        pytest.param("resources: [a.yaml]\nimages: []\n", "a kustomization", id="kustomization"),
        pytest.param("exemptNamespaces: [a]\n", "a webhooks.yaml", id="webhook-settings"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_manifest_is_skipped_in_a_directory_and_an_error_by_name(
    command: Command, reviewed: Reviewed, write: Write, folder: Path, content: str | bytes, why: str
) -> None:
    done = reviewed({"good.json": GOOD, "other.yaml": content})
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 object: 1 admitted")
    skipped = f"skipped 1 file with documents that are not Kubernetes manifests: {folder}/other.yaml ({why})"
    assert done.err == f"note: {skipped}\n"
    assert reviewed({}, "--strict").code == 1
    policy = write(policy_text())
    by_name = command("review", policy, folder / "good.json", folder / "other.yaml")
    assert (by_name.code, by_name.out) == (2, "")
    assert by_name.err.startswith(f"Error: {folder}/other.yaml")
    if isinstance(content, str):
        assert command("review", policy, "-", stdin=f"{GOOD}\n---\n{content}").code == 2
    (folder / "good.json").unlink()
    alone = reviewed({})
    assert (alone.code, alone.out) == (2, "")
    assert alone.err == f"Error: {folder}: there is no object to judge; {skipped}\n"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        pytest.param("{{ if }}\na: b\n", "an unrendered Helm template: use the output of helm", id="helm"),
        pytest.param("apiVersion: v2\nname: a\nversion: 1\n", "the output of helm template", id="chart"),
        pytest.param(
            "components: [a]\n", "a kustomization: use the output of kustomize build", id="kustomize"
        ),
        pytest.param(
            "exemptNamespaces: [a]\n", "a webhooks.yaml: give it as --webhooks-config", id="settings"
        ),
        pytest.param(GOOD.encode("utf-16"), "UTF-16, but must be UTF-8; save it again", id="utf-16"),
    ],
)
def test_the_error_of_a_named_file_says_what_it_is_and_what_to_do(
    command: Command, write: Write, content: str | bytes, hint: str
) -> None:
    done = command("review", write(policy_text()), write(content, "given.yaml"))
    assert (done.code, done.out) == (2, "")
    assert hint in done.err


def test_the_good_documents_of_a_mixed_file_are_judged(reviewed: Reviewed) -> None:
    mixed = f"{DEPLOYMENT}---\na: [\n---\n{BAD}\n---\nb: 1\n...\n---\n\n{GOOD}\n"
    done = reviewed({"mixed.yaml": mixed}, "--format", "json")
    assert [(each["document"], each["kind"], each["verdict"]) for each in json.loads(done.out)] == [
        (0, "Deployment", "admitted"), (2, "Pod", "rejected"), (4, "Pod", "admitted"),
    ]  # fmt: skip
    assert (done.code, done.err.count("mixed.yaml (not YAML or JSON)")) == (1, 1)
    (result,) = json.loads(reviewed({}, "-o", "sarif").out)["runs"][0]["results"]
    (location,) = result["locations"]
    assert mixed.splitlines()[location["physicalLocation"]["region"]["startLine"] - 1] == BAD


MERGES: Final = f"a: &a {{{', '.join(f'k{i}: 1' for i in range(2_000))}}}\nb:\n  <<: [{'*a, ' * 1_500}]\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(f"{DEPLOYMENT}spec: 1\nspec: 2\n", "at line 6: a key is given twice", id="key-twice"),
        pytest.param(
            f"a: [\n---\n{DEPLOYMENT}x: !!set {{a}}\n", "at line 7: a tag is not supported", id="tag-in-mixed"
        ),
        pytest.param(f"# {{{{ a }}}}\n{DEPLOYMENT}x: 1e999\n", "a number is too large", id="number"),
        pytest.param(f'{GOOD[:-1]}, "kind": "Pod"}}', "a key is given twice", id="key-twice-in-json"),
        pytest.param("apiVersion: v1\nkind: List\nitems: [a]\n", "it has no kind", id="item-of-a-list"),
        pytest.param(
            "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n", "not an AdmissionReview", id="review"
        ),
        pytest.param("[\n---\n" * 10_001, "not valid YAML, and more than 10,000 documents", id="documents"),
        pytest.param('{"a": ' * 3_000 + "1" + "}" * 3_000, "nested too deeply", id="too-deep-json"),
        pytest.param(
            f"a: &a {BAD}\napiVersion: v1\nkind: Service\n<<: *a\n",
            "a merge key after a field that it gives",
            id="merge-key-that-wins-for-kubectl",
        ),
        pytest.param(f"\x0c{BAD}\n---\n{GOOD}", "not valid YAML or JSON", id="form-feed"),
        pytest.param("a: " + "[" * 2_000 + "]" * 2_000, "maximum nesting depth", id="too-deep"),
        pytest.param(
            f"a: [\n---\n{MERGES}---\n{MERGES}",
            "more than 5000000 values once merge",
            id="merges-of-all-parts",
        ),
    ],
)
def test_an_object_that_kubectl_may_accept_and_a_limit_are_errors_even_in_a_directory(
    reviewed: Reviewed, folder: Path, content: str, problem: str
) -> None:
    done = reviewed({"a.json": GOOD, "bad.yaml": content})
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"Error: {folder}/bad.yaml")
    assert problem in done.err


@pytest.mark.parametrize("api", ["apps/v1", "gatekeeper-py/v1"])
def test_the_items_of_an_object_of_any_kind_are_judged(reviewed: Reviewed, api: str) -> None:
    """For kubectl, any object with items is a list (apimachinery, ``unstructuredJSONScheme.decode``)."""
    bad = json.dumps({"apiVersion": api, "kind": "Deployment", "items": [json.loads(BAD)]})
    done = reviewed({"deployment.json": bad})
    assert re.fullmatch(
        r"2 objects: (1 admitted, 1 rejected|1 rejected, 1 unknown)", done.out.splitlines()[-1]
    )
    done = reviewed({"deployment.json": bad.replace("[{", "[1, {")})  # not a list for kubectl either
    assert done.out.splitlines()[-1].startswith("1 object: 1 ")


def test_braces_outside_a_chart_do_not_hide_an_object(reviewed: Reviewed) -> None:
    """A rule for alerts may hold {{ in text. Only in a chart is such an object a template."""
    braces = f"# {{{{ a }}}}\n{BAD}\n"
    done = reviewed({"templates/pod.yaml": braces, "pod.yaml": braces})
    assert done.out.splitlines()[-1] == "2 objects: 2 rejected"
    done = reviewed({"Chart.yaml": "apiVersion: v2\nname: a\nversion: 1\n"})
    assert done.out.splitlines()[-1] == "1 object: 1 rejected"
    assert "templates/pod.yaml (an unrendered Helm template)" in done.err


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        pytest.param([], ["a.json", "b/a.json", "b/c/d.json"], id="none"),
        pytest.param(["a.json"], ["b/a.json", "b/c/d.json"], id="only-at-the-top"),
        pytest.param(["**/a.json"], ["b/c/d.json"], id="at-any-level"),
        pytest.param(["b"], ["a.json"], id="folder"),
        pytest.param(["b/"], ["a.json"], id="folder-with-a-slash"),
        pytest.param(["./b"], ["a.json"], id="folder-with-a-dot"),
        pytest.param(["b/**"], ["a.json"], id="all-below-a-folder"),
        pytest.param(["*/c"], ["a.json", "b/a.json"], id="star-for-a-folder"),
        pytest.param(["*.json"], ["b/a.json", "b/c/d.json"], id="star-in-a-name"),
        pytest.param(["b/a*", "a.json"], ["b/c/d.json"], id="two"),
    ],
)
def test_ignored_files_and_folders_are_not_reported(
    reviewed: Reviewed, folder: Path, globs: list[str], left: list[str]
) -> None:
    options = [f"--ignore={glob}" for glob in globs]
    done = reviewed({"a.json": GOOD, "b/a.json": GOOD, "b/c/d.json": GOOD}, "--format", "json", *options)
    assert (done.code, done.err) == (0, "")
    assert sources(done.out, folder) == left


def test_ignored_files_and_links_are_not_even_opened(reviewed: Reviewed, folder: Path) -> None:
    reviewed({"a.json": GOOD, "link/b.json": BAD})
    (folder / "zero.yaml").symlink_to("/dev/zero")
    (folder / "other").symlink_to(folder / "link")
    done = reviewed({}, "--ignore=zero.yaml", "--ignore=other", "--ignore=link")
    assert (done.code, done.err) == (0, "")


NAMES: Final = st.text("ab.", min_size=1, max_size=3)


@given(
    st.lists(
        st.one_of(st.text("ab.*", min_size=1, max_size=3), st.just("**")).filter(lambda part: part != "."),
        min_size=1,
        max_size=5,
    ),
    st.lists(NAMES, min_size=1, max_size=5),
)
def test_a_glob_matches_paths_as_the_regular_expression_of_its_meaning(
    parts: list[str], names: list[str]
) -> None:
    expression = "".join(
        "(?:[^/]+/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") + "/" for part in parts
    )
    expected = re.fullmatch(expression, "/".join(names) + "/") is not None
    assert path_matches("/".join(parts), "/".join(names)) is expected


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        pytest.param({}, "admitted", id="no-images"),
        pytest.param({"images": []}, "admitted", id="empty"),
        pytest.param({"images": [{"name": "nginx", "newName": "evil.io/x"}]}, "unknown", id="overrides"),
        pytest.param(
            {"images": [{"name": "nginx", "newTag": "1"}], "kind": "Component"}, "unknown", id="component"
        ),
    ],
)
def test_a_kustomization_that_replaces_images_is_unknown(
    command: Command, write: Write, fields: dict[str, Any], verdict: str
) -> None:
    obj = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}
    file, policy = write(json.dumps(obj), "kustomization.yaml"), write(policy_text())
    done = command("review", policy, file, "--strict")
    assert (done.code, done.out.split()[0]) == (int(verdict == "unknown"), verdict)
    assert ("review the output of kustomize build" in done.out) is (verdict == "unknown")
