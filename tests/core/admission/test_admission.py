"""Validate and mutate: which requests are judged, and the answer in each mode."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import HUB_TO_CORP, NAMESPACE, WORKLOADS, container, pod, pod_spec, policy, review, workload
from calling import mutate, mutated, validate, validated
from contract import ORIGINAL_IMAGES
from gatekeeper_py.core.admission import approved_images
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.policy.document import Mode

GOOD = "registry.corp.io/web:1"
BAD = "quay.io/web:1"
MODES: tuple[Mode, ...] = ("enforce", "warn", "mutate")
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
    def test_an_approved_pod_is_allowed_without_a_warning(self, mode: Mode) -> None:
        outcome = validated(review(pod(GOOD)), policy(mode=mode))
        answer = validate(review(pod(GOOD)), policy(mode=mode))
        assert (answer.allowed, answer.warnings) == (True, ())
        assert answer.audit == {"mode": mode, "policy": policy(mode=mode).revision}
        assert (outcome.verdict, outcome.mode, outcome.exemption) == ("allowed", mode, "")
        assert [judgement.approved for judgement in outcome.judgements] == [True]

    @pytest.mark.parametrize(
        ("mode", "allowed", "verdict"),
        [
            pytest.param("enforce", False, "denied", id="enforce"),
            pytest.param("warn", True, "warned", id="warn"),
            pytest.param("mutate", False, "denied", id="mutate"),
        ],
    )
    def test_a_rejected_image(self, mode: Mode, allowed: bool, verdict: str) -> None:  # noqa: FBT001
        """The answer is a denial, or one warning per rejected image. All images are judged."""
        document = review(pod(BAD, GOOD, BAD))
        answer, outcome = validate(document, policy(mode=mode)), validated(document, policy(mode=mode))
        assert answer.allowed is allowed
        assert len(answer.warnings) == (2 if allowed else 0)
        assert (outcome.verdict, outcome.mode) == (verdict, mode)
        assert [judgement.slot.path for judgement in outcome.rejected] == [
            "spec.containers[0].image",
            "spec.containers[2].image",
        ]
        assert len(outcome.judgements) == 3

    @pytest.mark.parametrize("mode", ["enforce", "warn"])
    def test_only_mutate_mode_patches(self, mode: Mode) -> None:
        answer = mutate(review(pod("nginx")), policy(HUB_TO_CORP, mode=mode))
        assert (answer.patch, answer.warnings) == ((), ())
        assert answer.audit == {"mode": mode, "policy": policy(HUB_TO_CORP, mode=mode).revision}

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        "obj",
        [
            pytest.param(pod(BAD), id="rejected-image"),
            pytest.param(pod(7), id="image-is-a-number"),
            pytest.param({**pod(), "spec": None}, id="null-spec"),
            pytest.param({**pod(), "spec": {"containers": "nginx"}}, id="containers-are-text"),
            pytest.param(pod("", None), id="no-image"),
            pytest.param(workload("Deployment", BAD), id="deployment"),
        ],
    )
    def test_the_mutating_endpoint_allows_everything(self, obj: Any, mode: Mode) -> None:
        outcome = mutated(review(obj), policy(HUB_TO_CORP, mode=mode))
        assert (outcome.verdict, outcome.response.patch) == ("allowed", ())

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


class TestExemptions:
    """Requests that both endpoints allow without reading their images."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("request_", "exemption"),
        [
            pytest.param({"operation": "DELETE"}, "operation", id="delete"),
            pytest.param({"operation": "CONNECT", "sub_resource": "exec"}, "operation", id="connect"),
            pytest.param(
                {"operation": "UPDATE", "obj": pod("nginx", metadata=DELETING)}, "deleting", id="deleting"
            ),
            pytest.param(
                {"operation": "UPDATE", "obj": {**WIDGET, "metadata": DELETING, "spec": pod_spec(BAD)}},
                "deleting",
                id="deleting-another-kind",
            ),
            pytest.param(
                {"obj": pod("nginx", metadata=MIRROR_POD), "groups": ("x", "system:nodes")},
                "mirror-pod",
                id="mirror-pod",
            ),
            pytest.param(
                {"obj": pod(7, metadata=MIRROR_POD), "groups": ("system:nodes",), "operation": "UPDATE"},
                "mirror-pod",
                id="mirror-pod-update",
            ),
        ],
    )
    def test_exempt(self, request_: dict[str, Any], exemption: str, mode: Mode) -> None:
        document = review(
            request_.get("obj", pod("nginx")), **{k: v for k, v in request_.items() if k != "obj"}
        )
        for outcome in (
            validated(document, policy(HUB_TO_CORP, mode=mode)),
            mutated(document, policy(HUB_TO_CORP, mode=mode)),
        ):
            assert (outcome.verdict, outcome.exemption) == ("allowed", exemption)
            assert outcome.judgements == ()
            assert (outcome.response.warnings, outcome.response.patch) == ((), ())
            assert outcome.response.audit_annotations["mode"] == mode

    @pytest.mark.parametrize(
        ("obj", "request_"),
        [
            pytest.param(pod(BAD, metadata=DELETING), {}, id="deletion-time-forged-on-create"),
            pytest.param(
                pod(BAD, metadata={"deletionTimestamp": None}),
                {"operation": "UPDATE"},
                id="null-deletion-time",
            ),
            pytest.param(
                pod(BAD, metadata={"deletionTimestamp": True}), {"operation": "UPDATE"}, id="deletion-flag"
            ),
            pytest.param(pod(BAD, metadata=["x"]), {"operation": "UPDATE"}, id="metadata-is-a-list"),
            pytest.param(pod(BAD, metadata=MIRROR_POD), {}, id="mirror-pod-not-sent-by-a-node"),
            pytest.param(
                pod(BAD, metadata=MIRROR_POD),
                {"groups": ("system:nodes2",), "username": "system:nodes"},
                id="mirror-pod-sent-by-a-name-alike",
            ),
            pytest.param(pod(BAD), {"groups": ("system:nodes",)}, id="any-pod-of-a-node"),
            pytest.param(
                pod(BAD, metadata={"annotations": ["kubernetes.io/config.mirror"]}),
                {"groups": ("system:nodes",)},
                id="annotations-are-a-list",
            ),
            pytest.param(
                pod(BAD, metadata={"labels": MIRROR_POD["annotations"]}),
                {"groups": ("system:nodes",)},
                id="mirror-label",
            ),
            pytest.param(
                {**workload("Deployment", BAD), "metadata": MIRROR_POD},
                {"groups": ("system:nodes",)},
                id="mirror-deployment",
            ),
            pytest.param(pod(BAD), {"operation": "create"}, id="unknown-operation"),
            pytest.param(
                pod(BAD),
                {"operation": "UPDATE", "old": pod(GOOD, metadata=DELETING)},
                id="old-object-deleting",
            ),
        ],
    )
    def test_an_object_that_is_not_exempt_is_rejected(self, obj: Any, request_: dict[str, Any]) -> None:
        assert not validate(review(obj, **request_), policy()).allowed


