"""The table of status codes: the webhook's answer to each kind of request."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, Final

import pytest

from support.builders import UID, pod, review
from support.contract import check_response
from support.recording import RecordingLog
from support.served import ASKED, GOOD, Served, Start
from support.wire import JSON_TYPE, Answer, chunked, eventually, request

BAD = review(pod("nginx:1.25"))


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def changed(**fields: Any) -> bytes:
    """Return the good review with other fields in its request; ``...`` removes a field."""
    fields = {**GOOD["request"], **fields}
    return body({**GOOD, "request": {k: v for k, v in fields.items() if v is not ...}})


def refused(answer: Answer, status: int) -> None:
    """Check an answer that is not 200: it has the status, and the reason as JSON."""
    assert answer.status == status
    assert answer.headers["content-type"].startswith("application/json")
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]


@pytest.mark.parametrize("endpoint", ["validate", "mutate"])
@pytest.mark.parametrize("document", [GOOD, BAD], ids=["approved", "rejected"])
async def test_a_review_gets_200_with_its_uid(served: Served, endpoint: Any, document: Any) -> None:
    answer = await served.ask(request(body(document), path=f"/{endpoint}-image"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    checked = check_response(answer.body, document, endpoint)
    assert checked.allowed == (endpoint == "mutate" or document is GOOD)
    assert not answer.closes


async def test_a_denial_has_the_shape_that_users_read(served: Served) -> None:
    answer = await served.ask(request(body(BAD)))
    assert check_response(answer.body, BAD, "validate").message.splitlines()[0] == (
        'container "c0" (spec.containers[0].image): nginx:1.25 is not approved: '
        "docker.io/library/nginx matches no rule"
    )


@pytest.mark.parametrize(
    ("path", "method"),
    [
        *itertools.product(
            ["/", "/validate", "/validate-image/", "//validate-image", "/VALIDATE-IMAGE", "/metrics"],
            ["GET", "POST", "OPTIONS"],
        ),
        ("*", "OPTIONS"),
    ],
)
async def test_other_paths_get_404(served: Served, path: str, method: str) -> None:
    refused(await served.ask(request(path=path, method=method)), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/validate-image", "/mutate-image", "/validate-policy"])
async def test_other_methods_get_405_with_allow(served: Served, path: str, method: str) -> None:
    answer = await served.ask(request(path=path, method=method))
    refused(answer, 405)
    assert answer.headers["allow"] == "POST"


async def test_head_gets_405_without_a_body(served: Served) -> None:
    async with served.connected() as connection:
        await connection.send(request(path="/validate-image", method="HEAD"))
        answer = await connection.receive(head=True)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert (await connection.ask(ASKED)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param([], 415, id="absent"),
        pytest.param([("Content-Type", "")], 415, id="empty"),
        pytest.param([("Content-Type", "text/plain")], 415, id="text"),
        # Python's own parser of these takes a second or fails.
        pytest.param([("Content-Type", "application/json" + ";" * 8000)], 200, id="8,000-parameters"),
        pytest.param([("Content-Type", "application/json;" + "(a);" * 1980)], 200, id="comments"),
        pytest.param([("Content-Type", "application/json;" + "(" * 4000)], 200, id="nested-comments"),
        pytest.param([("Content-Type", "application/json;a*0*")], 200, id="continued-parameter"),
        pytest.param([("Content-Type", "text/plain;a*0*;" + "(" * 4000)], 415, id="text-with-comments"),
        pytest.param([("Content-Type", "application/yaml")], 415, id="yaml"),
        pytest.param([("Content-Type", "application/json-patch+json")], 415, id="longer-name"),
        pytest.param([("Content-Type", "application/vnd.kubernetes.protobuf")], 415, id="protobuf"),
        pytest.param([JSON_TYPE], 200, id="json"),
        pytest.param([("Content-Type", "Application/JSON")], 200, id="other-case"),
        pytest.param([("Content-Type", "application/json; charset=utf-8")], 200, id="parameter"),
        pytest.param([("Content-Type", 'application/json;a=b; c="d"')], 200, id="parameters"),
        pytest.param([JSON_TYPE, ("Content-Encoding", "gzip")], 415, id="gzip"),
        pytest.param([JSON_TYPE, ("Content-Encoding", "identity")], 415, id="identity"),
        pytest.param([JSON_TYPE, ("Content-Encoding", "")], 415, id="empty-encoding"),
    ],
)
async def test_media_types(served: Served, headers: list[tuple[str, str]], status: int) -> None:
    async with served.connected() as connection:
        answer = await connection.ask(request(body(GOOD), headers=headers))
        if status == 200:
            assert check_response(answer.body, GOOD, "validate").allowed
        else:
            refused(answer, status)
            # The body was complete, so the connection stays open.
            assert (await connection.ask(ASKED)).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param({"path": "/nowhere"}, 404, id="path"),
        pytest.param({"method": "PUT"}, 405, id="method"),
        pytest.param({"headers": []}, 415, id="media-type"),
    ],
)
async def test_an_answer_before_the_body_ends_the_connection(
    served: Served, head: dict[str, Any], status: int
) -> None:
    """The answer has ``Connection: close``, because a request sent after it would be lost."""
    async with served.connected() as connection:
        await connection.send(request(b"{", length=1000, **head))
        answer = await connection.receive()
        refused(answer, status)
        assert answer.closes
        assert await connection.ended()


BAD_BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b" ", id="blank"),
    pytest.param(b"{", id="truncated"),
    pytest.param(body(GOOD)[:-1], id="truncated-review"),
    pytest.param(body(GOOD) + b"x", id="more-behind-it"),
    pytest.param(b"null", id="null"),
    pytest.param(b"42", id="scalar"),
    pytest.param(b'"AdmissionReview"', id="text"),
    pytest.param(b"[" + body(GOOD) + b"]", id="array"),
    pytest.param(b"\xef\xbb\xbf" + body(GOOD), id="byte-order-mark"),
    pytest.param(body(GOOD).decode().encode("utf-16"), id="utf-16"),
    pytest.param(body(GOOD).decode().encode("utf-16-le"), id="utf-16-without-mark"),
    pytest.param(body(GOOD).replace(b"nginx", b"ng\xffnx") + b"\xff", id="invalid-utf-8"),
    pytest.param(body(GOOD).replace(b'"web"', b'"w\xc0\xafb"'), id="overlong-utf-8"),
    pytest.param(body(GOOD).replace(b'"web"', b'"\xed\xa0\x80"'), id="surrogate-as-utf-8"),
    pytest.param(body(GOOD).replace(b'"web"', b'"\\ud800"'), id="lone-high-surrogate"),
    pytest.param(body(GOOD).replace(b'"web"', b'"\\udc00x"'), id="lone-low-surrogate"),
    pytest.param(changed(name=float("nan")), id="nan"),
    pytest.param(changed(name=float("inf")), id="infinity"),
    pytest.param(body(GOOD).replace(b"false", b"1e999"), id="1e999"),
    pytest.param(body(GOOD).replace(b"false", b"-1e999"), id="minus-1e999"),
    pytest.param(body(GOOD).replace(b"false", b"9" * 400), id="400-digits"),
    pytest.param(body(GOOD).replace(b"false", b"[" * 1023 + b"]" * 1023), id="1025-deep"),
    pytest.param(body(GOOD).replace(b"false", b"[" * 100_000 + b"]" * 100_000), id="100000-deep"),
    pytest.param(b"{'kind': 'AdmissionReview'}", id="single-quotes"),
    pytest.param(b"{}", id="empty-object"),
    pytest.param(body({**GOOD, "kind": "Pod"}), id="other-kind"),
    pytest.param(changed(uid=...), id="no-uid"),
    pytest.param(changed(uid="u" * 1_000_000), id="uid-huge"),
]


@pytest.mark.parametrize("content", BAD_BODIES)
@pytest.mark.parametrize("path", ["/validate-image", "/validate-policy"])
async def test_an_invalid_review_gets_400_and_the_connection_stays_open(
    served: Served, content: bytes, path: str
) -> None:
    async with served.connected() as connection:
        answer = await connection.ask(request(content, path=path))
        refused(answer, 400)
        assert not answer.closes
        good = await connection.ask(ASKED)
    assert check_response(good.body, GOOD, "validate").allowed
    assert served.metric("http_errors_total", code="400") == 1


@pytest.mark.parametrize(
    ("content", "uid"),
    [
        pytest.param(changed(uid="u" * 128), "u" * 128, id="uid-128"),
        pytest.param(changed(uid="ü\n\U0001f600"), "ü\n\U0001f600", id="uid-of-odd-characters"),
        pytest.param(body(GOOD).replace(b"false", b"1e308"), UID, id="1e308"),
        pytest.param(body(GOOD).replace(b"false", b"[" * 1022 + b"]" * 1022), UID, id="1024-deep"),
        pytest.param(body(GOOD).replace(b"false", b'"\\ud83d\\ude00"'), UID, id="surrogate-pair"),
        pytest.param(b"\r\n\t " + body(GOOD) + b"\n", UID, id="space-around"),
        pytest.param(body({**GOOD, "extra": 1}), UID, id="unknown-field"),
    ],
)
async def test_an_unusual_but_valid_review_gets_200(served: Served, content: bytes, uid: str) -> None:
    answer = await served.ask(request(content))
    assert answer.status == 200
    assert check_response(answer.body, {"request": {**GOOD["request"], "uid": uid}}, "validate").allowed


async def test_duplicate_keys_count_as_the_last_as_in_the_api_server(served: Served) -> None:
    content = body(GOOD).replace(b'{"uid": "', b'{"uid": "first", "uid": "')
    answer = await served.ask(request(content))
    assert answer.json()["response"]["uid"] == UID


@pytest.mark.parametrize(
    ("content", "is_complete"),
    [
        pytest.param(request(length=1001), False, id="the-length-before-the-body"),
        pytest.param(chunked([b" " * 600, b" " * 600]), False, id="chunks"),
        pytest.param(chunked([b" " * 1001]) + b"0\r\n\r\n", True, id="a-complete-chunk"),
    ],
)
async def test_a_body_over_the_limit_gets_413(start: Start, content: bytes, *, is_complete: bool) -> None:
    served = start(max_body_bytes=1000)
    async with served.connected() as connection:
        refused(await connection.ask(content), 413)
        assert is_complete or await connection.ended()


@pytest.mark.parametrize("form", ["length", "chunks"])
async def test_a_body_of_just_the_limit_is_read(start: Start, form: str) -> None:
    content = body(GOOD).ljust(5000)
    served = start(max_body_bytes=5000)
    sent = request(content) if form == "length" else chunked([content[:10], content[10:]]) + b"0\r\n\r\n"
    answer = await served.ask(sent)
    assert check_response(answer.body, GOOD, "validate").allowed


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"[" * 400_001, 413, id="brackets"),
        pytest.param(b"[" + b"[]," * 2_400_000 + b"[]]", 413, id="seven-mebibytes-of-empty-lists"),
    ],
)
async def test_too_many_brackets_get_413_before_parsing(served: Served, content: bytes, status: int) -> None:
    async with served.connected() as connection:
        refused(await connection.ask(request(content)), status)
        assert (await connection.ask(ASKED)).status == 200


async def test_an_incomplete_body_gets_408(start: Start) -> None:
    served = start(body_seconds=0.05)
    async with served.connected() as connection:
        await connection.send(request(b'{"kind":', length=1000))
        refused(await connection.receive(), 408)
        assert await connection.ended()
    assert served.metric("http_errors_total", code="408") == 1


async def test_a_trickle_does_not_extend_the_time_for_a_body(start: Start) -> None:
    served = start(body_seconds=0.2)
    async with served.connected() as connection:
        await connection.send(request(b"", length=100_000))
        answer = asyncio.create_task(connection.receive())
        while not answer.done():
            connection.writer.write(b" ")
            await asyncio.sleep(0.01)
        refused(await answer, 408)


@pytest.mark.parametrize("query", ["timeout=0.55s", "timeout=0s", "x=1&timeout=0.55s", "timeout=0m0.55s"])
async def test_the_callers_timeout_bounds_the_time_for_a_body(start: Start, query: str) -> None:
    served = start(body_seconds=600)
    async with served.connected() as connection:
        await connection.send(request(b"{", length=9, path=f"/validate-image?{query}"))
        refused(await connection.receive(), 408)


@pytest.mark.parametrize(
    "query",
    ["timeout=", "timeout=s", "timeout=-1s", "timeout=1", "timeout=abc", "timeout=99999999999999999999s",
     "timeout=1e9s", "timeout=%00", "timeout=1s1h", "timeout", "&&=&", "timeout[]=1s", "TIMEOUT=0s",
     "timeout=%ff%fe", "timeout=" + "9" * 5000 + "s"],
)  # fmt: skip
async def test_anything_else_in_the_query_is_ignored(served: Served, query: str) -> None:
    answer = await served.ask(request(body(GOOD), path=f"/validate-image?{query}"))
    assert check_response(answer.body, GOOD, "validate").allowed


async def test_a_review_before_the_first_policy_gets_503(start: Start) -> None:
    served = start(None)
    async with served.connected() as connection:
        for path in ("/validate-image", "/mutate-image"):
            answer = await connection.ask(request(body(GOOD), path=path))
            refused(answer, 503)
            # With this header the API server would repeat the request until its timeout.
            assert "retry-after" not in answer.headers


async def test_too_many_bytes_of_bodies_get_503_and_retry_after(start: Start) -> None:
    served = start(max_held_bytes=100_000)
    async with served.connected() as first, served.connected() as second:
        await first.send(request(b" " * 90_000, length=95_000))
        await eventually(lambda: served.webhook._body_memory._bytes >= 90_000)
        await second.send(request(b" " * 20_000, length=30_000))
        answer = await second.receive()
        refused(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert await second.ended()
        # The first request is not affected, and all held memory is released.
        refused(await first.ask(b" " * 5_000), 400)
    await eventually(lambda: served.webhook._body_memory._bytes == 0)


class _Broken:
    revision = "0" * 12
    resources: Final[dict[Any, Any]] = {}
    looks_up = adds_pull_secrets = False

    def mode(self, namespace: str | None) -> Any:
        raise RuntimeError("a bug")


async def test_an_internal_error_gets_500_one_line_with_its_traceback_and_no_verdict(served: Served) -> None:
    served.live.snapshot = _Broken()  # type: ignore[assignment]
    answer = await served.ask(ASKED)
    refused(answer, 500)
    assert "a bug" not in answer.json()["error"]
    assert served.log.events == ["internal_error"]
    assert served.log.lines[0][0] == "error"
    assert served.log.lines[0][2]["exc_info"] is True
    assert served.metric("http_errors_total", code="500") == 1


async def test_bugs_are_all_counted_but_not_all_logged(served: Served) -> None:
    served.live.snapshot = _Broken()  # type: ignore[assignment]
    async with served.connected() as connection:
        for _ in range(20):
            await connection.ask(ASKED)
    assert served.metric("http_errors_total", code="500") == 20
    assert len(served.log.lines) < 10


@pytest.mark.parametrize("problem", [TimeoutError, asyncio.CancelledError, RecursionError, MemoryError])
async def test_an_internal_exception_never_becomes_another_answer(
    served: Served, problem: type[BaseException]
) -> None:
    class Raises(_Broken):
        def mode(self, namespace: str | None) -> Any:
            raise problem

    served.live.snapshot = Raises()  # type: ignore[assignment]
    async with served.connected() as connection:
        await connection.send(ASKED)
        if problem is asyncio.CancelledError:
            assert await connection.ended()
        else:
            refused(await connection.receive(), 500)


async def test_bad_requests_cost_no_traceback_and_few_lines(served: Served) -> None:
    async with served.connected() as connection:
        for _ in range(50):
            await connection.ask(request(b"{" + b"x" * 5000, path="/validate-image?" + "y" * 5000))
    assert served.metric("http_errors_total", code="400") == 50
    assert len(served.log.lines) < 10
    level, event, keys = served.log.lines[0]
    assert (level, event) == ("warning", "request_refused")
    assert "exc_info" not in keys
    assert all(len(str(value)) <= 400 for value in keys.values())


async def test_a_peer_that_leaves_during_its_body_causes_no_error(served: Served) -> None:
    async with served.connected() as connection:
        await connection.send(request(b"{" * 100_000, length=200_000))
        await eventually(lambda: served.metric("inflight_reviews") == 1)
        connection.abort()
    await eventually(lambda: served.metric("inflight_reviews") == 0)
    await eventually(lambda: served.listener.connections == 0)
    assert served.log.lines == []
    assert served.metric("http_errors_total", code="500") == 0


def test_the_recording_log_records_debug_lines() -> None:
    log = RecordingLog()
    log.debug("review", b=1)
    assert log.named("review") == [{"b": 1}]
