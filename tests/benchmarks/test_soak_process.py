"""What the soak sees of a server from outside is what the server holds."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Final

from benchmarks.soak.policies import PolicyFile
from benchmarks.soak.process import CertificateFiles, Server, wait

SECONDS: Final = 30.0
CLIENTS: Final = 20
SLACK: Final = 5


def test_each_connection_is_seen_as_a_file_and_a_task_and_none_is_left(tmp_path: Path) -> None:
    certificate = CertificateFiles(tmp_path)
    server = Server(tmp_path, PolicyFile(tmp_path / "policy.yaml").path, certificate)

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
        return certificate.trust().wrap_socket(plain, server_hostname="localhost")

    def holds(connections: int) -> bool:
        """But for connections that asked for this, whose end may have been seen or not."""
        held = server.held()
        return (
            held.connections == connections
            and abs(held.tasks - before.tasks - connections) <= SLACK
            and abs(held.files - before.files - connections) <= SLACK
        )

    try:
        server.wait_ready()
        before = server.held()
        assert before.tasks > 0
        with contextlib.ExitStack() as clients:
            for _ in range(CLIENTS):
                clients.enter_context(connect())
            wait(lambda: holds(CLIENTS), SECONDS, "connections")
        wait(lambda: holds(0), SECONDS, "end of them")
        assert server.end() == 0
    finally:
        server.kill()
