"""The documentation names every path of both listeners."""

from __future__ import annotations

from gatekeeper_py.http.health import Health
from support.documented import PATHS
from support.served import Served


async def test_the_interface_page_has_every_path(served: Served) -> None:
    health = Health(live={}, ready={}, exposition=bytes, policy=dict)
    assert {*served.webhook._routes, *health._routes} == PATHS
