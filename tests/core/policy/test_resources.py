"""Paths to images in custom resources."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.policy.resources import InvalidResourcePath, Step, parse_resource_path

ITEMS, VALUES = Step("items"), Step("values")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        pytest.param("image", (Step("field", "image"),), id="field"),
        pytest.param("spec.image", (Step("field", "spec"), Step("field", "image")), id="fields"),
        pytest.param(
            "spec.steps[*].image",
            (Step("field", "spec"), Step("field", "steps"), ITEMS, Step("field", "image")),
            id="items-of-a-list",
        ),
        pytest.param(
            "spec.images{*}",
            (Step("field", "spec"), Step("field", "images"), VALUES),
            id="values-of-a-mapping",
        ),
        pytest.param("a[*][*]{*}", (Step("field", "a"), ITEMS, ITEMS, VALUES), id="nested"),
        pytest.param("x-y_z/9", (Step("field", "x-y_z/9"),), id="odd-field-name"),
    ],
)
def test_paths(text: str, steps: tuple[Step, ...]) -> None:
    path = parse_resource_path(text)
    assert (path.text, path.steps) == (text, steps)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="only-a-dot"),
        pytest.param(".image", id="leading-dot"),
        pytest.param("image.", id="trailing-dot"),
        pytest.param("a..b", id="two-dots"),
        pytest.param("[*].image", id="items-of-nothing"),
        pytest.param("a.[*]", id="items-after-a-dot"),
        pytest.param("a[0].image", id="one-item"),
        pytest.param("a[].image", id="empty-brackets"),
        pytest.param("a[*]b", id="field-without-a-dot"),
        pytest.param("a.*.b", id="a-star-is-no-field"),
        pytest.param("a{x}", id="one-value"),
        pytest.param("a b", id="space"),
        pytest.param("a\n", id="final-newline"),
        pytest.param("$.a[?(@)]", id="json-path"),
    ],
)
def test_an_invalid_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidResourcePath, match=r"field names joined by \."):
        parse_resource_path(text)
