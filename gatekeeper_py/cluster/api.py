"""The JSON client for the API server: read, list, create, replace and delete."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import aiohttp
import orjson
from aiohttp import hdrs

from gatekeeper_py.cluster.errors import ApiError, failure_of
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.core.images.reference import escape

OBJECT_TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0, connect=10.0, sock_connect=10.0, sock_read=20.0)

LIST_TIMEOUT: Final = aiohttp.ClientTimeout(total=120.0, connect=10.0, sock_connect=10.0, sock_read=70.0)
"""Time limits for pages of large lists. A page of 500 Pods has some MiB; the total of 120 s allows for slow
links. With API Priority and Fairness, up to a minute may pass before the first byte arrives."""

MAX_PAUSE_SECONDS: Final = 30.0
"""Longest pause before a retry, even when the server asks for a longer one."""

MAX_MESSAGE: Final = 400

_BROKEN: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class KubernetesApi(Protocol):
    """The requests to an API server that the product needs. ``ApiClient`` implements it."""

    async def get(self, path: str) -> dict[str, Any] | None: ...

    async def text(self, path: str) -> str: ...

    async def create(self, path: str, document: dict[str, Any]) -> None: ...

    async def post(self, path: str, document: dict[str, Any]) -> None: ...

    async def replace(self, path: str, document: dict[str, Any]) -> None: ...

    async def delete(self, path: str) -> None: ...


class ApiClient:
    """JSON requests over one session. Every method raises ``ApiError``.

    ``connect`` makes a session; it is called again after a 401 or a TLS failure, since tokens and
    certificates are rotated. ``field_manager`` names the writer in ``managedFields``. ``tries`` is how
    often a request is sent when the server answers 429 or 5xx with ``Retry-After``.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Session]],
        *,
        field_manager: str = "gatekeeper-py",
        timeout: aiohttp.ClientTimeout = OBJECT_TIMEOUT,
        tries: int = 1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self._field_manager = field_manager
        self._creator = f"{field_manager}-{secrets.token_hex(4)}"
        self._timeout = timeout
        self._tries = tries
        self._sleep = sleep
        self._session: Session | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> None:
        """Connect now, to learn at start whether the configuration is usable.

        Raises ``SettingsError``.
        """
        await self._connected()

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return an object or a list."""
        return await self._json("GET", path, query)

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return an object or a list, or ``None`` when it does not exist."""
        try:
            return await self.read(path)
        except ApiError as problem:
            if problem.absent:
                return None
            raise

    async def text(self, path: str) -> str:
        """Return the response body as text, for instance from a Pod through ``pods/proxy``."""
        response = await self._send("GET", path, {}, None, "application/json", self._timeout)
        try:
            return (await response.read()).decode(errors="replace")
        except _BROKEN as problem:
            raise ApiError("GET", path, 0, failure_of(problem).text) from None
        finally:
            response.release()

    async def create(self, path: str, document: dict[str, Any]) -> None:
        """Create an object. Raises a conflict (409) if somebody else created a different one meanwhile.

        The request is a server-side apply, because RBAC can limit the permission for it to one name. It is
        not forced, and each process has its own field manager. So it never takes over a field of another
        writer.
        """
        query = {"fieldManager": self._creator, "force": "false"}
        await self._json("PATCH", path, query, document, content_type="application/apply-patch+yaml")

    async def post(self, path: str, document: dict[str, Any]) -> None:
        """Add an object to a collection."""
        await self._json("POST", path, {"fieldManager": self._field_manager}, document)

    async def replace(self, path: str, document: dict[str, Any]) -> None:
        """Replace the whole object. Raises a conflict (409) if the resource version is not current."""
        await self._json("PUT", path, {"fieldManager": self._field_manager}, document)

    async def delete(self, path: str) -> None:
        """Delete an object; no error when it does not exist."""
        try:
            await self._json("DELETE", path)
        except ApiError as problem:
            if not problem.absent:
                raise

    async def close(self) -> None:
        """Close the session; the next request makes a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        document: dict[str, Any] | None = None,
        *,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        body = None if document is None else orjson.dumps(document)
        response = await self._send(method, path, query or {}, body, content_type, self._timeout)
        try:
            answer = orjson.loads(await response.read())
        except orjson.JSONDecodeError:
            answer = None
        except _BROKEN as problem:
            raise ApiError(method, path, 0, failure_of(problem).text) from None
        finally:
            response.release()
        if not isinstance(answer, dict):
            message = "the answer is not a JSON object; is this an API server?"
            raise ApiError(method, path, 0, message)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """Return a successful response whose body is still to be read."""
        tries = 1
        while True:
            try:
                session = await self._connected()
                response = await session.request(
                    method, path, query, limits, body=body, content_type=content_type
                )
            except _BROKEN as problem:
                failure = failure_of(problem)
                if failure.reconnect:
                    await self.close()
                raise ApiError(method, path, 0, failure.text[:MAX_MESSAGE]) from None
            if response.status < HTTPStatus.MULTIPLE_CHOICES:
                return response
            refusal = await _refusal(method, path, response)
            response.release()
            if response.status == HTTPStatus.UNAUTHORIZED:
                await self.close()
            pause = _pause(response)
            if pause is None or tries >= self._tries:
                raise refusal
            tries += 1
            await self._sleep(pause)

    async def _connected(self) -> Session:
        async with self._connecting:
            if self._session is None:
                self._session = await self._connect()
            return self._session


def _pause(response: aiohttp.ClientResponse) -> float | None:
    """Return the seconds to wait before a retry, by client-go's rules; ``None`` for no retry."""
    status = response.status
    if status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    seconds = response.headers.get(hdrs.RETRY_AFTER, "")
    if not seconds.isascii() or not seconds.isdecimal():
        return None
    return min(float(seconds), MAX_PAUSE_SECONDS)


async def _refusal(method: str, path: str, response: aiohttp.ClientResponse) -> ApiError:
    """Return the error that the Status object in a response describes."""
    try:
        document = orjson.loads(await response.read())
    except (*_BROKEN, orjson.JSONDecodeError):
        document = None
    status = document if isinstance(document, dict) else {}
    message, reason = status.get("message"), status.get("reason")
    if response.status == HTTPStatus.UNAUTHORIZED:
        message = "the credentials are not accepted"
    return ApiError(
        method,
        path,
        response.status,
        escape(message, MAX_MESSAGE) if isinstance(message, str) else "",
        reason=reason if isinstance(reason, str) else "",
        continue_token=continue_token(status),
        document=status,
    )


async def listed(
    read: Callable[[str, Mapping[str, str]], Awaitable[dict[str, Any]]], path: str, query: Mapping[str, str]
) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a list, page by page. ``read`` reads a page."""
    token = ""
    while True:
        page = await read(path, {**query, "continue": token} if token else query)
        for item in page.get("items") or ():
            if isinstance(item, dict):
                yield item
        token = continue_token(page)
        if not token:
            return


def continue_token(document: Mapping[str, Any]) -> str:
    """Return the token for the rest of a list; empty at its end."""
    metadata = document.get("metadata")
    token = metadata.get("continue") if isinstance(metadata, dict) else None
    return token if isinstance(token, str) else ""
