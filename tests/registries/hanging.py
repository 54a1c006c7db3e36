"""A registry that accepts connections and requests, and never answers."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Hanging(socketserver.ThreadingTCPServer):
    """A server that never answers. ``request_lines`` holds the first line of every request.

    ``end`` closes the connections.
    """

    daemon_threads = True
    request_queue_size = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.request_lines: list[str] = []
        self.end = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Hanging

    def handle(self) -> None:
        line = self.rfile.readline()
        if line:
            self.server.request_lines.append(line.decode().strip())
            self.server.end.wait()


@contextmanager
def hanging() -> Iterator[Hanging]:
    server = Hanging()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.end.set()
        server.shutdown()
        server.server_close()
        thread.join()
