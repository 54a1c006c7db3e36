"""What look-ups need: the settings of registries, their CAs and credentials, and public keys."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping

from gatekeeper_py.core.policy.registries import Registries, Registry
from gatekeeper_py.registry.credentials import Credential
from gatekeeper_py.registry.files import NO_FILES, RegistryFiles
from gatekeeper_py.registry.signatures.verification import Keys
from gatekeeper_py.registry.transport import Resolver, Transport


class Access:
    """The policy's registry entries and keys, and the credentials and CAs of ``--registry-config``.

    Must be created inside a running event loop.
    """

    def __init__(self) -> None:
        self._registries = Registries()
        self._keys: Keys = {}
        self._files = NO_FILES
        self._default_context: ssl.SSLContext | None = None
        self._resolver = Resolver()
        self._transports: dict[ssl.SSLContext, Transport] = {}

    def use_registries(self, entries: Mapping[str, Registry]) -> bool:
        """Use the entries of a policy, and return whether one changed."""
        is_changed = entries != self._registries.entries
        self._registries = Registries(entries)
        return is_changed

    def use_keys(self, keys: Mapping[str, bytes]) -> None:
        """Use the public keys of a policy."""
        if keys.keys() != self._keys.keys():
            # Imported here, because it takes 12 MiB, and most policies have no keys.
            from gatekeeper_py.registry.signatures.keys import load_keys  # noqa: PLC0415

            self._keys = load_keys(keys.values())

    def use_files(self, files: RegistryFiles) -> None:
        """Use new credentials and CAs."""
        self._files = files
        kept = {*files.contexts.values(), self._default_context}
        for context in [context for context in self._transports if context not in kept]:
            # Reviews may wait for requests under way, so the connections close after the answers.
            self._transports.pop(context).retire()

    def registry(self, host: str) -> Registry:
        return self._registries.of(host)

    def context(self, host: str, named_by: str) -> ssl.SSLContext:
        """Return the TLS context for a host, as its own registry entry specifies.

        If the host has no entry, the entry of ``named_by`` applies, the registry that refers to the host.
        Raises ``ValueError`` if the CA file that the policy names is absent.
        """
        entry = self._registries.entries.get(host) or self.registry(named_by)
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

    def keys(self, fingerprints: Iterable[str]) -> Keys:
        return {each: self._keys[each] for each in fingerprints if each in self._keys}

    def transport(self, context: ssl.SSLContext) -> Transport:
        transport = self._transports.get(context)
        if transport is None:
            transport = self._transports[context] = Transport(context, self._resolver)
        return transport
