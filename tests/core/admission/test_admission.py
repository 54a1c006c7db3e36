"""Validate and mutate: which requests are judged, and the answer in each mode."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission import Judging, certainly_approved
from gatekeeper_py.core.admission.review import parse
from support import naive
from support.builders import (
    HUB_TO_CORP,
    NAMESPACE,
    WORKLOADS,
    container,
    pod,
    pod_spec,
    policy,
    review,
    variants,
    workload,
)
from support.calling import mutate, mutated, validate, validated
from support.contract import ORIGINAL_IMAGES

GOOD = "registry.corp.io/web:1"
BAD = "quay.io/web:1"
MODES = ("enforce", "warn", "mutate")
MIRROR_POD = {"annotations": {"kubernetes.io/config.mirror": "c0ffee"}}
DELETING = {"deletionTimestamp": "2026-03-01T12:00:00Z"}
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
RESOURCES = "resources: [{group: example.com, kind: Widget, images: ['spec.image', 'spec.steps{*}.image']}]\n"
DIGEST = f"sha256:{'a' * 64}"


def rewrites(obj: Any, more: str = HUB_TO_CORP, **request: Any) -> dict[str, str]:
    """Return the original images that the mutating endpoint rewrote, by path."""
    answer = mutate(review(obj, **request), policy(more, mode="mutate"))
    return answer.originals if answer.patch else {}


def images(obj: Any) -> list[Any]:
    return [item["image"] for item in obj["spec"]["containers"]]


class TestModes:
    """The table of docs/policy.md, "Modes"."""

    @pytest.mark.parametrize("mode", MODES)
    def test_an_approved_pod_is_allowed_without_a_warning(self, mode: str) -> None:
        outcome = validated(review(pod(GOOD)), policy(mode=mode))
        answer = validate(review(pod(GOOD)), policy(mode=mode))
        assert (answer.allowed, answer.warnings) == (True, ())
        assert answer.audit == {"mode": mode, "policy": policy(mode=mode).revision}
        assert (outcome.verdict, outcome.mode.name, outcome.exemption) == ("allowed", mode, "")
        assert [verdict.approved for verdict in outcome.images] == [True]

    @pytest.mark.parametrize(
        ("mode", "allowed", "verdict"),
        [
            pytest.param("enforce", False, "denied", id="enforce"),
            pytest.param("warn", True, "warned", id="warn"),
            pytest.param("mutate", False, "denied", id="mutate"),
        ],
    )
    def test_a_rejected_image(self, mode: str, allowed: bool, verdict: str) -> None:  # noqa: FBT001
        """The answer is a denial, or one warning per rejected image. All images are judged."""
        document = review(pod(BAD, GOOD, BAD))
        answer, outcome = validate(document, policy(mode=mode)), validated(document, policy(mode=mode))
        assert answer.allowed is allowed
        assert len(answer.warnings) == (2 if allowed else 0)
        assert (outcome.verdict, outcome.mode.name) == (verdict, mode)
        assert [verdict.slot.path for verdict in outcome.rejected] == [
            "spec.containers[0].image",
            "spec.containers[2].image",
        ]
        assert len(outcome.images) == 3

    @pytest.mark.parametrize("mode", ["enforce", "warn"])
    def test_only_mutate_mode_patches(self, mode: str) -> None:
        answer = mutate(review(pod("nginx")), policy(HUB_TO_CORP, mode=mode))
        assert (answer.patch, answer.warnings) == ((), ())
        assert answer.audit == {"mode": mode, "policy": policy(HUB_TO_CORP, mode=mode).revision}

    def test_the_namespace_decides_the_mode_and_the_audit_names_it(self) -> None:
        more = "namespaces: [{names: [dev-*], mode: warn}]\n"
        for namespace, mode in (("dev-1", "warn"), ("shop", "enforce"), (None, "enforce")):
            answer = validate(review(pod(BAD), namespace=namespace), policy(more))
            assert (answer.allowed, answer.audit["mode"]) == (mode == "warn", mode)

    def test_rules_are_those_of_the_namespace(self) -> None:
        allow = "[{image: quay.io, namespaces: [shop]}]"
        assert validate(review(pod(BAD)), policy(allow=allow)).allowed
        assert not validate(review(pod(BAD), namespace="bank"), policy(allow=allow)).allowed
        assert not validate(review(pod(BAD), namespace=None), policy(allow=allow)).allowed

    def test_the_namespace_of_the_object_is_ignored(self) -> None:
        """No content of a request's object can make the webhook approve more."""
        allow = "[{image: quay.io, namespaces: [bank]}]"
        obj = pod(BAD, metadata={"namespace": "bank"})
        assert not validate(review(obj), policy(allow=allow)).allowed


