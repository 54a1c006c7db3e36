"""The images that are judged (docs/policy.md, "Images that are judged"): their paths, and which are new."""

from __future__ import annotations

from typing import Any

import pytest

from builders import WORKLOADS, container, pod, pod_spec, workload
from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.workload import changed, holds_images, pod_images, slots
from gatekeeper_py.core.policy.resources import PathTree, parse_resource_path

WIDGET: GroupKind = ("example.com", "Widget")
NOT_LISTS = [
    pytest.param({"a": 1}, "it is a mapping, not a list", id="mapping"),
    pytest.param("nginx", "it is text, not a list", id="text"),
    pytest.param(7, "it is a number, not a list", id="number"),
    pytest.param(0.5, "it is a number, not a list", id="fraction"),
    pytest.param(False, "it is a boolean, not a list", id="false-is-not-absent"),
    pytest.param("", "it is text, not a list", id="empty-text-is-not-absent"),
    pytest.param({}, "it is a mapping, not a list", id="empty-mapping-is-not-absent"),
]
NOT_MAPPINGS = [
    pytest.param(["a"], "it is a list, not a mapping", id="list"),
    pytest.param("nginx", "it is text, not a mapping", id="text"),
    pytest.param(7, "it is a number, not a mapping", id="number"),
    pytest.param(True, "it is a boolean, not a mapping", id="boolean"),
    pytest.param([], "it is a list, not a mapping", id="empty-list"),
]
NOT_TEXT = [
    pytest.param(42, "the image is a number, not text", id="number"),
    pytest.param(True, "the image is a boolean, not text", id="boolean"),
    pytest.param(["nginx"], "the image is a list, not text", id="list"),
    pytest.param({"repository": "nginx"}, "the image is a mapping, not text", id="mapping"),
    pytest.param(0, "the image is a number, not text", id="zero-is-not-absent"),
    pytest.param([], "the image is a list, not text", id="empty-list-is-not-absent"),
]
LISTS = [
    pytest.param("containers", "container", id="containers"),
    pytest.param("initContainers", "init container", id="init-containers"),
    pytest.param("ephemeralContainers", "ephemeral container", id="ephemeral-containers"),
]


def paths(found: list[Slot]) -> list[str]:
    return [slot.path for slot in found]


def problems(found: list[Slot]) -> dict[str, str]:
    """Return the problems of values that cannot be judged, by path."""
    return {slot.path: slot.problem for slot in found if slot.problem}


def declared(kind: GroupKind, *texts: str) -> dict[GroupKind, PathTree]:
    return {kind: PathTree(map(parse_resource_path, texts))}


def nested(levels: int, value: Any, key: str = "deeper") -> Any:
    """Return a mapping with ``value`` this many levels below it."""
    for _ in range(levels):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param("PodTemplate", "template.spec", id="pod-template"),
        pytest.param("ReplicationController", "spec.template.spec", id="replication-controller"),
        pytest.param("ReplicaSet", "spec.template.spec", id="replica-set"),
        pytest.param("Deployment", "spec.template.spec", id="deployment"),
        pytest.param("StatefulSet", "spec.template.spec", id="stateful-set"),
        pytest.param("DaemonSet", "spec.template.spec", id="daemon-set"),
        pytest.param("Job", "spec.template.spec", id="job"),
        pytest.param("CronJob", "spec.jobTemplate.spec.template.spec", id="cron-job"),
    ],
)
def test_all_four_lists_of_every_template_kind_hold_images(kind: str, path: str) -> None:
    """Each kind's pod spec is at its path in the API, and all its lists are read."""
    obj = workload(
        kind,
        "a",
        initContainers=[container("b", "init")],
        ephemeralContainers=[container("c", "debug")],
        volumes=[{"name": "model", "image": {"reference": "d", "pullPolicy": "Always"}}],
    )
    found = slots((WORKLOADS[kind][0], kind), obj, {})
    assert [(slot.path, slot.noun, slot.value, slot.name, slot.problem) for slot in found] == [
        (f"{path}.containers[0].image", "container", "a", "c0", ""),
        (f"{path}.initContainers[0].image", "init container", "b", "init", ""),
        (f"{path}.ephemeralContainers[0].image", "ephemeral container", "c", "debug", ""),
        (f"{path}.volumes[0].image.reference", "image volume", "d", "model", ""),
    ]


