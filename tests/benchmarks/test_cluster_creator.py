"""The program that creates Pods: its requests, counts and checks, tested with a small HTTPS server."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from benchmarks.cluster.creating import build, write_bodies

pytestmark = pytest.mark.go

POD = b'{"kind":"Pod","spec":{"image":"mirror/a"}}'


class Server(ThreadingHTTPServer):
    """A server that answers every request alike and keeps the bodies."""

    daemon_threads = True
    status, answer, warning = 201, POD, ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        if self.server.warning:
            self.send_header("Warning", self.server.warning)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, as the base class calls it
        """Do not log requests."""


@pytest.fixture(scope="module")
def program() -> Path:
    return build()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Server() as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def run(program: Path, server: Server, folder: Path, *flags: str) -> list[dict[str, Any]]:
    """Return the events that the program prints."""
    bodies = write_bodies(folder / "bodies", [{"number": number} for number in range(3)])
    done = subprocess.run(
        [
            str(program),
            f"-url=https://127.0.0.1:{server.server_address[1]}/pods",
            f"-ca={folder / 'ca.crt'}",
            f"-bodies={bodies}",
            "-creators=2",
            "-seconds=0.4",
            "-warm-up=0.2",
            *flags,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_measures_between_two_events(program: Path, server: Server, tmp_path: Path) -> None:
    events = run(program, server, tmp_path)

    assert [event["event"] for event in events] == ["measuring", "measured", "result"]
    found = events[-1]
    assert 0 < found["creates"] < found["statuses"]["201"] == len(server.bodies)
    assert found["per_second"] == pytest.approx(found["creates"] / 0.4)
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
    assert (found["errors"], found["warnings"], found["dials"]) == (0, 0, 2)
    assert {json.loads(body)["number"] for body in server.bodies} == {0, 1, 2}


def test_another_status_is_counted_and_is_not_a_create(program: Path, server: Server, tmp_path: Path) -> None:
    server.status, server.answer = 403, b"denied"

    found = run(program, server, tmp_path)[-1]

    assert found["creates"] == 0
    assert found["statuses"] == {"403": len(server.bodies)}
    assert found["problems"][0] == "403 denied"


def test_a_201_without_a_pod_is_an_error(program: Path, server: Server, tmp_path: Path) -> None:
    server.answer = b"{}"

    found = run(program, server, tmp_path)[-1]

    assert found["creates"] == 0
    assert found["errors"] == len(server.bodies) > 0


def test_warnings_are_counted(program: Path, server: Server, tmp_path: Path) -> None:
    server.warning = '299 - "careful"'

    found = run(program, server, tmp_path)[-1]

    assert found["warnings"] == len(server.bodies)
    assert found["problems"][0] == server.warning


def test_a_load_without_end_is_refused(program: Path, server: Server, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(program, server, tmp_path, "-seconds=3600")
    assert server.bodies == []
