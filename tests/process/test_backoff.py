"""The pause before the next attempt."""

from __future__ import annotations

import pytest

from gatekeeper_py.process.backoff import backed_off


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.5), (1, 1.0), (3, 4.0), (4, 5.0), (10, 5.0), (100_000, 5.0)]
)
def test_the_pause_doubles_to_a_bound(failures: int, seconds: float) -> None:
    assert backed_off(0.5, failures, 5.0) == seconds
