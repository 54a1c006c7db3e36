"""Make the fixtures of the end-to-end tests available to all of them, and state the order of the modules."""

from __future__ import annotations

from typing import Final

import pytest

from e2e.faultcheck import extra_replica, fault_check
from e2e.fixtures import (
    CONTROL_PLANE_KEY,
    control_plane,
    namespace,
    oldest,
    product,
    site,
    static_policies,
    wide,
)

__all__ = [
    "control_plane",
    "extra_replica",
    "fault_check",
    "namespace",
    "oldest",
    "product",
    "site",
    "static_policies",
    "wide",
]

LAST: Final = (
    "test_removal.py",  # removes the installation that all modules before it share
    "test_helm.py",  # needs a cluster without an installation, because each cluster has one
    "test_manifests.py",  # sends images that the webhook of an installation would refuse
)
"""The modules that run after all others, in this order."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LAST.index(item.path.name) + 1 if item.path.name in LAST else 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    restart_ended_apiserver(item.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Restart the API server first: fixtures need it to restore the installation for later tests."""
    restart_ended_apiserver(item.config)


def restart_ended_apiserver(config: pytest.Config) -> None:
    """Restart a crashed API server, and print a line, so that later tests can pass."""
    plane = config.stash.get(CONTROL_PLANE_KEY, None)
    line = plane.restart_ended_apiserver() if plane else ""
    if line:
        terminal, capture = map(config.pluginmanager.get_plugin, ("terminalreporter", "capturemanager"))
        assert terminal is not None
        assert capture is not None
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"\n{line}")