def test_all_four_lists_of_a_pod_hold_images() -> None:
    """A Pod's slots name list, index, container and image, in the order of the lists."""
    obj = pod(
        "a",
        "b",
        initContainers=[container("c", "init")],
        ephemeralContainers=[container("d", "debug")],
        volumes=[
            {"name": "scratch", "emptyDir": {}},
            {"name": "model", "image": {"reference": "e"}},
            {"name": "none", "image": None},
        ],
    )
    assert [(slot.path, slot.noun, slot.value, slot.name) for slot in slots(POD, obj, {})] == [
        ("spec.containers[0].image", "container", "a", "c0"),
        ("spec.containers[1].image", "container", "b", "c1"),
        ("spec.initContainers[0].image", "init container", "c", "init"),
        ("spec.ephemeralContainers[0].image", "ephemeral container", "d", "debug"),
        ("spec.volumes[1].image.reference", "image volume", "e", "model"),
    ]


def test_kinds_are_recognised_by_group_and_kind() -> None:
    """A Deployment or Pod of another API group is only searched by shape."""
    assert paths(slots(("example.com", "Deployment"), {"spec": pod_spec("a")}, {})) == [
        "spec.containers[0].image"
    ]
    assert slots(("apps", "Deployment"), {"spec": pod_spec("a")}, {}) == []
    assert slots(("example.com", "Pod"), {"spec": {"containers": None}}, {}) == []
    assert paths(slots(("extensions", "Deployment"), workload("Deployment", "a"), {})) == [
        "spec.template.spec.containers[0].image"
    ]


@pytest.mark.parametrize(("key", "noun"), LISTS)
@pytest.mark.parametrize(("image", "problem"), NOT_TEXT)
@pytest.mark.parametrize("kind", [POD, ("apps", "Deployment")])
def test_an_image_of_the_wrong_type_is_a_problem_in_pods_and_templates(
    kind: GroupKind, image: Any, problem: str, key: str, noun: str
) -> None:
    """The invalid item is reported by its path, and the other images of the list are found as usual."""
    spec: dict[str, Any] = {"containers": []}
    spec[key] = [container("good"), container(image, "bad")]
    obj = {"spec": spec if kind == POD else {"template": {"spec": spec}}}
    prefix = "spec" if kind == POD else "spec.template.spec"
    assert slots(kind, obj, {}) == [
        Slot((*prefix.split("."), key, 0, "image"), noun, "good", "web"),
        Slot((*prefix.split("."), key, 1, "image"), noun, image, "bad", problem),
    ]


@pytest.mark.parametrize(("reference", "problem"), NOT_TEXT)
def test_a_reference_of_the_wrong_type_is_a_problem(reference: Any, problem: str) -> None:
    """The rules for an image volume are the same as for a container."""
    obj = pod("a", volumes=[{"name": "model", "image": {"reference": reference}}])
    assert problems(slots(POD, obj, {})) == {"spec.volumes[0].image.reference": problem}


@pytest.mark.parametrize("key", ["containers", "initContainers", "ephemeralContainers", "volumes"])
@pytest.mark.parametrize(("value", "problem"), NOT_LISTS)
@pytest.mark.parametrize("kind", [POD, ("apps", "Deployment")])
def test_a_list_field_of_another_type_is_a_problem(
    kind: GroupKind, value: Any, problem: str, key: str
) -> None:
    """This applies to all four lists, in Pods and in templates. The path is that of the list."""
    spec = {"containers": [], key: value}
    obj = {"spec": spec if kind == POD else {"template": {"spec": spec}}}
    prefix = "spec" if kind == POD else "spec.template.spec"
    assert problems(slots(kind, obj, {})) == {f"{prefix}.{key}": problem}


