"""``explain``: why an image is approved or not."""

from __future__ import annotations

import json

import pytest

from support.builders import policy_text
from support.commanding import Command, Write


@pytest.mark.parametrize("image", ["x" * 5000, "\udcff"], ids=["long", "not-utf-8"])
def test_an_invalid_image_stands_in_json_as_written(command: Command, write: Write, image: str) -> None:
    """The table of ``explain`` has the images that a file can hold."""
    done = command("explain", write(policy_text()), image, "--format", "json")
    (answer,) = json.loads(done.out)
    assert (done.code, done.err) == (1, "")
    assert (answer["image"], answer["canonical"], answer["reason"]) == (image, None, "invalid")
    text = command("explain", write(policy_text()), image)
    assert text.code == 1
    assert all(character.isprintable() or character == "\n" for character in text.out)