class TestUpdate:
    """UPDATE: only images that are not already in the old object."""

    @pytest.mark.parametrize(
        ("kind", "sub_resource"),
        [
            pytest.param("Pod", None, id="pod"),
            pytest.param("Pod", "status", id="pod-status"),
            pytest.param("Pod", "resize", id="pod-resize"),
            *(pytest.param(kind, None, id=kind) for kind in sorted(WORKLOADS)),
        ],
    )
    def test_a_change_of_something_else_is_never_blocked(self, kind: str, sub_resource: str | None) -> None:
        """The change is to a finalizer, label or status of an object admitted under an older policy."""
        old = pod(BAD, 7, "") if kind == "Pod" else workload(kind, BAD, 7, "")
        new = {**old, "metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}}
        for mode in MODES:
            document = review(new, operation="UPDATE", old=old, sub_resource=sub_resource)
            answer = validate(document, policy(mode=mode))
            assert (answer.allowed, answer.warnings) == (True, ())
            assert mutate(document, policy(HUB_TO_CORP, mode=mode)).patch == ()

    def test_only_new_images_are_judged(self) -> None:
        document = review(pod(BAD, "quay.io/other"), operation="UPDATE", old=pod(BAD))
        outcome = validated(document, policy())
        assert [judgement.slot.value for judgement in outcome.judgements] == ["quay.io/other"]
        assert outcome.verdict == "denied"

    def test_all_images_are_judged_without_an_old_object(self) -> None:
        assert not validate(review(pod(BAD), operation="UPDATE"), policy()).allowed

    def test_an_ephemeral_container_is_a_new_image(self) -> None:
        """``pods/ephemeralcontainers``: the whole Pod is in ``object``."""
        old = pod(BAD)
        for image, allowed in ((GOOD, True), ("quay.io/debug", False), (BAD, True), ("", False)):
            new = {**old, "spec": {**old["spec"], "ephemeralContainers": [container(image)]}}
            document = review(new, operation="UPDATE", old=old, sub_resource="ephemeralcontainers")
            assert validate(document, policy()).allowed is allowed

    def test_only_new_images_are_rewritten(self) -> None:
        old = pod("nginx")
        new = pod("nginx", ephemeralContainers=[container("busybox", "debug")])
        found = rewrites(new, operation="UPDATE", old=old, sub_resource="ephemeralcontainers")
        assert found == {"spec.ephemeralContainers[0].image": "busybox"}
        assert rewrites(pod("nginx:2"), operation="UPDATE", old=old) == {
            "spec.containers[0].image": "nginx:2"
        }


class TestWrongTypes:
    """A value that is not an image is rejected by its path, and the other images are judged as usual."""

    @pytest.mark.parametrize(
        ("spec", "path"),
        [
            pytest.param(None, "spec", id="null-spec"),
            pytest.param("text", "spec", id="spec-is-text"),
            pytest.param([], "spec", id="spec-is-a-list"),
            pytest.param({}, "spec.containers", id="no-containers"),
            pytest.param({"containers": None}, "spec.containers", id="null-containers"),
            pytest.param({"containers": {}}, "spec.containers", id="containers-are-a-mapping"),
            pytest.param({"containers": [{}, None]}, "spec.containers[1]", id="null-container"),
            pytest.param({"containers": [{}]}, "spec.containers[0].image", id="missing-image"),
            pytest.param({"containers": [container(None)]}, "spec.containers[0].image", id="null-image"),
            pytest.param({"containers": [container("")]}, "spec.containers[0].image", id="empty-image"),
            pytest.param(
                {"containers": [container(["a"])]}, "spec.containers[0].image", id="image-is-a-list"
            ),
            pytest.param(pod_spec(GOOD, initContainers=0), "spec.initContainers", id="init-containers"),
            pytest.param(pod_spec(GOOD, ephemeralContainers=""), "spec.ephemeralContainers", id="ephemeral"),
            pytest.param(pod_spec(GOOD, volumes={}), "spec.volumes", id="volumes-are-a-mapping"),
            pytest.param(pod_spec(GOOD, volumes=[[]]), "spec.volumes[0]", id="volume-is-a-list"),
            pytest.param(
                pod_spec(GOOD, volumes=[{"image": "a"}]), "spec.volumes[0].image", id="image-volume"
            ),
            pytest.param(
                pod_spec(GOOD, volumes=[{"image": {}}]), "spec.volumes[0].image.reference", id="no-reference"
            ),
            pytest.param(pod_spec("auto"), "spec.containers[0].image", id="placeholder"),
            pytest.param(pod_spec(" "), "spec.containers[0].image", id="other-placeholder"),
        ],
    )
    def test_a_wrong_type_in_a_pod_is_rejected_with_its_path(self, spec: Any, path: str) -> None:
        """The message names the path, and so does the warning in ``warn`` mode."""
        document = review({**pod(), "spec": spec})
        assert f"({path}): " in validate(document, policy()).message
        warned = validate(document, policy(mode="warn"))
        assert any(warning.startswith(f"{path}: ") for warning in warned.warnings)
        assert mutate(document, policy(HUB_TO_CORP, mode="enforce")).patch == ()

    @pytest.mark.parametrize("obj", [None, 7, "Pod", [], True])
    @pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
    def test_a_pod_that_is_not_an_object_is_rejected(self, obj: Any, operation: str) -> None:
        document = review(obj, kind=("", "Pod"), operation=operation, old=obj)
        assert not validate(document, policy()).allowed
        assert mutate(document, policy(HUB_TO_CORP, mode="mutate")).patch == ()

    @pytest.mark.parametrize("image", [None, "", "auto", " "])
    def test_an_image_may_be_missing_in_a_template(self, image: Any) -> None:
        assert validate(review(workload("Deployment", image)), policy()).allowed

    @pytest.mark.parametrize("image", [7, {}, [], False, "Auto", "  "])
    def test_a_wrong_image_in_a_template_is_rejected(self, image: Any) -> None:
        assert not validate(review(workload("Deployment", image)), policy()).allowed

    def test_the_other_images_are_judged(self) -> None:
        outcome = validated(review(pod(7, GOOD, BAD)), policy())
        assert [judgement.decision.reason for judgement in outcome.judgements] == [
            "invalid",
            "allowed",
            "unlisted",
        ]

    def test_the_other_images_are_rewritten(self) -> None:
        obj = pod(7, "nginx", "", volumes=[None, {"name": "m", "image": {"reference": "model"}}])
        obj["spec"]["containers"].append("text")
        assert rewrites(obj) == {
            "spec.containers[1].image": "nginx",
            "spec.volumes[1].image.reference": "model",
        }


class TestUnknownKinds:
    """A kind in which no image can be found is allowed, with a warning unless it is a subresource."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("spec", [{}, None, {"image": "nginx"}, {"containers": ["web"]}, "text"])
    def test_an_object_of_an_unknown_kind_is_allowed_with_a_warning(self, spec: Any, mode: Mode) -> None:
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
            pytest.param("nginx", "registry.corp.io/dockerhub/library/nginx", id="official"),
            pytest.param("bitnami/redis:7", "registry.corp.io/dockerhub/bitnami/redis:7", id="tag-stays"),
            pytest.param(
                f"docker.io/x/y@{DIGEST}", f"registry.corp.io/dockerhub/x/y@{DIGEST}", id="digest-stays"
            ),
            pytest.param(f"x/y:1@{DIGEST}", f"registry.corp.io/dockerhub/x/y:1@{DIGEST}", id="both-stay"),
            pytest.param("index.docker.io/nginx", "registry.corp.io/dockerhub/library/nginx", id="alias"),
            pytest.param("registry-1.docker.io:443/x/y", "registry.corp.io/dockerhub/x/y", id="alias-port"),
            pytest.param("quay.io/team/app", "registry.corp.io/team/app", id="longest-from-wins"),
            pytest.param("quay.io/team2/app", "registry.corp.io/quay/team2/app", id="segment-boundary"),
            pytest.param("quay.io/team/keep", None, id="except-of-the-longest"),
            pytest.param("quay.io/team/denied", None, id="denied"),
            pytest.param("ghcr.io/x", None, id="no-mirror"),
            pytest.param("registry.corp.io/dockerhub/library/nginx", None, id="already-there"),
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
        assert [judgement.mirror for judgement in outcome.judgements] == [0] * 4

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

    @pytest.mark.parametrize("length", [255, 256])
    def test_a_result_has_at_most_255_characters_of_name(self, length: int) -> None:
        """The length includes the host; tag and digest do not count."""
        path = "x/" + "a" * (length - len("registry.corp.io/dockerhub/x/"))
        assert bool(rewrites(pod(f"{path}:v1@{DIGEST}"))) is (length == 255)

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

    def test_a_pod_without_metadata_gets_it(self) -> None:
        obj = {"apiVersion": "v1", "kind": "Pod", "spec": pod_spec("nginx")}
        assert rewrites(obj) == {"spec.containers[0].image": "nginx"}

    @pytest.mark.parametrize("metadata", ["text", 7, [], False, {"annotations": []}, {"annotations": "x"}])
    def test_a_pod_with_metadata_of_the_wrong_type_is_not_patched(self, metadata: Any) -> None:
        assert rewrites({**pod("nginx"), "metadata": metadata}) == {}

    def test_nothing_is_recorded_when_nothing_was_rewritten(self) -> None:
        obj = pod(GOOD, metadata={"annotations": {ORIGINAL_IMAGES: "garbage"}})
        assert mutate(review(obj), policy(HUB_TO_CORP, mode="mutate")).object == obj

    def test_mutation_is_idempotent(self) -> None:
        once = mutate(review(pod("nginx", GOOD)), policy(HUB_TO_CORP, mode="mutate"))
        assert mutate(review(once.object), policy(HUB_TO_CORP, mode="mutate")).patch == ()

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

    @pytest.mark.parametrize(
        ("image", "allowed"),
        [
            pytest.param("nginx", True, id="approved-on-its-mirror"),
            pytest.param(GOOD, True, id="approved-without-a-mirror"),
            pytest.param(BAD, False, id="unlisted"),
            pytest.param("evil/x", False, id="denied-is-not-rewritten"),
            pytest.param("keep/x", False, id="except-is-not-rewritten"),
            pytest.param("bad name", False, id="invalid"),
            pytest.param("corp/old", False, id="denied-on-its-mirror"),
        ],
    )
    @pytest.mark.parametrize(
        "kind", [pytest.param("Deployment", id="template"), pytest.param("Widget", id="by-shape")]
    )
    def test_another_object_is_judged_as_its_pods_will_be(self, kind: str, image: str, allowed: bool) -> None:  # noqa: FBT001
        more = (
            "deny: [docker.io/evil/*, registry.corp.io/dockerhub/corp/old]\n"
            f"{HUB_TO_CORP}    except: [docker.io/keep/*]\n"
        )
        obj = workload(kind, image) if kind in WORKLOADS else {**WIDGET, "spec": pod_spec(image)}
        assert validate(review(obj), policy(more, mode="mutate")).allowed is allowed
        created = mutate(review(pod(image)), policy(more, mode="mutate")).object
        assert validate(review(created), policy(more, mode="mutate")).allowed is allowed

    def test_an_approved_image_must_be_approved_on_its_mirror(self) -> None:
        """The Pod will run that one."""
        compiled = policy(HUB_TO_CORP, mode="mutate", allow="[docker.io]")
        assert not validate(review(workload("Deployment", "nginx")), compiled).allowed
        outcome = validated(review(workload("Deployment", "nginx")), compiled)
        (judgement,) = outcome.rejected
        assert judgement.rewritten == "registry.corp.io/dockerhub/library/nginx"
        assert judgement.mirror == 0

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
        assert [judgement.use for judgement in outcome.rejected] == [proposal]
        assert ("; use " in outcome.response.message) is (proposal is not None)


class TestHostileObjects:
    """Unusual objects also get an answer."""

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

    @pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\u2028", "\U0001f433", "\ud800", '"', "\\"])
    def test_odd_text_everywhere(self, name: str) -> None:
        """``check_response`` checks the answer."""
        documents = [
            review({**pod(), "spec": {"containers": [container(name, name)]}}),
            review({"apiVersion": "example.com/v1", "kind": name, name: pod_spec(name), "spec": {}}),
            review({**WIDGET, "spec": {"steps": {name: {"image": name}}}}),
            review(pod(f"nginx{name}", metadata={"annotations": {name: name}})),
            review({**WIDGET, "kind": name}),
        ]
        for document in documents:
            for mode in MODES:
                validate(document, policy(RESOURCES, mode=mode))
                mutate(document, policy(HUB_TO_CORP, mode=mode))


class TestApprovedImages:
    """The short cut accepts only objects whose images are all approved."""

    @pytest.mark.parametrize("obj", [pod(GOOD, GOOD), workload("Deployment", GOOD, GOOD)])
    @pytest.mark.parametrize(("most", "count"), [(2, 2), (1, None)])
    def test_at_most_so_many_images_are_counted(
        self, obj: dict[str, Any], most: int, count: int | None
    ) -> None:
        assert approved_images(parse(review(obj)), policy(), most=most) == count

    @pytest.mark.parametrize(
        ("document", "count"),
        [
            *(pytest.param(review(workload(kind, GOOD, GOOD)), 2, id=kind) for kind in WORKLOADS),
            pytest.param(review(pod(GOOD), operation="UPDATE", old=pod("a")), 1, id="update"),
            pytest.param(review(pod(BAD), operation="UPDATE", old=pod(BAD)), 0, id="nothing-is-new"),
            pytest.param(
                review(
                    workload("Deployment", BAD, GOOD), operation="UPDATE", old=workload("Deployment", BAD)
                ),
                1,
                id="only-new-images-count",
            ),
            pytest.param(
                review(
                    pod(BAD, ephemeralContainers=[container(GOOD)]),
                    operation="UPDATE",
                    old=pod(BAD),
                    sub_resource="ephemeralcontainers",
                ),
                1,
                id="ephemeral",
            ),
        ],
    )
    def test_workloads_and_updates_are_counted(self, document: dict[str, Any], count: int) -> None:
        assert approved_images(parse(document), policy()) == count

    def test_templates_are_not_counted_where_their_pods_are_rewritten(self) -> None:
        document = review(workload("Deployment", GOOD))
        assert approved_images(parse(document), policy(mode="mutate")) is None
        assert (
            approved_images(parse(review(pod(GOOD), operation="UPDATE", old=pod("a"))), policy(mode="mutate"))
            == 1
        )

    @pytest.mark.parametrize(
        ("document", "more"),
        [
            pytest.param(review(pod(GOOD, BAD)), "", id="rejected-image"),
            pytest.param(review(pod(GOOD, BAD), operation="UPDATE", old=pod("a")), "", id="update"),
            pytest.param(review(pod(GOOD), operation="UPDATE", old=pod(7)), "", id="odd-old-object"),
            pytest.param(review(pod(GOOD), operation="UPDATE"), "", id="no-old-object"),
            pytest.param(review(pod(GOOD), operation="DELETE"), "", id="deletion"),
            pytest.param(review(workload("CronJob", GOOD, BAD)), "", id="rejected-in-a-template"),
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
    def test_other_requests_are_not_counted(self, document: dict[str, Any], more: str) -> None:
        assert approved_images(parse(document), policy(more)) is None
