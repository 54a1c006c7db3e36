"""All code that depends on the fields with images agrees with the table of fields.

Each test covers every row of the table, so a row that is missing elsewhere fails here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, Final

import pytest

from gatekeeper_py.cli.inventory.resources import BUILT_IN
from gatekeeper_py.cli.inventory.survey import _running_digest
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import Target, mutating, validating
from gatekeeper_py.core import admission, parse_policy
from gatekeeper_py.core.admission.fields import (
    CONTAINERS,
    IMAGE_LISTS,
    POD,
    POD_SPECS,
    WORKLOAD_KINDS,
    ImageList,
    WorkloadKind,
    is_in_pod_list,
    is_kubernetes_group,
)
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.workload import pod_images, slots
from gatekeeper_py.core.compile.expression import expression
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.validating import validating_policy
from gatekeeper_py.webhook.decode import parse_pod_review
from support import contract
from support.builders import INSTANT, WORKLOADS, policy, policy_text, review
from support.skipping import pre_approved

APPROVED: Final = "registry.corp.io/web:1"
UNLISTED: Final = "evil.io/web:1"

every_list = pytest.mark.parametrize("field", IMAGE_LISTS, ids=lambda field: field.key)
every_kind = pytest.mark.parametrize("kind", WORKLOAD_KINDS, ids=lambda kind: kind.kind)
every_step = pytest.mark.parametrize(
    ("field", "step"),
    [pytest.param(field, step, id=f"{field.key}-{step}") for field in IMAGE_LISTS for step in field.path],
)


def pod_spec_with(field: ImageList, image: str, **beside: str) -> dict[str, Any]:
    """Return a pod spec with one approved container, and ``image`` in an item of the list.

    ``beside`` are further fields next to the image.
    """
    *source, last = field.path
    item: Any = {last: image, **beside}
    for key in reversed(source):
        item = {key: item}
    lists: dict[str, list[Any]] = {CONTAINERS.key: [{"name": "web", "image": APPROVED}]}
    lists.setdefault(field.key, []).append({"name": "added", **item})
    return lists


def pod_with(field: ImageList, image: str, **beside: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": pod_spec_with(field, image, **beside)}


def place_of(field: ImageList) -> tuple[str | int, ...]:
    """Return the path at which ``pod_with`` puts the image."""
    return ("spec", field.key, 1 if field is CONTAINERS else 0, *field.path)


@every_list
@every_kind
def test_the_walker_finds_an_image_of_every_list_in_every_kind(kind: WorkloadKind, field: ImageList) -> None:
    holder: Any = pod_spec_with(field, UNLISTED)
    for key in reversed(kind.pod_spec):
        holder = {key: holder}
    found = slots((kind.group, kind.kind), holder, {})
    assert {(slot.value, slot.noun) for slot in found} == {
        (APPROVED, CONTAINERS.noun),
        (UNLISTED, field.noun),
    }


@every_list
def test_the_short_list_of_a_pods_images_leaves_none_out(field: ImageList) -> None:
    found = pod_images(pod_with(field, UNLISTED))
    assert found is None or UNLISTED in found


@every_list
def test_the_typed_decoder_keeps_an_image_of_every_list(field: ImageList) -> None:
    document = parse_pod_review(json.dumps(review(pod_with(field, UNLISTED))).encode())
    assert document is not None
    found = slots(POD, parse(document).object, {})
    assert [(slot.parts, slot.name) for slot in found if slot.value == UNLISTED] == [
        (place_of(field), "added")
    ]


@every_list
@pytest.mark.parametrize("policy", ["Never", "Always"])
def test_an_image_of_every_list_may_have_a_pull_policy(field: ImageList, policy: str) -> None:
    obj = pod_with(field, UNLISTED, **{field.pull_policy: policy})
    document = parse_pod_review(json.dumps(review(obj)).encode(), pull_policies=True)
    assert document is not None
    for given in (obj, parse(document).object):
        (slot,) = (slot for slot in slots(POD, given, {}) if slot.value == UNLISTED)
        assert slot.pulled is (policy != "Never")


@pytest.mark.parametrize(
    "field", [each for each in IMAGE_LISTS if each.statuses], ids=lambda field: field.key
)
def test_the_audit_reads_the_running_digest_of_every_list_with_statuses(field: ImageList) -> None:
    obj, digest = pod_with(field, UNLISTED), f"sha256:{'a' * 64}"
    (slot,) = (slot for slot in slots(POD, obj, {}) if slot.value == UNLISTED)
    obj["status"] = {field.statuses: [{"name": "added", "imageID": f"evil.io/web@{digest}"}]}
    assert _running_digest(obj, slot) == digest


@every_list
def test_an_unlisted_image_in_any_list_is_rejected(field: ImageList) -> None:
    outcome = admission.validate(parse(review(pod_with(field, UNLISTED))), policy())
    assert not outcome.response.allowed


@every_step
def test_the_fast_paths_expression_reads_every_list(field: ImageList, step: str) -> None:
    text = expression(pre_approved("registry.corp.io")).text
    assert f"object.spec.{field.key}" in text
    assert f".{step}" in text


@every_list
def test_the_native_policy_reads_every_list(field: ImageList) -> None:
    source = parse_policy(policy_text("mirrors: [{from: b.io, to: a.io/b}]\n", allow="[a.io]", mode="mutate"))
    document, _ = validating_policy(source, INSTANT, Options(exempt=()))
    after = [each["expression"].partition(f".{field.key} ")[2] for each in document["spec"]["variables"]]
    reads = "c" + "".join(f"[.][?]?{step}" for step in field.path) + "[.]orValue"
    # One variable has the images of the object, one those of the old object.
    assert sum(1 for text in after if re.search(reads, text)) == 2


@every_list
def test_the_mutating_endpoint_rewrites_an_image_of_every_list(field: ImageList) -> None:
    parts = place_of(field)
    assert is_in_pod_list(parts)
    assert not is_in_pod_list(("spec", "other", *parts[2:]))
    assert not is_in_pod_list((*parts, "more"))


@pytest.mark.bulk
def test_one_more_list_reaches_all_code_that_depends_on_the_table() -> None:
    """Run the tests of this module with a table that has another row, ``sources``."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "support.onemorelist", "-p", "no:xdist", __file__]
    run = subprocess.run(
        [*command, "-k", "sources and not may_rewrite"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


@every_list
def test_a_patch_may_rewrite_an_image_of_every_list(field: ImageList) -> None:
    """The fields that a patch may change, as the tests define them."""
    assert contract._is_image(place_of(field))


def test_the_audit_lists_every_kind() -> None:
    listed = {(kind.group, kind.kind): (kind.plural, kind.version) for kind in BUILT_IN}
    assert listed == {(kind.group, kind.kind): (kind.plural, kind.versions[0]) for kind in WORKLOAD_KINDS}


def test_the_table_is_what_the_tests_know_of_the_api() -> None:
    """``builders.WORKLOADS`` is a second, independent copy of the API reference."""
    known = {("", "Pod"): ("spec",)} | {(group, kind): path for kind, (group, path) in WORKLOADS.items()}
    assert known == POD_SPECS


def webhooks(path: str) -> list[dict[str, Any]]:
    """Return the webhooks of our configurations that call a path."""
    target, settings = Target(namespace="ns", service="gk", policy="policy"), WebhookSettings()
    found = [
        dict(webhook)
        for configuration in (validating(target, settings), mutating(target, settings))
        for webhook in configuration.webhooks
        if webhook["clientConfig"]["service"]["path"] == path
    ]
    assert found
    return found


def rules(webhook: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return (group, version, resource) for every rule of a webhook."""
    return {
        (group, version, resource)
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for version in rule["apiVersions"]
        for resource in rule["resources"]
    }


def resources_of(*kinds: WorkloadKind) -> set[tuple[str, str, str]]:
    return {
        (kind.group, version, resource)
        for kind in kinds
        for version in kind.versions
        for resource in (kind.plural, *(f"{kind.plural}/{name}" for name in kind.subresources))
    }


def test_the_webhook_configurations_name_every_kind() -> None:
    validating = webhooks("/validate-image")
    assert set().union(*map(rules, validating)) == resources_of(*WORKLOAD_KINDS)
    pods = [kind for kind in WORKLOAD_KINDS if (kind.group, kind.kind) == POD]
    for webhook in webhooks("/mutate-image"):
        assert rules(webhook) == resources_of(*pods)


@every_step
def test_an_update_of_any_list_of_a_pod_calls_the_webhooks(field: ImageList, step: str) -> None:
    """The match condition compares every list of the new and the old object."""
    registered = [*webhooks("/validate-image"), *webhooks("/mutate-image")]
    expressions = [
        condition["expression"]
        for webhook in registered
        if any(resource == "pods" for _, _, resource in rules(webhook))
        for condition in webhook["matchConditions"]
    ]
    assert len(expressions) == 2
    for text in expressions:
        assert f"(has(object.spec.{field.key}) ?" in text
        assert f"(has(oldObject.spec.{field.key}) ?" in text
        assert f".{step}" in text


@pytest.mark.parametrize("group", [*(kind.group for kind in WORKLOAD_KINDS), "networking.k8s.io"])
def test_groups_of_kubernetes_are_told_from_those_of_custom_resources(group: str) -> None:
    assert is_kubernetes_group(group)
    assert not is_kubernetes_group(f"{group}.example")
