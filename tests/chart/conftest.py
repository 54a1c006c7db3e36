"""Both versions of Helm, built beforehand by ``make chart-test``."""

from __future__ import annotations

import pytest

from chart.rendering import Helm
from chart.rendering import helm as find_helm


@pytest.fixture(params=[3, 4], ids=["helm3", "helm4"], scope="session")
def helm(request: pytest.FixtureRequest) -> Helm:
    return find_helm(request.param)
