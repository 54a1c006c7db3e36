"""The page about the architecture names the files of ten usual changes, and each file is needed.

A row of the table below has the names of what exists, such as the fields of a rule, and for each file the
names that the file knows. If something new is missing from a file, the test of the row names that file.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import pytest
import yaml

from chart.rendering import nested
from chart.test_values import EFFECTS
from cluster.following import connecting
from core.policy import test_rule_fields
from gatekeeper_py.cli import main as cli
from gatekeeper_py.cli.commands.auditloop import AuditMetrics
from gatekeeper_py.cli.inventory.exceptions import read_exceptions_of
from gatekeeper_py.cli.inventory.recorded import SavedAudit
from gatekeeper_py.cli.inventory.survey import Survey
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.controller.metrics import ControlMetrics, EnforcementMetrics, FastPathMetrics
from gatekeeper_py.controller.webhooks import settings, templates
from gatekeeper_py.core import Policy, admission, parse_policy
from gatekeeper_py.core.admission import fields as image_fields
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.admission.fields import WORKLOAD_KINDS, ImageList
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.compare.documents import compare_documents
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.validating import validating_policy
from gatekeeper_py.core.exceptions import grants
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.images import manifest
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.manifest import Answer, Manifest
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import document_key
from gatekeeper_py.core.policy.document import MODES, Mode, OverrideEntry
from gatekeeper_py.core.policy.parse.document import json_schema, parse_allowed
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.registry import kinds
from gatekeeper_py.registry.signatures import lookup
from gatekeeper_py.webhook.metrics import Metrics
from live.sources.test_exceptions import OWN, Cluster, Followed, configmap
from support import contract, monitoring_files
from support.builders import INSTANT, WORKLOADS, exceptions_text, pod, policy_text, review
from support.fakeapi import FakeApi, until

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "gatekeeper_py"
METRIC: Final = "gatekeeper_py_"
CHART: Final = "charts/gatekeeper-py"
RIGHTS: Final = (
    "k8s/components/exceptions/kustomization.yaml",
    "k8s/components/exceptions/rbac.yaml",
    f"{CHART}/templates/controller-rbac.yaml",
    f"{CHART}/templates/exceptions.yaml",
    f"{CHART}/templates/reports.yaml",
)
"""The files with the rights to read ConfigMaps with exceptions."""

IDENTITY: Final = "k8s/identity/users.yaml"
OBJECTS: Final = ("written", "before")
"""The variables of ``IDENTITY`` for the new and the old object."""
PAGE: Final = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

META: Final = {
    "time": "2026-03-01T00:00:00Z",
    "version": "1",
    "cluster": "a",
    "policy": {"source": "s", "revision": "r"},
}
"""The provenance of a saved audit."""


class Change(NamedTuple):
    """``names`` returns what exists, ``places`` maps each file to what it knows of that."""

    names: Callable[[], Iterable[str]]
    places: Mapping[str, Callable[[], Iterable[str]]]


def path_of(place: str) -> Path:
    """Return a file by its path in the package or in the repository."""
    return PACKAGE / place if (PACKAGE / place).exists() else ROOT / place


def words(*places: str) -> Callable[[], set[str]]:
    """Return the words and versions in files that people read or that hold objects of Kubernetes."""
    return lambda: {
        word.removeprefix(METRIC)
        for place in places
        for word in re.findall(r"\d+[.]\d+|\w+", path_of(place).read_text(encoding="utf-8"))
    }


def folders(place: str) -> Callable[[], set[str]]:
    """Return the names of what a folder holds."""
    return lambda: {path.stem for path in path_of(place).iterdir()}


def load(place: str) -> Any:
    return yaml.safe_load(path_of(place).read_text(encoding="utf-8"))


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def written(names: Iterable[str]) -> set[str]:
    return {test_rule_fields.WRITTEN.get(name, name) for name in names}


def rule_fields() -> set[str]:
    """Return the fields of a rule, named as in a document."""
    return written(fields(Rule) - test_rule_fields.PLACE)


def requirement_fields() -> set[str]:
    return written(fields(Requirement) - {"index"})


def changed_fields(*sections: test_rule_fields.Section) -> set[str]:
    """Return the fields of entries that a comparison of two documents shows when they change."""
    rows = [field for field in test_rule_fields.FIELDS if field[0] in sections]
    changes = (
        change for row in rows for change in compare_documents(*test_rule_fields.policies(row)).changed
    )
    return {key for change in changes for key in change.new or ()}


def metric_names() -> set[str]:
    control = ControlMetrics()
    FastPathMetrics(control.registry)
    EnforcementMetrics(control.registry)
    return {
        family.name.removeprefix(METRIC) + ("_total" if family.type == "counter" else "")
        for registry in (
            Metrics(LivePolicy(), CacheCounts()).registry,
            control.registry,
            AuditMetrics(600).registry,
        )
        for family in registry.collect()
        if family.name.startswith(METRIC)
    }


def watched_metrics() -> set[str]:
    """Return the metrics that panels show and alerts use, and the one that only a start sets."""
    alerts = (rule["expr"] for rule in monitoring_files.alerts().values())
    queries = "\n".join((*monitoring_files.panel_queries().values(), *alerts))
    return {*re.findall(rf"{METRIC}(\w+?)(?:_bucket|_count|_sum)?\b", queries), "fast_http"}


def format_options() -> dict[str, click.Choice[str]]:
    """Return the choice of every option ``--format`` by the name of its command."""
    commands = {name: cli.cli.get_command(click.Context(cli.cli), name) for name in cli.COMMANDS}
    return {
        name: option.type
        for name, command in commands.items()
        if command is not None
        for option in command.params
        if "--format" in option.opts and isinstance(option.type, click.Choice)
    }


def formats() -> set[str]:
    return {choice for option in format_options().values() for choice in option.choices}


def versions() -> set[str]:
    """Return the oldest and the newest supported Kubernetes: those of the end-to-end tests."""
    texts = [(ROOT / f"tools/controlplane/{name}/go.mod").read_text() for name in ("oldest", "kubernetes")]
    return {match for text in texts for match in re.findall(r"k8s.io/kubernetes v(\d+\.\d+)", text)}


def chart_enum(*path: str) -> list[str]:
    found = json.loads(path_of("charts/gatekeeper-py/values.schema.json").read_text(encoding="utf-8"))
    for key in path:
        found = found["properties"][key]
    return [str(each) for each in found.get("enum", found.get("properties", ()))]


def settings_with_tests() -> dict[str, tuple[Any, Any]]:
    """Return another value of each setting, as the tests of the chart have them."""
    prefix = "webhooks."
    return {path.removeprefix(prefix): row for path, row in EFFECTS.items() if path.startswith(prefix)}


def effective_settings() -> set[str]:
    """Return the settings whose other value changes a webhook configuration."""
    target = templates.Target(namespace="a", service="b", policy="c")

    def built(found: settings.WebhookSettings) -> list[Any]:
        return [build(target, found).webhooks for build in (templates.validating, templates.mutating)]

    return {
        path.partition(".")[0]
        for path, (value, _) in settings_with_tests().items()
        if built(settings.parse_settings(yaml.safe_dump(nested(path, value))))
        != built(settings.WebhookSettings())
    }


def sources_of(*places: str) -> Callable[[], set[str]]:
    """Return the exception sources whose ConfigMap each of the files names."""
    return lambda: {
        source
        for source, each in grants.SOURCES.items()
        for name in [re.compile(rf"(?<![\w-]){each.name}(?![\w-])")]
        if all(name.search(path_of(place).read_text(encoding="utf-8")) for place in places)
    }


def announced_sources() -> set[str]:
    """Return the exception sources that need no alert, or have one."""
    alerts = "\n".join(rule["expr"] for rule in monitoring_files.alerts().values())
    return {
        source
        for source, each in grants.SOURCES.items()
        if not each.emergency or f'source="{source}"' in alerts
    }


def watched_modes() -> set[str]:
    """Return the modes that refuse images, and those that an alert names."""
    alerts = "\n".join(rule["expr"] for rule in monitoring_files.alerts().values())
    return {name for name, mode in MODES.items() if mode.refuses or f'mode="{name}"' in alerts}


def settings_in_use() -> set[str]:
    return {camel(name) for name in fields(settings.WebhookSettings)}


def image_lists() -> list[str]:
    return [each.key for each in image_fields.IMAGE_LISTS]


def guarded_lists(place: str) -> set[str]:
    """Return the lists of the controller's Pods whose images no update may change.

    No update of any Pod changes its volumes.
    """
    text = path_of(place).read_text(encoding="utf-8")
    written, before = (set(re.findall(rf"variables[.]{name}[.]spec[.](\w+)", text)) for name in OBJECTS)
    return (written & before) | {"volumes"}


def kinds_of_look_ups() -> set[str]:
    return {kind.name for kind in vars(manifest).values() if isinstance(kind, manifest.Kind)}


def required_kinds() -> set[str]:
    """Return the kinds of the look-ups that requirements need."""
    nothing = Answers(lambda _lookup: None)
    for field, image in product(test_rule_fields.FIELDS, test_rule_fields.IMAGES):
        explain(test_rule_fields.with_field(field).at(INSTANT), test_rule_fields.HERE, image, nothing)
    return {each.kind.name for lookup in nothing.missing for each in lookup.candidates}


CHANGES: Final[Mapping[str, Change]] = {
    "a field of a rule": Change(
        rule_fields,
        {
            "core/policy/rules.py": rule_fields,
            "core/policy/parse/document.py": lambda: test_rule_fields.schema_of("RuleModel"),
            "core/admission/explain.py": lambda: changed_fields("allow", "deny"),
            "tests/core/policy/test_rule_fields.py": lambda: written(
                test_rule_fields.names_in("allow", "deny")
            ),
            "docs/policy.md": words("docs/policy.md"),
        },
    ),
    "a field of a requirement": Change(
        requirement_fields,
        {
            "core/policy/requirements.py": requirement_fields,
            "core/policy/parse/document.py": lambda: test_rule_fields.schema_of("RequirementModel"),
            "core/compare/documents.py": lambda: changed_fields("require"),
            "tests/core/policy/test_rule_fields.py": lambda: {
                *written(test_rule_fields.names_in("require")),
                "images",
            },
            "docs/policy.md": words("docs/policy.md"),
        },
    ),
    "a workload kind": Change(
        lambda: (kind.plural for kind in WORKLOAD_KINDS),
        {
            "core/admission/fields.py": lambda: (kind.plural for kind in WORKLOAD_KINDS),
            "k8s/base/webhooks/validating.yaml": words("k8s/base/webhooks/validating.yaml"),
            "k8s/components/reports/rbac.yaml": words("k8s/components/reports/rbac.yaml"),
            "k8s/identity/writes.yaml": words("k8s/identity/writes.yaml"),
            f"{CHART}/templates/reports.yaml": words(f"{CHART}/templates/reports.yaml"),
            "tests/support/builders.py": lambda: {f"{kind.lower()}s" for kind in ("Pod", *WORKLOADS)},
        },
    ),
    "a field that holds images": Change(
        image_lists,
        {
            "core/admission/fields.py": image_lists,
            "k8s/base/webhooks/validating.yaml": words("k8s/base/webhooks/validating.yaml"),
            IDENTITY: lambda: guarded_lists(IDENTITY),
            f"{CHART}/templates/identity.yaml": lambda: guarded_lists(f"{CHART}/templates/identity.yaml"),
            "tests/support/contract.py": lambda: (*contract.CONTAINER_LISTS, "volumes"),
            "docs/policy.md": words("docs/policy.md"),
        },
    ),
    "a mode": Change(
        lambda: MODES,
        {
            "core/policy/document.py": lambda: MODES,
            f"{CHART}/values.schema.json": lambda: chart_enum("policy", "mode"),
            "k8s/overlays": folders("k8s/overlays"),
            "tools/installation/manifests": folders("tools/installation/manifests"),
            "tests/support/contract.py": lambda: contract.MODES,
            "monitoring/rules.yaml": watched_modes,
            "docs/policy.md": words("docs/policy.md"),
        },
    ),
    "a format of a report": Change(
        formats, {"cli/commands": formats, "docs/interface.md": words("docs/interface.md")}
    ),
    "a command": Change(
        lambda: cli.COMMANDS,
        {
            "cli/main.py": lambda: (name for names in cli.SECTIONS.values() for name in names),
            "cli/commands": folders("cli/commands"),
            "docs/interface.md": words("docs/interface.md"),
            "README.md": words("README.md"),
        },
    ),
    "a metric": Change(
        metric_names,
        {
            "docs/interface.md": words("docs/interface.md", "docs/fast-path.md"),
            "tools/monitoring/dashboard.yaml": watched_metrics,
        },
    ),
    "a kind of look-up": Change(
        kinds_of_look_ups,
        {
            "core/images/manifest.py": kinds_of_look_ups,
            "core/admission/judge.py": required_kinds,
            "registry/kinds.py": lambda: (kind.name for kind in kinds.KINDS),
        },
    ),
    "a form of signature": Change(
        lambda: lookup.FORMS,
        {
            "registry/signatures/lookup.py": lambda: lookup.FORMS,
            "docs/signatures.md": words("docs/signatures.md"),
            "docs/interface.md": words("docs/interface.md"),
        },
    ),
    "an exception source": Change(
        lambda: grants.SOURCES,
        {
            "core/exceptions/grants.py": lambda: grants.SOURCES,
            **{place: sources_of(place) for place in RIGHTS},
            "monitoring/rules.yaml": announced_sources,
            "docs/exceptions.md": lambda: re.findall(
                r"`([\w-]+)`", path_of("docs/exceptions.md").read_text(encoding="utf-8")
            ),
        },
    ),
    "a setting of the webhook configurations": Change(
        settings_in_use,
        {
            "controller/webhooks/settings.py": settings_in_use,
            "controller/webhooks/templates.py": effective_settings,
            "k8s/base/webhooks.yaml": words("k8s/base/webhooks.yaml"),
            f"{CHART}/values.yaml": lambda: load(f"{CHART}/values.yaml")["webhooks"],
            f"{CHART}/values.schema.json": lambda: chart_enum("webhooks"),
            "tests/chart/test_values.py": lambda: {path.partition(".")[0] for path in settings_with_tests()},
            "docs/interface.md": words("docs/interface.md"),
        },
    ),
    "a version of Kubernetes": Change(
        versions,
        {
            "tools/controlplane": versions,
            "README.md": words("README.md"),
            "docs/install.md": words("docs/install.md"),
        },
    ),
}


def forgotten(change: str) -> dict[str, set[str]]:
    """Return the files of a change that lack a name, each with the missing names."""
    names = set(CHANGES[change].names())
    found = {place: names - set(known()) for place, known in CHANGES[change].places.items()}
    return {place: missing for place, missing in found.items() if missing}


@pytest.mark.parametrize("change", CHANGES)
def test_no_file_of_a_change_lacks_an_existing_name(change: str) -> None:
    """One test names all files in which something new is missing."""
    assert set(CHANGES[change].names())
    assert forgotten(change) == {}


@pytest.mark.parametrize("change", CHANGES)
def test_the_page_names_the_files_of_a_change(change: str) -> None:
    row = re.search(rf"^\| {change} \| (.*) \|$", PAGE, re.MULTILINE)
    assert row is not None
    named = [path.rstrip("/") for path in re.findall(r"`([\w./-]+)`", row[1])]
    assert named == list(CHANGES[change].places)
    assert [path for path in named if not path_of(path).exists()] == []


WRITING: Final = {
    "check": ("check", "POLICY"),
    "explain": ("explain", "POLICY", "nginx"),
    "explain-rule": ("explain", "POLICY", "--rule", "0"),
    "explain-fast-path": ("explain", "POLICY", "nginx", "--fast-path"),
    "compile": ("compile", "POLICY", "--to", "match-conditions"),
    "compile-native": ("compile", "POLICY", "--to", "validating-admission-policy"),
    "review": ("review", "POLICY", "POD"),
    "review-mutate": ("review", "POLICY", "POD", "--mutate"),
    "test": ("test", "TEST"),
    "diff": ("diff", "POLICY", "POLICY", "--images", "IMAGES"),
    "diff-all": ("diff", "POLICY", "POLICY", "--all-images"),
    "audit": ("audit", "--merge", "AUDIT"),
    "audit-unused": ("audit", "--policy", "POLICY", "--exceptions-unused"),
}
"""The arguments of everything that has formats, except the command ``status``, which needs a cluster."""


@pytest.mark.parametrize("arguments", WRITING.values(), ids=WRITING)
def test_a_format_without_a_writer_writes_nothing_and_fails(
    arguments: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    option = format_options()[arguments[0]]
    files = {
        "POLICY": policy_text(),
        "POD": json.dumps(pod("registry.corp.io/a:1")),
        "TEST": "{apiVersion: gatekeeper-py/v1, kind: ImagePolicyTest, policy: POLICY,"
        " cases: [{image: nginx, expect: rejected}]}",
        "IMAGES": "nginx",
        "AUDIT": json.dumps({"meta": META, "counts": {"images": 0}, "images": []}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    given = [str(tmp_path / each) if each in files else each for each in arguments]
    if "--exceptions-unused" not in arguments:
        assert cli.run(given) in {0, 1}
        assert capsys.readouterr().out
    monkeypatch.setattr(option, "choices", (*option.choices, "third"))
    try:
        code = cli.run([*given, "--format", "third"])
    except KeyError:
        code = 2  # a bug, which Python reports as one
    assert (code, capsys.readouterr().out) == (2, "")


def test_a_new_format_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    option = format_options()["check"]
    monkeypatch.setattr(option, "choices", (*option.choices, "third"))
    assert forgotten("a format of a report") == {"docs/interface.md": {"third"}}


def test_a_new_form_of_signature_is_searched_counted_and_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    third = lookup.FORMS["simple"]
    monkeypatch.setattr(lookup, "FORMS", {**lookup.FORMS, "third": third})
    digest = f"sha256:{'1' * 64}"
    asked = Manifest("r.example", "app", digest, manifest.SIGNATURE, keys=("key",))
    for form, valid in (("third", True), ("fourth", False), ("", False)):
        answer = Answer("found", digest, key="key", form=form)
        assert kinds.KINDS[manifest.SIGNATURE].is_valid(asked, answer) is valid
    assert forgotten("a form of signature") == {
        "docs/signatures.md": {"third"},
        "docs/interface.md": {"third"},
    }


def test_a_saved_audit_shows_a_form_of_signature_and_an_exception_source_that_only_newer_versions_know() -> (
    None
):
    newer: dict[str, Any] = {
        "image": "r.example/app:1",
        "canonical": "r.example/app:1",
        "verdict": "approved",
        "reason": "allowed",
        "detail": "matches allow[0]",
        "exception": {
            "source": "third",
            "namespace": "shop",
            "index": 0,
            "image": "r.example/*",
            "until": "2026-03-05T00:00:00Z",
            "reason": "r",
            "owner": None,
            "grant": 0,
        },
    }
    requirement = {"index": 0, "met": True, "reason": None, "detail": None, "warns": False}
    signature = {"by": "ci", "form": "third", "subject": None, "issuer": None}
    newer["requirements"] = [{**requirement, "signature": {**signature, "log": 7}}]
    text = json.dumps({"counts": {"images": 1}, "images": [{**newer, "objects": []}]})
    ((image, _),) = SavedAudit(text.encode()).judged()
    assert image.note == "signed by ci (third)"
    assert image.as_json() == {**newer, "requirements": [{**requirement, "signature": signature}]}


@pytest.fixture(params=["namespace", "installation"])
def third(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> grants.ConfigMaps:
    """Add an exception source to the table, and nowhere else."""
    made = grants.ConfigMaps("gatekeeper-py-third", request.param, emergency=True)
    monkeypatch.setitem(grants.SOURCES, "third", made)
    return made


@pytest.mark.usefixtures("third")
def test_a_new_exception_source_is_named_where_its_configmap_is_missing() -> None:
    places = (*RIGHTS, "monitoring/rules.yaml", "docs/exceptions.md")
    assert forgotten("an exception source") == {place: {"third"} for place in places}


async def test_each_reader_takes_the_configmap_of_a_new_exception_source(
    third: grants.ConfigMaps, tmp_path: Path
) -> None:
    api = FakeApi()
    await api.start()
    cluster = Cluster(api)
    namespace, other = ("shop", OWN) if third.scope == "namespace" else (OWN, "shop")
    key = DocumentKey("third", namespace)
    assert key.configmap == f"{namespace}/{third.name}"
    assert key.of_tenant is (third.scope == "namespace")
    assert document_key(third.name, namespace, OWN) == key
    assert document_key(third.name, other, OWN) is None

    text = exceptions_text("image: r.example/app, until: 2026-03-05, reason: r")
    cluster.objects[third.name] = [configmap(each, third.name, text) for each in (namespace, other)]
    cluster.events[third.name] = []
    followed = Followed(api, tmp_path, frozenset({"third"}))
    await until(lambda: bool(followed.complete))
    followed.task.cancel()
    assert followed.complete == {frozenset({"third"}): {key}}

    grant = grants.Grant(
        index=0, source="third", images=(parse_allowed("r.example/*"),), longest=timedelta(days=14)
    )
    granted = grants.Grants([grant])
    client = ApiClient(connecting(api, tmp_path))
    await client.connect()
    for asked in (None, namespace):
        exceptions, problems, _ = await read_exceptions_of(client, granted, OWN, asked)
        assert ([each for each, _ in exceptions.documents()], problems) == ([key], ())
    await client.close()
    await api.stop()

    image = parse_image("r.example/app")
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for asked in ("shop", None):
        ruling = exceptions.judge(granted, image, asked, now)
        assert (ruling.approval is not None) is (key.of_tenant <= (asked == "shop"))


def test_the_webhook_and_the_metrics_follow_a_new_exception_source(third: grants.ConfigMaps) -> None:
    target = templates.Target(namespace="a", service="b", policy="c", exceptions=True)
    found = templates.validating(target, settings.WebhookSettings()).webhooks
    where = "" if third.scope == "namespace" else " && request.namespace == 'a'"
    assert f"request.name == '{third.name}'{where}" in json.dumps(found)
    assert 'source="third"' in Metrics(LivePolicy(), CacheCounts()).exposition().decode()


def test_a_new_kind_of_look_up_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "NEW", manifest.Kind("new"), raising=False)
    assert forgotten("a kind of look-up") == {
        "core/admission/judge.py": {"new"},
        "registry/kinds.py": {"new"},
    }


def test_a_list_of_images_that_is_only_in_the_table_names_the_files_that_lack_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row cannot leave out its pull policy and its running digests. All code in the package follows it."""
    with pytest.raises(TypeError, match="'pull_policy' and 'statuses'"):
        ImageList("newImages", "new image")  # type: ignore[call-arg]
    row = ImageList("newImages", "new image", "imagePullPolicy", "newImageStatuses")
    monkeypatch.setattr(image_fields, "IMAGE_LISTS", (*image_fields.IMAGE_LISTS, row))
    others = dict(CHANGES["a field that holds images"].places)
    del others["core/admission/fields.py"]
    assert forgotten("a field that holds images") == {place: {"newImages"} for place in others}


