"""The soak measures the resources that the server really holds."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Final

from benchmarks.load.certificates import Certificate
from benchmarks.soak.policies import PolicyFile
from benchmarks.soak.process import WatchedServer, wait

SECONDS: Final = 30.0
CLIENTS: Final = 20
SLACK: Final = 5
HALF: Final = (
    b"POST /validate-image HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 10\r\n\r\n"
)
"""The head of a request whose body does not follow."""


def test_connections_count_as_files_and_requests_as_tasks_and_none_is_left(
    tmp_path: Path,
) -> None:
    certificate = Certificate(tmp_path)
    server = WatchedServer(tmp_path, PolicyFile(tmp_path / "policy.yaml").path, certificate)

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
        return certificate.trust().wrap_socket(plain, server_hostname="localhost")

    def holds(connections: int) -> bool:
        """Return whether the server has this many connections, and as many files more than before.

        Connections that scrape these figures may still be open, so the number of files has a tolerance.
        """
        held = server.held()
        return held.connections == connections and abs(held.files - before.files - connections) <= SLACK

    def handles(requests: int) -> bool:
        return server.held().tasks >= before.tasks + requests

    def has_ended_all() -> bool:
        return holds(0) and abs(server.held().tasks - before.tasks) <= SLACK

    try:
        server.start()
        before = server.held()
        assert before.tasks > 0
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect()) for _ in range(CLIENTS)]
            wait(lambda: holds(CLIENTS), SECONDS, "connections")
            for client in clients:
                client.sendall(HALF)
            wait(lambda: handles(CLIENTS), SECONDS, "requests")
        wait(has_ended_all, SECONDS, "end of them")
        assert server.end() == 0
    finally:
        server.end()
