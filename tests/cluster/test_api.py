"""Requests to an API server on a socket: their content, and the meaning of each answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.cluster.session import Session
from support.apisession import session_with


class Server:
    """A server with scripted answers that records its requests."""

    def __init__(self) -> None:
        self.status = 200
        self.chunks: list[bytes] = [b"{}"]
        self.cut = False
        self.requests: list[tuple[str, str, dict[str, str], str, bytes]] = []
        self.url = ""
        self.connections = 0
        self.refusal: Exception | None = None

    async def connect(self) -> Session:
        self.connections += 1
        if self.refusal is not None:
            raise self.refusal
        return session_with(self.url)

    def answers(self, status: int, document: Any) -> None:
        self.status, self.chunks = status, [orjson.dumps(document)]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.path, dict(request.query), request.content_type, body))
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for chunk in self.chunks:
            await response.write(chunk)
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[ApiClient]:
    api = ApiClient(server.connect, field_manager="us")
    yield api
    await api.close()


def status(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": f"it is {reason}"}


async def test_get(server: Server, api: ApiClient) -> None:
    server.answers(200, {"kind": "Secret"})
    assert await api.get("/a") == {"kind": "Secret"}
    assert server.requests == [("GET", "/a", {}, "application/octet-stream", b"")]


async def test_create_does_not_take_fields_from_another_process(server: Server, api: ApiClient) -> None:
    """Each process is a separate field manager, so two of them conflict."""
    await api.create("/a", {"x": 1})
    other = ApiClient(server.connect, field_manager="us")
    await other.create("/a", {"x": 2})
    await other.close()
    (method, _, query, content_type, body), (_, _, others_query, *_) = server.requests
    assert (method, content_type, body) == ("PATCH", "application/apply-patch+yaml", b'{"x":1}')
    assert query["force"] == "false"
    assert query["fieldManager"].startswith("us-")
    assert query["fieldManager"] != others_query["fieldManager"]


async def test_replace_and_delete(server: Server, api: ApiClient) -> None:
    await api.replace("/a", {"x": 1})
    await api.delete("/a")
    assert server.requests == [
        ("PUT", "/a", {"fieldManager": "us"}, "application/json", b'{"x":1}'),
        ("DELETE", "/a", {}, "application/octet-stream", b""),
    ]
    assert server.connections == 1


async def test_an_object_that_does_not_exist(server: Server, api: ApiClient) -> None:
    server.answers(404, status(404, "NotFound"))
    assert await api.get("/a") is None
    await api.delete("/a")
    with pytest.raises(ApiError, match="404 Not Found: it is NotFound"):
        await api.replace("/a", {})


@pytest.mark.parametrize(
    ("code", "body", "message"),
    [
        pytest.param(409, status(409, "Conflict"), "GET /a: 409 Conflict: it is Conflict", id="conflict"),
        pytest.param(403, status(403, "Forbidden"), "GET /a: 403 Forbidden: it is Forbidden", id="forbidden"),
        pytest.param(404, "404 page not found", "404 Not Found", id="a-404-that-is-not-the-api-servers"),
        pytest.param(404, {"message": "no backend"}, "404 Not Found: no backend", id="a-404-of-a-proxy"),
        pytest.param(500, [], "500 Internal Server Error", id="no-status"),
        pytest.param(302, {}, "302 Found", id="redirect"),
    ],
)
async def test_a_refusal(server: Server, api: ApiClient, code: int, body: Any, message: str) -> None:
    server.answers(code, body)
    with pytest.raises(ApiError, match=message) as caught:
        await api.get("/a")
    assert caught.value.status == code


async def test_a_long_message_is_cut(server: Server, api: ApiClient) -> None:
    server.answers(500, {"message": "x" * 5000})
    with pytest.raises(ApiError) as caught:
        await api.get("/a")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("cut", [False, True], ids=["not-json", "cut-off"])
async def test_a_broken_answer(server: Server, api: ApiClient, cut: bool) -> None:  # noqa: FBT001
    server.chunks, server.cut = [b'{"half'], cut
    with pytest.raises(ApiError):
        await api.get("/a")


async def test_the_client_reconnects_after_a_401(server: Server, api: ApiClient) -> None:
    server.answers(401, status(401, "Unauthorized"))
    for _ in range(2):
        with pytest.raises(ApiError, match="401"):
            await api.get("/a")
    assert server.connections == 2


@pytest.mark.parametrize(
    "refusal", [OSError("no route"), ValueError("no token"), TimeoutError(), ssl.SSLError("bad")]
)
async def test_no_connection(server: Server, api: ApiClient, refusal: Exception) -> None:
    server.refusal = refusal
    with pytest.raises(ApiError) as caught:
        await api.get("/a")
    assert (caught.value.status, caught.value.absent) == (0, False)
    server.refusal = None
    assert await api.get("/a") == {}


async def test_requests_at_the_same_time_share_one_session(server: Server, api: ApiClient) -> None:
    await asyncio.gather(*(api.get("/a") for _ in range(5)))
    assert server.connections == 1


async def test_text_of_a_pod(server: Server, api: ApiClient) -> None:
    server.chunks = [b"metric 1", b".0\n\xff"]
    assert await api.text("/pods/a:8080/proxy/metrics") == "metric 1.0\n\ufffd"
    server.answers(503, status(503, "ServiceUnavailable"))
    with pytest.raises(ApiError, match="503"):
        await api.text("/pods/a:8080/proxy/metrics")


async def test_post_adds_to_a_collection(server: Server, api: ApiClient) -> None:
    await api.post("/events", {"x": 1})
    assert server.requests == [("POST", "/events", {"fieldManager": "us"}, "application/json", b'{"x":1}')]
