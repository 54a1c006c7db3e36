"""The messages between the server and the registry process, each a msgpack value in a frame.

The server sends ``UseRegistries`` and ``Files`` before the first ``Query``. The registry process sends
nothing unsolicited: one ``Answered`` for each ``Query``, at most one ``TurnWanted`` at a time for each
running query, and one ``Pong`` for each ``Ping``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gatekeeper_py.core.images.manifest import Manifest
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.process.shares import Share
from gatekeeper_py.registry.asking import Reply

MAX_EVENT_BYTES: Final = 64 * 1024
"""Maximum size of a message from the registry process. The longest texts are two image names and an error."""

MAX_ORDER_BYTES: Final = 2 * MAX_FILE_BYTES
"""Maximum size of a message to the registry process. The longest holds the entries of a policy."""

MAX_TEXT: Final = 1000
"""Maximum number of characters of a text from the registry process."""


class UseRegistries(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The entries of a new policy by host, and its public keys by fingerprint."""

    registries: Mapping[str, Registry]
    keys: dict[str, bytes] = {}


class Files(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The files of --registry-config changed: read them again."""


class Query(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One look-up, its limit, and the share of its review.

    It already has the turn for its first request to the manifest's host.
    """

    number: int
    manifest: Manifest
    seconds: float
    share: Share


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


Order = UseRegistries | Files | Query | Go | Stop | Ping
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
