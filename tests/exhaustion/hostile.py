"""Hostile registries in a separate process, so that their memory and CPU time do not count.

``python -m exhaustion.hostile GROUP DIRECTORY`` listens for each row of a group, and prints the ports as one
line of JSON. It then reads lines: ``start ROW`` and ``stop ROW``; the latter cuts all connections of the row,
and is answered with its counts. Connections to other rows are reset.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from exhaustion.registries import GROUPS
from exhaustion.steps import Counts, CutOff, Peer, Row

TESTS: Final = Path(__file__).parents[1]
BACKLOG: Final = 100


class Listening:
    """The listeners of one row."""

    def __init__(self, row: Row, context: Callable[[], ssl.SSLContext]) -> None:
        self.row = row
        self.counts = Counts()
        self._context = context
        self._over = threading.Event()
        self._peers: set[Peer] = set()
        self._is_running = False
        backlog = BACKLOG if row.accept_seconds == 0.0 else 0
        self.sockets = {kind: socket.create_server(("127.0.0.1", 0), backlog=backlog) for kind in row.speaks}
        if row.is_accepting:
            for each in self.sockets.items():
                threading.Thread(target=self._accept, args=each, daemon=True).start()

    def start(self) -> None:
        self.counts, self._over, self._is_running = Counts(), threading.Event(), True

    def stop(self) -> None:
        self._is_running = False
        self._over.set()
        for peer in list(self._peers):
            peer.abort()

    def finish(self, seconds: float) -> None:
        """Wait until all connections ended, at most this long, and stop."""
        end = time.monotonic() + seconds
        while self._peers and time.monotonic() < end:
            time.sleep(0.001)
        self.stop()

    def close(self) -> None:
        self.stop()
        for each in self.sockets.values():
            each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, kind: str, listener: socket.socket) -> None:
        scheme = "https" if kind == "tls" else "http"
        origin = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            peer = Peer(connection, origin, self._context, self.counts, self._over)
            if not self._is_running:
                peer.abort()
                connection.close()
                continue
            self.counts.connections += 1
            self._peers.add(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()
            self._over.wait(self.row.accept_seconds)

    def _serve(self, peer: Peer) -> None:
        try:
            with contextlib.suppress(OSError, CutOff):
                self.row.behave(peer)
        finally:
            self._peers.discard(peer)
            peer.connection.close()


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def main(group: str, directory: Path) -> None:
    os.nice(5)  # a registry takes no CPU time from a node of the cluster
    rows = {
        name: Listening(row, functools.partial(_context, directory / f"{row.chain}.pem"))
        for name, row in GROUPS[group].items()
    }
    ports = {
        name: {kind: each.getsockname()[1] for kind, each in listening.sockets.items()}
        for name, listening in rows.items()
    }
    print(json.dumps(ports), flush=True)  # noqa: T201 - the answer to the process that started this one
    for line in sys.stdin:
        verb, _, name = line.strip().partition(" ")
        listening = rows[name]
        if verb == "start":
            listening.start()
        else:
            listening.stop()
        print(json.dumps(asdict(listening.counts)), flush=True)  # noqa: T201


class Hostile:
    """The process with the registries of a group. ``hosts`` maps a row to its kinds and their hosts."""

    def __init__(self, group: str, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "exhaustion.hostile", group, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        )
        self.rows = GROUPS[group]
        self.hosts: dict[str, dict[str, str]] = {
            name: {kind: f"127.0.0.1:{port}" for kind, port in ports.items()}
            for name, ports in json.loads(self._hear()).items()
        }

    def start(self, name: str) -> None:
        self._say(f"start {name}")

    def stop(self, name: str) -> Counts:
        return Counts(**self._say(f"stop {name}"))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return json.loads(self._hear())

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the registries ended"
        return line


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
