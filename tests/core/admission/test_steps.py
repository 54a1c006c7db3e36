"""Objects with many images are judged in steps, with the same result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from builders import HUB_TO_CORP, pod, policy, review, workload
from gatekeeper_py.core.admission import Outcome, approved_images, mutate, mutating, validate, validating
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.steps import MANY_IMAGES, Steps, at_once
from gatekeeper_py.core.policy.document import Mode

MORE: Final = HUB_TO_CORP + "resources: [{group: example.com, kind: Widget, images: ['spec.images[*]']}]\n"


def images(count: int) -> list[str]:
    hosts = ("registry.corp.io", "evil.io", "docker.io")
    return [f"{hosts[number % 3]}/user/web:{number}" for number in range(count)]


ENDPOINTS: Final[tuple[tuple[Callable[..., Steps[Outcome]], Callable[..., Outcome]], ...]] = (
    (validating, validate),
    (mutating, mutate),
)
OBJECTS: Final[dict[str, Callable[[int], Any]]] = {
    "pod": lambda n: pod(*images(n)),
    "deployment": lambda n: workload("Deployment", *images(n)),
    "widget": lambda n: {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"images": images(n)},
    },
}


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("count", [1, MANY_IMAGES, MANY_IMAGES + 1, 1000])
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_each_of_many_images_is_a_step(kind: str, mode: Mode, count: int, operation: str) -> None:
    request = parse(review(OBJECTS[kind](count), operation=operation, old=OBJECTS[kind](0)))
    compiled = policy(MORE, mode=mode)
    for steps, whole in ENDPOINTS:
        does_nothing = steps is mutating and (mode != "mutate" or kind != "pod")
        taken = sum(1 for _ in steps(request, compiled))
        assert taken == (count if count > MANY_IMAGES and not does_nothing else 0)
        assert at_once(steps(request, compiled)) == whole(request, compiled)


@pytest.mark.parametrize("kind", ["pod", "deployment"])
def test_the_hot_path_leaves_many_images_to_the_steps(kind: str) -> None:
    for count in (MANY_IMAGES, MANY_IMAGES + 1):
        good = ["registry.corp.io/a"] * count
        request = parse(review(pod(*good) if kind == "pod" else workload("Deployment", *good)))
        assert approved_images(request, policy()) == (count if count == MANY_IMAGES else None)
        assert validate(request, policy()).verdict == "allowed"
