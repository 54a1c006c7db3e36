"""Check the README and the docs by running their examples."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from examples import demo
from gatekeeper_py.cli.inputs.manifests import read_manifests
from gatekeeper_py.cli.main import COMMANDS, cli, run
from gatekeeper_py.controller.metrics import ControlMetrics, EnforcementMetrics, FastPathMetrics
from gatekeeper_py.controller.webhooks.settings import parse_settings
from gatekeeper_py.core import admission, parse_policy
from gatekeeper_py.core.admission.radius import LEAST_KNOWN
from gatekeeper_py.core.compile.native.canonical import MAX_MIRRORS
from gatekeeper_py.core.compile.native.decision import MAX_CHARACTERS, MAX_NEW_IMAGES
from gatekeeper_py.core.compile.native.validating import POLICY_NAME, WARNING_NAME
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import InvalidPattern, parse_pattern
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.lint import CHECKS, lint
from gatekeeper_py.core.policy.parse.document import json_schema
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.metrics import Metrics
from support.builders import pod, policy_document, policy_text
from support.documented import LOG_EVENTS, STATUSES, check_event, check_status
from tools.site import hooks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
POLICY_PAGE = (ROOT / "docs/policy.md").read_text(encoding="utf-8")
INTERFACE_PAGE = (ROOT / "docs/interface.md").read_text(encoding="utf-8")
MIGRATION_PAGE = (ROOT / "docs/migrate.md").read_text(encoding="utf-8")
FAST_PATH_PAGE = (ROOT / "docs/fast-path.md").read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "benchmarks", "monitoring") for path in (ROOT / folder).rglob("*.md")),
]
EXAMPLES = [ROOT / "examples/policy.yaml", *sorted((ROOT / "examples/policies").glob("*.yaml"))]
SECTIONS = set(json_schema()["properties"]) - {"apiVersion", "kind"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def commands(text: str) -> list[str]:
    """Return every `$ gatekeeper-py …` command of the console blocks."""
    return [
        line.removeprefix("$ gatekeeper-py ")
        for block in blocks(text, "console")
        for line in block.splitlines()
        if line.startswith("$ gatekeeper-py ")
    ]


def shown(page: Path) -> list[Any]:
    """Return the YAML documents of a page, each as a parameter."""
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml"))
    ]


@pytest.mark.parametrize("text", [each for page in PAGES for each in shown(page)])
def test_every_policy_and_all_webhook_settings_shown_are_accepted(text: str) -> None:
    document = yaml.safe_load(text)
    keys = set(document) if isinstance(document, dict) else set()
    if "exemptNamespaces" in keys:
        parse_settings(text)
    elif "kind: ImagePolicy\n" in text:
        parse_policy(text)
    elif keys and keys <= SECTIONS:
        parse_policy(yaml.safe_dump(policy_document(["a.example"], mode="warn") | document))


@pytest.mark.parametrize("command", [line for line in commands(README) if not line.startswith("serve")])
def test_every_command_of_the_readme_runs(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # 1 is also a valid exit code, because the examples show a refused image.
    assert run(shlex.split(command)) in {0, 1}
    assert capsys.readouterr().out


NATIVE_PAGE = (ROOT / "docs/native-policies.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", blocks(NATIVE_PAGE, "console"))
def test_commands_about_native_policies_print_what_the_page_shows(
    block: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, *lines = block.splitlines()
    if lines and not lines[0].startswith("$ "):
        assert run(shlex.split(command.removeprefix("$ gatekeeper-py "))) == 1
        assert capsys.readouterr().err.splitlines() == lines
        return
    for each in block.splitlines():
        written = each.removeprefix("$ gatekeeper-py ").partition(" > ")[0]
        assert run(shlex.split(written)) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert len(list(yaml.safe_load_all(captured.out))) >= 2


def test_the_page_about_native_policies_names_the_limits() -> None:
    assert (
        f"{MAX_NEW_IMAGES} new images, or with new images of more than {MAX_CHARACTERS:,} characters"
        in NATIVE_PAGE
    )
    assert f"more than {MAX_MIRRORS} mirrors" in NATIVE_PAGE
    for name in (POLICY_NAME, WARNING_NAME):
        assert f"`{name}`" in NATIVE_PAGE


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        pytest.param(*block.removeprefix("$ gatekeeper-py ").split("\n", 1), id=f"{page}-{number}")
        for page in ("diff.md", "policy-tests.md")
        for number, block in enumerate(blocks((ROOT / "docs" / page).read_text(encoding="utf-8"), "console"))
    ],
)
def test_commands_on_the_pages_print_what_the_pages_show(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)) in {0, 1}
    made = re.compile("[0-9TZ:-]{20}(?=, gatekeeper-py )")
    assert made.sub("TIME", capsys.readouterr().out) == made.sub("TIME", shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_exist_with_their_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # The context has the settings of the group, because a command keeps the first help option that it makes.
    group = click.Context(cli, help_option_names=cli.context_settings["help_option_names"])
    for line in commands(text):
        name, *arguments = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
        found = cli.get_command(group, name)
        assert found is not None, line
        found.make_parser(click.Context(found, parent=group)).parse_args(arguments)
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    shown = re.findall(r"^\$ make ((?:[a-z0-9-]+ ?)+)", "\n".join(blocks(text, "console")), re.MULTILINE)
    shown += re.findall(r"`make ([a-z0-9-]+)", text)
    assert {target for targets_shown in shown for target in targets_shown.split()} <= targets


def test_the_denial_of_the_readme_is_the_one_users_get() -> None:
    policy = parse_policy((ROOT / "examples/policy.yaml").read_text(encoding="utf-8")).at(NOW)
    (manifest,) = read_manifests(str(ROOT / "examples/manifests/dockerhub.yaml"))
    message = admission.validate(manifest.request, policy).response.message
    configuration = yaml.safe_load((ROOT / "k8s/base/webhooks/validating.yaml").read_text(encoding="utf-8"))
    webhook = next(hook["name"] for hook in configuration["webhooks"] if hook["name"].startswith("pods."))
    shown_text = (
        "$ kubectl apply -f dockerhub.yaml Error from server (Forbidden): error when creating "
        f'"dockerhub.yaml": admission webhook "{webhook}" denied the request: {message}'
    )
    assert shown_text.split() == blocks(README, "console")[0].split()


@pytest.mark.parametrize(
    ("shown_text", "images"),
    [
        pytest.param("matches no rule", ["nginx:1.27"], id="unlisted"),
        pytest.param("is denied by deny[0] …", ["registry.corp.example/web:latest"], id="denied"),
        pytest.param("not an image reference: …", ["registry.corp.example/Web:1"], id="invalid"),
        pytest.param("never approved: …", ["sha256:abcdef"], id="never-approved"),
        pytest.param("the image is missing", [None], id="missing"),
        pytest.param("too many images", ["registry.corp.example/web:1"] * 1001, id="too-many"),
    ],
)
def test_the_page_for_developers_has_the_words_of_denials(
    shown_text: str, images: list[str], tmp_path: Path
) -> None:
    page = (ROOT / "docs/refused.md").read_text(encoding="utf-8")
    assert f"| `{shown_text}` |" in page
    policy = parse_policy((ROOT / "examples/policy.yaml").read_text(encoding="utf-8")).at(NOW)
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod(*images)))
    (manifest,) = read_manifests(str(file))
    assert shown_text.removesuffix(" …") in admission.validate(manifest.request, policy).response.message


@pytest.mark.parametrize(
    ("shown_text", "until"),
    [
        pytest.param("ask for an exception: gatekeeper-py except …", "2020-01-01", id="not-asked-yet"),
        pytest.param("an exception for it ended …", "2025-12-31", id="ended"),
        pytest.param("an exception for it begins …", "2026-01-04", id="early"),
        pytest.param("Warning: … is approved until … by an exception", "2026-01-02", id="live"),
    ],
)
def test_the_page_for_developers_has_the_words_about_exceptions(
    shown_text: str, until: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs/refused.md").read_text(encoding="utf-8")
    assert f"| `{shown_text}` |" in page
    document = parse_exceptions(
        "apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\n"
        f"exceptions: [{{image: ghcr.io/a/b, until: {until}, reason: hotfix}}]\n"
    )
    grants = "exceptions: [{source: namespace, images: [ghcr.io/**], longest: 2d}]\n"
    exceptions = Exceptions({DocumentKey("namespace", "shop"): document})
    policy = parse_policy(policy_text(grants)).at(NOW, exceptions)
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod("ghcr.io/a/b:1")))
    (manifest,) = read_manifests(str(file))
    response = admission.validate(manifest.request, policy).response
    said = "\n".join((response.message, *(f"Warning: {each}" for each in response.warnings)))
    assert fnmatch.fnmatchcase(said, f"*{shown_text.replace('…', '*')}*")


def test_the_page_for_operators_says_how_many_images_the_guard_needs() -> None:
    page = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    assert f"If it knows fewer than {LEAST_KNOWN} images" in page


def test_the_demo_names_the_webhooks_as_they_are_registered() -> None:
    configuration = yaml.safe_load((ROOT / "k8s/base/webhooks/validating.yaml").read_text(encoding="utf-8"))
    named = set(demo.WEBHOOKS.values())
    assert named
    assert named <= {hook["name"] for hook in configuration["webhooks"]}


def test_every_command_of_the_readme_exists_and_every_command_is_documented() -> None:
    named = set(re.findall(r"`(?:gatekeeper-py )?([a-z]+)[ `]", README)) | {
        c.split()[0] for c in commands(README)
    }
    assert set(COMMANDS) <= named


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        row
        for row in re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\|$", POLICY_PAGE, re.MULTILINE)
        if row[0].startswith("`") and row[2].startswith("`")
    ],
)
def test_the_table_of_patterns_is_true(pattern: str, matching: str, other: str) -> None:
    images = {
        image.replace("sha256:…", f"sha256:{'a' * 64}"): cell == "matching"
        for cell, text in (("matching", matching), ("other", other))
        for image in re.findall(r"`([^`]+)`", text)
    }
    assert images
    for text in re.findall(r"`([^`]+)`", pattern):
        for image, expected in images.items():
            assert parse_pattern(text).matches(parse_image(image)) is expected, (text, image)


def prefixes(*allowed: str) -> Callable[[str], bool]:
    """Decide as Gatekeeper's ``K8sAllowedRepos`` does."""
    return lambda image: image.startswith(allowed)


