"""Run the look-ups of the live policy: connect its registries, the registry process and the facts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final

from gatekeeper_py.core.images.manifest import Manifest
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.registries import Registries, Registry
from gatekeeper_py.process.logs import Log
from gatekeeper_py.registry.lookups import Lookups, Observer
from gatekeeper_py.registry.remote import RemoteClient

MAX_SHOWN: Final = 100


class RegistryService:
    """Answers look-ups with the latest policy and the latest files in ``directory`` (--registry-config).

    Must be created inside a running event loop.
    """

    def __init__(
        self,
        observer: Observer,
        directory: Path | None,
        *,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused_realms: dict[str, str] = {}
        """The last refused token realm by host, for ``/policy``."""
        self._registries = Registries()
        self._named: frozenset[str] = frozenset()
        self._fingerprints: frozenset[str] = frozenset()
        self._client = RemoteClient(
            directory,
            log=log,
            observer=observer,
            clock=clock,
            on_refused_realm=self.refused_realms.__setitem__,
        )
        self.lookups = Lookups(
            self._client.query, registry=self._registry, observer=observer, log=log, clock=clock
        )

    def problem(self) -> str:
        """Return why the server is not ready yet for reviews with look-ups; an empty text if it is."""
        return "the registry process starts" if self._client.is_starting else ""

    async def started(self) -> None:
        """Wait until ``problem`` returns an empty text."""
        await self._client.started()

    async def close(self) -> None:
        """Cancel the look-ups under way, and end the registry process."""
        await self.lookups.close()
        await self._client.close()

    def use_policy(self, policy: CompiledPolicy) -> None:
        """Use the registries of a new policy. Facts about hosts with unchanged settings are kept."""
        before, self._registries = self._registries, policy.registries
        keys = {key.fingerprint: key.der for key in policy.require.keys.values()}
        self._named = policy.looked_up_hosts
        self.refused_realms.clear()
        self._client.use_policy(self._registries, keys, looks_up=bool(self._named))
        self._fingerprints = frozenset(keys)
        self._configure(self._registries.changed(before), policy.named_manifests)

    def use_files(self) -> None:
        """Use new credentials and CAs. All facts are dropped: they were obtained with the old files."""
        self._client.use_files()
        self._configure(None, self.lookups.pinned)

    def _configure(self, changed: Collection[str] | None, pinned: Iterable[Manifest]) -> None:
        self.lookups.configure(hosts=self._named, keys=self._fingerprints, changed=changed, pinned=pinned)

    def describe(self) -> dict[str, Any]:
        """Return what ``/policy`` shows: at most 100 hosts, open breakers, refused token realms.

        ``validSignatures`` is the number of valid signatures that are remembered.
        """
        return {
            "hosts": sorted(self._named)[:MAX_SHOWN],
            "moreHosts": max(len(self._named) - MAX_SHOWN, 0),
            "validSignatures": self.lookups.valid_signatures,
            "openBreakers": list(self.lookups.open_breakers())[:MAX_SHOWN],
            "refusedRealms": dict(list(self.refused_realms.items())[:MAX_SHOWN]),
        }

    def _registry(self, host: str) -> Registry:
        return self._registries.of(host)
