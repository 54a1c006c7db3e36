"""The reader of the log stops, leaves or has no room: lines are lost and counted, reviews are not.

The real process, its real pipe. The queue holds 10,000 lines, so that many reviews must come before
one is lost; they are sent in batches on a kept connection, which costs the client little. They are approved
reviews, logged at the level debug, because the lines about denials are limited for each peer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.process.logs import QUEUE_LINES, LogWriter
from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import Server, start_server
from support.wire import request

APPROVED: Final = review(pod("registry.corp.io/web:1"))
BATCH: Final = 50
EXIT_SECONDS: Final = 15.0
"""The drain's quiet time, one second for the rest of the log, and slack for a slow machine."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Run a server until it is ready, and read its log only up to that point."""
    server = start_server(tmp_path, "--log-level", "debug", policy=policy_text(), read=False)
    try:
        while len(server.events("listening")) < 2 or not server.events("policy_loaded"):
            server.lines.append(read_line(server))
        server.wait(server.is_ready)
        yield server
    finally:
        server.end()


def read_line(server: Server) -> dict[str, Any]:
    assert server.process.stdout is not None
    line: dict[str, Any] = json.loads(server.process.stdout.readline())
    return line


def send(connection: http.client.HTTPSConnection, times: int) -> None:
    """Send so many reviews, and check each answer and its deadline."""
    content = request(json.dumps(APPROVED).encode()) * BATCH
    connection.connect()
    with connection.sock.makefile("rb") as answers:
        for _ in range(0, times, BATCH):
            connection.sock.sendall(content)
            for _ in range(BATCH):
                status, body = _receive(answers)
                assert status == 200
                assert check_response(body, APPROVED, "validate").allowed


def _receive(answers: Any) -> tuple[int, bytes]:
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline().strip().lower()) != b"":
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    return status, answers.read(length)


def dropped(server: Server) -> float:
    """Return the number of lost lines."""
    return server.metric("log_lines_dropped_total")


def ends_in_time(server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert server.process.wait(EXIT_SECONDS) == 0
    assert "Traceback" not in server.errors


def test_a_stopped_reader_loses_counted_lines_and_no_review(server: Server) -> None:
    assert dropped(server) == 0
    connection = server.connect()
    with contextlib.closing(connection):
        send(connection, QUEUE_LINES + 2000)
    assert dropped(server) > 0
    status, body = server.post(APPROVED)
    assert status == 200
    assert check_response(body, APPROVED, "validate").allowed
    assert server.get("/livez")[0] == 200
    assert server.is_ready()
    ends_in_time(server)


def test_every_line_is_read_or_counted_after_the_reader_resumes(server: Server) -> None:
    """The log continues: its lines are complete, and the next review is logged."""
    connection = server.connect()
    with contextlib.closing(connection):
        sent = QUEUE_LINES + 1000
        send(connection, sent)
    lost = dropped(server)
    assert 0 < lost < sent
    lines = [read_line(server) for _ in range(sent - int(lost))]
    assert {line["event"] for line in lines} == {"review"}
    server.post(APPROVED)
    assert read_line(server)["event"] == "review"
    assert dropped(server) == lost
    ends_in_time(server)


def test_half_of_the_queue_is_left_for_lines_that_nobody_may_hide(server: Server) -> None:
    connection = server.connect()
    with contextlib.closing(connection):
        send(connection, QUEUE_LINES + 1000)
    assert dropped(server) > 0
    server.signal(signal.SIGTERM)
    server.wait(lambda: not server.is_ready())
    while read_line(server)["event"] != "draining":
        pass
    assert server.process.wait(EXIT_SECONDS) == 0


def test_a_closed_pipe_loses_counted_lines_and_no_review(server: Server) -> None:
    assert server.process.stdout is not None
    server.process.stdout.close()
    connection = server.connect()
    with contextlib.closing(connection):
        send(connection, 2000)
    server.wait(lambda: dropped(server) == 2000)
    assert server.get("/livez")[0] == 200
    ends_in_time(server)


def test_a_second_signal_ends_the_server_at_once_without_a_reader(server: Server) -> None:
    """The server stops writing the rest of the log after a second."""
    connection = server.connect()
    with contextlib.closing(connection):
        send(connection, 2000)  # fills the pipe; the connection stays, so that the first signal waits
        server.signal(signal.SIGTERM)
        server.wait(lambda: not server.is_ready())
        server.signal(signal.SIGTERM)
        assert server.process.wait(EXIT_SECONDS) == 0


def test_a_full_disk_loses_counted_lines() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = LogWriter(full)
        for _ in range(10):
            writer.write(b"a line\n")
        writer.close()
        assert writer.dropped == 10
