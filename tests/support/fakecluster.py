"""An API server that serves lists, on a real socket in a thread of its own.

Its lists come in pages with continue tokens, as the real one's do; any answer can be scripted.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from gatekeeper_py.cli.inventory.resources import BUILT_IN

LISTS: Final = tuple(resource.path(None) for resource in BUILT_IN)
"""The paths of the audited kinds that every API server lists, in the order of the requests."""

TOKEN: Final = "secret-token"


@dataclass(frozen=True)
class Answer:
    """A scripted answer; a mapping is sent as JSON."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def status(code: int, message: str, *, token: str | None = None, reason: str = "") -> Answer:
    """Return a Status object, with a continue token as for an expired list."""
    metadata = {} if token is None else {"continue": token}
    return Answer(
        code,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        },
    )


class FakeCluster:
    """Objects by the path that lists them all, other documents by their path."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {path: [] for path in LISTS}
        self.documents: dict[str, dict[str, Any]] = {}
        self.script: defaultdict[str, deque[Answer | None]] = defaultdict(deque)
        """Answers to the next requests of a path; ``None`` means the usual answer."""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []
        """The objects that were created, each with its path. They do not appear in lists."""
        self.page_size = 500
        self.silent_at: str | None = None
        """Path whose requests are never answered."""
        self.is_silent = threading.Event()
        self.url = ""

    def add(self, path: str, *objects: dict[str, Any]) -> None:
        self.lists.setdefault(path, []).extend(objects)

    def queries(self, path: str) -> list[dict[str, str]]:
        """Return the queries of the requests for a path."""
        return [query for requested, query in self.requests if requested == path]

    @contextmanager
    def serving(self) -> Iterator[FakeCluster]:
        loop = asyncio.new_event_loop()
        started = threading.Event()
        self._ended = asyncio.Event()

        async def serve() -> None:
            app = web.Application()
            app.router.add_get("/{path:.*}", self._handle)
            app.router.add_post("/api/v1/namespaces/{namespace}/events", self._create)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await self._ended.wait()
            await runner.cleanup()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(self._ended.set)
            thread.join()
            loop.close()

    def kubeconfig(self, directory: Path, *, token: str = TOKEN, context: str = "here") -> Path:
        """Return a kubeconfig whose current context is this server."""
        path = directory / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "auditor", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "fake", "user": "auditor"}}],
        }
        path.write_text(json.dumps(document))
        return path

    async def _handle(self, request: web.Request) -> web.Response:
        path, query = request.path, dict(request.query)
        self.requests.append((path, query))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _response(status(401, "Unauthorized"))
        if path == self.silent_at:
            self.is_silent.set()
            await self._ended.wait()
        if self.script[path]:
            scripted = self.script[path].popleft()
            if scripted is not None:
                return _response(scripted)
        if path in self.documents:
            return _response(Answer(200, self.documents[path]))
        objects = self._listed(path)
        if objects is None:
            return _response(Answer(404, "404 page not found\n"))
        return _response(Answer(200, self._page(objects, query)))

    async def _create(self, request: web.Request) -> web.Response:
        self.posted.append((request.path, await request.json()))
        return web.json_response({}, status=201)

    def _listed(self, path: str) -> list[dict[str, Any]] | None:
        if path in self.lists:
            return self.lists[path]
        before, _, after = path.partition("/namespaces/")
        namespace, _, plural = after.partition("/")
        objects = self.lists.get(f"{before}/{plural}")
        if objects is None:
            return None
        return [each for each in objects if each["metadata"].get("namespace") == namespace]

    def _page(self, objects: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        start = int(query.get("continue", "0"))
        end = start + min(int(query.get("limit", self.page_size)), self.page_size)
        metadata: dict[str, Any] = {"resourceVersion": "1"}
        if end < len(objects):
            metadata |= {"continue": str(end), "remainingItemCount": len(objects) - end}
        return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": objects[start:end]}


def _response(answer: Answer) -> web.Response:
    if isinstance(answer.body, dict):
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)
    return web.Response(text=answer.body, status=answer.status, headers=answer.headers)
