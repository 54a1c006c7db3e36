"""HTTP by hand: requests as bytes, so that tests can send what no client library sends."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from support.documented import check_status

DEADLINE_SECONDS: Final = 20.0
"""Deadline for conditions that must become true; reaching it is a failure."""

JSON_TYPE: Final = ("Content-Type", "application/json")


@dataclass(frozen=True)
class Answer:
    """A response. The names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str = "HTTP/1.1"

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        """Return whether the response announces the end of the connection; HTTP/1.0 implies it."""
        default = "close" if self.version == "HTTP/1.0" else "keep-alive"
        return self.headers.get("connection", default).lower() == "close"


def request(
    body: bytes = b"",
    *,
    path: str = "/validate-image",
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (JSON_TYPE,),
    length: int | None = None,
) -> bytes:
    """Return a request with a Content-Length; the default is that of the body."""
    size = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(chunks: Iterable[bytes], *, path: str = "/validate-image") -> bytes:
    """Return a request with a chunked body, without the last empty chunk."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


class Connection:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls, host: str, port: int, context: ssl.SSLContext | None = None, *, source: str | None = None
    ) -> Connection:
        """Connect, with TLS if there is a context, and from the address ``source`` if there is one."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            name = "localhost" if context is not None else None
            local = None if source is None else (source, 0)
            return cls(
                *await asyncio.open_connection(
                    host, port, ssl=context, server_hostname=name, local_addr=local
                )
            )

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.writer.drain()

    async def receive(self, *, head: bool = False) -> Answer:
        """Read one response. With ``head``, the response to a HEAD request, which has no body."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines[1:] if line)
            headers = {name.lower(): value for name, value in fields.items()}
            length = 0 if head else int(headers.get("content-length", "0"))
            body = await self._reader.readexactly(length)
        version, status = lines[0].split()[:2]
        check_status(int(status))
        return Answer(int(status), headers, body, version)

    async def ask(self, content: bytes) -> Answer:
        await self.send(content)
        return await self.receive()

    async def ended(self) -> bool:
        """Return whether the server ends the connection without sending more."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await self._reader.read() == b""
            except (ConnectionError, ssl.SSLError):
                return True

    def abort(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is nothing that would set an event
            await asyncio.sleep(0.01)