@pytest.mark.parametrize("key", ["containers", "initContainers", "ephemeralContainers", "volumes"])
@pytest.mark.parametrize(
    ("item", "problem"), [*NOT_MAPPINGS, pytest.param(None, "it is null, not a mapping", id="null")]
)
@pytest.mark.parametrize("kind", [POD, ("apps", "Deployment")])
def test_a_list_item_that_is_not_a_mapping_is_a_problem(
    kind: GroupKind, item: Any, problem: str, key: str
) -> None:
    """The path is that of the item; other items are found as usual."""
    spec = {"containers": [], key: [{"image": {"reference": "a"} if key == "volumes" else "a"}, item]}
    obj = {"spec": spec if kind == POD else {"template": {"spec": spec}}}
    prefix = "spec" if kind == POD else "spec.template.spec"
    found = slots(kind, obj, {})
    assert problems(found) == {f"{prefix}.{key}[1]": problem}
    assert [slot.value for slot in found if not slot.problem] == ["a"]


@pytest.mark.parametrize(("value", "problem"), NOT_MAPPINGS)
def test_a_volume_image_that_is_not_a_mapping_is_a_problem(value: Any, problem: str) -> None:
    """``volumes[].image`` is a mapping, or absent when null."""
    obj = pod("a", volumes=[{"name": "model", "image": value}])
    found = slots(POD, obj, {})
    assert problems(found) == {"spec.volumes[0].image": problem}
    assert found[-1].name == "model"


@pytest.mark.parametrize(("value", "problem"), NOT_MAPPINGS)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param(POD, "spec", id="pod"),
        pytest.param(("", "PodTemplate"), "template", id="template"),
        pytest.param(("", "PodTemplate"), "template.spec", id="template-spec"),
        pytest.param(("apps", "Deployment"), "spec", id="deployment-spec"),
        pytest.param(("batch", "CronJob"), "spec.jobTemplate.spec.template", id="cron-job-template"),
        pytest.param(("batch", "CronJob"), "spec.jobTemplate.spec.template.spec", id="cron-job-pod-spec"),
    ],
)
def test_a_spec_that_is_not_a_mapping_is_a_problem(
    kind: GroupKind, path: str, value: Any, problem: str
) -> None:
    """This applies to every level above the lists; the path names the level."""
    for field in reversed(path.split(".")):
        value = {field: value}
    assert problems(slots(kind, value, {})) == {path: problem}


@pytest.mark.parametrize(
    ("obj", "path", "problem"),
    [
        pytest.param(None, "", "there is no Pod to judge", id="null-object"),
        pytest.param("Pod", "", "there is no Pod to judge", id="text-object"),
        pytest.param([], "", "there is no Pod to judge", id="list-object"),
        pytest.param({}, "spec", "the Pod has no spec", id="missing-spec"),
        pytest.param({"spec": None}, "spec", "the Pod has no spec", id="null-spec"),
        pytest.param({"spec": {}}, "spec.containers", "the Pod has no containers", id="missing-containers"),
        pytest.param(
            {"spec": {"containers": None}},
            "spec.containers",
            "the Pod has no containers",
            id="null-containers",
        ),
    ],
)
def test_a_pod_without_its_parts_is_a_problem(obj: Any, path: str, problem: str) -> None:
    """A null or missing object, spec or containers of a Pod is rejected, not overlooked."""
    assert problems(slots(POD, obj, {})) == {path: problem}


@pytest.mark.parametrize("key", ["initContainers", "ephemeralContainers", "volumes"])
@pytest.mark.parametrize("kind", [POD, ("apps", "Deployment")])
def test_null_for_the_other_lists_means_absent(kind: GroupKind, key: str) -> None:
    spec = {**pod_spec("a"), key: None}
    obj = {"spec": spec if kind == POD else {"template": {"spec": spec}}}
    assert [slot.value for slot in slots(kind, obj, {})] == ["a"]


