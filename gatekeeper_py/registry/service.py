"""Run the look-ups of the live policy: connect its registries, the files, the client and the facts."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gatekeeper_py.core.images.manifest import Lookup, Manifest, Resolution
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.client import Client
from gatekeeper_py.registry.credentials import Credential
from gatekeeper_py.registry.files import NO_FILES, RegistryFiles
from gatekeeper_py.registry.lookups import Lookups, Observer
from gatekeeper_py.registry.transport import Resolver, Transport

MAX_SHOWN: Final = 100


class RegistryService:
    """Answers look-ups with the latest policy and the latest files.

    Implements ``client.Access``. Must be created inside a running event loop.
    """

    def __init__(self, observer: Observer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused_realms: dict[str, str] = {}
        """The last refused token realm by host, for ``/policy``."""
        self._files = NO_FILES
        self._registries: dict[str, Registry] = {}
        self._named: frozenset[str] = frozenset()
        self._default_context: ssl.SSLContext | None = None
        self._resolver = Resolver()
        self._transports: dict[ssl.SSLContext, Transport] = {}
        self._client = Client(
            self, self._transport, clock=clock, on_refused_realm=self.refused_realms.__setitem__
        )
        self._lookups = Lookups(self._client, registry=self.registry, observer=observer, clock=clock)
        self.is_found = self._lookups.is_found

    def start(self) -> None:
        self._lookups.start()

    def stop_refreshing(self) -> None:
        """Cancel the look-ups that no review waits for: a replica that stops needs no fresh facts."""
        self._lookups.stop_refreshing()

    async def close(self) -> None:
        """Cancel the look-ups under way, and close every connection."""
        await self._lookups.close()
        for transport in self._transports.values():
            await transport.close()
        await self._resolver.close()

    def use_policy(
        self, *, registries: Mapping[str, Registry], hosts: Iterable[str], pinned: Iterable[Manifest]
    ) -> None:
        """Use the registries of a new policy. Facts about hosts with unchanged settings are kept."""
        changed = {
            host
            for host in {*self._registries, *registries}
            if self._registries.get(host) != registries.get(host)
        }
        self._registries = dict(registries)
        self._named = frozenset(hosts)
        self.refused_realms.clear()
        # A host's trust and tokens can depend on the entry of another host, so forget those of all hosts.
        if changed:
            self._client.forget()
        self._lookups.configure(hosts=self._named, changed=changed, pinned=pinned)

    async def use_files(self, files: RegistryFiles) -> None:
        """Use new credentials and CAs. All facts are dropped: they were obtained with the old files."""
        self._files = files
        self._client.forget()
        self._lookups.configure(hosts=self._named, changed=None, pinned=self._lookups.pinned)
        kept = {*files.contexts.values(), self._default_context}
        for context in [context for context in self._transports if context not in kept]:
            # Reviews may wait for requests under way, so the connections close after the answers.
            await self._transports.pop(context).retire()

    def resolve_cached(self, lookup: Lookup) -> Resolution | None:
        return self._lookups.resolve_cached(lookup)

    def answered(self, used: Mapping[Lookup, Resolution]) -> None:
        self._lookups.answered(used)

    async def resolve(
        self, lookups: Iterable[Lookup], seconds: float, namespace: str = ""
    ) -> Mapping[Lookup, Resolution]:
        return await self._lookups.resolve(lookups, seconds, namespace)

    def describe(self) -> dict[str, Any]:
        """Return what ``/policy`` shows: at most 100 hosts, open breakers, refused token realms."""
        return {
            "hosts": sorted(self._named)[:MAX_SHOWN],
            "moreHosts": max(len(self._named) - MAX_SHOWN, 0),
            "openBreakers": list(self._lookups.open_breakers())[:MAX_SHOWN],
            "refusedRealms": dict(list(self.refused_realms.items())[:MAX_SHOWN]),
        }

    # The methods that the client calls.

    def registry(self, host: str) -> Registry:
        return self._registries.get(host) or Registry(host=host)

    def context(self, host: str, named_by: str) -> ssl.SSLContext:
        """Return the TLS context for a host, as its own registry entry specifies.

        If the host has no entry, the entry of ``named_by`` applies, the registry that refers to the host.
        Raises ``ValueError`` if the CA file that the policy names is absent.
        """
        entry = self._registries.get(host) or self.registry(named_by)
        if entry.ca is None:
            if self._default_context is None:
                self._default_context = ssl.create_default_context()
            return self._default_context
        context = self._files.contexts.get(entry.ca)
        if context is None:
            raise ValueError(f"the CA file {entry.ca} is not in --registry-config")
        return context

    def credentials(self, name: str) -> tuple[Credential, ...]:
        return self._files.keyring.find(name)

    def _transport(self, context: ssl.SSLContext) -> Transport:
        transport = self._transports.get(context)
        if transport is None:
            transport = self._transports[context] = Transport(context, self._resolver)
        return transport
