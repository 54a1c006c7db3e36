"""The API server's own evaluator, for all tests of what is compiled for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evaluating import Evaluator, UnavailableError, build


@pytest.fixture(scope="session")
def evaluator() -> Iterator[Evaluator]:
    """Needs Go and the Go modules of the end-to-end tests' Kubernetes; the test is skipped without them."""
    try:
        binary = build()
    except UnavailableError as missing:
        pytest.skip(str(missing))
    with Evaluator(binary) as running:
        yield running
