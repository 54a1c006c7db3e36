"""The client interprets every possible answer of a registry."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trustme
from aiohttp import web

from gatekeeper_py.core.images.manifest import Manifest, failed
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry import client as module
from gatekeeper_py.registry.asking import MAX_BODY_BYTES, MEDIA_TYPES
from gatekeeper_py.registry.credentials import Credential
from registry.scripted import (
    DIGEST,
    OCI,
    OTHER_DIGEST,
    Scripted,
    challenge,
    found,
    scripted,
    speaking,
    status,
)
from registry.world import World

V1 = "/v2/team/app/manifests/v1"
BODY = b'{"schemaVersion": 2}'
OTHER_MANIFEST = ("error", "", "the manifest has another digest than the one requested")
OTHER_THAN_REQUESTED = ("error", "", "the registry answered with another digest than the one requested")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


@pytest.fixture
async def registry() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


def get(body: bytes = BODY) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": OCI})


BY_DIGEST, BY_SHA512 = (f"{name}:{hashlib.new(name, BODY).hexdigest()}" for name in ("sha256", "sha512"))
WITH_DIGEST = web.Response(body=BODY, headers={"Content-Type": OCI, "Docker-Content-Digest": DIGEST})


@pytest.mark.parametrize(
    ("reference", "head", "get_answer", "answer"),
    [
        pytest.param("v1", found(), None, ("found", DIGEST, ""), id="head-with-a-digest"),
        pytest.param("v1", status(404), status(404), ("missing", "", ""), id="404-is-confirmed-with-get"),
        pytest.param("v1", status(404), WITH_DIGEST, ("found", DIGEST, ""), id="404-only-for-head"),
        pytest.param("v1", status(405), get(), ("found", BY_DIGEST, ""), id="405-for-head"),
        pytest.param("v1", status(501), get(), ("found", BY_DIGEST, ""), id="501-for-head"),
        pytest.param("v1", status(200, Content_Type=OCI), get(), ("found", BY_DIGEST, ""), id="no-digest"),
        pytest.param(BY_DIGEST, status(200), get(), ("found", BY_DIGEST, ""), id="sha256"),
        pytest.param(BY_SHA512, status(200), get(), ("found", BY_SHA512, ""), id="sha512"),
        pytest.param(BY_SHA512, status(200), get(b"another"), OTHER_MANIFEST, id="another-manifest"),
        pytest.param(DIGEST, found(OTHER_DIGEST), None, OTHER_THAN_REQUESTED, id="another-digest"),
    ],
)
async def test_head_and_then_get_find_a_manifest(
    world: World,
    registry: Scripted,
    reference: str,
    head: web.Response,
    get_answer: web.Response | None,
    answer: tuple[str, str, str],
) -> None:
    path = f"/v2/team/app/manifests/{reference}"
    registry.on(f"HEAD {path}", head)
    registry.on(f"GET {path}", get_answer or status(500))
    assert (await world.query(registry.host, reference)).answer[:3] == answer
    assert registry.request_lines == [f"HEAD {path}", *([f"GET {path}"] if get_answer else [])]


async def test_all_four_media_types_are_accepted(world: World, registry: Scripted) -> None:
    seen: list[str] = []

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request.headers["Accept"])
        return found()

    registry.on(f"HEAD {V1}", answer)
    await world.query(registry.host)
    assert [part.strip() for part in seen[0].split(",")] == list(MEDIA_TYPES)


@pytest.mark.parametrize(
    ("head", "get_answer", "cause"),
    [
        pytest.param(found("sha256:xyz"), None, "malformed digest", id="malformed-digest"),
        pytest.param(found("md5:" + "a" * 32), None, "malformed digest", id="md5"),
        pytest.param(status(200), get(b""), "empty manifest", id="empty-body"),
        pytest.param(status(200), get(b"x" * (MAX_BODY_BYTES + 1)), "larger than", id="too-large"),
        pytest.param(
            status(200),
            web.Response(body=b"<html>", headers={"Content-Type": "text/html"}),
            "the media type 'text/html'",
            id="a-web-page",
        ),
        pytest.param(status(403), None, "refused our credentials (403)", id="forbidden"),
        pytest.param(status(401), None, "refused our credentials (401)", id="no-challenge"),
        pytest.param(status(400), None, "answered 400", id="bad-request"),
        pytest.param(status(404), status(500), "answered 500", id="get-fails"),
        pytest.param(status(302), None, "redirectHosts does not list", id="redirect-without-location"),
    ],
)
async def test_an_unusable_answer_is_an_error(
    world: World, registry: Scripted, head: web.Response, get_answer: web.Response | None, cause: str
) -> None:
    registry.on(f"HEAD {V1}", head)
    if get_answer is not None:
        registry.on(f"GET {V1}", get_answer)
    reply = await world.query(registry.host)
    assert reply.answer.status == "error"
    assert cause in reply.answer.cause


@pytest.mark.parametrize(
    ("code", "is_trouble"),
    [(500, True), (503, True), (400, False), (401, False), (403, False), (429, False)],
)
async def test_only_server_failures_count_as_trouble(
    world: World,
    registry: Scripted,
    code: int,
    is_trouble: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    registry.on(f"HEAD {V1}", status(code))
    assert (await world.query(registry.host)).trouble is is_trouble


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        pytest.param("7", 7, id="seconds"),
        pytest.param("0", 1, id="zero"),
        pytest.param("", 1, id="empty"),
        pytest.param("-5", 1, id="negative"),
        pytest.param("1.5", 1, id="a-fraction"),
        pytest.param("soon", 1, id="a-word"),
        pytest.param("300", 300, id="the-longest"),
        pytest.param("100000", 300, id="six-digits"),
        pytest.param("9999999", 300, id="seven-digits"),
        pytest.param("0000000009", 9, id="zeros-before"),
        pytest.param("9" * 7000, 300, id="thousands-of-digits"),
        pytest.param("0" * 7000, 1, id="thousands-of-zeros"),
        pytest.param("Wed, 21 Oct 2026 07:29:30 GMT", 90, id="a-date"),
        pytest.param("Wed, 21 Oct 2026 09:29:30 +0200", 90, id="a-date-with-an-offset"),
        pytest.param("Wednesday, 21-Oct-26 07:29:30 GMT", 90, id="an-obsolete-date"),
        pytest.param("Wed, 21 Oct 2099 07:28:00 GMT", 300, id="a-date-far-away"),
        pytest.param("Wed, 21 Oct 2026 07:27:00 GMT", 1, id="a-date-in-the-past"),
        pytest.param("Wed, 99 Oct 2026 07:27:00 GMT", 1, id="not-a-date"),
        pytest.param("Wed, 21 Oct 99999999999 07:27:00 GMT", 1, id="a-year-too-large"),
        pytest.param("Wed, 21 Oct 2026 07:29:30", 1, id="a-date-without-zone"),
        pytest.param("Wed, " * 1600, 1, id="a-long-text"),
    ],
)
async def test_429_pauses_within_bounds(world: World, registry: Scripted, header: str, pause: float) -> None:
    def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(
            status=429, headers={"Retry-After": header, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
        )

    registry.on(f"HEAD {V1}", answer)
    reply = await world.query(registry.host)
    assert (reply.answer.status, reply.pause) == ("error", pause)
    assert len(registry.requests) == 1


async def test_a_date_is_compared_with_the_local_clock_if_the_registry_sends_no_date(
    world: World, registry: Scripted
) -> None:
    def answer(_request: web.BaseRequest) -> web.Response:
        date = datetime.now(UTC) + timedelta(seconds=100)
        return web.Response(
            status=429, headers={"Retry-After": format_datetime(date, usegmt=True), "Date": "?"}
        )

    registry.on(f"HEAD {V1}", answer)
    assert 80 < (await world.query(registry.host)).pause <= 100


async def test_basic_authentication(world: World, registry: Scripted) -> None:
    world.logins = (Credential("alice", "secret"),)
    registry.on(f"HEAD {V1}", challenge('Basic realm="r"'), found())
    assert (await world.query(registry.host)).answer.status == "found"
    await world.query(registry.host)
    # The second look-up reuses the authorization that worked.
    assert [sent for _, _, sent in registry.requests] == ["", world.logins[0].basic, world.logins[0].basic]


async def test_each_credential_is_tried_and_none_anonymously(world: World, registry: Scripted) -> None:
    world.logins = (Credential("old", "x"), Credential("new", "y"))
    basic = challenge('Basic realm="r"')
    registry.on(f"HEAD {V1}", basic, basic, found())
    assert (await world.query(registry.host)).answer.status == "found"
    assert [sent for _, _, sent in registry.requests] == ["", *(login.basic for login in world.logins)]


async def test_the_token_flow(world: World, registry: Scripted) -> None:
    bearer = challenge(f'Bearer realm="http://{registry.host}/token?a=b",service="s"')
    registry.on(f"HEAD {V1}", bearer, found())
    registry.on("GET /token", web.json_response({"token": "t1", "expires_in": 100}))
    world.logins = (Credential("alice", "secret"),)
    assert (await world.query(registry.host)).answer.status == "found"
    assert registry.requests[1:] == [
        ("GET", "/token?a=b&service=s&scope=repository:team/app:pull", world.logins[0].basic),
        ("HEAD", V1, "Bearer t1"),
    ]
    await world.query(registry.host)
    assert registry.requests[-1] == ("HEAD", V1, "Bearer t1")
    registry.on("GET /token", web.json_response({"access_token": "t2"}))
    world.now = 90  # nine tenths of its lifetime
    await world.query(registry.host)
    assert registry.requests[-2][1].startswith("/token")
    assert registry.requests[-1] == ("HEAD", V1, "Bearer t2")
    world.now += 54
    await world.query(registry.host)  # a token without a stated lifetime lives for 60 s
    assert registry.requests[-2][1].startswith("/token")


@pytest.mark.parametrize(
    ("query", "scope"),
    [
        pytest.param("", "repository:other/secret:pull", id="in-the-challenge"),
        pytest.param("?scope=repository:other/secret:pull", "", id="in-the-realm"),
        pytest.param("?SCOPE=repository:other/secret:pull", "", id="in-the-realm-in-capitals"),
    ],
)
async def test_a_registry_gets_no_token_for_another_repository(
    world: World, registry: Scripted, query: str, scope: str
) -> None:
    """A token server may serve several registries, so a token for another repository could be misused."""
    realm = f"http://{registry.host}/token{query}"
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="{realm}",scope="{scope}"'), found())
    registry.on("GET /token", web.json_response({"token": "t"}))
    assert (await world.query(registry.host)).answer.status == "found"
    assert registry.request_lines[1] == "GET /token?scope=repository:team/app:pull"


async def test_an_anonymous_token_is_requested_without_credentials(world: World, registry: Scripted) -> None:
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{registry.host}/token"'), found())
    registry.on("GET /token", web.json_response({"token": "t"}))
    assert (await world.query(registry.host)).answer.status == "found"
    assert registry.requests[1] == ("GET", "/token?scope=repository:team/app:pull", "")


async def test_credentials_are_not_sent_over_plain_http_to_another_machine(
    world: World, registry: Scripted
) -> None:
    world.logins = (Credential("u", "secret"),)
    host = registry.host.replace("127.0.0.1", "0.0.0.0")
    registry.on(f"HEAD {V1}", challenge('Basic realm="r"'), found())
    answer = (await world.query(host)).answer
    assert answer.status == "error"
    assert answer.cause == "credentials are never sent over plain HTTP, and 0.0.0.0 uses it"
    assert [sent for _, _, sent in registry.requests] == [""]


async def test_credentials_are_not_sent_to_a_plain_token_server_on_another_machine(
    world: World, registry: Scripted
) -> None:
    world.logins = (Credential("u", "secret"),)
    host = registry.host.replace("127.0.0.1", "0.0.0.0")
    world.settings[registry.host] = Registry(host=registry.host, plain_http=True, token_hosts=(host,))
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{host}/token"'), found())
    assert (await world.query(registry.host)).answer.status == "error"
    assert registry.request_lines == [f"HEAD {V1}"]


async def test_an_anonymous_look_up_may_use_plain_http(world: World, registry: Scripted) -> None:
    host = registry.host.replace("127.0.0.1", "0.0.0.0")
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{host}/token"'), found())
    registry.on("GET /token", web.json_response({"token": "t"}))
    assert (await world.query(host)).answer.status == "found"


async def test_each_request_waits_for_the_rate_of_its_host(world: World, registry: Scripted) -> None:
    async with scripted() as other:
        world.settings[registry.host] = Registry(
            host=registry.host, plain_http=True, token_hosts=(other.host,), redirect_hosts=(other.host,)
        )
        registry.on(
            f"HEAD {V1}",
            challenge(f'Bearer realm="http://{other.host}/token"'),
            status(307, Location=f"http://{other.host}/moved"),
        )
        registry.on(f"GET {V1}", status(404))
        other.on("GET /token", web.json_response({"token": "t"}))
        assert (await world.query(registry.host)).answer.status == "missing"
        # The requests are HEAD, the token, HEAD with the token, HEAD at the target of the redirect, and GET.
        assert world.turns == [registry.host, other.host, registry.host, other.host, registry.host]
        assert len(registry.requests) + len(other.requests) == len(world.turns)


async def test_no_request_is_sent_without_a_turn(world: World, registry: Scripted) -> None:
    async def turn(host: str) -> None:
        raise LookupError(host)

    with pytest.raises(LookupError, match=registry.host):
        await world.client.query(Manifest(registry.host, "team/app", "v1"), turn)
    assert registry.requests == []


async def test_a_refused_token_is_replaced_once(world: World, registry: Scripted) -> None:
    bearer = challenge(f'Bearer realm="http://{registry.host}/token",error="invalid_token"')
    registry.on(f"HEAD {V1}", bearer, found(), bearer)
    registry.on("GET /token", web.json_response({"token": "t"}))
    assert (await world.query(registry.host)).answer.status == "found"
    before = len(registry.requests)
    reply = await world.query(registry.host)
    assert "refused our credentials" in reply.answer.cause
    assert registry.request_lines[before:] == [
        f"HEAD {V1}", "GET /token?scope=repository:team/app:pull", f"HEAD {V1}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(status(401), "refused our credentials (401)", id="refused"),
        pytest.param(status(500), "the token server answered 500", id="down"),
        pytest.param(web.Response(body=b"x"), "not JSON", id="not-json"),
        pytest.param(web.json_response([]), "holds no token", id="a-list"),
        pytest.param(web.json_response({"token": 5}), "holds no token", id="a-number"),
        pytest.param(web.json_response({"token": ""}), "holds no token", id="empty"),
        pytest.param(web.json_response({"token": "a\r\nHost: b"}), "no header can hold", id="line-break"),
        pytest.param(web.json_response({"token": "x" * 65_537}), "no header can hold", id="too-long"),
        pytest.param(web.Response(body=b"x" * (MAX_BODY_BYTES + 1)), "larger than", id="too-large"),
        pytest.param(
            web.Response(body=b'{"token": "t", "a": [%s]}' % b",".join([b"[]"] * 100_000)),
            "larger than 262144 bytes",
            id="many-values",
        ),
        pytest.param(status(302, Location="http://evil.example/"), "answered 302", id="redirect"),
    ],
)
async def test_bad_token_servers(world: World, registry: Scripted, answer: web.Response, cause: str) -> None:
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{registry.host}/token"'))
    registry.on("GET /token", answer)
    assert cause in (await world.query(registry.host)).answer.cause


@pytest.mark.parametrize(
    ("code", "trouble", "pause"), [(500, True, 0.0), (404, False, 0.0), (429, False, 1.0), (403, False, 0.0)]
)
async def test_a_token_server_that_fails_is_an_error_and_never_missing(
    world: World, registry: Scripted, code: int, *, trouble: bool, pause: float
) -> None:
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{registry.host}/token"'))
    registry.on("GET /token", status(code))
    reply = await world.query(registry.host)
    assert (reply.answer.status, reply.trouble, reply.pause) == ("error", trouble, pause)


@pytest.mark.parametrize("expires_in", [0, -5, "60", None, True, 1e300])
async def test_an_unusual_token_lifetime_causes_no_error(
    world: World, registry: Scripted, expires_in: object
) -> None:
    registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{registry.host}/token"'), found())
    registry.on(
        "GET /token", web.Response(body=json.dumps({"token": "t", "expires_in": expires_in}).encode())
    )
    assert (await world.query(registry.host)).answer.status == "found"


async def test_a_realm_on_another_host_gets_no_request(world: World, registry: Scripted) -> None:
    async with scripted() as other:
        registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{other.host}/token"'))
        world.logins = (Credential("alice", "secret"),)
        reply = await world.query(registry.host)
        assert "tokenHosts does not list" in reply.answer.cause
        assert world.refused == [(registry.host, reply.answer.cause)]
        assert other.requests == []
        world.settings[registry.host] = Registry(
            host=registry.host, plain_http=True, token_hosts=(other.host,)
        )
        other.on("GET /token", web.json_response({"token": "t"}))
        registry.on(f"HEAD {V1}", challenge(f'Bearer realm="http://{other.host}/token"'), found())
        assert (await world.query(registry.host)).answer.status == "found"


async def test_a_redirect_is_followed_only_where_it_may_go_and_without_our_credentials(
    world: World, registry: Scripted
) -> None:
    async with scripted() as other:
        other.on("HEAD /moved", found())
        to_other = status(307, Location=f"http://{other.host}/moved")
        world.logins = (Credential("alice", "secret"),)
        registry.on(f"HEAD {V1}", challenge('Basic realm="r"'), to_other)
        assert "redirectHosts does not list" in (await world.query(registry.host)).answer.cause
        assert other.requests == []
        world.settings[registry.host] = Registry(
            host=registry.host, plain_http=True, redirect_hosts=(other.host,)
        )
        registry.on(f"HEAD {V1}", challenge('Basic realm="r"'), to_other)
        assert (await world.query(registry.host)).answer.status == "found"
        assert other.requests == [("HEAD", "/moved", "")]


async def test_more_than_three_redirects_are_an_error(world: World, registry: Scripted) -> None:
    world.settings[registry.host] = Registry(
        host=registry.host, plain_http=True, redirect_hosts=(registry.host,)
    )
    registry.on(f"HEAD {V1}", status(307, Location=V1))
    assert "more than 3 redirects" in (await world.query(registry.host)).answer.cause
    assert len(registry.requests) == 4


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        pytest.param("ftp://r.example/x", "not plain http or https", id="ftp"),
        pytest.param("http://u@r.example/x", "not plain http or https", id="user"),
        pytest.param("http://r.example:99999/x", "malformed URL", id="port"),
        pytest.param("http://[::1]@", "malformed URL", id="brackets-without-host"),
        pytest.param("http://secure.example/x", "does not use https", id="downgrade"),
        pytest.param("x://y@", "not plain http or https", id="user-without-host"),
        pytest.param("http://é.example/x", "malformed URL", id="international-host"),
    ],
)
async def test_redirects_that_are_refused(
    world: World, registry: Scripted, location: str, cause: str
) -> None:
    hosts = ("r.example", "secure.example")
    world.settings[registry.host] = Registry(host=registry.host, plain_http=True, redirect_hosts=hosts)
    world.settings["secure.example"] = Registry(host="secure.example")
    registry.on(f"HEAD {V1}", status(307, Location=location))
    assert cause in (await world.query(registry.host)).answer.cause


async def test_no_cookie_is_kept(world: World, registry: Scripted) -> None:
    seen: list[str | None] = []

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = found()
        response.set_cookie("a", "b")
        return response

    registry.on(f"HEAD {V1}", answer)
    await world.query(registry.host)
    await world.query(registry.host)
    assert seen == [None, None]


async def test_a_refused_connection(world: World) -> None:
    async with scripted() as registry:
        host = registry.host
    reply = await world.query(host)
    assert (reply.answer.cause, reply.trouble) == ("connection refused", True)


async def test_a_name_that_does_not_resolve(world: World) -> None:
    reply = await world.query("does-not-exist.invalid")
    assert (reply.answer.cause, reply.trouble) == ("its name cannot be resolved", True)


async def test_a_hanging_request_times_out(world: World) -> None:
    end = asyncio.Event()

    async def reply(_writer: asyncio.StreamWriter) -> None:
        await end.wait()

    async with speaking(reply) as host:
        answer = await world.query(host, seconds=0.2)
        end.set()
    assert answer.trouble
    assert answer.answer.cause == "no answer in 0.2 s"


async def test_a_certificate_of_another_ca_is_refused(world: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with scripted(context) as registry:
        world.settings[registry.host] = Registry(host=registry.host)
        reply = await world.query(registry.host)
    assert reply.answer.cause.startswith("certificate: ")
    assert reply.trouble


async def test_https_to_an_http_registry_is_an_error(world: World, registry: Scripted) -> None:
    world.settings[registry.host] = Registry(host=registry.host)
    reply = await world.query(registry.host)
    assert (reply.answer, reply.trouble) == (failed("TLS failed"), True)


async def test_docker_hub_is_queried_at_its_api_host() -> None:
    manifest = Manifest("docker.io", "library/nginx", "1.27")
    url = module._url(Registry(host="docker.io"), manifest, "manifests/1.27")
    assert str(url) == "https://registry-1.docker.io/v2/library/nginx/manifests/1.27"


async def test_authorizations_are_kept_for_a_bounded_number_of_repositories(
    world: World, registry: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS", 1)
    world.logins = (Credential("alice", "secret"),)
    for repository in ("a", "b", "a"):
        registry.on(f"HEAD /v2/{repository}/manifests/v1", challenge("Basic"), found())
        reply = await world.client.query(Manifest(registry.host, repository, "v1"), world.turn)
        assert reply.answer.status == "found"
    assert len(registry.requests) == 6
