"""An API server that holds one ConfigMap, on a real socket; any request can be answered by a script."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson
from aiohttp import web

from support.wire import DEADLINE_SECONDS

Script = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

NAMESPACE: Final = "gatekeeper"
NAME: Final = "policy"
TOKEN: Final = "the-secret-token"


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A received request. ``verb`` is ``list`` or ``watch``."""

    verb: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]


class FakeApi:
    """An API server that lists and watches. A watch replays the events after its version.

    Scripts in ``lists`` and ``watches`` answer the next requests instead, one request each. The scripts in
    ``always``, by verb, answer all requests without another script.
    """

    def __init__(self, context: ssl.SSLContext | None = None, token: str | None = TOKEN) -> None:
        self.requests: list[ApiRequest] = []
        self.lists: deque[Script] = deque()
        self.watches: deque[Script] = deque()
        self.always: dict[str, Script] = {}
        self.after_list: Callable[[], None] = lambda: None
        self.context = context
        self.token = token
        self.port = 0
        self.version = 100
        self.open = 0
        self.object: dict[str, Any] | None = None
        self._history: list[tuple[int, bytes]] = []
        self._streams: set[asyncio.Queue[bytes | None]] = set()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on any port; after a stop, listen on the same port again."""
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.end_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"{'http' if self.context is None else 'https'}://127.0.0.1:{self.port}"

    def count(self, verb: str) -> int:
        """Return the number of requests with a verb so far."""
        return sum(each.verb == verb for each in self.requests)

    def last(self, verb: str) -> ApiRequest:
        return [each for each in self.requests if each.verb == verb][-1]

    @property
    def watching(self) -> int:
        """Return the number of open watches."""
        return len(self._streams)

    def apply(
        self, text: str | None, mode: str | None = None, *, keys: Mapping[str, str] = {}, **metadata: Any
    ) -> None:
        """Create or update the ConfigMap, with other keys if given, and send the event to the watches."""
        data = {key: value for key, value in (("policy.yaml", text), ("mode", mode)) if value is not None}
        data.update(keys)
        kind = "ADDED" if self.object is None else "MODIFIED"
        self.version += 1
        self.object = configmap(data, self.version, **metadata)
        self._tell(event(kind, self.object))

    def delete(self) -> None:
        """Delete the ConfigMap, and send the event to the watches."""
        assert self.object is not None
        self.version += 1
        gone, self.object = self.object, None
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell(event("DELETED", gone))

    def bookmark(self) -> None:
        """Send bookmarks to the watches, as after a change of another object."""
        self.version += 1
        self._send(bookmark(self.version))

    def end_watches(self) -> None:
        """End every open watch as the server does after ``timeoutSeconds``."""
        for stream in tuple(self._streams):
            stream.put_nowait(None)

    def write_kubeconfig(self, path: Path, **cluster: Any) -> Path:
        """Write a kubeconfig for this server. ``cluster`` has additional fields of the cluster entry."""
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url, **cluster}}],
            "users": [{"name": "fake", "user": {"token": self.token}}],
        }
        path.write_bytes(orjson.dumps(kubeconfig))
        return path

    def _tell(self, line: bytes) -> None:
        self._history.append((self.version, line))
        self._send(line)

    def _send(self, line: bytes) -> None:
        for stream in self._streams:
            stream.put_nowait(line)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        verb = "watch" if request.query.get("watch") else "list"
        self.requests.append(ApiRequest(verb, request.path, dict(request.query), request.headers.copy()))
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, body=b"who are you?")
        scripts = self.lists if verb == "list" else self.watches
        default = self._list if verb == "list" else self._watch
        script = scripts.popleft() if scripts else self.always.get(verb, default)
        self.open += 1
        try:
            return await script(request)
        finally:
            self.open -= 1

    async def _list(self, _request: web.BaseRequest) -> web.StreamResponse:
        items = [] if self.object is None else [self.object]
        body = listed(items, self.version)
        self.after_list()
        return web.Response(body=body, content_type="application/json")

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        since = int(request.query["resourceVersion"])
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        for version, line in self._history:
            if version > since:
                stream.put_nowait(line)
        self._streams.add(stream)
        try:
            while (line_of_stream := await stream.get()) is not None:
                await response.write(line_of_stream)
        finally:
            self._streams.discard(stream)
        return response


def configmap(data: Mapping[str, str], version: int, **metadata: Any) -> dict[str, Any]:
    """Return a ConfigMap as the API server sends it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl"}],
            **metadata,
        },
        "data": dict(data),
    }


def listed(items: list[dict[str, Any]], version: int) -> bytes:
    """Return a ConfigMapList."""
    return orjson.dumps(
        {
            "kind": "ConfigMapList",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(version)},
            "items": items,
        }
    )


def event(kind: str, item: Any) -> bytes:
    """Return a line of a watch."""
    return orjson.dumps({"type": kind, "object": item}) + b"\n"


def bookmark(version: int) -> bytes:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return event("BOOKMARK", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata})


def error(code: int, reason: str) -> bytes:
    """Return an ERROR event with a Status object."""
    return event("ERROR", {"kind": "Status", "code": code, "reason": reason, "message": f"{TOKEN} leaks"})


def answer(status: int, body: bytes = b"", **headers: str) -> Script:
    """Return a script for a simple answer. Underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=named)

    return script


def stream(*chunks: bytes, then: str = "end", at_end: Callable[[], None] = lambda: None) -> Script:
    """Return a script that sends chunks with status 200, and then does ``end``, ``hang`` or ``abort``."""

    async def script(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if then == "hang":
            await asyncio.Event().wait()
        at_end()
        if then == "abort" and request.transport is not None:
            request.transport.abort()
        return response

    return script


def drip(seconds: float) -> Script:
    """Send single bytes with pauses, and never a complete line."""

    async def script(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(seconds)

    return script


async def hang(_request: web.BaseRequest) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def close(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def until(condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.002)