METADATA: Final[list[Any]] = [
    ["x"],
    {},
    DELETING,
    {"deletionTimestamp": None},
    {"deletionTimestamp": True},
    MIRROR_POD,
    {"annotations": ["kubernetes.io/config.mirror"]},
    {"labels": MIRROR_POD["annotations"]},
    {**DELETING, **MIRROR_POD},
]
GROUPS: Final = [(), ("system:nodes",), ("x", "system:nodes"), ("system:nodes2",)]


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE", "DELETE", "CONNECT", "create"])
@pytest.mark.parametrize("obj", [pod(BAD, 7), workload("Job", BAD), {**WIDGET, "spec": pod_spec(BAD)}])
def test_a_request_is_exempt_for_one_of_three_reasons(obj: dict[str, Any], operation: str) -> None:
    """Both endpoints allow such requests without reading their images; other requests are judged.

    A user can forge a time of deletion on CREATE, and an annotation at any time, but not the node's groups.
    """
    for metadata, groups in itertools.product(METADATA, GROUPS):
        if operation in {"DELETE", "CONNECT"}:
            expected = "operation"
        elif operation == "UPDATE" and metadata in (DELETING, {**DELETING, **MIRROR_POD}):
            expected = "deleting"
        elif (
            obj["kind"] == "Pod"
            and metadata in (MIRROR_POD, {**DELETING, **MIRROR_POD})
            and ("system:nodes" in groups)
        ):
            expected = "mirror-pod"
        else:
            expected = ""
        new, old = {**obj, "metadata": metadata}, pod(GOOD, metadata=DELETING)
        document = review(
            new, operation=operation, old=old, groups=groups, username="system:nodes", sub_resource="exec"
        )
        for mode in MODES:
            judged, patched = (each(document, policy(mode=mode)) for each in (validated, mutated))
            assert (judged.exemption, patched.exemption) == (expected, expected)
            assert (judged.images == ()) is bool(expected)
            assert judged.response.allowed is (bool(expected) or mode == "warn")
            assert patched.response.audit_annotations["mode"] == mode


class TestUpdate:
    """UPDATE: only images that are not already in the old object."""

    def test_only_new_images_are_judged(self) -> None:
        document = review(pod(BAD, "quay.io/other"), operation="UPDATE", old=pod(BAD))
        outcome = validated(document, policy())
        assert [verdict.slot.value for verdict in outcome.images] == ["quay.io/other"]
        assert outcome.verdict == "denied"

    def test_all_images_are_judged_without_an_old_object(self) -> None:
        assert not validate(review(pod(BAD), operation="UPDATE"), policy()).allowed

    def test_only_new_images_are_rewritten(self) -> None:
        old = pod("nginx")
        new = pod("nginx", ephemeralContainers=[container("busybox", "debug")])
        found = rewrites(new, operation="UPDATE", old=old, sub_resource="ephemeralcontainers")
        assert found == {"spec.ephemeralContainers[0].image": "busybox"}
        assert rewrites(pod("nginx:2"), operation="UPDATE", old=old) == {
            "spec.containers[0].image": "nginx:2"
        }


REFUSED = " is not approved; new Pods will be refused"
IN_WIDGET: Final = [
    pytest.param({**WIDGET, "spec": {"size": 1, "jobs": [{"pod": pod_spec(BAD)}]}}, "", id="by-shape"),
    pytest.param({**WIDGET, "spec": {"size": 1, "image": BAD}}, RESOURCES, id="declared"),
]
"""Custom resources with one rejected image, each with the field of the policy that declares it."""


def edited(obj: Any, path: tuple[str, ...], **fields: Any) -> Any:
    """Return an object with fields added to the mapping at a path."""
    if not path:
        return {**(obj or {}), **fields}
    first, *rest = path
    return {**(obj or {}), first: edited((obj or {}).get(first), tuple(rest), **fields)}


def warned(new: Any, old: Any, more: str = "", **options: Any) -> tuple[str, ...]:
    """Return the warnings about an allowed update."""
    answer = validate(review(new, operation="UPDATE", old=old), policy(more, **options))
    assert answer.allowed
    return answer.warnings


