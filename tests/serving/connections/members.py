"""Connections without sockets, for code that reads only their activity."""

from __future__ import annotations

from gatekeeper_py.serving.connections.peers import Activity, Peer


class Member:
    """A connection as the table sees it. It is compared by identity."""

    def __init__(self, peer: Peer, since: float = 0.0) -> None:
        self.peer = peer
        self.activity = Activity.SILENT
        self.since = since
