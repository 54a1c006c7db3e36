"""A registry that only answers HEAD and GET of manifests, as a process of its own.

``python -m benchmarks.load.registry CERTIFICATE KEY`` listens with TLS on a port for each way to behave
(``SERVICES``), and writes the ports as a line of JSON. Repositories below ``absent/`` do not exist, all
others do. ``SIGNED`` describes an image with a bundle. Its private key was not kept. ``GET /asked`` returns
how many other requests came to all ports so far.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from benchmarks.load.certificates import Certificate
from benchmarks.load.processes import Place

FAST: Final = "@fast@"
SLOW: Final = "@slow@"
HANGING: Final = "@hanging@"
DOWN: Final = "@down@"
SERVICES: Final = (FAST, SLOW, HANGING, DOWN)
"""Placeholders for hosts in policies and images. In this order, the registry answers at once, answers after
``SLOW_SECONDS``, never answers, and refuses connections."""

SIGNED: Final[dict[str, Any]] = json.loads(
    Path(__file__).with_name("signed.json").read_text(encoding="utf-8")
)
"""The ``image`` without its host, the public ``key``, and the ``contents`` of its repository by path."""

SLOW_SECONDS: Final = 0.2

_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"
_TYPE: Final = b"Content-Type: application/vnd.oci.image.index.v1+json\r\n"
_FOUND: Final = _OK % 1609 + _TYPE + b"Docker-Content-Digest: sha256:" + b"ab" * 32 + b"\r\n\r\n"
"""The answer to HEAD, so without a body. No client sends GET for a manifest."""

_ABSENT: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class ScriptedRegistry:
    """The registry as a process. Its hosts are ``localhost:PORT``; the certificate is for ``localhost``."""

    def __init__(self, certificate: Certificate, place: Place) -> None:
        self._certificate = certificate
        files = str(certificate.chain), str(certificate.key)
        command = place.command([sys.executable, "-m", __name__, *files])
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.end()
            raise RuntimeError("the registry did not start")
        self._hosts = {service: f"localhost:{port}" for service, port in json.loads(line).items()}

    def named(self, text: str) -> str:
        """Return a text in which hosts replace the placeholders of ``SERVICES``."""
        for service, host in self._hosts.items():
            text = text.replace(service, host)
        return text

    def request_count(self) -> int:
        """Return how many requests for manifests it has received."""
        with urlopen(f"https://{self._hosts[FAST]}/asked", context=self._certificate.trust()) as answer:
            return int(answer.read())

    def end(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.communicate()


class _Connection(asyncio.Protocol):
    """A connection of one client, which sends each request after the answer to the previous one.

    ``requests`` collects the requested paths of all ports.
    """

    def __init__(self, service: str, requests: list[bytes]) -> None:
        self._service = service
        self._requests = requests
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head.split(b" ", 2)[1])

    def _answer(self, path: bytes) -> None:
        content = b"%d" % len(self._requests)
        if path != b"/asked":
            self._requests.append(path)
            content = SIGNED["contents"].get(path.decode().partition("/signed/")[2], "").encode()
        answer = _OK % len(content) + b"\r\n" + content
        if not content:
            answer = _ABSENT if path.startswith(b"/v2/absent/") or path.endswith(b".sig") else _FOUND
        if self._service == FAST:
            self._transport.write(answer)
        elif self._service == SLOW:
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._transport.write, answer)


async def _serve(certificate: Path, key: Path) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # The socket is bound but does not listen: it refuses connections, and no other process can take the port.
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    requests: list[bytes] = []
    ports = {DOWN: refusing.getsockname()[1]}
    for service in SERVICES:
        if service != DOWN:
            protocol = partial(_Connection, service, requests)
            server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=context)
            ports[service] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    with refusing:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
