"""``explain``: why an image is approved or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.builders import policy_text
from support.commanding import Command, Write

RICH = policy_text(
    """
deny:
  - {image: registry.corp.io/old/**, reason: "it is gone", owner: platform}
mirrors:
  - {from: docker.io, to: registry.corp.io/dockerhub}
""",
    allow="""
  - registry.corp.io/**
  - {image: "quay.io/team/app:v*", namespaces: [team-*], until: 2030-01-01, owner: ana, reason: trial}
""",
)


def explained(command: Command, *arguments: object, code: int) -> list[dict[str, Any]]:
    done = command("explain", *arguments, "--format", "json")
    assert (done.code, done.err) == (code, "")
    answer: list[dict[str, Any]] = json.loads(done.out)
    return answer


@pytest.mark.parametrize("image", ["", "NGINX", "a\nb", "\x1b[31m", "é", "x" * 5000, "\udcff"])
def test_an_invalid_image_stands_in_json_as_written(command: Command, write: Write, image: str) -> None:
    (answer,) = explained(command, write(RICH), image, code=1)
    assert (answer["image"], answer["canonical"], answer["reason"]) == (image, None, "invalid")
    text = command("explain", write(RICH), image)
    assert text.code == 1
    assert all(character.isprintable() or character == "\n" for character in text.out)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param([], 1, id="no-namespace"),
        pytest.param(["-n", "team-a"], 0, id="namespace"),
        pytest.param(["-n", "team-a", "--at", "2029-12-31"], 0, id="before-it-expires"),
        pytest.param(["-n", "team-a", "--at", "2030-01-01"], 1, id="when-it-expires"),
    ],
)
def test_namespace_and_time(command: Command, write: Write, options: list[str], code: int) -> None:
    (answer,) = explained(command, write(RICH), "quay.io/team/app:v1", *options, code=code)
    assert answer["namespace"] == (options[1] if options else None)


FAST = policy_text(
    """
deny: [ghcr.io/org/old/**]
mirrors: [{from: gcr.io, to: registry.corp.io/gcr}]
""",
    allow="[registry.corp.io, {image: ghcr.io/org/**, namespaces: [shop], until: 2030-01-01}, 'gcr.io@*']",
)


@pytest.mark.parametrize(
    ("more", "approved"),
    [
        (["-n", "shop", "--at", "2026-01-01"], True),
        (["-n", "other", "--at", "2026-01-01"], False),
        (["-n", "shop", "--at", "2030-01-01"], False),
    ],
)
def test_the_fast_path_is_that_of_a_namespace_at_an_instant(
    command: Command,
    write: Write,
    more: list[str],
    approved: bool,  # noqa: FBT001
) -> None:
    done = command("explain", write(FAST), "ghcr.io/org/x:1", "--fast-path", "--format", "json", *more)
    (answer,) = json.loads(done.out)
    assert done.code == 0
    assert list(answer) == ["image", "namespace", "validating", "mutating"]
    assert (answer["image"], answer["namespace"]) == ("ghcr.io/org/x:1", more[1])
    assert answer["validating"]["preApproved"] is approved
    assert answer["mutating"]["preApproved"] is (more[3] < "2030")
