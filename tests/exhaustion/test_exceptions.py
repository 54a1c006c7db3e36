"""Reviews stay fast while tenants change documents with exceptions as fast as the server reads them.

A tenant is a namespace. All of them are read through one watch, from one address.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from exhaustion.target import Arena, Attempt, Target, watching_arena
from exhaustion.test_shares import COSTLY, changed_policy
from gatekeeper_py.core.exceptions.document import MAX_BYTES
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP
from support.builders import exceptions_text, pod, policy_text, review
from support.fakeapi import NAME, NAMESPACE, FakeApi, event
from support.wire import Connection, request

pytestmark = [
    pytest.mark.long,
    pytest.mark.asyncio(loop_scope="module"),
    # A flood ends without the end of a response, as a connection that is cut.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

GRANTS: Final = """exceptions:
  - {source: namespace, images: [quay.io/**], longest: 14d}
  - {source: break-glass, images: [ghcr.io/**], longest: 14d}
"""
NAMESPACES: Final = 100
VERSIONS: Final = 4
SETTLED: Final = 9_900
"""Documents that exist before a flood: nearly as many as the limit."""

FLOOD_SECONDS: Final = 4.0
CHANGES: Final = 5
"""Changes of a quiet tenant while others change documents all the time."""

LIVE_SECONDS: Final = 2.0
"""Maximum time until a document has an effect, on a quiet machine."""

GIVE_UP_SECONDS: Final = 10.0
UNCHANGED: Final = f"team-{NAMESPACES}"
QUIET: Final = f"team-{NAMESPACES + 1}"
"""The first namespaces beyond those that take part in a flood."""

UNTIL: Final = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"

EMOJI: Final = "\N{GRINNING FACE}"

numbers = count()


def text(entries: int, comment: object = "") -> str:
    many = (f"image: quay.io/a/{number}, until: {UNTIL}, reason: x" for number in range(entries))
    return f"# {comment}\n{exceptions_text(*many)}"


def padded(content: str) -> str:
    return content + "#" * (MAX_BYTES - len(content) - 1)


def configmap(namespace: str, content: str | None, name: str = EXCEPTIONS_CONFIGMAP) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "102"}
    return {"metadata": metadata, "data": {} if content is None else {"exceptions.yaml": content}}


def changes(make: Callable[[int], str], namespaces: int = NAMESPACES) -> Iterator[bytes]:
    """Yield events: each document changes in turn."""
    for version in range(VERSIONS):
        for number in range(namespaces):
            yield event("MODIFIED", configmap(f"team-{number}", make(version)))


def recreations() -> Iterator[bytes]:
    for kind in ("DELETED", "ADDED") * VERSIONS:
        for number in range(NAMESPACES):
            yield event(kind, configmap(f"team-{number}", text(1)))


ROWS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "the-most-entries": lambda: changes(lambda version: text(1_000, version)),
    "the-longest-comments": lambda: changes(lambda version: padded(text(1, version))),
    "emoji": lambda: changes(lambda version: text(1, f"{version}" + EMOJI * 15_000)),
    "small-documents": lambda: changes(lambda version: text(1, version)),
    "nonsense": lambda: changes(lambda version: f"{version}: ["),
    "a-hundred-findings": lambda: changes(
        lambda version: "".join(f"a{n}: {version}\n" for n in range(5_000))
    ),
    "deleted-and-created": recreations,
    "bad-configmaps": lambda: (
        event("MODIFIED", configmap(f"team-{number}", None)) for number in range(NAMESPACES)
    ),
}


class Tenants(FakeApi):
    """An API server with a policy and documents, whose watch of the documents can be flooded."""

    def __init__(self) -> None:
        super().__init__()
        self.flood: tuple[bytes, ...] = ()
        self.flooding = asyncio.Event()
        self.quiet: asyncio.Queue[bytes] = asyncio.Queue()
        """Events that are sent within the flood."""
        self.emergencies: asyncio.Queue[bytes] = asyncio.Queue()
        """Events about the document of break-glass."""

    async def _list(self, asked: web.BaseRequest) -> web.StreamResponse:
        name = selected(asked)
        if name == NAME:
            return await super()._list(asked)
        some = range(SETTLED) if name == EXCEPTIONS_CONFIGMAP else ()
        items = [configmap(f"team-{number}", text(1)) for number in some]
        return web.Response(body=orjson.dumps({"metadata": {"resourceVersion": "101"}, "items": items}))

    async def _watch(self, asked: web.BaseRequest) -> web.StreamResponse:
        name = selected(asked)
        if name == NAME:
            return await super()._watch(asked)
        response = web.StreamResponse()
        await response.prepare(asked)
        while True:
            if name == BREAK_GLASS_CONFIGMAP:
                await response.write(await self.emergencies.get())
                continue
            await self.flooding.wait()
            for piece in self.flood:
                await response.write(piece if self.quiet.empty() else self.quiet.get_nowait() + piece)


def selected(asked: web.BaseRequest) -> str:
    return asked.query["fieldSelector"].removeprefix("metadata.name=")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Tenants]:
    api = Tenants()
    await api.start()
    api.apply(policy_text(GRANTS))
    yield api
    await api.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(
    api: Tenants, tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]
) -> AsyncIterator[Arena]:
    async for arena in watching_arena(api, tmp_path_factory.mktemp("exceptions"), attempts):
        yield arena


@pytest.mark.parametrize("name", ROWS)
async def test_a_flood_of_changes_delays_no_review_and_no_break_glass(
    api: Tenants, arena: Arena, attempts: dict[str, Attempt], name: str
) -> None:
    api.flood = (b"".join(ROWS[name]()),)
    waits: list[float] = []

    async def attack(target: Target) -> None:
        api.flooding.set()
        try:
            end = time.monotonic() + FLOOD_SECONDS
            await asyncio.sleep(FLOOD_SECONDS / 2)
            waits.append(await seconds_of_emergency(api, target))
            await asyncio.sleep(max(end - time.monotonic(), 0.0))
        finally:
            api.flooding.clear()

    target = await asyncio.to_thread(lambda: arena.target)
    row = f"exceptions:{name}"
    await target.attacked(row, attack)
    if not attempts[row].is_busy:
        assert waits[-1] < LIVE_SECONDS


@pytest.mark.parametrize(("tenants", "strangers"), [(1, 0), (8, 0), (100, 0), (1, 8)])
async def test_neither_tenants_nor_strangers_suspend_exceptions_of_others(
    api: Tenants, arena: Arena, attempts: dict[str, Attempt], tenants: int, strangers: int
) -> None:
    """An unchanged document always approves, and a changed one of a quiet tenant soon does.

    Meanwhile, tenants change documents all the time, and strangers have costly policies checked.
    """
    api.flood = tuple(changes(lambda version: padded(text(1_000, version)), tenants))
    waits: list[float] = []
    statuses: Counter[int] = Counter()

    async def check_policies(target: Target, address: str) -> None:
        while api.flooding.is_set():
            caller = await target.connect(source=address)
            with suppress(EOFError, OSError):  # an answer may end the connection
                while api.flooding.is_set():
                    statuses[(await caller.ask(changed_policy(COSTLY))).status] += 1
            caller.abort()

    async def refusals(target: Target) -> int:
        """Return how often the unchanged exception is refused while the flood lasts."""
        refused = 0
        async with target.connected() as caller:
            while api.flooding.is_set():
                refused += not await is_admitted(caller, UNCHANGED, "quay.io/a/0")
                await asyncio.sleep(0.02)
        return refused

    async def attack(target: Target) -> None:
        waits.clear()  # those of a first attempt on a busy machine
        await seconds_until_admitted(target, UNCHANGED, "quay.io/a/0")
        api.flooding.set()
        refused = asyncio.create_task(refusals(target))
        checks = [
            asyncio.create_task(check_policies(target, f"127.0.0.{2 + each}")) for each in range(strangers)
        ]
        try:
            for _ in range(CHANGES):
                await asyncio.sleep(LIVE_SECONDS)
                waits.append(await seconds_of_change(api, target))
            waits.append(await seconds_of_emergency(api, target))
        finally:
            api.flooding.clear()
        await asyncio.gather(*checks)
        assert set(statuses) <= {200, 503}
        assert await refused == 0, "the unchanged exception was refused"

    target = await asyncio.to_thread(lambda: arena.target)
    row = f"exceptions:{tenants}-tenants-and-{strangers}-strangers"
    await target.attacked(row, attack)
    if not attempts[row].is_busy:
        assert max(waits) < LIVE_SECONDS


async def is_admitted(caller: Connection, namespace: str, image: str) -> bool:
    asked = request(json.dumps(review(pod(image), namespace=namespace)).encode())
    return bool((await caller.ask(asked)).json()["response"]["allowed"])


async def seconds_until_admitted(target: Target, namespace: str, image: str) -> float:
    start = time.monotonic()
    async with target.connected() as caller:
        while not await is_admitted(caller, namespace, image):
            assert time.monotonic() < start + GIVE_UP_SECONDS, f"the exception in {namespace} has no effect"
            await asyncio.sleep(0.02)
    return time.monotonic() - start


async def seconds_of_emergency(api: Tenants, target: Target) -> float:
    """Return how long a new exception of break-glass takes to act."""
    image = f"ghcr.io/emergency/{next(numbers)}"
    written = exceptions_text(f"image: {image}, until: {UNTIL}, reason: x")
    api.emergencies.put_nowait(event("MODIFIED", configmap(NAMESPACE, written, BREAK_GLASS_CONFIGMAP)))
    return await seconds_until_admitted(target, "shop", image)


async def seconds_of_change(api: Tenants, target: Target) -> float:
    """Return how long a new exception of a quiet tenant takes to act."""
    image = f"quay.io/quiet/{next(numbers)}"
    written = exceptions_text(f"image: {image}, until: {UNTIL}, reason: x")
    api.quiet.put_nowait(event("MODIFIED", configmap(QUIET, written)))
    return await seconds_until_admitted(target, QUIET, image)
