"""Reviews of a probe stay fast while each hostile request is sent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from string import ascii_lowercase
from typing import Final

import pytest

from exhaustion.requests import ROWS
from exhaustion.target import Arena, Attempt, policy_arena
from support.builders import policy_text

PATHS: Final = ", ".join(f'"spec.steps[*].f{number}"' for number in range(1000))
MIRRORS: Final = "".join(
    f"  - {{from: m{number}.io, to: registry.corp.io/mirror}}\n" for number in range(500)
)
WILDCARDS: Final = ", ".join(
    f'"registry.corp.io/*likely*{"*".join(letters)}*"'
    for letters in islice(combinations(reversed(ascii_lowercase), 4), 330)
)
"""No image with its letters in alphabetical order matches one, and all have to be tried."""

POLICY: Final = policy_text(
    f"mirrors:\n{MIRRORS}"
    """
  - {from: docker.io, to: registry.corp.io/hub}
namespaces:
  - {names: [mutated], mode: mutate}
resources:
  - {group: example.com, kind: Tool, images: ["spec.steps[*].image", "spec.groups{*}[*].image"]}
"""
    f"  - {{group: example.com, kind: Wide, images: [{PATHS}]}}\n"
    f"deny: [{WILDCARDS}]\n"
)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]) -> Iterator[Arena]:
    yield from policy_arena(tmp_path_factory.mktemp("server"), attempts, POLICY)


@pytest.mark.parametrize("name", ROWS)
async def test_a_costly_request_does_not_delay_reviews(arena: Arena, name: str) -> None:
    await arena.target.attacked(name, ROWS[name].attack())
