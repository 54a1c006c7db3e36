"""Every request gets its documented answer, and the server is unharmed afterwards."""

from __future__ import annotations

import asyncio
import copy
import functools
import gzip
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pytest

from builders import container, pod, pod_spec, review, workload
from contract import Answer as Verdict
from contract import check_response
from faults.monitored import GOOD_REQUEST, REVIEW, REVIEW_BODY, MonitoredServer, warmed_up
from wire import JSON_TYPE, Answer, chunked, request

MIB: Final = 1024 * 1024
MAX_BODY: Final = 7 * MIB
GOOD_IMAGE: Final = "registry.corp.io/web:1"

HEAD: Final = b"POST /validate-image HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

Body = Callable[[], bytes]
"""Makes the body when it is needed, because some bodies have megabytes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredServer]:
    largest = [request(make()) for make in (_brackets, _many_containers, _long_image)]
    yield from warmed_up(tmp_path_factory.mktemp("server"), largest)


@pytest.fixture(autouse=True)
async def check_unharmed(server: MonitoredServer) -> AsyncIterator[None]:
    """Check after each test that the server has no more resources in use than before."""
    yield
    await server.check_unharmed()


@functools.cache
def _bomb() -> bytes:
    """Return a gzip body that decompresses to 100 MiB."""
    return gzip.compress(b"\0" * 100 * MIB, 1)


def _brackets() -> bytes:
    return b"[" + b"[]," * (MAX_BODY // 3 - 1) + b"1]"


def _many_containers(image: str = GOOD_IMAGE, count: int = 1000) -> bytes:
    return json.dumps(review(pod(*[image] * count))).encode()


def _long_image() -> bytes:
    return json.dumps(review(pod("a" * 3_000_000))).encode()


def with_request(**fields: Any) -> bytes:
    """Return the usual review with these fields in its request; ``...`` removes a field."""
    changed = {**REVIEW["request"], **fields}
    return _dumps({**REVIEW, "request": {name: value for name, value in changed.items() if value is not ...}})


def with_padding(text: bytes) -> bytes:
    """Return the usual review with one more field that no decision reads, written as given."""
    return REVIEW_BODY[:-1] + b', "padding": ' + text + b"}"


def _dumps(document: Any) -> bytes:
    return json.dumps(document).encode()


def _constant(content: bytes) -> Body:
    return lambda: content


BAD_BODIES: Final[dict[str, tuple[int, Body]]] = {
    "truncated": (400, _constant(REVIEW_BODY[:-40])),
    "empty": (400, _constant(b"")),
    "scalar": (400, _constant(b"42")),
    "text": (400, _constant(b'"AdmissionReview"')),
    "array": (400, _constant(b"[" + REVIEW_BODY + b"]")),
    "null": (400, _constant(b"null")),
    "two-documents": (400, _constant(REVIEW_BODY + REVIEW_BODY)),
    "byte-order-mark": (400, _constant(b"\xef\xbb\xbf" + REVIEW_BODY)),
    "utf-16": (400, _constant(REVIEW_BODY.decode().encode("utf-16"))),
    "invalid-utf-8": (400, _constant(with_padding(b'"\xff\xfe"'))),
    "overlong-utf-8": (400, _constant(with_padding(b'"\xc0\xaf"'))),
    "surrogate-in-utf-8": (400, _constant(with_padding(b'"\xed\xa0\x80"'))),
    "lone-surrogate": (400, _constant(with_padding(b'"\\ud800"'))),
    "lone-low-surrogate": (400, _constant(with_padding(b'"\\udc00\\ud800"'))),
    "lone-surrogate-in-an-image": (400, _constant(_dumps(review(pod("registry.corp.io/\ud800"))))),
    "nan": (400, _constant(with_padding(b"NaN"))),
    "infinity": (400, _constant(with_padding(b"-Infinity"))),
    "1e999": (400, _constant(with_padding(b"1e999"))),
    "raw-newline-in-a-text": (400, _constant(with_padding(b'"a\nb"'))),
    "2,000-nested-brackets": (400, _constant(with_padding(b"[" * 2000 + b"]" * 2000))),
    "3-million-nested-brackets": (413, lambda: b"[" * 3_000_000),
    "3-million-nested-braces": (413, lambda: b'{"a":' * (MAX_BODY // 5)),
    "7-mib-of-empty-arrays": (413, _brackets),
    "a-byte-over-the-limit": (413, lambda: b" " * (MAX_BODY + 1)),
    "gzip-without-a-word": (400, _bomb),
    "no-request": (400, _constant(_dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}))),
    "request-null": (400, _constant(_dumps({**REVIEW, "request": None}))),
    "request-a-list": (400, _constant(_dumps({**REVIEW, "request": [REVIEW["request"]]}))),
    "uid-missing": (400, _constant(with_request(uid=...))),
    "uid-empty": (400, _constant(with_request(uid=""))),
    "uid-null": (400, _constant(with_request(uid=None))),
    "uid-number": (400, _constant(with_request(uid=42))),
    "uid-of-129": (400, _constant(with_request(uid="u" * 129))),
    "uid-huge": (400, lambda: with_request(uid="u" * 3_000_000)),
    "v1beta1": (400, _constant(_dumps({**REVIEW, "apiVersion": "admission.k8s.io/v1beta1"}))),
    "other-kind": (400, _constant(_dumps({**REVIEW, "kind": "ConversionReview"}))),
    "kind-missing": (400, _constant(with_request(kind=...))),
    "operation-a-number": (400, _constant(with_request(operation=1))),
}


@pytest.mark.parametrize("path", ["/validate-image", "/mutate-image"])
@pytest.mark.parametrize("name", BAD_BODIES)
async def test_invalid_reviews_are_refused(server: MonitoredServer, name: str, path: str) -> None:
    status, make = BAD_BODIES[name]
    body = make()
    async with server.connected() as connection:
        answer = await connection.ask(request(body, path=path))
        assert answer.status == status
        assert list(answer.json()) == ["error"]
        if len(body) <= MAX_BODY:
            # Only this request is refused: the connection stays open.
            assert not answer.closes
            assert (await connection.ask(GOOD_REQUEST)).status == 200
        else:
            assert answer.closes
            assert await connection.ended()


async def test_a_gzip_bomb_is_not_opened(server: MonitoredServer) -> None:
    async with server.connected() as connection:
        answer = await connection.ask(request(_bomb(), headers=[JSON_TYPE, ("Content-Encoding", "gzip")]))
        assert answer.status == 415
        assert list(answer.json()) == ["error"]


@dataclass(frozen=True)
class Case:
    """An unusual but well-formed review. The denial, or the first warning, contains ``message``."""

    allowed: bool
    body: Body
    message: str = ""


def _reviewed(obj: Any, **options: Any) -> Body:
    return _constant(_dumps(review(obj, **options)))


def _pod_with(**spec: Any) -> Body:
    """Return a Pod with these fields in its spec; ``...`` removes a field."""
    fields = {**pod_spec(GOOD_IMAGE), **spec}
    return _reviewed({**pod(), "spec": {name: value for name, value in fields.items() if value is not ...}})


def _pod_of(image: Any) -> Body:
    return _reviewed(pod(GOOD_IMAGE, image))


def _without(obj: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return a copy without one field."""
    changed = copy.deepcopy(obj)
    functools.reduce(lambda holder, key: holder[key], path[:-1], changed).pop(path[-1])
    return changed


