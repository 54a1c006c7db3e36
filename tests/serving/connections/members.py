"""Connections without sockets, for what only looks at their standing."""

from __future__ import annotations

from gatekeeper_py.serving.connections.peers import Peer, Standing


class Member:
    """A connection as the table sees it. It is compared by identity."""

    def __init__(self, peer: Peer, since: float = 0.0) -> None:
        self.peer = peer
        self.standing = Standing.SILENT
        self.since = since
