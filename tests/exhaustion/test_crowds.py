"""No crowd of connections stops the others: each holds what it can while a probe asks for reviews."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from builders import policy_text
from exhaustion.crowds import crowds
from exhaustion.target import Arena, Attempt

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""An attack ends as an attacker does: without saying goodbye on any connection."""

MOST: Final = 500
ROWS: Final = crowds(MOST)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]) -> Iterator[Arena]:
    directory = tmp_path_factory.mktemp("server")
    policy = directory / "policy.yaml"
    policy.write_text(policy_text())
    arguments = ["--policy", str(policy), "--max-connections", str(MOST)]
    it = Arena(directory / "ca.crt", attempts, *arguments)
    yield it
    it.close()


@pytest.mark.parametrize("name", [pytest.param(name, marks=row.marks) for name, row in ROWS.items()])
async def test_a_crowd_stops_nobody(arena: Arena, name: str) -> None:
    await arena.target.attacked(name, ROWS[name].attack())
