"""Searches in custom resources: their results, and the limits of their work and their allocations."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatekeeper_py.core.admission import customresources
from gatekeeper_py.core.admission.customresources import OutOfSteps, StepBudget, count_images, images_at
from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS, POD, GroupKind, ImageList
from gatekeeper_py.core.admission.slot import (
    MAX_IMAGES,
    MAX_STEPS,
    MappingKey,
    Parts,
    Slot,
    are_too_many,
    image_slot,
    too_many,
    wrong_type,
)
from gatekeeper_py.core.admission.workload import pod_images, slots
from gatekeeper_py.core.policy.resources import PathTree, ResourcePath, parse_resource_path
from support.budget import is_long
from support.builders import container, pod, pod_spec, policy, review, variants, workload
from support.calling import validate
from support.growth import instructions

WIDGET: Final[GroupKind] = ("example.com", "Widget")
DEPLOYMENT: Final[GroupKind] = ("apps", "Deployment")
MILLION: Final = 1_000_000
ITEMS: Final[dict[str, Any]] = {
    "containers": container("a"),
    "empty-mappings": {},
    "nulls": None,
    "numbers": 1,
    "texts": "nginx",
    "lists": [],
}


def tree(*texts: str) -> PathTree:
    return PathTree(map(parse_resource_path, texts))


def resources(*texts: str, kind: GroupKind = WIDGET) -> dict[GroupKind, PathTree]:
    return {kind: tree(*texts)}


def paths(found: list[Slot]) -> list[str]:
    return [slot.path for slot in found]


def excess_of(found: list[Slot]) -> tuple[str, str]:
    """Return the path and problem of the single slot that stands for all."""
    assert are_too_many(found)
    (slot,) = found
    return slot.path, slot.problem


def problem(count: int | str) -> str:
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
            if kind == POD and field.path == CONTAINERS.path:
                assert pod_images(obj) == (["a"] * count if count == MAX_IMAGES else None)
            if count == MAX_IMAGES:
                assert len(found) == count
                assert not any(slot.problem for slot in found)
            else:
                assert excess_of(found) == (f"{prefix}.{field.key}", problem(count))
                assert found[0].noun == field.noun

    @pytest.mark.parametrize("count", [1001, pytest.param(MILLION, marks=pytest.mark.bulk)])
    @pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
    @pytest.mark.parametrize("field", IMAGE_LISTS, ids=lambda field: field.key)
    def test_items_of_any_type_count(self, field: ImageList, item: Any, count: int) -> None:
        """Items are counted without reading them."""
        obj = {"spec": {"containers": [], field.key: [item] * count}}
        assert excess_of(slots(POD, obj, {})) == (f"spec.{field.key}", problem(count))
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
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", problem(1001))

    def test_the_path_is_that_of_the_first_list_with_items(self) -> None:
        spec = {"containers": [], "initContainers": [1], "ephemeralContainers": [1] * 1000}
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.initContainers", problem(1001))

    @pytest.mark.parametrize("volume", [{"emptyDir": {}}, {"image": None}])
    def test_volumes_without_an_image_do_not_count(self, volume: Any) -> None:
        """A Pod with a thousand containers still has the volume of its service account."""
        spec = {"containers": [container("a")] * MAX_IMAGES, "volumes": [volume] * (MAX_IMAGES - 1)}
        assert len(slots(POD, {"spec": spec}, {})) == MAX_IMAGES
        assert pod_images({"spec": spec}) == ["a"] * MAX_IMAGES
        spec["volumes"].append({"image": {"reference": "a"}})
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", problem(1001))

    def test_more_than_a_thousand_volumes_of_any_kind_are_too_many(self) -> None:
        """This limit bounds the cost of volumes without images too."""
        spec = {"containers": [container("a")], "volumes": [{"emptyDir": {}}] * 1001}
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", problem(1002))
        assert pod_images({"spec": spec}) is None

    def test_a_value_that_should_be_a_list_counts_as_one(self) -> None:
        assert count_images({"containers": {"a": 1}, "volumes": 7}) == 2
        assert count_images({"containers": None, "volumes": []}) == 0
        spec = {"containers": [container("a")] * MAX_IMAGES, "initContainers": 7}
        assert excess_of(slots(POD, {"spec": spec}, {})) == ("spec.containers", problem(1001))


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
        assert excess_of(slots(WIDGET, obj, {})) == (path, problem(1001))

    @pytest.mark.parametrize(
        ("specs", "counted"),
        [
            (1001, 2002),
            (5000, 10_000),
            (5001, "more than 10,000"),
            pytest.param(300_000, "more than 10,000", marks=pytest.mark.bulk),
        ],
    )
    def test_the_images_of_many_pod_specs_are_counted_up_to_a_limit(
        self, specs: int, counted: int | str
    ) -> None:
        obj = {"spec": {"a": [{"containers": [{}], "volumes": 1}] * specs}}
        assert excess_of(slots(WIDGET, obj, {})) == ("spec.a[0].containers", problem(counted))

    def test_pod_specs_without_items_do_not_count(self) -> None:
        obj = {"spec": {"a": [{"containers": []}] * 10_000, "b": pod_spec("a")}}
        assert [slot.path for slot in slots(WIDGET, obj, {})] == ["spec.b.containers[0].image"]

    def test_a_list_of_names_does_not_count(self) -> None:
        obj = {"spec": {"containers": ["web"] * 10_000}}
        assert slots(WIDGET, obj, {}) == []

    def test_the_first_list_may_be_another_than_containers(self) -> None:
        obj = {"spec": {"containers": [], "initContainers": [container("a")] * 1001}}
        assert excess_of(slots(WIDGET, obj, {})) == ("spec.initContainers", problem(1001))

    def test_long_keys_are_cut_in_paths(self) -> None:
        obj = {"k" * 100_000: pod_spec("a")}
        (slot,) = slots(WIDGET, obj, {})
        assert slot.path == "k" * 200 + "....containers[0].image"
        assert slot.parts == ("k" * 100_000, "containers", 0, "image")


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        pytest.param(POD, lambda count: {"spec": {"containers": [{}] * count}}, id="pod"),
        pytest.param(DEPLOYMENT, lambda count: workload("Deployment", volumes=[{}] * count), id="template"),
        pytest.param(WIDGET, lambda count: {"spec": {"containers": [{}] * count}}, id="by-shape"),
        pytest.param(WIDGET, lambda count: {"spec": [{"containers": [{}]}] * count}, id="many-by-shape"),
        pytest.param(WIDGET, lambda count: {"images": ["a"] * count}, id="declared"),
    ],
)
def test_nothing_is_made_for_an_item_of_too_many(kind: GroupKind, make: Callable[[int], Any]) -> None:
    """The peak is less than one pointer for each item."""
    declared = resources("images[*]")
    slots(kind, make(MAX_IMAGES + 1), declared)
    obj = make(60_000)
    tracemalloc.start()
    try:
        assert len(slots(kind, obj, declared)) == 1
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()


DECLARED: Final = (
    "image", "steps[*].image", "sets{*}.image", "images[*]", "named{*}", "rows[*][*]", "all{*}[*].image",
)  # fmt: skip
WHOLE: Final[dict[str, Any]] = {
    "image": "a",
    "steps": [{"image": "a"}, {}, {"image": None}, {"image": ""}, {"image": "b"}],
    "sets": {"build": {"image": "a"}, "none": None, "a.b/c": {"image": "b"}},
    "images": ["a", None, "b"],
    "named": {"web": "a"},
    "rows": [["a"], [], ["b", "c"]],
    "all": {"x": [{"image": "a"}]},
}
"""An object with images at paths of every notation."""


class TestDeclared:
    """``resources`` add to the search by shape, under the rules of templates."""

    def test_paths_lead_to_images(self) -> None:
        found = slots(WIDGET, WHOLE, resources(*DECLARED))
        assert paths(found) == [
            "image",
            "steps[0].image",
            "steps[4].image",
            "sets{build}.image",
            "sets{a.b/c}.image",
            "images[0]",
            "images[2]",
            "named{web}",
            "rows[0][0]",
            "rows[2][0]",
            "rows[2][1]",
            "all{x}[0].image",
        ]
        assert {(slot.noun, slot.name, slot.problem) for slot in found} == {("image", None, "")}
        assert slots(("other.io", "Widget"), WHOLE, resources(*DECLARED)) == []
        assert slots(WIDGET, None, resources(*DECLARED)) == []

    def test_declared_paths_add_to_the_search_by_shape_and_to_the_table_of_kinds(self) -> None:
        """The rules of templates apply to declared paths, even in Pods."""
        obj = {"spec": {"image": "a", "template": pod_spec("b")}}
        found = slots(WIDGET, obj, resources("spec.image"))
        assert sorted(slot.value for slot in found) == ["a", "b"]
        obj = {**pod("a"), "extra": {"image": "b"}, "other": {"image": ""}}
        found = slots(POD, obj, resources("extra.image", "other.image", kind=POD))
        assert paths(found) == ["spec.containers[0].image", "extra.image"]
        found = slots(DEPLOYMENT, {"image": "b"}, resources("image", kind=DEPLOYMENT))
        assert paths(found) == ["image"]

    def test_a_field_that_is_declared_and_found_by_shape_counts_once(self) -> None:
        obj = {"spec": {"pods": {"web": pod_spec("a")}}}
        declared = resources("spec.pods{*}.containers[*].image")
        assert [slot.value for slot in slots(WIDGET, obj, declared)] == ["a"]

    def test_images_at_several_paths_count_together(self) -> None:
        obj = {"a": ["x"] * 600, "b": ["x"] * 400}
        assert len(slots(WIDGET, obj, resources("a[*]", "b[*]"))) == MAX_IMAGES
        obj["b"].append("x")
        assert excess_of(slots(WIDGET, obj, resources("a[*]", "b[*]"))) == ("a[0]", problem(1001))


class TestSteps:
    """All steps along declared paths in one review have one bound."""

    OUT: Final = f"too many images (it takes more than {MAX_STEPS:,} steps to find them)"

    def test_equal_paths_cost_no_more_than_one(self) -> None:
        obj = {"a": ["x"] * MAX_IMAGES}
        costs = []
        for paths in (["a[*]"], ["a[*]"] * 1000):
            budget = StepBudget()
            assert len(images_at(obj, tree(*paths), budget)) == MAX_IMAGES
            costs.append(MAX_STEPS - budget.left)
        assert costs[0] == costs[1] < 6 * MAX_IMAGES

    @pytest.mark.bulk
    def test_paths_that_find_nothing_in_small_values_cost_nothing(self) -> None:
        """A policy of 627 KB with as many paths took 14 s on an object of 3 KB."""
        paths = tree(*(f"spec.steps[*].f{number}" for number in range(45_000)))
        budget = StepBudget()
        assert images_at({"spec": {"steps": [{}] * MAX_IMAGES}}, paths, budget) == []
        assert MAX_STEPS - budget.left < 6 * MAX_IMAGES

    @pytest.mark.bulk
    @pytest.mark.parametrize(
        ("paths", "item"),
        [
            pytest.param(
                [f"spec.steps[*].f{n}" for n in range(200)], {f"g{n}": 0 for n in range(200)}, id="nothing"
            ),
            pytest.param(
                [f"spec.steps[*].f{n}" for n in range(200)], {f"f{n}": "" for n in range(200)}, id="empty"
            ),
            pytest.param(
                [f"spec.steps[*].f{n}.x" for n in range(200)], {f"f{n}": {} for n in range(200)}, id="absent"
            ),
            pytest.param(["spec.steps[*]" + ".a" * 240], None, id="a-long-path"),
            pytest.param(
                [f"spec.steps[*].f{n}.x" for n in range(200)], {f"f{n}": 1 for n in range(200)}, id="problems"
            ),
        ],
    )
    def test_many_steps_for_each_of_many_values_are_too_many(self, paths: list[str], item: Any) -> None:
        if item is None:
            for _ in range(240):
                item = {"a": item or "x"}
        found = slots(WIDGET, {"spec": {"steps": [item] * MAX_IMAGES}}, resources(*paths))
        assert excess_of(found) == ("spec.steps", self.OUT)

    def test_the_message_names_the_first_list(self) -> None:
        paths = [f"spec.steps[*].f{number}" for number in range(300)]
        text = f"resources: [{{group: example.com, kind: Widget, images: {paths}}}]\n"
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
        item = {f"f{number}": "" for number in range(300)}
        widget["spec"] = {"steps": [item] * MAX_IMAGES}
        answer = validate(review(widget), policy(text))
        assert not answer.allowed
        assert answer.message.splitlines()[0] == f"image (spec.steps): not approved: {self.OUT}"

    @pytest.mark.bulk
    @pytest.mark.parametrize("count", [250, 900])
    def test_an_update_of_metadata_is_allowed_even_if_the_search_has_too_many_steps(self, count: int) -> None:
        """900 items are too many in one object, 250 in the two objects of an UPDATE."""
        names = [f"f{number}" for number in range(150)]
        paths = [f"spec.steps[*].{name}" for name in names]
        text = f"resources: [{{group: example.com, kind: Widget, images: {paths}}}]\n"

        def widget(image: str, **metadata: Any) -> dict[str, Any]:
            steps = [dict.fromkeys(names, "") for _ in range(count)]
            steps[0]["f0"] = image
            head = {"apiVersion": "example.com/v1", "kind": "Widget"}
            return {**head, "metadata": {"name": "w", **metadata}, "spec": {"steps": steps}}

        old, new = widget("evil.io/a"), widget("evil.io/a", labels={"a": "b"})
        live = policy(text)
        assert are_too_many(slots(WIDGET, old, live.resources)) is (count == 900)
        assert validate(review(new, operation="UPDATE", old=old), live).allowed
        deleting = widget("evil.io/b", deletionTimestamp="2026-03-01T12:00:00Z")
        assert validate(review(deleting, operation="UPDATE", old=old), live).allowed
        changed = widget("evil.io/b")
        assert not validate(review(changed, operation="UPDATE", old=old), live).allowed
        assert not validate(review({**new, "other": 1}, operation="UPDATE", old=old), live).allowed

    def test_an_update_has_no_more_steps_than_a_creation(self) -> None:
        budget = StepBudget()
        paths = tree("a[*].b", "a[*].c")
        obj = {"a": [{"b": "x", "c": "y"}] * 300}
        images_at(obj, paths, budget)
        cost = MAX_STEPS - budget.left
        for _ in range(MAX_STEPS // cost - 1):
            images_at(obj, paths, budget)
        with pytest.raises(OutOfSteps):
            images_at(obj, paths, budget)


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("paths", [["a[*]", "b"], ["b", "a[*]"], ["b", "a[*].c[*]"]])
def test_too_many_images_at_one_path_reject_the_whole_object(paths: list[str], operation: str) -> None:
    """The webhook rejects the object even if the old one had as many images, which it does not compare."""
    text = f"resources: [{{group: example.com, kind: Widget, images: {paths}}}]\n"
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    good, bad = (
        {**widget, "a": [f"{host}/x"] * 1001, "b": "registry.corp.io/x"} for host in ("good.io", "evil.io")
    )
    answer = validate(
        review(bad, operation=operation, old=good if operation == "UPDATE" else None), policy(text)
    )
    assert not answer.allowed
    assert answer.message.splitlines()[0] == f"image (a): not approved: {problem(1001)}"


# The definition, path by path: what the search was before it took the steps of all paths at once.


def images_along(obj: Any, path: ResourcePath) -> list[Slot]:
    reached: list[tuple[Parts, Any] | Slot] = [((), obj)]
    for step in path.steps:
        if step.kind != "field":
            expected = list if step.kind == "items" else dict
            held = [node for node in reached if not isinstance(node, Slot) and isinstance(node[1], expected)]
            count = sum(len(value) for _, value in held) + len(reached) - len(held)
            if count > MAX_IMAGES:
                return [too_many(held[0][0] if held else (), "image", count)]
        reached = [each for node in reached for each in step_down(node, step.kind, step.field)]
    ends = (p if isinstance(p, Slot) else image_slot(p[0], "image", p[1], in_pod=False) for p in reached)
    return [slot for slot in ends if slot is not None]


def step_down(node: tuple[Parts, Any] | Slot, kind: str, field: str) -> list[tuple[Parts, Any] | Slot]:
    if isinstance(node, Slot):
        return [node]
    parts, value = node
    if kind == "items":
        if not isinstance(value, list):
            return [wrong_type(parts, "image", value, "a list")]
        return [((*parts, index), item) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return [wrong_type(parts, "image", value, "a mapping")]
    if kind == "values":
        return [((*parts, MappingKey(key)), item) for key, item in value.items() if item is not None]
    return [] if value.get(field) is None else [((*parts, field), value[field])]


def images_by_path(obj: Any, paths: list[ResourcePath]) -> list[Slot]:
    found: dict[Parts, Slot] = {}
    for path in paths:
        along = images_along(obj, path)
        if are_too_many(along):
            return along
        for slot in along:
            found.setdefault(slot.parts, slot)
        if len(found) > MAX_IMAGES:
            break
    return list(found.values())


FIELDS: Final = st.sampled_from(["a", "b", "c"])
TAILS: Final = st.lists(st.sampled_from([".a", ".b", ".c", "[*]", "{*}"]), max_size=4).map("".join)
PATHS: Final = st.lists(st.builds(str.__add__, FIELDS, TAILS), min_size=1, max_size=8)
SCALARS: Final = st.sampled_from([None, "", "nginx", "auto", " ", 0, True, 1.5])
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=24,
)


def as_shown(found: list[Slot]) -> list[tuple[Any, ...]]:
    return [(slot.path, slot.parts, slot.noun, slot.value, slot.name, slot.problem) for slot in found]


@pytest.mark.bulk
def test_all_paths_together_find_the_values_that_each_path_finds_alone() -> None:
    paths = list(map(parse_resource_path, DECLARED))
    for obj in variants(WHOLE):
        found = images_at(obj, PathTree(paths), StepBudget())
        assert as_shown(found) == as_shown(images_by_path(obj, paths)), obj


@given(obj=st.dictionaries(FIELDS, VALUES, max_size=3) | VALUES, texts=PATHS)
@example(obj={"a": [{"b": ["nginx"]}, 7]}, texts=["a[*].b[*]"])  # a problem before a step into lists
@example(obj={"a": [{"b": "nginx"}, 7]}, texts=["a[*].b.c", "a[*].b"])  # an earlier path reports the problem
def test_it_finds_the_same_slots_as_each_path_alone(obj: Any, texts: list[str]) -> None:
    """The same slots with the same paths, in the same order."""
    paths = list(map(parse_resource_path, texts))
    assert as_shown(images_at(obj, PathTree(paths), StepBudget())) == as_shown(images_by_path(obj, paths))


@given(
    obj=st.dictionaries(FIELDS, VALUES, max_size=3) | VALUES,
    texts=PATHS,
    most=st.integers(min_value=1, max_value=6),
)
@example(obj={"a": [{"b": ["x", "y", "z"]}, 7]}, texts=["a[*].b[*]"], most=3)  # problems on the way count
@example(obj={"a": [["x"], ["y", "z"]]}, texts=["a[*][*]"], most=2)  # the slot has the path of the first list
@example(obj={"a": {"b": "x", "c": "y"}}, texts=["a{*}"], most=1)
def test_it_finds_the_same_with_too_many_values(obj: Any, texts: list[str], most: int) -> None:
    paths = list(map(parse_resource_path, texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(customresources, "MAX_IMAGES", most)
        patch.setitem(globals(), "MAX_IMAGES", most)
        ours, expected = images_at(obj, PathTree(paths), StepBudget()), images_by_path(obj, paths)
    assert as_shown(ours) == as_shown(expected)


GROWING: Final[dict[str, tuple[Callable[[int], list[str]], Callable[[int], Any]]]] = {
    "images": (lambda n: [f"s[*].f{i}" for i in range(n)], lambda n: {f"f{i}": "x" for i in range(n)}),
    "absent": (lambda n: [f"s[*].f{i}" for i in range(n)], lambda n: {f"g{i}": "x" for i in range(n)}),
    "small": (lambda n: [f"s[*].f{i}" for i in range(n)], lambda _: {}),
    "empty": (lambda n: [f"s[*].f{i}" for i in range(n)], lambda n: {f"f{i}": "" for i in range(n)}),
    "problems": (lambda n: [f"s[*].f{i}.x" for i in range(n)], lambda n: {f"f{i}": 1 for i in range(n)}),
    "early-problems": (lambda n: [f"s[*].f{i}.x" for i in range(n)], lambda _: 1),
    "problems-carried-far": (lambda n: ["s[*][*]" + ".a" * min(n, 240)], lambda _: [1, {"a": {"a": {}}}]),
    "values": (lambda n: [f"s[*]{{*}}.f{i}" for i in range(n)], lambda n: {f"f{i}": {} for i in range(9)}),
    "items": (lambda n: [f"s[*][*].f{i}" for i in range(n)], lambda n: [{f"f{i}": None} for i in range(9)]),
    "one-long-path": (lambda n: ["s[*]" + ".a" * min(n, 240)], lambda n: nested(min(n, 240))),
    "prefixes": (lambda n: ["s[*]" + ".a" * min(i, 240) for i in range(n)], lambda n: nested(min(n, 240))),
}  # fmt: skip


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.growth
@pytest.mark.parametrize("name", GROWING)
def test_the_work_is_proportional_to_the_counted_steps(name: str) -> None:
    """Both grow together, for any number of paths and values."""
    make_paths, make_item = GROWING[name]
    for count in (30, 120, 360) if is_long() else (30, 120):
        paths = tree(*make_paths(count))
        obj = {"s": [make_item(count)] * count}
        budget = StepBudget()

        def search(_: None, budget: StepBudget = budget, obj: Any = obj, paths: PathTree = paths) -> None:
            with suppress(OutOfSteps):
                images_at(obj, paths, budget)

        work = instructions(search, None)
        steps = MAX_STEPS - budget.left
        assert steps <= MAX_STEPS + 2 * MAX_IMAGES
        assert work < 100 * steps + 2000, f"{work} instructions for {steps} steps"


@pytest.mark.growth
@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([f"a.f{i}" for i in range(2000)], id="fields"),
        pytest.param(["a" + ".a" * (i % 240) for i in range(240)], id="prefixes"),
        pytest.param(["a" + ".a" * (240 - i % 240) for i in range(240)], id="longest-first"),
        pytest.param([f"a{i}" + ".a" * 200 for i in range(100)], id="long"),
        pytest.param(["a" + ".a" * 200 + f".f{i}" for i in range(100)], id="long-prefix"),
        pytest.param([f"{'a.' * i}b{'.a' * (200 - i)}" for i in range(200)], id="forks"),
    ],
)
def test_the_time_of_compiling_is_proportional_to_the_steps_of_all_paths(texts: list[str]) -> None:
    paths = list(map(parse_resource_path, texts))
    assert instructions(PathTree, paths) < 150 * sum(len(path.steps) for path in paths)
