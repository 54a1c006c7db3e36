"""A fake API server and the way to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
import pytest

from fakecluster import TOKEN, FakeCluster
from gatekeeper_py.inventory.api import Api


class SessionClient:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(
        self, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        return await self._session.get(self._url + path, params=query, timeout=limits, allow_redirects=False)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster().serving() as cluster:
        yield cluster


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that would have been slept."""
    return []


@pytest.fixture
async def api(cluster: FakeCluster, pauses: list[float]) -> AsyncIterator[Api]:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield Api(SessionClient(session, cluster.url), sleep=sleep)
