"""One pass of the controller: read the cluster, plan, and write what is due.

A pass can be interrupted anywhere and repeated by any controller. Each write is idempotent, carries the
resource version on which the controller based its decision, and leaves a state from which the next pass
continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller import replicas
from gatekeeper_py.controller.certificates import CertificateSettings
from gatekeeper_py.controller.configurations import Wanted, Write, complete
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.plan import Observed, Report, State, plan, removal, stored_certificates

SERVICE_PORT: Final = "webhook"

PASS_ERRORS: Final = (ApiError, LookupError)
"""The exceptions that end a pass: a request failed, or the owner was deleted during the pass."""

ProbeReplica = Callable[[str, int, bytes], Awaitable[replicas.ProbeResult]]
"""Takes host, port and the CA bundle to trust."""


class Passes:
    """Runs passes over one installation, and keeps the state between them."""

    def __init__(
        self,
        api: KubernetesApi,
        installation: Installation,
        settings: CertificateSettings,
        *,
        probe_replica: ProbeReplica | None = None,
    ) -> None:
        self.configurations = complete(installation.target)
        """The webhook configurations, with every webhook that they can have."""
        self._api = api
        self._installation = installation
        self._settings = settings
        self._probe_replica = probe_replica or self._probe_directly
        self._state = State()

    async def run(self, wanted: Callable[[], Wanted], now: datetime) -> Report:
        """Run one pass.

        Raises the client's errors, and ``LookupError`` if the owner is deleted during the pass. An error ends
        the pass.
        """
        observed = await self._observe()
        due = plan(observed, wanted(), self._state, now, self._installation, self._settings)
        self._state = due.seen
        await self._write(due.writes, observed.owner)
        self._state = due.state
        return due.report

    async def shut_down(self) -> bool:
        """Remove the configurations if the installation is being removed; return whether it is."""
        removed = removal(self._installation, *await self._parents())
        if removed:
            for each in self.configurations:
                await self._api.delete(each.path)
        return bool(removed)

    async def _observe(self) -> Observed:
        """Read the cluster, the configurations first."""
        configurations = await self._read_configurations()
        namespace, owner = await self._parents()
        if removal(self._installation, namespace, owner):
            return Observed(namespace, owner, configurations, None, None, None, {})
        secret = await self._api.get(self._installation.secret_path)
        store = stored_certificates(secret)
        if store is None and not configurations:
            # Another controller may have created them meanwhile, with a CA that this Secret lost.
            configurations = await self._read_configurations()
        return Observed(
            namespace=namespace,
            owner=owner,
            configurations=configurations,
            secret=secret,
            probed={} if store is None else await self._probe(store.bundle),
            service=await self._api.get(self._installation.service_path),
            deployment=await self._api.get(self._installation.deployment_path),
        )

    async def _read_configurations(self) -> dict[str, dict[str, Any]]:
        found = {each.path: await self._api.get(each.path) for each in self.configurations}
        return {path: live for path, live in found.items() if live is not None}

    async def _parents(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the Namespace and the owner, whose removal removes the installation."""
        namespace = await self._api.get(self._installation.namespace_path)
        return namespace, await self._api.get(self._installation.owner_path)

    async def _write(self, writes: tuple[Write, ...], owner: dict[str, Any] | None) -> None:
        """Make the writes, in their order. Before the first configuration, look at its owner again."""
        paths, checked = {each.path for each in self.configurations}, False
        for write in writes:
            if write.document is None:
                await self._api.delete(write.path)
                continue
            if write.path in paths and not checked:
                await self._check_owner(owner)
                checked = True
            store = self._api.create if write.verb == "create" else self._api.replace
            await store(write.path, write.document)

    async def _check_owner(self, owner: dict[str, Any] | None) -> None:
        """Raise ``LookupError`` if the owner is not the one that was read before."""
        path = self._installation.owner_path
        found = await self._api.get(path)
        if found is None or owner is None or found["metadata"]["uid"] != owner["metadata"]["uid"]:
            raise LookupError(f"the owner {path} was deleted during the pass")

    async def _probe(self, bundle: bytes) -> dict[replicas.ReplicaAddress, replicas.ProbeResult]:
        """Probe every replica behind the Service."""
        slices = await self._api.get(self._installation.slices_path) or {}
        addresses = list(dict.fromkeys(replicas.addresses(slices, SERVICE_PORT)))
        probes = (self._probe_replica(each.host, each.port, bundle) for each in addresses)
        return dict(zip(addresses, await asyncio.gather(*probes), strict=True))

    async def _probe_directly(self, host: str, port: int, bundle: bytes) -> replicas.ProbeResult:
        name = self._installation.server_name
        return await replicas.probe(host, port, server_name=name, bundle=bundle)
