"""The addresses of the API servers, from the EndpointSlice that they write."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeper_py.control.enforcement.apiservers import MAX_SERVERS, addresses

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


def test_there_is_a_bound() -> None:
    endpoints = [{"addresses": [f"10.0.{number}.1"]} for number in range(250)]
    assert len(addresses({"ports": PORTS, "endpoints": endpoints})) == MAX_SERVERS
