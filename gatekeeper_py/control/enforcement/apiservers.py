"""Find the addresses of the API servers, and send a probe Pod to one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.cluster.session import HttpSession
from gatekeeper_py.control import probe_pod
from gatekeeper_py.control.probe_pod import Answer

SLICE_PATH: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
"""API servers write their addresses into this object, which belongs to the Service ``kubernetes``."""

SERVER_NAME: Final = "kubernetes.default.svc"
"""A name in the certificate of every API server. The certificate need not contain the address."""

MAX_SERVERS: Final = 32
"""Maximum number of API servers that are probed: more than any control plane has."""


class SessionFactory(Protocol):
    """Makes sessions with API servers; ``ClusterConfiguration`` is one."""

    @property
    def in_cluster(self) -> bool: ...

    async def connect(self, address: str = ..., server_name: str = ...) -> HttpSession: ...


class ApiServers:
    """Finds the API servers of a cluster, and sends them probe Pods for one namespace."""

    def __init__(self, cluster: SessionFactory, api: KubernetesApi, namespace: str) -> None:
        self._cluster = cluster
        self._api = api
        self._namespace = namespace

    async def addresses(self) -> tuple[str, ...]:
        """Return HOST:PORT of every API server; empty outside the cluster, or if they cannot be read."""
        if not self._cluster.in_cluster:
            return ()  # the kubeconfig may lead through a tunnel or a load balancer
        try:
            return addresses(await self._api.get(SLICE_PATH))
        except ApiError:
            return ()

    async def send(self, server: str, image: str) -> Answer:
        """Create a probe Pod at an API server; an empty address means the configured server."""
        cluster = self._cluster
        if not server:
            return await probe_pod.send(cluster.connect, self._namespace, image)
        return await probe_pod.send(lambda: cluster.connect(server, SERVER_NAME), self._namespace, image)


def addresses(endpoint_slice: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return HOST:PORT of every API server in the EndpointSlice, sorted; empty if there is none."""
    found = endpoint_slice or {}
    ports = [each["port"] for each in found.get("ports") or () if each.get("port")]
    hosts = {host for each in found.get("endpoints") or () for host in each.get("addresses") or ()}
    shown = (f"[{host}]" if ":" in host else host for host in sorted(hosts))
    return tuple(f"{host}:{port}" for host in shown for port in ports[:1])[:MAX_SERVERS]
