"""A client of registries with its settings, trust and credentials."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from gatekeeper_py.core.images.manifest import Manifest
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.access import Access
from gatekeeper_py.registry.asking import REQUEST_SECONDS, Reply
from gatekeeper_py.registry.client import Client
from gatekeeper_py.registry.credentials import Credential
from gatekeeper_py.registry.signatures.verification import Keys
from gatekeeper_py.registry.transport import Resolver, Transport


class World(Access):
    """A client with settings and credentials that a test can change.

    The client uses plain HTTP for hosts without settings, and ``trust`` for the others.
    """

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.settings: dict[str, Registry] = {}
        self.logins: tuple[Credential, ...] = ()
        self.trust = trust or ssl.create_default_context()
        self.verifiers: Keys = {}
        self.turns: list[str] = []
        """The host of each request."""
        self.refused: list[tuple[str, str]] = []
        self.now = 0.0
        self._resolver = Resolver()
        self._transport = Transport(self.trust, self._resolver)
        self.client = Client(
            self,
            lambda _context: self._transport,
            clock=lambda: self.now,
            on_refused_realm=lambda host, reason: self.refused.append((host, reason)),
        )

    def registry(self, host: str) -> Registry:
        return self.settings.get(host) or Registry(host=host, plain_http=True)

    def context(self, host: str, named_by: str) -> ssl.SSLContext:
        assert host
        assert named_by
        return self.trust

    def credentials(self, name: str) -> tuple[Credential, ...]:
        assert "/" in name
        return self.logins

    def keys(self, fingerprints: Iterable[str]) -> Keys:
        return {each: self.verifiers[each] for each in fingerprints if each in self.verifiers}

    async def query(
        self, host: str, reference: str = "v1", repository: str = "team/app", seconds: float = REQUEST_SECONDS
    ) -> Reply:
        return await self.client.query(Manifest(host, repository, reference), self.turn, seconds)

    async def turn(self, host: str) -> None:
        """Record a request, and let the client send it at once."""
        self.turns.append(host)

    async def close(self) -> None:
        self._transport.close()
        await self._resolver.close()
