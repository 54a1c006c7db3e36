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

from e2e.fastpath import WIDE, Site, fast_path
from tools.controlplane.components import admission_flags
from tools.controlplane.plane import ControlPlane
from tools.installation.product import Installed, installed
from tools.programs import CONTROL_PLANE, OLDEST

CALLER: Final = "api-server"
"""The name in the client certificate of the API server."""

CALLED_WITH_CERTIFICATE: Final = "127.0.0.1:18443"
"""The webhook that gets the certificate. No other process in the network namespace of the tests uses the
port."""


CONTROL_PLANE_KEY: Final = pytest.StashKey[ControlPlane]()
"""The running control plane, for the hooks of conftest.py."""


@pytest.fixture(scope="session")
def static_policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the parent folder of the static admission policies, which the API server watches."""
    return tmp_path_factory.mktemp("static-policies")


@pytest.fixture(scope="session")
def oldest(request: pytest.FixtureRequest) -> bool:
    """Return whether the control plane is of the oldest supported Kubernetes."""
    return bool(request.config.getoption("--oldest"))


@pytest.fixture(scope="session")
def control_plane(
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
    static_policies: Path,
    *,
    oldest: bool,
) -> Iterator[ControlPlane]:
    """Start the control plane that all tests share; its logs stay in pytest's temporary directory.

    Does not build the binaries, because that takes minutes and would exceed the timeout of a test.
    """
    directory = tmp_path_factory.mktemp("controlplane")
    users = directory.with_name(f"{directory.name}-webhook-users")
    # The oldest Kubernetes accepts the flag for static policies and ignores them.
    flags = admission_flags(static_policies, static_policies / "admission.json", users)
    binaries = (OLDEST if oldest else CONTROL_PLANE).cached()
    plane = ControlPlane(binaries, directory=directory, audit="Metadata", flags=flags)
    users.write_text(json.dumps(webhook_users(plane)), encoding="utf-8")  # JSON is YAML
    with plane:
        pytestconfig.stash[CONTROL_PLANE_KEY] = plane
        yield plane
        del pytestconfig.stash[CONTROL_PLANE_KEY]


def webhook_users(plane: ControlPlane) -> dict[str, Any]:
    """Return the kubeconfig with the API server's client certificate for one webhook."""
    shown = plane.authority.client(CALLER, file="webhook-caller")
    user = {"client-certificate": str(shown.certificate), "client-key": str(shown.key)}
    return {"apiVersion": "v1", "kind": "Config", "users": [{"name": CALLED_WITH_CERTIFICATE, "user": user}]}


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Create a namespace for the test with a default service account; delete it without waiting."""
    name = f"test-{uuid4().hex[:8]}"
    control_plane.make_namespace(name)
    yield name
    control_plane.api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def product(control_plane: ControlPlane) -> Iterator[Installed]:
    """Install the overlay ``enforce``, armed, with three replicas and the controller."""
    with installed(control_plane, "enforce") as found:
        yield found


@pytest.fixture(scope="module")
def site(product: Installed) -> Iterator[Site]:
    """Apply the overlay ``fast-path`` over the installation."""
    with fast_path(product) as found:
        yield found


@pytest.fixture
def wide(site: Site) -> Site:
    """Set mode ``enforce`` and the policy ``WIDE``, with the fast path in step."""
    site.product.set_mode("enforce")
    site.put_policy(WIDE)
    site.product.wait_not_mutating()
    return site
