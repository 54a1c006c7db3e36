"""The two requests that follow one object: a list, and a watch that continues from it.

Every wait is bounded, and every failure becomes a ``SourceError`` that tells the caller what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import Protocol

import aiohttp
from aiohttp import hdrs

from gatekeeper_py.cluster.errors import failure_of
from gatekeeper_py.sources.events import MAX_BYTES, SourceError


class HttpSession(Protocol):
    """A session with the API server; ``cluster.session.Session`` is one."""

    async def get(
        self, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time limits, in seconds."""

    connect: float = 10.0
    """For DNS, TCP, proxy and TLS. These take milliseconds, but a lost SYN is sent again after 1 and 3 s."""
    read: float = 30.0
    """Between two reads of a list. API Priority and Fairness may make a request wait in a queue first."""
    list: float = 45.0
    """For a whole list: 1 MiB at 25 KB/s."""
    silence: float = 70.0
    """The API server sends a bookmark each minute, so a watch silent for longer is dead."""
    watch: float = 300.0
    """How long a watch lasts before the server ends it, so that connections move to new servers."""


async def get_list(session: HttpSession, path: str, selector: str, timing: Timing) -> bytes:
    """Return the body of a list. Raises what ``as_source_error`` accepts."""
    limits = aiohttp.ClientTimeout(
        total=timing.list, connect=timing.connect, sock_connect=timing.connect, sock_read=timing.read
    )
    # Without a resourceVersion, the answer is the newest state, not the state of a cache that lags behind.
    response = await _get(session, path, {"fieldSelector": selector}, limits)
    body = bytearray()
    # Leaving the block returns the connection to the pool if the body was read to its end, or else closes it.
    async with response:
        while chunk := await response.content.readany():
            body += chunk
            if len(body) > MAX_BYTES:
                raise SourceError(f"a list of more than {MAX_BYTES} bytes")
    return bytes(body)


async def open_watch(
    session: HttpSession, path: str, selector: str, version: str, seconds: float, timing: Timing
) -> Watch:
    """Watch from a resource version on, for at most ``seconds``. Raises what ``as_source_error`` accepts."""
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
    return Watch(await _get(session, path, query, limits), timing.silence)


class Watch:
    """An open watch, read line by line. ``lines`` counts them."""

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self.lines = 0
        self._response = response
        self._silence = silence
        self._buffer = bytearray()

    async def line(self) -> bytes | None:
        """Return the next line, or ``None`` at a regular end. Raises what ``as_source_error`` accepts.

        The time limit is for a whole line, so a peer that sends one byte a minute counts as silent.
        """
        searched = 0
        async with asyncio.timeout(self._silence):
            # aiohttp's readline() is not used, because it refuses lines of more than 128 KiB.
            while (end := self._buffer.find(b"\n", searched)) < 0:
                searched = len(self._buffer)
                if searched > MAX_BYTES:
                    raise SourceError(f"a watch event of more than {MAX_BYTES} bytes")
                chunk = await self._response.content.readany()
                if not chunk:
                    if self._buffer:
                        raise SourceError("a watch ended within an event")
                    return None
                self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self.lines += 1
        return line

    def close(self) -> None:
        self._response.close()


async def _get(
    session: HttpSession, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
) -> aiohttp.ClientResponse:
    response = await session.get(path, query, limits)
    if response.status != HTTPStatus.OK:
        response.close()
        raise _refusal(response)
    return response


def _refusal(response: aiohttp.ClientResponse) -> SourceError:
    """Return the error for a response other than 200. The body is not quoted, as it may contain anything."""
    status = response.status
    problem = f"the API server answered {status} {responses.get(status, '')}".rstrip()
    if status == HTTPStatus.FORBIDDEN:
        problem += ": does the Role allow get, list and watch of this ConfigMap?"
    retry_after = response.headers.get(hdrs.RETRY_AFTER, "")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
    return SourceError(problem, status=status, retry_after=seconds)


def as_source_error(problem: Exception) -> SourceError:
    """Return an exception as a ``SourceError``. An unknown exception is marked ``unexpected``."""
    if isinstance(problem, SourceError):
        return problem
    failure = failure_of(problem)
    return SourceError(failure.text, reconnect=failure.reconnect, unexpected=failure.unexpected)
