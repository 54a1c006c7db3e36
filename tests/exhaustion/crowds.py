"""The catalogue of crowds: many connections at once, each of which costs the server something.

All of them come from one address, or each from one of many: an attacker in the cluster may have one Pod
or hundreds. The probe is one more client of the first address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Literal

from exhaustion.making import body, items, named, pod_with
from exhaustion.target import Attack, Target
from support.builders import pod, review
from support.wire import JSON_TYPE, chunked, request

Speaks = Literal["tcp", "tls", "health"]
"""Target of a crowd: the webhook's port without TLS, the webhook with TLS, or the health port."""

Then = Literal["wait", "drip", "tiny-records", "never-read", "read-slowly", "reset", "close", "again"]
"""Behaviour after the opening: do nothing; send ``rest`` byte by byte; send the opening itself with one byte
in each TLS record; read nothing, or slowly; reset or close the connection at once; read the answer and send
the opening again."""

DIALS_AT_ONCE: Final = 100
DRIP_SECONDS: Final = 0.3
REDIAL_SECONDS: Final = 0.2
LEAVE_SECONDS: Final = 5.0
ADDRESSES: Final = 200
"""Loopback addresses from which a crowd connects."""


@dataclass(frozen=True)
class Crowd:
    """Many connections that ``open`` with these bytes. A closed connection is dialled again until the end.

    ``answers`` are the allowed statuses of answers; the server may always close a connection.
    """

    name: str
    count: int
    speaks: Speaks
    opening: bytes = b""
    then: Then = "wait"
    rest: bytes = b""
    answers: frozenset[int] = frozenset()
    seconds: float = 3.0
    addresses: int = 1

    def attack(self) -> Attack:
        async def attack(target: Target) -> None:
            members = _Members(self, target)
            await members.run()
            assert set(members.answers) <= self.answers, members.answers

        return attack


