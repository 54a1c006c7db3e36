"""Parsing any image takes at most linear time and memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.images.reference import MAX_IMAGE_LENGTH, escape
from support.growth import check_linear

POLICY: Final = parse_policy(
    """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: mutate
allow: [registry.corp.io, "*.corp.io", "a*.io/team-*/**", "registry.corp.io@*"]
deny: ["*/**:latest", "*/**:v*", "*.*.corp.io/**"]
mirrors: [{from: docker.io, to: registry.corp.io/hub}]
"""
).at(datetime(2026, 1, 1, tzinfo=UTC))

IMAGES: Final[dict[str, Callable[[int], str]]] = {
    "one-label": lambda n: "a" * (n - 5) + ".io/b",
    "labels": lambda n: "a." * (n // 2 - 1) + "a/b",
    "labels-with-a-bad-end": lambda n: "a." * (n // 2 - 2) + "a/b!",
    "dashes-in-a-label": lambda n: "a-" * (n // 2 - 2) + "a.b/c!",
    "run-of-dashes": lambda n: "a.io/a" + "-" * (n - 7) + "!",
    "run-of-underscores": lambda n: "a.io/a" + "_" * (n - 7) + "b",
    "components": lambda n: "a.io/" + "a/" * ((n - 6) // 2) + "!",
    "separators": lambda n: "a.io/" + "a_" * ((n - 6) // 2) + "!",
    "dots": lambda n: "." * n,
    "colons": lambda n: ":" * n,
    "ats": lambda n: "@" * n,
    "slashes": lambda n: "/" * n,
    "dollars": lambda n: "${" * (n // 2),
    "port": lambda n: "a.io:" + "1" * (n - 7) + "/b",
    "address": lambda n: "[" + ":" * (n - 4) + "]/a",
    "tag": lambda n: "a.io/b:" + "a" * (n - 7),
    "digest-algorithm": lambda n: "a.io/b@" + "a+" * ((n - 8) // 2) + "a:",
    "digest": lambda n: "a.io/b@sha256:" + "0" * (n - 14),
    "hexadecimal": lambda n: "f" * n,
    "spaces": lambda n: "a" + " " * (n - 2) + "b",
    "upper-case": lambda n: "A" * n,
    "not-ascii": lambda n: "\u00e9" * n,
    "control-characters": lambda n: "\x1b" * n,
}


@pytest.mark.parametrize("name", IMAGES)
def test_deciding_and_rewriting_grow_linearly_up_to_the_limit(name: str) -> None:
    """``plan`` parses, decides and looks for a mirror."""

    def plan(image: str) -> None:
        for _ in range(20):  # otherwise superlinear work would be too small to measure
            POLICY.plan("shop", image)

    check_linear(plan, IMAGES[name], limit=MAX_IMAGE_LENGTH, start=256)


def test_a_longer_image_is_not_looked_into() -> None:
    check_linear(
        lambda image: POLICY.plan("shop", image), IMAGES["labels"], limit=1 << 20, start=2 * MAX_IMAGE_LENGTH
    )


@pytest.mark.parametrize("name", ["labels", "not-ascii", "control-characters"])
def test_escaping_grows_linearly(name: str) -> None:
    check_linear(escape, IMAGES[name], limit=1 << 18, start=4096)
