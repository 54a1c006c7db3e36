"""pytest fixtures over one control plane for the whole test run; import them into one conftest.py.

Only one, the outermost: two that import ``control_plane`` make two fixtures, and a second control plane does
not start beside the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from e2e.controlplane.build import cached
from e2e.controlplane.plane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane that all tests of a run share; its logs stay in pytest's temporary directory.

    Does not build: that takes minutes, and a test's timeout would end it half-way.
    """
    directory = tmp_path_factory.mktemp("controlplane")
    with ControlPlane(cached(), directory=directory, audit="Metadata") as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own with its default service account; its deletion is not waited for."""
    name = f"test-{uuid4().hex[:8]}"
    control_plane.make_namespace(name)
    yield name
    control_plane.api("DELETE", f"/api/v1/namespaces/{name}")