class _Members:
    """The connections of a crowd while it attacks."""

    def __init__(self, crowd: Crowd, target: Target) -> None:
        self.answers: Counter[int] = Counter()
        self.cut_off = 0
        self._crowd = crowd
        self._address = target.server.address("health" if crowd.speaks == "health" else "webhook")
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if crowd.speaks == "tls" else None
        if self._trust is not None:
            self._trust.check_hostname = False
            self._trust.verify_mode = ssl.CERT_NONE
        self._dialling = asyncio.Semaphore(DIALS_AT_ONCE)
        self._end = 0.0

    async def run(self) -> None:
        self._end = time.monotonic() + self._crowd.seconds
        tasks = [asyncio.create_task(self._member(number)) for number in range(self._crowd.count)]
        _, pending = await asyncio.wait(tasks, timeout=self._crowd.seconds)
        for task in pending:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, Exception):
                raise found

    async def _member(self, number: int) -> None:
        while time.monotonic() < self._end:
            try:
                async with self._dialling:
                    reader, writer = await self._dial(number)
            except (OSError, EOFError):
                await asyncio.sleep(REDIAL_SECONDS)
                continue
            try:
                await self._behave(reader, writer)
            except (OSError, EOFError):
                self.cut_off += 1
            finally:
                writer.transport.abort()

    async def _dial(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        crowd = self._crowd
        reader, writer = await asyncio.open_connection(
            *self._address,
            local_addr=(f"127.0.0.{1 + number % crowd.addresses}", 0),
            ssl=self._trust,
            server_hostname="localhost" if self._trust is not None else None,
        )
        plain = writer.get_extra_info("socket")
        if crowd.then in {"never-read", "read-slowly"}:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if crowd.then == "reset":
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reader, writer

    async def _behave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        crowd = self._crowd
        if crowd.then == "never-read":
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        for part in map(bytes, zip(crowd.opening)) if crowd.then == "tiny-records" else [crowd.opening]:
            writer.write(part)
        match crowd.then:
            case "reset" | "close":
                writer.close()
                await writer.wait_closed()
            case "never-read":
                await asyncio.sleep(crowd.seconds)
            case "read-slowly":
                while await reader.read(100):  # noqa: ASYNC110 - the sleep is what makes it slow
                    await asyncio.sleep(DRIP_SECONDS)
            case "again":
                while await self._answer(reader):
                    writer.write(crowd.opening)
            case _:
                dripping = asyncio.create_task(self._drip(writer))
                try:
                    while await self._answer(reader):
                        pass
                finally:
                    dripping.cancel()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for byte in self._crowd.rest:
                writer.write(bytes([byte]))
                await asyncio.sleep(DRIP_SECONDS)

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        """Read and count one answer; return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        self.answers[int(head.split()[1])] += 1
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length or b"0"))
        return b"connection: close" not in head


GOOD: Final = body(review(pod("registry.corp.io/web:1")))
DENIED: Final = body(review(pod(*(f"evil.io/web:{number}" for number in range(20)))))
CHUNKED: Final = chunked([GOOD.partition(b"\r\n\r\n")[2]]) + b"0\r\n\r\n"
HALF_A_HEADER: Final = GOOD[: GOOD.index(b"Content-Type")]
HEAD: Final = request(b"", length=100_000)
HELLO: Final = bytes.fromhex("1603010200010001fc0303") + b"\0" * 200
GET_METRICS: Final = request(path="/metrics", method="GET", headers=[])
GET_POLICY: Final = request(path="/policy", method="GET", headers=[])
REFUSED: Final = b"".join((
    request(b"", path="/", method="GET", headers=[]),
    request(b"", method="GET"),
    request(b"{"),
    request(b"{}", headers=[("Content-Type", "text/plain")]),
))  # fmt: skip
"""Four requests that are refused for different reasons."""

REFUSALS: Final = frozenset({404, 405, 400, 415})
FRAMING: Final = frozenset({413, 408, 503})
OK: Final = frozenset({200})
SHED: Final = frozenset({200, 408, 503})
"""Statuses for 500 large bodies at once. A body that the crowd cannot send within 2 s gets 408. A body for
which one address has no memory left gets 503: 500 bodies of 50 KB are more than its quarter."""


def _hello() -> bytes:
    """Return the complete first half of a client's handshake."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    sent = ssl.MemoryBIO()
    client = trust.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def _large(size: int) -> bytes:
    """Return a good review of about this size."""
    return body(review(pod_with(containers=named("registry.corp.io/a:{n}", 3), tolerations="@x")), x=items(
        '{"key":"value"}', size
    ))  # fmt: skip


def crowds(most: int) -> dict[str, Crowd]:
    """Return all crowds, for a server with this maximum number of connections."""
    many = most + most // 5
    found = [
        Crowd("silent-before-tls", many, "tcp"),
        Crowd("half-a-hello", many, "tcp", HELLO),
        Crowd("a-hello-then-silent", many, "tcp", _hello()),
        Crowd("a-hello-byte-by-byte", many, "tcp", _hello()[:20], "drip", _hello()[20:]),
        Crowd("no-tls", most, "tcp", GOOD),
        Crowd("silent-after-tls", many, "tls"),
        Crowd("half-a-header", many, "tls", HALF_A_HEADER, answers=frozenset({408})),
        Crowd("a-header-byte-by-byte", many, "tls", HALF_A_HEADER, "drip", b"x" * 1000, frozenset({408})),
        Crowd("no-body", many, "tls", HEAD, answers=frozenset({408})),
        Crowd("half-a-body", many, "tls", HEAD + b"{" + b" " * 50_000, answers=frozenset({408, 503})),
        Crowd("a-body-byte-by-byte", many, "tls", HEAD, "drip", b" " * 1000, frozenset({408})),
        Crowd("half-of-7-mib", 100, "tls", request(b" " * 3_500_000, length=7_000_000),
              answers=frozenset({408, 503}), seconds=5),
        Crowd("one-good-review-then-silent", many, "tls", GOOD, answers=OK),
        Crowd("one-good-review-then-half-a-header", many, "tls", GOOD + HALF_A_HEADER, answers=OK | {408}),
        Crowd("one-good-review-then-half-a-body", many, "tls", GOOD + HEAD, answers=OK | {408}),
        Crowd("good-reviews", most, "tls", GOOD, "again", answers=OK),
        Crowd("good-reviews-of-60-kb", most, "tls", _large(60_000), "again", answers=OK | {503}),
        Crowd("good-reviews-of-250-kb", most, "tls", _large(250_000), "again", answers=SHED),
        Crowd("good-reviews-of-1-mb", most, "tls", _large(1_000_000), "again", answers=SHED),
        Crowd("half-of-64-kb", many, "tls", request(b" " * 60_000, length=64_000),
              answers=frozenset({408, 503})),
        Crowd("half-of-250-kb", many, "tls", request(b" " * 200_000, length=250_000),
              answers=frozenset({408, 503})),
        Crowd("good-reviews-in-chunks", most, "tls", CHUNKED, "again", answers=OK),
        Crowd("one-good-review-in-chunks-then-half", many, "tls", CHUNKED + CHUNKED[:-20],
              answers=OK | {408}),
        Crowd("denials", most, "tls", DENIED, "again", answers=OK),
        Crowd("never-reading", most, "tls", DENIED * 500, "never-read", seconds=5),
        Crowd("reading-slowly", most, "tls", DENIED * 100, "read-slowly", seconds=5),
        Crowd("dial-and-reset", most, "tcp", b"", "reset"),
        Crowd("handshake-and-reset", most, "tls", b"", "reset"),
        Crowd("handshake-and-close", most, "tls", b"", "close"),
        Crowd("a-review-and-reset", most, "tls", GOOD, "reset"),
        Crowd("malformed", most, "tls", b"\0" * 100, answers=frozenset({400})),
        Crowd("not-found", most, "tls", request(GOOD, path="/"), "again", answers=frozenset({404})),
        Crowd("not-found-and-never-reading", most, "tls", request(GOOD, path="/") * 1000, "never-read",
              seconds=5),
        Crowd("expecting-100-continue", most, "tls",
              request(b"", length=7_000_000, headers=[JSON_TYPE, ("Expect", "100-continue")]),
              answers=frozenset({100, 408})),
        *(Crowd(f"tiny-chunks-on-{count}", count, "tls", chunked([b" "] * 100_000), answers=FRAMING)
          for count in (16, 60, 150, 300)),
        Crowd("tiny-chunks-in-tiny-records", 60, "tls", chunked([b" "] * 200), "tiny-records",
              answers=FRAMING),
        Crowd("a-body-in-tiny-records", 60, "tls", HEAD + b" " * 500, "tiny-records",
              answers=frozenset({408})),
        Crowd("a-header-in-tiny-records", 60, "tls", HALF_A_HEADER + b"x" * 500, "tiny-records",
              answers=frozenset({408})),
        Crowd("whole-bodies-of-tiny-chunks", 300, "tls", chunked([b" "] * 300) + b"0\r\n\r\n", "again",
              answers=FRAMING),
        Crowd("chunk-extensions", 50, "tls", chunked([]) + (b"1;" + b"x" * 4000 + b"\r\n \r\n") * 500,
              answers=FRAMING),
        Crowd("trailers-without-end", 50, "tls", chunked([b"{}"]) + b"0\r\n" + b"a: b\r\n" * 100_000,
              answers=FRAMING),
        *(Crowd(f"refusals-pipelined-on-{count}", count, "tls", REFUSED * 2500, answers=REFUSALS)
          for count in (16, 60, 300)),
        Crowd("refusals-pipelined-after-a-review", 300, "tls", GOOD + REFUSED * 2500,
              answers=REFUSALS | OK),
        Crowd("refusals-pipelined-and-never-reading", 300, "tls", REFUSED * 2500, "never-read", seconds=5),
        Crowd("too-large-pipelined", 300, "tls", request(b"", length=8_000_000) * 2500,
              answers=frozenset({413})),
        Crowd("pipelined", 50, "tls", GOOD * 2000, answers=OK),
        Crowd("pipelined-and-never-reading", most, "tls", GOOD * 1000, "never-read", seconds=5),
        Crowd("empty-lines", 50, "tls", b"\r\n" * 500_000, answers=frozenset({400})),
        Crowd("silent-at-the-health-port", 300, "health"),
        Crowd("half-a-header-at-the-health-port", 300, "health", GET_METRICS[:20], answers=frozenset({408})),
        Crowd("metrics", 100, "health", GET_METRICS, "again", answers=OK),
        Crowd("metrics-pipelined", 20, "health", GET_METRICS * 500, "again", answers=OK),
        Crowd("metrics-never-read", 100, "health", GET_METRICS * 500, "never-read"),
        Crowd("policy", 100, "health", GET_POLICY, "again", answers=OK),
        Crowd("policy-never-read", 100, "health", GET_POLICY * 500, "never-read"),
    ]  # fmt: skip
    both = []
    for crowd in found:
        both.append(crowd)
        if crowd.count > most:
            spread = replace(crowd, name=f"{crowd.name}-from-many-addresses", addresses=ADDRESSES)
            both.append(spread)
    return {crowd.name: crowd for crowd in both}