def _twice(first: str, second: str) -> Body:
    """Return a container with two image keys. JSON decoders, including Go's, use the last one."""
    pair = f'"image": "{first}", "image": "{second}"'
    return _constant(REVIEW_BODY.replace(b'"image": "registry.corp.io/web:1"', pair.encode()))


SECOND: Final = "spec.containers[1]"

CASES: Final[dict[str, Case]] = {
    "usual": Case(True, _constant(REVIEW_BODY)),
    "image-twice-good-last": Case(True, _twice("evil.io/x", GOOD_IMAGE)),
    "image-twice-bad-last": Case(False, _twice(GOOD_IMAGE, "evil.io/x"), "evil.io/x"),
    "object-null": Case(False, _reviewed(None, kind=("", "Pod")), "no Pod"),
    "object-missing": Case(False, _constant(with_request(object=...)), "no Pod"),
    "object-a-list": Case(False, _reviewed([], kind=("", "Pod")), "not approved"),
    "object-null-on-delete": Case(True, _reviewed(None, kind=("", "Pod"), operation="DELETE")),
    "spec-missing": Case(False, _reviewed(_without(pod(), "spec")), "spec"),
    "spec-null": Case(False, _reviewed({**pod(), "spec": None}), "spec"),
    "spec-a-list": Case(False, _reviewed({**pod(), "spec": []}), "spec"),
    "containers-missing": Case(False, _pod_with(containers=...), "spec.containers"),
    "containers-null": Case(False, _pod_with(containers=None), "spec.containers"),
    "containers-an-object": Case(False, _pod_with(containers={"image": GOOD_IMAGE}), "spec.containers"),
    "containers-holding-null": Case(False, _pod_with(containers=[container(), None]), SECOND),
    "containers-holding-text": Case(False, _pod_with(containers=[container(), GOOD_IMAGE]), SECOND),
    "init-containers-null": Case(True, _pod_with(initContainers=None)),
    "init-containers-a-number": Case(False, _pod_with(initContainers=7), "spec.initContainers"),
    "volume-holding-null": Case(False, _pod_with(volumes=[None]), "spec.volumes[0]"),
    "volume-image-a-text": Case(
        False, _pod_with(volumes=[{"name": "v", "image": "x"}]), "spec.volumes[0].image"
    ),
    "template-without-containers": Case(
        True, _reviewed(_without(workload("Deployment"), "spec", "template", "spec", "containers"))
    ),
    "template-with-an-object-for-containers": Case(
        False, _reviewed(workload("Deployment", containers={})), "spec.template.spec.containers"
    ),
    "image-missing": Case(False, _pod_with(containers=[container(), {"name": "c1"}]), SECOND),
    "image-null": Case(False, _pod_of(None), SECOND),
    "image-empty": Case(False, _pod_of(""), SECOND),
    "image-42": Case(False, _pod_of(42), SECOND),
    "image-true": Case(False, _pod_of(True), SECOND),
    "image-a-list": Case(False, _pod_of([GOOD_IMAGE]), SECOND),
    "image-an-object": Case(False, _pod_of({"image": GOOD_IMAGE}), SECOND),
    "image-of-3-mb": Case(False, _long_image, "spec.containers[0]"),
    "image-with-control-characters": Case(False, _pod_of("registry.corp.io/\x1b[31mweb\x00\x7f"), SECOND),
    "image-with-newlines": Case(False, _pod_of("registry.corp.io/web:1\nregistry.corp.io/web:2\r"), SECOND),
    "image-with-a-surrogate-pair": Case(
        False, _constant(_dumps(review(pod(GOOD_IMAGE, "registry.corp.io/\U0001f600")))), SECOND
    ),
    "image-that-turns-the-text-around": Case(False, _pod_of("registry.corp.io/\u202egnp.exe"), SECOND),
    "container-named-by-a-list": Case(True, _pod_with(containers=[container(name=["x"])])),
    "1,000-containers": Case(True, _many_containers),
    "1,000-bad-containers": Case(False, lambda: _many_containers("evil.io/web:1"), "995 more"),
    "1,001-containers": Case(False, lambda: _many_containers(count=1001), "too many images (1001;"),
    "a-resource-of-unknown-shape": Case(
        True,
        _reviewed({"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"a": [[{"b": [None, 1]}]]}}),
        "Thing.example.com",
    ),
    "a-resource-with-a-pod-template-in-it": Case(
        False,
        _reviewed(
            {"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"a": [{"b": pod_spec("evil.io/x")}]}}
        ),
        "spec.a[0].b.containers[0].image",
    ),
    "a-million-digits": Case(True, lambda: with_padding(b'"' + b"1" * 1_000_000 + b'"')),
    "1,000-levels": Case(True, _constant(with_padding(b"[" * 1000 + b"]" * 1000))),
}


def judged(answer: Answer, body: bytes) -> Verdict:
    """Check that the answer is a 200 that the API server accepts; return the verdict."""
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert not answer.closes
    return check_response(answer.body, orjson.loads(body), "validate")


@pytest.mark.parametrize("name", CASES)
async def test_unusual_reviews_are_judged(server: MonitoredServer, name: str) -> None:
    case = CASES[name]
    body = case.body()
    async with server.connected() as connection:
        verdict = judged(await connection.ask(request(body)), body)
        # The verdict is the same for one piece and several, and for Content-Length and chunks.
        pieces = [body[:50], body[50:-50], body[-50:]]
        assert judged(await connection.ask(chunked(pieces) + b"0\r\n\r\n"), body) == verdict
    assert verdict.allowed == case.allowed
    if not case.allowed:
        assert case.message in verdict.message
    elif case.message:
        assert case.message in verdict.warnings[0]
    else:
        assert verdict.warnings == ()


@pytest.mark.parametrize("size", [9_000, 50_000, 70_000, 1_000_000])
async def test_a_large_body_in_two_pieces_is_judged(server: MonitoredServer, size: int) -> None:
    """The last piece is longer than the limit of a header, but is part of the body."""
    body = with_padding(b'"' + b" " * size + b'"')
    content = request(body)
    async with server.connected() as connection:
        for cut in (content.index(b"\r\n\r\n") + 2, content.index(b"{"), content.index(b"{") + 20):
            await connection.send(content[:cut])
            await asyncio.sleep(0.01)
            assert judged(await connection.ask(content[cut:]), body).allowed


@pytest.mark.parametrize("name", [name for name in CASES if name != "object-null-on-delete"])
async def test_the_mutating_endpoint_allows_unusual_reviews(server: MonitoredServer, name: str) -> None:
    body = CASES[name].body()
    async with server.connected() as connection:
        answer = await connection.ask(request(body, path="/mutate-image"))
    assert answer.status == 200
    verdict = check_response(answer.body, orjson.loads(body), "mutate")
    assert verdict.allowed
    assert verdict.patch == ()


@pytest.mark.parametrize("image", [GOOD_IMAGE, "evil.io/web:1", "registry.corp.io/{n}", "evil.io/{n}"])
async def test_1_000_containers_are_judged_within_50_ms(server: MonitoredServer, image: str) -> None:
    """The bound holds even if all images are different."""
    turns = itertools.count()

    def make() -> bytes:
        turn = next(turns)
        return _dumps(review(pod(*(image.format(n=n + 1000 * turn) for n in range(1000)))))

    answers = await _within(0.05, server, make)
    assert all(verdict.allowed == image.startswith("registry") for verdict in answers)


def _spec_of(lists: str) -> bytes:
    return _dumps(review({**pod(), "spec": {"@": 0}})).replace(b'{"@": 0}', lists.encode())


def _custom_of(spec: str) -> bytes:
    obj = {"apiVersion": "example.com/v1", "kind": "Thing", "spec": "@"}
    return _dumps(review(obj)).replace(b'"@"', spec.encode())


def _items(item: str, count: int) -> str:
    return f"[{','.join([item] * count)}]"


def _volumes(count: int) -> bytes:
    volumes = _items('{"image":{"reference":"a"}}', count - 1)
    return _spec_of(f'{{"containers":[{{"image":"a"}}],"volumes":{volumes}}}')


MANY: Final[dict[str, tuple[int, Callable[[int], bytes]]]] = {
    "containers": (300_000, lambda n: _spec_of(f'{{"containers":{_items(CONTAINER, n)}}}')),
    "init-containers": (
        300_000,
        lambda n: _spec_of(f'{{"containers":[],"initContainers":{_items(CONTAINER, n)}}}'),
    ),
    "ephemeral-containers": (
        300_000,
        lambda n: _spec_of(f'{{"containers":[],"ephemeralContainers":{_items(CONTAINER, n)}}}'),
    ),
    "image-volumes": (150_000, _volumes),
    "numbers": (1_000_000, lambda n: _spec_of(f'{{"containers":{_items("1", n)}}}')),
    "nulls": (1_000_000, lambda n: _spec_of(f'{{"containers":{_items("null", n)}}}')),
    "texts": (1_000_000, lambda n: _spec_of(f'{{"containers":{_items(chr(34) * 2, n)}}}')),
    "empty-mappings": (390_000, lambda n: _spec_of(f'{{"containers":{_items("{}", n)}}}')),
    "custom-resource": (190_000, lambda n: _custom_of(f'{{"containers":{_items(CONTAINER, n)}}}')),
    "pod-specs": (100_000, lambda n: _custom_of(_items(f'{{"containers":[{CONTAINER}]}}', n))),
}
"""For each name, the maximum number of items that no other limit refuses, and a function that makes the body
with a number of items."""

CONTAINER: Final = '{"image":"a"}'


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("count", [1001, 10_000, 0], ids=["1,001", "10,000", "most"])
async def test_objects_with_too_many_items_are_rejected_within_250_ms(
    server: MonitoredServer, name: str, count: int
) -> None:
    most, make = MANY[name]
    body = make(count or most)
    for verdict in await _within(0.25, server, lambda: body):
        assert not verdict.allowed
        assert f"too many images ({count or most}; at most 1,000)" in verdict.message


async def test_an_old_object_with_a_million_items_is_compared_within_250_ms(server: MonitoredServer) -> None:
    """None of its images counts as present."""
    marked = {**pod(), "spec": {"containers": "@"}}
    for image in (GOOD_IMAGE, "evil.io/web:1"):
        document = _dumps(review(pod(image), operation="UPDATE", old=marked))
        body = document.replace(b'"@"', _items("1", 1_000_000).encode())
        for verdict in await _within(0.25, server, functools.partial(bytes, body)):
            assert verdict.allowed == (image == GOOD_IMAGE)


async def _within(seconds: float, server: MonitoredServer, make: Body) -> list[Verdict]:
    """Repeat the review until the event loop spends at most ``seconds`` on one; return the answers.

    Processor time: the machine has other things to do. The caller waits as long on one that has not.
    """
    verdicts: list[Verdict] = []
    taken: list[float] = []
    async with server.connected() as connection:
        while len(taken) < 20:
            body = make()
            start = server.loop_seconds()
            answer = await connection.ask(request(body))
            taken.append(server.loop_seconds() - start)
            verdicts.append(judged(answer, body))
            if taken[-1] < seconds:
                return verdicts
    pytest.fail(f"slow: {taken}")


@pytest.mark.parametrize(
    "query",
    [
        "timeout=", "timeout", "timeout=abc", "timeout=-5s", "timeout=1e9s", "timeout=5", "timeout=0s",
        "timeout=5s&timeout=1ns", "timeout=%00%ff", "timeout=" + "9" * 4000 + "s", "timeout=99999999999h",
        "a=b&&&=&timeout=5s", "?", "timeout=5s#fragment", "timeout=10s",
    ],
)  # fmt: skip
async def test_an_invalid_timeout_is_ignored(server: MonitoredServer, query: str) -> None:
    async with server.connected() as connection:
        answer = await connection.ask(request(REVIEW_BODY, path=f"/validate-image?{query}"))
        assert judged(answer, REVIEW_BODY).allowed


MALFORMED: Final = {
    "length-and-chunked": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-and-length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two-lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "bare-lf": GOOD_REQUEST.replace(b"\r\n", b"\n"),
    "9-kb-header": HEAD + b"X: " + b"x" * 9000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "9-kb-header-in-20-fields": HEAD + b"X: %s\r\n" % (b"x" * 440) * 20 + b"Content-Length: 2\r\n\r\n{}",
    "9-kb-header-without-an-end": HEAD + b"X: %s\r\n" % (b"x" * 440) * 20,
    "9-kb-header-on-a-large-request": GOOD_REQUEST.replace(b"\r\n", b"\r\nX: " + b"x" * 440, 1).replace(
        b"Host", b"\r\nX: %s" % (b"x" * 440) * 20 + b"\r\nHost", 1
    ),
    "9-kb-of-path": b"POST /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw-bytes-in-the-path": GOOD_REQUEST.replace(b"-image", b"-image?timeout=\xff", 1),
    "200-fields": HEAD + b"X: y\r\n" * 200 + b"\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "tls-hello-inside-tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    "no-http": b"hello\r\n\r\n",
    "zeros": b"\0" * 1000,
    "bad-chunk-size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "bad-chunk-end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http_gets_400_and_ends_the_connection(server: MonitoredServer, name: str) -> None:
    async with server.connected() as connection:
        answer = await connection.ask(MALFORMED[name])
        assert answer.status == 400
        assert list(answer.json()) == ["error"]
        assert answer.closes
        assert await connection.ended()


@pytest.mark.parametrize("name", ["tls-hello-inside-tls", "http-2-preface", "9-kb-header-in-20-fields"])
async def test_the_plain_port_refuses_malformed_http(server: MonitoredServer, name: str) -> None:
    async with server.connected("health") as connection:
        answer = await connection.ask(MALFORMED[name])
        assert answer.status == 400
        assert answer.closes
        assert await connection.ended()


def test_the_log_has_few_lines_and_no_traceback(server: MonitoredServer) -> None:
    """This must be the last test, because it checks the log of all the others."""
    server.check_log()