class TestRollOut:
    """An allowed update of a pod template warns about the images that it keeps and that no Pod may have."""

    @pytest.mark.parametrize("kind", sorted(WORKLOADS))
    def test_any_change_of_a_template_warns(self, kind: str) -> None:
        spec = WORKLOADS[kind][1]
        template, where = spec[:-1], ".".join(spec)
        old = workload(kind, GOOD, "q.io/a", initContainers=[container("q.io/a", "b")])
        expected = (f"{where}.containers[1].image: q.io/a", f"{where}.initContainers[0].image: q.io/a")
        for new in (
            edited(old, (*template, "metadata", "annotations"), restartedAt="now"),
            edited(old, spec, nodeName="n1"),
            edited(old, spec, containers=[container(GOOD), container("q.io/a"), container(GOOD, "more")]),
            edited(old, spec, containers=[container("registry.corp.io/web:2"), container("q.io/a")]),
        ):
            assert warned(new, old) == tuple(f"{image}{REFUSED}" for image in expected)
            ordinary = tuple(f"{image} is not approved" for image in expected)
            assert warned(new, old, mode="warn") == ordinary
            document = review(new, operation="UPDATE", old=old)
            outcome = validated(document, policy())
            assert (outcome.verdict, outcome.mode.name, len(outcome.rejected)) == ("warned", "enforce", 2)
            assert "rejected" not in outcome.response.audit_annotations
            assert validate(document, policy(mode="warn")).audit["rejected"] == "q.io/a, q.io/a"

    @pytest.mark.parametrize("kind", ["Pod", *sorted(WORKLOADS)])
    @pytest.mark.parametrize("mode", MODES)
    def test_other_changes_do_not_warn(self, kind: str, mode: str) -> None:
        old = pod(BAD) if kind == "Pod" else workload(kind, BAD)
        for path, fields in (
            ((), {"status": {"replicas": 3}}),
            (("metadata",), {"labels": {"a": "b"}, "finalizers": ["x"]}),
            (() if kind in {"Pod", "PodTemplate"} else ("spec",), {"replicas": 3, "paused": True}),
            (("metadata",) if kind != "CronJob" else ("spec", "jobTemplate", "metadata"), {"labels": {}}),
            (("spec",) if kind == "Pod" else ("metadata",), {"nodeName": "n1", **DELETING}),
        ):
            assert warned(edited(old, path, **fields), old, mode=mode) == ()

    @pytest.mark.parametrize(("old", "more"), IN_WIDGET)
    def test_any_change_of_the_spec_of_a_custom_resource_warns(self, old: Any, more: str) -> None:
        (warning,) = warned(edited(old, ("spec",), size=2), old, more)
        assert warning.startswith("spec.")
        assert warning.endswith(f"image: {BAD}{REFUSED}")
        for path in (("status",), ("metadata",), ("metadata", "labels")):
            assert warned(edited(old, path, size="2"), old, more) == ()

    def test_images_outside_the_changed_template_do_not_warn(self) -> None:
        old = {**WIDGET, "spec": {"size": 1}, "status": {"last": pod_spec(BAD)}}
        assert warned(edited(old, ("spec",), size=2), old) == ()

    def test_a_kept_value_that_is_not_an_image_is_named(self) -> None:
        old = {**WIDGET, "spec": pod_spec(7)}
        assert warned(edited(old, ("spec",), size=2), old) == (
            "spec.containers[0].image: the image is a number, not text; new Pods will be refused",
        )

    def test_a_denial_names_only_new_images(self) -> None:
        old, new = workload("Deployment", BAD), workload("Deployment", BAD, "quay.io/other")
        answer = validate(review(new, operation="UPDATE", old=old), policy())
        assert (answer.allowed, answer.warnings, answer.audit["rejected"]) == (False, (), "quay.io/other")
        assert warned(new, old, mode="warn") == (
            "spec.template.spec.containers[1].image: quay.io/other is not approved",
            f"spec.template.spec.containers[0].image: {BAD} is not approved",
        )

    def test_in_mutate_mode_an_image_counts_as_on_its_mirror(self) -> None:
        old = workload("Deployment", "nginx", BAD)
        found = warned(edited(old, WORKLOADS["Deployment"][1], nodeName="n"), old, HUB_TO_CORP, mode="mutate")
        assert found == (f"spec.template.spec.containers[1].image: {BAD}{REFUSED}",)

    def test_at_most_ten_warnings_and_the_last_counts_the_rest(self) -> None:
        old = workload("Deployment", *[BAD] * 1000)
        found = warned(edited(old, WORKLOADS["Deployment"][1], nodeName="n"), old)
        assert (len(found), found[-1]) == (10, "991 more images are not approved")

    def test_a_template_too_deep_to_compare_counts_as_changed(self) -> None:
        class Deep:
            """A value like one nested too deeply: how deep that is depends on the version of Python."""

            __hash__ = None  # type: ignore[assignment]

            def __eq__(self, other: object) -> bool:
                raise RecursionError

        new, old = workload("Deployment", BAD), workload("Deployment", BAD)
        for obj in (new, old):
            obj["spec"]["template"]["deep"] = Deep()
        assert len(warned(new, old)) == 1


