"""Reviews of other clients stay fast for any number and behaviour of connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from exhaustion.crowds import crowds
from exhaustion.target import KINDS, Arena, Attempt, policy_arena
from gatekeeper_py.process.process import allow_descriptors
from support.builders import policy_text

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""An attack ends without a close_notify on any connection, as a real attacker would end it."""

MOST: Final = 500
ROWS: Final = crowds(MOST)


LARGE: Final = 5000
LARGE_GROWTH: Final = LARGE * 33 * 2**10
"""Memory of 5,000 idle connections in bytes (docs/reliability.md): more than the bound for 500."""

LARGE_BOUNDS: Final = {"good-reviews": KINDS | {"established": 1.0}}
"""Bounds other than ``KINDS`` (docs/reliability.md): a review waits for one of every other connection."""

SPARE_FILES: Final = 500
LARGE_ROWS: Final = {
    name: row
    for name, row in crowds(LARGE).items()
    if name
    in {
        "silent-before-tls-from-many-addresses",
        "half-a-hello",
        "a-hello-then-silent-from-many-addresses",
        "silent-after-tls",
        "half-a-header-from-many-addresses",
        "one-good-review-then-silent",
        "one-good-review-then-half-a-body",
        "good-reviews",
    }
}
"""Rows that run against a server with this many connections too. A connection with a complete handshake takes
28 KiB, so a server that is full of them exceeds the bound on memory. No crowd here has the time to complete
as many handshakes."""


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]) -> Iterator[Arena]:
    options = ("--max-connections", str(MOST))
    yield from policy_arena(tmp_path_factory.mktemp("server"), attempts, policy_text(), *options)


@pytest.fixture(scope="module")
def large_arena(tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]) -> Iterator[Arena]:
    needed = LARGE + LARGE // 5 + SPARE_FILES
    if allow_descriptors(needed) < needed:
        pytest.skip("this process may not open as many files")
    options = ("--max-connections", str(LARGE))
    yield from policy_arena(tmp_path_factory.mktemp("server"), attempts, policy_text(), *options)


@pytest.mark.parametrize("name", ROWS)
async def test_a_crowd_does_not_delay_reviews(arena: Arena, name: str) -> None:
    await arena.target.attacked(name, ROWS[name].attack())


@pytest.mark.parametrize("name", LARGE_ROWS)
async def test_a_crowd_does_not_delay_reviews_at_5000_connections(large_arena: Arena, name: str) -> None:
    attack, bounds = LARGE_ROWS[name].attack(), LARGE_BOUNDS.get(name, KINDS)
    await large_arena.target.attacked(f"{name}-at-{LARGE}", attack, LARGE_GROWTH, bounds=bounds)