def wildcards(*allowed: str) -> Callable[[str], bool]:
    """Decide as a pattern of Kyverno does: ``*`` stands for anything."""
    return lambda image: any(fnmatch.fnmatchcase(image, pattern) for pattern in allowed)


def names(policy: str) -> Callable[[str], bool]:
    compiled = parse_policy(policy).at(NOW)
    return lambda image: compiled.decide("default", image).approved


def disallowed_latest(image: str) -> bool:
    """Decide as Gatekeeper's ``K8sDisallowedTags`` does for the tag ``latest``."""
    return ":" in image and not image.endswith(":latest")


@pytest.mark.parametrize(
    ("heads", "deciders"),
    [
        pytest.param(
            "Gatekeeper, no slash | Gatekeeper | Kyverno | gatekeeper-py",
            [
                prefixes("registry.corp.example", "docker.io/library/"),
                prefixes("registry.corp.example/", "docker.io/library/"),
                wildcards("registry.corp.example/*", "docker.io/library/*"),
                names(blocks(MIGRATION_PAGE, "yaml")[0]),
            ],
            id="registries",
        ),
        pytest.param(
            "Gatekeeper `K8sDisallowedTags` | gatekeeper-py `*/**:latest`",
            [
                disallowed_latest,
                names(
                    "{apiVersion: gatekeeper-py/v1, kind: ImagePolicy, mode: enforce, "
                    "allow: [registry.corp.example, 'registry.corp.example:5000'], deny: ['*/**:latest']}"
                ),
            ],
            id="tags",
        ),
    ],
)
def test_the_verdicts_of_the_migration_page_are_true(
    heads: str, deciders: list[Callable[[str], bool]]
) -> None:
    table = MIGRATION_PAGE.partition(f"| image | {heads} |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `*") for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]
    assert len(rows) > 2
    for image, *verdicts in rows:
        expected = ["admits" if decide(image) else "refuses" for decide in deciders]
        assert verdicts == expected, image


