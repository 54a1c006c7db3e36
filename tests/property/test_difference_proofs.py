"""No image contradicts the exact difference: 100,000 images and namespaces for each pair of policies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from gatekeeper_py.core import CompiledPolicy
from gatekeeper_py.core.compare.difference import Change, compare
from property.difference_laws import compiled, documents_of, observe, violations
from property.edges import Edges
from property.policy_pairs import pairs

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "policies"
IMAGES, NAMESPACES = 25_000, 4

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def in_place_of(field: str, old: str, *new: Any) -> Callable[[dict[str, Any]], None]:
    """Return the edit that replaces the rule with an image by other rules."""

    def edit(document: dict[str, Any]) -> None:
        rules = document[field]
        images = [rule if isinstance(rule, str) else rule["image"] for rule in rules]
        index = images.index(old)
        rules[index : index + 1] = new

    return edit


def added(field: str, *new: Any) -> Callable[[dict[str, Any]], None]:
    """Return the edit that appends entries."""

    def edit(document: dict[str, Any]) -> None:
        document.setdefault(field, []).extend(new)

    return edit


def second_target(document: dict[str, Any]) -> None:
    document["mirrors"][0]["to"] = [document["mirrors"][0]["to"], "registry.corp.example/dr"]


CORP: Final = "registry.corp.example"
EDITS: Final = [
    pytest.param(
        "no-latest",
        in_place_of("deny", "*/**:latest", f"{CORP}/**:latest"),
        (False, False, False),
        id="deny-latest-only-where-something-is-allowed",
    ),
    pytest.param(
        "mirrors", added("deny", "docker.io/nginx"), (False, True, True), id="deny-an-origin-of-a-mirror"
    ),
    pytest.param("mirrors", second_target, (False, True, False), id="add-a-second-target-to-a-mirror"),
    pytest.param(
        "official-hub-images",
        in_place_of("allow", "docker.io/library/**", "docker.io/*", "docker.io/library/*/**"),
        (False, False, False),
        id="split-the-official-images",
    ),
    pytest.param(
        "per-namespace",
        in_place_of("allow", f"{CORP}/shop/**", {"image": f"{CORP}/shop/**", "namespaces": ["shop*"]}),
        (True, False, False),
        id="name-more-namespaces",
    ),
    pytest.param(
        "several-registries",
        in_place_of("deny", f"{CORP}/legacy/**", f"{CORP}/legacy/*"),
        (True, False, False),
        id="deny-one-segment-only",
    ),
    pytest.param(
        "tags",
        in_place_of("allow", f"{CORP}/**:v*", f"{CORP}/**:v1*"),
        (False, True, False),
        id="approve-one-major-version",
    ),
    pytest.param(
        "digests-only",
        added("allow", f"ghcr.io/corp-example/tools/x@sha256:{'ab' * 32}", f"{CORP}/x@*"),
        (False, False, False),
        id="pin-what-is-already-approved",
    ),
]


@pytest.mark.parametrize(("example", "edit", "expected"), EDITS)
def test_no_image_contradicts_the_difference_of_an_edit(
    example: str, edit: Callable[[dict[str, Any]], None], expected: tuple[bool, bool, bool]
) -> None:
    text = (EXAMPLES / f"{example}.yaml").read_text()
    old, new = (yaml.load(text, yaml.BaseLoader) for _ in range(2))
    edit(new)
    pair = (compiled(old), compiled(new))
    found = compare(*pair)
    assert (found.widens, found.narrows, found.rewrites) == expected
    assert check(pair, Random(example)) == found.changes  # so the images include those that the edit affects


@settings(
    max_examples=4,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(pairs())
def test_no_image_contradicts_the_difference_of_generated_policies(
    pair: tuple[CompiledPolicy, CompiledPolicy],
) -> None:
    check(pair, Random(pair[0].revision + pair[1].revision))


def check(pair: tuple[CompiledPolicy, CompiledPolicy], random: Random) -> set[Change]:
    """Check the laws in both directions on the same images; return the changes of these images."""
    examples = Edges(random, *documents_of(pair)).draw(IMAGES, NAMESPACES)
    seen = observe(pair, examples)
    assert violations(pair, compare(*pair), seen) == []
    opposite: dict[Change, Change] = {
        "approved": "rejected",
        "rejected": "approved",
        "rewritten": "rewritten",
    }
    mirrored = {opposite[change]: example for change, example in seen.items()}
    assert violations(pair[::-1], compare(*pair[::-1]), mirrored) == []
    return set(seen)
