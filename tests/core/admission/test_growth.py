"""The work for a review grows at most linearly with each part that a stranger can make large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from gatekeeper_py.core import admission
from gatekeeper_py.core.admission.review import InvalidReview, parse
from gatekeeper_py.core.names import ORIGINAL_IMAGES
from support.builders import container, pod, pod_spec, policy, review
from support.growth import check_linear

POLICY_TEXT: Final = """
deny:
  - "*/**:latest"
  - {image: "*.corp.io/**", namespaces: ["team-*", "*-x", "*a*b*"]}
namespaces:
  - {names: ["a*", "*b", "*a*b*"], mode: warn}
mirrors:
  - {from: docker.io, to: registry.corp.io/hub, except: ["docker.io/library/a*"]}
resources:
  - {group: example.com, kind: Widget, images: ["spec.images[*]", "spec.sets{*}.image", "a[*].b{*}[*].c"]}
"""
POLICIES: Final = [policy(POLICY_TEXT, mode=mode) for mode in ("enforce", "warn", "mutate")]
WIDGET: Final = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
OTHER: Final = {**WIDGET, "kind": "Other"}

Document = dict[str, Any]
Make = Callable[[int], Document]


def reviewed(document: Document) -> None:
    """Run both endpoints on a decoded body in every mode."""
    try:
        request = parse(document)
    except InvalidReview:
        return
    for each in POLICIES:
        for endpoint in (admission.validate, admission.mutate):
            endpoint(request, each).response.document()
        admission.certainly_approved(request, each)


def with_request(**fields: Any) -> Document:
    document = review(pod("nginx", "registry.corp.io/a"))
    document["request"].update(fields)
    return document


def with_metadata(metadata: Any) -> Document:
    return review(pod("nginx", metadata=metadata))


def widget(spec: Any, **more: Any) -> Document:
    return review({**WIDGET, "spec": spec, **more})


def numbered(count: int, value: Any) -> dict[str, Any]:
    return {f"k{n}": value for n in range(count)}


def nested(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value


TEXTS: Final[dict[str, Callable[[str], Document]]] = {
    "uid": lambda text: with_request(uid=text),
    "name": lambda text: with_request(name=text),
    "namespace": lambda text: with_request(namespace=text),
    "operation": lambda text: with_request(operation=text),
    "sub-resource": lambda text: with_request(subResource=text),
    "kind": lambda text: with_request(kind={"group": "example.com", "kind": text}),
    "group": lambda text: with_request(kind={"group": text, "kind": "Widget"}),
    "user": lambda text: with_request(userInfo={"username": text, "groups": ["a"]}),
    "user-group": lambda text: with_request(userInfo={"username": "a", "groups": [text]}),
    "image": lambda text: review(pod(text, text)),
    "image-at-the-end": lambda text: review(pod("registry.corp.io/" + text)),
    "image-volume": lambda text: review(pod("nginx", volumes=[{"name": text, "image": {"reference": text}}])),
    "container-name": lambda text: review(pod("nginx", initContainers=[container("nginx", text)])),
    "annotation-key": lambda text: with_metadata({"annotations": {text: "a"}}),
    "annotation": lambda text: with_metadata({"annotations": {"a": text}}),
    "annotation-of-originals": lambda text: with_metadata({"annotations": {ORIGINAL_IMAGES: text}}),
    "deletion-timestamp": lambda text: with_metadata({"deletionTimestamp": text}),
    "key-by-shape": lambda text: review({**OTHER, text: {text: pod_spec("nginx", "evil.io/a")}}),
    "key-on-a-declared-path": lambda text: widget({"sets": {text: {"image": "evil.io/a"}}}),
    "image-on-a-declared-path": lambda text: widget({"images": [text]}),
    "old-image": lambda text: review(pod("nginx"), operation="UPDATE", old=pod(text)),
    "not-an-image": lambda text: review(pod([text]), operation="UPDATE", old=pod([text[:-1] + "x"])),
}
"""Builders of a review with this text in one field, by name."""

ITEMS: Final[dict[str, Make]] = {
    "containers": lambda n: review(pod(*["nginx"] * n)),
    "different-containers": lambda n: review(pod(*[f"evil.io/a{i}" for i in range(n)])),
    "numbers-for-containers": lambda n: review(pod(containers=[1] * n)),
    "volumes": lambda n: review(pod("nginx", volumes=[{"name": "v"}] * n)),
    "image-volumes": lambda n: review(pod("nginx", volumes=[{"image": {"reference": "nginx"}}] * n)),
    "old-containers": lambda n: review(pod("nginx"), operation="UPDATE", old=pod(*["evil.io/a"] * n)),
    "both": lambda n: review(pod(*["a"] * n), operation="UPDATE", old=pod(*["b"] * n)),
    "not-images": lambda n: review(pod(*[[1]] * n), operation="UPDATE", old=pod(*[[1]] * n)),
    "a-large-value-for-an-image": lambda n: review(pod([1] * n), operation="UPDATE", old=pod([1] * n)),
    "a-mapping-for-an-image": lambda n: review(
        pod(numbered(n, 1)), operation="UPDATE", old=pod(numbered(n, 1))
    ),
    "pod-specs": lambda n: review({**OTHER, "spec": [pod_spec("nginx")] * n}),
    "empty-pod-specs": lambda n: review({**OTHER, "spec": [{"containers": []}] * n}),
    "lists-of-names": lambda n: review({**OTHER, "spec": {"containers": ["a"] * n}}),
    "mappings": lambda n: review({**OTHER, "spec": [{"a": {}}] * n}),
    "wide-mapping": lambda n: review({**OTHER, "spec": numbered(n, {"a": 1})}),
    "fields-of-the-object": lambda n: review({**OTHER, **numbered(n, {"a": 1})}),
    "levels": lambda n: review({**OTHER, "spec": nested(n, pod_spec("nginx"))}),
    "declared-items": lambda n: widget({"images": ["nginx"] * n}),
    "declared-values": lambda n: widget({"sets": numbered(n, {"image": "nginx"})}),
    "declared-lists": lambda n: widget({}, a=[{"b": {"k": [{"c": "nginx"}]}}] * n),
    "declared-empty-lists": lambda n: widget({}, a=[{"b": {"k": []}}] * n),
    "annotations": lambda n: with_metadata({"annotations": numbered(n, "a")}),
    "originals": lambda n: with_metadata({"annotations": {ORIGINAL_IMAGES: "[" * n}}),
    "original-keys": lambda n: with_metadata({"annotations": {ORIGINAL_IMAGES: str(numbered(n, ""))}}),
    "labels": lambda n: with_metadata({"labels": numbered(n, "a")}),
    "managed-fields": lambda n: with_metadata({"managedFields": [numbered(n, {})]}),
    "user-groups": lambda n: with_request(userInfo={"username": "a", "groups": ["g"] * n}),
    "user-extra": lambda n: with_request(userInfo={"username": "a", "extra": numbered(n, ["a"])}),
}
"""Builders of a review with this number of items, by name."""


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("a\u20ac*/\\\n:@", id="mixed"),
        pytest.param("a", id="letters", marks=pytest.mark.long),
        pytest.param("\u20ac", id="not-ascii", marks=pytest.mark.long),
        pytest.param("ab*", id="globs", marks=pytest.mark.long),
        pytest.param("\\\n", id="escapes", marks=pytest.mark.long),
        pytest.param("a/", id="slashes", marks=pytest.mark.long),
        pytest.param("a.", id="labels", marks=pytest.mark.long),
    ],
)
def test_a_review_costs_linear_work_in_the_length_of_any_text(name: str, unit: str) -> None:
    """Everything else in the review is small."""
    check_linear(reviewed, lambda size: TEXTS[name](unit * (size // len(unit))), limit=1 << 17, start=1 << 14)


@pytest.mark.parametrize("name", ITEMS)
def test_a_review_costs_linear_work_in_the_number_of_any_items(name: str) -> None:
    check_linear(reviewed, ITEMS[name], limit=1 << 11, start=1 << 8)
