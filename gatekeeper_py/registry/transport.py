"""Send HTTP requests to hosts that the policy names, with limits and one session for each trust setting.

A session follows no redirects, uses no proxy variables, keeps no cookies and decompresses nothing, whatever a
registry sends.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDictProxy
from yarl import URL

from gatekeeper_py import __version__

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a manifest or of a token server's answer. Registries themselves refuse larger manifests."""

MAX_CONNECTIONS: Final = 20
"""Maximum number of connections to one host. The rate limits the requests; this constant limits the sockets.
There is no common limit, because a host that hangs would use up the connections of all others."""

IDLE_SECONDS: Final = 30.0

RESOLVER_THREADS: Final = 4
"""Number of threads for DNS. getaddrinfo cannot be cancelled, so in the default executor a DNS server that
hangs would hold up everything else that uses a thread."""


class Response(NamedTuple):
    """An answer with its whole body, which is empty for HEAD."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class TooLarge(ValueError):
    """The body is larger than ``MAX_BODY_BYTES``."""


class Resolver(ThreadedResolver):
    """aiohttp's resolver with threads of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._executor = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="registry-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._executor,
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG),
        )
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=flags
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class Transport:
    """Sends requests to all hosts with the same trust setting.

    ``context`` is the TLS context for https; requests to http URLs do not use it.
    """

    def __init__(self, context: ssl.SSLContext, resolver: AbstractResolver) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=0,
                limit_per_host=MAX_CONNECTIONS,
                keepalive_timeout=IDLE_SECONDS,
                resolver=resolver,
                ttl_dns_cache=30,
            ),
            connector_owner=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # The caller limits the time of each look-up as a whole.
            timeout=aiohttp.ClientTimeout(total=None),
            headers={hdrs.USER_AGENT: f"gatekeeper-py/{__version__}", hdrs.ACCEPT_ENCODING: "identity"},
        )
        self._under_way = 0
        self._is_retired = False

    async def send(self, method: str, url: URL, headers: Mapping[str, str]) -> Response:
        """Send one request and read the whole answer.

        Raises ``aiohttp.ClientError``, ``OSError`` and ``ValueError``, for example ``TooLarge``.
        """
        self._under_way += 1
        try:
            return await self._exchange(method, url, headers)
        finally:
            self._under_way -= 1
            await self._close_if_done()

    async def _exchange(self, method: str, url: URL, headers: Mapping[str, str]) -> Response:
        async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
            body = bytearray()
            if method != hdrs.METH_HEAD:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise TooLarge(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            return Response(response.status, response.headers, bytes(body))

    async def retire(self) -> None:
        """Close once the requests under way are answered. No new requests may be sent."""
        self._is_retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._is_retired and not self._under_way:
            await self._session.close()

    async def close(self) -> None:
        """Close now. Requests under way fail."""
        await self._session.close()
