"""``python -m gatekeeper_py serve`` as a subprocess, with helpers for its log and listeners."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from support.documented import check_event, check_status

DEADLINE_SECONDS: Final = 30.0

CLEAN_ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if not name.startswith("GATEKEEPER_PY_")
}


class Server:
    """A running server; its log lines are read by a thread unless ``read`` is false.

    ``prefix`` is a command that starts another one as itself, such as ``exec`` in a shell.
    """

    def __init__(
        self,
        *arguments: str,
        ca: Path,
        environment: Mapping[str, str] | None = None,
        read: bool = True,
        prefix: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "gatekeeper_py"),
    ) -> None:
        self._ca = ca
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, *command, "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**CLEAN_ENVIRONMENT, **(environment or {})},
        )
        self._threads = [threading.Thread(target=self._read_errors, daemon=True)]
        if read:
            self._threads.append(threading.Thread(target=self._read_lines, daemon=True))
        for thread in self._threads:
            thread.start()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.text.extend(line.decode() for line in self.process.stderr)

    @property
    def errors(self) -> str:
        """Return what was written to stderr."""
        return "".join(self.text)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == name]

    def address(self, listener: str) -> tuple[str, int]:
        """Return the address of a listener, once it is logged."""

        def bound() -> list[str]:
            return [line["address"] for line in self.events("listening") if line["listener"] == listener]

        self.wait(lambda: bound() != [])
        host, _, port = bound()[0].rpartition(":")
        return host, int(port)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds. Fails at the deadline, or if the server ends first."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"{self.process.poll()=} {self.lines[-5:]} {self.errors}")
            time.sleep(0.02)

    def connect(self) -> http.client.HTTPSConnection:
        """Open a connection to the webhook, verified with the CA that it wrote."""
        host, port = self.address("webhook")
        context = ssl.create_default_context(cafile=self._ca)
        return http.client.HTTPSConnection(host, port, timeout=DEADLINE_SECONDS, context=context)

    def post(self, document: Any, path: str = "/validate-image") -> tuple[int, bytes]:
        connection = self.connect()
        try:
            return ask(connection, document, path)
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and body of a health path."""
        connection = http.client.HTTPConnection(*self.address("health"), timeout=DEADLINE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            check_status(response.status)
            return response.status, response.read()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Return whether the server is ready. One that has closed its port is not."""
        try:
            return self.get("/readyz")[0] == 200
        except ConnectionError:
            return False

    def metric(self, name: str) -> float:
        """Return the value of a sample by its name without the prefix, with its labels if it has some."""
        status, body = self.get("/metrics")
        assert status == 200
        found = re.search(rf"^gatekeeper_py_{re.escape(name)} (\S+)$", body.decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def code(self) -> int:
        """Wait for the end of the process and of its output; return the exit code."""
        code = self.process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        return code

    def end(self) -> None:
        """End this process, and no other."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        for line in self.lines:
            check_event(line["event"])


def start_server(directory: Path, *arguments: str, policy: str | None = None, **options: Any) -> Server:
    """Start a server on free ports that does not wait when it drains.

    ``policy`` is the text of a policy file; the certificate is self-signed, and its CA is ``ca.crt``.
    """
    ca = directory / "ca.crt"
    if policy is not None:
        (directory / "policy.yaml").write_text(policy)
        arguments = ("--policy", str(directory / "policy.yaml"), *arguments)
    return Server(
        *("--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--drain-seconds", "0"),
        *("--tls-self-signed", "--tls-ca-out", str(ca), *arguments),
        ca=ca,
        **options,
    )


@contextlib.contextmanager
def ready_server(directory: Path, policy: str, *arguments: str) -> Iterator[Server]:
    """Run a server with this policy; the block begins when it is ready."""
    server = start_server(directory, *arguments, policy=policy)
    try:
        server.wait(server.is_ready)
        yield server
    finally:
        server.end()


def ask(
    connection: http.client.HTTPSConnection, document: Any, path: str = "/validate-image"
) -> tuple[int, bytes]:
    """Post a review on an open connection."""
    connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
    response = connection.getresponse()
    check_status(response.status)
    return response.status, response.read()
