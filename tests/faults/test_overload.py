"""More than it can hold: some are told to come again, and all else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import pytest

from contract import check_response
from faults.standing import PLAIN, REVIEW, Standing, standing
from wire import Answer, request

MIB: Final = 2**20
CLIENTS: Final = 12
"""Of 6 MiB each, three times what all bodies together may hold."""

ROUNDS: Final = 10
"""A body has two seconds: on a machine that takes in 24 MiB more slowly, there never is too much at once."""

LIVEZ: Final = request(path="/livez", method="GET", headers=[])
PART: Final = request(b" " * (6 * MIB), length=6 * MIB + 1)
Send = Callable[[Standing], Awaitable[Answer | None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with standing(tmp_path_factory.mktemp("server")) as it:
        yield it


async def pour(server: Standing) -> Answer | None:
    """Send nearly all of a large body; the answer, if it was not lost with the connection."""
    async with server.connected() as connection:
        connection.writer.write(PART)
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            return await connection.receive()
    return None


async def others_go_on(server: Standing, until: asyncio.Task[list[Answer]]) -> None:
    """A usual review and a probe are answered, again and again, until that is over."""
    async with server.connected() as reviews, server.connected("health") as probes:
        while not until.done():
            answer = await reviews.ask(PLAIN)
            assert answer.status == 200
            assert check_response(answer.body, REVIEW, "validate").allowed
            assert (await probes.ask(LIVEZ)).status == 200
            await asyncio.sleep(0.02)


async def sent_at_once(server: Standing, send: Send, times: int) -> list[Answer]:
    found = await asyncio.gather(*(send(server) for _ in range(times)))
    return [answer for answer in found if answer is not None]


async def until_shed(server: Standing, send: Send, times: int) -> Sequence[Answer]:
    """The answers of the first round in which some were told to come again, and how they were."""
    for _ in range(ROUNDS):
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(sent_at_once(server, send, times))
            group.create_task(others_go_on(server, sending))
        shed = [answer for answer in sending.result() if answer.status == 503]
        if shed:
            assert {answer.headers.get("retry-after") for answer in shed} == {"1"}
            assert all(list(answer.json()) == ["error"] for answer in shed)
            return sending.result()
    raise AssertionError("none was told to come again")


async def test_excess_body_bytes_get_503_while_reviews_and_probes_continue(server: Standing) -> None:
    answers = await until_shed(server, pour, CLIENTS)
    assert {answer.status for answer in answers} <= {408, 503}
    assert all(answer.closes for answer in answers)
    await server.idle()


def test_the_log_has_no_errors(server: Standing) -> None:
    server.check_log()
