"""The messages between the server and the registry process, each a msgpack value in a frame.

The server sends ``Settings`` and ``Files`` before the first ``Query``. The registry process sends nothing
unsolicited: one ``Answered`` for each ``Query``, at most one ``TurnWanted`` at a time for each running query,
and one ``Pong`` for each ``Ping``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, Literal

import msgspec

from gatekeeper_py.core.images.manifest import Manifest
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.client import Reply

MAX_BYTES: Final = 64 * 1024
"""Maximum size of a message, in both directions. The longest texts are two image names and an error."""

HOSTS_OF_A_PART: Final = 30
"""Maximum number of hosts in each list of a part of the settings. A host has up to 512 characters."""

MAX_TEXT: Final = 1000
"""Maximum number of characters of a text from the registry process."""

Kind = Literal["manifest"]
"""What a look-up is for."""


class Settings(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One of the policy's entries. After the last message, which has none, the process uses the entries."""

    registry: Registry | None
    is_last: bool


class Files(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The files of --registry-config changed: read them again."""


class Query(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One look-up, and its limit. It already has the turn for its first request to the manifest's host."""

    number: int
    kind: Kind
    manifest: Manifest
    seconds: float


class Go(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The turn that a look-up waits for has come."""

    number: int


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Ends a look-up that nobody waits for any more. The process answers it with an error."""

    number: int


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Checks that the process still works."""


class TurnWanted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A look-up wants to send a request to a host."""

    number: int
    host: str


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A look-up has ended. ``refused_realm`` is the reason why a token realm was refused, if one was."""

    number: int
    reply: Reply
    refused_realm: str


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to a ``Ping``."""


Order = Settings | Files | Query | Go | Stop | Ping
Event = TurnWanted | Answered | Pong

_encoder: Final = msgspec.msgpack.Encoder()
_orders: Final = msgspec.msgpack.Decoder(Order)
_events: Final = msgspec.msgpack.Decoder(Event)


def encode(message: Order | Event) -> bytes:
    return _encoder.encode(message)


def parse_order(payload: bytes) -> Order:
    order: Order = _orders.decode(payload)
    return order


def parse_event(payload: bytes) -> Event:
    """Raises ``msgspec.DecodeError`` (or its subclass ``ValidationError``)."""
    event: Event = _events.decode(payload)
    return event


def settings_messages(registries: Mapping[str, Registry]) -> Iterator[Settings]:
    """Yield the messages that carry the policy's entries."""
    for registry in registries.values():
        tokens, redirects = iter(registry.token_hosts), iter(registry.redirect_hosts)
        while True:
            part = replace(
                registry,
                token_hosts=tuple(islice(tokens, HOSTS_OF_A_PART)),
                redirect_hosts=tuple(islice(redirects, HOSTS_OF_A_PART)),
            )
            yield Settings(part, is_last=False)
            if len(part.token_hosts) < HOSTS_OF_A_PART and len(part.redirect_hosts) < HOSTS_OF_A_PART:
                break
    yield Settings(None, is_last=True)


class Assembly:
    """Builds the entries from the messages of ``settings_messages``."""

    def __init__(self) -> None:
        self._parts: dict[str, Registry] = {}

    def add(self, message: Settings) -> dict[str, Registry] | None:
        """Add a part. Return the entries after the last one."""
        part = message.registry
        if part is not None:
            known = self._parts.get(part.host)
            self._parts[part.host] = (
                part
                if known is None
                else replace(
                    known,
                    token_hosts=known.token_hosts + part.token_hosts,
                    redirect_hosts=known.redirect_hosts + part.redirect_hosts,
                )
            )
        if not message.is_last:
            return None
        complete, self._parts = self._parts, {}
        return complete
