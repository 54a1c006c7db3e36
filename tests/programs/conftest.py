"""The real server as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.builders import policy_text
from support.server import Server


class Servers:
    """Starts servers; all end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[Server] = []

    def __call__(self, *arguments: str, policy: str | None = policy_text(), **options: Any) -> Server:
        """Start a server on any ports, with its CA in a file.

        It gets a policy file unless ``policy`` is ``None``.
        """
        path = self.directory / "policy.yaml"
        if policy is not None:
            path.write_text(policy)
        ca = self.directory / "ca.crt"
        server = Server(
            "--policy", str(path), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
            "--tls-ca-out", str(ca), "--drain-seconds", "0", *arguments, ca=ca, **options,
        )  # fmt: skip
        self.running.append(server)
        return server


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Yield a function that starts ``gatekeeper-py serve``."""
    servers = Servers(tmp_path)
    yield servers
    for server in servers.running:
        server.end()


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """Return the path of the servers' policy."""
    return tmp_path / "policy.yaml"
