"""Objects of the API server as JSON: get, create, replace, delete, and a watch that only says "changed"."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import aiohttp
import orjson

TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0, connect=10.0, sock_connect=10.0, sock_read=20.0)

WATCH_SECONDS: Final = 300
SILENCE_SECONDS: Final = 70.0
"""The API server sends a bookmark each minute, so a watch silent for longer is dead."""

MAX_MESSAGE: Final = 300


class ApiError(Exception):
    """The API server refused a request, or could not be reached (``status`` 0)."""

    def __init__(self, method: str, path: str, status: int, message: str, *, absent: bool = False) -> None:
        super().__init__(f"{method} {path}: {f'{status} ' if status else ''}{message}")
        self.status = status
        self.absent = absent
        """Whether the API server itself said that the object does not exist; a proxy's 404 does not."""


class Connects(Protocol):
    """A session with the API server; ``client.Connection`` is one."""

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse: ...

    async def close(self) -> None: ...


class Api:
    """JSON requests over one session, which is made anew after a 401 or a certificate that changed.

    ``field_manager`` names the writer in ``managedFields``. Every method raises ``ApiError``.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connects]], *, field_manager: str) -> None:
        self._connect = connect
        self._field_manager = field_manager
        self._creator = f"{field_manager}-{secrets.token_hex(4)}"
        self._connection: Connects | None = None

    async def get(self, path: str) -> dict[str, Any] | None:
        """An object or a list; ``None`` when it does not exist."""
        found: dict[str, Any] | None = await self._json("GET", path, may_be_absent=True)
        return found

    async def create(self, path: str, document: dict[str, Any]) -> None:
        """Make an object; a conflict when another made it meanwhile, unless it is just the same.

        It is a server-side apply, whose permission can be bound to a name. Without force, and by a
        manager of its own in each process, it takes no field from whoever was first.
        """
        query = {"fieldManager": self._creator, "force": "false"}
        await self._json("PATCH", path, query, document, content_type="application/apply-patch+yaml")

    async def replace(self, path: str, document: dict[str, Any]) -> None:
        """PUT the whole object; a conflict when its resource version is not the live one."""
        await self._json("PUT", path, {"fieldManager": self._field_manager}, document)

    async def delete(self, path: str) -> None:
        """Delete; no error when it does not exist."""
        await self._json("DELETE", path, may_be_absent=True)

    async def changes(self, path: str, name: str) -> AsyncGenerator[None, None]:
        """Yield at each change of one object of a collection, until the watch ends.

        Only a hint that something changed: whoever is told looks for himself.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        limits = aiohttp.ClientTimeout(total=None, connect=10.0, sock_connect=10.0, sock_read=SILENCE_SECONDS)
        response = await self._send("GET", path, query, None, "application/json", limits)
        try:
            async for chunk in response.content.iter_any():
                if not chunk.startswith(b'{"type":"BOOKMARK"') or chunk.count(b"\n") > 1:
                    yield
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            raise ApiError("GET", path, 0, type(problem).__name__) from None
        finally:
            response.close()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        document: dict[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        may_be_absent: bool = False,
    ) -> Any:
        body = None if document is None else orjson.dumps(document)
        try:
            response = await self._send(method, path, query or {}, body, content_type, TIMEOUT)
        except ApiError as problem:
            if problem.absent and may_be_absent:
                return None
            raise
        try:
            return orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as problem:
            raise ApiError(method, path, 0, type(problem).__name__) from None
        finally:
            response.release()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """A successful response whose body is still to be read."""
        try:
            if self._connection is None:
                self._connection = await self._connect()
            response = await self._connection.request(
                method, path, query, limits, body=body, content_type=content_type
            )
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as problem:
            await self.close()
            raise ApiError(method, path, 0, f"certificate: {problem}"[:MAX_MESSAGE]) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
            raise ApiError(method, path, 0, f"{type(problem).__name__}: {problem}"[:MAX_MESSAGE]) from None
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            return response
        message, reason = await _refusal(response)
        response.release()
        if response.status == HTTPStatus.UNAUTHORIZED:
            await self.close()
        absent = response.status == HTTPStatus.NOT_FOUND and reason == "NotFound"
        raise ApiError(method, path, response.status, message, absent=absent)


async def _refusal(response: aiohttp.ClientResponse) -> tuple[str, str]:
    """Message and reason of the Status that the API server sends with an error."""
    try:
        document = orjson.loads(await response.read())
        return str(document["message"])[:MAX_MESSAGE], str(document.get("reason", ""))
    except (
        aiohttp.ClientError,
        OSError,
        TimeoutError,
        orjson.JSONDecodeError,
        LookupError,
        TypeError,
        AttributeError,
    ):
        return response.reason or "error", ""
