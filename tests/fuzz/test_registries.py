"""A look-up ends for any bytes from a registry, and no bytes are slow to read.

Some characters in a stream stand for an act of the registry, such as waiting for a request.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from typing import Final

import pytest
import trustme
from hypothesis import HealthCheck, given, settings

from exhaustion.hostile import Listening
from exhaustion.registries import (
    CHUNKED,
    CONTINUE,
    COOKIES,
    DIGEST,
    GOOD,
    HINTS,
    SERVER_HELLO,
    TYPE,
    body,
    head,
)
from exhaustion.steps import KINDS, Act, Kind, Peer, Row, Steps, close, half_close, reset
from fuzz.climbing import Grammar, Recipe
from fuzz.conftest import SECONDS, search
from fuzz.loops import MeasuredLoop
from fuzz.mutations import HTTP_LINES, HTTP_TOKENS, mutated_bytes
from gatekeeper_py.core.images.reference import check_digest
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.asking import Reply
from registry.world import World
from support.budget import budget

STREAM_BYTES: Final = 8 * 2**20 if SECONDS else 1_000_000
PEAK_BYTES: Final = 24 * 2**20
"""Limit for one connection: a manifest of 4 MiB, twice while it grows, and the headers and buffers."""

PATIENCE_SECONDS: Final = 0.1
"""Time after which the registry closes a connection whose client does nothing."""

PAUSE_SECONDS: Final = 0.001
MOST_ACTS: Final = 100
"""Acts in a stream, so that it does not take long. Later characters are bytes."""


def _await_request(peer: Peer) -> None:
    peer.read()


def _set_patience(peer: Peer) -> None:
    peer.connection.settimeout(PATIENCE_SECONDS)


def _pause(peer: Peer) -> None:
    peer.wait(PAUSE_SECONDS)


ACTS: Final[dict[str, Act]] = {"\x11": _await_request, "\x12": _pause, "\x13": reset, "\x14": half_close}
AWAIT, PAUSE, RESET, HALF = ACTS


def played(text: str) -> Steps:
    """Return the steps for a text: its characters as bytes, and acts."""
    parts = re.split("([\x11-\x14])", text, maxsplit=MOST_ACTS)
    return (_set_patience, *(ACTS.get(part) or part.encode("latin-1") for part in parts), close)


class Asking(MeasuredLoop):
    """A client on a loop in a separate thread, and a registry whose steps the test chooses."""

    def __init__(self, kind: Kind, trust: ssl.SSLContext, context: ssl.SSLContext) -> None:
        self._kind = kind
        self._trust = trust
        self._registry = Listening(_row(kind, ()), lambda: context)
        self.host = f"127.0.0.1:{self._registry.sockets[kind].getsockname()[1]}"
        super().__init__()

    async def begin(self) -> None:
        self._world = World(self._trust)
        self._world.settings[self.host] = Registry(host=self.host, plain_http=self._kind == "plain")

    async def finish(self) -> None:
        await self._world.close()
        self._registry.close()

    def ask(self, steps: Steps, *, shakes_hands: bool = True, times: int = 1) -> list[Reply]:
        """Query the registry, whose connections take these steps."""
        self._registry.row = _row(self._kind, steps, shakes_hands=shakes_hands)
        self._registry.start()
        try:
            return [self.call(self._world.query(self.host)) for _ in range(times)]
        finally:
            self._registry.finish(PATIENCE_SECONDS)


def _row(kind: Kind, steps: Steps, *, shakes_hands: bool = True) -> Row:
    return Row("", {"": (close,)}, frozenset(), steps, (kind,), shakes_hands)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[Kind, Asking]]:
    """Return a client of a plain registry and one of a registry with TLS."""
    ca = trustme.CA()
    trust, context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.configure_trust(trust)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    made = {kind: Asking(kind, trust, context) for kind in KINDS}
    yield made
    for client in made.values():
        client.stop()
        assert client.problems == []


def text_of(content: bytes) -> str:
    return content.decode("latin-1")


ASKED: Final = AWAIT + text_of(head(405)) + AWAIT
"""The client has sent HEAD and then GET."""

ANSWERS: Final = Grammar(
    (
        *(AWAIT, PAUSE, RESET, HALF, "\r\n", "a: b\r\n", "a", " ", "\t", ":", ";", "0", "\0", "\xe9"),
        *("1\r\n \r\n", "1;a=b\r\nx\r\n", "0\r\n\r\n", "ffffffff\r\n", "Content-Length: 1\r\n"),
        *("HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
        *("Connection: close\r\n", 'WWW-Authenticate: Bearer a="'),
        *map(text_of, (HINTS, GOOD, head(405), head(404), head(401), body(b"[]"), CHUNKED)),
    ),
    (
        *(("", "", ""), (AWAIT, "", ""), ("a: ", "", "\r\n"), ("0\r\n", "", "\r\n")),
        *((AWAIT + "HTTP/1.1 200 OK\r\n", "", "\r\n\r\n"), (AWAIT + "HTTP/1.1 ", "", "\r\n\r\n")),
        (AWAIT + "HTTP/1.1 401 X\r\nWWW-Authenticate: ", ",", "\r\n\r\n"),
        *((AWAIT + text_of(GOOD), "", ""), (ASKED + text_of(CHUNKED), "", "")),
        (ASKED + text_of(head(200, TYPE, length=None)), "", ""),
    ),
)
"""Streams of answers to HEAD and GET."""

KNOWN: Final = (
    Recipe(AWAIT, text_of(CONTINUE)),
    Recipe(AWAIT + text_of(GOOD), text_of(GOOD)),
    Recipe(AWAIT + "HTTP/1.1 200 OK\r\n", "a: b\r\n"),
    Recipe(ASKED + text_of(CHUNKED), "1;a=b\r\nx\r\n"),
)
"""Known attacks, with which the search begins."""

RECORDS: Final = Grammar(
    (
        *(PAUSE, RESET, HALF, "\0", "\xff", "\x16\x03\x03", "\x02\xff\xff\xff"),
        *("\x14\x03\x03\0\x01\x01", "\x15\x03\x03\0\x02\x01\x5a", "\x16\x03\x03\0\x01\x02"),
        *("\x17\x03\x03\0\x01\0", "\x16\x03\x03\x40\0" + "\0" * 0x4000),
        *map(text_of, (SERVER_HELLO, GOOD)),
    ),
    (
        *(("", "", ""), ("\x16\x03\x03\x40\0", "", ""), (text_of(SERVER_HELLO), "", "")),
        ("\x16\x03\x03\0\x04\x0b\xff\xff\xff", "", ""),
    ),
)
"""Streams of TLS records in place of a handshake."""


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_of_a_registry_is_slow(clients: dict[Kind, Asking], kind: Kind) -> None:
    search(ANSWERS, _cost(clients[kind]), searches=3, first=KNOWN)


@pytest.mark.long
def test_no_handshake_of_a_registry_is_slow(clients: dict[Kind, Asking]) -> None:
    search(RECORDS, _cost(clients["tls"], shakes_hands=False), searches=3)


def _cost(client: Asking, *, shakes_hands: bool = True) -> Callable[[Recipe], float]:
    def cost(recipe: Recipe) -> float:
        steps = played(recipe.write(STREAM_BYTES))
        # The second query finds what the first one left behind.
        return client.cost_of(lambda: client.ask(steps, shakes_hands=shakes_hands, times=2), PEAK_BYTES)

    return cost


ORIGINALS: Final = (
    GOOD,
    head(405) + body(b"{}"),
    head(405) + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    head(404) * 2,
    head(401, 'WWW-Authenticate: Basic realm="x"'),
    head(429, "Retry-After: 1"),
    HINTS + GOOD,
    GOOD[:-2] + COOKIES[:500] + b"\r\n",
    body(b"{}", TYPE, f"Docker-Content-Digest: {DIGEST}"),
)


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_of_a_registry_get_an_answer(
    clients: dict[Kind, Asking], kind: Kind, rounds: Iterator[int]
) -> None:
    client = clients[kind]

    @settings(max_examples=budget(20), suppress_health_check=list(HealthCheck))
    @given(mutated_bytes(ORIGINALS, HTTP_LINES, HTTP_TOKENS))
    def any_bytes(parts: list[bytes]) -> None:
        answer = AWAIT + PAUSE.join(map(text_of, parts))
        for reply in client.ask(played(answer * 2), times=2):
            if reply.answer.status == "found":
                check_digest(reply.answer.digest)
            assert bool(reply.answer.cause) == (reply.answer.status == "error")
        # The next connection is good, whatever the last one was.
        (reply,) = client.ask(played(AWAIT + text_of(GOOD)))
        assert reply.answer.status == "found"

    for _ in rounds:
        any_bytes()
