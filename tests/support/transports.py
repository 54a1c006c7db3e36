"""Connections and transports without sockets."""

from __future__ import annotations

import asyncio
from typing import Any

from gatekeeper_py.http.connections.peers import Activity, Peer


class Member:
    """A connection as the table sees it. It is compared by identity."""

    def __init__(self, peer: Peer, since: float = 0.0) -> None:
        self.peer = peer
        self.activity = Activity.SILENT
        self.since = since


class Transport(asyncio.Transport):
    """The transport below a protocol; collects the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.unsent = 0
        self.reading = True
        self.ended = self.closing = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.sent += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return "there" if name == "peername" else default
