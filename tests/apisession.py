"""A simple session with a fake API server, instead of one made from a cluster configuration."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp


class PlainSession:
    """Requests over HTTP with an optional bearer token."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._url, self._session = url, aiohttp.ClientSession(headers=headers)

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        return await self._session.request(
            method,
            self._url + path,
            params=query,
            data=body,
            timeout=limits,
            allow_redirects=False,
            headers={"Content-Type": content_type},
        )

    async def close(self) -> None:
        await self._session.close()
