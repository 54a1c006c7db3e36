"""GET requests to an API server: a JSON object, or an error that says what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from http.client import responses
from typing import Any, Final, Protocol

import aiohttp
import orjson
from aiohttp import hdrs

from gatekeeper_py.core.images.reference import escape

LIMITS: Final = aiohttp.ClientTimeout(total=120.0, connect=10.0, sock_connect=10.0, sock_read=70.0)
"""A page of 500 Pods has some MiB, so 120 s are for slow links. Under priority and fairness a
request may wait in a queue, for at most a minute, before the first byte comes."""

MAX_TRIES: Final = 5
MAX_PAUSE_SECONDS: Final = 30.0
"""A server that asks for a longer pause is not waited for any longer."""

MAX_MESSAGE: Final = 400


class Client(Protocol):
    """A session with an API server."""

    async def get(
        self, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse: ...


class ClusterError(Exception):
    """The API server's answer cannot be used; the message is one line and names the request."""


class NotFound(ClusterError):
    """There is no such object, kind or group."""


class Expired(ClusterError):
    """A list's continue token is too old. ``token`` goes on with the list as it is now, if given."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self.token = token


class Api:
    """Asks one API server; waits as it is told to when the server is overloaded."""

    def __init__(self, client: Client, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._client = client
        self._sleep = sleep

    async def get(self, path: str, query: Mapping[str, str], *, doing: str) -> dict[str, Any]:
        """The object at a path; ``doing`` names the request in errors, e.g. ``list pods``.

        Raises ``ClusterError`` for an answer that is none, and what the client raises.
        """
        tries = 1
        while True:
            async with await self._client.get(path, query, LIMITS) as response:
                body = await response.read()
            pause = _pause(response)
            if pause is None or tries == MAX_TRIES:
                return _object(response.status, body, doing)
            tries += 1
            await self._sleep(pause)


def _pause(response: aiohttp.ClientResponse) -> float | None:
    """Seconds until the same may be asked again, by the rule of client-go; ``None`` for never."""
    status = response.status
    if status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    seconds = response.headers.get(hdrs.RETRY_AFTER, "")
    if not seconds.isascii() or not seconds.isdecimal():
        return None
    return min(float(seconds), MAX_PAUSE_SECONDS)


def _object(status: int, body: bytes, doing: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if status == HTTPStatus.OK:
        if not isinstance(document, dict):
            raise ClusterError(f"cannot {doing}: the answer is no JSON object; is this an API server?")
        return document
    said = document if isinstance(document, dict) else {}
    problem = f"cannot {doing}: {status} {responses.get(status, '')}".rstrip()
    message = said.get("message")
    if status == HTTPStatus.UNAUTHORIZED:
        problem += ": the credentials are not accepted"
    elif isinstance(message, str) and message:
        problem += f": {escape(message, MAX_MESSAGE)}"
    if status == HTTPStatus.NOT_FOUND:
        raise NotFound(problem)
    if status == HTTPStatus.GONE:
        raise Expired(problem, continue_token(said))
    raise ClusterError(problem)


def continue_token(document: Mapping[str, Any]) -> str:
    """What asks for the rest of a list; empty at its end."""
    metadata = document.get("metadata")
    token = metadata.get("continue") if isinstance(metadata, dict) else None
    return token if isinstance(token, str) else ""
