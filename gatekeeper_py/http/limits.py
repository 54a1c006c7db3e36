"""Limits of one connection, each with its reason."""

from __future__ import annotations

from typing import Final

KEEPALIVE_SECONDS: Final = 120.0
"""How long an idle connection stays open. API servers close theirs after 90 s. If the server closed first, a
POST in flight would be lost, because Go does not retry it."""

HANDSHAKE_SECONDS: Final = 5.0
"""Maximum time from accept to the end of the TLS handshake. asyncio's 60 s would let a silent client hold a
connection for a minute."""

SHUTDOWN_SECONDS: Final = 3.0
"""How long the server waits for the peer to close its side after it closed its own. Go closes at once."""

STALLED_SECONDS: Final = 10.0
"""How long a peer may read nothing while an answer is pending. Kubernetes' default timeout of a webhook is 10
s."""

MAX_HEADER_BYTES: Final = 8192
"""Maximum size of the request line and all header fields together. The API server sends a few hundred bytes.
aiohttp limits only each line to this size, and the number of lines, which would allow 1 MiB in total."""

HEADER_SECONDS: Final = 5.0
"""Maximum time from the first byte of a header to its last. Go writes the header at once, so only a lost
packet delays it, and 5 s allow for three retransmissions. A connection that has received nothing counts as
idle and stays open, because Go's client opens spare connections."""

HELD_SECONDS: Final = 0.05
"""How long the hot path waits for the rest of a body before it passes the request to aiohttp. Go's client
sends what exceeds 4 KiB in a second write, which arrives after microseconds. A slower body is left to aiohttp
and its limits."""

MAX_HELD_BODY: Final = 256 * 1024
"""Largest body that the hot path waits for. Larger ones are processed one at a time (``LARGE_BODY_BYTES`` in
body.py), which the hot path cannot do."""

MAX_HELD_BODIES: Final = 8 * 1024 * 1024
"""Maximum total size of the bodies that the hot path waits for. Above it, bodies go to aiohttp's server,
which has its own limit."""

MAX_WAITING_BYTES: Final = 16 * 1024
"""Maximum size of unread input behind the current request. Above it, the server stops reading from the
connection."""

MAX_UNSENT_BYTES: Final = 16 * 1024
"""Maximum size of answers that the peer has not read. Above it, the server reads no request from the
connection. An answer has a few KiB; with the event loop's default of 512 KiB, 500 connections could hold 250
MiB."""

MAX_UNREAD_CONNECTIONS: Final = 64
"""Maximum number of connections whose peer does not read its answers. When one more stops reading, the server
closes the one that stopped first. Each may hold 200 KiB here and in the kernel. API servers read their
answers at once."""

RECEIVE_BYTES: Final = 32 * 1024
"""The kernel's receive buffer of one connection. The kernel doubles this value for its bookkeeping, and all
of it counts towards the container's memory. The default is up to 6 MiB for each connection. The buffer holds
what a peer can send in one round trip, so a body of 7 MiB, the largest, takes 0.2 s at 1 ms, and 1.2 s at 5
ms."""

SEND_BYTES: Final = 8 * 1024
"""The kernel's send buffer of one connection. By default, a client that sends and never reads could fill 4
MiB."""
