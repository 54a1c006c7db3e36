"""Images: their tag or digest, and their names."""

from __future__ import annotations

from typing import Final

import pytest

from gatekeeper_py.core.images.image import Qualifiers, parse_image
from gatekeeper_py.core.images.reference import InvalidReference, Location

SHA256: Final = "sha256:" + "7c" * 32


@pytest.mark.parametrize(
    ("image", "tag", "digest", "qualifiers"),
    [
        pytest.param("a.io/x:v1", "v1", None, (":v1", None), id="tag"),
        pytest.param("a.io/x", "latest", None, (":latest", None), id="no-tag-is-latest"),
        pytest.param(f"a.io/x@{SHA256}", None, SHA256, (f"@{SHA256}", "@*", None), id="digest"),
        pytest.param(f"a.io/x:v1@{SHA256}", None, SHA256, (f"@{SHA256}", "@*", None), id="both"),
    ],
)
def test_a_digest_replaces_the_tag(
    image: str, tag: str | None, digest: str | None, qualifiers: Qualifiers
) -> None:
    parsed = parse_image(image)
    assert (parsed.tag, parsed.digest, parsed.qualifiers) == (tag, digest, qualifiers)


def test_pinning_an_image_equals_writing_its_digest() -> None:
    pinned, written = parse_image("a.io/x:v1").pinned(SHA256), parse_image(f"a.io/x:v1@{SHA256}")
    assert pinned[1:] == written[1:]
    assert pinned.reference.canonical == written.reference.canonical


def test_another_name_keeps_the_tag() -> None:
    image = parse_image("a.io/x:v1").at(Location("b.io", ("y",)))
    assert (image.name, image.tag) == ("b.io/y", "v1")


@pytest.mark.parametrize("image", ["a b", "a.io:0/x", "sha256:" + "7" * 12])
def test_an_image_that_no_policy_may_approve_is_invalid(image: str) -> None:
    with pytest.raises(InvalidReference):
        parse_image(image)
