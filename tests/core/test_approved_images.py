"""The short cut for Pods whose images are all approved declines whatever is not plainly so."""

from __future__ import annotations

from typing import Any

import pytest

from builders import container, pod, pod_spec, policy, review
from gatekeeper_py.core import admission, fastpath
from gatekeeper_py.core.reference import InvalidReference
from gatekeeper_py.core.review import parse
from gatekeeper_py.core.workload import MappingKey, path_text, pod_images

GOOD = "registry.corp.io/web:1"


def with_spec(**fields: Any) -> dict[str, Any]:
    return {**pod(GOOD), "spec": {**pod_spec(GOOD), **fields}}


@pytest.mark.parametrize(
    "obj",
    [
        None, {}, {"spec": []}, with_spec(containers=None), with_spec(initContainers=7),
        with_spec(containers=[None]), with_spec(containers=[{**container(), "image": ""}]),
        with_spec(volumes=7), with_spec(volumes=[None]), with_spec(volumes=[{"image": {"reference": "x"}}]),
    ],
)  # fmt: skip
def test_odd_pods_have_no_plain_list_of_images(obj: Any) -> None:
    assert pod_images(obj) is None


def test_only_a_new_pod_with_approved_images_is_counted() -> None:
    assert pod_images(with_spec(volumes=[{"name": "v"}])) == [GOOD]
    assert admission.approved_images(parse(review(pod(GOOD))), policy()) == 1
    assert admission.approved_images(parse(review(pod("evil.io/x"))), policy()) is None
    assert (
        admission.approved_images(parse(review(pod(GOOD), operation="UPDATE", old=pod("a"))), policy())
        is None
    )


def test_a_place_that_is_no_reference_is_not_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_text: str) -> None:
        raise InvalidReference("no reference")

    monkeypatch.setattr(fastpath, "parse_reference", refuse)
    rule = policy().allow
    assert fastpath._spelling(next(iter(rule)), None) != ""  # type: ignore[arg-type]


def test_a_key_of_a_mapping_stands_in_braces() -> None:
    assert path_text(("spec", MappingKey("a.b"), 0)) == "spec{a.b}[0]"


def test_a_pod_that_is_declared_as_a_resource_is_not_counted() -> None:
    declared = policy("resources: [{group: '', kind: Pod, images: ['$.spec.x']}]\n")
    assert admission.approved_images(parse(review(pod(GOOD))), declared) is None


def test_another_kind_of_text_is_a_name_like_any() -> None:
    class Name(str):
        __slots__ = ()

    assert path_text(("spec", Name("x"))) == "spec.x"


def test_a_pod_without_containers_is_not_counted() -> None:
    assert admission.approved_images(parse(review(with_spec(containers=[]))), policy()) is None
