"""The two requests that follow one object: a list, and a watch from where the list ended.

Every wait in them has a bound, and every way to fail has a ``Trouble`` that says what to do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import Protocol

import aiohttp
from aiohttp import hdrs

from gatekeeper_py.settings import SettingsError
from gatekeeper_py.sources.events import MAX_BYTES, Trouble


class Connects(Protocol):
    """A session with the API server; ``cluster.Connection`` is one."""

    async def get(
        self, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds that the event loop measures."""

    connect: float = 10.0
    """Name, TCP, proxy and TLS: milliseconds in a cluster, but a lost SYN comes again after 1 and 3 s."""
    read: float = 30.0
    """Between two reads of a list. Under priority and fairness a request may wait in a queue."""
    list: float = 45.0
    """A whole list: 1 MiB at 25 KB/s."""
    silence: float = 70.0
    """The API server sends a bookmark each minute, so a watch silent for longer is dead."""
    watch: float = 300.0
    """After which the server is asked to end a watch, so that connections move to new servers."""


async def get_list(connection: Connects, path: str, selector: str, timing: Timing) -> bytes:
    """Body of a list. Raises what ``as_trouble`` takes."""
    limits = aiohttp.ClientTimeout(
        total=timing.list, connect=timing.connect, sock_connect=timing.connect, sock_read=timing.read
    )
    # No resourceVersion: the answer is the newest state, never that of a cache that lags behind.
    response = await _get(connection, path, {"fieldSelector": selector}, limits)
    body = bytearray()
    # Leaving the block gives a connection back that was read to its end, and closes another.
    async with response:
        while chunk := await response.content.readany():
            body += chunk
            if len(body) > MAX_BYTES:
                raise Trouble(f"a list of more than {MAX_BYTES} bytes")
    return bytes(body)


async def open_watch(
    connection: Connects, path: str, selector: str, version: str, seconds: float, timing: Timing
) -> Watch:
    """Watch from a version on, for at most so many seconds. Raises what ``as_trouble`` takes."""
    query = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "fieldSelector": selector,
        "resourceVersion": version,
        "timeoutSeconds": str(max(round(seconds), 1)),
    }
    limits = aiohttp.ClientTimeout(
        total=None, connect=timing.connect, sock_connect=timing.connect, sock_read=timing.silence
    )
    return Watch(await _get(connection, path, query, limits), timing.silence)


class Watch:
    """An open watch: its lines, whatever chunks they come in. ``lines`` counts them."""

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self.lines = 0
        self._response = response
        self._silence = silence
        self._buffer = bytearray()

    async def line(self) -> bytes | None:
        """The next line; ``None`` at a regular end. Raises what ``as_trouble`` takes.

        The bound is on the time to a whole line: a peer that sends a byte a minute is silent.
        """
        searched = 0
        async with asyncio.timeout(self._silence):
            # Not aiohttp's readline(): it refuses a line of more than 128 KiB.
            while (end := self._buffer.find(b"\n", searched)) < 0:
                searched = len(self._buffer)
                if searched > MAX_BYTES:
                    raise Trouble(f"a watch event of more than {MAX_BYTES} bytes")
                chunk = await self._response.content.readany()
                if not chunk:
                    if self._buffer:
                        raise Trouble("a watch ended within an event")
                    return None
                self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self.lines += 1
        return line

    def close(self) -> None:
        self._response.close()


async def _get(
    connection: Connects, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
) -> aiohttp.ClientResponse:
    response = await connection.get(path, query, limits)
    if response.status != HTTPStatus.OK:
        response.close()
        raise _refusal(response)
    return response


def _refusal(response: aiohttp.ClientResponse) -> Trouble:
    """What an answer other than 200 means. Its body is not shown: it may hold anything."""
    status = response.status
    problem = f"the API server answered {status} {responses.get(status, '')}".rstrip()
    if status == HTTPStatus.FORBIDDEN:
        problem += ": does the Role allow get, list and watch of this ConfigMap?"
    retry_after = response.headers.get(hdrs.RETRY_AFTER, "")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
    return Trouble(problem, status=status, retry_after=seconds)


def as_trouble(problem: Exception) -> Trouble:
    """What an exception means for the source. An unknown one is marked ``unexpected``."""
    if isinstance(problem, Trouble):
        return problem
    if isinstance(problem, SettingsError):
        return Trouble(str(problem), reconnect=True)
    if isinstance(problem, TimeoutError):
        # aiohttp's timeouts, too. The one for connecting is told apart by its type.
        connecting = isinstance(problem, aiohttp.ConnectionTimeoutError)
        return Trouble("no connection in time" if connecting else "no answer in time: the peer is silent")
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        # A rotated authority or server certificate: both are read again for a new connection.
        certificate = problem.certificate_error
        reason = getattr(certificate, "verify_message", "") or type(certificate).__name__
        return Trouble(f"certificate of {problem.host}:{problem.port}: {reason}", reconnect=True)
    if isinstance(problem, aiohttp.ClientConnectorError):
        reason = problem.os_error.strerror or type(problem.os_error).__name__
        text = f"cannot connect to {problem.host}:{problem.port}: {reason}"
        return Trouble(text, reconnect=_is_tls(problem))
    if isinstance(problem, aiohttp.ClientHttpProxyError):
        # Not the text of the error, which holds the URL.
        return Trouble(f"the proxy answered {problem.status}")
    if isinstance(problem, aiohttp.ClientError | OSError):
        return Trouble(f"connection lost: {type(problem).__name__}", reconnect=_is_tls(problem))
    return Trouble(f"unexpected {type(problem).__name__}", unexpected=True)


def _is_tls(problem: BaseException) -> bool:
    """Whether TLS failed, as when the server takes our certificate no longer (told after the handshake)."""
    return any(isinstance(each, ssl.SSLError) for each in (problem, problem.__cause__, problem.__context__))
