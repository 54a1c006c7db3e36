"""The addresses of the API servers, from the EndpointSlice that they write."""

from __future__ import annotations

from typing import Any

import pytest

from control.world import FakeCluster
from gatekeeper_py.cluster.session import HttpSession
from gatekeeper_py.control.enforcement.apiservers import (
    MAX_SERVERS,
    SERVER_NAME,
    SLICE_PATH,
    ApiServers,
    addresses,
)
from gatekeeper_py.settings import SettingsError

PORTS = [{"name": "https", "port": 6443, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(None, (), id="absent"),
        pytest.param({}, (), id="empty"),
        pytest.param({"ports": PORTS, "endpoints": None}, (), id="no-endpoints"),
        pytest.param({"ports": [], "endpoints": [{"addresses": ["10.0.0.1"]}]}, (), id="no-port"),
        pytest.param(
            {"ports": PORTS, "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"]}]},
            ("10.0.0.1:6443", "10.0.0.2:6443"),
            id="two",
        ),
        pytest.param(
            {"ports": PORTS, "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.1"]}]},
            ("10.0.0.1:6443",),
            id="twice-the-same",
        ),
        pytest.param(
            {"ports": PORTS, "endpoints": [{"addresses": ["fd00::1"]}]}, ("[fd00::1]:6443",), id="ipv6"
        ),
    ],
)
def test_addresses(found: dict[str, Any] | None, expected: tuple[str, ...]) -> None:
    assert addresses(found) == expected


def test_the_number_of_addresses_is_bounded() -> None:
    endpoints = [{"addresses": [f"10.0.{number}.1"]} for number in range(250)]
    assert len(addresses({"ports": PORTS, "endpoints": endpoints})) == MAX_SERVERS


class Cluster:
    """Records the requested connections; no API server can be reached."""

    def __init__(self, *, in_cluster: bool) -> None:
        self.in_cluster = in_cluster
        self.connections: list[tuple[str, str]] = []

    async def connect(self, address: str = "", server_name: str = "") -> HttpSession:
        self.connections.append((address, server_name))
        raise SettingsError("no way there")


@pytest.fixture
def one_server() -> FakeCluster:
    """Return an API that knows the address of one API server."""
    api = FakeCluster()
    api.put(SLICE_PATH, {"ports": PORTS, "endpoints": [{"addresses": ["10.0.0.1"]}]})
    return api


async def test_addresses_are_read_in_a_pod(one_server: FakeCluster) -> None:
    servers = ApiServers(Cluster(in_cluster=True), one_server, "probe")
    assert await servers.addresses() == ("10.0.0.1:6443",)


async def test_a_kubeconfig_leads_to_one_server_only(one_server: FakeCluster) -> None:
    servers = ApiServers(Cluster(in_cluster=False), one_server, "probe")
    assert await servers.addresses() == ()


async def test_forbidden_addresses_count_as_unknown(one_server: FakeCluster) -> None:
    one_server.fail = lambda _verb, _path: True
    servers = ApiServers(Cluster(in_cluster=True), one_server, "probe")
    assert await servers.addresses() == ()


async def test_a_probe_goes_to_the_server_that_is_named(one_server: FakeCluster) -> None:
    cluster = Cluster(in_cluster=True)
    servers = ApiServers(cluster, one_server, "probe")
    for server in ("10.0.0.1:6443", ""):
        assert (await servers.send(server, "a.io/x")).problem == "no way there"
    assert cluster.connections == [("10.0.0.1:6443", SERVER_NAME), ("", "")]
