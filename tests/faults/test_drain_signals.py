"""Signals and shutdowns in every phase of a server, with requests in progress."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from faults.rolling import Site, refuses
from gatekeeper_py.webhook.app import QUIET_SECONDS
from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import Server, ask
from tools.polling import wait_until

LOG = logging.getLogger(__name__)
APPROVED = review(pod("registry.corp.example/web:1"))
BODY = json.dumps(APPROVED).encode()
HALF = len(BODY) // 2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


@contextlib.contextmanager
def connected(server: Server, *, used: bool = True) -> Iterator[HTTPSConnection]:
    """Open a connection; with ``used``, complete one review on it."""
    connection = server.connect()
    connection.connect()
    try:
        if used:
            assert approved(*ask(connection, APPROVED))
        yield connection
    finally:
        connection.close()


def approved(status: int, body: bytes) -> bool:
    return status == 200 and check_response(body, APPROVED, "validate").allowed


def send_half(connection: HTTPSConnection) -> None:
    """Send a request with half of its body."""
    connection.putrequest("POST", "/validate-image")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:HALF])


def send(connection: HTTPSConnection) -> None:
    """Send a review without waiting for the answer."""
    connection.request("POST", "/validate-image", BODY, {"Content-Type": "application/json"})


def receive_the_last(connection: HTTPSConnection) -> None:
    """Check that the sent review is approved and that its answer closes the connection."""
    response = connection.getresponse()
    assert response.getheader("Connection") == "close"
    assert approved(response.status, response.read())


def until_closed(server: Server) -> None:
    """Wait until the server has closed its listening socket."""
    wait_until(partial(refuses, server.address("webhook")), seconds=30, what="the socket closed")


def test_idle_connections_are_served_once_more_after_the_socket_closes(site: Site) -> None:
    """The server keeps them open while requests may be on their way; each answer closes its connection.

    There is no delay before the socket closes, so only the wait for quiet keeps them open.
    """
    server = site.join("--drain-seconds", "0")
    ready = time.monotonic()
    # Older than the quiet time, so that its start does not count as its last request.
    wait_until(lambda: time.monotonic() > ready + QUIET_SECONDS, seconds=30, what="that age")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(4)]
        server.signal(signal.SIGTERM)
        until_closed(server)
        for connection in connections:
            send(connection)
            receive_the_last(connection)
        # All connections have closed, so the server need not wait for any.
        assert server.code() == 0
    assert server.errors == ""


def test_the_newest_connection_is_served_during_the_drain(site: Site) -> None:
    """The connection was made before the socket closed, so it is served even after a long pause."""
    server = site.join("--drain-seconds", str(QUIET_SECONDS + 2))
    server.signal(signal.SIGTERM)
    signalled = time.monotonic()
    wait_until(lambda: time.monotonic() > signalled + QUIET_SECONDS + 0.5, seconds=30, what="quiet")
    with connected(server, used=False) as connection:
        until_closed(server)
        send(connection)
        receive_the_last(connection)
    assert server.code() == 0
    assert server.errors == ""


def test_time_while_the_process_is_stopped_does_not_count_as_quiet(site: Site) -> None:
    """Clients stop together with the process, and send requests when both resume."""
    server = site.join("--drain-seconds", "0")
    with connected(server) as connection:
        server.signal(signal.SIGTERM)
        until_closed(server)
        server.signal(signal.SIGSTOP)
        time.sleep(QUIET_SECONDS + 0.5)
        server.signal(signal.SIGCONT)
        time.sleep(0.5)
        send(connection)
        receive_the_last(connection)
        assert server.code() == 0
    assert server.errors == ""


def test_silent_connections_do_not_delay_the_exit(site: Site) -> None:
    server = site.join("--drain-seconds", "0")
    address = server.address("webhook")
    with connected(server), connected(server, used=False), socket.create_connection(address):
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.code() == 0
        # The server waits 3 s without a request, and 25 s only for clients that keep sending.
        assert time.monotonic() - start < 20
    assert server.errors == ""


def test_busy_clients_delay_the_exit_for_a_bounded_time(site: Site) -> None:
    """With a review every two seconds there is no quiet moment, so the server exits after 25 s."""
    server = site.join("--drain-seconds", "0")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(30)]
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        until_closed(server)
        answers = 0
        while server.process.poll() is None and connections:
            with contextlib.suppress(OSError, HTTPException):  # the server may exit meanwhile
                answers += approved(*ask(connections.pop(), APPROVED))
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(2)
        assert server.code() == 0
        assert QUIET_SECONDS < time.monotonic() - start < 45
        assert connections
    assert answers > 2
    assert server.errors == ""


def test_a_slow_body_is_answered_during_the_drain(site: Site) -> None:
    server = site.join("--drain-seconds", "0")
    with connected(server) as connection:
        send_half(connection)
        server.signal(signal.SIGTERM)
        until_closed(server)
        connection.send(BODY[HALF:])
        receive_the_last(connection)
    assert server.code() == 0
    assert server.errors == ""


def test_an_endless_body_does_not_delay_the_exit(site: Site) -> None:
    server = site.join("--drain-seconds", "0")
    with connected(server) as connection:
        send_half(connection)
        server.signal(signal.SIGTERM)
        response = connection.getresponse()
        assert (response.status, response.getheader("Connection")) == (408, "close")
        response.read()
        assert server.code() == 0
    assert server.errors == ""


@pytest.mark.parametrize(
    ("drain_seconds", "reached"),
    [
        pytest.param("600", lambda server: server.events("draining") != [], id="while-endpoints-leave"),
        pytest.param("0", lambda server: refuses(server.address("webhook")), id="while-requests-end"),
    ],
)
def test_a_second_sigterm_ends_the_server_at_once(
    site: Site, drain_seconds: str, reached: Callable[[Server], bool]
) -> None:
    server = site.join("--drain-seconds", drain_seconds)
    with connected(server) as connection:
        send_half(connection)
        server.signal(signal.SIGTERM)
        wait_until(partial(reached, server), seconds=30, what="that part of the drain")
        server.signal(signal.SIGTERM)
        assert server.code() == 0
    assert len(server.events("exit_at_once")) == 1
    assert server.events("stopped") == []
    assert "Traceback" not in server.errors


def test_a_signal_during_the_start_ends_the_server_cleanly(site: Site) -> None:
    """The signal arrives once signals are handled, and before anything listens."""
    for number in (signal.SIGTERM, signal.SIGINT):
        server = site.start("--drain-seconds", "0")
        wait_until(partial(_handles_signals, server.process.pid), seconds=30, what="signals handled")
        server.signal(number)
        assert server.code() == 0
        assert server.errors == ""


AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*AS_PROCESS_1, "true"], check=False, capture_output=True).returncode != 0,
    reason="this user may make no process 1 of his own",
)
@pytest.mark.parametrize("waits", ["for-handlers", "for-readiness"])
def test_a_signal_ends_the_server_as_process_1(tmp_path: Path, waits: str) -> None:
    """In a container the server is process 1, for which the kernel drops signals without a handler."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy_text())
    serve = [sys.executable, "-m", "gatekeeper_py", "serve", "--policy", str(policy), "--drain-seconds", "0"]
    ports = ["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]
    with subprocess.Popen([*AS_PROCESS_1, *serve, *ports], stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            wait_until(lambda: children.read_text() != "", seconds=30, what="process 1")
            inner = int(children.read_text())
            wait_until(partial(_handles_signals, inner), seconds=30, what="signals handled")
            if waits == "for-readiness":
                while json.loads(outer.stdout.readline())["event"] != "policy_loaded":
                    pass
            os.kill(inner, signal.SIGTERM)
            assert outer.wait(30) == 0
            assert json.loads(outer.stdout.read().splitlines()[-1])["event"] == "stopped"
        finally:
            outer.kill()


def _handles_signals(pid: int) -> bool:
    """Return whether the process handles SIGTERM (proc(5)). Python always handles SIGINT."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_the_server_is_ready_again_on_the_same_ports_after_a_kill(site: Site) -> None:
    """The kernel keeps the closed connections for a while. The target is two seconds."""
    server = site.join()
    ports = {
        "listen": "{}:{}".format(*server.address("webhook")),
        "health": "{}:{}".format(*server.address("health")),
    }
    seconds = []
    for _ in range(3):
        with connected(server), connected(server) as connection:
            send_half(connection)
            server.process.kill()
            server.process.wait()
            start = time.monotonic()
            server = site.start(**ports)
            server.wait(partial(_is_ready, server))
            seconds.append(time.monotonic() - start)
            with pytest.raises((OSError, ssl.SSLError)):  # the half request was lost with the process
                connection.getresponse()
        with connected(server):
            pass
    LOG.info("ready again after %s s", [round(each, 2) for each in seconds])


def _is_ready(server: Server) -> bool:
    """Return ``is_ready``, or false for a server that does not listen yet."""
    try:
        return server.is_ready()
    except ConnectionError:
        return False
