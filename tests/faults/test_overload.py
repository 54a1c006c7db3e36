"""Too many body bytes: some requests get 503, and the server answers everything else."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import pytest

from faults.monitored import GOOD_REQUEST, REVIEW, MonitoredServer, monitored_server
from support.contract import check_response
from support.wire import Answer, request

MIB: Final = 2**20
CLIENTS: Final = 12
"""Each client sends 6 MiB. Together that is three times the limit of all bodies."""

ROUNDS: Final = 10
"""Repeated, because a body has two seconds: a machine that reads 24 MiB more slowly never exceeds the
limit."""

LIVEZ: Final = request(path="/livez", method="GET", headers=[])
PART: Final = request(b" " * (6 * MIB), length=6 * MIB + 1)
Send = Callable[[MonitoredServer], Awaitable[Answer | None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredServer]:
    with monitored_server(tmp_path_factory.mktemp("server")) as it:
        yield it


async def pour(server: MonitoredServer) -> Answer | None:
    """Send nearly all of a large body; return the answer, unless it was lost with the connection."""
    async with server.connected() as connection:
        connection.writer.write(PART)
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            return await connection.receive()
    return None


async def check_others(server: MonitoredServer, until: asyncio.Task[list[Answer]]) -> None:
    """Check until ``until`` is done that the server answers usual reviews and probes."""
    async with server.connected() as reviews, server.connected("health") as probes:
        while not until.done():
            answer = await reviews.ask(GOOD_REQUEST)
            assert answer.status == 200
            assert check_response(answer.body, REVIEW, "validate").allowed
            assert (await probes.ask(LIVEZ)).status == 200
            await asyncio.sleep(0.02)


async def sent_at_once(server: MonitoredServer, send: Send, times: int) -> list[Answer]:
    found = await asyncio.gather(*(send(server) for _ in range(times)))
    return [answer for answer in found if answer is not None]


async def until_shed(server: MonitoredServer, send: Send, times: int) -> Sequence[Answer]:
    """Return the answers of the first round with a 503; check each 503."""
    for _ in range(ROUNDS):
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(sent_at_once(server, send, times))
            group.create_task(check_others(server, sending))
        shed = [answer for answer in sending.result() if answer.status == 503]
        if shed:
            assert {answer.headers.get("retry-after") for answer in shed} == {"1"}
            assert all(list(answer.json()) == ["error"] for answer in shed)
            return sending.result()
    raise AssertionError("no request got 503")


async def test_excess_body_bytes_get_503_while_reviews_and_probes_continue(server: MonitoredServer) -> None:
    answers = await until_shed(server, pour, CLIENTS)
    assert {answer.status for answer in answers} <= {408, 503}
    assert all(answer.closes for answer in answers)
    await server.wait_until_idle()


def test_the_log_has_no_errors(server: MonitoredServer) -> None:
    server.check_log()
