"""The images that are judged (docs/policy.md, "Images that are judged"): their paths, and which are new."""

from __future__ import annotations

from typing import Any, Final

import pytest

from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.workload import changed, holds_images, pod_images, slots
from gatekeeper_py.core.policy.resources import PathTree, parse_resource_path
from support import naive
from support.builders import WORKLOADS, container, pod, pod_spec, variants, workload

WIDGET: GroupKind = ("example.com", "Widget")
PLACES: Final[dict[GroupKind, tuple[str, ...]]] = {
    POD: ("spec",),
    **{(group, kind): path for kind, (group, path) in WORKLOADS.items()},
}
"""The path to the pod spec of every kind of the API that has one."""

WHOLE: Final = pod_spec(
    "a",
    "b",
    initContainers=[container("c", "init")],
    ephemeralContainers=[container("d", "debug")],
    volumes=[
        {"name": "scratch", "emptyDir": {}},
        {"name": "model", "image": {"reference": "e", "pullPolicy": "Always"}},
        {"name": "none", "image": None},
    ],
)
"""A pod spec with images in all four lists."""


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


def held(path: tuple[str, ...], spec: Any) -> Any:
    """Return an object with a pod spec at a path."""
    for key in reversed(path):
        spec = {key: spec}
    return spec


def as_fields(found: list[Slot]) -> list[naive.Field]:
    return [naive.Field(slot.path, slot.noun, slot.name, slot.value, slot.problem) for slot in found]


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind[1])
def test_every_value_at_every_place_is_an_image_a_problem_or_absent(kind: GroupKind) -> None:
    """The search does what docs/policy.md states, whatever an object holds instead of what it should."""
    for obj in variants(held(PLACES[kind], WHOLE)):
        assert as_fields(slots(kind, obj, {})) == naive.fields(obj, PLACES[kind]), obj


def test_every_value_at_every_place_of_a_custom_resource_is_found_by_shape() -> None:
    """A mapping with a list of containers is a pod spec in a mapping, in a list or inside a container."""
    within = pod_spec(initContainers=[{"image": "b", "then": pod_spec("hidden")}])
    whole = {
        "metadata": pod_spec("not-here"),
        "spec": {"metadata": WHOLE, "workers": [{"template": {"spec": within}}], "names": ["web", "sidecar"]},
        **pod_spec("the-object-itself"),
    }
    found = naive.fields(whole, None)
    assert [field.value for field in found] == ["the-object-itself", "a", "b", "c", "d", "e", "b", "hidden"]
    for obj in variants(whole):
        assert as_fields(slots(WIDGET, obj, {})) == naive.fields(obj, None), obj


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


@pytest.mark.parametrize(("levels", "found"), [(31, True), (32, True), (33, False), (500, False)])
def test_a_pod_spec_is_found_at_most_32_levels_below_the_object(levels: int, found: bool) -> None:  # noqa: FBT001
    """A list counts as a level."""
    obj = nested(levels, pod_spec("a"))
    assert bool(slots(WIDGET, obj, {})) is found
    in_lists: Any = nested(levels % 2, pod_spec("a"))
    for _ in range(levels // 2):
        in_lists = {"items": [in_lists]}
    assert bool(slots(WIDGET, in_lists, {})) is found
    assert bool(slots(WIDGET, nested(levels - 1, [pod_spec("a")]), {})) is found


def test_keys_with_any_text_are_searched() -> None:
    obj = {"a/b~c": {"ünï\n": pod_spec("a")}}
    assert [slot.parts for slot in slots(WIDGET, obj, {})] == [("a/b~c", "ünï\n", "containers", 0, "image")]


def test_whether_a_kind_is_known_does_not_depend_on_an_object() -> None:
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
            pytest.param(pod(42), pod("a"), ["spec.containers[0].image"], id="in-place-of-a-number"),
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
