"""How registries are reached for look-ups (docs/registries.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gatekeeper_py.core.images.reference import DOCKER_HUB

DEFAULT_RATE: Final = 20

SIGNED_RATE: Final = 50
"""The default for registries that rules with ``signedBy`` name, because the signature of a new image takes up
to seven requests."""

DOCKER_HUB_TOKEN_HOST: Final = "auth.docker.io"  # noqa: S105 - the name of a host
"""The host that Docker Hub's challenges name for tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One entry of ``registries``, or the defaults for a host without one.

    ``host`` is folded for matching. ``ca`` names a file below ``--registry-config``. ``token_hosts`` and
    ``redirect_hosts`` are folded hosts; ``timeout``, ``ttl_found`` and ``ttl_missing`` are seconds;
    ``rate`` is requests a second, and the number that may be sent at once after a quiet second.
    """

    host: str
    plain_http: bool = False
    ca: str | None = None
    token_hosts: tuple[str, ...] = ()
    redirect_hosts: tuple[str, ...] = ()
    timeout: float = 1.0
    ttl_found: float = 60.0
    ttl_missing: float = 10.0
    rate: int = DEFAULT_RATE

    @property
    def allowed_token_hosts(self) -> tuple[str, ...]:
        """The hosts that may issue tokens: ``token_hosts`` or, if empty, the registry itself.

        Docker Hub's default also includes its token host.
        """
        if self.token_hosts:
            return self.token_hosts
        return (self.host, DOCKER_HUB_TOKEN_HOST) if self.host == DOCKER_HUB else (self.host,)


@dataclass(frozen=True, slots=True)
class Registries:
    """The settings of all hosts.

    ``entries`` are the entries of ``registries`` by host, and ``signed`` are the hosts in requirements with
    ``signedBy``. A policy has at most 100 entries, but its requirements may name 20,000 hosts. So the
    settings of a host without an entry are made only when they are needed.
    """

    entries: Mapping[str, Registry] = field(default_factory=dict)
    signed: frozenset[str] = frozenset()

    def of(self, host: str) -> Registry:
        """Return the settings of a host."""
        rate = SIGNED_RATE if host in self.signed else DEFAULT_RATE
        return self.entries.get(host) or Registry(host=host, rate=rate)

    def changed(self, before: Registries) -> frozenset[str]:
        """Return the hosts whose settings differ from ``before``."""
        written = {*self.entries, *before.entries}
        changed = {host for host in written if self.entries.get(host) != before.entries.get(host)}
        # Only set operations here, because there may be many hosts.
        return (self.signed ^ before.signed).difference(self.entries) | changed
