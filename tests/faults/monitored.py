"""A real ``serve`` under hostile input, with checks that it still answers and has lost no resources."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import Server, ready_server
from support.wire import Connection, eventually, request

REVIEW: Final = review(pod("registry.corp.io/web:1"))
REVIEW_BODY: Final = json.dumps(REVIEW).encode()
GOOD_REQUEST: Final = request(REVIEW_BODY)

PROMPT_SECONDS: Final = 0.1
TRIES: Final = 20
"""The test machine may be busy, so the fastest of these attempts counts."""

GROWTH_MIB: Final = 48
"""Allowed growth above the memory after warm-up, because allocators keep fragments. Ten leaked bodies of
7 MiB would exceed it."""


class MonitoredServer:
    """The server, and its file descriptors and memory after warm-up."""

    def __init__(self, server: Server, ca: Path) -> None:
        self.server = server
        self.trust = ssl.create_default_context(cafile=ca)
        self.started = time.monotonic()
        self._process = Path("/proc") / str(server.process.pid)
        self._fds = 0
        self._mib = 0.0

    async def warm_up(self, contents: list[bytes]) -> None:
        """Send the requests that take the most memory, and record the server's resources afterwards."""
        for content in contents:
            async with self.connected() as connection:
                await connection.ask(content)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(50):
                await stack.enter_async_context(self.connected())
        await self.wait_until_idle()
        self._fds, self._mib = self.fds(), self.mib()

    @contextlib.asynccontextmanager
    async def connected(self, listener: str = "webhook") -> AsyncIterator[Connection]:
        """Open a TLS connection to the webhook, or a plain one to ``health``."""
        trust = self.trust if listener == "webhook" else None
        connection = await Connection.open(*self.server.address(listener), trust)
        try:
            yield connection
        finally:
            await connection.close()

    async def check_answers(self) -> None:
        """Check that the server approves a usual review within ``PROMPT_SECONDS``."""
        seconds: list[float] = []
        async with self.connected() as connection:
            while len(seconds) < TRIES:
                start = time.perf_counter()
                answer = await connection.ask(GOOD_REQUEST)
                seconds.append(time.perf_counter() - start)
                assert answer.status == 200
                assert check_response(answer.body, REVIEW, "validate").allowed
                if seconds[-1] < PROMPT_SECONDS:
                    return
        raise AssertionError(f"slow: {seconds}")

    async def check_unharmed(self) -> None:
        """Check that the server answers, and has no more connections, descriptors and memory than before."""
        await self.check_answers()
        await self.wait_until_idle()
        await eventually(lambda: self.fds() <= self._fds)
        await eventually(lambda: self.mib() < self._mib + GROWTH_MIB)

    async def wait_until_idle(self) -> None:
        """Wait until no connection is open and no request is in progress."""
        await eventually(
            lambda: self.server.metric("connections") == self.server.metric("inflight_reviews") == 0
        )

    def fds(self) -> int:
        return sum(1 for _ in (self._process / "fd").iterdir())

    def loop_seconds(self) -> float:
        """Return the processor time of the event loop's thread, in seconds."""
        return int((self._process / "schedstat").read_text().split()[0]) / 1e9

    def mib(self) -> float:
        """Return the resident memory, in MiB."""
        pages = int((self._process / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def check_log(self) -> None:
        """Check the log: no traceback, no library messages, one refusal a second of each kind at most."""
        lines = list(self.server.lines)
        assert self.server.errors == ""
        assert [line for line in lines if "exception" in line or "exc_info" in line] == []
        assert {line["event"] for line in lines} <= {
            "certificate_self_signed", "policy_loaded", "listening", "request_refused", "review",
            "connection_evicted", "denials_suppressed", "evidence_suppressed",
        }  # fmt: skip
        known = {"/validate-image", "/mutate-image", "/validate-policy"}
        refusals = Counter(
            (line["status"], line["path"] if line["path"] in known else "")
            for line in lines
            if line["event"] == "request_refused"
        )
        most = time.monotonic() - self.started + 1
        assert all(count <= most for count in refusals.values()), refusals
        assert max(len(json.dumps(line)) for line in lines) < 20_000


@contextlib.contextmanager
def monitored_server(directory: Path, *arguments: str) -> Iterator[MonitoredServer]:
    """Run ``serve`` with a policy in ``directory`` until the block ends."""
    with ready_server(directory, policy_text(), *arguments) as server:
        yield MonitoredServer(server, directory / "ca.crt")


def warmed_up(directory: Path, contents: list[bytes], *arguments: str) -> Iterator[MonitoredServer]:
    """Run a warmed-up server, for a fixture."""
    with monitored_server(directory, *arguments) as server:
        asyncio.run(server.warm_up(contents))
        yield server
