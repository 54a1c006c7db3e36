"""Start a contestant on a port of its own, send it reviews, read its memory, end it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import trustme

from benchmarks.contestant import Contestant, Launch
from benchmarks.peers import corpus

START_SECONDS: Final = 30
END_SECONDS: Final = 5


class NotStarted(RuntimeError):
    """A contestant ended, or did not answer in time; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running contestant."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    connection: http.client.HTTPSConnection

    def ask(self, body: bytes) -> tuple[int, bytes]:
        """Send a review, and return the status and body of the answer."""
        return _post(self.connection, self.contestant.path, body)

    def rss_mib(self) -> float:
        """Return the resident memory of the process and its descendants, in MiB."""
        pages = sum(
            int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            for pid in _family(self.process.pid)
        )
        return pages * os.sysconf("SC_PAGE_SIZE") / (1024 * 1024)


@contextmanager
def running(contestant: Contestant, folder: Path) -> Iterator[Running]:
    """Start the contestant and wait until it is ready. ``folder`` is for its certificate and its policy.

    Raises ``NotStarted``.
    """
    authority = trustme.CA()
    certificate, key, policy = folder / "tls.crt", folder / "tls.key", folder / "policy.yaml"
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    policy.write_text(corpus.policy_text(), encoding="utf-8")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    launch = Launch(port=_free_port(), certificate=certificate, key=key, policy=policy, cpu=_first_core())
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            contestant.argv(launch),
            env={**os.environ, **contestant.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            connection = _ready(contestant, process, launch.port, client, output)
            try:
                yield Running(contestant, process, connection)
            finally:
                connection.close()
        finally:
            _end(process)


def _ready(
    contestant: Contestant,
    process: subprocess.Popen[bytes],
    port: int,
    client: ssl.SSLContext,
    output: IO[bytes],
) -> http.client.HTTPSConnection:
    """Return a connection on which a good review has been answered as expected."""
    good = next(case for case in corpus.cases() if case.allowed)
    deadline = time.monotonic() + START_SECONDS
    last = "it does not listen"
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPSConnection("localhost", port, context=client, timeout=START_SECONDS)
        try:
            last = corpus.problem(good, *_post(connection, contestant.path, good.body)) or ""
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        if not last:
            return connection
        connection.close()
        time.sleep(0.05)  # between two attempts
    state = "it ended" if process.poll() is not None else f"not ready after {START_SECONDS} s ({last})"
    output.seek(0)
    raise NotStarted(f"{state}; the end of its output:\n{output.read()[-2000:].decode(errors='replace')}")


def _post(connection: http.client.HTTPSConnection, path: str, body: bytes) -> tuple[int, bytes]:
    # API servers send their timeout in the query, too.
    connection.request("POST", f"{path}?timeout=10s", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    family = _family(process.pid)
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


def _family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text(encoding="ascii").split()]
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread has ended
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _first_core() -> int:
    return min(os.sched_getaffinity(0))
