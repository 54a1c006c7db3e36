"""A registry with scripted answers that records its requests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

OCI = "application/vnd.oci.image.manifest.v1+json"
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64

Answer = web.StreamResponse | Callable[[web.BaseRequest], web.StreamResponse | Awaitable[web.StreamResponse]]


def found(digest: str = DIGEST) -> web.Response:
    return web.Response(headers={"Docker-Content-Digest": digest, "Content-Type": OCI})


def status(code: int, **headers: str) -> web.Response:
    return web.Response(
        status=code, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def challenge(value: str) -> web.Response:
    return status(401, WWW_Authenticate=value)


@dataclass
class Scripted:
    """A registry with scripted answers.

    ``answers`` maps ``METHOD path`` to a sequence of answers; the last answer is repeated. A GET without an
    entry gets the answer of HEAD. ``requests`` holds every request as
    ``(method, path with query, Authorization)``.
    """

    host: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def on(self, request: str, *answers: Answer) -> None:
        self.answers[request] = list(answers)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, request.headers.get("Authorization", "")))
        queue = self.answers.get(f"{request.method} {request.path}") or self.answers.get(
            f"HEAD {request.path}"
        )
        if not queue:
            return status(404)
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, web.StreamResponse):
            # aiohttp can send a response object only once.
            headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
            body = answer.body if isinstance(answer, web.Response) else None
            return web.Response(status=answer.status, headers=headers, body=body)
        made = answer(request)
        return await made if isinstance(made, Awaitable) else made

    @property
    def request_lines(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.requests]


@asynccontextmanager
async def scripted(context: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    registry = Scripted()
    runner = web.ServerRunner(web.Server(registry.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    registry.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(reply: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Run a server that reads a request and then calls ``reply``; yield its host."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reply(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
