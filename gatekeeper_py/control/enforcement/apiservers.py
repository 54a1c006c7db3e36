"""Find the addresses of the API servers, so that each can be probed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

SLICE_PATH: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
"""API servers write their addresses into this object, which belongs to the Service ``kubernetes``."""

SERVER_NAME: Final = "kubernetes.default.svc"
"""A name in the certificate of every API server. Its address need not be in there."""

MAX_SERVERS: Final = 32
"""More than any control plane has. Others are not probed."""

Get = Callable[[str], Awaitable[dict[str, Any] | None]]


def addresses(endpoint_slice: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return HOST:PORT of every API server in the EndpointSlice, sorted; empty if there is none."""
    found = endpoint_slice or {}
    ports = [each["port"] for each in found.get("ports") or () if each.get("port")]
    hosts = {host for each in found.get("endpoints") or () for host in each.get("addresses") or ()}
    shown = (f"[{host}]" if ":" in host else host for host in sorted(hosts))
    return tuple(f"{host}:{port}" for host in shown for port in ports[:1])[:MAX_SERVERS]
