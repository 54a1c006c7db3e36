"""The regular expressions for sets of images, which Python reads as CEL does."""

from __future__ import annotations

import re
from typing import Final

import pytest

from gatekeeper_py.core.compile.matching import regex
from support.skipping import scope

DIGEST: Final = "@sha256:" + "7c" * 32
OTHER: Final = "@sha256:" + "8d" * 32


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        pytest.param("*.a.io", ["x.a.io/y:1", f"x.a.io/y/z{DIGEST}"], ["a.io/x", "x.b.io/y"], id="subtree"),
        pytest.param(
            "a.io/x*", ["a.io/xy", "a.io/x:1", f"a.io/x{DIGEST}"], ["a.io/xy/z", "a.io/y"], id="repository"
        ),
        pytest.param(
            "*.a.io@*", [f"x.a.io/y{DIGEST}", f"x.a.io/y:1{OTHER}"], ["x.a.io/y:1", "x.a.io/y"], id="pinned"
        ),
        pytest.param(
            "a.io/x*@*",
            [f"a.io/x{DIGEST}", f"a.io/xy:1{DIGEST}"],
            [f"a.io/x/y{DIGEST}", "a.io/x:1", "a.io/x"],
            id="pinned-repository",
        ),
        pytest.param(
            f"a.io/x*{DIGEST}",
            [f"a.io/x:1{DIGEST}"],
            [f"a.io/x{OTHER}", f"a.io/x{DIGEST}0", "a.io/x"],
            id="one-digest",
        ),
        pytest.param("a.io/**:v*", ["a.io/x:v1"], ["a.io/x:1", "a.io/x", f"a.io/x:v1{DIGEST}"], id="tag"),
        pytest.param(
            "*.a.io/x:latest", ["y.a.io/x", "y.a.io/x:latest"], ["y.a.io/x:1", "y.a.io/x/z"], id="latest"
        ),
    ],
)
def test_a_set_has_the_images_that_its_regular_expression_matches(
    pattern: str, inside: list[str], outside: list[str]
) -> None:
    expression = regex(scope(pattern).images)
    assert [image for image in (*inside, *outside) if re.match(expression, image)] == inside