SPEC: Final = pod_spec(
    GOOD,
    initContainers=[container(GOOD, "init")],
    ephemeralContainers=[container(GOOD, "debug")],
    volumes=[{"name": "model", "image": {"reference": GOOD}}],
)


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("head", "path"),
    [
        pytest.param({"apiVersion": "v1", "kind": "Pod"}, ("spec",), id="pod"),
        pytest.param(
            {"apiVersion": "apps/v1", "kind": "Deployment"}, WORKLOADS["Deployment"][1], id="template"
        ),
        pytest.param(WIDGET, None, id="custom-resource"),
    ],
)
def test_each_problem_and_each_unlisted_image_is_rejected_by_its_path(
    head: dict[str, Any], path: tuple[str, ...] | None
) -> None:
    """The other images are judged and rewritten as usual, whatever an object holds in some place."""
    for spec in variants(SPEC):
        holder = spec
        for key in reversed(path or ("spec",)):
            holder = {key: holder}
        document = review({**head, **holder})
        fields = naive.fields({**head, **holder}, path)
        bad = [field for field in fields if field.problem or field.value != GOOD]
        answer, warned = (validate(document, policy(mode=mode)) for mode in ("enforce", "warn"))
        assert answer.allowed is (not bad), spec
        assert all(f"({field.path}): " in answer.message for field in bad[:5]), spec
        assert [text.partition(": ")[0] for text in warned.warnings if fields] == [each.path for each in bad]
        on_hub = {
            each.path: each.value for each in bad if not each.problem and each.value in {"auto", "nginx"}
        }
        assert rewrites({**head, **holder}) == (on_hub if path == ("spec",) else {}), spec


@pytest.mark.bulk
@pytest.mark.parametrize("kind", ["PodTemplate", "Deployment", "CronJob"])
def test_an_update_refuses_new_images_or_warns_about_kept_ones(kind: str) -> None:
    """The paths in the answer are those of an independent search, whatever the template becomes."""
    path = WORKLOADS[kind][1]
    spec = {**SPEC, "containers": [container(BAD)], "volumes": [{"name": "m", "image": {"reference": BAD}}]}
    old = edited(workload(kind), path[:-1], spec=spec)
    for changed in variants(spec):
        new = edited(old, path[:-1], spec=changed)
        bad = [field for field in naive.fields(new, path) if field.problem or field.value != GOOD]
        added = [field for field in bad if field.problem or field.value != BAD]
        answer = validate(review(new, operation="UPDATE", old=old), policy())
        assert answer.allowed is (not added), changed
        kept = [] if added or changed == spec else bad
        assert [text.partition(": ")[0] for text in answer.warnings] == [each.path for each in kept], changed


@pytest.mark.parametrize("obj", [None, 7, "Pod", [], True])
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_a_pod_that_is_not_an_object_is_rejected(obj: Any, operation: str) -> None:
    document = review(obj, kind=("", "Pod"), operation=operation, old=obj)
    assert not validate(document, policy()).allowed
    assert mutate(document, policy(HUB_TO_CORP, mode="mutate")).patch == ()


