"""Searches in custom resources count first, so their results and allocations are bounded."""

from __future__ import annotations

import tracemalloc
from typing import Any, Final

import pytest

from builders import container, pod_spec, workload
from gatekeeper_py.core.admission.customresources import count_images
from gatekeeper_py.core.admission.fields import CONTAINER_LISTS, IMAGE_LISTS, POD, GroupKind, ImageList
from gatekeeper_py.core.admission.slot import MAX_IMAGES, Slot, are_too_many
from gatekeeper_py.core.admission.workload import pod_images, slots
from gatekeeper_py.core.policy.resources import PathTree, parse_resource_path

WIDGET: Final[GroupKind] = ("example.com", "Widget")
DEPLOYMENT: Final[GroupKind] = ("apps", "Deployment")
MILLION: Final = 1_000_000
ITEMS: Final = [
    pytest.param(container("a"), id="containers"),
    pytest.param({}, id="empty-mappings"),
    pytest.param(None, id="nulls"),
    pytest.param(1, id="numbers"),
    pytest.param("nginx", id="texts"),
    pytest.param([], id="lists"),
]


def declared(*texts: str) -> dict[GroupKind, PathTree]:
    return {WIDGET: PathTree(map(parse_resource_path, texts))}


def excess_of(found: list[Slot]) -> tuple[str, str]:
    """Return the path and problem of the one slot that stands for all."""
    assert are_too_many(found)
    (slot,) = found
    return slot.path, slot.problem


def too_many(count: int) -> str:
    return f"too many images ({count}; at most 1,000)"


class TestPodSpecs:
    """Pods and templates: the lengths of the lists are added up before any item is read."""

    @pytest.mark.parametrize("field", IMAGE_LISTS, ids=lambda field: field.key)
    @pytest.mark.parametrize(("kind", "prefix"), [(POD, "spec"), (DEPLOYMENT, "spec.template.spec")])
    def test_one_list_may_hold_a_thousand_images(
        self, kind: GroupKind, prefix: str, field: ImageList
    ) -> None:
        image: Any = "a"
        for key in reversed(field.path):
            image = {key: image}
        for count in (MAX_IMAGES, MAX_IMAGES + 1):
            spec = {"containers": [], field.key: [image] * count}
            obj = {"spec": spec if kind == POD else {"template": {"spec": spec}}}
            found = slots(kind, obj, {})
            if count == MAX_IMAGES:
                assert len(found) == count
                assert not any(slot.problem for slot in found)
            else:
                assert excess_of(found) == (f"{prefix}.{field.key}", too_many(count))
                assert found[0].noun == field.noun

    @pytest.mark.parametrize("count", [1001, pytest.param(MILLION, marks=pytest.mark.bulk)])
    @pytest.mark.parametrize("item", ITEMS)
    @pytest.mark.parametrize("field", IMAGE_LISTS, ids=lambda field: field.key)
    def test_items_of_any_type_count(self, field: ImageList, item: Any, count: int) -> None:
        """Items are counted without reading them."""
        obj = {"spec": {"containers": [], field.key: [item] * count}}
        assert excess_of(slots(POD, obj, {})) == (f"spec.{field.key}", too_many(count))
        assert pod_images(obj) is None

    def test_all_lists_of_a_pod_count_together(self) -> None:
        spec = {
            "containers": [container("a")] * 400,
            "initContainers": [container("a")] * 300,
            "ephemeralContainers": [container("a")] * 200,
            "volumes": [{"image": {"reference": "a"}}] * 100,
        }
        assert len(slots(POD, {"spec": spec}, {})) == MAX_IMAGES
        spec["volumes"].append({"image": {"reference": "a"}})
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", too_many(1001))

    def test_the_path_is_that_of_the_first_list_with_items(self) -> None:
        spec = {"containers": [], "initContainers": [1], "ephemeralContainers": [1] * 1000}
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.initContainers", too_many(1001))

    @pytest.mark.parametrize("volume", [{"emptyDir": {}}, {"image": None}])
    def test_volumes_without_an_image_do_not_count(self, volume: Any) -> None:
        """A Pod with a thousand containers still has the volume of its service account."""
        spec = {"containers": [container("a")] * MAX_IMAGES, "volumes": [volume] * (MAX_IMAGES - 1)}
        assert len(slots(POD, {"spec": spec}, {})) == MAX_IMAGES
        assert pod_images({"spec": spec}) == ["a"] * MAX_IMAGES
        spec["volumes"].append({"image": {"reference": "a"}})
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", too_many(1001))

    def test_more_than_a_thousand_volumes_of_any_kind_are_too_many(self) -> None:
        """This limit bounds the cost of volumes without images too."""
        spec = {"containers": [container("a")], "volumes": [{"emptyDir": {}}] * 1001}
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", too_many(1002))
        assert pod_images({"spec": spec}) is None

    def test_a_value_that_should_be_a_list_counts_as_one(self) -> None:
        assert count_images({"containers": {"a": 1}, "volumes": 7}) == 2
        assert count_images({"containers": None, "volumes": []}) == 0
        spec = {"containers": [container("a")] * MAX_IMAGES, "initContainers": 7}
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", too_many(1001))

    @pytest.mark.parametrize("count", [MAX_IMAGES, MAX_IMAGES + 1])
    @pytest.mark.parametrize("field", CONTAINER_LISTS, ids=lambda field: field.key)
    def test_the_short_way_for_approved_pods_has_the_same_bound(self, field: ImageList, count: int) -> None:
        spec = {"containers": [], field.key: [container("a")] * count}
        assert pod_images({"spec": spec}) == (["a"] * count if count == MAX_IMAGES else None)


