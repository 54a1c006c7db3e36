"""The look-up for an image, and how the answers for several candidates combine."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.manifest import (
    MISSING,
    Answer,
    Manifest,
    Resolution,
    failed,
    found,
    manifest_of,
    resolve,
)

DIGEST = "sha256:" + "a" * 64
FOUND, DOWN = found(DIGEST), failed("down")


@pytest.mark.parametrize(
    ("image", "manifest", "shown"),
    [
        ("nginx", ("docker.io", "library/nginx", "latest"), "docker.io/library/nginx:latest"),
        ("A.io:443/x:v1", ("a.io", "x", "v1"), "a.io/x:v1"),
        (f"a.io:5000/x/y:v1@{DIGEST}", ("a.io:5000", "x/y", DIGEST), f"a.io:5000/x/y@{DIGEST}"),
    ],
)
def test_the_manifest_is_the_one_that_a_runtime_pulls(
    image: str, manifest: tuple[str, str, str], shown: str
) -> None:
    made = manifest_of(parse_image(image))
    assert made == Manifest(*manifest)
    assert str(made) == shown
    assert made.by_digest is ("@" in image)


@pytest.mark.parametrize(
    ("answers", "resolution"),
    [
        pytest.param((FOUND, MISSING), Resolution(FOUND, 0), id="first-found"),
        pytest.param((MISSING, FOUND), Resolution(FOUND, 1), id="second-found"),
        pytest.param((DOWN, FOUND), Resolution(FOUND, 1), id="found-after-an-error"),
        pytest.param((MISSING, MISSING), Resolution(MISSING), id="missing-everywhere"),
        pytest.param((MISSING, DOWN), Resolution(DOWN), id="an-error-is-not-missing"),
        pytest.param((), Resolution(MISSING), id="no-candidate"),
    ],
)
def test_candidates_combine(answers: tuple[Answer, ...], resolution: Resolution) -> None:
    assert resolve(answers) == resolution
