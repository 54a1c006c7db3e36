"""The fixtures of the end-to-end tests: one control plane, with the product installed once.

Only the outermost conftest.py may import them: a second import makes a second ``control_plane``, and two
control planes cannot run in one network namespace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from tools.controlplane.build import cached
from tools.controlplane.components import admission_flags
from tools.controlplane.plane import ControlPlane
from tools.installation.fastpath import WIDE, Site, fast_path
from tools.installation.product import Installed, installed

CALLER: Final = "api-server"
"""The name in the client certificate of the API server."""

CALLED_WITH_CERTIFICATE: Final = "127.0.0.1:18443"
"""The webhook that gets it. No other process has the port in the network namespace of the tests."""


@pytest.fixture(scope="session")
def static_policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the folders of static admission policies, which the API server reads as they change."""
    return tmp_path_factory.mktemp("static-policies")


@pytest.fixture(scope="session")
def oldest(request: pytest.FixtureRequest) -> bool:
    """Whether the control plane is of the oldest supported Kubernetes."""
    return bool(request.config.getoption("--oldest"))


@pytest.fixture(scope="session")
def control_plane(
    tmp_path_factory: pytest.TempPathFactory, static_policies: Path, *, oldest: bool
) -> Iterator[ControlPlane]:
    """The control plane that all tests of a run share; its logs stay in pytest's temporary directory.

    Does not build the binaries: that takes minutes, and a test's timeout would end it half-way.
    """
    directory = tmp_path_factory.mktemp("controlplane")
    users = directory.with_name(f"{directory.name}-webhook-users")
    # The oldest Kubernetes starts with the flag for static policies too, and ignores them.
    flags = admission_flags(static_policies, static_policies / "admission.json", users)
    plane = ControlPlane(cached(oldest=oldest), directory=directory, audit="Metadata", flags=flags)
    users.write_text(json.dumps(webhook_users(plane)), encoding="utf-8")  # JSON is YAML
    with plane:
        yield plane


def webhook_users(plane: ControlPlane) -> dict[str, Any]:
    """The kubeconfig with which the API server shows one webhook a client certificate."""
    shown = plane.authority.client(CALLER, file="webhook-caller")
    user = {"client-certificate": str(shown.certificate), "client-key": str(shown.key)}
    return {"apiVersion": "v1", "kind": "Config", "users": [{"name": CALLED_WITH_CERTIFICATE, "user": user}]}


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own with its default service account; its deletion is not waited for."""
    name = f"test-{uuid4().hex[:8]}"
    control_plane.make_namespace(name)
    yield name
    control_plane.api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def product(control_plane: ControlPlane) -> Iterator[Installed]:
    """The overlay ``enforce``, armed, with three replicas and the controller."""
    with installed(control_plane, "enforce") as found:
        yield found


@pytest.fixture(scope="module")
def site(product: Installed) -> Iterator[Site]:
    """The overlay ``fast-path`` applied over the installation."""
    with fast_path(product) as found:
        yield found


@pytest.fixture
def wide(site: Site) -> Site:
    """Mode ``enforce`` and the policy ``WIDE``, with the fast path in step."""
    site.product.set_mode("enforce")
    site.put_policy(WIDE)
    site.product.wait_not_mutating()
    return site
