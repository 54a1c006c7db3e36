"""Limits of one connection, each with its reason."""

from __future__ import annotations

from typing import Final

KEEPALIVE_SECONDS: Final = 120.0
"""For an idle connection. The API server drops one after 90 s. If we closed first, a POST that is on its
way would be lost, because Go does not send it again."""

HANDSHAKE_SECONDS: Final = 5.0
"""From the accept to the end of the TLS handshake. asyncio's 60 s would let a silent client hold a
connection for a minute."""

SHUTDOWN_SECONDS: Final = 3.0
"""For the peer to close after we did. Go closes at once."""

STALLED_SECONDS: Final = 10.0
"""For the peer to take a byte of what was sent to it. The API server waits for an answer for no longer, by
default."""

MAX_HEADER_BYTES: Final = 8192
"""Request line and header fields together. The API server sends a few hundred bytes. aiohttp limits each
line to this and the number of lines, 1 MiB in all."""

HEADER_SECONDS: Final = 5.0
"""From the first byte of a header to its last. Go writes it at once, so only a lost packet delays it, and
TCP has sent one again three times by then. A connection on which nothing has come is idle, and is kept:
Go's client dials spare ones."""

HELD_SECONDS: Final = 0.05
"""For the rest of a body that is waited for without aiohttp. Go's client sends what exceeds 4 KiB in a
second write, which arrives after microseconds. A slower body is left to aiohttp and its limits."""

MAX_HELD_BODY: Final = 64 * 1024
"""Larger bodies that do not arrive at once come in many pieces, and aiohttp stops reading in between."""

MAX_HELD_BODIES: Final = 8 * 1024 * 1024
"""Of all bodies that are waited for without aiohttp together. Beyond it they are left to aiohttp's server,
whose bodies have a limit of their own."""

MAX_WAITING_BYTES: Final = 16 * 1024
"""Input behind the request that is being answered. Beyond it nothing more is read."""

MAX_UNSENT_BYTES: Final = 16 * 1024
"""Answers that the peer has not taken. Beyond it no request is read from the connection. An answer has a
few KiB; the event loop's default of 512 KiB for each of 500 connections would be half of the memory limit."""

MAX_UNREAD_CONNECTIONS: Final = 64
"""Connections with so many unsent bytes. When one more does not read, the one that has not read for longest
is closed: each may hold 200 KiB here and in the kernel. API servers read their answers at once."""

RECEIVE_BYTES: Final = 32 * 1024
"""The kernel's receive buffer of one connection. The kernel uses twice as much with its own records, and it
all counts as memory of the container; by default it would be up to 6 MiB. It is what a peer can send in one
round trip, so a body of 7 MiB, the largest, takes 0.2 s at 1 ms, and 1.2 s at 5 ms."""

SEND_BYTES: Final = 8 * 1024
"""The kernel's send buffer, likewise. By default a client that sends and never reads could have 4 MiB."""

MAX_CHUNK_OVERHEAD: Final = 4096
"""What frames a body in chunks may be as long as the body and this. A client that sends a byte in each chunk
costs as much as one with a body of a hundred times its size."""
