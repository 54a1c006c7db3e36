"""Each test with a registry runs with distribution 2.8 and with distribution 3."""

from __future__ import annotations

import pytest
import trustme

from registries.distribution import Version


@pytest.fixture(scope="module", params=["2.8", "3"])
def version(request: pytest.FixtureRequest) -> Version:
    chosen: Version = request.param
    return chosen


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()
