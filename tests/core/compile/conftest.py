"""Fixture: the API server's own evaluator, for tests of compiled expressions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evaluating import Evaluator, UnavailableError, build


@pytest.fixture(scope="session")
def evaluator() -> Iterator[Evaluator]:
    """Return the evaluator. Skip the test without Go and the Go modules of the tests' Kubernetes."""
    try:
        binary = build()
    except UnavailableError as missing:
        pytest.skip(str(missing))
    with Evaluator(binary) as running:
        yield running