@pytest.mark.parametrize("kind", sorted(WORKLOADS))
def test_an_absent_path_in_a_template_kind_holds_no_image(kind: str) -> None:
    """Missing and null are the same, at each step down to ``containers: null``."""
    group, path = WORKLOADS[kind]
    fields = (*path, "containers")
    for length in range(len(fields)):
        for leaf in ({}, {fields[length]: None}):
            obj: Any = leaf
            for field in reversed(fields[:length]):
                obj = {field: obj}
            assert slots((group, kind), obj, {}) == []
    assert slots((group, kind), None, {}) == []


@pytest.mark.parametrize(("obj", "problem"), NOT_MAPPINGS)
def test_an_object_of_the_wrong_type_is_a_problem_of_a_template_kind(obj: Any, problem: str) -> None:
    """Only null counts as absent; any other type is a problem."""
    assert problems(slots(("apps", "Deployment"), obj, {})) == {"": problem}


@pytest.mark.parametrize(
    "image",
    [
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param(..., id="missing"),
    ],
)
def test_a_missing_image_is_a_problem_in_a_pod_but_not_in_a_template(image: Any) -> None:
    """The Pod is judged when it is created, so a template need not have its image yet."""
    holder = {} if image is ... else {"image": image}
    volume = {"image": {} if image is ... else {"reference": image}}
    spec = {"containers": [{"name": "web", **holder}], "volumes": [{"name": "model", **volume}]}
    problem = "the image is empty" if image == "" else "the image is missing"
    assert problems(slots(POD, {"spec": spec}, {})) == {
        "spec.containers[0].image": problem,
        "spec.volumes[0].image.reference": problem,
    }
    assert slots(("apps", "Deployment"), {"spec": {"template": {"spec": spec}}}, {}) == []


@pytest.mark.parametrize(
    ("image", "ignored"),
    [
        pytest.param("auto", True, id="istio"),
        pytest.param(" ", True, id="openshift"),
        pytest.param("Auto", False, id="other-case"),
        pytest.param("auto ", False, id="trailing-space"),
        pytest.param("  ", False, id="two-spaces"),
        pytest.param("auto:latest", False, id="with-a-tag"),
    ],
)
def test_the_exact_placeholders_are_ignored_in_templates_only(image: str, ignored: bool) -> None:  # noqa: FBT001
    assert [slot.value for slot in slots(POD, pod(image), {})] == [image]
    found = slots(("apps", "Deployment"), workload("Deployment", image), {})
    assert [slot.value for slot in found] == ([] if ignored else [image])
    assert len(slots(WIDGET, {"spec": pod_spec(image)}, {})) == (0 if ignored else 1)
    shown = slots(WIDGET, {"image": image}, declared(WIDGET, "image"))
    assert len(shown) == (0 if ignored else 1)


@pytest.mark.parametrize(
    "name",
    [pytest.param(7, id="number"), pytest.param("", id="empty"), pytest.param(None, id="null")],
)
def test_a_name_that_is_not_text_is_ignored(name: Any) -> None:
    """The image is still judged."""
    assert [(s.value, s.name) for s in slots(POD, {"spec": {"containers": [container("a", name)]}}, {})] == [
        ("a", None)
    ]