def native(policy: Policy, action: str) -> str:
    """Return the native policies of a backstop whose bindings have this action."""
    documents = validating_policy(policy, INSTANT, Options(exempt=(), backstop=True))
    pairs = zip(documents[::2], documents[1::2], strict=True)
    return json.dumps([each for each, binding in pairs if action in binding["spec"]["validationActions"]])


@pytest.mark.parametrize("rewrites", [False, True])
@pytest.mark.parametrize("refuses", [False, True])
def test_what_depends_on_a_mode_follows_from_its_record(
    monkeypatch: pytest.MonkeyPatch, *, refuses: bool, rewrites: bool
) -> None:
    """A mode is added, and nothing else. Neither the webhook, a native policy nor an audit needs an edit."""
    added, warns = Mode("fourthmode", refuses=refuses, rewrites=rewrites), not refuses
    monkeypatch.setitem(MODES, added.name, added)
    followed = {"core/policy/document.py", *(["monitoring/rules.yaml"] if refuses else [])}
    assert forgotten("a mode").keys() == CHANGES["a mode"].places.keys() - followed
    everywhere, request = parse_policy(policy_text(), added.name), wire.parse(review(pod("quay.io/a")))
    entry = OverrideEntry(names=("shop",), mode=added, until=INSTANT + timedelta(days=1))
    strict = parse_policy(policy_text())
    here = dataclasses.replace(strict, document=dataclasses.replace(strict.document, namespaces=(entry,)))
    for each in (everywhere, here):
        outcome = admission.validate(request, each.at(INSTANT))
        assert (outcome.response.allowed, outcome.mode) == (not refuses, added)
        assert bool(outcome.response.warnings) is warns
        survey = Survey(each.at(INSTANT), keep_approved=False)
        survey.take(request)
        assert (survey.tally.counts["rejected"], survey.tally.counts["warned"]) == (1, not refuses)
    assert (native(everywhere, "Deny") == "[]") is not refuses
    assert ("mode-of-the-namespace" in native(here, "Deny")) is not refuses
    assert (native(everywhere, "Warn") != "[]", native(here, "Warn") != "[]") == (warns, warns)


def test_policies_name_a_mode_by_its_record_and_no_module_compares_that_name() -> None:
    assert json_schema()["properties"]["mode"]["enum"] == list(MODES)
    assert {name: parse_policy(policy_text(mode=name)).mode for name in MODES} == MODES
    compared = re.compile(rf'(?:[!=]=|\b(?:in|is|case)|MODES) ?[\[({{]?"(?:{"|".join(MODES)})"')
    found = {path.name for path in PACKAGE.rglob("*.py") if compared.search(path.read_text())}
    assert found == set()