class TestUnknownKinds:
    """A kind in which no image can be found is allowed, with a warning unless it is a subresource."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("spec", [{}, None, {"image": "nginx"}, {"containers": ["web"]}, "text"])
    def test_an_object_of_an_unknown_kind_is_allowed_with_a_warning(self, spec: Any, mode: str) -> None:
        document = review({**WIDGET, "spec": spec})
        outcome = validated(document, policy(mode=mode))
        assert (outcome.verdict, outcome.exemption) == ("allowed", "unknown-kind")
        assert outcome.response.warnings == (
            "Widget.example.com: no image found; declare any under resources in the policy",
        )
        assert mutate(document, policy(mode=mode)).warnings == ()

    def test_the_warning_names_a_core_kind_without_a_group(self) -> None:
        obj = {"apiVersion": "v1", "kind": "Service", "spec": {}}
        assert validate(review(obj), policy()).warnings[0].startswith("Service: no image")

    @pytest.mark.parametrize(
        ("obj", "operation", "sub_resource"),
        [
            pytest.param(
                {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 3}},
                "UPDATE",
                "scale",
                id="scale",
            ),
            pytest.param(
                {"apiVersion": "policy/v1", "kind": "Eviction"}, "CREATE", "eviction", id="eviction"
            ),
            pytest.param(
                {"apiVersion": "v1", "kind": "Binding", "target": {"name": "n1"}},
                "CREATE",
                "binding",
                id="binding",
            ),
        ],
    )
    def test_a_subresource_without_images_is_allowed_without_a_warning(
        self, obj: Any, operation: str, sub_resource: str
    ) -> None:
        document = review(obj, operation=operation, sub_resource=sub_resource)
        answer = validate(document, policy())
        assert (answer.allowed, answer.warnings) == (True, ())
        assert validated(document, policy()).exemption == "no-images"

    def test_a_subresource_with_images_is_judged(self) -> None:
        assert not validate(review({**WIDGET, "spec": pod_spec(BAD)}, sub_resource="x"), policy()).allowed

    def test_a_kind_found_by_shape_is_known(self) -> None:
        """This holds even when nothing in the object is new."""
        obj = {**WIDGET, "spec": pod_spec(BAD)}
        assert not validate(review(obj), policy()).allowed
        answer = validate(review(obj, operation="UPDATE", old=obj), policy())
        assert (answer.allowed, answer.warnings) == (True, ())

    def test_a_declared_kind_is_known(self) -> None:
        """This holds even when it has no image now; its images are judged, by their paths."""
        answer = validate(review(WIDGET), policy(RESOURCES))
        assert (answer.allowed, answer.warnings) == (True, ())
        document = review({**WIDGET, "spec": {"image": GOOD, "steps": {"build": {"image": BAD}}}})
        message = validate(document, policy(RESOURCES)).message
        assert message.startswith(f"image (spec.steps{{build}}.image): {BAD} is not approved: ")

    @pytest.mark.parametrize("kind", sorted(WORKLOADS))
    def test_a_template_kind_without_images_is_allowed_without_a_warning(self, kind: str) -> None:
        document = review({**workload(kind), WORKLOADS[kind][1][0]: None})
        answer = validate(document, policy())
        assert (answer.allowed, answer.warnings) == (True, ())
        assert validated(document, policy()).exemption == "no-images"


class TestMutation:
    """Rewriting is a pure function of the reference; it touches images and its own annotation."""

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            pytest.param(f"x/y:1@{DIGEST}", f"registry.corp.io/dockerhub/x/y:1@{DIGEST}", id="rewritten"),
            pytest.param("quay.io/team/app", "registry.corp.io/team/app", id="longest-from-wins"),
            pytest.param("quay.io/team/keep", None, id="except-of-the-longest"),
            pytest.param("quay.io/team/denied", None, id="denied"),
            pytest.param("ghcr.io/x", None, id="no-mirror"),
            pytest.param("Nginx", None, id="invalid"),
            pytest.param("sha256:abc", None, id="never-approved"),
        ],
    )
    def test_an_image_is_rewritten_to_its_mirror(self, image: str, expected: str | None) -> None:
        mirrors = (
            "deny: [quay.io/team/denied]\n"
            f"{HUB_TO_CORP}"
            "  - {from: quay.io, to: registry.corp.io/quay}\n"
            "  - {from: quay.io/team, to: registry.corp.io/team, except: [quay.io/team/keep]}\n"
        )
        answer = mutate(review(pod(image)), policy(mirrors, mode="mutate"))
        assert images(answer.object) == [expected or image]
        if expected is None:
            assert (answer.patch, answer.warnings, answer.object) == ((), (), pod(image))
        else:
            assert answer.warnings[0].startswith("spec.containers[0].image: ")
            assert answer.originals == {"spec.containers[0].image": image}

    def test_an_approved_image_is_rewritten_too(self) -> None:
        compiled = policy(HUB_TO_CORP, mode="mutate", allow="[docker.io, registry.corp.io]")
        assert images(mutate(review(pod("nginx")), compiled).object) == [
            "registry.corp.io/dockerhub/library/nginx"
        ]

    def test_all_four_lists_are_rewritten(self) -> None:
        obj = pod(
            "a",
            GOOD,
            initContainers=[container("b")],
            ephemeralContainers=[container("c")],
            volumes=[{"name": "m", "image": {"reference": "d"}}],
        )
        assert rewrites(obj) == {
            "spec.containers[0].image": "a",
            "spec.initContainers[0].image": "b",
            "spec.ephemeralContainers[0].image": "c",
            "spec.volumes[0].image.reference": "d",
        }
        outcome = mutated(review(obj), policy(HUB_TO_CORP, mode="mutate"))
        assert outcome.verdict == "mutated"
        assert [verdict.mirror for verdict in outcome.images] == [0] * 4

    @pytest.mark.parametrize(
        ("image", "mirrors", "shown"),
        [
            pytest.param(f"{'a' * 250}/x", HUB_TO_CORP, "aaa", id="name-longer-than-255"),
            pytest.param(
                "nginx",
                "mirrors: [{from: docker.io/library/nginx, to: reg.io}]\n",
                "nginx is left as written: ",
                id="result-is-a-docker-hub-name",
            ),
        ],
    )
    def test_an_unusable_result_leaves_the_image_alone_with_a_warning(
        self, image: str, mirrors: str, shown: str
    ) -> None:
        outcome = mutated(review(pod(image)), policy(mirrors, mode="mutate"))
        assert (outcome.verdict, outcome.response.patch) == ("allowed", ())
        (warning,) = outcome.response.warnings
        assert warning.startswith(f"spec.containers[0].image: {shown}")
        assert " is left as written: on its mirror " in warning

    def test_an_image_left_as_written_does_not_prevent_other_rewrites(self) -> None:
        obj = pod(f"{'a' * 250}/x", "nginx")
        assert rewrites(obj) == {"spec.containers[1].image": "nginx"}
        assert len(mutate(review(obj), policy(HUB_TO_CORP, mode="mutate")).warnings) == 2

    @pytest.mark.parametrize(
        ("metadata", "kept"),
        [
            pytest.param(None, {}, id="null-metadata"),
            pytest.param({}, {}, id="no-annotations"),
            pytest.param({"annotations": None}, {}, id="null-annotations"),
            pytest.param({"annotations": {}}, {}, id="empty-annotations"),
            pytest.param({"annotations": {"a/b~c": "x"}}, {}, id="other-annotations-stay"),
            pytest.param(
                {"annotations": {ORIGINAL_IMAGES: '{"spec.initContainers[0].image":"b"}'}},
                {"spec.initContainers[0].image": "b"},
                id="merged-per-path",
            ),
            pytest.param(
                {"annotations": {ORIGINAL_IMAGES: '{"spec.containers[0].image":"older"}'}}, {}, id="same-path"
            ),
            pytest.param({"annotations": {ORIGINAL_IMAGES: "{"}}, {}, id="no-json-is-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: ""}}, {}, id="empty-is-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: "[]"}}, {}, id="list-is-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: '{"a":1}'}}, {}, id="numbers-are-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: '{"a":null}'}}, {}, id="nulls-are-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: "9" * 5000}}, {}, id="huge-number-is-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: "[" * 99_999}}, {}, id="deep-is-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: None}}, {}, id="null-is-replaced"),
            pytest.param({"annotations": {ORIGINAL_IMAGES: ["a"]}}, {}, id="another-type-is-replaced"),
            pytest.param(
                {"annotations": {ORIGINAL_IMAGES: '{"é\\n\\ud800":"ü"}'}},
                {"é\n\ud800": "ü"},
                id="any-text-stays",
            ),
        ],
    )
    def test_the_originals_are_recorded(self, metadata: Any, kept: dict[str, str]) -> None:
        """The record is merged per path with an earlier one; other annotations stay."""
        obj = {**pod("nginx"), "metadata": metadata}
        answer = mutate(review(obj), policy(HUB_TO_CORP, mode="mutate"))
        assert answer.originals == {**kept, "spec.containers[0].image": "nginx"}
        others = {**((metadata or {}).get("annotations") or {}), ORIGINAL_IMAGES: ...}
        assert answer.object["metadata"]["annotations"].keys() == others.keys()

    @pytest.mark.parametrize("metadata", ["text", 7, [], False, {"annotations": []}, {"annotations": "x"}])
    def test_a_pod_with_metadata_of_the_wrong_type_is_not_patched(self, metadata: Any) -> None:
        assert rewrites({**pod("nginx"), "metadata": metadata}) == {}

    def test_nothing_is_recorded_when_nothing_was_rewritten(self) -> None:
        obj = pod(GOOD, metadata={"annotations": {ORIGINAL_IMAGES: "garbage"}})
        assert mutate(review(obj), policy(HUB_TO_CORP, mode="mutate")).object == obj

    def test_only_pods_are_rewritten(self) -> None:
        for kind in WORKLOADS:
            assert rewrites(workload(kind, "nginx")) == {}
        assert rewrites({**pod("nginx"), "apiVersion": "example.com/v1"}) == {}

    def test_declared_paths_of_a_pod_are_judged_but_not_rewritten(self) -> None:
        """Only the four lists are images that the kubelet pulls."""
        more = HUB_TO_CORP + "resources: [{group: '', kind: Pod, images: ['spec.extra{*}', other]}]\n"
        obj = {**pod("nginx", extra={"k/~": "a"}), "other": "b"}
        assert rewrites(obj, more) == {"spec.containers[0].image": "nginx"}
        assert len(validated(review(obj), policy(more)).rejected) == 3

    def test_the_patch_is_the_smallest(self) -> None:
        """The patch has one ``replace`` for each image and one ``add`` for the annotation."""
        answer = mutate(
            review(pod("nginx", GOOD, "busybox", metadata={"annotations": {"a": "b"}})),
            policy(HUB_TO_CORP, mode="mutate"),
        )
        assert [(operation["op"], operation["path"]) for operation in answer.patch] == [
            ("replace", "/spec/containers/0/image"),
            ("replace", "/spec/containers/2/image"),
            ("add", "/metadata/annotations/gatekeeper-py~1original-images"),
        ]
        assert json.loads(answer.patch[2]["value"]) == answer.originals

    @pytest.mark.bulk
    def test_a_thousand_containers(self) -> None:
        """All of them are rewritten, and then all of them are approved."""
        document = review(pod(*[f"x/{i}" for i in range(1000)]))
        answer = mutate(document, policy(HUB_TO_CORP, mode="mutate"))
        assert len(answer.patch) == 1001
        assert answer.warnings[-1] == "991 more images were rewritten or left as written"
        assert validate(review(answer.object), policy(HUB_TO_CORP, mode="mutate")).allowed
        assert "and 995 more images not approved" in validate(document, policy()).message


class TestMutateModeValidates:
    """The validating endpoint sees Pods already rewritten, and judges the rest as if they were."""

    def test_a_pod_that_was_not_rewritten_is_denied(self) -> None:
        assert not validate(review(pod("nginx")), policy(HUB_TO_CORP, mode="mutate")).allowed

    def test_an_approved_image_must_be_approved_on_its_mirror(self) -> None:
        """The Pod will run that one."""
        compiled = policy(HUB_TO_CORP, mode="mutate", allow="[docker.io]")
        assert not validate(review(workload("Deployment", "nginx")), compiled).allowed
        outcome = validated(review(workload("Deployment", "nginx")), compiled)
        (verdict,) = outcome.rejected
        assert verdict.rewritten == "registry.corp.io/dockerhub/library/nginx"
        assert verdict.mirror == 0

    def test_an_image_is_judged_as_written_in_the_other_modes(self) -> None:
        document = review(workload("Deployment", "nginx"))
        assert not validate(document, policy(HUB_TO_CORP)).allowed
        compiled = policy(HUB_TO_CORP, allow="[docker.io]")
        assert validate(document, compiled).allowed


class TestProposal:
    """A denial proposes the image on its mirror, if that one is approved."""

    @pytest.mark.parametrize(
        ("image", "proposal"),
        [
            pytest.param(
                "nginx:1", "registry.corp.io/dockerhub/library/nginx:1", id="approved-on-its-mirror"
            ),
            pytest.param("quay.io/x", None, id="mirror-is-not-approved"),
            pytest.param("ghcr.io/x", None, id="no-mirror"),
            pytest.param("keep/x", None, id="except"),
            pytest.param("evil/x", None, id="denied"),
        ],
    )
    def test_a_denial_proposes_the_mirrored_image(self, image: str, proposal: str | None) -> None:
        more = (
            f"deny: [docker.io/evil/*]\n{HUB_TO_CORP}    except: [docker.io/keep/*]\n"
            "  - {from: quay.io, to: other.io/quay}\n"
        )
        outcome = validated(review(pod(image), namespace=NAMESPACE), policy(more))
        assert [verdict.use for verdict in outcome.rejected] == [proposal]
        assert ("; use " in outcome.response.message) is (proposal is not None)


class TestHostileObjects:
    """Unusual objects also get an answer."""

    @pytest.mark.bulk
    @pytest.mark.parametrize("kind", [("", "Pod"), ("apps", "Deployment"), ("example.com", "Widget")])
    @pytest.mark.parametrize("levels", [50, 1000, 5000])
    def test_deep_nesting(self, kind: tuple[str, str], levels: int) -> None:
        deep: Any = "x"
        for level in range(levels):
            deep = [deep] if level % 2 else {"containers": deep}
        for obj in (deep, {"spec": deep}, {"spec": {"containers": [{"image": deep}]}}, {"metadata": deep}):
            for operation in ("CREATE", "UPDATE"):
                document = review(obj, kind=kind, operation=operation, old=obj)
                for mode in MODES:
                    validate(document, policy(RESOURCES, mode=mode))
                    mutate(document, policy(RESOURCES + HUB_TO_CORP, mode=mode))

    @pytest.mark.bulk
    def test_megabytes_of_text(self) -> None:
        """The long text is an image, a name, or a key on the path to thousands of images."""
        huge = "x" * 3_000_000
        documents = [
            review(pod(huge)),
            review({**pod(), "spec": {"containers": [container(BAD, huge)]}}),
            review({**WIDGET, huge: pod_spec(*[BAD] * 20_000)}),
            review({**WIDGET, huge: pod_spec(*[7] * 20_000)}),
            review({**WIDGET, "spec": {"steps": {huge: {"image": BAD}}}}),
            review({"apiVersion": "example.com/v1", "kind": huge}),
        ]
        for mode in MODES:
            for document in documents[:-1]:
                assert validate(document, policy(RESOURCES, mode=mode)).allowed is (mode == "warn")
            assert validate(documents[-1], policy(mode=mode)).allowed


class TestApprovedImages:
    """The short cut accepts only objects whose images are all approved."""

    @pytest.mark.parametrize("obj", [pod(GOOD, GOOD), workload("Deployment", GOOD, GOOD)])
    @pytest.mark.parametrize(("most", "images"), [(2, [GOOD, GOOD]), (1, None)])
    def test_an_object_with_more_images_than_the_limit_is_left_out(
        self, obj: dict[str, Any], most: int, images: list[str] | None
    ) -> None:
        assert certainly_approved(parse(review(obj)), policy(), most=most) == images

    @pytest.mark.parametrize(
        ("document", "images"),
        [
            *(pytest.param(review(workload(kind, GOOD, GOOD)), [GOOD, GOOD], id=kind) for kind in WORKLOADS),
            pytest.param(review(pod(GOOD), operation="UPDATE", old=pod("a")), [GOOD], id="update"),
            pytest.param(review(pod(BAD), operation="UPDATE", old=pod(BAD)), [], id="nothing-is-new"),
            pytest.param(
                review(
                    workload("Deployment", f"{GOOD}2", GOOD),
                    operation="UPDATE",
                    old=workload("Deployment", GOOD),
                ),
                [f"{GOOD}2"],
                id="only-new-images-count",
            ),
            pytest.param(
                review(
                    pod(BAD, ephemeralContainers=[container(GOOD)]),
                    operation="UPDATE",
                    old=pod(BAD),
                    sub_resource="ephemeralcontainers",
                ),
                [GOOD],
                id="ephemeral",
            ),
        ],
    )
    def test_new_images_of_workloads_and_updates_are_approved(
        self, document: dict[str, Any], images: list[str]
    ) -> None:
        assert certainly_approved(parse(document), policy()) == images

    def test_templates_are_left_out_where_their_pods_are_rewritten(self) -> None:
        document = review(workload("Deployment", GOOD))
        assert certainly_approved(parse(document), policy(mode="mutate")) is None
        update = review(pod(GOOD), operation="UPDATE", old=pod("a"))
        assert certainly_approved(parse(update), policy(mode="mutate")) == [GOOD]

    @pytest.mark.parametrize(
        ("document", "more"),
        [
            pytest.param(review(pod(GOOD, BAD)), "", id="rejected-image"),
            pytest.param(review(pod(GOOD, BAD), operation="UPDATE", old=pod("a")), "", id="update"),
            pytest.param(review(pod(GOOD), operation="UPDATE", old=pod(7)), "", id="odd-old-object"),
            pytest.param(review(pod(GOOD), operation="UPDATE"), "", id="no-old-object"),
            pytest.param(review(pod(GOOD), operation="DELETE"), "", id="deletion"),
            pytest.param(review(workload("CronJob", GOOD, BAD)), "", id="rejected-in-a-template"),
            pytest.param(
                review(
                    workload("Deployment", BAD, GOOD), operation="UPDATE", old=workload("Deployment", BAD)
                ),
                "",
                id="kept-in-a-template",
            ),
            pytest.param(review(workload("CronJob", GOOD, "auto")), "", id="placeholder"),
            pytest.param(review(workload("CronJob", GOOD) | {"spec": 7}), "", id="odd-template"),
            pytest.param(review({**WIDGET, "spec": {"containers": []}}), "", id="another-kind"),
            pytest.param(
                review(workload("Job", GOOD)),
                "resources: [{group: batch, kind: Job, images: ['spec.x']}]\n",
                id="declared-of-a-workload",
            ),
            pytest.param(review(pod(containers=[])), "", id="no-containers"),
            pytest.param(review(pod(GOOD, metadata=MIRROR_POD), groups=("system:nodes",)), "", id="exempt"),
            pytest.param(
                review(pod(GOOD)), "resources: [{group: '', kind: Pod, images: ['spec.x']}]\n", id="declared"
            ),
        ],
    )
    def test_other_requests_are_left_out(self, document: dict[str, Any], more: str) -> None:
        assert certainly_approved(parse(document), policy(more)) is None


def test_a_judge_that_ends_early_leaves_no_image_unjudged() -> None:
    def judge(_slot: object) -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="not judged"):
        Judging(("slot",), judge, pytest.fail).outcome()  # type: ignore[arg-type]