class TestByShape:
    """Kinds outside the table with an embedded pod template."""

    def test_a_mapping_with_a_containers_list_is_a_pod_spec_anywhere(self) -> None:
        """The pod spec may be in a mapping or in a list. All four lists count, and the noun is ``image``."""
        obj = {
            "spec": {
                "predictor": pod_spec("a", initContainers=[container("b", "init")]),
                "workers": [{"template": {"spec": pod_spec("c", volumes=[{"image": {"reference": "d"}}])}}],
            }
        }
        assert [(s.path, s.noun, s.value, s.name) for s in slots(WIDGET, obj, {})] == [
            ("spec.predictor.containers[0].image", "image", "a", "c0"),
            ("spec.predictor.initContainers[0].image", "image", "b", "init"),
            ("spec.workers[0].template.spec.containers[0].image", "image", "c", "c0"),
            ("spec.workers[0].template.spec.volumes[0].image.reference", "image", "d", None),
        ]

    def test_the_object_itself_can_be_the_pod_spec(self) -> None:
        assert paths(slots(WIDGET, pod_spec("a"), {})) == ["containers[0].image"]

    @pytest.mark.parametrize(
        ("levels", "found"),
        [
            pytest.param(31, True, id="31"),
            pytest.param(32, True, id="32-is-the-last"),
            pytest.param(33, False, id="33-is-too-deep"),
            pytest.param(500, False, id="500-does-no-harm"),
        ],
    )
    def test_a_pod_spec_is_found_at_most_32_levels_below_the_object(self, levels: int, found: bool) -> None:  # noqa: FBT001
        assert bool(slots(WIDGET, nested(levels, pod_spec("a")), {})) is found

    @pytest.mark.parametrize(
        ("levels", "found"), [pytest.param(15, True, id="32"), pytest.param(16, False, id="34")]
    )
    def test_a_list_counts_as_a_level(self, levels: int, found: bool) -> None:  # noqa: FBT001
        """The object has two mappings around ``levels`` mappings, each with a list."""
        obj: Any = pod_spec("a")
        for _ in range(levels):
            obj = {"items": [obj]}
        assert bool(slots(WIDGET, nested(2, obj), {})) is found

    @pytest.mark.parametrize("depth", [31, 32])
    def test_a_list_at_the_last_level_is_not_entered(self, depth: int) -> None:
        obj = nested(depth, [pod_spec("a")])
        assert bool(slots(WIDGET, obj, {})) is (depth == 31)

    def test_a_list_without_mappings_is_not_a_containers_list(self) -> None:
        """A list of container names, as many custom resources have it."""
        for items in (["web", "sidecar"], [1], [None], [["nginx"]]):
            assert slots(WIDGET, {"spec": {"containers": items, "volumes": "none"}}, {}) == []

    def test_a_list_with_one_mapping_is_a_containers_list(self) -> None:
        """The other items are then problems, as in any containers list."""
        found = slots(WIDGET, {"spec": {"containers": ["web", container("a")]}}, {})
        assert [(slot.path, slot.noun, slot.problem) for slot in found] == [
            ("spec.containers[0]", "image", "it is text, not a mapping"),
            ("spec.containers[1].image", "image", ""),
        ]

    def test_an_empty_list_is_a_containers_list(self) -> None:
        """A list with an item that is not a mapping is not a pod spec's list; the other lists are judged."""
        obj = {"spec": pod_spec(initContainers=[container("a")])}
        assert paths(slots(WIDGET, obj, {})) == ["spec.initContainers[0].image"]

    @pytest.mark.parametrize(
        "containers",
        [pytest.param({"web": {"image": "a"}}, id="mapping"), pytest.param("a", id="text"), None],
    )
    def test_containers_that_are_not_a_list_do_not_make_a_pod_spec(self, containers: Any) -> None:
        assert slots(WIDGET, {"spec": {"containers": containers}}, {}) == []

    def test_a_pod_spec_inside_a_container_is_found(self) -> None:
        """The search also covers everything inside an image list."""
        inner = pod_spec("hidden")
        obj = {"spec": pod_spec("a", initContainers=[{"image": "b", "then": inner}])}
        obj["spec"]["containers"][0]["then"] = inner
        obj["spec"]["volumes"] = [{"ephemeral": inner}]
        assert sorted(slot.value for slot in slots(WIDGET, obj, {})) == ["a", "b", *["hidden"] * 3]

    def test_only_metadata_at_the_top_is_skipped(self) -> None:
        """At the top it is the API's own type; deeper in the object the name has no meaning."""
        assert slots(WIDGET, {"metadata": pod_spec("a")}, {}) == []
        assert paths(slots(WIDGET, {"spec": {"metadata": pod_spec("a")}}, {})) == [
            "spec.metadata.containers[0].image"
        ]

    @pytest.mark.parametrize("obj", [None, "a", 7, [], {}])
    def test_a_missing_object_holds_no_image(self, obj: Any) -> None:
        assert slots(WIDGET, obj, {}) == []

    def test_keys_with_any_text_are_searched(self) -> None:
        obj = {"a/b~c": {"ünï\n": pod_spec("a")}}
        assert [slot.parts for slot in slots(WIDGET, obj, {})] == [
            ("a/b~c", "ünï\n", "containers", 0, "image")
        ]


