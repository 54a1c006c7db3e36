"""Replicas of the webhook, reached directly: their verdicts, logs and status."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import builders
from tools.controlplane.exchange import exchange
from tools.installation.product import APPROVED, NAMESPACE, UNLISTED
from tools.polling import wait_until

SERVER_NAME = f"gatekeeper-py.{NAMESPACE}.svc"


@dataclass
class Replica:
    """A serving process: its address, and its log since the start of the check."""

    address: str
    log_file: Path
    skip: int = 0

    def logged(self, event: str) -> list[dict[str, Any]]:
        content = self.log_file.read_bytes()[self.skip :]
        # The last line may be incomplete, and a line that is not JSON is part of a traceback.
        lines = [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        return [line for line in lines if line["event"] == event]

    def writes(self, event: str) -> bool:
        """Wait until the replica has logged such an event, because lines are written a moment later."""
        wait_until(lambda: self.logged(event), seconds=5, what=f"{event} logged")
        return True

    def failures(self) -> list[str]:
        return [line["problem"] for line in self.logged("policy_source_failed")]

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(exchange((self.address, 8080), "GET", "/policy"))
        return shown

    def ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, 8080, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass
class ReviewLoop:
    """Sends reviews to replicas over TLS; ``verdicts`` holds ``(address, image, allowed)``."""

    verdicts: list[tuple[str, str, bool]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def of(self, address: str) -> int:
        return sum(verdict[0] == address for verdict in self.verdicts)

    def run(self, address: str, trust: ssl.SSLContext, stop: threading.Event) -> None:
        connection = connected(address, trust)
        while not stop.wait(0.05):
            for image in (APPROVED, UNLISTED):
                try:
                    status, answer = ask(connection, image)
                except (OSError, http.client.HTTPException) as problem:
                    self.broken.append(f"{address}: {problem!r}")
                    return
                if status != http.client.OK:
                    self.broken.append(f"{address}: {status} {answer}")
                    continue
                self.verdicts.append((address, image, answer["response"]["allowed"]))
        connection.close()


def connected(address: str, trust: ssl.SSLContext) -> http.client.HTTPConnection:
    """Connect like an API server: to an address, with the Service's name."""
    plain = socket.create_connection((address, 8443), timeout=10)
    connection = http.client.HTTPConnection(address, 8443, timeout=10)
    connection.sock = trust.wrap_socket(plain, server_hostname=SERVER_NAME)
    return connection


def ask(connection: http.client.HTTPConnection, image: str) -> tuple[int, dict[str, Any]]:
    body = json.dumps(builders.review(builders.pod(image)))
    connection.request("POST", "/validate-image?timeout=5s", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def size(log: Path) -> int:
    """Return the size of a log that may not exist yet, in bytes."""
    return log.stat().st_size if log.exists() else 0
