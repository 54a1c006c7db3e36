"""A fake API server and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gatekeeper_py.cluster.api import LIST_TIMEOUT, ApiClient
from gatekeeper_py.cluster.session import Session
from support.apisession import session_with
from support.fakecluster import TOKEN, FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster().serving() as cluster:
        yield cluster


@pytest.fixture
def pauses() -> list[float]:
    """Return the list of seconds that the client would have slept."""
    return []


@pytest.fixture
async def api(cluster: FakeCluster, pauses: list[float]) -> AsyncIterator[ApiClient]:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def connect() -> Session:
        return session_with(cluster.url, TOKEN)

    api = ApiClient(connect, timeout=LIST_TIMEOUT, tries=5, sleep=sleep)
    yield api
    await api.close()
