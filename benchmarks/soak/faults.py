"""The faults, which are caused from outside, and checks of how the server reacts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.bodies import pod_review
from benchmarks.soak.policies import PolicyFile, VerdictProbe
from benchmarks.soak.process import SoakFailure, WatchedServer, wait

CLIENTS: Final = 20
DEADLINE_SECONDS: Final = 30.0
"""The timeout of connections. The server acts sooner, but the machine may be slow."""

RELOAD_SECONDS: Final = 15.0
"""The file is polled each second."""

ROTATION_SECONDS: Final = 40.0
"""The files are polled every ten seconds."""

BODY: Final = pod_review(size=7000)
HEAD: Final = (
    f"POST /validate-image HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode()

GARBAGE: Final = (
    b"\x16\x03\x01\xff\xff" + b"\0" * 200,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\0" * 5000,
    b"\xff" * 100,
)
BAD_REQUESTS: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    b"\x80\x81\r\n\r\n",
)


@dataclass(frozen=True, slots=True)
class World:
    """The server and the files that faults act on."""

    server: WatchedServer
    policies: PolicyFile
    probe: VerdictProbe


@contextlib.contextmanager
def _clients(world: World, count: int = CLIENTS) -> Iterator[list[ssl.SSLSocket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_connected(world)) for _ in range(count)]


def _plainly_connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)


def _connected(world: World) -> ssl.SSLSocket:
    plain = _plainly_connected(world.server.port)
    try:
        return world.server.certificate.trust().wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


def _until_closed(connection: socket.socket) -> bytes:
    """Return the input until the server ends the connection. Raises ``SoakFailure`` if it does not."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except TimeoutError:
        raise SoakFailure(f"a connection was not ended in {DEADLINE_SECONDS:.0f} s") from None
    except (ConnectionError, ssl.SSLError):
        pass
    return received


def slow_headers(world: World) -> None:
    """Send a byte of the header every tenth of a second for five seconds, and never all of it."""
    with _clients(world) as clients:
        end = time.monotonic() + 5
        for number in range(len(HEAD) - 2):
            for client in clients:
                with contextlib.suppress(ConnectionError, ssl.SSLError):  # the server may close it
                    client.sendall(HEAD[number : number + 1])
            if time.monotonic() > end:
                break
            time.sleep(0.1)  # the fault is the slowness


def slow_bodies(world: World) -> None:
    """Send half a body and then nothing. The answer must be 408, and the connection must be closed."""
    with _clients(world) as clients:
        for client in clients:
            client.sendall(HEAD + BODY[:2000])
        for client in clients:
            answer = _until_closed(client)
            if not answer.startswith(b"HTTP/1.1 408 "):
                raise SoakFailure(f"half a body got {answer[:100]!r}")


def half_bodies_then_reset(world: World) -> None:
    """Send half a body, then reset the connection."""
    for _ in range(3):
        with _clients(world) as clients:
            for client in clients:
                client.sendall(HEAD + BODY[:3000])
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent_handshakes(world: World) -> None:
    """Open connections and send nothing. The server must close them after the handshake's five seconds."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(_plainly_connected(world.server.port)) for _ in range(3 * CLIENTS)]
        for connection in silent:
            _until_closed(connection)


def garbage(world: World) -> None:
    """Send bytes that are not TLS, and requests that are not HTTP, to both ports."""
    for _ in range(5):
        for content in GARBAGE:
            with _plainly_connected(world.server.port) as plain, contextlib.suppress(ConnectionError):
                plain.sendall(content)
        for content in BAD_REQUESTS:
            with _connected(world) as client:
                client.sendall(content)
                _check_refusal(content, _until_closed(client))
            with _plainly_connected(world.server.health_port) as plain:
                plain.sendall(content)
                _check_refusal(content, _until_closed(plain))


def _check_refusal(content: bytes, answer: bytes) -> None:
    if answer and b" 400 " not in answer.partition(b"\r\n")[0]:
        raise SoakFailure(f"{content[:40]!r} got {answer[:100]!r}")


def policy_reloads(world: World) -> None:
    """Change the verdict on one image back and forth. A bad document in between must change nothing."""
    for number in range(3):
        if number == 1:
            refused = world.server.metrics().sum("policy_reloads_total", 'result="refused"')
            world.policies.spoil()

            def was_refused(before: float = refused) -> bool:
                return world.server.metrics().sum("policy_reloads_total", 'result="refused"') > before

            wait(was_refused, RELOAD_SECONDS, "refusal of a bad policy")
        world.policies.toggle()
        wait(
            lambda: world.probe.seen == world.policies.revision or not world.probe.is_alive(),
            RELOAD_SECONDS,
            "answer by the new policy",
        )


def certificate_rotation(world: World) -> None:
    """Write a wrong key, then another key pair. New connections must get it, and old ones must stay."""
    files = world.server.certificate
    files.spoil()
    time.sleep(0.5)  # a poll may fall in between, or not
    files.rotate()

    def served() -> bool:
        with _connected(world) as client:
            certificate = client.getpeercert()
        return certificate is not None and int(str(certificate["serialNumber"]), 16) == files.serial

    wait(served, ROTATION_SECONDS, "connection with the new certificate")
    wait(lambda: world.server.health("/readyz")[0] == 200, ROTATION_SECONDS, "readiness after a rotation")


def held_log(world: World) -> None:
    """Do not read the log for some seconds. Afterwards all lines must be there (counted at the end)."""
    with world.server.log_held():
        threading.Event().wait(6)


FAULTS: Final[tuple[Callable[[World], None], ...]] = (
    slow_headers,
    policy_reloads,
    slow_bodies,
    half_bodies_then_reset,
    held_log,
    silent_handshakes,
    garbage,
    certificate_rotation,
)
