"""The chart passes lint, renders the same objects with Helm 3 and 4, and refuses values that cannot work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from chart.rendering import CHART, POLICY, ROOT, Helm, by_name, merged
from chart.rendering import helm as find_helm
from gatekeeper_py.cli.commands.audit import audit
from gatekeeper_py.core.policy.policy import parse_policy

EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
WITH_POLICY = {"policy": {"document": POLICY}}


def example(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_lint_reports_nothing(helm: Helm, path: Path) -> None:
    done = helm.run("lint", "--strict", str(CHART), values=example(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_both_versions_render_the_same(path: Path) -> None:
    values = example(path)
    assert find_helm(3).objects(values=values) == find_helm(4).objects(values=values)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_two_renderings_are_equal(path: Path) -> None:
    helm = find_helm(4)
    assert helm.template(values=example(path)) == helm.template(values=example(path))


def test_namespace_and_name_of_the_release_are_free(helm: Helm) -> None:
    usual = helm.objects(values=WITH_POLICY)
    other = helm.objects("shop", "--namespace=platform", values=WITH_POLICY)
    moved = json.dumps({" ".join(key): value for key, value in usual.items()})
    moved = moved.replace(" gatekeeper-py ", " platform ").replace(
        '"namespace": "gatekeeper-py"', '"namespace": "platform"'
    )
    for old, new in (
        ("--namespace=gatekeeper-py", "--namespace=platform"),
        ('"app.kubernetes.io/instance": "gatekeeper-py"', '"app.kubernetes.io/instance": "shop"'),
        ("serviceaccount:gatekeeper-py:", "serviceaccount:platform:"),
        ("service.namespace == 'gatekeeper-py'", "service.namespace == 'platform'"),
        ("request.namespace == 'gatekeeper-py'", "request.namespace == 'platform'"),
        ("'gatekeeper-py' in term.values", "'platform' in term.values"),
        ("term.values == ['gatekeeper-py']", "term.values == ['platform']"),
        ("in the namespace gatekeeper-py, each", "in the namespace platform, each"),
        ('"values": ["gatekeeper-py"', '"values": ["platform"'),
        ('"resources": ["namespaces"], "resourceNames": ["gatekeeper-py"]',
         '"resources": ["namespaces"], "resourceNames": ["platform"]'),
    ):  # fmt: skip
        assert old in moved
        moved = moved.replace(old, new)
    assert {" ".join(key): value for key, value in other.items()} == json.loads(moved)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["123", "true", "null"])
def test_names_that_yaml_reads_as_something_else_stay_text(helm: Helm, path: Path, name: str) -> None:
    def rendered(name: str) -> list[Any]:
        names = {
            "policy": {"existingConfigMap": name, "document": "", "mode": None},
            "enforcement": {"probeNamespace": f"{name}0"},
            "registries": {"existingSecret": name},
            "priorityClass": {"name": name},
        }
        values = merged(example(path), names)
        return list(helm.objects(name, f"--namespace={name}", values=values).values())

    assert types_of(rendered(name)) == types_of(rendered("shop"))


def types_of(value: Any) -> Any:
    """Return the value with each text, number, boolean and null replaced by its type."""
    if isinstance(value, dict):
        return {key: types_of(each) for key, each in value.items()}
    if isinstance(value, list):
        return [types_of(each) for each in value]
    return type(value)


BESIDE_A_POLICY: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "fast-path-without-controller": (
        {"certManager": {"enabled": True}, "fastPath": {"enabled": True}},
        ["fastPath.enabled needs the controller"],
    ),
    "armed-without-cert-manager": (
        {"certManager": {"armed": True}},
        ["certManager.armed has no effect without certManager.enabled", "remove certManager.armed"],
    ),
    "renewed-as-soon-as-made": (
        {"certificates": {"days": 10}},
        ["certificates.renewBeforeDays must be less than certificates.days"],
    ),
    "renewed-too-late-for-an-alert": (
        {"certificates": {"renewBeforeDays": 0.04}},
        ["certificates.renewBeforeDays must be at least an hour"],
    ),
    "cert-manager-renews-as-soon-as-made": (
        {"certManager": {"enabled": True, "duration": "48h", "renewBefore": "2880m"}},
        ["certManager.renewBefore must be less than certManager.duration"],
    ),
    "cert-manager-renews-too-late-for-an-alert": (
        {"certManager": {"enabled": True, "renewBefore": "59m59s"}},
        ["certManager.renewBefore must be at least 1h"],
    ),
    "audits-too-often": (
        {"reports": {"enabled": True, "every": "9s"}},
        ["reports.every must be between 10s and 24h, and is 9s"],
    ),
    "audits-too-seldom": (
        {"reports": {"enabled": True, "every": "1441m"}},
        ["reports.every must be between 10s and 24h, and is 1441m"],
    ),
    "scrapes-without-an-interval": (
        {"monitoring": {"podMonitor": {"interval": "0s"}}},
        ["monitoring.podMonitor.interval must be between 1s and 2m, and is 0s"],
    ),
    "scrapes-too-seldom-for-the-alerts": (
        {"monitoring": {"podMonitor": {"interval": "2m1s"}}},
        ["monitoring.podMonitor.interval must be between 1s and 2m, and is 2m1s"],
    ),
    "least-over-most": (
        {"autoscaling": {"minReplicas": 11}},
        ["autoscaling.minReplicas must not be greater"],
    ),
    "probes-at-home": (
        {"enforcement": {"probeNamespace": "gatekeeper-py"}},
        ["enforcement.probeNamespace must be another namespace"],
    ),
    "probes-in-an-exempt-namespace": (
        {
            "enforcement": {"probeNamespace": "probes"},
            "webhooks": {"exemptNamespaces": ["calico-system", "probes"]},
        },
        ["enforcement.probeNamespace must not be exempt", "Pods in probes are not reviewed"],
    ),
    "probes-in-kube-system": (
        {"enforcement": {"probeNamespace": "kube-system"}},
        ["enforcement.probeNamespace must not be exempt"],
    ),
    "probes-in-default": (
        {"enforcement": {"probeNamespace": "default"}},
        ["must be a namespace of its own, not default"],
    ),
    "probes-in-kube-public": (
        {"enforcement": {"probeNamespace": "kube-public"}},
        ["must be a namespace of its own, not kube-public"],
    ),
    "probes-in-kube-node-lease": (
        {"enforcement": {"probeNamespace": "kube-node-lease"}},
        ["must be a namespace of its own, not kube-node-lease"],
    ),
}
POLICIES: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "no-policy": ({}, ["There is no policy", "--set-file policy.document=policy.yaml"]),
    "two-policies": (
        {"policy": {"document": POLICY, "existingConfigMap": "mine"}},
        ["policy.document and policy.existingConfigMap exclude each other"],
    ),
    "not-yaml": ({"policy": {"document": "allow:\n- [unclosed"}}, ["policy.document is not YAML"]),
    "a-file-name": (
        {"policy": {"document": "policies/shop policy.yaml"}},
        ['holds only "policies/shop policy.yaml"', "--set-file policy.document=policies/shop policy.yaml"],
    ),
    "another-kind": (
        {"policy": {"document": "kind: ConfigMap\nmetadata: {}"}},
        ["policy.document is not a policy: its kind is ConfigMap, not ImagePolicy"],
    ),
    "without-a-kind": ({"policy": {"document": "{allow: [a.example]}"}}, ["its kind is missing"]),
    "a-mode-for-nothing": (
        {"policy": {"existingConfigMap": "mine", "mode": "warn"}},
        ["policy.mode has no effect with policy.existingConfigMap"],
    ),
}
IMPOSSIBLE: Final = POLICIES | {
    name: (merged(WITH_POLICY, values), sentences) for name, (values, sentences) in BESIDE_A_POLICY.items()
}
"""Values that cannot work, with sentences of the refusal, one of which is a remedy."""


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_values_that_cannot_work_are_refused_with_a_remedy(helm: Helm, name: str) -> None:
    values, sentences = IMPOSSIBLE[name]
    refusal = helm.refusal(values)
    for sentence in sentences:
        assert sentence in refusal


def document_in(text: str) -> str:
    """Return the policy in the rendered text of the chart."""
    found: str = by_name(text)["ConfigMap", "gatekeeper-py", "gatekeeper-py-policy"]["data"]["policy.yaml"]
    return found


@pytest.mark.parametrize("mode", ["warn", None])
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(POLICY, id="usual"),
        pytest.param(POLICY.rstrip("\n"), id="no-end-of-line"),
        pytest.param(f"{POLICY}\n \n\n", id="empty-lines-at-the-end"),
        pytest.param(f"\n\n  #\tindented\n \n{POLICY}", id="begins-with-empty-lines-and-spaces"),
        pytest.param(f"---\n{POLICY}# spaces  \n...\n", id="markers-and-spaces-at-the-end-of-a-line"),
        pytest.param(f"{POLICY}# {{{{ .Values }}}} \\ \" ' |+ é ☃\n", id="template-quotes-other-scripts"),
        pytest.param(f"{POLICY}# ends here  ", id="spaces-at-the-end"),
    ],
)
def test_a_policy_keeps_its_lines_and_every_character(helm: Helm, document: str, mode: str | None) -> None:
    rendered = helm.template(values={"policy": {"document": document, "mode": mode}})
    assert document_in(rendered) == document
    assert {f"    {line}" for line in POLICY.splitlines()} <= set(rendered.splitlines())


@pytest.mark.parametrize("odd", ["\r\n", "\x85\n", "\u2028\n", "\ufeff\n", "\xa0\n"])
def test_a_policy_with_characters_that_change_in_a_block_is_quoted(helm: Helm, odd: str) -> None:
    document = POLICY + f"# {odd}"
    assert document_in(helm.template(values={"policy": {"document": document}})) == document


@pytest.mark.parametrize(
    ("interval", "timeout"), [("5s", "5s"), ("9s", "9s"), ("10s", "10s"), ("2m", "10s"), ("1m30s", "10s")]
)
def test_a_scrape_times_out_before_the_next_one(helm: Helm, interval: str, timeout: str) -> None:
    monitor = {"podMonitor": {"enabled": True, "interval": interval}}
    objects = helm.objects(values=merged(WITH_POLICY, {"monitoring": monitor}))
    (endpoint,) = objects["PodMonitor", "gatekeeper-py", "gatekeeper-py"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (interval, timeout)


@pytest.mark.parametrize("every", ["10s", "90s", "1440m", "24h"])
def test_the_audit_accepts_every_interval_that_the_chart_accepts(helm: Helm, every: str) -> None:
    objects = helm.objects(values=merged(WITH_POLICY, {"reports": {"enabled": True, "every": every}}))
    template = objects["Deployment", "gatekeeper-py", "gatekeeper-py-reports"]["spec"]["template"]
    (argument,) = (each for each in template["spec"]["containers"][0]["args"] if each.startswith("--every="))
    (option,) = (each for each in audit.params if each.name == "every")
    assert option.type.convert(argument.removeprefix("--every="), option, None) >= 10


@pytest.mark.parametrize(
    ("values", "pods"),
    [
        pytest.param({}, 25, id="usual"),
        pytest.param({"replicas": 12}, 29, id="many-replicas"),
        pytest.param({"autoscaling": {"enabled": True, "maxReplicas": 30}}, 65, id="autoscaling"),
        pytest.param({"autoscaling": {"maxReplicas": 30}}, 25, id="no-autoscaling"),
    ],
)
def test_the_quota_leaves_room_for_a_rollout_of_the_largest_number_of_replicas(
    helm: Helm, values: dict[str, Any], pods: int
) -> None:
    objects = helm.objects(values=merged(WITH_POLICY, values))
    spec = objects["ResourceQuota", "gatekeeper-py", "gatekeeper-py-critical-pods"]["spec"]
    assert spec["hard"] == {"pods": str(pods)}
    (scope,) = spec["scopeSelector"]["matchExpressions"]
    priorities = {
        each["spec"]["template"]["spec"].get("priorityClassName")
        for each in objects.values()
        if each["kind"] in {"Deployment", "Job"}
    }
    assert (scope["scopeName"], {*scope["values"]}) == ("PriorityClass", priorities)


def test_without_a_priority_class_there_is_no_quota(helm: Helm) -> None:
    objects = helm.objects(values=merged(WITH_POLICY, {"priorityClass": {"name": ""}}))
    assert ("ResourceQuota", "gatekeeper-py", "gatekeeper-py-critical-pods") not in objects
    assert "priorityClassName" not in json.dumps(list(objects.values()))


def notes(values: dict[str, Any]) -> str:
    """Return the notes of an installation by Helm 4; Helm 3 needs a cluster to show them."""
    done = find_helm(4).run(
        "install", "gatekeeper-py", str(CHART), "--namespace=ns", "--dry-run=client",
        values=merged(WITH_POLICY, values),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]


def test_the_notes_explain_links_of_alerts_only_while_there_are_none() -> None:
    sentence = "Set monitoring.rules.runbooks"
    rules = {"enabled": True}
    assert sentence in notes({"monitoring": {"rules": rules}})
    linked = {**rules, "runbooks": "https://wiki.corp.example/runbooks"}
    assert sentence not in notes({"monitoring": {"rules": linked}})
    assert sentence not in notes({})


def test_the_notes_show_the_way_to_open_the_cluster_that_works() -> None:
    annotate, delete = "kubectl annotate namespace ns", "kubectl delete validatingwebhookconfiguration"
    with_controller, without = notes({}), notes({"certManager": {"enabled": True}})
    assert annotate in with_controller
    assert "On macOS" in with_controller
    assert delete not in with_controller
    assert delete in without
    assert "annotate" not in without


@pytest.mark.parametrize(
    ("cert_manager", "expected"),
    [
        pytest.param(False, [], id="read-from-the-settings"),
        pytest.param(
            True,
            [
                "--exempt-namespace=platform",
                "--exempt-namespace=kube-system",
                "--exempt-namespace=calico-system",
            ],
            id="no-settings-in-the-cluster",
        ),
    ],
)
def test_the_audit_exempts_the_namespaces_that_the_webhook_does_not_review(
    helm: Helm, *, cert_manager: bool, expected: list[str]
) -> None:
    values = merged(
        WITH_POLICY,
        {
            "reports": {"enabled": True},
            "certManager": {"enabled": cert_manager},
            "webhooks": {"exemptNamespaces": ["calico-system", "kube-system"]},
        },
    )
    objects = helm.objects("shop", "--namespace=platform", values=values)
    pod = objects["Deployment", "platform", "gatekeeper-py-reports"]["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    assert [each for each in arguments if each.startswith("--exempt-namespace")] == expected


@pytest.mark.parametrize("namespace", ["default", "kube-system"])
def test_a_namespace_that_others_use_is_refused(helm: Helm, namespace: str) -> None:
    refusal = helm.refusal(WITH_POLICY, "gatekeeper-py", f"--namespace={namespace}")
    assert f"install into a namespace of its own, not into {namespace}" in refusal


def test_the_policies_of_the_examples_are_accepted() -> None:
    for path in EXAMPLES:
        if document := example(path)["policy"].get("document"):
            parse_policy(document)


def test_the_mode_is_rendered_only_when_it_is_set(helm: Helm) -> None:
    key = ("ConfigMap", "gatekeeper-py", "gatekeeper-py-policy")
    assert "mode" not in helm.objects(values=WITH_POLICY)[key]["data"]
    values = merged(WITH_POLICY, {"policy": {"mode": "warn"}})
    assert helm.objects(values=values)[key]["data"]["mode"] == "warn"


def test_as_a_subchart_it_takes_what_parents_pass(helm: Helm) -> None:
    values = merged(WITH_POLICY, {"global": {"imageRegistry": "x"}, "enabled": True})
    assert helm.objects(values=values) == helm.objects(values=WITH_POLICY)


def test_no_hook_runs_at_install_or_upgrade(helm: Helm) -> None:
    hooks = {
        each["metadata"]["annotations"]["helm.sh/hook"]
        for each in helm.objects(values=WITH_POLICY).values()
        if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    assert hooks == {"pre-delete"}


def test_the_chart_has_the_version_of_the_product() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version is not None
    assert chart["version"] == chart["appVersion"] == version[1]


def test_a_package_renders_the_same(helm: Helm, tmp_path: Path) -> None:
    values = example(CHART / "ci/full-values.yaml")
    done = helm.run("package", str(CHART), f"--destination={tmp_path}")
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.iterdir()
    rendered = helm.run("template", "gatekeeper-py", str(package), "--namespace=gatekeeper-py", values=values)
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stdout == helm.template(values=values)


def test_annotations_and_labels_of_the_values_make_no_key_twice(helm: Helm) -> None:
    values = {
        "policy": {"existingConfigMap": "mine"},
        "server": {"podAnnotations": {"prometheus.io/scrape": "false"}},
        "monitoring": {"podMonitor": {"enabled": True, "labels": {"helm.sh/chart": "x", "a": "b"}}},
    }
    rendered = helm.template(values=values)
    objects = by_name(rendered)
    template = objects["Deployment", "gatekeeper-py", "gatekeeper-py"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "false",
        "prometheus.io/port": "8080",
    }
    labels = objects["PodMonitor", "gatekeeper-py", "gatekeeper-py"]["metadata"]["labels"]
    assert labels["a"] == "b"
    assert labels["helm.sh/chart"].startswith("gatekeeper-py-")