class TestByShape:
    """Pod specs in a custom resource: all of them count together."""

    @pytest.mark.parametrize(
        ("specs", "containers"), [(1, 1000), (1000, 1), (500, 2)], ids=["one-spec", "many", "some"]
    )
    def test_an_object_may_hold_a_thousand_images(self, specs: int, containers: int) -> None:
        workers = [{"spec": pod_spec(*["a"] * containers)} for _ in range(specs)]
        obj = {"spec": {"workers": workers}}
        assert len(slots(WIDGET, obj, {})) == MAX_IMAGES
        workers.append({"spec": pod_spec("a")})
        path = "spec.workers[0].spec.containers"
        assert excess_of(slots(WIDGET, obj, {})) == (path, too_many(1001))

    @pytest.mark.parametrize("count", [1001, pytest.param(300_000, marks=pytest.mark.bulk)])
    def test_many_pod_specs_are_counted_to_the_last(self, count: int) -> None:
        obj = {"spec": {"a": [{"containers": [{}], "volumes": 1}] * count}}
        assert excess_of(slots(WIDGET, obj, {})) == ("spec.a[0].containers", too_many(2 * count))

    def test_pod_specs_without_items_do_not_count(self) -> None:
        obj = {"spec": {"a": [{"containers": []}] * 10_000, "b": pod_spec("a")}}
        assert [slot.path for slot in slots(WIDGET, obj, {})] == ["spec.b.containers[0].image"]

    def test_a_list_of_names_does_not_count(self) -> None:
        obj = {"spec": {"containers": ["web"] * MILLION}}
        assert slots(WIDGET, obj, {}) == []

    def test_the_first_list_may_be_another_than_containers(self) -> None:
        obj = {"spec": {"containers": [], "initContainers": [container("a")] * 1001}}
        assert excess_of(slots(WIDGET, obj, {})) == ("spec.initContainers", too_many(1001))

    def test_long_keys_are_cut_in_paths(self) -> None:
        obj = {"k" * 100_000: pod_spec("a")}
        (slot,) = slots(WIDGET, obj, {})
        assert slot.path == "k" * 200 + "....containers[0].image"
        assert slot.parts == ("k" * 100_000, "containers", 0, "image")


@pytest.mark.parametrize(
    ("kind", "obj"),
    [
        pytest.param(POD, {"spec": {"containers": [{}] * MILLION}}, id="pod"),
        pytest.param(DEPLOYMENT, workload("Deployment", volumes=[{}] * MILLION), id="template"),
        pytest.param(WIDGET, {"spec": {"containers": [{}] * MILLION}}, id="by-shape"),
        pytest.param(WIDGET, {"spec": [{"containers": [{}]}] * 100_000}, id="many-by-shape"),
        pytest.param(WIDGET, {"images": ["a"] * MILLION}, id="declared"),
    ],
)
def test_nothing_is_made_for_an_item_of_too_many(kind: GroupKind, obj: Any) -> None:
    """A million items take as little memory as a thousand."""
    resources = declared("images[*]")
    slots(kind, obj, resources)
    tracemalloc.start()
    try:
        assert len(slots(kind, obj, resources)) == 1
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()
