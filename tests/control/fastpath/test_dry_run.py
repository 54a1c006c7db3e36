"""The controller interprets the answers of an API server to a dry run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from control.world import START
from gatekeeper_py.control.fastpath.dry_run import MUTATING, DryRun, create, read_answer
from gatekeeper_py.control.fastpath.probe_image import ProbeImage
from gatekeeper_py.control.probe_pod import IMAGE_PATH, pod
from gatekeeper_py.core.admission import mutate
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.settings import SettingsError

WEBHOOK = "pods.hook.gk"
PROBE_IMAGE = ProbeImage("validating", "a.io/x")


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


@pytest.mark.parametrize(
    ("code", "body", "warnings", "seen"),
    [
        pytest.param(
            403, status(f'admission webhook "{WEBHOOK}" denied the request: no'), [], "", id="refused"
        ),
        pytest.param(
            500, status(f'failed calling webhook "{WEBHOOK}": refused'), [], "", id="called-in-vain"
        ),
        pytest.param(
            403,
            status('pods "x" is forbidden: exceeded quota: no-pods'),
            ['299 - "spec.containers[0].image: a.io/x is not approved"'],
            "",
            id="warned",
        ),
        pytest.param(403, status("exceeded quota"), [], "403 exceeded quota", id="let-through"),
        pytest.param(201, b"{}", ['299 - "something else"'], "201", id="let-through-without-a-quota"),
        pytest.param(
            403,
            status('admission webhook "other" denied the request'),
            [],
            '403 admission webhook "other" denied the request',
            id="another-webhook",
        ),
        pytest.param(502, b"<html>", [], "502", id="not-json"),
        pytest.param(500, b"[]", [], "500", id="no-object"),
        pytest.param(500, b'{"message": 1}', [], "500", id="no-text"),
    ],
)
def test_answers_show_whether_the_webhook_was_called(
    code: int, body: bytes, warnings: list[str], seen: str
) -> None:
    assert read_answer("validating", code, body, warnings, WEBHOOK) == DryRun(called=not seen, problem=seen)


@pytest.mark.parametrize(
    "warning",
    [
        pytest.param("was rewritten to b.io/x", id="rewritten"),
        pytest.param("is left as written: no mirror has it", id="on-no-mirror"),
        pytest.param("is left as written: no mirror could be queried: 401", id="no-answer-of-a-mirror"),
    ],
)
def test_some_warnings_are_of_the_mutating_webhook_only(warning: str) -> None:
    rewritten = [f'299 - "spec.containers[0].image: a.io/x {warning}"']
    refused = ['299 - "spec.containers[0].image: a.io/x is not approved"']
    body = status("exceeded quota")
    assert read_answer("mutating", 403, body, rewritten, WEBHOOK).called
    assert not read_answer("mutating", 403, body, refused, WEBHOOK).called
    assert not read_answer("validating", 403, body, rewritten, WEBHOOK).called
    assert read_answer("validating", 403, body, rewritten + refused, WEBHOOK).called


def test_the_warnings_are_those_that_users_get() -> None:
    """``MUTATING`` and ``IMAGE_PATH`` match the webhook's messages."""
    policy = parse_policy(
        "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: mutate\nallow: [a.io]\n"
        "mirrors: [{from: b.io, to: a.io}]\n"
    )
    raw = {"uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE"}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    request = parse({**review, "request": {**raw, "object": pod(f"b.io/{'x' * 200}")}})
    [warning] = mutate(request, policy.at(START)).response.warnings
    assert f"{IMAGE_PATH}: " in warning
    assert MUTATING[0] in warning


class Connection:
    """``Connects`` to one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession()

    async def request(
        self, method: str, path: str, query: Any, limits: aiohttp.ClientTimeout, *, body: Any = None, **_: Any
    ) -> aiohttp.ClientResponse:
        return await self.session.request(method, self.url + path, params=query, data=body, timeout=limits)

    async def close(self) -> None:
        await self.session.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, list[tuple[str, Any]]]]:
    """Run an API server that refuses on behalf of the webhook; yield its address and its requests."""
    requests: list[tuple[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append((request.path_qs, await request.json()))
        message = f'admission webhook "{WEBHOOK}" denied the request'
        return web.json_response({"message": message}, status=403)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    await runner.cleanup()


async def test_a_probe_is_a_dry_run_on_its_own_connection(
    server: tuple[str, list[tuple[str, Any]]],
) -> None:
    url, requests = server
    made: list[Connection] = []

    async def connect() -> Connection:
        made.append(Connection(url))
        return made[-1]

    for _ in range(2):
        assert await create(connect, "probe", PROBE_IMAGE, WEBHOOK) == DryRun(called=True)
    assert requests == [("/api/v1/namespaces/probe/pods?dryRun=All", pod("a.io/x"))] * 2
    assert len(made) == 2
    assert all(each.session.closed for each in made)


async def test_an_api_server_that_is_not_there() -> None:
    async def connect() -> Connection:
        return Connection("http://127.0.0.1:9")

    seen = await create(connect, "probe", PROBE_IMAGE, WEBHOOK)
    assert not seen.called
    assert "cannot connect" in seen.problem


async def test_a_configuration_that_cannot_be_used() -> None:
    async def connect() -> Connection:
        raise SettingsError("the token is gone")

    seen = await create(connect, "probe", PROBE_IMAGE, WEBHOOK)
    assert seen == DryRun(called=False, problem="the token is gone")
