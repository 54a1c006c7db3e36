"""A field for an image, and the notation of its path."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeper_py.core.admission.slot import (
    MAX_KEY_SHOWN,
    MappingKey,
    Slot,
    are_too_many,
    image_slot,
    path_text,
    shown_key,
    too_many,
    type_name,
    wrong_type,
)

LONG = "k" * (MAX_KEY_SHOWN + 1)
CUT = "k" * MAX_KEY_SHOWN + "..."


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        pytest.param((), "", id="the-object"),
        pytest.param(("spec", "containers", 0, "image"), "spec.containers[0].image", id="pod"),
        pytest.param(("spec", "steps", MappingKey("build"), "image"), "spec.steps{build}.image", id="key"),
        pytest.param(("spec", MappingKey("a.b"), 0), "spec{a.b}[0]", id="key-with-a-dot"),
        pytest.param((0, "containers"), "[0].containers", id="starts-with-an-index"),
        pytest.param((shown_key(LONG), 0), f"{CUT}[0]", id="long-key"),
        pytest.param(("spec", shown_key(LONG), "image"), f"spec.{CUT}.image", id="long-key-below"),
        pytest.param(("spec", MappingKey(LONG)), f"spec{{{CUT}}}", id="long-key-in-braces"),
    ],
)
def test_paths_have_dots_and_indices(parts: tuple[str | int, ...], text: str) -> None:
    assert path_text(parts) == text
    assert Slot(parts, "image", "a").path == text


def test_a_long_key_is_still_the_same_key() -> None:
    """Only the displayed path is cut: two keys that differ at their end are still two fields."""
    assert shown_key(LONG) == LONG
    assert {("spec", shown_key(LONG))} == {("spec", LONG)}
    assert type(shown_key("short")) is str


@pytest.mark.parametrize("in_pod", [True, False])
def test_text_is_an_image(in_pod: bool) -> None:  # noqa: FBT001
    assert image_slot(("image",), "image", "a", "web", in_pod=in_pod) == Slot(("image",), "image", "a", "web")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (0.5, "a number"),
        ("", "text"),
        ([], "a list"),
        ({}, "a mapping"),
    ],
)
def test_a_problem_names_the_type_that_was_found(value: Any, shown: str) -> None:
    assert type_name(value) == shown
    assert wrong_type(("a",), "image", value, "a pair", "web") == Slot(
        ("a",), "image", value, "web", f"it is {shown}, not a pair"
    )


def test_too_many_images_are_counted() -> None:
    slot = too_many(("spec", "containers"), "container", 1001)
    assert slot.problem == "too many images (1001; at most 1,000)"
    assert (slot.path, slot.noun) == ("spec.containers", "container")
    assert slot.written is None
    assert are_too_many([slot])
    assert not are_too_many([slot, slot])
    assert not are_too_many([Slot(slot.parts, slot.noun, None, problem=slot.problem)])
