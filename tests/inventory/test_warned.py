"""Controllers whose Pods use images that the policy only warns about."""

from __future__ import annotations

from typing import Any

import pytest

from builders import pod, policy
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.warned import MAX_IMAGES, MAX_OWNERS, Owner, Warned

CONTROLLER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}


def recorded(
    *images: str,
    owners: Any = (CONTROLLER,),
    mode: Any = "warn",
    kind: str = "Pod",
    into: Warned | None = None,
) -> list[tuple[Owner, tuple[str, ...]]]:
    warned = Warned() if into is None else into
    references = list(owners) if isinstance(owners, tuple) else owners
    request = AdmissionRequest(
        uid="a", group="", kind=kind, operation="CREATE", namespace="shop", name="web-1",
        object=pod(*images, metadata={"ownerReferences": references}),
    )  # fmt: skip
    warned.take(request, admission.validate(request, policy(mode=mode)))
    return list(warned)


def test_the_controller_of_a_pod_with_a_rejected_image_is_kept() -> None:
    assert recorded("nginx", "registry.corp.io/a", "quay.io/b", owners=[{"kind": "Node"}, CONTROLLER]) == [
        (Owner("apps/v1", "ReplicaSet", "shop", "web", "1"), ("nginx", "quay.io/b"))
    ]


@pytest.mark.parametrize(
    ("images", "options"),
    [
        pytest.param(("registry.corp.io/a",), {}, id="approved"),
        pytest.param(("nginx",), {"mode": "enforce"}, id="denied-anyway"),
        pytest.param(("nginx",), {"owners": []}, id="created-by-a-person"),
        pytest.param(("nginx",), {"owners": None}, id="null"),
        pytest.param(("nginx",), {"owners": ["x"]}, id="not-a-mapping"),
        pytest.param(("nginx",), {"owners": [{**CONTROLLER, "controller": False}]}, id="not-the-controller"),
        pytest.param(("nginx",), {"owners": [{**CONTROLLER, "uid": 7}]}, id="uid-is-a-number"),
        pytest.param(("nginx",), {"kind": "PodTemplate"}, id="not-a-pod"),
    ],
)
def test_other_pods_are_not_kept(images: tuple[str, ...], options: dict[str, Any]) -> None:
    assert recorded(*images, **options) == []


def test_memory_is_bounded() -> None:
    warned = Warned()
    for number in range(MAX_OWNERS + 3):
        owner = {**CONTROLLER, "uid": str(number)}
        recorded(*(f"quay.io/x{i}" for i in range(MAX_IMAGES + 5)), owners=[owner], into=warned)
    kept = list(warned)
    assert len(kept) == MAX_OWNERS
    assert warned.left_out == 3
    assert all(len(images) == MAX_IMAGES for _, images in kept)
