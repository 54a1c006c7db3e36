"""The answers of both endpoints for objects with too many images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission import certainly_approved
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.workload import MAX_COMPARED
from support.builders import HUB_TO_CORP, container, pod, pod_spec, policy, review, workload
from support.calling import mutate, validate, validated

GOOD: Final = "registry.corp.io/web:1"
BAD: Final = "evil.io/web:1"
WIDGET: Final = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
RESOURCES: Final = "resources: [{group: example.com, kind: Widget, images: ['spec.images[*]']}]\n"
PROBLEM: Final = "too many images (1001; at most 1,000)"
OBJECTS: Final[dict[str, tuple[Callable[[int], Any], str, str]]] = {
    "pod": (lambda count: pod(*[GOOD] * count), "container", "spec.containers"),
    "pod-in-two-lists": (
        lambda count: pod(GOOD, initContainers=[container(GOOD)] * (count - 1)),
        "container",
        "spec.containers",
    ),
    "template": (
        lambda count: workload("Deployment", *[GOOD] * count),
        "container",
        "spec.template.spec.containers",
    ),
    "by-shape": (lambda count: {**WIDGET, "spec": pod_spec(*[GOOD] * count)}, "image", "spec.containers"),
    "declared": (lambda count: {**WIDGET, "spec": {"images": [GOOD] * count}}, "image", "spec.images"),
}
"""Builders of an object with so many images, the noun of its first list, and the path of that list."""


@pytest.mark.bulk
@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_a_thousand_images_are_judged_and_one_more_rejects_the_object(
    name: str, mode: str, operation: str
) -> None:
    """Then no image is judged. The message has one line for all of them, and nothing is rewritten."""
    make, noun, path = OBJECTS[name]
    compiled = policy(RESOURCES + HUB_TO_CORP, mode=mode)
    answer = validate(review(make(1000), operation=operation), compiled)
    assert (answer.allowed, answer.warnings) == (True, ())
    document = review(make(1001), operation=operation)
    answer = validate(document, compiled)
    assert answer.allowed is (mode == "warn")
    assert answer.warnings == ((f"{path}: {PROBLEM}",) if mode == "warn" else ())
    assert mode == "warn" or answer.message.splitlines()[0] == f"{noun} ({path}): not approved: {PROBLEM}"
    assert answer.audit["rejected"] == f"{path} ({PROBLEM})"
    (verdict,) = validated(document, compiled).images
    assert verdict.decision.reason == "invalid"
    assert certainly_approved(parse(document), compiled) is None
    answer = mutate(document, compiled)
    assert (answer.allowed, answer.patch, answer.warnings) == (True, (), ())


@pytest.mark.parametrize("count", [1001, pytest.param(100_000, marks=pytest.mark.bulk)])
class TestUpdate:
    """An old object may exceed the limit, because it may be older than the limit."""

    @pytest.mark.parametrize("make", [pod, lambda *images: workload("Deployment", *images)])
    def test_a_change_of_metadata_is_allowed(self, count: int, make: Any) -> None:
        """The change is to a label or a finalizer of an object that is older than the limit."""
        old = make(*[BAD] * count)
        new = {**make(*[BAD] * count), "metadata": {"labels": {"a": "b"}}}
        assert validate(review(new, operation="UPDATE", old=old), policy()).allowed

    def test_any_other_change_is_rejected(self, count: int) -> None:
        """Checking whether an image is new would take the work that the limit prevents."""
        old, new = pod(*[GOOD] * count), pod(*[GOOD] * count, hostNetwork=True)
        assert not validate(review(new, operation="UPDATE", old=old), policy()).allowed
        assert not validate(review(new, operation="UPDATE"), policy()).allowed

    @pytest.mark.bulk
    def test_a_value_too_deep_to_compare_counts_as_changed(self, count: int) -> None:
        def deep(levels: int) -> Any:
            value: Any = 1
            for _ in range(levels):
                value = [value]
            return value

        new, old = ({**pod(*[GOOD] * count), "more": deep(200_000)} for _ in range(2))
        assert not validate(review(new, operation="UPDATE", old=old), policy()).allowed

    def test_declared_paths_may_lead_into_metadata(self, count: int) -> None:
        """The metadata of such a kind may therefore hold new images."""
        old = {**WIDGET, "spec": pod_spec(*[GOOD] * count)}
        assert validate(review(old, operation="UPDATE", old=old), policy()).allowed
        assert validate(review(old, operation="UPDATE", old=old), policy(RESOURCES)).allowed
        into_metadata = RESOURCES.replace("spec.images", "metadata.images")
        assert not validate(review(old, operation="UPDATE", old=old), policy(into_metadata)).allowed

    def test_an_update_of_an_object_being_deleted_is_allowed(self, count: int) -> None:
        """The UPDATE is allowed, so that finalizers can complete."""
        obj = pod(*[BAD] * count, metadata={"deletionTimestamp": "2026-03-01T12:00:00Z"})
        assert validate(review(obj, operation="UPDATE", old=obj), policy()).allowed
        assert validate(review(None, kind=("", "Pod"), operation="DELETE", old=obj), policy()).allowed

    def test_no_image_counts_as_present_in_an_object_with_too_many(self, count: int) -> None:
        old = pod(*[BAD] * count)
        assert not validate(review(pod(BAD), operation="UPDATE", old=old), policy()).allowed
        assert validate(review(pod(GOOD), operation="UPDATE", old=old), policy()).allowed

    def test_an_old_object_with_few_images_does_not_admit_many(self, count: int) -> None:
        document = review(pod(*[GOOD] * count), operation="UPDATE", old=pod(GOOD))
        assert not validate(document, policy()).allowed

    def test_a_custom_resource_with_too_many_images_is_compared(self, count: int) -> None:
        old = {**WIDGET, "spec": [pod_spec(BAD)] * count}
        new = {**WIDGET, "spec": [pod_spec(BAD)]}
        assert not validate(review(new, operation="UPDATE", old=old), policy()).allowed
        assert validate(review(old, operation="UPDATE", old=old), policy()).allowed


class TestComparison:
    """A value that is not an image is compared with the old value at the same path."""

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param([1] * (MAX_COMPARED - 10), id="list"),
            pytest.param({str(index): None for index in range(MAX_COMPARED - 10)}, id="mapping"),
            pytest.param([[[]]] * (MAX_COMPARED // 3), id="lists-of-lists"),
        ],
    )
    def test_values_up_to_the_limit_are_compared(self, value: Any) -> None:
        document = review(pod(GOOD, value), operation="UPDATE", old=pod(GOOD, value))
        assert validate(document, policy()).allowed

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param([[1] * (MAX_COMPARED + 1)], id="one-list"),
            pytest.param([{str(index): 1 for index in range(MAX_COMPARED + 1)}], id="one-mapping"),
            pytest.param([[1] * 100] * 600, id="many-lists"),
            pytest.param([[[]] * 30_000] * 2, id="lists-of-lists"),
        ],
    )
    def test_values_beyond_the_limit_count_as_new(self, values: list[Any]) -> None:
        """The limit applies to the whole object. In doubt, a value counts as new."""
        document = review(pod(GOOD, *values), operation="UPDATE", old=pod(GOOD, *values))
        assert not validate(document, policy()).allowed
