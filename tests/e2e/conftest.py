"""The fixtures of the end-to-end tests: one control plane, with the product installed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.controlplane.fixtures import control_plane, namespace
from e2e.controlplane.plane import ControlPlane
from e2e.fastpath_site import site, wide
from e2e.installed import Installed, installed
from e2e.trial import newcomer, trial

__all__ = ["control_plane", "namespace", "newcomer", "product", "site", "trial", "wide"]


@pytest.fixture(scope="session")
def product(control_plane: ControlPlane) -> Iterator[Installed]:
    """The overlay ``enforce``, armed, with three replicas and the controller."""
    with installed(control_plane, "enforce") as found:
        yield found
