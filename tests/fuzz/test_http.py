"""Any bytes get only documented answers, and the next good review is judged.

Two listeners get the same bytes: one with the hot path, and one that leaves all requests to aiohttp. Their
answers must be the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.listeners import Served, Stream, split
from fuzz.mutations import HTTP_LINES, HTTP_TOKENS, mutated_bytes
from gatekeeper_py.http.connections.slowpath import TOO_MUCH_FRAMING
from support.budget import budget
from support.builders import pod, review
from support.contract import check_response
from support.wire import DEADLINE_SECONDS, JSON_TYPE, chunked, request

STATUSES: Final = frozenset({200, 400, 404, 405, 408, 413, 415})
"""Statuses of docs/interface.md, "HTTP", for a webhook that has a policy and is not overloaded."""

PATIENCE_SECONDS: Final = (0.02, 0.02, 0.02, 0.5)
"""Time to wait for answers before the connection is closed. Later answers are ignored, so no law depends on
the speed of the machine."""

MALFORMED: Final = b'{"error":"malformed HTTP"}'
FRAMING: Final = json.dumps({"error": TOO_MUCH_FRAMING}, separators=(",", ":")).encode()


def numbered(number: int, image: str = "registry.corp.io/web:1") -> bytes:
    """Return a review whose uid identifies its answer."""
    document = review(pod(image))
    document["request"]["uid"] = f"uid-{number}"
    return json.dumps(document).encode()


APPROVED: Final = request(numbered(0))
REJECTED: Final = request(numbered(0, "nginx"), path="/mutate-image?timeout=5s")
ORIGINALS: Final = (
    APPROVED,
    REJECTED,
    request(numbered(0), path="/validate-policy"),
    request(numbered(0), headers=[("Content-Type", "application/json; charset=utf-8")]),
    request(numbered(0), headers=[("Content-Type", "text/plain")]),
    request(numbered(0), headers=[]),
    request(numbered(0), headers=[JSON_TYPE, ("Content-Encoding", "gzip")]),
    request(numbered(0), headers=[JSON_TYPE, ("Connection", "close")]),
    request(b"null"),
    request(path="/livez", method="GET", headers=[]),
    chunked([numbered(0)[:100], numbered(0)[100:]]) + b"0\r\n\r\n",
    request(numbered(0), headers=[JSON_TYPE, ("Expect", "100-continue")]),
)
TOKENS: Final = (*HTTP_TOKENS, APPROVED)


@pytest.fixture(scope="module")
def listeners() -> Iterator[tuple[Served, Served]]:
    """Return a listener with the hot path and one without."""
    both = Served(direct=True), Served(direct=False)
    yield both
    for served in both:
        served.stop()


def check_stream(stream: Stream) -> None:
    """Check that each answer is documented and keeps the contract, and a closing answer is last."""
    assert not any(answer.closes for answer in stream[:-1])
    for status, body, _ in stream:
        assert status in STATUSES
        document = json.loads(body)
        if status != 200:
            assert set(document) == {"error"}
            continue
        response = document["response"]
        if response.get("auditAnnotations"):
            # The request may be anything by now, so only the rules of the answer are checked.
            check_response(body, {"request": {"uid": response["uid"], "object": None}}, "validate")


def check_bytes(listeners: tuple[Served, Served], parts: list[bytes], patience: float) -> None:
    """Check all laws for one stream of bytes."""
    got = []
    for served in listeners:
        received = served.exchange(parts, patience, around=request(numbered(7)))
        # An answer to HEAD announces a body that is not sent, so later answers cannot be separated.
        stream = [] if b"HEAD" in b"".join(parts) else split(received)
        check_stream(stream)
        got.append(stream)
        # The next connection is served in any case.
        answer = served.ask(request(numbered(8)))
        assert answer.status == 200
        assert check_response(answer.body, json.loads(numbered(8)), "validate").allowed
        assert served.problems == []
        assert served.log.named("internal_error") == []
    for direct, handled in zip(*got, strict=False):
        # The speed of the machine decides how much of a body arrives in time, and which input arrives in one
        # read with malformed bytes and is therefore refused. Without the hot path, aiohttp does not report
        # malformed chunks, so the bytes after them count as framing.
        if 408 in {direct.status, handled.status} or {MALFORMED, FRAMING} & {direct.body, handled.body}:
            break
        assert direct[:2] == handled[:2]
        if direct.closes != handled.closes:
            # A refusal closes the connection when the server did not wait for the body.
            assert direct.status != 200
            break


@pytest.mark.hypothesis
def test_any_bytes_get_documented_answers(listeners: tuple[Served, Served], rounds: Iterator[int]) -> None:
    @settings(max_examples=budget(40), suppress_health_check=list(HealthCheck))
    @given(mutated_bytes(ORIGINALS, HTTP_LINES, TOKENS), st.sampled_from(PATIENCE_SECONDS))
    def any_bytes(parts: list[bytes], patience: float) -> None:
        check_bytes(listeners, parts, patience)

    for _ in rounds:
        any_bytes()


@pytest.mark.parametrize("original", ORIGINALS)
def test_the_seeds_of_mutations_are_accepted(listeners: tuple[Served, Served], original: bytes) -> None:
    check_bytes(listeners, [original], PATIENCE_SECONDS[-1] / 2)


def test_a_good_pipeline_is_answered_in_order(listeners: tuple[Served, Served]) -> None:
    last = request(numbered(19), headers=[JSON_TYPE, ("Connection", "close")])
    content = b"".join([*(request(numbered(n)) for n in range(19)), last])
    for served in listeners:
        stream = split(served.exchange([content], DEADLINE_SECONDS))
        assert [json.loads(answer.body)["response"]["uid"] for answer in stream] == [
            f"uid-{n}" for n in range(20)
        ]


@pytest.mark.parametrize("version", [b"", b" HTTP/0.9", b" HTTP/2.0"])
def test_an_unsupported_http_version_is_malformed(listeners: tuple[Served, Served], version: bytes) -> None:
    """Fuzzing found this: the review was judged, and no client could read the status line of the answer."""
    content = APPROVED.replace(b" HTTP/1.1", version, 1)
    assert split(listeners[0].exchange([content], DEADLINE_SECONDS)) == [(400, MALFORMED, True)]


def test_malformed_bytes_after_a_good_request_end_the_connection(
    listeners: tuple[Served, Served],
) -> None:
    """Fuzzing found this: aiohttp may drop a request that arrives in one read with malformed bytes."""
    for served in listeners:
        stream = split(served.exchange([APPROVED + b"\0\0\r\n\r\n"], DEADLINE_SECONDS))
        assert stream[-1] == (400, MALFORMED, True)
        assert [answer.status for answer in stream[:-1]] in ([], [200])
