"""The product's client of one registry that requires a password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gatekeeper_py.core.policy.registries import Registry as Settings
from gatekeeper_py.registry.credentials import Credential
from registries.distribution import PASSWORD, USER, Registry
from registry.world import World


@asynccontextmanager
async def client_of(registry: Registry) -> AsyncIterator[World]:
    """Yield a client that trusts the registry and knows its password."""
    made = World(registry.trust)
    made.settings[registry.host] = Settings(host=registry.host)
    made.logins = (Credential(USER, PASSWORD),)
    try:
        yield made
    finally:
        await made.close()