class TestDeclared:
    """``resources`` add to the search by shape, under the rules of templates."""

    @pytest.mark.parametrize(
        ("path", "obj", "expected"),
        [
            pytest.param("spec.image", {"spec": {"image": "a"}}, ["spec.image"], id="field"),
            pytest.param(
                "spec.steps[*].image",
                {"spec": {"steps": [{"image": "a"}, {}, {"image": None}, {"image": ""}, {"image": "b"}]}},
                ["spec.steps[0].image", "spec.steps[4].image"],
                id="every-item",
            ),
            pytest.param(
                "spec.steps{*}.image",
                {"spec": {"steps": {"build": {"image": "a"}, "none": None, "a.b/c": {"image": "b"}}}},
                ["spec.steps{build}.image", "spec.steps{a.b/c}.image"],
                id="every-value-with-its-key-in-braces",
            ),
            pytest.param(
                "spec.images[*]",
                {"spec": {"images": ["a", None, "b"]}},
                ["spec.images[0]", "spec.images[2]"],
                id="items-are-images",
            ),
            pytest.param("images{*}", {"images": {"web": "a"}}, ["images{web}"], id="values-are-images"),
            pytest.param(
                "rows[*][*]",
                {"rows": [["a"], [], ["b", "c"]]},
                ["rows[0][0]", "rows[2][0]", "rows[2][1]"],
                id="lists-of-lists",
            ),
            pytest.param(
                "sets{*}[*].image",
                {"sets": {"x": [{"image": "a"}]}},
                ["sets{x}[0].image"],
                id="mapping-of-lists",
            ),
            pytest.param("spec.image", {"spec": None}, [], id="absent"),
            pytest.param("spec.steps[*].image", {}, [], id="absent-list"),
            pytest.param("spec.steps{*}.image", {"spec": {"steps": {}}}, [], id="empty-mapping"),
            pytest.param("spec.image", None, [], id="no-object"),
        ],
    )
    def test_paths_lead_to_images(self, path: str, obj: Any, expected: list[str]) -> None:
        found = slots(WIDGET, obj, declared(WIDGET, path))
        assert paths(found) == expected
        assert {(slot.noun, slot.name, slot.problem) for slot in found} <= {("image", None, "")}

    @pytest.mark.parametrize(
        ("path", "obj", "place", "problem"),
        [
            pytest.param(
                "spec.image",
                {"spec": {"image": 42}},
                "spec.image",
                "the image is a number, not text",
                id="number",
            ),
            pytest.param(
                "spec.image",
                {"spec": {"image": {"tag": "1"}}},
                "spec.image",
                "the image is a mapping, not text",
                id="mapping",
            ),
            pytest.param("spec.image", {"spec": "a"}, "spec", "it is text, not a mapping", id="spec-is-text"),
            pytest.param("spec.image", ["a"], "", "it is a list, not a mapping", id="object-is-a-list"),
            pytest.param("a[*].image", {"a": {"b": {}}}, "a", "it is a mapping, not a list", id="no-list"),
            pytest.param("a{*}.image", {"a": [{}]}, "a", "it is a list, not a mapping", id="no-mapping"),
            pytest.param("a{*}.image", {"a": {"k": 1}}, "a{k}", "it is a number, not a mapping", id="value"),
            pytest.param("a[*].image", {"a": ["x"]}, "a[0]", "it is text, not a mapping", id="item"),
            pytest.param("a[*].image", {"a": [None]}, "a[0]", "it is null, not a mapping", id="null-item"),
            pytest.param("a[*][*]", {"a": [None]}, "a[0]", "it is null, not a list", id="null-list-item"),
        ],
    )
    def test_a_value_of_another_shape_is_a_problem(
        self, path: str, obj: Any, place: str, problem: str
    ) -> None:
        """The reported path ends at the value with the wrong shape."""
        assert problems(slots(WIDGET, obj, declared(WIDGET, path))) == {place: problem}

    def test_declared_paths_add_to_the_search_by_shape(self) -> None:
        obj = {"spec": {"image": "a", "template": pod_spec("b")}}
        found = slots(WIDGET, obj, declared(WIDGET, "spec.image"))
        assert sorted(slot.value for slot in found) == ["a", "b"]

    def test_declared_paths_add_to_the_table_of_kinds(self) -> None:
        """This includes Pods. The rules of templates apply to their declared paths."""
        obj = {**pod("a"), "extra": {"image": "b"}, "other": {"image": ""}}
        found = slots(POD, obj, declared(POD, "extra.image", "other.image"))
        assert paths(found) == ["spec.containers[0].image", "extra.image"]
        found = slots(("apps", "Deployment"), {"image": "b"}, declared(("apps", "Deployment"), "image"))
        assert paths(found) == ["image"]

    @pytest.mark.parametrize(
        "texts",
        [
            pytest.param(("spec.pods{*}.containers[*].image",), id="found-by-shape-too"),
            pytest.param(("spec.pods.web.containers[*].image",) * 2, id="declared-twice"),
            pytest.param(
                ("spec.pods.web.containers[*].image", "spec.pods{*}.containers[*].image"), id="overlapping"
            ),
        ],
    )
    def test_each_field_counts_once(self, texts: tuple[str, ...]) -> None:
        """This holds for any number of paths that lead to it."""
        obj = {"spec": {"pods": {"web": pod_spec("a")}}}
        assert [slot.value for slot in slots(WIDGET, obj, declared(WIDGET, *texts))] == ["a"]

    def test_a_problem_that_two_paths_meet_counts_once(self) -> None:
        found = slots(WIDGET, {"steps": "x"}, declared(WIDGET, "steps[*].image", "steps[*].sidecar"))
        assert problems(found) == {"steps": "it is text, not a list"}
        assert len(found) == 1

    def test_declared_paths_apply_to_their_group_and_kind_only(self) -> None:
        assert slots(("other.io", "Widget"), {"image": "a"}, declared(WIDGET, "image")) == []

    def test_whether_a_kind_is_known_does_not_depend_on_an_object(self) -> None:
        assert holds_images(POD, {})
        assert holds_images(("batch", "CronJob"), {})
        assert not holds_images(WIDGET, {})
        assert holds_images(WIDGET, declared(WIDGET, "image"))


