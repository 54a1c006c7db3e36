"""Fixture: the API server's own evaluator, for tests of compiled expressions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.evaluating import Evaluator, build


@pytest.fixture(scope="session")
def evaluator() -> Iterator[Evaluator]:
    """Return the evaluator. Tests that use it are marked with ``go``."""
    with Evaluator(build()) as running:
        yield running