def test_a_pattern_without_a_host_is_refused_with_the_proposal_that_the_page_names() -> None:
    with pytest.raises(InvalidPattern) as refusal:
        parse_pattern("nginx")
    assert refusal.value.proposal == "docker.io/library/nginx"


def test_the_page_lists_every_lint_code() -> None:
    codes = {code for codes in CHECKS.values() for code in codes}
    assert codes <= set(re.findall(r"`([a-z-]+)`", POLICY_PAGE))


def test_the_example_policy_has_no_errors_and_decides_as_the_readme_shows() -> None:
    policy = parse_policy((ROOT / "examples/policy.yaml").read_text(encoding="utf-8"))
    compiled = policy.at(NOW)
    assert compiled.decide("default", "registry.corp.example/shop/web:1").approved
    assert not compiled.decide("default", "registry.corp.example.evil.io/x:1").approved


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_example_policy_has_a_finding(path: Path) -> None:
    assert lint(parse_policy(path.read_text(encoding="utf-8")), NOW) == ()


@pytest.mark.parametrize("page", ["README.md", "docs/policy.md"])
def test_the_first_policies_that_a_reader_sees_have_no_findings(page: str) -> None:
    shown_first = blocks((ROOT / page).read_text(encoding="utf-8"), "yaml")[0]
    assert lint(parse_policy(shown_first), NOW) == ()