class TestChanged:
    """UPDATE: only images not already present in the old object."""

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            pytest.param(pod("a"), pod("a"), [], id="unchanged"),
            pytest.param(pod("a"), pod("b"), ["spec.containers[0].image"], id="changed"),
            pytest.param(pod("a", "b"), pod("b", "a"), [], id="wherever-it-stood"),
            pytest.param(pod("a"), pod("a", initContainers=[container("a")]), [], id="in-another-list"),
            pytest.param(pod("a"), pod("a", "a", "b"), ["spec.containers[2].image"], id="one-is-new"),
            pytest.param(
                pod("nginx"), pod("nginx:latest"), ["spec.containers[0].image"], id="as-written-not-as-meant"
            ),
            pytest.param(
                pod("a"),
                pod("a", ephemeralContainers=[container("b")]),
                ["spec.ephemeralContainers[0].image"],
                id="ephemeral-container",
            ),
            pytest.param(
                pod("a"),
                pod("a", volumes=[{"image": {"reference": "b"}}]),
                ["spec.volumes[0].image.reference"],
                id="image-volume",
            ),
            pytest.param(pod("a", "b"), pod("a"), [], id="removed"),
            pytest.param(None, pod("a"), ["spec.containers[0].image"], id="no-old-object"),
            pytest.param("old", pod("a"), ["spec.containers[0].image"], id="old-object-of-the-wrong-type"),
            pytest.param(None, None, [""], id="no-object-at-all"),
            pytest.param({}, pod("a"), ["spec.containers[0].image"], id="old-object-without-spec"),
        ],
    )
    def test_only_new_slots_of_a_pod_are_changed(self, old: Any, new: Any, expected: list[str]) -> None:
        assert paths(changed(POD, new, old, {})[0]) == expected

    @pytest.mark.parametrize(
        ("old", "new", "is_present"),
        [
            pytest.param(42, 42, True, id="same-number"),
            pytest.param(42, 43, False, id="other-number"),
            pytest.param(None, None, True, id="still-missing"),
            pytest.param("", "", True, id="still-empty"),
            pytest.param("", None, False, id="empty-is-not-missing"),
            pytest.param(1, True, False, id="one-is-not-true"),
            pytest.param(1, 1.0, False, id="one-is-not-one-point-zero"),
            pytest.param({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, True, id="same-mapping"),
            pytest.param({"a": 1}, {"b": 1}, False, id="other-key"),
            pytest.param({"a": 1}, {"a": 2}, False, id="other-value"),
            pytest.param([1, 2], [1], False, id="shorter-list"),
            pytest.param([1], [2], False, id="other-item"),
        ],
    )
    def test_wrong_types_are_compared_by_their_field(self, old: Any, new: Any, is_present: bool) -> None:  # noqa: FBT001
        """This comparison never blocks an unrelated change of an old object."""
        found = changed(POD, pod(new), pod(old), {})[0]
        assert paths(found) == ([] if is_present else ["spec.containers[0].image"])

    def test_a_problem_elsewhere_is_new(self) -> None:
        assert paths(changed(POD, pod("a", 42), pod(42, "a"), {})[0]) == ["spec.containers[1].image"]

    @pytest.mark.parametrize("levels", [100, 2000])
    def test_values_nested_a_thousand_deep_are_compared(self, levels: int) -> None:
        """The JSON parser allows objects that are too deep for ``==``."""
        one, other, third = (nested(levels, leaf) for leaf in (1, 1, 2))
        assert changed(POD, pod(one), pod(other), {})[0] == []
        assert paths(changed(POD, pod(one), pod(third), {})[0]) == ["spec.containers[0].image"]

    def test_an_old_text_that_is_not_an_image_admits_no_image(self) -> None:
        """``containers: nginx`` in the old object does not count as an image nginx."""
        old = {"spec": {"containers": [], "initContainers": "nginx"}}
        assert paths(changed(POD, pod("nginx"), old, {})[0]) == ["spec.containers[0].image"]

    def test_an_old_image_admits_no_value_of_the_wrong_type(self) -> None:
        """An old image nginx does not admit ``volumes: nginx``."""
        new = pod("nginx", volumes="nginx")
        assert problems(changed(POD, new, pod("nginx"), {})[0]) == {"spec.volumes": "it is text, not a list"}

    def test_only_new_slots_of_templates_and_declared_paths_are_changed(self) -> None:
        old, new = workload("CronJob", "a"), workload("CronJob", "a", "b")
        path = "spec.jobTemplate.spec.template.spec.containers[1].image"
        assert paths(changed(("batch", "CronJob"), new, old, {})[0]) == [path]
        resources = declared(WIDGET, "images[*]")
        found = changed(WIDGET, {"images": ["b", "c"]}, {"images": ["a", "b"]}, resources)[0]
        assert paths(found) == ["images[1]"]


def test_a_thousand_containers_are_found() -> None:
    found = slots(POD, pod(*[f"registry.corp.io/{i}" for i in range(1000)]), {})
    assert len(found) == 1000
    assert found[999].path == "spec.containers[999].image"


class TestPodImages:
    """The short list of a Pod's images, for Pods without anything unusual."""

    @pytest.mark.parametrize(
        "obj",
        [
            None,
            {},
            {"spec": []},
            pod(containers=None),
            pod(initContainers=7),
            pod(containers=[None]),
            pod(containers=[{**container(), "image": ""}]),
            pod(volumes=7),
            pod(volumes=[None]),
            pod(volumes=[{"image": {"reference": "x"}}]),
        ],
    )
    def test_unusual_pods_have_no_short_list(self, obj: Any) -> None:
        assert pod_images(obj) is None

    def test_volumes_without_images_keep_the_short_list(self) -> None:
        assert pod_images(pod("a", "b", volumes=[{"name": "v"}])) == ["a", "b"]
