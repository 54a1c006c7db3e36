"""Every request gets its documented answer, and the server is unharmed afterwards."""

from __future__ import annotations

import asyncio
import functools
import gzip
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pytest

from faults.monitored import GOOD_REQUEST, REVIEW, REVIEW_BODY, MonitoredServer, warmed_up
from support.builders import pod, review
from support.contract import Answer as Verdict
from support.contract import check_response
from support.wire import JSON_TYPE, Answer, chunked, request

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
    "invalid-utf-8": (400, _constant(with_padding(b'"\xff\xfe"'))),
    "2,000-nested-brackets": (400, _constant(with_padding(b"[" * 2000 + b"]" * 2000))),
    "3-million-nested-brackets": (413, lambda: b"[" * 3_000_000),
    "3-million-nested-braces": (413, lambda: b'{"a":' * (MAX_BODY // 5)),
    "7-mib-of-empty-arrays": (413, _brackets),
    "a-byte-over-the-limit": (413, lambda: b" " * (MAX_BODY + 1)),
    "gzip-without-a-word": (400, _bomb),
    "uid-missing": (400, _constant(with_request(uid=...))),
    "uid-huge": (400, lambda: with_request(uid="u" * 3_000_000)),
}
"""Bodies that take the most work to refuse. All other ones are in webhook/test_status_codes.py."""


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


def _twice(first: str, second: str) -> Body:
    """Return a container with two image keys. JSON decoders, including Go's, use the last one."""
    pair = f'"image": "{first}", "image": "{second}"'
    return _constant(REVIEW_BODY.replace(b'"image": "registry.corp.io/web:1"', pair.encode()))


CASES: Final[dict[str, Case]] = {
    "usual": Case(True, _constant(REVIEW_BODY)),
    "image-twice-good-last": Case(True, _twice("evil.io/x", GOOD_IMAGE)),
    "image-twice-bad-last": Case(False, _twice(GOOD_IMAGE, "evil.io/x"), "evil.io/x"),
    "image-of-3-mb": Case(False, _long_image, "spec.containers[0]"),
    "image-with-control-characters": Case(
        False, _reviewed(pod("registry.corp.io/\x1b[31mweb\x00\x7f")), "spec.containers[0]"
    ),
    "1,000-containers": Case(True, _many_containers),
    "1,000-bad-containers": Case(False, lambda: _many_containers("evil.io/web:1"), "995 more"),
    "1,001-containers": Case(False, lambda: _many_containers(count=1001), "too many images (1001;"),
    "a-million-digits": Case(True, lambda: with_padding(b'"' + b"1" * 1_000_000 + b'"')),
    "1,000-levels": Case(True, _constant(with_padding(b"[" * 1000 + b"]" * 1000))),
}
"""Reviews of each kind of answer. All other shapes are in core/admission/test_workload.py."""


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
        mutating = await connection.ask(request(body, path="/mutate-image"))
    assert check_response(mutating.body, orjson.loads(body), "mutate").patch == ()
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


@pytest.mark.parametrize("image", [GOOD_IMAGE, "evil.io/web:1", "registry.corp.io/{n}", "evil.io/{n}"])
async def test_1_000_containers_are_judged_within_50_ms(server: MonitoredServer, image: str) -> None:
    """The bound holds even if all images are different."""
    turns = itertools.count()

    def make() -> bytes:
        turn = next(turns)
        return _dumps(review(pod(*(image.format(n=n + 1000 * turn) for n in range(1000)))))

    answers = await _within(0.05, server, make)
    assert all(verdict.allowed == image.startswith("registry") for verdict in answers)


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


MALFORMED: Final = {
    "9-kb-header-in-20-fields": HEAD + b"X: %s\r\n" % (b"x" * 440) * 20 + b"Content-Length: 2\r\n\r\n{}",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "tls-hello-inside-tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
}
"""Some of the requests in http/test_listener.py and http/connections/test_protocol.py."""


@pytest.mark.parametrize("listener", ["webhook", "health"])
@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http_gets_400_and_ends_the_connection(
    server: MonitoredServer, name: str, listener: str
) -> None:
    async with server.connected(listener) as connection:
        answer = await connection.ask(MALFORMED[name])
        assert answer.status == 400
        assert list(answer.json()) == ["error"]
        assert answer.closes
        assert await connection.ended()


def test_the_log_has_few_lines_and_no_traceback(server: MonitoredServer) -> None:
    """This must be the last test, because it checks the log of all the others."""
    server.check_log()