def test_every_test_in_the_table_of_faults_exists() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(re.findall(r"`(?:[a-z0-9_/]+\.py::)?(test_[a-z0-9_]+)`", page))
    assert len(functions) > 40
    defined = {name for text in sources.values() for name in re.findall(r"def (test_[a-z0-9_]+)\(", text)}
    assert functions <= defined, functions - defined
    for path, function in re.findall(r"`([a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`", page):
        assert f"def {function}" in sources[ROOT / "tests" / path], path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_interface_page_has_every_option(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    options = {name for option in found.params for name in option.opts if name.startswith("-")}
    assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", INTERFACE_PAGE))


def test_the_interface_page_has_every_metric() -> None:
    control = ControlMetrics()
    FastPathMetrics(control.registry)
    EnforcementMetrics(control.registry)
    registries = [Metrics(LivePolicy(), CacheCounts()).registry, control.registry]
    named = {
        family.name + ("_total" if family.type == "counter" else "")
        for registry in registries
        for family in registry.collect()
        if family.name.startswith("gatekeeper_py_")
    }
    assert len(named) > 30
    shown = {f"gatekeeper_py_{name}" for name in re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", INTERFACE_PAGE)}
    shown |= set(re.findall(r"gatekeeper_py_[a-z_]+", FAST_PATH_PAGE))
    assert named <= shown, named - shown


def test_the_interface_page_names_events_and_status_codes() -> None:
    """Helpers of the tests (``documented.py``) check every event and answer against the page."""
    assert {"review", "policy_loaded", "fastpath_in_step"} <= LOG_EVENTS
    assert {200, 400, 413, 500} <= STATUSES
    with pytest.raises(AssertionError, match="odd_event"):
        check_event("odd_event")
    with pytest.raises(AssertionError, match="418"):
        check_status(418)


@pytest.mark.parametrize("block", blocks(INTERFACE_PAGE, "json"))
def test_the_json_of_the_interface_page_is_json(block: str) -> None:
    json.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


def test_the_navigation_of_the_site_has_every_page_once() -> None:
    def files(entry: Any) -> Iterator[str]:
        match entry:
            case str():
                yield entry
            case list() | dict():
                for each in entry.values() if isinstance(entry, dict) else entry:
                    yield from files(each)

    named = list(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    docs = ROOT / "docs"
    assert sorted(named) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def test_the_site_shows_code_in_tables_without_backslashes() -> None:
    assert hooks.unescaped("| `a\\|b` | c\\|d |\n`a\\|b`") == "| `a|b` | c\\|d |\n`a\\|b`"


def test_the_site_shows_a_path_where_a_link_would_leave_it() -> None:
    shown = hooks.in_words("a [policy](../examples/policy.yaml#x) and [other](other.md)", ROOT / "docs")
    assert shown == "a policy (`examples/policy.yaml` in the repository) and [other](other.md)"
    assert hooks.in_words("[examples/policy.yaml](../examples/policy.yaml)", ROOT / "docs") == (
        "`examples/policy.yaml`"
    )
    assert hooks.in_words("[up](../on-call.md)", ROOT / "docs" / "runbooks") == "[up](../on-call.md)"
    with pytest.raises(ValueError, match="does not exist"):
        hooks.in_words("[gone](../gone.md)", ROOT / "docs")
