"""The server under soak: its process, its log, its health listener, its files."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme

READY_SECONDS: Final = 60.0
END_SECONDS: Final = 40.0
HEALTH_SECONDS: Final = 10.0

BAD_EVENTS: Final = frozenset({"internal_error", "library", "log_line_cut"})
"""Log events that mean a bug in gatekeeper-py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The resources that the server holds at an instant."""

    rss_mib: float
    files: int
    threads: int
    tasks: int
    connections: int
    inflight: int
    cache_entries: int
    lag: float
    """The delay of the event loop, in seconds."""


class SoakFailure(Exception):
    """The server misbehaved; the message says how."""


class CertificateFiles:
    """A leaf certificate for localhost and its key in two files, and a CA that issues others."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca, self.chain, self.key = folder / "ca.pem", folder / "tls.crt", folder / "tls.key"
        self._authority.cert_pem.write_to_path(self.ca)
        self.rotate()

    def rotate(self) -> None:
        """Write another leaf certificate, one file after the other. Deployments should not do this."""
        leaf = self._authority.issue_cert("localhost")
        self.chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())
        self.serial = _serial(self.chain.read_text(encoding="ascii"))

    def spoil(self) -> None:
        """Write a key that does not match the certificate."""
        self.key.write_bytes(self._authority.issue_cert("localhost").private_key_pem.bytes())

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def _serial(pem: str) -> int:
    from cryptography import x509  # noqa: PLC0415 - slow to import, and for this only

    return x509.load_pem_x509_certificate(pem.encode()).serial_number


class Server:
    """``gatekeeper-py serve`` with TLS and a policy from files; its log is read unless held."""

    def __init__(self, folder: Path, policy: Path, certificate: CertificateFiles, *options: str) -> None:
        self.certificate = certificate
        self._tasks = folder / "tasks"
        self.events: Counter[str] = Counter()
        self.bad_lines: list[str] = []
        self._addresses: dict[str, int] = {}
        self._reading = threading.Event()
        self._reading.set()
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.soak.counted", str(self._tasks),
                "serve", "--policy", str(policy),
                "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
                "--tls-cert", str(certificate.chain), "--tls-key", str(certificate.key),
                "--drain-seconds", "1", *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self.errors = b""
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._read, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while self._reading.wait() and (line := self.process.stdout.readline()):
            try:
                event = json.loads(line)
            except ValueError:
                self.bad_lines.append(repr(line[:300]))
                continue
            name = event["event"]
            self.events[name] += 1
            if name == "listening":
                self._addresses[event["listener"]] = int(event["address"].rpartition(":")[2])
            if name in BAD_EVENTS or "exception" in event:
                self.bad_lines.append(repr(line[:300]))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    @contextlib.contextmanager
    def log_held(self) -> Any:
        """Stop reading the log inside the ``with`` block."""
        self._reading.clear()
        try:
            yield
        finally:
            self._reading.set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return self._addresses["webhook"]

    @property
    def health_port(self) -> int:
        return self._addresses["health"]

    def wait_ready(self) -> None:
        """Wait until both listeners run and ``/readyz`` answers 200. Raises ``SoakFailure``."""
        wait(lambda: len(self._addresses) == 2, READY_SECONDS, "the listeners")
        wait(lambda: self.health("/readyz")[0] == 200, READY_SECONDS, "ready")

    def health(self, path: str, seconds: float = HEALTH_SECONDS) -> tuple[int, bytes]:
        """Return the answer of a health path. Raises ``OSError`` when there is none in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def held(self) -> Held:
        """Return the resources that the server holds. Raises ``OSError`` if it does not answer in time."""
        self.process.send_signal(signal.SIGUSR1)
        metrics = self.metrics()  # after this answer, the signal was handled and the tasks are counted
        rss, threads = memory_and_threads(self.pid)
        return Held(
            rss_mib=round(rss, 3),
            files=sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()),
            threads=threads,
            tasks=int(self._tasks.read_text(encoding="ascii")),
            connections=int(metrics.sum("connections")),
            inflight=int(metrics.sum("inflight_reviews")),
            cache_entries=int(metrics.sum("cache_entries")),
            lag=metrics.sum("event_loop_lag_seconds"),
        )

    def metrics(self) -> Metrics:
        return Metrics(self.health("/metrics")[1].decode())

    def end(self) -> int:
        """Send SIGTERM, read the rest of its output, return the exit code. Raises ``SoakFailure``."""
        self._reading.set()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise SoakFailure(f"it did not end in {END_SECONDS:.0f} s") from None
        for thread in self._threads:
            thread.join(END_SECONDS)
        return code

    def kill(self) -> None:
        """Kill the process if it still runs."""
        self._reading.set()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(END_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Metrics:
    """The metrics of one scrape."""

    def __init__(self, text: str) -> None:
        self._text = text

    def sum(self, name: str, label: str = "") -> float:
        """Return the sum of a metric's samples, or of those with a label (``verdict="denied"``)."""
        found = re.findall(rf"^gatekeeper_py_{name}(\{{.*\}})? (\S+)$", self._text, re.MULTILINE)
        return sum(float(value) for labels, value in found if label in labels)


def memory_and_threads(pid: int) -> tuple[float, int]:
    """Return the resident memory in MiB and the number of threads of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds; connection errors mean not yet. Raises ``SoakFailure`` when too late."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        if time.monotonic() > end:
            raise SoakFailure(f"no {what} in {seconds:.0f} s")
        time.sleep(0.05)  # between two attempts
