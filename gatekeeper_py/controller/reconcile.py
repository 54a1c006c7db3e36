"""One pass of the controller: read the cluster, plan, and write what is due.

A pass can be interrupted anywhere and repeated by any controller. Each write is idempotent, carries the
resource version on which the controller based its decision, and leaves a state from which the next pass
continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller import replicas
from gatekeeper_py.controller.certificates import CertificateSettings, CertificateStore
from gatekeeper_py.controller.configurations import Wanted, complete
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.plan import (
    SOON_SECONDS,
    Armed,
    Observed,
    Plan,
    Removing,
    Report,
    State,
    plan,
    removal,
    stored_certificates,
    unarmed,
)

SERVICE_PORT: Final = "webhook"

PASS_ERRORS: Final = (ApiError, LookupError)
"""The exceptions that end a pass: a request failed, or the owner was deleted during the pass."""

ProbeReplica = Callable[[str, int, bytes], Awaitable[replicas.ProbeResult]]
"""Takes host, port and the CA bundle to trust."""


Probed = dict[replicas.ReplicaAddress, replicas.ProbeResult]

Read = Callable[[str], Awaitable[dict[str, Any] | None]]
"""Returns an object by its path, ``None`` if it does not exist: from the API server, or from the watches."""


class Passes:
    """Runs passes over one installation, and keeps the state between them."""

    def __init__(
        self,
        api: KubernetesApi,
        installation: Installation,
        settings: CertificateSettings,
        *,
        shown: Read | None = None,
        probe_replica: ProbeReplica | None = None,
    ) -> None:
        self.configurations = complete(installation.target)
        """The webhook configurations, with every webhook that they can have."""
        self._api = api
        self._installation = installation
        self._settings = settings
        self._probe_replica = probe_replica or self._probe_directly
        self._shown = shown
        self._state = State()
        self._probed: Probed = {}
        """The last probe results."""

    async def run(
        self, wanted: Callable[[], Wanted], now: Callable[[], datetime], *, direct: bool = True
    ) -> Report:
        """Run one pass.

        A ``direct`` pass reads the API server and probes the replicas. Any other pass plans from the watches,
        and ends there if nothing is due. Otherwise it reads the API server and plans again, because a watch
        may lag. It uses the last probe results, unless the plan depends on new ones. Until the webhook is
        armed, every pass is direct.

        Raises the client's errors, and ``LookupError`` if the owner is deleted during the pass. An error ends
        the pass.
        """
        direct = direct or self._shown is None or not isinstance(self._state.stage, Armed)
        if not direct and self._shown is not None:
            observed, due = await self._plan(self._shown, wanted, now, self._probed)
            if not due.writes:
                probed = await self._probe(self._shown, observed.certificates)
                if probed != observed.probed:
                    _, due = await self._plan(self._shown, wanted, now, probed)
            report = due.report
            if not due.writes and isinstance(report.stage, Armed) and not report.changes.tampering:
                self._state = due.state.with_trust_of(self._state)
                return report
        _, due = await self._plan(self._api.get, wanted, now, None if direct else self._probed)
        self._state = due.seen
        await self._write(due)
        self._state = due.state
        # This pass used old probe results, so a direct pass follows soon.
        return due.report if direct else replace(due.report, next_seconds=SOON_SECONDS)

    async def _plan(
        self, read: Read, wanted: Callable[[], Wanted], now: Callable[[], datetime], probed: Probed | None
    ) -> tuple[Observed, Plan]:
        """Plan a pass. ``probed`` is as for ``_observe``; if the plan depends on it, probe again."""
        begun = now()
        observed = await self._observe(read, begun, probed)
        due = plan(observed, wanted(), self._state, begun, self._installation, self._settings)
        if due.asks_replicas and probed is not None:
            return await self._plan(read, wanted, now, None)
        return observed, due

    async def shut_down(self) -> bool:
        """Remove the configurations if the installation is being removed; return whether it is."""
        removed = removal(self._installation, *await self._parents(self._api.get))
        if removed:
            for each in self.configurations:
                await self._api.delete(each.path)
        return bool(removed)

    async def _observe(self, read: Read, now: datetime, probed: Probed | None) -> Observed:
        """Read the cluster, the configurations first.

        ``probed`` are the last probe results; ``None``: probe the replicas now.
        """
        configurations = await self._read_configurations(read)
        namespace, owner = await self._parents(read)
        few = Observed(namespace, owner, configurations, None, None, None, None, {})
        stage = unarmed(self._installation, few, now)
        if isinstance(stage, Removing) or (stage is not None and configurations):
            return few
        secret = await read(self._installation.secret_path)
        store = stored_certificates(secret)
        if store is None and not configurations:
            # Another controller may have created them meanwhile, with a CA that this Secret lost.
            configurations = await self._read_configurations(read)
        if probed is None:
            probed = await self._probe(read, store)
        return few._replace(
            configurations=configurations,
            secret=secret,
            certificates=store,
            probed={} if store is None else probed,
            service=await read(self._installation.service_path),
            deployment=await read(self._installation.deployment_path),
        )

    async def _read_configurations(self, read: Read) -> dict[str, dict[str, Any]]:
        found = {each.path: await read(each.path) for each in self.configurations}
        return {path: live for path, live in found.items() if live is not None}

    async def _parents(self, read: Read) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the Namespace and the owner. If one of them is deleted, the webhook is removed."""
        namespace = await read(self._installation.namespace_path)
        return namespace, await read(self._installation.owner_path)

    async def _write(self, due: Plan) -> None:
        """Send the writes in order. Check the owner before the first configuration is created or replaced."""
        paths, checked = {each.path for each in self.configurations}, False
        for write in due.writes:
            if write.document is None:
                await self._api.delete(write.path)
                continue
            if write.path in paths and not checked:
                await self._check_owner(write.document)
                checked = True
            send = self._api.create if write.verb == "create" else self._api.replace
            await send(write.path, write.document)
            if write.path in paths:
                self._state = self._state.leaving(write.path, due.state)

    async def _check_owner(self, document: dict[str, Any]) -> None:
        """Raise ``LookupError`` if the owner of a configuration does not exist any more."""
        path = self._installation.owner_path
        found = await self._api.get(path)
        owners = [each["uid"] for each in document["metadata"]["ownerReferences"]]
        if found is None or found["metadata"]["uid"] not in owners:
            raise LookupError(f"the owner {path} was deleted during the pass")

    async def _probe(self, read: Read, store: CertificateStore | None) -> Probed:
        """Probe every replica behind the Service. Without certificates to trust, none is probed."""
        if store is None:
            return {}
        slices = await read(self._installation.slices_path) or {}
        addresses = list(dict.fromkeys(replicas.addresses(slices, SERVICE_PORT)))
        probes = (self._probe_replica(each.host, each.port, store.bundle) for each in addresses)
        self._probed = dict(zip(addresses, await asyncio.gather(*probes), strict=True))
        return self._probed

    async def _probe_directly(self, host: str, port: int, bundle: bytes) -> replicas.ProbeResult:
        name = self._installation.server_name
        return await replicas.probe(host, port, server_name=name, bundle=bundle)
